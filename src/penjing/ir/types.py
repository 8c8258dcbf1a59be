"""What a value is: shape, dtype and quantization; torch-free and free of any operator's meaning."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np

MAX_RANK = 6


class DType(StrEnum):
    """Element types, spelled as in the text form."""

    F32 = "f32"
    U8 = "u8"
    S8 = "s8"
    S16 = "s16"
    S32 = "s32"

    @property
    def numpy(self) -> "np.dtype[Any]":
        """The little-endian numpy dtype."""
        return _NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return int(self.numpy.itemsize)

    @classmethod
    def of(cls, array: np.ndarray) -> "DType":
        """The DType of a numpy array; KeyError when there is none."""
        return _FROM_NUMPY[array.dtype.newbyteorder("=")]


_NUMPY: dict[DType, "np.dtype[Any]"] = {
    DType.F32: np.dtype("<f4"),
    DType.U8: np.dtype("u1"),
    DType.S8: np.dtype("i1"),
    DType.S16: np.dtype("<i2"),
    DType.S32: np.dtype("<i4"),
}
_FROM_NUMPY: dict["np.dtype[Any]", DType] = {dtype.newbyteorder("="): name for name, dtype in _NUMPY.items()}


@dataclass(frozen=True)
class Dim:
    """A symbolic extent: its actual value is known at run time and never exceeds `max`, for which code is generated."""

    name: str
    max: int

    def __str__(self) -> str:
        return f"{self.name}<={self.max}"


Extent = int | Dim
Shape = tuple[Extent, ...]

LENGTH = "length"  # the name of a Dim for the steps of a sequence, of which every sample may have others


def is_length(extent: object) -> TypeGuard[Dim]:
    """Whether an extent is the length of a sequence."""
    return isinstance(extent, Dim) and extent.name == LENGTH


def is_batch(extent: object) -> TypeGuard[Dim]:
    """Whether an extent counts samples: those that are symbolic and no length do."""
    return isinstance(extent, Dim) and extent.name != LENGTH


def bound(extent: Extent) -> int:
    """The extent that code is generated for."""
    return extent.max if isinstance(extent, Dim) else extent


def bounds(shape: Shape) -> tuple[int, ...]:
    """`bound` of every extent."""
    return tuple(bound(extent) for extent in shape)


@dataclass(frozen=True)
class Quant:
    """real = scale * (q - zero_point), per tensor (`axis` None, one scale) or per slice along `axis`.

    Scales are float32 values; symmetric quantization has zero_point 0.
    """

    scales: tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None

    @property
    def scale(self) -> np.float32:
        """The one scale of a per-tensor quantization."""
        if self.axis is not None:
            raise ValueError("a per-channel quantization has no single scale")
        return np.float32(self.scales[0])

    def scale_array(self) -> np.ndarray:
        """All scales, float32, shape (n,)."""
        return np.asarray(self.scales, dtype=np.float32)


@dataclass(frozen=True)
class Type:
    """Shape, element type and, where codes stand for reals, their quantization."""

    shape: Shape
    dtype: DType = DType.F32
    quant: Quant | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """The shape with every symbolic extent at its bound."""
        return bounds(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements at the bound."""
        return math.prod(self.bounds)

    @property
    def nbytes(self) -> int:
        """Bytes at the bound."""
        return self.elements * self.dtype.itemsize

    def with_shape(self, shape: Shape) -> "Type":
        """The same type with another shape."""
        return Type(shape, self.dtype, self.quant)

    def with_quant(self, quant: Quant | None) -> "Type":
        """The same type with another quantization."""
        return Type(self.shape, self.dtype, quant)

    @property
    def follows_length(self) -> bool:
        """Whether an extent is the length of a sequence."""
        return any(map(is_length, self.shape))

    def at_length(self, n: int) -> "Type":
        """The same type for sequences of at most `n` steps."""
        if not self.follows_length:
            return self
        return self.with_shape(tuple(Dim(LENGTH, n) if is_length(extent) else extent for extent in self.shape))

    def matches(self, shape: tuple[int, ...]) -> bool:
        """Whether a concrete array shape fits: a batch may be 1 or more, a length up to its bound."""
        return len(shape) == self.rank and all(map(_fits, self.shape, shape))


def _fits(extent: Extent, n: int) -> bool:
    if isinstance(extent, int):
        return n == extent
    return n >= 1 and (is_batch(extent) or n <= extent.max)


class Encoding(StrEnum):
    """How a constant's numbers are stored, independent of the operator that reads them."""

    DENSE = "dense"
    PACKED4 = "packed4"
    CODEBOOK = "codebook"
    N_OF_M = "n_of_m"
    BLOCKS = "blocks"


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor known at build time. `array` is read-only.

    Floats with a `quant` lie on its grid: array = scale * code with int8 codes. Passes that choose how weights are
    rounded leave them so, and whoever changes such floats afterwards leaves `quant` out.
    """

    array: np.ndarray
    encoding: Encoding = Encoding.DENSE
    quant: Quant | None = None

    def __post_init__(self) -> None:
        frozen = np.ascontiguousarray(self.array).reshape(self.array.shape)
        if frozen.flags.writeable:
            frozen = frozen.copy()
            frozen.flags.writeable = False
        object.__setattr__(self, "array", frozen)

    @property
    def type(self) -> Type:
        """The type that operators see."""
        return Type(tuple(int(n) for n in self.array.shape), DType.of(self.array), self.quant)


@dataclass(frozen=True)
class State:
    """A value carried from one call to the next: read as `name`, replaced by the value `update` when the call ends.

    The first call reads `initial` everywhere, or of a tuple one number for each element of a sample.
    """

    type: Type
    update: str
    initial: float | tuple[float, ...] = 0.0


@dataclass(frozen=True)
class Source:
    """Where a node came from: the user's file and line, and the operator of the source framework."""

    file: str = ""
    line: int = 0
    origin: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else ""
        return ", ".join(part for part in (place, f"from {self.origin}" if self.origin else "") if part)


NOWHERE = Source()


@dataclass
class Names:
    """Hands out value names that are unique within one graph."""

    taken: set[str] = field(default_factory=set)

    def fresh(self, stem: str) -> str:
        """`stem`, or `stem_1`, `stem_2`, ... when it is taken."""
        name, n = stem, 0
        while name in self.taken:
            n += 1
            name = f"{stem}_{n}"
        self.taken.add(name)
        return name
