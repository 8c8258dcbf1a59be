# What a person does with this checkout; `make` alone lists it. ARGS="..." goes to the tool behind a target:
#   make test ARGS="tests/architecture -k layers"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCHMARKS ?= $(sort $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)))
COMPRESSION := $(sort $(filter-out benchmarks/compression/_%,$(wildcard benchmarks/compression/*.py)))
ARGS ?=

# Data sets of tests and benchmarks (MNIST, ...): the caller's folder, else the one beside the checkout where there is one.
ifeq ($(origin PENJING_DATA),undefined)
ifneq ($(wildcard ../shared/data/.),)
export PENJING_DATA := $(abspath ../shared/data)
endif
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-quick lint format bench bench-compress wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv with penjing and every tool in it
	@echo "ready: $(BIN)/penjing --help"

demo: $(STAMP) ## train, compress, compile, pack and verify a small network on real digits
	$(BIN)/penjing demo --force $(ARGS)

test test-quick: export OMP_NUM_THREADS := 1
test test-quick: export OPENBLAS_NUM_THREADS := 1
# one thread a worker: workers fill the cores already
test: $(STAMP) ## every test, on all cores
	$(BIN)/pytest -n auto --dist worksteal --hypothesis-profile=ci $(ARGS)

test-quick: $(STAMP) ## the tests not marked slow, fewer random examples, stop at the first failure
	$(BIN)/pytest -n auto --dist worksteal -x -m "not slow" --hypothesis-profile=quick $(ARGS)

lint: $(STAMP) ## style, types and import layers, without changing a file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## rewrite the files in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## run each benchmarks/*.py (one: make bench BENCHMARKS=benchmarks/NAME.py)
	@test -n "$(BENCHMARKS)" || { echo "there is no benchmarks/*.py in this checkout" >&2; exit 1; }
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python $$file $(ARGS); done

bench-compress: $(STAMP) ## measure all of benchmarks/compression and write docs/compression.md: hours, resumable
	@set -e; for file in $(COMPRESSION); do echo "== $$file"; $(BIN)/python $$file $(ARGS); done
	$(BIN)/python benchmarks/compression/pruned_resnets.py --forms n-of-m:0.25 --epochs 6 \
	    --output docs/results/compression/pruned_resnet20_short.json $(ARGS)
	$(BIN)/python benchmarks/compression/pruned_resnets.py --network resnet56 $(ARGS)
	$(BIN)/python tools/result_tables.py

wheel: $(STAMP) ## build dist/penjing-*.whl
	rm -rf build
	$(BIN)/python -m build --wheel --no-isolation $(ARGS)

clean: ## remove what builds and tests leave behind; .venv stays
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Both files count: a changed dependency or pin installs again at the next make.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing penjing, torch and the development tools into $(VENV): a few minutes, about 2 GB"
	$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; penjing needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "penjing needs Python 3.11 or newer and $(PYTHON) is $$($(PYTHON) -V 2>&1): make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
