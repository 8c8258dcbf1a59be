"""Attention that was written by hand, or that an exporter took apart, becomes whole again:

    softmax(q @ k * scale + mask) @ v    ->    matmul with a scale, and attend

Each by itself would round the weights to steps of 1/256, which in long rows leaves most of them nothing, and a mask
that is added would leave the scores no codes. What else reads the weights or the scores keeps them as they are.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from penjing.ir.graph import Graph, Node
from penjing.ir.types import Constant, Names
from penjing.ops.add import Add
from penjing.ops.attend import Attend
from penjing.ops.attention_mask import HIDDEN, is_causal, split_mask
from penjing.ops.identity import Identity
from penjing.ops.matmul import Matmul
from penjing.ops.softmax import Softmax

STRAY_MASK = "hides numbers that no attention reads: a softmax along the last axis, then a product with values"


def merge_attention(graph: Graph, causal: Collection[str] = ()) -> tuple[set[str], set[str]]:
    """Replace every softmax along the last axis whose one reader multiplies it with values.

    Changes the graph in place. `causal` are scores whose softmax keeps steps 0 .. i for step i. Returns the names of
    values that mean something else now, and those of `causal` that no attention reads.
    """
    changed: set[str] = set()
    left = set(causal)
    for found in [node for node in graph.nodes if isinstance(node.op, Matmul)]:
        product = _without_identities(graph, found)
        softmax = _sole_maker(graph, product.inputs[0])
        if softmax is None or not isinstance(softmax.op, Softmax) or product.op != Matmul():
            continue
        scores = softmax.inputs[0]
        if softmax.op.axis == graph.types[scores].rank - 1 and product.inputs[1] not in graph.constants:
            is_sole = _sole_reader(graph, scores) is not None
            changed.update(_merge(graph, softmax, product, causal=is_sole and scores in left))
            left -= {scores} if is_sole else set()
    for product in [node for node in graph.nodes if isinstance(node.op, Matmul)]:
        changed.update(_take_scales(graph, product))
    graph.drop_unused_constants()
    return changed, left


def stray_masks(graph: Graph) -> list[Node]:
    """Sums with a constant that hides, which no attention has taken in: their codes would be lost."""
    masked = []
    for node in graph.nodes:
        constants = [graph.constants[name].array for name in node.inputs if name in graph.constants]
        if isinstance(node.op, Add) and any((array <= HIDDEN).any() for array in constants):
            masked.append(node)
    return masked


def _without_identities(graph: Graph, product: Node) -> Node:
    """The same product, without what dropout has left between it and its weights."""
    maker = _sole_maker(graph, product.inputs[0])
    while maker is not None and isinstance(maker.op, Identity):
        product_now = replace(product, inputs=(maker.inputs[0], product.inputs[1]))
        graph.replace_node(product, product_now)
        graph.remove_nodes([maker])
        product, maker = product_now, _sole_maker(graph, product_now.inputs[0])
    return product


def _merge(graph: Graph, softmax: Node, product: Node, *, causal: bool) -> set[str]:
    scores = softmax.inputs[0]
    masks: tuple[str, ...] = ()
    changed = {softmax.output}
    adder = _sole_maker(graph, scores)
    hidden = _mask(graph, adder) if adder is not None else None
    if adder is not None and hidden is not None:
        x, kept, added = hidden
        scores = x
        follows = is_causal(kept, graph.types[x])
        causal = causal or follows
        masks = () if follows else (_constant(graph, f"{product.output}.mask", kept),)
        changed.add(adder.output)
        if added is None:
            graph.remove_nodes([adder])
        else:
            scores = adder.output
            graph.replace_node(adder, replace(adder, inputs=(x, _constant(graph, f"{scores}.bias", added))))
    graph.remove_nodes([softmax])
    graph.replace_node(product, replace(product, op=Attend(causal), inputs=(scores, product.inputs[1], *masks)))
    return changed


def _mask(graph: Graph, adder: Node) -> tuple[str, np.ndarray, np.ndarray | None] | None:
    """(scores, 1 where kept, what else is added) of a sum with a constant that hides something."""
    if not isinstance(adder.op, Add):
        return None
    x, constant = adder.inputs if adder.inputs[1] in graph.constants else adder.inputs[::-1]
    if constant not in graph.constants or graph.types[x].shape != graph.types[adder.output].shape:
        return None
    kept, added = split_mask(graph.constants[constant].array)
    if kept is None or not kept.any(axis=-1).all():
        return None
    return x, kept, added


def _take_scales(graph: Graph, product: Node) -> set[str]:
    """Numbers that operands or the product are multiplied with become the product's own."""
    changed: set[str] = set()
    behind = _sole_reader(graph, product.output)
    number = _number(graph, behind) if behind is not None else None
    if behind is not None and number is not None:
        scaled = replace(behind, op=_scaled(product, number), inputs=product.inputs)
        graph.remove_nodes([product])
        graph.replace_node(behind, scaled)
        changed.add(product.output)
        product = scaled
    for place in (0, 1):
        changed.update(_take_operand_scale(graph, product.output, place))
    return changed


def _take_operand_scale(graph: Graph, output: str, place: int) -> set[str]:
    product = graph.producers()[output]
    operand = product.inputs[place]
    turned = _sole_maker(graph, operand)
    factor = turned
    if turned is not None and turned.op.name == "permute":
        factor = _sole_maker(graph, turned.inputs[0])
    number = _number(graph, factor) if factor is not None else None
    if factor is None or number is None:
        return set()
    (x,) = [name for name in factor.inputs if name not in graph.constants]
    graph.replace_value(factor.output, x)
    graph.remove_nodes([factor])
    product = graph.producers()[output]
    graph.replace_node(product, replace(product, op=_scaled(product, number)))
    return {factor.output, operand}


def _scaled(product: Node, number: float) -> Matmul:
    assert isinstance(product.op, Matmul)
    return Matmul(product.op.scale * number)


def _number(graph: Graph, node: Node) -> float | None:
    """The positive number that a node multiplies with."""
    arrays = [graph.constants[name].array for name in node.inputs if name in graph.constants]
    if node.op.name != "mul" or len(arrays) != 1 or arrays[0].size != 1:
        return None
    number = float(arrays[0].reshape(-1)[0])
    (x,) = [name for name in node.inputs if name not in graph.constants]
    return number if number > 0 and graph.types[x].rank == graph.types[node.output].rank else None


def _sole_maker(graph: Graph, name: str) -> Node | None:
    """The node that makes a value which one node alone reads."""
    return graph.producers().get(name) if _sole_reader(graph, name) is not None else None


def _sole_reader(graph: Graph, name: str) -> Node | None:
    readers = graph.users()[name]
    return readers[0] if len(readers) == 1 and name not in graph.sinks() else None


def _constant(graph: Graph, stem: str, array: np.ndarray) -> str:
    return graph.add_constant(Names(set(graph.types)).fresh(stem), Constant(array))
