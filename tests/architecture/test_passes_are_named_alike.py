"""Class FoldBatchNorm, file fold_batch_norm.py and name fold-batch-norm are one thing; its fields are its options."""

import dataclasses
import importlib
import pkgutil
import re

import pytest

import penjing.compress
import penjing.program
from penjing.ir.passes import Pass


def passes() -> list[type[Pass]]:
    for package in (penjing.compress, penjing.program):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    ours = [cls for cls in Pass.__subclasses__() if cls.__module__.startswith("penjing.")]  # not those of other tests
    return sorted(ours, key=lambda cls: cls.__name__)


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def test_there_are_passes():
    assert {"FoldBatchNorm", "PruneMagnitude", "QuantizeStatic"} <= {cls.__name__ for cls in passes()}


@pytest.mark.parametrize("cls", passes(), ids=lambda cls: cls.__name__)
def test_class_and_name_agree_and_the_pass_is_a_frozen_dataclass(cls):
    assert cls.name == kebab(cls.__name__)
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen


@pytest.mark.parametrize("cls", passes(), ids=lambda cls: cls.__name__)
def test_a_compression_pass_lives_in_a_file_of_its_name(cls):
    if cls.__module__.startswith("penjing.compress."):
        assert cls.__module__.rpartition(".")[2] == cls.name.replace("-", "_")
