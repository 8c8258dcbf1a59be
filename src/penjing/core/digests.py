"""Content addresses: SHA-256 in lower-case hex, of bytes and of arrays."""

import hashlib

import numpy as np


def digest_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_array(array: np.ndarray) -> str:
    """SHA-256 over dtype, shape and little-endian contents."""
    fixed = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    digest = hashlib.sha256(f"{fixed.dtype.str}{list(fixed.shape)}".encode())
    digest.update(fixed.data)
    return digest.hexdigest()
