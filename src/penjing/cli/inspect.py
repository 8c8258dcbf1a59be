"""`penjing inspect`: what a tray or a graph holds, and whether it is whole and exact here."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from penjing.bundle.tray import Tray, open_tray
from penjing.cli.arguments import AsJson, Examples
from penjing.cli.inspect_graph import facts, show_graph
from penjing.cli.inspect_view import show_kernels, show_layers, show_self_test, show_tray
from penjing.cli.output import phases, print_json, write_text
from penjing.cli.streams import stream_facts, stream_rows
from penjing.cli.verify import self_test
from penjing.core import knobs
from penjing.core.errors import InvalidInput
from penjing.core.targets import host_target
from penjing.ir.graph import Graph
from penjing.ir.text import print_graph
from penjing.program.cost import node_costs
from penjing.program.float_layers import float_layers, float_rows
from penjing.program.plan import Place, moved_inputs
from penjing.recipe.graph_file import SUFFIX, load_graph
from penjing.runtime.loading import default_variant, read_program
from penjing.vector.prepare import prepare
from penjing.vector.specialise import kernel_choices

EXAMPLES: Examples = (
    ("what is in it", "penjing inspect edgecnn.tray"),
    ("work and memory of every layer", "penjing inspect edgecnn.tray --layers"),
    ("which kernels run it, and why zeros did or did not pay", "penjing inspect edgecnn.tray --kernels"),
    ("is it exact on this machine? exit code 1 if not", "penjing inspect edgecnn.tray --self-test"),
    ("the same of a graph on its way: zeros, grids, what was done to it", "penjing inspect small.graph --layers"),
    ("a tray is a zip archive", "unzip -l edgecnn.tray"),
)


def inspect(
    tray: Annotated[Path, typer.Argument(metavar="FILE", help="The .tray or .graph file.", show_default=False)],
    layers: Annotated[bool, typer.Option("--layers", metavar="", help="Show work and memory of every layer.")] = False,
    kernels: Annotated[
        bool,
        typer.Option("--kernels", metavar="", help="Show which kernel computes every layer on this machine, and why."),
    ] = False,
    program: Annotated[bool, typer.Option("--program", metavar="", help="Print the program as text.")] = False,
    test: Annotated[
        bool,
        typer.Option(
            "--self-test", metavar="", help="Run the golden vectors and random inputs, and compare every byte."
        ),
    ] = False,
    samples: Annotated[int, typer.Option(metavar="N", help="Random inputs of --self-test.", min=1)] = 64,
    as_json: AsJson = False,
) -> None:
    """Show what a tray or a graph holds, and whether it is whole and exact here.

    All digests are checked before anything else: a file that opens is whole.
    """
    if tray.suffix == SUFFIX:
        _graph(tray, layers=layers, program=program, refused=kernels or test, as_json=as_json)
        return
    opened = open_tray(tray)
    variant = default_variant(opened)
    integer = read_program(opened, variant)
    result = _facts(opened) | {"stream": stream_facts(integer), "float_layers": float_layers(integer)}
    rows = [{"name": c.name, "op": c.op, "macs": c.cost.macs, "bytes": c.cost.bytes} for c in node_costs(integer)]
    if test:
        with phases(quiet=as_json) as shown:
            shown.start("self-test", total=samples)
            found = self_test(opened, samples, seed=knobs.SEED.integer(), progress=shown.reached)
        result["self_test"] = found.as_dict()
    chosen = _kernels(integer) if kernels else []
    if kernels:
        result["kernels"] = chosen
    if as_json:
        shown_program = {"program": opened.program_text(variant)} if program else {}
        print_json(result | {"layers": rows} | shown_program)
    elif program:
        write_text(opened.program_text(variant))
    else:
        show_tray(opened, [*stream_rows(result["stream"]), *float_rows(result["float_layers"])])
        if layers:
            show_layers(rows)
        if kernels:
            show_kernels(chosen)
    if test and not as_json:
        show_self_test(found)
    if test and found.differing_bytes:
        raise typer.Exit(1)


def _graph(path: Path, *, layers: bool, program: bool, refused: bool, as_json: bool) -> None:
    if refused:
        raise InvalidInput(
            "a graph is not compiled yet", where=str(path), hint="--kernels and --self-test look at trays: build one"
        )
    saved = load_graph(path)
    found = facts(path, saved)
    if as_json:
        print_json(found | ({"program": print_graph(saved.graph)} if program else {}))
    elif program:
        write_text(print_graph(saved.graph))
    else:
        show_graph(found, saved, with_layers=layers)


def _kernels(program: Graph) -> list[dict[str, str]]:
    """What computes each layer on this machine and why nothing else does, and where one thread puts the output."""
    prepared = prepare(program, host_target())
    places, nodes = prepared.plan.places, prepared.program.nodes
    free = {node.outputs[0] for node in nodes if not moved_inputs(prepared.program, prepared.plan, node)}
    rows = []
    for choice in kernel_choices(program, host_target()):
        place = _place(places[choice.name]) if choice.name in places else ""
        row = dataclasses.asdict(choice) | {"place": place}
        rows.append(row | {"kernel": "none", "why": "its inputs lie there"} if choice.name in free else row)
    return rows


def _place(place: Place) -> str:
    pieces = f", {place.pieces.nbytes} of every {place.pieces.step} bytes" if place.pieces else ""
    return f"{place.base} {place.offset}{pieces}"


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
