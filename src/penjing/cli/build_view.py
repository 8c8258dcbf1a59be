"""How `penjing build` tells what it made."""

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from penjing.bundle.tray import read_tray
from penjing.cli.accuracy import interval_text
from penjing.cli.build_steps import Built
from penjing.cli.output import quoted, say, show, show_facts, suggest
from penjing.cli.streams import stream_facts, stream_rows
from penjing.measure.sizes import bytes_text, ratio_text
from penjing.program.float_layers import float_layers, float_rows
from penjing.tune.autotune import TunedLayer
from penjing.vector.tiles import Tile


def as_dict(built: Built) -> dict[str, Any]:
    """For JSON."""
    variant = built.parts.variants["default"]
    manifest = read_tray(built.tray).manifest
    return {
        "tray": str(built.path),
        "bytes": len(built.tray),
        "float_parameter_bytes": 4 * built.original.parameters(),
        "weights_bytes": variant.weights_bytes,
        "stored_weights_bytes": manifest.members[manifest.variants["default"].weights].bytes,
        "arena_bytes": variant.arena_bytes,
        "macs": variant.macs,
        "stream": stream_facts(built.program),
        "float_layers": float_layers(built.program),
        "libraries": {name: made["default"].flash_bytes for name, made in built.parts.libraries.items()},
        "library_arena_bytes": {name: made["default"].arena_bytes for name, made in built.parts.libraries.items()},
        "layers": [_layer(layer) for layer in built.tuned],
        "accuracy": built.measured.as_dict() if built.measured else None,
    }


def show_build(built: Built) -> None:
    """Sizes and accuracy, and what to do next."""
    found = as_dict(built)
    smaller = ratio_text(found["float_parameter_bytes"], found["weights_bytes"])
    stored = bytes_text(found["stored_weights_bytes"])
    rows = [("weights", f"{bytes_text(found['weights_bytes'])}, {smaller} than in float; {stored} in the tray")]
    for name, size in found["libraries"].items():
        arena = bytes_text(found["library_arena_bytes"][name])
        rows.append(("library", f"{name}, {bytes_text(size)}, {arena} of working memory"))
    rows += [*stream_rows(found["stream"]), *float_rows(found["float_layers"])]
    if built.measured is not None:
        m, d = built.measured, built.measured.drop
        rows += [("float", interval_text(m.floats))] if m.floats else []
        rows.append(("int8", f"{interval_text(m.integers)} on {m.n} samples of {m.dataset}"))
        if d is not None:
            rows.append(
                ("drop", f"{100 * d.drop:.2f} points ({100 * d.low:.2f} .. {100 * d.high:.2f}), 95 % intervals")
            )
    say(f"{built.path}  {bytes_text(len(built.tray))}", style="bold")
    show_facts(rows)
    if built.tuned:
        _show_layers(built.tuned)
    suggest(f"inspect {quoted(built.path)}", f"bench {quoted(built.path)}")


def _layer(layer: TunedLayer) -> dict[str, Any]:
    return {**asdict(layer), "rule": layer.rule._asdict(), "tile": layer.tile._asdict()}


def _show_layers(tuned: list[TunedLayer]) -> None:
    """Each convolution: how it is cut, and its time by the rule and so."""
    table = Table(
        box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False, show_footer=True, footer_style="dim"
    )
    table.add_column("  layer", footer="  all")
    table.add_column("shape")
    table.add_column("cut")
    table.add_column("by the rule", justify="right", footer=f"{sum(layer.rule_us for layer in tuned):.1f} us")
    table.add_column("cut so", justify="right", footer=f"{sum(layer.tile_us for layer in tuned):.1f} us")
    for layer in tuned:
        cut = "by the rule" if layer.tile == layer.rule else _cut_text(layer.tile)
        times = f"{layer.rule_us:.1f} us", f"{layer.tile_us:.1f} us"
        table.add_row(Text(f"  {layer.name}"), layer.shape, cut, *times)
    say("")
    show(table)


def _cut_text(tile: Tile) -> str:
    tiles = f"{tile.two} pixels x 2" if tile.two else f"{tile.one} pixels x 1"
    return f"{tiles}, bands of {tile.rows} x {tile.columns}"
