"""Decoding by the tray's own library: the bytes of numpy, the same packs refused, and no trust in what it says."""

import ctypes
import dataclasses
import subprocess
import tracemalloc
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

import penjing
from penjing import api
from penjing.bundle import open_tray, write_container
from penjing.bundle.coding import rans
from penjing.bundle.manifest import dump_manifest
from penjing.bundle.manifest_rules import ADDRESS_DIGITS
from penjing.bundle.schema import MemberInfo
from penjing.compress.quantize.round_weights import RoundWeights
from penjing.core.digests import digest_bytes
from penjing.core.errors import BundleError, CorruptBundle
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant
from penjing.ops.layers import float_weights
from penjing.runtime import loading
from penjing.runtime.decoding import pack_decoder
from penjing.runtime.native import NativeLibrary
from penjing.toolchain import assembly_for_blob, compile_library, host_target
from penjing.zoo import catalog

STEM = "penjing_edgecnn"
DECODER = {f"{STEM}_pack_sizes", f"{STEM}_pack_decode"}


@pytest.fixture
def decoded_by_numpy(monkeypatch) -> Iterator[list[int]]:
    """How many symbols numpy decoded, call by call."""
    counts: list[int] = []
    symbols = rans.Decoder.symbols

    def counted(self, tables, models):
        counts.append(len(models))
        return symbols(self, tables, models)

    monkeypatch.setattr(rans.Decoder, "symbols", counted)
    return counts


@pytest.fixture
def constants(monkeypatch) -> list[dict[str, np.ndarray]]:
    """The tensors that each loading read its program with."""
    seen: list[dict[str, np.ndarray]] = []
    parse = loading.parse_graph

    def parsed(text, weights, operators):
        seen.append(weights)
        return parse(text, weights, operators)

    monkeypatch.setattr(loading, "parse_graph", parsed)
    return seen


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """LeNet-5 with int8, mostly zero, 4:16 and 4-bit weights, a layer of each."""
    graph = api.clean(api.capture(catalog.create("lenet5"), catalog.find("lenet5").random_inputs(2), name="lenet5"))
    _, zeros, n_of_m, four = float_weights(graph)
    graph, _ = run_passes(graph, [RoundWeights(8, overrides={four: 4})])
    keep = np.abs(graph.constants[zeros].array)
    pruned = np.where(keep > np.quantile(keep, 0.85), graph.constants[zeros].array, 0)
    graph.set_constant(zeros, Constant(pruned.astype(np.float32)))
    windows = graph.constants[n_of_m].array.reshape(-1, 16)
    kept = np.abs(windows).argsort(axis=1).argsort(axis=1) >= 12
    graph.set_constant(n_of_m, Constant((windows * kept).reshape(graph.constants[n_of_m].array.shape)))
    program = api.lower(api.quantize(graph, [catalog.find("lenet5").random_inputs(8)]))
    path = tmp_path_factory.mktemp("mixed") / "lenet5.tray"
    api.save(api.build(program), path)
    return path


def test_the_library_decodes_a_network_of_all_kinds_of_weights_to_the_bytes_of_numpy(
    mixed, constants, decoded_by_numpy
):
    x = catalog.find("lenet5").random_inputs(3)
    by_library = penjing.load(mixed, engine="library")
    assert decoded_by_numpy == []
    by_numpy = penjing.load(mixed, engine="interpreter")
    assert decoded_by_numpy != []
    found, expected = constants
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    layers = [array for array in expected.values() if array.dtype == np.int8 and array.ndim > 1]
    assert sum((array == 0).mean() > 0.7 for array in layers) == 2
    assert sorted(int(np.abs(array).max()) for array in layers) == [7, 127, 127, 127]
    np.testing.assert_array_equal(by_library.run(x), by_numpy.run(x))


def test_tensors_that_the_library_decoded_cannot_be_written(tray, constants):
    penjing.load(tray, engine="library")
    for array in constants[0].values():
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.flags.writeable = True


def test_the_interpreter_loads_no_native_code(tray, monkeypatch, decoded_by_numpy):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("native code was loaded"))
    assert penjing.load(tray, engine="interpreter").self_test() == 0
    assert decoded_by_numpy != []


def test_one_loading_opens_the_library_once(tray, monkeypatch):
    opened, open_library = [], ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path: opened.append(path) or open_library(path))
    penjing.load(tray, engine="library")
    assert len(opened) == 1


# --- corrupt packs in trays whose digests are right ---


def repacked(path, pack: bytes) -> bytes:
    """The tray with another pack of weights, and the digests of that."""
    tray = open_tray(path)
    variant = tray.manifest.variants["default"]
    name = f"weights/{digest_bytes(pack)[:ADDRESS_DIGITS]}"
    members = {name: data for name, data in tray.members.items() if name not in ("manifest.json", variant.weights)}
    members[name] = pack
    infos = {name: MemberInfo(digest_bytes(data), len(data)) for name, data in members.items()}
    variants = {"default": dataclasses.replace(variant, weights=name)}
    manifest = dataclasses.replace(tray.manifest, variants=variants, members=infos)
    return write_container({"manifest.json": dump_manifest(manifest), **members})


def altered(pack: bytes, at: int, to: int) -> bytes:
    return pack[:at] + bytes([to]) + pack[at + 1 :]


def inverted(pack: bytes, at: int) -> bytes:
    return altered(pack, at, pack[at] ^ 0xFF)


CORRUPT = {
    "a word missing": lambda pack: pack[:-2],
    "half a word missing": lambda pack: pack[:-1],
    "a word too many": lambda pack: pack + b"\0\0",
    "another symbol": lambda pack: inverted(pack, len(pack) // 2),
    "another last word": lambda pack: inverted(pack, len(pack) - 1),
    "more lanes than bytes": lambda pack: altered(pack, 5, 63),
    "no lanes": lambda pack: pack[:4] + b"\0\0" + pack[6:],
    "a model too many": lambda pack: altered(pack, 6, pack[6] + 1),
    "a tensor too many": lambda pack: altered(pack, 7, pack[7] + 1),
    "another dtype": lambda pack: altered(pack, 8, pack[8] & 0xF0 | 6),
    "another dimension": lambda pack: altered(pack, 9, pack[9] + 1),
    "only its head": lambda pack: pack[:60],
}


@pytest.mark.parametrize("what", CORRUPT)
def test_a_corrupt_pack_is_refused_alike_by_whatever_decodes(what, tray, tmp_path):
    good = open_tray(tray)
    pack = bytes(good.members[good.manifest.variants["default"].weights])
    path = tmp_path / "corrupt.tray"
    path.write_bytes(repacked(tray, CORRUPT[what](pack)))
    open_tray(path)  # the container is sound
    refusals = []
    for engine in ("library", "auto", "interpreter"):
        with pytest.raises(CorruptBundle, match="a pack of tensors is refused") as caught:
            penjing.load(path, engine=engine)
        refusals.append(str(caught.value))
    assert len(set(refusals)) == 1


def test_a_pack_that_was_taken_out_and_put_back_is_accepted(tray, tmp_path):
    good = open_tray(tray)
    path = tmp_path / "same.tray"
    path.write_bytes(repacked(tray, bytes(good.members[good.manifest.variants["default"].weights])))
    assert path.read_bytes() == tray.read_bytes()


def test_a_few_bytes_cannot_ask_for_much_memory(parts):
    (library,) = parts.libraries.values()
    decode = pack_decoder(NativeLibrary(library["default"].data, "edgecnn"))
    pack = (
        b"PJP1" + (16384).to_bytes(2, "little") + b"\1\1" + b"\x12" + b"\x80\x80\x80\x80\1" + b"\0" + b"\0" + bytes(99)
    )
    tracemalloc.start()
    assert decode(memoryview(pack), 1 << 28, 1 << 40) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


# --- libraries that do not decode as they should ---


def lying(parts, *, sizes: str = "return 0;", decode: str = "return 0;", scratch: str = "64", blob: bytes = b"\0"):
    """The parts of the tray with a library whose decoder does as told."""
    n_bytes = sum(array.nbytes for array in parts.variants["default"].weights.values())
    source = f"""
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#define API __attribute__((visibility("default")))
#define OUT_BYTES UINT64_C({n_bytes})
struct sizes {{ uint64_t out, scratch; uint32_t tensors; }};
extern const unsigned char blob[];
API int {STEM}_pack_sizes(const uint8_t *pack, size_t n, uint32_t align, struct sizes *sizes);
API int {STEM}_pack_sizes(const uint8_t *pack, size_t n, uint32_t align, struct sizes *sizes)
{{ (void)pack; (void)n; (void)align; sizes->out = OUT_BYTES; sizes->scratch = {scratch}; {sizes} }}
API int {STEM}_pack_decode(const uint8_t *pack, size_t n, uint32_t align, uint8_t *out, size_t on, void *s, size_t sn);
API int {STEM}_pack_decode(const uint8_t *pack, size_t n, uint32_t align, uint8_t *out, size_t on, void *s, size_t sn)
{{ (void)pack; (void)n; (void)align; (void)s; (void)sn; (void)on; memcpy(out, blob, {len(blob)}); {decode} }}
"""
    target = host_target()
    files = {"lying.c": source, "blob.bin": blob, "blob.S": assembly_for_blob("blob", "blob.bin", target)}
    data = compile_library(files, target)
    library = dataclasses.replace(parts.libraries[target.name]["default"], data=data)
    return dataclasses.replace(parts, libraries={target.name: {"default": library}})


LIES = {
    "it refuses": {"decode": "return 1;"},
    "it knows no sizes": {"sizes": "return 1;"},
    "one byte too few": {"sizes": "sizes->out--; return 0;"},
    "without bound": {"sizes": "sizes->out = UINT64_MAX; return 0;"},
    "scratch without bound": {"scratch": "UINT64_C(1) << 40"},
}


@pytest.mark.parametrize("what", LIES)
def test_a_decoder_that_refuses_a_right_pack_or_wants_other_memory_yields_no_model(what, parts, packed):
    path = packed(lying(parts, **LIES[what]))
    for engine in ("library", "auto"):
        with pytest.raises(CorruptBundle, match="two decoders disagree") as caught:
            penjing.load(path, engine=engine)
        assert "member weights/" in caught.value.where


def test_weights_that_a_library_decoded_wrongly_are_run_by_nothing(parts, packed, tray, images):
    weights = parts.variants["default"].weights
    right = b"".join(array.tobytes() for array in weights.values())
    at = 0
    for array in weights.values():
        if array.dtype == np.int8 and array.ndim > 1:
            break
        at += array.nbytes
    path = packed(lying(parts, blob=inverted(right, at)))
    with pytest.raises(BundleError, match="packs weights in another way"):
        penjing.load(path, engine="library")
    with pytest.warns(RuntimeWarning, match="running by the interpreter"):
        model = penjing.load(path)
    np.testing.assert_array_equal(model.run(images), penjing.load(tray).run(images))


def test_without_a_decoder_in_the_library_numpy_decodes(parts, packed, decoded_by_numpy):
    source = f'__attribute__((visibility("default"))) int {STEM}_isa(void);\nint {STEM}_isa(void) {{ return 0; }}\n'
    data = compile_library({"old.c": source}, host_target())
    library = dataclasses.replace(parts.libraries[host_target().name]["default"], data=data)
    path = packed(dataclasses.replace(parts, libraries={host_target().name: {"default": library}}))
    with pytest.raises(BundleError, match="the library lacks a function"):
        penjing.load(path, engine="library")
    assert decoded_by_numpy != []


# --- what libraries hold ---


def exported(data: bytes, nm: str, tmp_path) -> set[str]:
    path = tmp_path / "library.so"
    path.write_bytes(data)
    text = subprocess.run([nm, "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in text.splitlines()}


def test_a_library_shows_its_decoder_and_no_name_that_is_not_the_models(parts, require, tmp_path):
    (library,) = parts.libraries.values()
    names = exported(library["default"].data, str(require("nm")), tmp_path)
    assert names >= DECODER
    assert [name for name in names if not name.startswith(f"{STEM}_")] == []
    assert b"pj_pack" not in library["default"].data


def test_a_standalone_library_has_no_decoder_and_is_not_asked(standalone, require, packed, monkeypatch, tmp_path):
    (library,) = standalone.libraries.values()
    assert not exported(library["default"].data, str(require("nm")), tmp_path) & DECODER
    assert [name for name in standalone.sources if "decode" in name] == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(loading, "pack_decoder", lambda _: pytest.fail("asked"))
        assert penjing.load(packed(standalone), engine="library").self_test() == 0
