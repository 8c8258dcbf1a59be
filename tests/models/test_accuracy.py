"""What 8 bits cost on real test sets: the same images through the float network and the compiled library, paired."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penjing import api
from penjing.bundle.tray import read_tray
from penjing.measure.correct import correct
from penjing.measure.intervals import PairedDrop, paired_drop
from penjing.runtime.loading import from_tray
from penjing.train.fit import FitResult
from penjing.zoo import catalog, data, trainings
from penjing.zoo.data import Dataset

pytestmark = pytest.mark.slow

CALIBRATION_SAMPLES = 512


def present(folder: Path, name: str) -> Path:
    """The file `name` of the data folder; the test is skipped where it is missing."""
    if not (folder / name).is_file():
        pytest.skip(f"{name} is not in the data folder")
    return folder / name


def tell(title: str, in_float: float, in_int8: float, drop: PairedDrop) -> None:
    print(
        f"{title}: float {100 * in_float:.2f} %, int8 {100 * in_int8:.2f} % of {drop.n}, "
        f"drop {100 * drop.drop:+.2f} points ({100 * drop.low:+.2f} .. {100 * drop.high:+.2f}), p = {drop.p_value:.2f}"
    )


def quantized_against_float(name: str, module, trained: FitResult, dataset: Dataset) -> PairedDrop:
    """The drop from float to the library of a w8a8 tray, on the whole test set."""
    assert trained.correct is not None
    graph = api.capture(module, catalog.find(name).random_inputs(2), name=name)
    chosen = np.random.default_rng(0).permutation(len(dataset.train_x))[:CALIBRATION_SAMPLES]
    inputs = dataset.normalise(dataset.train_x[np.sort(chosen)])
    program = api.lower(api.quantize(graph, (inputs[i : i + 32] for i in range(0, len(inputs), 32))))
    model = from_tray(read_tray(api.build(program)), engine="library")
    right = correct(lambda x: model.run(dataset.normalise(x)), dataset.test_x, dataset.test_y)
    drop = paired_drop(trained.correct, right)
    tell(f"{catalog.find(name).title} on {dataset.name}", trained.correct.mean(), right.mean(), drop)
    return drop


def test_edgecnn_reaches_99_percent_on_mnist_and_loses_at_most_a_tenth_of_a_point_in_int8(data_dir):
    present(data_dir, "mnist.npz")
    dataset = data.load("mnist")
    module = catalog.create("edgecnn")
    trained = trainings.find("edgecnn", "mnist").fit(module, dataset)
    assert trained.accuracy >= 0.99
    drop = quantized_against_float("edgecnn", module, trained, dataset)
    assert drop.n == 10_000
    assert drop.drop <= 0.001


def test_trained_resnet20_through_penjing_build_keeps_86_4_percent_on_ten_thousand_images(data_dir, tmp_path):
    """Other tools reach 86.37 .. 86.63 % from these weights and 512 calibration images; float has 86.55 %."""
    weights = present(data_dir, "resnet20_cifar10_jpeg.npz")
    present(data_dir, "cifar10_jpeg.npz")
    built = build("zoo:resnet20", "--weights", weights, "--evaluate", "cifar10", folder=tmp_path)
    measured = built["accuracy"]
    in_float, in_int8, drop = measured["float"], measured["int8"], measured["drop"]
    tell(
        "ResNet-20 on CIFAR-10 (JPEG)",
        in_float["accuracy"],
        in_int8["accuracy"],
        PairedDrop(drop["value"], drop["low"], drop["high"], drop["p_value"], measured["n"]),
    )
    assert measured["n"] == 10_000
    assert measured["engine"].startswith("library")
    assert round(10_000 * in_float["accuracy"]) == pytest.approx(8655, abs=3)  # float sums differ between CPUs
    assert in_int8["accuracy"] >= 0.864
    stated = read_tray((tmp_path / "model.tray").read_bytes()).variant("default").accuracy
    assert (stated.value, stated.low, stated.high) == (in_int8["accuracy"], in_int8["low"], in_int8["high"])


def build(model: str, *options: str | Path, folder: Path) -> dict:
    """What `penjing build --json` says; calibration images are those of CIFAR-10."""
    command = [sys.executable, "-m", "penjing.cli", "build", model, *map(str, options)]
    command += ["--calibrate", "cifar10", "--samples", str(CALIBRATION_SAMPLES), "-o", "model.tray", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
