"""The quick form of the compression benchmark goes the right way: small files, most weights gone, digits still read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "compression" / "mnist.py"


@pytest.mark.slow
def test_a_network_becomes_a_small_file_that_still_reads_digits(data_dir, tmp_path):
    output = tmp_path / "mnist.json"
    command = [sys.executable, str(SCRIPT), "--models", "lenet300", "--quick", "--output", str(output)]
    environment = {**os.environ, "PENJING_DATA": str(data_dir), "PENJING_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(output.read_text())["results"]
    assert row["nonzero_weights"] <= 0.1 * row["weights"] + 1
    assert row["ratio"] > 30
    assert (
        row["packed_weights_bytes"] < row["packed_tensors_bytes"] < row["file_bytes"] < row["file_with_library_bytes"]
    )
    assert row["error"]["value"] < 0.25
    assert abs(row["drop"]["value"] - (row["error"]["value"] - row["baseline_error"])) < 1e-9

    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stdout  # every training is taken up from its checkpoint
    (same,) = json.loads(output.read_text())["results"]
    assert same == row
