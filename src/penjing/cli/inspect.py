"""`penjing inspect`: what a tray holds, and whether it is whole and exact here."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from penjing.bundle.tray import Tray, open_tray
from penjing.cli.output import console, print_json
from penjing.measure.sizes import bytes_text
from penjing.program.cost import node_costs
from penjing.runtime.load import default_variant, from_tray, read_program


def inspect(
    tray: Annotated[Path, typer.Argument(help="The .tray file.")],
    program: Annotated[bool, typer.Option("--program", help="Print the integer program as text.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Print work and memory of every node.")] = False,
    self_test: Annotated[bool, typer.Option("--self-test", help="Run golden vectors and random inputs here.")] = False,
    samples: Annotated[int, typer.Option(help="Random inputs that --self-test compares with the interpreter.", min=1)] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a tray holds. Every digest is checked first: a tray that opens is whole."""
    opened = open_tray(tray)
    if program and not as_json:
        print(opened.program_text(default_variant(opened)), end="")
        return
    result = _facts(opened)
    if layers or as_json:
        costs = node_costs(read_program(opened, default_variant(opened)))
        result["layers"] = [{"name": c.name, "op": c.op, "macs": c.cost.macs, "bytes": c.cost.bytes} for c in costs]
    if program:
        result["program"] = opened.program_text(default_variant(opened))
    if self_test:
        result["self_test"] = _self_test(opened, samples)
    if as_json:
        print_json(result)
    else:
        _print(opened, result)
    if self_test and result["self_test"]["differing_bytes"]:
        raise typer.Exit(1)


def _self_test(tray: Tray, samples: int) -> dict[str, Any]:
    """Golden vectors, and the engine against the interpreter on random codes; every byte counts."""
    model, oracle = from_tray(tray), from_tray(tray, engine="interpreter")
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 256, size=(samples, *spec.shape[1:]), dtype=np.uint8) for spec in model.inputs]
    pairs = zip(model.run_codes(*codes), oracle.run_codes(*codes), strict=True)
    differing = model.self_test() + sum(int((got != want).sum()) for got, want in pairs)
    golden = tray.golden(model.variant).n_samples
    return {"engine": model.engine.name, "golden": golden, "random": samples, "differing_bytes": differing}


def _facts(tray: Tray) -> dict[str, Any]:
    manifest = tray.manifest
    return {
        "file": tray.where,
        "bytes": tray.n_bytes,
        "digest": tray.manifest_digest,
        "name": manifest.name,
        "card": dict(manifest.card),
        "inputs": [dataclasses.asdict(spec) for spec in manifest.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in manifest.outputs],
        "variants": {name: dataclasses.asdict(variant) for name, variant in manifest.variants.items()},
        "targets": {
            target: {name: dataclasses.asdict(entry) for name, entry in builds.items()}
            for target, builds in manifest.targets.items()
        },
        "members": {name: info.bytes for name, info in manifest.members.items()},
    }


def _print(tray: Tray, result: dict[str, Any]) -> None:
    manifest = tray.manifest
    console.print(f"[bold]{manifest.name}[/bold]  {bytes_text(tray.n_bytes)}  sha256 {tray.manifest_digest[:16]}…")
    for key, text in manifest.card.items():
        console.print(f"  {key}: {text}", markup=False, highlight=False)
    for spec in manifest.inputs:
        console.print(f"  in   {spec.name}: {_shape(spec.shape)} {spec.code_dtype}, scale {spec.scale:.6g}, zero {spec.zero_point}")
    for out in manifest.outputs:
        labels = f", {len(out.labels)} labels" if out.labels else ""
        console.print(f"  out  {out.name}: {_shape(out.shape)} {out.code_dtype}, scale {out.scale:.6g}{labels}")
    for name, variant in manifest.variants.items():
        console.print(
            f"  variant {name}: weights {bytes_text(variant.weights_bytes)}, arena {bytes_text(variant.arena_bytes)}, "
            f"{variant.macs / 1e6:.2f} M MACs, {variant.n_ops} operators"
        )
        if variant.accuracy is not None:
            a = variant.accuracy
            console.print(f"    {a.metric} {100 * a.value:.2f} % ({100 * a.low:.2f} .. {100 * a.high:.2f}) on {a.n} of {a.dataset}")
    for target, builds in manifest.targets.items():
        for name, entry in builds.items():
            console.print(f"  library {target}/{name}: {bytes_text(entry.flash_bytes)}, {entry.compiler}", markup=False)
    if "layers" in result:
        console.print(_layer_table(result["layers"]))
    if "self_test" in result:
        test = result["self_test"]
        verdict = "[green]exact[/green]" if not test["differing_bytes"] else f"[red]{test['differing_bytes']} bytes differ[/red]"
        console.print(f"  self-test by {test['engine']}, {test['golden']} golden and {test['random']} random inputs: {verdict}")


def _layer_table(layers: list[dict[str, Any]]) -> Table:
    table = Table("node", "operator")
    table.add_column("MACs", justify="right")
    table.add_column("bytes touched", justify="right")
    for row in layers:
        table.add_row(row["name"], row["op"], f"{row['macs']:,}", f"{row['bytes']:,}")
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
