"""`penjing ops`: which operators penjing knows, or what it would make of one model."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from penjing.cli.output import console, print_json
from penjing.cli.sources import KINDS, load_model
from penjing.ops import operators


def ops(
    model: Annotated[str | None, typer.Argument(help=f"{KINDS}; none lists all operators.")] = None,
    input_shape: Annotated[str | None, typer.Option(help="Input of a factory, such as 3x32x32.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Trained weights, where the model needs them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the operators, or tell what of one model is covered, before any work.

        penjing ops
        penjing ops zoo:mobilenetv2
    """
    if model is None:
        _table(as_json)
        return
    from penjing.frontends.torch_export import coverage

    source = load_model(model, weights=weights, input_shape=input_shape)
    found = coverage(source.module, source.examples)
    result: dict[str, Any] = {
        "model": source.name,
        "supported": [{"operator": s.target, "count": s.count} for s in found.supported],
        "unsupported": [
            {"operator": u.target, "count": u.count, "places": list(u.places), "reason": u.reason}
            for u in found.unsupported
        ],
    }
    if as_json:
        print_json(result)
    else:
        _print_coverage(result)
    if result["unsupported"]:
        raise typer.Exit(1)


def _table(as_json: bool) -> None:
    rows = [
        {"operator": name, "meaning": _first_line(cls), "torch": list(cls.torch), "onnx": list(cls.onnx)}
        for name, cls in sorted(operators().items())
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("operator", "meaning", "torch", title=f"{len(rows)} operators, all with an integer form")
    for row in rows:
        table.add_row(str(row["operator"]), str(row["meaning"]), "\n".join(row["torch"]))
    console.print(table)


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _print_coverage(result: dict[str, Any]) -> None:
    console.print(f"[bold]{result['model']}[/bold]")
    for row in result["supported"]:
        console.print(f"  [green]yes[/green] {row['count']:4} {row['operator']}", highlight=False)
    for row in result["unsupported"]:
        places = ", ".join(row["places"][:5])
        console.print(f"  [red]no [/red] {row['count']:4} {row['operator']}: {row['reason']} ({places})", highlight=False)
