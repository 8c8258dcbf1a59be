"""What `penjing inspect` says of a graph file: stage, layers, sizes, zeros, grids, and what was done to it."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from penjing.bundle import strict_json
from penjing.cli.output import macs_text, say, show, show_facts
from penjing.cli.recipe_view import show_steps
from penjing.ir.graph import Graph
from penjing.ir.types import Constant
from penjing.measure.sizes import bytes_text
from penjing.ops.layers import weight_macs, weight_nodes
from penjing.recipe.graph_file import SavedGraph
from penjing.recipe.predict import predict


def facts(path: Path, saved: SavedGraph) -> dict[str, Any]:
    """For JSON."""
    graph, found = saved.graph, predict(saved.graph)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "name": graph.name,
        "stage": graph.stage,
        "origin": saved.origin,
        "inputs": {name: list(graph.types[name].bounds) for name in graph.inputs},
        "outputs": {name: list(graph.types[name].bounds) for name in graph.outputs},
        "labels": list(saved.labels) if saved.labels else None,
        "sizes": strict_json.encode(found),
        "layers": layer_rows(graph),
        "record": strict_json.encode(saved.record) if saved.record is not None else None,
    }


def layer_rows(graph: Graph) -> list[dict[str, Any]]:
    """Every layer: its weight, shape, share of zeros, multiply-accumulates, and the form of its numbers."""
    rows = []
    for weight in weight_nodes(graph):
        name, node, _, _ = weight
        constant = graph.constants[name]
        zeros = 1 - np.count_nonzero(constant.array) / max(constant.array.size, 1)
        macs = weight_macs(graph, weight)
        row = {"name": name, "op": node.op.name, "shape": list(constant.array.shape), "zeros": zeros, "macs": macs}
        rows.append(row | {"numbers": _numbers(constant, quantized=graph.stage == "compressed")})
    return rows


def show_graph(found: dict[str, Any], saved: SavedGraph, *, with_layers: bool) -> None:
    """Facts, layers where asked for, and the record."""
    graph, sizes = saved.graph, predict(saved.graph)
    say(f"{graph.name}  {bytes_text(found['bytes'])}, whole: every digest matches", style="bold")
    rows = [
        ("stage", graph.stage),
        ("source", saved.origin),
        *(("input", f"{name}: {'x'.join(map(str, shape))}") for name, shape in found["inputs"].items()),
        *(("output", f"{name}: {'x'.join(map(str, shape))}") for name, shape in found["outputs"].items()),
        ("weights", f"{bytes_text(sizes.stored_bytes)}; {bytes_text(sizes.weights_bytes)} as integers"),
        ("zeros", f"{100 * sizes.zeros / max(sizes.weights, 1):.1f} % of the layers' weights"),
        ("work", f"{macs_text(sizes.macs)}, {macs_text(sizes.effective_macs)} without zeros"),
        ("layers", f"{len(found['layers'])}: {_forms(found['layers'])}"),
    ]
    show_facts(rows)
    if with_layers:
        _show_layers(found["layers"])
    if saved.record is not None:
        say("")
        show_steps(saved.record.first, saved.record.steps)


def _show_layers(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("  weight", "operator", "shape", "zeros", "MACs", "numbers"):
        table.add_column(title, justify="right" if title in ("zeros", "MACs") else "left")
    for row in rows:
        shape, zeros = "x".join(map(str, row["shape"])), f"{100 * row['zeros']:.0f} %"
        table.add_row(Text(f"  {row['name']}"), row["op"], shape, zeros, f"{row['macs']:,}", row["numbers"])
    say("")
    show(table)


def _forms(rows: list[dict[str, Any]]) -> str:
    forms = [row["numbers"] for row in rows]
    return ", ".join(f"{forms.count(form)} in {form}" for form in dict.fromkeys(forms)) or "none with weights"


def _numbers(constant: Constant, *, quantized: bool) -> str:
    """`floats`, `int8`, `float32` of a layer that is kept so, or how many different codes a layer on a grid has."""
    if constant.array.dtype != np.float32:
        return constant.array.dtype.name
    if constant.quant is None:
        return "float32, kept" if quantized else "floats"
    scales = "one scale" if constant.quant.axis is None else "a scale per channel"
    return f"floats on a grid, {scales}"
