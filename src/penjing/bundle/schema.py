"""The fields of a manifest: a dataclass is an object of `manifest.json`, a field is a key, and there are no others.

Types are exact (`strict_json`), rules between fields are in `manifest_rules`; `docs/spec/bundle.md` has an example.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class InputSpec:
    """One input of the model.

    A raw value x in `value_range` becomes the real input (x - mean) / std in float32, per channel of `layout`, and then
    the code rne(clamp(real / scale)) + zero_point.

    Attributes:
        name: unique among the inputs.
        shape: of one sample, with a leading 1.
        dtype: of the real values: f32; or s32 of ids, the numbers of rows in a table, which are their own codes.
        layout: one letter per dimension, N first: NCHW, NCL, NC, ...
        scale: real step of one code, rounded to float32 by the reader.
        zero_point: the code of real zero.
        code_dtype: of the codes: u8, s8 or s16; s32 of ids.
        mean: per channel, in units of `value_range`; None for 0.
        std: per channel, in units of `value_range`; None for 1.
        value_range: [low, high] of raw values, such as 0..1 for pixels divided by 255; of ids, 0 and the last row.
        color: "rgb" or "gray" for pictures, else None.
        length_axes: dimensions that are the length of a sequence, which may be anything from 1 to what `shape` says.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    scale: float
    zero_point: int
    code_dtype: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    value_range: tuple[float, float]
    color: str | None
    length_axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class OutputSpec:
    """One output of the model: real = scale * (code - zero_point).

    `labels` name the entries of one dimension; `length_axes` as of an input.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    code_dtype: str
    labels: tuple[str, ...] | None
    length_axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Accuracy:
    """A measured accuracy with its 95 % interval [low, high] over `n` samples of `dataset`."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    dataset: str


@dataclass(frozen=True)
class Variant:
    """One integer form of the model: members with its program, its tensors and its self-test, and its costs."""

    program: str
    weights: str
    golden: str
    arena_bytes: int
    session_bytes: int
    weights_bytes: int
    macs: int
    n_ops: int
    accuracy: Accuracy | None


@dataclass(frozen=True)
class TargetBuild:
    """One compiled library of one variant.

    Attributes:
        library: its member, under `lib/<target>/`.
        standalone: True when the weights are embedded, False when the caller hands them over.
        flash_bytes: code and constants as the target stores them.
        stack_bytes: deepest stack of a run, or None where it is not known.
        compiler: name and version, for people.
        abi: version of the C interface, 1 or more.
        arena_bytes: working memory that this library needs.
        packed_bytes: the weights as this library reads them, linked into it or handed to each call.
        packed_digest: SHA-256 of these weights, 64 lower-case hex digits.
        threads: how many threads may work on one call, 1 or more.
        tiles: convolutions that are cut in another way than by the rule: the name of the output -> most pixels in a
            tile of one vector, and of two, rows and columns in a band. For whoever builds again; loading needs none.
    """

    library: str
    standalone: bool
    flash_bytes: int
    stack_bytes: int | None
    compiler: str
    abi: int
    arena_bytes: int
    packed_bytes: int
    packed_digest: str
    threads: int
    tiles: Mapping[str, tuple[int, int, int, int]]


@dataclass(frozen=True)
class MemberInfo:
    """SHA-256 (64 lower-case hex digits) and size of one member."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`.

    Attributes:
        format: version of this document, `penjing.bundle.manifest.FORMAT`.
        name: of the model; a plain name (`names.component_fault`).
        requires: features that a reader must know, sorted.
        card: the model card: description, task, source, license, recipe, created_by, notes, ...
        variants: by name.
        targets: target name -> variant name -> library.
        members: every member except `manifest.json` itself and signatures.
    """

    format: int
    name: str
    requires: tuple[str, ...]
    card: Mapping[str, str]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    variants: Mapping[str, Variant]
    targets: Mapping[str, Mapping[str, TargetBuild]]
    members: Mapping[str, MemberInfo]
