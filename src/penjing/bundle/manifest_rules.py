"""Rules between the fields of a manifest, beyond their types.

Each rule keeps a reader from trusting a number that another part of the file contradicts: members that nothing names,
names that lead nowhere, a content address that differs from the digest, shapes and normalisation that do not fit. All
faults are `JsonError`; the caller turns them into the error of its side.
"""

import math
import re
from collections.abc import Iterable, Sequence

from penjing.bundle.coding.head import MAX_DIMS
from penjing.bundle.names import component_fault, line_fault
from penjing.bundle.schema import Accuracy, InputSpec, Manifest, OutputSpec, TargetBuild, Variant
from penjing.bundle.strict_json import JsonError

CODE_RANGES = {"u8": (0, 255), "s8": (-128, 127), "s16": (-32768, 32767)}
COLORS = {"rgb": 3, "gray": 1}
MAX_THREADS = 8
MAX_ELEMENTS = 1 << 31  # of one sample
_MAX_ROWS = 1 << 31
FLOAT32_MAX = (2.0 - 2.0**-23) * 2.0**127
FLOAT32_TINY = 2.0**-126  # smallest normal: below it, CPUs that flush to zero would disagree

# Folder -> whether every member in it must be named by a variant or target.
_FOLDERS = {"program": True, "weights": True, "golden": True, "lib": True, "src": False}
REPORTS = ("record.json", "report.html")
ADDRESS_DIGITS = 16  # of a digest: names, which nobody has to trust
_ADDRESSED = ("weights", "golden")
_SHA256 = re.compile("[0-9a-f]{64}")
_LAYOUT = re.compile("N[A-Z]*")


def check_manifest(manifest: Manifest) -> None:
    """Raise `JsonError` for the first rule that `manifest` breaks."""
    _require(list(manifest.requires) == sorted(set(manifest.requires)), "it is not sorted and unique", "requires")
    _check_component(manifest.name, "name")
    for key in manifest.card:
        _check_line(key, "card")
    _check_specs(manifest)
    _check_members(manifest)
    _require(bool(manifest.variants), "a tray needs a variant", "variants")
    for name, variant in manifest.variants.items():
        _check_component(name, "variants")
        _check_variant(manifest, name, variant)
    for target, builds in manifest.targets.items():
        _check_component(target, "targets")
        _require(bool(builds), "a target needs a library", f"targets.{target}")
        for variant_name, build in builds.items():
            _check_build(manifest, target, variant_name, build)
    _check_all_named(manifest)


def _check_specs(manifest: Manifest) -> None:
    groups: dict[str, Sequence[InputSpec | OutputSpec]] = {"inputs": manifest.inputs, "outputs": manifest.outputs}
    for group, specs in groups.items():
        _require(bool(specs), "a model needs at least one", group)
        names = [spec.name for spec in specs]
        _require(len(set(names)) == len(names), "two have the same name", group)
        for i, spec in enumerate(specs):
            _check_tensor(spec, f"{group}[{i}]")
    _check_length(manifest)
    for i, input_spec in enumerate(manifest.inputs):
        _check_normalisation(input_spec, f"inputs[{i}]")
    for i, output in enumerate(manifest.outputs):
        if output.labels is not None:
            path = f"outputs[{i}].labels"
            _require(len(output.labels) in output.shape[1:], "their number is no dimension of the output", path)
            for label in output.labels:
                _check_line(label, path)


def _check_tensor(spec: InputSpec | OutputSpec, path: str) -> None:
    _check_line(spec.name, f"{path}.name")
    _require(1 <= len(spec.shape) <= MAX_DIMS, f"it has not 1 to {MAX_DIMS} dimensions", f"{path}.shape")
    _require(spec.shape[0] == 1, "the first dimension of one sample is 1", f"{path}.shape")
    _require(min(spec.shape) >= 1, "a dimension is below 1", f"{path}.shape")
    axes = list(spec.length_axes)
    known = axes == sorted(set(axes)) and all(1 <= axis < len(spec.shape) for axis in axes)
    _require(known, "they are not dimensions of a sample in ascending order", f"{path}.length_axes")
    _require(math.prod(spec.shape) <= MAX_ELEMENTS, f"it has more than {MAX_ELEMENTS} elements", f"{path}.shape")
    if isinstance(spec, InputSpec) and spec.dtype == "s32":
        _check_ids(spec, path)
        return
    _require(spec.dtype == "f32", f"{spec.dtype[:20]!a} is not f32", f"{path}.dtype")
    _require(spec.code_dtype in CODE_RANGES, f"{spec.code_dtype[:20]!a} is not a code type", f"{path}.code_dtype")
    low, high = CODE_RANGES[spec.code_dtype]
    _require(low <= spec.zero_point <= high, f"it is outside {low}..{high}", f"{path}.zero_point")
    _require(FLOAT32_TINY <= spec.scale <= FLOAT32_MAX, "it is no positive, normal float32", f"{path}.scale")


def _check_ids(spec: InputSpec, path: str) -> None:
    low, high = spec.value_range
    fits = (spec.code_dtype, spec.scale, spec.zero_point, low) == ("s32", 1, 0, 0)
    _require(fits, "ids are s32, their own codes, and count from 0", path)
    _require(high == int(high) and high < _MAX_ROWS, "ids end at a whole number", f"{path}.value_range")
    _require(spec.mean is None and spec.std is None and spec.color is None, "ids are not normalised", path)


def _check_length(manifest: Manifest) -> None:
    """One length for all, which can be read from an input."""
    specs: list[InputSpec | OutputSpec] = [*manifest.inputs, *manifest.outputs]
    bounds = {spec.shape[axis] for spec in specs for axis in spec.length_axes}
    _require(len(bounds) <= 1, f"sequences have different bounds: {sorted(bounds)}", "inputs")
    told = not bounds or any(spec.length_axes for spec in manifest.inputs)
    _require(told, "it follows a length that no input has", "outputs")


def _check_normalisation(spec: InputSpec, path: str) -> None:
    fits = _LAYOUT.fullmatch(spec.layout) is not None and len(set(spec.layout)) == len(spec.layout)
    _require(fits, "it is not N followed by other, different capital letters", f"{path}.layout")
    _require(len(spec.layout) == len(spec.shape), "it has not one letter per dimension", f"{path}.layout")
    channels = spec.shape[spec.layout.index("C")] if "C" in spec.layout else None
    for key, values in (("mean", spec.mean), ("std", spec.std)):
        _require(values is None or len(values) == channels, "it has not one value per channel", f"{path}.{key}")
        for value in values or ():
            _require(abs(value) <= FLOAT32_MAX, "a value is no float32", f"{path}.{key}")
    for value in spec.std or ():
        _require(value >= FLOAT32_TINY, "a value is not above 0", f"{path}.std")
    low, high = spec.value_range
    _require(-FLOAT32_MAX <= low < high <= FLOAT32_MAX, "it is not [low, high]", f"{path}.value_range")
    if spec.color is not None:
        _require(spec.color in COLORS, f"{spec.color[:20]!a} is not rgb or gray", f"{path}.color")
        _require(channels == COLORS[spec.color], "it does not fit the number of channels", f"{path}.color")


def _check_members(manifest: Manifest) -> None:
    for name, info in manifest.members.items():
        path = f"members.{name}"
        _require(_SHA256.fullmatch(info.sha256) is not None, "it is not 64 lower-case hex digits", f"{path}.sha256")
        _require(info.bytes >= 0, "it is negative", f"{path}.bytes")
        folder, _, rest = name.partition("/")
        known = name in REPORTS or (bool(rest) and folder in _FOLDERS)
        _require(known, "a tray has no place for this member", path)
        if folder in _ADDRESSED:
            _require(rest == info.sha256[:ADDRESS_DIGITS], "the name is not the digest of the contents", path)


def _check_variant(manifest: Manifest, name: str, variant: Variant) -> None:
    path = f"variants.{name}"
    _require(variant.program == f"program/{name}", f"it is not program/{name}", f"{path}.program")
    _check_member(manifest, variant.program, "program", f"{path}.program")
    _check_member(manifest, variant.weights, "weights", f"{path}.weights")
    _check_member(manifest, variant.golden, "golden", f"{path}.golden")
    for key in ("arena_bytes", "session_bytes", "weights_bytes", "macs", "n_ops"):
        _require(getattr(variant, key) >= 0, "it is negative", f"{path}.{key}")
    if variant.accuracy is not None:
        _check_accuracy(variant.accuracy, f"{path}.accuracy")


def _check_accuracy(accuracy: Accuracy, path: str) -> None:
    _require(accuracy.low <= accuracy.value <= accuracy.high, "the value is outside its interval", path)
    _check_line(accuracy.metric, f"{path}.metric")
    _check_line(accuracy.dataset, f"{path}.dataset")
    _require(accuracy.n >= 1, "it is below 1", f"{path}.n")


def _check_build(manifest: Manifest, target: str, variant: str, build: TargetBuild) -> None:
    path = f"targets.{target}.{variant}"
    _require(variant in manifest.variants, "there is no such variant", path)
    _check_member(manifest, build.library, f"lib/{target}", f"{path}.library")
    _require(build.flash_bytes >= 0, "it is negative", f"{path}.flash_bytes")
    _require(build.stack_bytes is None or build.stack_bytes >= 0, "it is negative", f"{path}.stack_bytes")
    _require(build.arena_bytes >= 0, "it is negative", f"{path}.arena_bytes")
    _require(build.packed_bytes >= 0, "it is negative", f"{path}.packed_bytes")
    _require(bool(_SHA256.fullmatch(build.packed_digest)), "it is no SHA-256 digest", f"{path}.packed_digest")
    _require(1 <= build.threads <= MAX_THREADS, f"it is not within 1..{MAX_THREADS}", f"{path}.threads")
    for layer, tile in build.tiles.items():
        _check_line(layer, f"{path}.tiles")
        fits = tile[0] >= 1 and tile[1] >= 0 and min(tile[2:]) >= 1
        _require(fits, "it is not pixels, pixels, rows, columns", f"{path}.tiles.{layer}")
    _check_line(build.compiler, f"{path}.compiler")
    _require(build.abi >= 1, "it is below 1", f"{path}.abi")


def _check_member(manifest: Manifest, member: str, folder: str, path: str) -> None:
    _require(member.startswith(f"{folder}/"), f"{member[:80]!a} is not in {folder}/", path)
    _require(member in manifest.members, f"{member[:80]!a} is not listed in members", path)


def _check_all_named(manifest: Manifest) -> None:
    """Refuse content that no variant or target leads to: it could only be there to be found by something else."""
    named = set(_named_members(manifest))
    for member in manifest.members:
        must_be_named = _FOLDERS.get(member.partition("/")[0], False)
        _require(member in named or not must_be_named, "no variant or target uses this member", f"members.{member}")


def _named_members(manifest: Manifest) -> Iterable[str]:
    for variant in manifest.variants.values():
        yield from (variant.program, variant.weights, variant.golden)
    for builds in manifest.targets.values():
        yield from (build.library for build in builds.values())


def _check_component(text: str, path: str) -> None:
    fault = component_fault(text)
    _require(fault is None, str(fault), path)


def _check_line(text: str, path: str) -> None:
    fault = line_fault(text)
    _require(fault is None, str(fault), path)


def _require(holds: bool, otherwise: str, path: str) -> None:
    if not holds:
        raise JsonError(otherwise, path)
