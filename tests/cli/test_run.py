"""`penjing run`: files in, labels and scores out."""

import numpy as np
import pytest

from penjing.runtime.loading import load


def test_an_image_gives_labels(penjing, place):
    told = penjing("run", "edgecnn.tray", "digit.png")
    assert told.code == 0
    assert told.out.startswith("digit.png: ")
    assert told.out.count("%") == 3


def test_every_sample_of_a_batch_has_its_line(penjing, place):
    lines = penjing("run", "edgecnn.tray", "digits.npy", "digit.png", "--top", "1").out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*(f"digits.npy[{i}]" for i in range(5)), "digit.png"]


def test_json_holds_labels_and_every_output(penjing, place):
    found = penjing("run", "edgecnn.tray", "digits.npy", "--json", "--top", "2").json()
    result = found["results"][0]
    model = load("edgecnn.tray")
    scores = model.run(model.prepare(np.load("digits.npy")))
    assert result["outputs"] == {model.outputs[0].name: scores.tolist()}
    best = [model.outputs[0].labels[i] for i in scores.argmax(axis=1)]
    assert [sample[0]["label"] for sample in result["labels"]] == best
    assert all(len(sample) == 2 for sample in result["labels"])


def test_scores_are_written(penjing, place):
    assert penjing("run", "edgecnn.tray", "digits.npy", "digit.png", "-o", "scores.npy").code == 0
    assert penjing("run", "edgecnn.tray", "digits.npy", "-o", "scores.npz").code == 0
    model = load("edgecnn.tray")
    wanted = model.run(model.prepare(np.load("digits.npy")))
    assert np.array_equal(np.load("scores.npy")[:5], wanted)
    assert np.load("scores.npy").shape == (6, 10)
    assert np.array_equal(np.load("scores.npz")[model.outputs[0].name], wanted)


def test_the_interpreter_gives_the_same_scores(penjing, place):
    for engine in ("library", "interpreter"):
        assert penjing("run", "edgecnn.tray", "digits.npy", "--engine", engine, "-o", f"{engine}.npy").code == 0
    assert np.load("library.npy").tobytes() == np.load("interpreter.npy").tobytes()


def test_pixels_and_what_they_become_give_the_same_scores(penjing, place):
    pixels = np.load("digits.npy")
    np.save("floats.npy", pixels / np.float32(255))
    np.save("normal.npy", load("edgecnn.tray").prepare(pixels))
    assert penjing("run", "edgecnn.tray", "digits.npy", "-o", "a.npy").code == 0
    assert penjing("run", "edgecnn.tray", "floats.npy", "-o", "b.npy").code == 0
    assert penjing("run", "edgecnn.tray", "normal.npy", "--no-raw", "-o", "c.npy").code == 0
    assert np.load("a.npy").tobytes() == np.load("b.npy").tobytes() == np.load("c.npy").tobytes()


@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("b.gif", "P"), ("c.bmp", "L"), ("d.PNG", "RGBA")])
def test_images_of_any_kind_and_size_are_converted(penjing, place, name, mode):
    from PIL import Image

    Image.new(mode, (70, 50)).save(place / name)
    assert penjing("run", "edgecnn.tray", name).code == 0


def test_a_photo_is_turned_as_its_camera_says(penjing, place):
    from PIL import Image

    upright = Image.open("digit.png").convert("L").resize((32, 32))
    upright.save("upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    penjing("run", "edgecnn.tray", "upright.png", "-o", "a.npy")
    penjing("run", "edgecnn.tray", "turned.png", "-o", "b.npy")
    assert np.load("a.npy").tobytes() == np.load("b.npy").tobytes()


def test_a_model_without_labels_shows_its_largest_outputs(penjing, place):
    assert penjing("build", "net.py:TinyNet", "--input-shape", "1x8x8", "--calibrate", "samples.npy").code == 0
    told = penjing("run", "tinynet.tray", "samples.npy", "--top", "1")
    scores = load("tinynet.tray").run(np.load("samples.npy"))
    best = int(scores[0].argmax())
    assert told.out.splitlines()[0] == f"samples.npy[0]: largest of 3: [{best}] {scores[0, best]:.4g}"


def test_that_the_interpreter_runs_is_said_once_in_a_plain_sentence(process, penjing, place):
    build = ("build", "net.py:TinyNet", "--input-shape", "1x8x8", "--calibrate", "samples.npy")
    assert penjing(*build, "--target", "aarch64-linux").code == 0
    told = process("run", "tinynet.tray", "samples.npy", "samples.npy")
    assert told.code == 0
    assert told.err.count("running by the interpreter") == 1
    assert told.err.startswith("note: ")
    assert len(told.err.splitlines()) == 1
    as_json = process("run", "tinynet.tray", "samples.npy", "--json")
    assert as_json.json()["engine"] == "interpreter"
