"""Which layers of a program are computed in float32, for reports."""

from penjing.ir.graph import Graph

FLOAT_LAYERS = ("f_conv2d", "f_linear")
WHY = "kept, as asked for"  # nothing but `keep_float` leaves a layer in float32


def float_layers(program: Graph) -> list[dict[str, str]]:
    """Name, operator, weight, and why, of each such layer, in order."""
    layers = [node for node in program.nodes if node.op.name in FLOAT_LAYERS]
    return [{"name": node.output, "op": node.op.name, "weight": _weight(node.inputs[1]), "why": WHY} for node in layers]


def float_rows(layers: list[dict[str, str]]) -> list[tuple[str, str]]:
    """The same as a line of a table of facts, where there are any."""
    return [("float32", f"{', '.join(layer['weight'] for layer in layers)}: {WHY}")] if layers else []


def _weight(constant: str) -> str:
    """The network's name of a weight: the program may store it in another order, under another name."""
    return constant.removesuffix(".permuted")
