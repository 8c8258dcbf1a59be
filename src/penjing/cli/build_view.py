"""How `penjing build` tells what it made."""

from typing import Any

from penjing.cli.accuracy import interval_text
from penjing.cli.build_steps import Built
from penjing.cli.output import quoted, say, show_facts, suggest
from penjing.measure.sizes import bytes_text, ratio_text


def as_dict(built: Built) -> dict[str, Any]:
    """For JSON."""
    variant = built.parts.variants["default"]
    return {
        "tray": str(built.path),
        "bytes": len(built.tray),
        "float_parameter_bytes": 4 * built.original.parameters(),
        "weights_bytes": variant.weights_bytes,
        "arena_bytes": variant.arena_bytes,
        "macs": variant.macs,
        "libraries": {name: made["default"].flash_bytes for name, made in built.parts.libraries.items()},
        "accuracy": built.measured.as_dict() if built.measured else None,
    }


def show_build(built: Built) -> None:
    """Sizes and accuracy, and what to do next."""
    found = as_dict(built)
    smaller = ratio_text(found["float_parameter_bytes"], found["weights_bytes"])
    rows = [
        ("weights", f"{bytes_text(found['weights_bytes'])}, {smaller} than in float"),
        ("arena", f"{bytes_text(found['arena_bytes'])} of working memory"),
    ]
    rows += [("library", f"{name}, {bytes_text(size)}") for name, size in found["libraries"].items()]
    if built.measured is not None:
        m, d = built.measured, built.measured.drop
        rows += [
            ("float", interval_text(m.floats)),
            ("int8", f"{interval_text(m.integers)} on {m.n} samples of {m.dataset}"),
            ("drop", f"{100 * d.drop:.2f} points ({100 * d.low:.2f} .. {100 * d.high:.2f}), 95 % intervals"),
        ]
    say(f"{built.path}  {bytes_text(len(built.tray))}", style="bold")
    show_facts(rows)
    suggest(f"inspect {quoted(built.path)}", f"bench {quoted(built.path)}")
