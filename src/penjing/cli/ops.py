"""`penjing ops`: which operators penjing knows, or what it would make of one model."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from penjing.cli.arguments import MODEL_KINDS, AsJson, Examples, Fix, InputShape, Weights
from penjing.cli.arrays import require_file
from penjing.cli.output import phases, print_json, say, show, show_facts
from penjing.cli.sources import is_onnx, load_model, onnx_inputs
from penjing.frontends.coverage import Coverage, Supported
from penjing.ops import operators

EXAMPLES: Examples = (
    ("all operators", "penjing ops"),
    ("what of a network of the zoo is carried", "penjing ops zoo:mobilenetv2"),
    ("what of an ONNX model is carried, before any work", "penjing ops model.onnx"),
    (
        "your own, before any training; exit code 1 if something is not",
        "penjing ops net.py:TinyNet --input-shape 1x32x32",
    ),
)


def ops(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=f"{MODEL_KINDS}; none lists all operators.")
    ] = None,
    input_shape: InputShape = None,
    fix: Fix = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """List all operators, or what of one model is carried.

    Operators that are not carried are told with their places in the source and the reason.
    """
    if model is None:
        _all(as_json=as_json)
        return
    with phases(quiet=as_json) as shown:
        shown.start("reading the model")
        name, found = _coverage(model, weights, input_shape, fix)
    result: dict[str, Any] = {
        "model": name,
        "complete": found.complete,
        "supported": [{"operator": s.target, "count": s.count} for s in found.supported],
        "unsupported": [
            {"operator": u.target, "count": u.count, "places": list(u.places), "reason": u.reason}
            for u in found.unsupported
        ],
    }
    if as_json:
        print_json(result)
    else:
        _show_coverage(result)
    if not found.complete:
        raise typer.Exit(1)


def _coverage(model: str, weights: Path | None, input_shape: str | None, fix: list[str] | None) -> tuple[str, Coverage]:
    """Name and coverage of a model; one that cannot be carried whole is no error here."""
    if is_onnx(model):
        from penjing.frontends.onnx.capture import coverage as coverage_of_file

        path = Path(model)
        require_file(path)
        shapes, length, fixed = onnx_inputs(path, input_shape, fix)
        return path.stem, coverage_of_file(path, shapes=shapes, length=length, fixed=fixed)
    source = load_model(model, weights=weights, input_shape=input_shape, fix=fix)
    if source.saved is None:
        from penjing.frontends.torch_export import coverage

        return source.name, coverage(source.module, source.examples, length=source.length)
    counts = Counter(node.op.name for node in source.saved.graph.nodes)
    return source.name, Coverage(tuple(Supported(name, count) for name, count in sorted(counts.items())), ())


def _all(*, as_json: bool) -> None:
    rows = [
        {"operator": name, "meaning": _first_sentence(cls), "torch": list(cls.torch), "onnx": list(cls.onnx)}
        for name, cls in sorted(operators().items())
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(
        "operator", "what it takes and gives", "from torch", box=None, header_style="bold", padding=(0, 2, 0, 0)
    )
    table.columns[0].no_wrap = True
    for row in rows:
        names = dict.fromkeys(_short(name) for name in row["torch"] if "._" not in name)
        table.add_row(str(row["operator"]), Text(str(row["meaning"])), Text(", ".join(names)))
    show(table)
    say(f"{len(rows)} operators, each with an 8-bit integer form", style="bold")


def _first_sentence(cls: type) -> str:
    paragraph = " ".join((cls.__doc__ or "").strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def _short(target: str) -> str:
    """`aten.conv2d.padding` -> `conv2d`: overloads and in-place forms of a function are one thing to a reader."""
    return target.removeprefix("aten.").partition(".")[0].rstrip("_")


def _show_coverage(result: dict[str, Any]) -> None:
    counts = [row["count"] for row in result["supported"]]
    missing = [row["count"] for row in result["unsupported"]]
    say(f"{result['model']}: {sum(counts)} of {sum(counts) + sum(missing)} operators are carried", style="bold")
    if counts:
        show_facts([(f"yes {row['count']:4}", row["operator"]) for row in result["supported"]])
    for row in result["unsupported"]:
        say(f"  NO  {row['count']:4}  {row['operator']}: {row['reason']}", style="red")
        for place in row["places"]:
            say(f"              {place}")
