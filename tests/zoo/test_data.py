import io

import numpy as np
import pytest
import torch
from PIL import Image

from penjing import zoo
from penjing.core.errors import InvalidInput, MissingData, WriteFailed
from penjing.train.fit import evaluate
from penjing.zoo import data, weights


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder beside an empty cache."""
    for name, knob in (("data", "PENJING_DATA"), ("cache", "PENJING_CACHE")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(knob, str(tmp_path / name))
    return tmp_path / "data"


def _mnist_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_x": rng.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "train_y": np.arange(6, dtype=np.uint8),
        "test_x": rng.integers(0, 256, (4, 28, 28), dtype=np.uint8),
        "test_y": np.arange(4, dtype=np.uint8),
    }


def _jpeg(shade: int, size: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (shade, 0, 255 - shade)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _cifar_arrays(shades: dict[str, list[int]]) -> dict[str, np.ndarray]:
    arrays = {}
    for part, values in shades.items():
        blobs = [_jpeg(value) for value in values]
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(blobs), np.uint8)
        arrays[f"{part}_offset"] = np.cumsum([0, *map(len, blobs)])
        arrays[f"{part}_y"] = np.arange(len(values), dtype=np.uint8)
    return arrays


def test_the_digits_are_split_the_same_way_for_ever():
    first, second = zoo.digits(), zoo.digits()
    assert first.train_x.shape == (1343, 1, 32, 32)
    assert first.test_x.shape == (454, 1, 32, 32)
    for part in ("train_x", "train_y", "test_x", "test_y"):
        assert np.array_equal(getattr(first, part), getattr(second, part))
    shares = np.bincount(first.test_y) / (np.bincount(first.train_y) + np.bincount(first.test_y))
    assert shares == pytest.approx(0.25, abs=0.005)
    assert list(first.test_y[:10]) == list(range(10))  # the file begins with one of each


def test_the_digits_survive_an_eight_bit_image_file():
    digits = zoo.digits()
    assert digits.train_x.dtype == np.float32
    assert digits.train_x.min() == 0.0
    assert digits.train_x.max() == 1.0
    image = digits.test_x[0, 0]
    buffer = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(buffer, "PNG")
    again = np.asarray(Image.open(buffer))[np.newaxis, np.newaxis]
    assert np.array_equal(digits.normalise(again), digits.normalise(digits.test_x[:1]))


def test_mnist_is_padded_to_32_or_left_at_28(folder):
    arrays = _mnist_arrays()
    np.savez(folder / "mnist.npz", **arrays)
    large, small = zoo.mnist(), zoo.load("mnist", 28)
    assert large.train_x.shape == (6, 1, 32, 32)
    assert np.array_equal(small.test_x[:, 0], arrays["test_x"])
    assert np.array_equal(large.test_x[:, 0, 2:30, 2:30], arrays["test_x"])
    assert large.test_x.sum() == arrays["test_x"].sum(dtype=np.int64)
    assert large.train_y.dtype == np.int64
    with pytest.raises(InvalidInput, match="28 or 32"):
        zoo.mnist(30)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_missing_data_says_which_variable_to_set(name, folder, monkeypatch):
    with pytest.raises(MissingData, match=r"\.npz is not in the data folder") as caught:
        zoo.load(name)
    assert str(folder) in caught.value.where
    assert "PENJING_DATA" in caught.value.hint
    monkeypatch.delenv("PENJING_DATA")
    with pytest.raises(MissingData, match="PENJING_DATA is not set"):
        zoo.load(name)
    with pytest.raises(MissingData):
        weights.trained("resnet20")


def test_an_unknown_data_set_lists_those_there_are():
    with pytest.raises(InvalidInput, match="imagenet") as caught:
        zoo.load("imagenet")
    assert all(name in caught.value.hint for name in data.names())


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_another_image_size_is_refused(name):
    with pytest.raises(InvalidInput, match="not 28"):
        zoo.load(name, 28)


def _without(key):
    return lambda arrays: {name: array for name, array in arrays.items() if name != key}


@pytest.mark.parametrize(
    "spoil",
    [
        _without("test_y"),
        lambda arrays: arrays | {"train_x": arrays["train_x"][:, :27]},
        lambda arrays: arrays | {"train_x": arrays["train_x"].astype(np.float32)},
        lambda arrays: arrays | {"train_y": arrays["train_y"][:-1]},
        lambda arrays: arrays | {"train_y": arrays["train_y"] + 5},
        lambda arrays: arrays | {"test_y": np.array(["a"] * 4)},
        lambda arrays: arrays | {"test_y": np.array([{}] * 4, dtype=object)},
    ],
    ids=["lacking", "shape", "floats", "count", "label", "text", "pickle"],
)
def test_a_wrong_mnist_file_is_refused(folder, spoil):
    np.savez(folder / "mnist.npz", **spoil(_mnist_arrays()))
    with pytest.raises(InvalidInput, match=r"mnist\.npz cannot be used"):
        zoo.mnist()


def test_a_damaged_file_is_refused(folder):
    path = folder / "mnist.npz"
    np.savez(path, **_mnist_arrays())
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"PK\x03\x04 no zip", whole[:500] + b"?" * 500 + whole[1000:]):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=r"mnist\.npz cannot be used"):
            zoo.mnist()
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(InvalidInput, match=r"mnist\.npz cannot be used"):
        zoo.mnist()


def test_cifar_pixels_are_cached_and_a_changed_file_is_decoded_again(folder):
    path, cache = folder / "cifar10_jpeg.npz", folder.parent / "cache"
    np.savez(path, **_cifar_arrays({"train": [0, 100, 200], "test": [50, 150]}))
    first, second = zoo.cifar10(), zoo.cifar10()
    assert first.name == "CIFAR-10 (JPEG)"
    assert first.train_x.shape == (3, 3, 32, 32)
    assert first.train_x.dtype == np.uint8
    assert first.test_x[1, :, 5, 5].tolist() == pytest.approx([150, 0, 105], abs=3)
    assert np.array_equal(first.train_x, second.train_x)
    assert len(list(cache.iterdir())) == 2

    np.savez(path, **_cifar_arrays({"train": [0, 100, 200], "test": [51, 150]}))
    changed = zoo.cifar10()
    assert changed.test_x[0, 0, 5, 5] != first.test_x[0, 0, 5, 5]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no numpy"])
def test_a_damaged_cache_is_made_again(folder, content):
    np.savez(folder / "cifar10_jpeg.npz", **_cifar_arrays({"train": [0, 100], "test": [50]}))
    first = np.array(zoo.cifar10().train_x)
    cached = sorted((folder.parent / "cache").iterdir())
    for path in cached:
        path.write_bytes(content)
    assert np.array_equal(zoo.cifar10().train_x, first)
    assert sorted((folder.parent / "cache").iterdir()) == cached


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: arrays | {"test_offset": arrays["test_offset"][:-1]},
        lambda arrays: arrays | {"test_offset": arrays["test_offset"][::-1]},
        lambda arrays: arrays | {"test_offset": arrays["test_offset"].astype(np.float64)},
        lambda arrays: arrays | {"test_offset": arrays["test_offset"] + 10**6},
        lambda arrays: arrays | {"test_jpeg": arrays["test_jpeg"][:200]},
        lambda arrays: arrays | {"test_jpeg": np.zeros_like(arrays["test_jpeg"])},
        lambda arrays: (
            arrays
            | {"test_jpeg": np.frombuffer(_jpeg(1, 16), np.uint8), "test_offset": np.array([0, len(_jpeg(1, 16))])}
        ),
    ],
    ids=["short", "reversed", "floats", "beyond", "cut", "no-jpeg", "size"],
)
def test_a_wrong_cifar_file_is_refused_and_nothing_of_it_cached(folder, spoil):
    arrays = _cifar_arrays({"train": [0, 100], "test": [50]})
    np.savez(folder / "cifar10_jpeg.npz", **spoil(arrays))
    with pytest.raises(InvalidInput, match=r"cifar10_jpeg\.npz cannot be used"):
        zoo.cifar10()
    assert not [path for path in (folder.parent / "cache").iterdir() if "test" in path.name]


def test_a_cache_that_cannot_be_written_is_an_error(folder, monkeypatch):
    np.savez(folder / "cifar10_jpeg.npz", **_cifar_arrays({"train": [0], "test": [50]}))

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteFailed, match="No space left"):
        zoo.cifar10()
    assert list((folder.parent / "cache").iterdir()) == []


def _resnet_arrays() -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in zoo.create("resnet20", seed=9).state_dict().items()}


def test_trained_weights_replace_every_tensor(folder):
    arrays = _resnet_arrays()
    np.savez(folder / "resnet20_cifar10_jpeg.npz", **arrays)
    module = weights.trained("resnet20")
    assert not module.training
    for key, tensor in module.state_dict().items():
        assert np.array_equal(tensor.numpy(), arrays[key])


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_without("linear.bias"), "missing: linear.bias"),
        (lambda arrays: arrays | {"linear.extra": np.zeros(1)}, "left over: linear.extra"),
        (lambda arrays: arrays | {"linear.bias": np.zeros(9, np.float32)}, "linear.bias has the shape"),
        (lambda arrays: arrays | {"linear.bias": np.full(10, np.nan, np.float32)}, "no finite numbers"),
        (lambda arrays: arrays | {"linear.bias": np.array(["x"] * 10)}, "no finite numbers"),
    ],
    ids=["missing", "extra", "shape", "nan", "text"],
)
def test_weights_that_do_not_fit_are_refused_and_the_module_is_untouched(folder, spoil, named):
    path = folder / "resnet20_cifar10_jpeg.npz"
    np.savez(path, **spoil(_resnet_arrays()))
    module = zoo.create("resnet20")
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with pytest.raises(InvalidInput, match=named):
        weights.load_into(module, path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


def test_mnist_is_complete(data_dir):
    mnist = zoo.mnist()
    assert mnist.train_x.shape == (60_000, 1, 32, 32)
    assert mnist.test_x.shape == (10_000, 1, 32, 32)
    pixels = zoo.mnist(28).train_x / np.float32(255)
    assert (float(pixels.mean()), float(pixels.std())) == (
        pytest.approx(mnist.mean[0], abs=1e-4),
        pytest.approx(mnist.std[0], abs=1e-4),
    )


def test_the_trained_resnet20_reads_the_images_of_its_makers(data_dir):
    """Its accuracy on all 10,000 is a matter of tests/models/test_accuracy.py."""
    cifar = zoo.cifar10()
    assert cifar.train_x.shape == (50_000, 3, 32, 32)
    assert np.bincount(cifar.test_y).tolist() == [1000] * 10
    correct = evaluate(weights.trained("resnet20"), cifar.test_x[:1000], cifar.test_y[:1000], normalise=cifar.normalise)
    assert correct.sum() == pytest.approx(857, abs=1)
