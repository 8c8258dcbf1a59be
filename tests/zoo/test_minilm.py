"""The sentence encoder: a small one goes the whole road at any length; files of weights are checked."""

import json
import struct

import numpy as np
import pytest

import penjing
from penjing import api
from penjing.core.errors import InvalidInput, MissingDependency
from penjing.ops.wide import wide_values
from penjing.zoo import minilm as module
from penjing.zoo.minilm import read_safetensors

torch = pytest.importorskip("torch")

WORDS, LONGEST = 90, 20
LENGTHS = (1, 2, 7, LONGEST)


@pytest.fixture(scope="module")
def network():
    from penjing.zoo.models.bert import SentenceEncoder

    torch.manual_seed(0)
    return SentenceEncoder(words=WORDS, places=32, layers=1, width=24, heads=3, inner=48).eval()


@pytest.fixture(scope="module")
def graph(network):
    return api.capture(network, torch.ones(2, 9, dtype=torch.int64), name="tiny", length=penjing.Length(LONGEST, 1))


@pytest.fixture(scope="module")
def tray(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "tiny.tray"
    penjing.save(api.build(api.lower(api.quantize(graph, [ids(n, 16) for n in (4, 9, LONGEST)]))), path)
    return path


def ids(length: int, count: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, WORDS, (count, length)).astype(np.int32)


def test_a_sentence_encoder_runs_in_integers_at_every_length(network, tray):
    library, oracle = (penjing.load(tray, engine=engine) for engine in ("library", "interpreter"))
    assert library.self_test() == 0
    for length in LENGTHS:
        x = ids(length, 3)
        found = library.run(x)
        np.testing.assert_array_equal(found, oracle.run(x))
        with torch.inference_mode():
            want = network(torch.from_numpy(x)).numpy()
        cosine = (found * want).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(want, axis=1)
        assert cosine.min() > 0.96  # a token alone has nothing to average over


def test_its_sums_have_16_bits(graph):
    assert len(wide_values(graph)) == 1 + 2 * 2  # words and places; in the layer two sums, each with a summand


def test_ids_outside_the_vocabulary_are_refused_at_every_length(tray):
    model = penjing.load(tray)
    for length in LENGTHS:
        x = ids(length, 1)
        x[0, -1] = WORDS
        with pytest.raises(InvalidInput, match=f"holds {WORDS}"):
            model.run(x)


def written(path, tensors, **changes):
    """A safetensors file."""
    header, data = {}, b""
    for name, array in tensors.items():
        dtype = {"float32": "F32", "int64": "I64", "float16": "F16"}[str(array.dtype)]
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    header |= changes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_safetensors_file_comes_back_as_it_was_written(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([[7, 8]])}
    found = read_safetensors(written(tmp_path / "x.safetensors", tensors, __metadata__={"format": "pt"}))
    assert list(found) == ["a", "b"]
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("what", ["type", "shape", "place", "cut", "empty", "header", "no JSON"])
def test_a_damaged_safetensors_file_is_refused(tmp_path, what):
    path, tensors = tmp_path / "x.safetensors", {"a": np.zeros(4, np.float16 if what == "type" else np.float32)}
    entry = {
        "dtype": "F32",
        "shape": [5] if what == "shape" else [4],
        "data_offsets": [0, 99 if what == "place" else 16],
    }
    written(path, tensors, **({"a": entry} if what in ("shape", "place") else {}))
    data = path.read_bytes()
    damaged = {"cut": data[:-1], "empty": b"", "header": struct.pack("<Q", 2**40) + data[8:]}
    damaged["no JSON"] = data[:8] + b"x" * (len(data) - 8)
    path.write_bytes(damaged.get(what, data))
    with pytest.raises(InvalidInput):
        read_safetensors(path)


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(MissingDependency, match="not installed") as caught:
        module.minilm()
    assert "pip install no-such-package" in str(caught.value)
