"""The figures in the pages are those of the files, whatever they say."""

import importlib.util
import json

import pytest

PAGE = "before\n<!-- figures: {name} -->\nold\n<!-- end of figures -->\nafter\n"

ACCURACY = {
    "results": [
        {
            "network": "Net",
            "dataset": "Set",
            "n": 10000,
            "float": {"accuracy": 0.99, "low": 0.98, "high": 0.995},
            "int8": {"accuracy": 0.9895, "low": 0.979, "high": 0.994},
            "drop": {"value": 0.0005, "low": -0.001, "high": 0.002, "p_value": 0.3},
        }
    ]
}


def engine(us: float, times: float) -> dict[str, float]:
    return {"median_us": us, "time_over_penjing": times, "accuracy": 0.98, "model_bytes": 2048}


PEERS = {
    "revision": "abc",
    "machine": {"cpu": "Some CPU", "isa": ["avx2"]},
    "results": {
        "networks": [
            {
                "network": "Net",
                "dataset": "Set",
                "macs": 3_100_000,
                "fastest_ort_int8": "ORT int8 s8s8",
                "engines": {
                    "torch fp32": engine(400, 1.6),
                    "penjing int8": engine(250, 1.0),
                    "penjing int8, codes": engine(240, 0.96),
                    "ORT int8 u8s8": engine(90, 0.36),
                    "ORT int8 s8s8": engine(125, 0.5),
                },
            }
        ],
        "installed_bytes": {"penjing": 1048576},
    },
}


@pytest.fixture
def tables(root, tmp_path, monkeypatch):
    """tools/result_tables.py, reading its figures from an empty folder."""
    spec = importlib.util.spec_from_file_location("result_tables", root / "tools" / "result_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def test_a_page_without_figures_says_so_and_how_to_measure(tables):
    text = tables.filled(PAGE.format(name="peers"))
    assert "Not measured in this checkout yet: `python benchmarks/peers.py`" in text
    assert "old" not in text


def test_only_what_stands_between_the_marks_is_replaced(tables):
    text = tables.filled(PAGE.format(name="accuracy"))
    assert text.startswith("before\n<!-- figures: accuracy -->\n")
    assert text.endswith("\n<!-- end of figures -->\nafter\n")
    assert tables.filled(text) == text


def test_a_loss_stands_with_its_interval(tables, tmp_path):
    (tmp_path / "accuracy.json").write_text(json.dumps(ACCURACY))
    text = tables.filled(PAGE.format(name="accuracy"))
    assert "| Net on Set | 10,000 | 99.00 % | 98.95 % (97.90 % .. 99.40 %) | +0.05 (-0.10 .. +0.20) |" in text


def test_a_faster_competitor_is_shown_as_faster(tables, tmp_path):
    (tmp_path / "peers.json").write_text(json.dumps(PEERS))
    text = tables.filled(PAGE.format(name="peers"))
    assert "| ONNX Runtime, int8: s8s8 | 125 us | 2.00x faster | 98.00 % | 2.0 KiB |" in text
    assert "| torch, float | 400 us | 1.60x slower |" in text
    assert "| **penjing, int8** | 250 us | 1 |" in text
    assert "u8s8" not in text  # measured, but not the form that keeps its accuracy
    assert "Some CPU with avx2, at revision abc" in text
    assert "Net takes 240 us, with ONNX Runtime's int8 125 us" in tables.filled(PAGE.format(name="speed"))
