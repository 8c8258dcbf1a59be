"""How `penjing inspect` shows a tray."""

from typing import Any

from rich.table import Table
from rich.text import Text

from penjing.bundle.schema import InputSpec, OutputSpec, Variant
from penjing.bundle.tray import Tray
from penjing.cli.output import macs_text, say, show, show_facts
from penjing.cli.verify import SelfTest
from penjing.measure.sizes import bytes_text

_MAX_LABELS = 12


def show_tray(tray: Tray, of_program: list[tuple[str, str]]) -> None:
    """Card, inputs, outputs, variants, what `of_program` says of the program, and libraries."""
    manifest = tray.manifest
    say(f"{manifest.name}  {bytes_text(tray.n_bytes)}, whole: every digest matches", style="bold")
    rows = [*sorted(manifest.card.items()), ("digest", f"sha256 {tray.manifest_digest[:32]}")]
    rows += [("input", _input(spec)) for spec in manifest.inputs]
    rows += [("output", _output(spec)) for spec in manifest.outputs]
    for name, variant in manifest.variants.items():
        rows += _variant(name, variant)
    rows += of_program
    for target, builds in manifest.targets.items():
        for name, entry in builds.items():
            form = "with the weights" if entry.standalone else "code only"
            of = "" if name == "default" else f", variant {name}"
            sizes = f"{bytes_text(entry.flash_bytes)}, {form}, arena {bytes_text(entry.arena_bytes)}"
            rows.append(("library", f"{target}{of}: {sizes}, by {entry.compiler}"))
    if not manifest.targets:
        rows.append(("library", "none; the interpreter runs it"))
    show_facts(rows)


def show_layers(rows: list[dict[str, Any]]) -> None:
    """Work and memory of every node, and their sums."""
    table = Table(
        box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False, show_footer=True, footer_style="dim"
    )
    table.add_column("  layer", footer="  all")
    table.add_column("operator")
    table.add_column("MACs", justify="right", footer=f"{sum(row['macs'] for row in rows):,}")
    table.add_column("bytes touched", justify="right", footer=f"{sum(row['bytes'] for row in rows):,}")
    for row in rows:
        table.add_row(Text(f"  {row['name']}"), Text(row["op"]), f"{row['macs']:,}", f"{row['bytes']:,}")
    say("")
    show(table)


def show_kernels(rows: list[dict[str, str]]) -> None:
    """Which kernel computes every node and where its output lies, and why a kernel that is preferred does not."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("  layer", "operator", "kernel", "output at", "why no other"):
        table.add_column(title)
    for row in rows:
        why = Text(row["why"], style="dim")
        table.add_row(Text(f"  {row['name']}"), Text(row["op"]), Text(row["kernel"]), Text(row["place"]), why)
    say("")
    show(table)


def show_self_test(found: SelfTest) -> None:
    """The verdict."""
    tried = f"{found.golden} golden and {found.random} random inputs by {found.engine}"
    if found.differing_bytes:
        say(f"self-test FAILED: {found.differing_bytes} bytes differ, {tried}", style="bold red")
    else:
        say(f"self-test passed: no byte differs, {tried}", style="green")


def _input(spec: InputSpec) -> str:
    if spec.dtype == "s32":
        return f"{spec.name}: {_shape(spec)} ids of 0 .. {spec.value_range[1]:g}; s32"
    prepared = [f"raw values {spec.value_range[0]:g} .. {spec.value_range[1]:g}"]
    prepared += [f"mean {_numbers(spec.mean)}"] if spec.mean else []
    prepared += [f"deviation {_numbers(spec.std)}"] if spec.std else []
    kind = f" {spec.color}" if spec.color else ""
    return f"{spec.name}: {_shape(spec)}{kind}; {', '.join(prepared)}; {_codes(spec)}"


def _output(spec: OutputSpec) -> str:
    text = f"{spec.name}: {_shape(spec)}; {_codes(spec)}"
    if not spec.labels:
        return text
    more = ", ..." if len(spec.labels) > _MAX_LABELS else ""
    return f"{text}; {len(spec.labels)} labels: {', '.join(spec.labels[:_MAX_LABELS])}{more}"


def _variant(name: str, variant: Variant) -> list[tuple[str, str]]:
    session = f"session {bytes_text(variant.session_bytes)}, " if variant.session_bytes else ""
    work = (
        f"weights {bytes_text(variant.weights_bytes)}, arena {bytes_text(variant.arena_bytes)}, {session}"
        f"{macs_text(variant.macs)}, {variant.n_ops} operators"
    )
    rows = [("variant", f"{name}: {work}")]
    if variant.accuracy is not None:
        a = variant.accuracy
        interval = f"{100 * a.low:.2f} .. {100 * a.high:.2f}"
        rows.append(("accuracy", f"{a.metric} {100 * a.value:.2f} % ({interval}) on {a.n} samples of {a.dataset}"))
    return rows


def _codes(spec: InputSpec | OutputSpec) -> str:
    return f"{spec.code_dtype} codes, scale {spec.scale:.6g}, zero {spec.zero_point}"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _shape(spec: InputSpec | OutputSpec) -> str:
    """1x1..128x384: a range is the length of a sequence."""
    return "x".join(f"1..{n}" if axis in spec.length_axes else str(n) for axis, n in enumerate(spec.shape))
