"""Tensor members: exact round trips, read-only views, and nothing hostile gets through."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from penjing.bundle import pack_tensor, read_tensor
from penjing.bundle.tensors import tensor_digest
from penjing.core.errors import BundleError, CorruptBundle, InvalidInput, UnsupportedBundle

DTYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=8, min_side=1, max_side=3)


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)))
def test_a_tensor_comes_back_bit_for_bit(array):
    again = read_tensor(pack_tensor(array))
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert not again.flags.writeable


def test_the_elements_start_after_64_bytes_and_are_little_endian():
    data = pack_tensor(np.array([[1, -2]], np.int16))
    assert data == b"PJT1" + bytes([3, 2, 0, 0]) + struct.pack("<8I", 1, 2, *[0] * 6) + bytes(24) + b"\1\0\xfe\xff"


def test_byte_order_and_strides_do_not_change_a_byte():
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    expected = pack_tensor(np.ascontiguousarray(array.transpose(2, 0, 1)))
    assert pack_tensor(array.transpose(2, 0, 1)) == expected
    assert pack_tensor(array.astype(">i4").transpose(2, 0, 1)) == expected


def test_equal_tensors_have_equal_digests_and_others_do_not():
    zeros = np.zeros((2, 3), np.uint8)
    digests = [zeros, zeros.copy(), zeros.reshape(3, 2), zeros.astype(np.int8), zeros.reshape(6)]
    assert len({tensor_digest(pack_tensor(array)) for array in digests}) == 4


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.float64),
        np.zeros(3, np.int64),
        np.zeros(3, np.uint16),
        np.zeros(3, bool),
        np.zeros(3, np.complex64),
        np.array(["a"]),
        np.array([object()]),
        np.zeros((2, 0), np.uint8),
        np.zeros((1,) * 9, np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_what_a_tensor_cannot_hold_is_not_written(array):
    with pytest.raises(InvalidInput):
        pack_tensor(array)


def header(magic=b"PJT1", code=1, n_dims=1, encoding=0, zero=0, dims=(4,), tail=bytes(24)):
    return struct.pack("<4s4B8I", magic, code, n_dims, encoding, zero, *dims, *[0] * (8 - len(dims))) + tail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PJT1",
        header()[:63],
        header(),
        header() + b"123",
        header() + b"12345",
        header(magic=b"PJT2") + b"1234",
        header(magic=b"\x80\x04\x95\x00") + b"1234",
        header(code=0) + b"1234",
        header(code=6) + b"1234",
        header(code=5) + b"1234",
        header(n_dims=9) + b"1234",
        header(n_dims=255) + b"1234",
        header(n_dims=0) + b"1234",
        header(n_dims=2) + b"1234",
        header(zero=1) + b"1234",
        header(dims=(4, 1)) + b"1234",
        header(tail=bytes(23) + b"\1") + b"1234",
        header(n_dims=8, dims=(2**32 - 1,) * 8) + b"1234",
        header(n_dims=2, dims=(2**31, 2**31)) + b"1234",
        header(n_dims=4, dims=(2**16,) * 4),  # the product is 0 modulo 2^64
        header(dims=(0,)),
        header(n_dims=3, dims=(0, 2**32 - 1, 2**32 - 1)),
    ],
    ids=lambda data: data[:20].hex() + f"+{len(data)}",
)
def test_a_hostile_tensor_is_refused(data):
    with pytest.raises(CorruptBundle) as caught:
        read_tensor(data, where="m.tray, member weights/0")
    assert caught.value.where == "m.tray, member weights/0"


def test_an_unknown_encoding_asks_for_an_upgrade():
    with pytest.raises(UnsupportedBundle, match="encoding 1"):
        read_tensor(header(encoding=1) + b"1234")


@given(st.binary(max_size=90))
def test_random_bytes_after_the_magic_raise_only_bundle_errors(data):
    try:
        array = read_tensor(b"PJT1" + data)
    except BundleError:
        return
    assert pack_tensor(array) == b"PJT1" + data
