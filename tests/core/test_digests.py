"""Content addresses depend on what an array holds and on nothing else."""

import hashlib

import numpy as np
import pytest

from penjing.core.digests import digest_array, digest_bytes


def test_bytes_are_addressed_by_their_sha_256():
    assert digest_bytes(b"") == hashlib.sha256(b"").hexdigest()
    assert digest_bytes(memoryview(b"penjing")) == hashlib.sha256(b"penjing").hexdigest()


def test_an_array_is_addressed_by_dtype_shape_and_little_endian_contents():
    array = np.array([[1, -2, 3], [4, 5, 70000]], np.int32)
    want = hashlib.sha256(b"<i4[2, 3]" + array.astype("<i4").tobytes()).hexdigest()
    assert digest_array(array) == want


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4"])
def test_neither_byte_order_nor_memory_layout_matters(dtype):
    array = np.arange(24).astype(dtype).reshape(2, 3, 4)
    same = [
        array.astype(array.dtype.newbyteorder(">")),
        np.asfortranarray(array),
        np.repeat(array, 2, axis=2)[:, :, ::2],
        array[::-1][::-1],
    ]
    assert {digest_array(other) for other in same} == {digest_array(array)}


def test_equal_bytes_under_another_shape_or_dtype_have_another_address():
    array = np.arange(4, dtype=np.uint8)
    others = [array.reshape(2, 2), array.reshape(1, 4), array.astype(np.int8), array.view(np.int16), array.view("<f4")]
    assert len({digest_array(other) for other in [array, *others]}) == 6


def test_a_scalar_and_an_empty_array_have_addresses_of_their_own():
    shapes = [(), (1,), (0,), (0, 2)]
    assert len({digest_array(np.zeros(shape, np.float32)) for shape in shapes}) == 4


def test_every_bit_counts():
    zero, minus_zero = np.float32([0.0]), np.float32([-0.0])
    assert digest_array(zero) != digest_array(minus_zero)
