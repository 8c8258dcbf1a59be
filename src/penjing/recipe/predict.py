"""What the weights of a network promise: sizes as integers and as coded integers, work with and without zeros.

The coded size is that of an ideal coder that knows how often each code of a layer occurs: for a layer of n weights
whose codes c have the shares p(c), n * sum of -p(c) log2 p(c) bits (Shannon, "A Mathematical Theory of Communication",
1948, section 6).
"""

import numpy as np

from penjing.compress.quantize.affine_map import symmetric_per_channel
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.types import Constant
from penjing.ops.floats import kept_weights
from penjing.ops.layers import weight_nodes
from penjing.ops.operator import Operator
from penjing.recipe.record import Predicted

_BITS = 8
_OTHER_BYTES = 4  # of an element that is no layer's weight, a bias most of all, or one that is kept in float32


def predict(graph: Graph) -> Predicted:
    """Of a graph of network operators, in floats or quantized."""
    codes: dict[str, np.ndarray] = {}
    macs, effective = 0, 0.0
    for node in graph.nodes:
        assert isinstance(node.op, Operator)
        work = node.op.cost(graph.input_types(node), graph.output_types(node)).macs
        weights = {weight.weight: graph.constants[weight.weight] for weight in weight_nodes(graph, [node])}
        macs += work
        codes |= {n: _codes(w, node.op.weight_axis) for n, w in weights.items() if n not in codes}
        effective += work * _share_of_work([weight.array for weight in weights.values()])
    others = [constant.array for name, constant in graph.constants.items() if name not in codes]
    plain = sum(array.size * (_OTHER_BYTES if array.dtype == np.float32 else array.itemsize) for array in others)
    arrays = [graph.constants[name].array for name in codes]
    kept = kept_weights(graph) if graph.stage == "compressed" else set[str]()
    plain += sum(_OTHER_BYTES * codes.pop(name).size for name in kept & codes.keys())
    return Predicted(
        parameters=graph.parameters(),
        zeros=sum(int(array.size - np.count_nonzero(array)) for array in arrays),
        weights=sum(array.size for array in arrays),
        stored_bytes=sum(constant.array.nbytes for constant in graph.constants.values()),
        weights_bytes=sum(array.size for array in codes.values()) + plain,
        coded_bytes=sum(coded_bytes(array) for array in codes.values()) + plain,
        macs=macs,
        effective_macs=round(effective),
    )


def coded_bytes(codes: np.ndarray) -> int:
    """The least bytes for these int8 codes, each coded by how often it occurs among them."""
    counts = np.bincount(codes.reshape(-1).astype(np.int64) + 128, minlength=256)
    shares = counts[counts > 0] / codes.size
    bits = -codes.size * float((shares * np.log2(shares)).sum())
    return int(np.ceil(bits / 8))


def _codes(constant: Constant, axis: int) -> np.ndarray:
    if constant.array.dtype != np.float32:
        return constant.array
    if constant.quant is not None:
        return grid_codes(constant)
    return symmetric_per_channel(constant.array, _BITS, axis)[0]


def _share_of_work(weights: list[np.ndarray]) -> float:
    """What part of a node's products is not with a zero; all, where it has no weights."""
    size = sum(weight.size for weight in weights)
    return sum(int(np.count_nonzero(weight)) for weight in weights) / size if size else 1.0
