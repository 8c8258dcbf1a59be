"""The text of a program as a member: deflated, without the digests that a reader can compute from the tensors.

A program states the digest of each constant, `sha256:` and 64 digits, in the order of its tensors. Where they are those
of the tensors beside it, each is written `sha256:=` here.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from penjing.bundle.coding.deflate import deflate, inflate
from penjing.core.digests import digest_array

MAX_TEXT_BYTES = 16 << 20
_DIGEST = re.compile("sha256:([0-9a-f]{64})")
_LEFT_OUT = "sha256:="


class ProgramFault(ValueError):
    """A text that does not fit its tensors."""


def pack_program(text: str, tensors: Mapping[str, np.ndarray]) -> bytes:
    """The member of a program whose constants are `tensors`; UnicodeEncodeError for what is no text."""
    own = [digest_array(array) for array in tensors.values()]
    if own == _DIGEST.findall(text) and _LEFT_OUT not in text:
        text = _DIGEST.sub(_LEFT_OUT, text)
    return deflate(text.encode("utf-8"))


def read_program(member: bytes | memoryview, tensors: Mapping[str, np.ndarray]) -> str:
    """The text in `member`.

    Raises:
        DeflateFault: it is damaged or too long.
        UnicodeDecodeError: it is not UTF-8.
        ProgramFault: it leaves out the digests of more or fewer tensors than there are.
    """
    text = inflate(member, MAX_TEXT_BYTES).decode("utf-8")
    first, *rest = text.split(_LEFT_OUT)
    if not rest:
        return text
    if len(rest) != len(tensors):
        raise ProgramFault(f"a program leaves out {len(rest)} digests of {len(tensors)} tensors")
    return first + "".join(_restored(rest, tensors.values()))


def _restored(rest: list[str], arrays: Iterable[np.ndarray]) -> Iterable[str]:
    return (f"sha256:{digest_array(array)}{text}" for text, array in zip(rest, arrays, strict=True))
