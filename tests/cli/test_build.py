"""`penjing build`: what goes in, what comes out, and what is said about it."""

import numpy as np
import pytest

from penjing.bundle.tray import open_tray
from penjing.runtime.loading import load

SHAPE = ("--input-shape", "1x8x8")
BUILD = ("build", "net.py:TinyNet", *SHAPE, "--calibrate", "samples.npy")


def test_the_tray_is_named_after_the_model_and_runs(penjing, place):
    told = penjing(*BUILD)
    assert told.code == 0
    assert told.out.startswith("tinynet.tray  ")
    assert "inspect tinynet.tray" in told.err
    assert load(place / "tinynet.tray").run(np.load("samples.npy")).shape == (40, 3)


def test_an_existing_tray_is_replaced_only_with_force(penjing, place):
    (place / "tinynet.tray").write_bytes(b"precious")
    assert penjing(*BUILD).code == 1
    assert (place / "tinynet.tray").read_bytes() == b"precious"
    assert penjing(*BUILD, "--force").code == 0
    open_tray(place / "tinynet.tray")


def test_the_same_inputs_give_the_same_bytes(penjing, place):
    for name in ("a.tray", "b.tray"):
        assert penjing(*BUILD, "-o", name).code == 0
    assert (place / "a.tray").read_bytes() == (place / "b.tray").read_bytes()


def test_json_gives_the_sizes_and_nothing_else(penjing, place):
    told = penjing(*BUILD, "-o", "a.tray", "--json")
    found = told.json()
    variant = open_tray(place / "a.tray").variant("default")
    assert told.err == ""
    assert found["bytes"] == (place / "a.tray").stat().st_size
    assert (found["weights_bytes"], found["arena_bytes"]) == (variant.weights_bytes, variant.arena_bytes)
    assert found["macs"] == variant.macs
    assert found["accuracy"] is None
    made = {name: builds["default"] for name, builds in open_tray(place / "a.tray").manifest.targets.items()}
    assert found["libraries"] == {name: one.flash_bytes for name, one in made.items()}
    assert found["library_arena_bytes"] == {name: one.arena_bytes for name, one in made.items()}


def test_accuracy_is_measured_before_and_after_and_kept_in_the_tray(penjing, place):
    found = penjing(*BUILD, "-o", "a.tray", "--evaluate", "tested.npz", "--json").json()["accuracy"]
    kept = open_tray(place / "a.tray").variant("default").accuracy
    assert found["n"] == kept.n == 40
    assert found["int8"]["accuracy"] == kept.value
    assert found["float"]["low"] <= found["float"]["accuracy"] <= found["float"]["high"]
    assert found["engine"].startswith("library")
    text = penjing(*BUILD, "-o", "b.tray", "--evaluate", "tested.npz").out
    assert f"{100 * kept.value:.2f} %" in text
    assert "points" in text


def test_options_reach_the_tray(penjing, place):
    extra = ("--mean", "0.5", "--std", "0.25", "--labels", "labels.txt", "--name", "insects", "--no-source")
    assert penjing(*BUILD, *extra, "--prune", "0.5", "--samples", "7", "--observer", "min-max").code == 0
    tray = open_tray(place / "insects.tray")
    spec = tray.manifest.inputs[0]
    assert (spec.mean, spec.std, spec.color) == ((0.5,), (0.25,), "gray")
    assert tray.manifest.outputs[0].labels == ("ant", "bee", "cat")
    assert tray.manifest.card["calibration"] == "7 samples of samples.npy, min-max ranges"
    assert tray.manifest.card["pruning"].startswith("50 %")
    assert not [name for name in tray.members if name.startswith("src/")]


def test_pruning_leaves_that_share_of_zeros(penjing, place):
    assert penjing(*BUILD, "--prune", "0.5", "-o", "a.tray").code == 0
    weights = open_tray(place / "a.tray").weights("default")
    zeros = [float((array == 0).mean()) for array in weights.values() if array.dtype == np.int8 and array.size > 100]
    assert zeros
    assert min(zeros) >= 0.5


def test_layers_are_kept_in_float32_and_told(penjing, place):
    told = penjing(*BUILD, "-o", "a.tray", "--keep-float", "*", "--json").json()["float_layers"]
    assert told and {layer["why"] for layer in told} == {"kept, as asked for"}
    found = penjing("inspect", "a.tray", "--json").json()["float_layers"]
    assert found == told
    line = next(line for line in penjing("inspect", "a.tray").out.splitlines() if "float32  " in line)
    assert all(layer["weight"] in line for layer in told)
    refused = penjing(*BUILD, "-o", "c.tray", "--keep-float", told[0]["weight"][:-1])
    assert refused.code == 1 and told[0]["weight"] in refused.err and not (place / "c.tray").exists()


def test_trained_weights_change_the_answers(penjing, place):
    from penjing.zoo.catalog import create

    np.savez("w.npz", **{name: value.numpy() for name, value in create("lenet300", seed=7).state_dict().items()})
    build = ("build", "zoo:lenet300", "--calibrate", "random", "--samples", "4")
    untrained, trained = penjing(*build, "-o", "a.tray"), penjing(*build, "-o", "b.tray", "--weights", "w.npz")
    assert "random weights" in untrained.err
    assert "random weights" not in trained.err
    x = np.random.default_rng(0).normal(size=(1, 1, 28, 28)).astype(np.float32)
    assert (load("a.tray").run(x) != load("b.tray").run(x)).any()
    assert open_tray("b.tray").manifest.card["source"] == "penjing zoo lenet300 with w.npz"


def test_calibration_on_zeros_gives_valid_scales(penjing, place):
    np.save("zeros.npy", np.zeros((8, 1, 8, 8), np.float32))
    assert penjing("build", "net.py:TinyNet", *SHAPE, "--calibrate", "zeros.npy", "-o", "a.tray").code == 0
    manifest = open_tray(place / "a.tray").manifest
    assert all(spec.scale > 0 for spec in (*manifest.inputs, *manifest.outputs))
    assert np.isfinite(load(place / "a.tray").run(np.load("samples.npy"))).all()


@pytest.mark.parametrize("form", ["uint8", "npz", "images", "random"])
def test_samples_come_in_several_forms(penjing, place, form):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    source = {"uint8": "u.npy", "npz": "u.npz", "images": "pictures", "random": "random"}[form]
    if form == "uint8":
        np.save(source, pixels)
    if form == "npz":
        np.savez(source, x=pixels)
    if form == "images":
        from PIL import Image

        (place / source).mkdir()
        for i, image in enumerate(pixels):
            Image.fromarray(image[0]).save(place / source / f"{i}.png")
    build = ("build", "net.py:TinyNet", *SHAPE, "--calibrate", source, "-o", "a.tray", "--samples", "6")
    assert penjing(*build).code == 0
    assert open_tray(place / "a.tray").manifest.card["calibration"].startswith("6 samples of ")


def test_raw_pixels_and_normalised_floats_of_the_same_pictures_give_the_same_scales(penjing, place):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
    np.save("raw.npy", pixels)
    np.save("normal.npy", ((pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.25)).astype(np.float32))
    build = ("build", "net.py:TinyNet", *SHAPE, "--mean", "0.5", "--std", "0.25")
    assert penjing(*build, "--calibrate", "raw.npy", "-o", "a.tray").code == 0
    assert penjing(*build, "--calibrate", "normal.npy", "--no-raw", "-o", "b.tray").code == 0
    doubtful = penjing(*build, "--calibrate", "normal.npy", "-o", "c.tray")
    scales = [open_tray(place / name).manifest.inputs[0].scale for name in ("a.tray", "b.tray", "c.tray")]
    assert scales[0] == pytest.approx(scales[1], rel=1e-6)
    assert scales[2] > 1.5 * scales[0]
    assert "--no-raw" in doubtful.err


def test_an_exported_program_is_a_model_too(penjing, place, exported):
    exported.rename("my net.pt2")
    told = penjing("build", "my net.pt2", "--calibrate", "samples.npy", "--evaluate", "tested.npz")
    assert told.code == 0, told.err
    assert (place / "my_net.tray").is_file()
    assert penjing(*BUILD).code == 0
    x = np.load("samples.npy")
    assert (load("my_net.tray").run(x) == load("tinynet.tray").run(x)).all()


def test_a_factory_finds_the_modules_beside_its_file(penjing, place):
    (place / "deep").mkdir()
    (place / "net.py").rename(place / "deep" / "parts.py")
    (place / "deep" / "whole.py").write_text("from parts import TinyNet\n\ndef make():\n    return TinyNet()\n")
    assert penjing("build", "deep/whole.py:make", *SHAPE, "--calibrate", "samples.npy").code == 0


def test_accuracy_for_another_machine_is_measured_by_a_library_for_this_one(penjing, place):
    told = penjing(*BUILD, "--target", "aarch64-linux", "--evaluate", "tested.npz", "-o", "a.tray", "--json")
    assert told.code == 0, told.out
    assert told.json()["accuracy"]["engine"].startswith("library ")
    assert list(open_tray(place / "a.tray").manifest.targets) == ["aarch64-linux"]
