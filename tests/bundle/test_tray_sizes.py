"""What a tray of a small network costs beside its weights, and that texts lose nothing on the way."""

import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.bundle import Golden, generated, read_tray
from penjing.bundle.coding.deflate import DeflateFault, deflate, inflate
from penjing.bundle.pack import TrayParts, pack_tray
from penjing.bundle.program_text import ProgramFault, pack_program, read_program
from penjing.core.digests import digest_array
from penjing.core.errors import CorruptBundle

CONSTANT = "  const %conv{0}.weight.q : s8[8, 5, 5, 6] dense sha256:{1}\n"
NODE = "  %conv{0} = q_conv2d(%relu{0}, %conv{0}.weight.q) {{stride = [1, 1], x_zero = 12{0}}} : u8[n<=1, 24, 24, 6]\n"


def small_network(parts: TrayParts, seed: int = 0) -> TrayParts:
    """Five layers, 90 % of their weights zero, biases and multipliers, random codes in and out."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for i in range(5):
        codes = np.clip(np.rint(rng.normal(size=(32, 5, 5, 12)) * 3), -7, 7) * (rng.random((32, 5, 5, 12)) < 0.1)
        weights[f"conv{i}.weight.q"] = codes.astype(np.int8)
        weights[f"conv{i}.weight.q.bias"] = np.rint(rng.normal(size=32) * 900).astype(np.int32)
        weights[f"conv{i}.weight.q.multiplier"] = (np.exp(rng.normal(size=32) / 2) * 1e-3).astype(np.float32)
    digests = [digest_array(array) for array in weights.values()]
    text = "penjing 1\n" + "".join(CONSTANT.format(i, digest) for i, digest in enumerate(digests))
    text += "".join(NODE.format(i) for i in range(9))
    inputs = generated((3, 1, 28, 28), np.dtype(np.uint8))
    golden = Golden((inputs,), (rng.integers(0, 256, (3, 10)).astype(np.uint8),))
    variant = dataclasses.replace(parts.variants["w8a8"], program=text, weights=weights, golden=golden)
    image = dataclasses.replace(parts.inputs[0], shape=(1, 1, 28, 28))
    labels = tuple(map(str, range(10)))
    scores = dataclasses.replace(parts.outputs[0], shape=(1, 10), labels=labels)
    return dataclasses.replace(
        parts, variants={"w8a8": variant}, inputs=(image,), outputs=(scores,), libraries={}, sources={}, reports={}
    )


def test_a_tray_costs_at_most_3_kb_beside_its_weights(parts):
    small = small_network(parts)
    data = pack_tray(small)
    tray = read_tray(data)
    pack = len(tray.members[tray.variant("w8a8").weights])
    assert pack < 7500  # 48,000 weights: 0.469 bits for a zero flag, 3 for a code; and 5 bytes for bias and multiplier
    assert len(data) - pack < 3072
    assert tray.program_text("w8a8") == small.variants["w8a8"].program
    np.testing.assert_array_equal(tray.golden("w8a8").inputs[0], small.variants["w8a8"].golden.inputs[0])


def test_digests_that_a_reader_can_compute_are_not_stored(parts):
    variant = small_network(parts).variants["w8a8"]
    member = pack_program(variant.program, variant.weights)
    assert b"sha256:=" in zlib.decompress(member, -15)
    assert read_program(member, variant.weights) == variant.program
    # 15 digests of 64 digits, which no compression makes smaller than 32 bytes each
    assert len(member) < len(deflate(variant.program.encode())) - 15 * 32


@pytest.mark.parametrize("change", [
    lambda text: text.replace("sha256:", "sha256:0", 1)[:-1], lambda text: text + "sha256:" + "0" * 64,
    lambda text: text + "sha256:=", lambda text: "", lambda text: text.replace("sha256:", "sha1:"),
])  # fmt: skip
def test_a_program_with_other_digests_is_stored_as_it_is(parts, change):
    variant = small_network(parts).variants["w8a8"]
    text = change(variant.program)
    if "sha256:=" in text:
        with pytest.raises(ProgramFault):
            read_program(pack_program(text, variant.weights), variant.weights)
    else:
        assert read_program(pack_program(text, variant.weights), variant.weights) == text


def test_a_program_that_lacks_more_digests_than_there_are_tensors_is_refused(parts):
    small = small_network(parts)
    variant = dataclasses.replace(small.variants["w8a8"], program="sha256:= sha256:=")
    with pytest.raises(CorruptBundle, match="2 digests of 15 tensors"):
        read_tray(pack_tray(dataclasses.replace(small, variants={"w8a8": variant}))).program_text("w8a8")


# --- deflate ---

TEXTS = st.one_of(
    st.binary(max_size=400),
    st.lists(st.sampled_from([b"conv", b"weight.q", b" = [1, 1]\n", b"\0", b"sha256:"]), max_size=200).map(b"".join),
    st.integers(1, 60000).map(lambda n: b"ab" * (n // 2)),
)


@settings(deadline=None)
@given(TEXTS)
def test_zlib_reads_what_was_deflated(text):
    data = deflate(text)
    assert zlib.decompress(data, -15) == text
    assert inflate(data, len(text)) == text


def test_codes_of_very_different_lengths_stay_within_15_bits():
    """Fibonacci frequencies make the deepest Huffman tree there is."""
    a, b, text = 1, 1, bytearray()
    for byte in range(23):
        text += bytes([byte]) * a + bytes([200 + byte])
        a, b = b, a + b
    assert zlib.decompress(deflate(bytes(text)), -15) == text


def test_text_is_about_as_small_as_zlib_makes_it(parts):
    text = "".join(NODE.format(i) for i in range(300)).encode()
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    assert len(deflate(text)) < 1.05 * len(coder.compress(text) + coder.flush())


@pytest.mark.parametrize(("data", "limit"), [
    (deflate(b"x" * 100), 99), (deflate(b"text") + b"\0", 99), (deflate(b"text" * 9)[:-1], 99), (b"", 9),
    (b"\xff\xff", 9),
    (deflate(b"\0" * 2_000_000), 1 << 20),
])  # fmt: skip
def test_hostile_streams_are_refused(data, limit):
    with pytest.raises(DeflateFault):
        inflate(data, limit)
