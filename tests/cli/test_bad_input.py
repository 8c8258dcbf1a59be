"""Bad input: one clear error with exit code 1, no file written, none changed, the same in text and in JSON.

Each case is a command and the files that it meets; `refused` checks the manners, the case checks the words.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

SHAPE = ("--input-shape", "1x8x8")
BUILD = ("build", "net.py:TinyNet", *SHAPE, "-o", "new.tray")
RANDOM = ("--calibrate", "random", "--samples", "4")


def array(name: str, value: np.ndarray):
    return lambda place: np.save(place / name, value)


def text(name: str, content: str | bytes):
    return lambda place: (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(name: str, source: str, share: float):
    """The first part of a file."""

    def make(place):
        data = (place / source).read_bytes()
        (place / name).write_bytes(data[: int(len(data) * share)])

    return make


def weights(name: str, **changes: np.ndarray | None):
    """The state dict of TinyNet with changes; None leaves a tensor out."""

    def make(place):
        arrays: dict[str, np.ndarray | None] = {
            "conv.weight": np.zeros((4, 1, 3, 3), np.float32),
            "conv.bias": np.zeros(4, np.float32),
            "fc.weight": np.zeros((3, 64), np.float32),
            "fc.bias": np.zeros(3, np.float32),
        }
        arrays |= {key.replace("_", ".", 1): value for key, value in changes.items()}
        np.savez(place / name, **{key: value for key, value in arrays.items() if value is not None})

    return make


def torch_file(name: str, value):
    def make(place):
        import torch

        torch.save(value(torch), place / name)

    return make


def picture(name: str, mode: str, size: tuple[int, int]):
    def make(place):
        from PIL import Image

        Image.new(mode, size).save(place / name)

    return make


FULL_OF_NAN = np.full((4, 1, 8, 8), np.nan, np.float32)
ONE_INFINITE = np.zeros((1, 1, 32, 32), np.float32)
ONE_INFINITE[0, 0, 3, 4] = np.inf

# name: (files to make, arguments, error, words of its message)
CASES = {
    # the model
    "no such kind of model": ((), ("build", "net", *RANDOM), "InvalidInput", "'net' is no model"),
    "no such network": ((), ("build", "zoo:nothing", *RANDOM), "InvalidInput", "choose one of edgecnn"),
    "no such file": ((), ("build", "no.py:Net", *SHAPE, *RANDOM), "InvalidInput", "there is no file no.py"),
    "no such module": ((), ("build", "no.mod:Net", *SHAPE, *RANDOM), "InvalidInput", "cannot import no"),
    "no such factory": ((), ("build", "net.py:No", *SHAPE, *RANDOM), "InvalidInput", "no function or class 'No'"),
    "a factory that fails": ((), ("build", "net.py:failing", *SHAPE, *RANDOM), "InvalidInput", "this factory fails"),
    "a factory of numbers": ((), ("build", "net.py:number", *SHAPE, *RANDOM), "InvalidInput", "gives int"),
    "a model file with a wrong line": (
        (text("bad.py", "x = (\n"),),
        ("build", "bad.py:Net", *SHAPE, *RANDOM),
        "InvalidInput",
        "bad.py:1",
    ),
    "a model file that exits": (
        (text("bad.py", "import sys\nsys.exit(0)\n"),),
        ("build", "bad.py:Net", *SHAPE, *RANDOM),
        "InvalidInput",
        "SystemExit",
    ),
    "a model file that imports nothing known": (
        (text("bad.py", "import nowhere_to_be_found\n"),),
        ("build", "bad.py:Net", *SHAPE, *RANDOM),
        "InvalidInput",
        "cannot import nowhere_to_be_found",
    ),
    "no shape": ((), ("build", "net.py:TinyNet", *RANDOM), "InvalidInput", "--input-shape"),
    "a shape that is none": (
        (),
        ("build", "net.py:TinyNet", "--input-shape", "3xx8", *RANDOM),
        "InvalidInput",
        "'3xx8' is no shape",
    ),
    "a shape that does not fit": (
        (),
        ("build", "net.py:TinyNet", "--input-shape", "3x8x8", *RANDOM),
        "InvalidInput",
        "cannot run on the example",
    ),
    "an exported program that is none": (
        (text("m.pt2", b"no zip at all"),),
        ("build", "m.pt2", *RANDOM),
        "InvalidInput",
        "no exported program",
    ),
    "operators that are not carried": (
        (),
        ("build", "net.py:Uncarried", *SHAPE, *RANDOM),
        "UnsupportedOp",
        "aten.sort.default (net.py:",
    ),
    "weights that are NaN": ((), ("build", "net.py:NotANumber", *SHAPE, *RANDOM), "InvalidInput", "fc.weight"),
    # its weights
    "no weights file": ((), (*BUILD, *RANDOM, "--weights", "no.npz"), "InvalidInput", "there is no file no.npz"),
    "weights that are infinite": (
        (weights("w.npz", fc_bias=np.full(3, np.inf, np.float32)),),
        (*BUILD, *RANDOM, "--weights", "w.npz"),
        "InvalidInput",
        "fc.bias",
    ),
    "weights that lack a tensor": (
        (weights("w.npz", fc_bias=None),),
        (*BUILD, *RANDOM, "--weights", "w.npz"),
        "InvalidInput",
        "missing: fc.bias",
    ),
    "weights of another model": (
        (weights("w.npz"),),
        ("build", "zoo:edgecnn", *RANDOM, "--weights", "w.npz", "-o", "new.tray"),
        "InvalidInput",
        "left over: conv.bias",
    ),
    "weights of another shape": (
        (weights("w.npz", fc_bias=np.zeros(4, np.float32)),),
        (*BUILD, *RANDOM, "--weights", "w.npz"),
        "InvalidInput",
        "fc.bias has the shape (4,)",
    ),
    "a weights file that is cut off": (
        (weights("v.npz"), cut("w.npz", "v.npz", 0.6)),
        (*BUILD, *RANDOM, "--weights", "w.npz"),
        "InvalidInput",
        "w.npz cannot be used",
    ),
    "a torch file that is none": (
        (text("w.pt", b"nothing of torch"),),
        (*BUILD, *RANDOM, "--weights", "w.pt"),
        "InvalidInput",
        "w.pt holds more than tensors, or it is damaged",
    ),
    "a whole checkpoint": (
        (torch_file("w.pt", lambda torch: {"model": {"fc.bias": torch.zeros(3)}, "epoch": 3}),),
        (*BUILD, *RANDOM, "--weights", "w.pt"),
        "InvalidInput",
        '"epoch"',
    ),
    # samples
    "no calibration": ((), BUILD, "InvalidInput", "--calibrate"),
    "no such data set": ((), (*BUILD, "--calibrate", "svhn"), "InvalidInput", "'svhn' is no source of samples"),
    "a data set of another shape": (
        (),
        ("build", "zoo:resnet20", "--calibrate", "digits", "-o", "new.tray"),
        "InvalidInput",
        "the model takes (n, 3, 32, 32)",
    ),
    "no such samples": ((), (*BUILD, "--calibrate", "no.npy"), "InvalidInput", "there is no file no.npy"),
    "no samples in an array": (
        (array("s.npy", np.zeros((0, 1, 8, 8), np.float32)),),
        (*BUILD, "--calibrate", "s.npy"),
        "CalibrationError",
        "the calibration set is empty",
    ),
    "no samples in a folder": (
        (lambda place: (place / "empty").mkdir(),),
        (*BUILD, "--calibrate", "empty"),
        "CalibrationError",
        "there are no images in empty",
    ),
    "samples that are NaN": (
        (array("s.npy", FULL_OF_NAN),),
        (*BUILD, "--calibrate", "s.npy"),
        "InvalidInput",
        "256 of 256 values are NaN or infinite",
    ),
    "samples of another shape": (
        (array("s.npy", np.zeros((4, 3, 8, 8), np.float32)),),
        (*BUILD, "--calibrate", "s.npy"),
        "InvalidInput",
        "samples have shape (4, 3, 8, 8), the model takes (n, 1, 8, 8)",
    ),
    "samples of another type": (
        (array("s.npy", np.zeros((4, 1, 8, 8), np.int64)),),
        (*BUILD, "--calibrate", "s.npy"),
        "InvalidInput",
        "not int64",
    ),
    "samples that are a file of something else": (
        (text("s.npy", b"\x89PNG"),),
        (*BUILD, "--calibrate", "s.npy"),
        "InvalidInput",
        "s.npy is no .npy file",
    ),
    "an archive without x": (
        (lambda place: np.savez(place / "s.npz", y=np.zeros(3)),),
        (*BUILD, "--calibrate", "s.npz"),
        "InvalidInput",
        "it lacks the arrays x",
    ),
    "no such labelled set": (
        (),
        (*BUILD, *RANDOM, "--evaluate", "svhn"),
        "InvalidInput",
        "'svhn' is no source of samples",
    ),
    "labels for another number of samples": (
        (lambda place: np.savez(place / "t.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.zeros(3, int)),),
        (*BUILD, *RANDOM, "--evaluate", "t.npz"),
        "InvalidInput",
        "not one class number for each of 4 samples",
    ),
    "labels beyond the outputs": (
        (lambda place: np.savez(place / "t.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.full(4, 3)),),
        (*BUILD, *RANDOM, "--evaluate", "t.npz"),
        "InvalidInput",
        "do not fit labels 3..3",
    ),
    # options
    "a share that leaves nothing": ((), (*BUILD, *RANDOM, "--prune", "1"), "PruningError", "must lie in [0, 1)"),
    "no such target": ((), (*BUILD, *RANDOM, "--target", "z80"), "InvalidInput", "there is no target 'z80'"),
    "a name with a space": ((), (*BUILD, *RANDOM, "--name", "a b"), "InvalidInput", "'a b' cannot name a graph"),
    "names for another number of classes": (
        (text("two.txt", "a\nb\n"),),
        (*BUILD, *RANDOM, "--labels", "two.txt"),
        "InvalidInput",
        "there are 2 labels, and the model's output is 3",
    ),
    "no names": (
        (text("none.txt", "\n\n"),),
        (*BUILD, *RANDOM, "--labels", "none.txt"),
        "InvalidInput",
        "none.txt has no labels",
    ),
    "names in another encoding": (
        (text("latin.txt", "caf\xe9\n".encode("latin-1")),),
        (*BUILD, *RANDOM, "--labels", "latin.txt"),
        "InvalidInput",
        "no UTF-8 text",
    ),
    "means for other channels": ((), (*BUILD, *RANDOM, "--mean", "1,2"), "InvalidInput", "2 numbers for 1 channels"),
    "a mean that is no number": ((), (*BUILD, *RANDOM, "--mean", "half"), "InvalidInput", "no list of numbers"),
    "a deviation of zero": ((), (*BUILD, *RANDOM, "--std", "0"), "InvalidInput", "must be above 0"),
    "a deviation that is NaN": ((), (*BUILD, *RANDOM, "--std", "nan"), "InvalidInput", "NaN or infinity"),
    # the demo
    "a demo on nothing known": ((), ("demo", "--data", "svhn", "-o", "d"), "InvalidInput", "no data set 'svhn'"),
    "a demo without weights": ((), ("demo", "--prune", "1", "-o", "d"), "PruningError", "leaves no weights"),
    # running
    "no tray": ((), ("run", "no.tray", "digit.png"), "InvalidInput", "there is no file no.tray"),
    "a folder for a tray": ((), ("run", ".", "digit.png"), "InvalidInput", "is a folder, not a tray"),
    "an image for a tray": ((), ("inspect", "digit.png"), "CorruptBundle", "not a tray"),
    "an empty file for a tray": ((text("e.tray", ""),), ("bench", "e.tray"), "CorruptBundle", "e.tray"),
    "no input": ((), ("run", "edgecnn.tray", "no.png"), "InvalidInput", "there is no file no.png"),
    "a folder for an input": ((), ("run", "edgecnn.tray", "."), "InvalidInput", "is a folder"),
    "an input of unknown kind": (
        (text("a.xyz", "?"),),
        ("run", "edgecnn.tray", "a.xyz"),
        "InvalidInput",
        "the kind of a.xyz is not known",
    ),
    "an input with infinity": (
        (array("i.npy", ONE_INFINITE),),
        ("run", "edgecnn.tray", "i.npy"),
        "InvalidInput",
        "1 of 1024 values are NaN or infinite",
    ),
    "an input of another shape": (
        (),
        ("run", "edgecnn.tray", "samples.npy"),
        "InvalidInput",
        "samples have shape (40, 1, 8, 8), the model takes (n, 1, 32, 32)",
    ),
    "an input of text": (
        (array("t.npy", np.array(["a"])),),
        ("run", "edgecnn.tray", "t.npy"),
        "InvalidInput",
        "not numbers",
    ),
    "an input of objects": (
        (lambda place: np.save(place / "o.npy", np.array([{}], dtype=object), allow_pickle=True),),
        ("run", "edgecnn.tray", "o.npy"),
        "InvalidInput",
        "o.npy is damaged",
    ),
    "an input whose header promises more than there is": (
        (array("h.npy", np.zeros((9, 1, 32, 32), np.float32)), cut("i.npy", "h.npy", 0.5)),
        ("run", "edgecnn.tray", "i.npy"),
        "InvalidInput",
        "i.npy is damaged",
    ),
    "no sample in an input": (
        (array("n.npy", np.zeros((0, 1, 32, 32), np.float32)),),
        ("run", "edgecnn.tray", "n.npy"),
        "InvalidInput",
        "there is no sample in it",
    ),
    "an image that is none": (
        (text("a.png", b"GIF89a, or is it?"),),
        ("run", "edgecnn.tray", "a.png"),
        "InvalidInput",
        "no image that can be read",
    ),
    "an image that is cut off": (
        (cut("a.png", "digit.png", 0.7),),
        ("run", "edgecnn.tray", "a.png"),
        "InvalidInput",
        "no image that can be read",
    ),
    "an image too large for memory": (
        (picture("a.png", "1", (20000, 10000)),),
        ("run", "edgecnn.tray", "a.png"),
        "InvalidInput",
        "pixels",
    ),
    "an image too large for us": (
        (picture("a.png", "1", (10000, 9000)),),
        ("run", "edgecnn.tray", "a.png"),
        "InvalidInput",
        "10000 x 9000 pixels are over the limit",
    ),
    "an image of 16 bits": (
        (picture("a.png", "I;16", (32, 32)),),
        ("run", "edgecnn.tray", "a.png"),
        "InvalidInput",
        "more than 8 bits",
    ),
    "pixels that are called normalised": (
        (),
        ("run", "edgecnn.tray", "digits.npy", "--no-raw"),
        "InvalidInput",
        "leave out --no-raw",
    ),
    "scores in a file of unknown kind": (
        (),
        ("run", "edgecnn.tray", "digits.npy", "-o", "scores.txt"),
        "InvalidInput",
        "-o scores.npy",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_error(refused, place, case):
    files, arguments, error, words = CASES[case]
    for make in files:
        make(place)
    assert words in refused(*arguments, error=error).err


def test_everything_that_is_not_carried_is_listed_with_its_line(refused, place):
    told = refused("build", "net.py:Uncarried", *SHAPE, *RANDOM, error="UnsupportedOp").err
    line = (place / "net.py").read_text().splitlines().index("        y = torch.cumsum(x, 1)") + 1
    assert f"aten.cumsum.default (net.py:{line}, " in told
    assert f"aten.sort.default (net.py:{line + 1}, " in told


class Touch:
    """Unpickling it makes a file."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("part", ["sample_inputs", "weights"])
def test_an_exported_program_is_not_unpickled(refused, place, exported, part):
    import torch

    payload = io.BytesIO()
    torch.save(((Touch(),), {}), payload)
    with zipfile.ZipFile(exported) as whole, zipfile.ZipFile(place / "evil.pt2", "w") as altered:
        for name in whole.namelist():
            data = whole.read(name)
            if f"/{part}/" in name and not name.endswith(".json"):
                data = payload.getvalue()
            if part == "weights" and name.endswith("model_weights_config.json"):
                data = data.replace(b'"use_pickle":false', b'"use_pickle":true')
                data = data.replace(b'"use_pickle": false', b'"use_pickle": true')
            altered.writestr(name, data)
    refused("build", "evil.pt2", *RANDOM, "-o", "new.tray", error="InvalidInput")
    assert not (place / "unpickled").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_an_exported_program_that_is_cut_off_is_refused(refused, place, exported, share):
    cut("cut.pt2", "net.pt2", share)(place)
    refused("build", "cut.pt2", *RANDOM, "-o", "new.tray", error="InvalidInput")


def test_an_error_names_the_line_of_the_users_own_code(refused, place):
    told = refused("build", "net.py:failing", *SHAPE, *RANDOM, error="InvalidInput").err
    line = (place / "net.py").read_text().splitlines().index('    raise ValueError("this factory fails")') + 1
    assert f"net.py:{line}\n" in told


@pytest.mark.parametrize("seed", range(4))
def test_damaged_pictures_and_arrays_never_end_in_a_traceback(penjing, place, seed):
    rng = np.random.default_rng(seed)
    for name in ("digit.png", "digits.npy", "tested.npz"):
        data = bytearray((place / name).read_bytes())
        for _ in range(12):
            altered = bytearray(data)
            for at in rng.integers(0, min(len(data), 200), 3):
                altered[at] = rng.integers(256)
            (place / f"altered-{name}").write_bytes(altered)
            told = penjing("run", "edgecnn.tray", f"altered-{name}")
            assert told.code in (0, 1), f"repro: seed {seed}, {name}"
            assert told.err == "" or told.err.startswith(("InvalidInput: ", "note: ")), told.err
