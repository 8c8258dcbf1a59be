"""Every error that penjing raises on purpose.

    PenjingError
    +-- InvalidInput          an array, image or option that does not fit: shape, dtype, NaN, range
    +-- InvalidGraph          a graph that breaks a rule of its stage
    |   +-- TextSyntaxError   a text form that does not parse
    +-- UnsupportedOp         operators that no stage can carry
    +-- ParityError           an imported graph that disagrees with its source model
    +-- CalibrationError      calibration data that cannot give ranges
    +-- QuantizationError     numbers that cannot become integers exactly
    +-- PruningError          a pruning request that removes nothing or everything
    +-- ToolchainError        a compiler that is missing or refuses
    |   +-- MissingCompiler
    |   +-- CompileError
    +-- BundleError           a tray that cannot be trusted or read
    |   +-- CorruptBundle     truncated, altered, or not a tray
    |   +-- UnsupportedBundle a format version or feature this release does not know
    +-- OutputExists          a file that would be overwritten
    +-- WriteFailed           a disk that is full, read-only or gone
    +-- MissingData           a data set that is not on this machine
    +-- MissingDependency     an optional library that is not installed

Each carries what happened, where (node and source line, or file), what to do about it, and the slug of a page in
`docs/errors/`.
"""

from typing import ClassVar


class PenjingError(Exception):
    """Base of all deliberate errors.

    Args:
        what: one sentence, what is wrong.
        where: the node and its source line, or the file and offset.
        hint: what the user can do about it.
    """

    slug: ClassVar[str] = "penjing-error"

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  at   {self.where}")
        if self.hint is not None:
            lines.append(f"  try  {self.hint}")
        lines.append(f"  see  docs/errors/{self.slug}.md")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str | None]:
        """The same, for `--json`."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "hint": self.hint,
            "slug": self.slug,
        }


class InvalidInput(PenjingError):
    """An array, image or option that does not fit."""

    slug = "invalid-input"


class InvalidGraph(PenjingError):
    """A graph that breaks a rule of its stage."""

    slug = "invalid-graph"


class TextSyntaxError(InvalidGraph):
    """A text form that does not parse."""

    slug = "text-syntax-error"


class UnsupportedOp(PenjingError):
    """Operators that no stage can carry."""

    slug = "unsupported-op"


class ParityError(PenjingError):
    """An imported graph that disagrees with its source model."""

    slug = "parity-error"


class CalibrationError(PenjingError):
    """Calibration data that cannot give ranges."""

    slug = "calibration-error"


class QuantizationError(PenjingError):
    """Numbers that cannot become integers exactly."""

    slug = "quantization-error"


class PruningError(PenjingError):
    """A pruning request that removes nothing or everything."""

    slug = "pruning-error"


class ToolchainError(PenjingError):
    """A compiler that is missing or refuses."""

    slug = "toolchain-error"


class MissingCompiler(ToolchainError):
    """No compiler for the target on this machine."""

    slug = "missing-compiler"


class CompileError(ToolchainError):
    """The compiler refused generated code: a defect of penjing or of the compiler."""

    slug = "compile-error"


class BundleError(PenjingError):
    """A tray that cannot be trusted or read."""

    slug = "bundle-error"


class CorruptBundle(BundleError):
    """Truncated, altered, or not a tray."""

    slug = "corrupt-bundle"


class UnsupportedBundle(BundleError):
    """A format version or feature that this release does not know."""

    slug = "unsupported-bundle"


class OutputExists(PenjingError):
    """A file that would be overwritten."""

    slug = "output-exists"


class WriteFailed(PenjingError):
    """A disk that is full, read-only or gone."""

    slug = "write-failed"


class MissingData(PenjingError):
    """A data set that is not on this machine."""

    slug = "missing-data"


class MissingDependency(PenjingError):
    """An optional library that is not installed."""

    slug = "missing-dependency"
