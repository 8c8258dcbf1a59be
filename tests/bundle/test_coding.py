"""Packs of tensors: exact round trips of whatever there is, sizes near the entropy, nothing hostile gets through."""

from math import comb, log2

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from penjing.bundle import generated, pack_tensors, read_pack
from penjing.bundle.coding.models import Model, fitted, read_model
from penjing.bundle.coding.rans import Decoder, StreamFault, Tables, encode, uniform_share
from penjing.core.errors import BundleError, CorruptBundle, InvalidInput, UnsupportedBundle

DTYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32]
FAST = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
SHAPES = st.one_of(
    arrays.array_shapes(min_dims=0, max_dims=8, min_side=1, max_side=3),
    st.sampled_from([(1,), (257,), (16, 4), (32, 3, 3, 16), (48, 20), (5, 68), (20, 5, 5, 1), (3, 3, 70)]),
)


def same(tensors: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    assert list(found) == list(tensors)
    for name, array in tensors.items():
        expected = array.astype(array.dtype.newbyteorder("<"))
        assert (found[name].dtype, found[name].shape) == (expected.dtype, array.shape)
        assert found[name].tobytes() == expected.tobytes(), name


@st.composite
def patterned(draw) -> np.ndarray:
    """Weights as passes leave them: dense, of few codes, with zeros anywhere, in N:M windows or in blocks."""
    shape = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    spread = draw(st.sampled_from([0.3, 2.0, 30.0, 300.0]))
    values = np.rint(rng.normal(size=shape) * spread)
    if dtype.itemsize == 1:
        values = np.clip(values, -128, 127)
    array = np.asarray(values).astype(np.int64).astype(dtype)
    kind = draw(st.sampled_from(["as it is", "anywhere", "n of m", "blocks", "empty rows", "steps"]))
    flat = array.reshape(-1).copy()
    if kind == "anywhere":
        flat[rng.random(flat.size) < draw(st.sampled_from([0.3, 0.8, 0.99]))] = 0
    elif kind == "n of m" and flat.size >= 16:
        windows = flat[: flat.size // 16 * 16].reshape(-1, 16)
        np.put_along_axis(windows, rng.random(windows.shape).argsort(axis=1)[:, :12], 0, axis=1)
    elif kind == "blocks" and flat.size >= 64:
        flat[np.repeat(rng.random(-(-flat.size // 4)) < 0.7, 4)[: flat.size]] = 0
    elif kind == "steps":
        flat = np.sort(flat)
    array = flat.reshape(shape)
    if kind == "empty rows" and array.ndim:
        array[: len(array) // 2] = 0
    return array


@FAST
@given(st.lists(patterned(), max_size=4))
def test_tensors_come_back_bit_for_bit(found):
    tensors = {f"layer{i}.weight": array for i, array in enumerate(found)}
    data = pack_tensors(tensors)
    same(tensors, read_pack(data))
    assert pack_tensors(tensors) == data


@FAST
@given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)))
def test_any_bits_come_back(array):
    found = read_pack(pack_tensors({"a": array}))
    same({"a": array}, found)
    with pytest.raises(ValueError, match="WRITEABLE"):
        found["a"].setflags(write=True)


@pytest.mark.parametrize("array", [
    np.full(70, -128, np.int8), np.full(70, 127, np.int8), np.arange(256, dtype=np.uint8), np.zeros((9, 9), np.int8),
    np.array([-(2**31), 2**31 - 1, 0, 128, -129, 32768], np.int32), np.array([np.nan, np.inf, -0.0], np.float32),
    np.array([-32768, 32767, -129], np.int16), np.tile(np.array([-128, 127], np.int8), (16, 40)),
])  # fmt: skip
def test_ends_of_every_range_come_back(array):
    same({"a": array}, read_pack(pack_tensors({"a": array})))


def test_byte_order_and_strides_do_not_change_a_byte():
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    expected = pack_tensors({"a": np.ascontiguousarray(array.transpose(2, 0, 1))})
    assert pack_tensors({"a": array.transpose(2, 0, 1)}) == expected
    assert pack_tensors({"a": array.astype(">i4").transpose(2, 0, 1)}) == expected


@pytest.mark.parametrize("array", [
    np.zeros(3, np.float64), np.zeros(3, np.int64), np.zeros(3, np.uint16), np.zeros(3, bool), np.array(["a"]),
    np.array([object()]), np.zeros((2, 0), np.uint8), np.zeros((1,) * 9, np.uint8),
], ids=lambda array: f"{array.dtype}{array.shape}")  # fmt: skip
def test_what_a_pack_cannot_hold_is_not_written(array):
    with pytest.raises(InvalidInput):
        pack_tensors({"a": array})


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "x" * 401])
def test_a_name_that_is_no_line_is_not_written(name):
    with pytest.raises(InvalidInput):
        pack_tensors({name: np.zeros(3, np.int8)})


def test_tensors_of_one_value_have_lanes_enough():
    zeros = np.zeros(1 << 20, np.int8)
    data = pack_tensors({"a": zeros})
    assert len(data) < 6 * 64 + 60
    same({"a": zeros}, read_pack(data))


# --- sizes: what the mathematics allows, and a little ---


def n_of_m(rng: np.random.Generator, rows: int, columns: int, n: int, m: int) -> np.ndarray:
    mask = rng.random((rows * columns // m, m)).argsort(axis=1) < n
    return (mask * rng.choice([-1, 1], mask.shape)).astype(np.int8).reshape(rows, columns)


@pytest.mark.parametrize(("n", "m"), [(4, 16), (2, 16), (2, 8), (2, 4)])
def test_an_n_of_m_pattern_costs_its_choices_and_no_more(n, m):
    array = n_of_m(np.random.default_rng(0), 64, 1024, n, m)
    ideal = array.size / m * (log2(comb(m, n)) + n)  # and a sign for each weight that is left
    assert len(pack_tensors({"a": array})) < 1.01 * ideal / 8 + 40


def test_blocks_of_zeros_cost_nothing_but_their_map():
    rng = np.random.default_rng(0)
    keep = rng.random((8, 256)) < 0.2
    weights = rng.integers(-127, 128, (128, 1024)).astype(np.int8)
    array = np.where(np.repeat(np.repeat(keep, 16, axis=0), 4, axis=1), weights, np.int8(0))
    entropy = log2(255)
    ideal = keep.sum() * 64 * entropy + keep.size * 0.722
    assert len(pack_tensors({"a": array})) < 1.015 * ideal / 8 + 60


@pytest.mark.parametrize("spread", [1.0, 8.0, 30.0])
def test_dense_weights_cost_their_entropy(spread):
    rng = np.random.default_rng(0)
    array = np.clip(np.rint(rng.normal(size=(64, 1024)) * spread), -127, 127).astype(np.int8)
    share = np.unique(array, return_counts=True)[1] / array.size
    ideal = -(share * np.log2(share)).sum() * array.size
    assert len(pack_tensors({"a": array})) < 1.012 * ideal / 8 + 60


def test_rows_of_different_scale_get_models_of_their_own():
    rng = np.random.default_rng(0)
    scale = np.repeat([2.0, 30.0], 32)[rng.permutation(64)]
    array = np.clip(np.rint(rng.normal(size=(64, 1024)) * scale[:, None]), -127, 127).astype(np.int8)
    own = sum(len(pack_tensors({"a": array[scale == s]})) for s in (2.0, 30.0))
    assert len(pack_tensors({"a": array})) < 1.01 * own


def test_a_codebook_costs_the_number_of_its_entries():
    rng = np.random.default_rng(0)
    entries = np.sort(rng.choice(np.arange(-127, 128), 16, replace=False)).astype(np.int8)
    array = entries[rng.integers(0, 16, (64, 1024))]
    assert len(pack_tensors({"a": array})) < 1.02 * array.size / 2 + 60


def test_a_small_tensor_costs_little_more_than_its_bits():
    array = np.random.default_rng(0).integers(-1, 2, (10, 50)).astype(np.int8)
    assert len(pack_tensors({"fc.weight": array})) < 500 * log2(3) / 8 + 60


def test_generated_slices_are_not_stored():
    real = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28)).astype(np.uint8)
    made = generated((2, 1, 28, 28), np.dtype(np.uint8))
    both = np.concatenate([real, made])
    assert len(pack_tensors({"i0": both})) - len(pack_tensors({"i0": real})) < 8
    assert len(pack_tensors({"i0": made})) < 40
    for array in (both, made, generated((4, 5), np.dtype(np.int16)), np.concatenate([made, real]), made.reshape(-1)):
        same({"i0": array}, read_pack(pack_tensors({"i0": array})))


def test_the_generated_bytes_are_those_of_the_specification():
    def byte(i: int) -> int:
        x = i * 0x9E3779B9 % 2**32
        x = (x ^ x >> 16) * 0x7FEB352D % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        return (x ^ x >> 16) >> 24

    made = generated((5000,), np.dtype(np.uint8))
    assert made.tolist() == [byte(i) for i in range(5000)]
    assert np.bincount(made, minlength=256).min() > 5


# --- models ---


@st.composite
def models(draw) -> Model:
    if draw(st.booleans()):
        lo, *listed, hi = sorted(draw(st.sets(st.integers(-128, 127), min_size=3, max_size=200)))
        return Model(lo, hi, False, False, tuple(draw(st.lists(
            st.integers(0, 255), min_size=len(listed) + 2, max_size=len(listed) + 2))), tuple(listed))  # fmt: skip
    lo = draw(st.integers(-128, 127))
    hi = draw(st.integers(lo, 127))
    no_zero = draw(st.booleans()) and (lo, hi) != (0, 0)
    shape = Model(lo, hi, draw(st.booleans()), no_zero, ())
    return Model(lo, hi, shape.symmetric, no_zero, tuple(draw(st.lists(
        st.integers(0, 255), min_size=len(shape.positions()), max_size=len(shape.positions())))))  # fmt: skip


@given(models())
def test_every_model_has_frequencies_and_comes_back(model):
    frequencies = model.frequencies()
    symbols = [v for v in range(model.lo, model.hi + 1) if v or not model.no_zero]
    symbols = [model.lo, *model.listed, model.hi] if model.listed else symbols
    assert frequencies.sum() == 1 << 16
    assert (np.flatnonzero(frequencies) - 128).tolist() == symbols
    data = model.to_bytes()
    assert read_model(data + b"x", 0) == (model, len(data))


def test_a_fitted_model_is_near_the_counts():
    rng = np.random.default_rng(0)
    for symbols in (
        rng.normal(size=60000) * 40,
        rng.laplace(size=60000) * 3,
        rng.integers(-2, 3, 60000),
        3 * np.rint(rng.normal(size=60000) * 9),
    ):
        counts = np.bincount(np.clip(np.rint(symbols), -128, 127).astype(np.int64) + 128, minlength=256)
        share = counts[counts > 0] / counts.sum()
        frequencies = fitted(counts, refine=True).frequencies()[counts > 0] / 65536
        assert (share * np.log2(share / frequencies)).sum() < 0.01


# --- the stream ---


@FAST
@given(st.integers(1, 40), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_runs_of_any_length_on_any_lanes_come_back(lanes, n, seed):
    rng = np.random.default_rng(seed)
    frequencies = np.stack([Model(-3, 3, False, False, (0, 9, 80, 0, 3, 200, 1)).frequencies(),
                            Model(5, 5, False, False, ()).frequencies()])  # fmt: skip
    before = np.cumsum(frequencies, axis=1) - frequencies
    model = rng.integers(0, 2, n)
    symbols = np.where(model == 1, 5, rng.integers(-3, 4, n))
    amounts = rng.integers(1, 65537, n)
    numbers = rng.integers(0, amounts) if n else amounts
    runs = [(frequencies[model, symbols + 128], before[model, symbols + 128]), uniform_share(numbers, amounts)]
    stream = encode(runs, lanes)
    decoder = Decoder(memoryview(stream), lanes)
    assert decoder.symbols(Tables(frequencies), model).tolist() == symbols.tolist()
    assert decoder.uniform(amounts).tolist() == numbers.tolist()
    decoder.finish()
    for bad in (stream[:-2], stream + b"\0\0"):
        with pytest.raises(StreamFault):
            other = Decoder(memoryview(bad), lanes)
            other.symbols(Tables(frequencies), model)
            other.uniform(amounts)
            other.finish()


# --- hostile ---


@pytest.fixture(scope="module")
def victim() -> bytes:
    rng = np.random.default_rng(1)
    weights = n_of_m(rng, 16, 48, 4, 16) * rng.integers(1, 100, (16, 48)).astype(np.int8)
    tensors = {"w": weights, "b": rng.integers(-999, 999, 16).astype(np.int32), "lut": np.arange(256, dtype=np.uint8)}
    return pack_tensors({**tensors, "d": rng.integers(-9, 9, (4, 70)).astype(np.int8)})


def refused(data: bytes) -> bool:
    """Whether a reader refuses `data`; anything raised but a BundleError fails the test."""
    try:
        read_pack(data, where="m.tray, member weights/0")
    except BundleError as error:
        assert error.where == "m.tray, member weights/0"
        return True
    return False


def test_every_truncation_and_every_byte_more_is_refused(victim):
    assert not refused(victim)
    assert all(refused(victim[:length]) for length in [*range(80), *range(80, len(victim), 7), len(victim) - 1])
    assert refused(victim + b"\0") and refused(victim + b"\0\0")


def test_an_altered_stream_does_not_end_where_it_should(victim):
    found = bytearray(victim)
    for at in range(len(victim) - 300, len(victim), 3):
        found[at] ^= 0x10
        assert refused(bytes(found)), f"repro: byte {at}"
        found[at] ^= 0x10


@settings(FAST, max_examples=150)
@given(st.data())
def test_altered_packs_raise_only_bundle_errors(victim, data):
    found = bytearray(victim)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(found) - 1, 150)))
        found[at] = data.draw(st.sampled_from([0, 1, 2, 7, 16, 32, 63, 127, 128, 255]))
    refused(bytes(found))


@FAST
@given(st.binary(max_size=120))
def test_random_bytes_after_the_magic_raise_only_bundle_errors(data):
    refused(b"PJP1\x01\x00" + data)


def test_huge_shapes_are_refused_before_any_memory_is_taken():
    for shape in (b"\xff\xff\xff\xff\x0f" * 8, b"\x80\x80\x80\x08" + b"\x01" * 7):
        record = b"\x01" + bytes([2 + 16 * 8]) + shape + b"\0"
        with pytest.raises(CorruptBundle, match="too large"):
            read_pack(b"PJP1\x01\x00\x02" + record + b"\0" * 40)


def test_a_newer_pack_asks_for_an_upgrade_and_anything_else_is_no_pack():
    with pytest.raises(UnsupportedBundle, match="unknown version"):
        read_pack(b"PJP2" + bytes(20))
    for data in (b"", b"PJ", b"\x80\x04\x95\x00", b"PJT1" + bytes(60)):
        with pytest.raises(CorruptBundle):
            read_pack(data)
