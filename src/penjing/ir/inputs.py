"""The one check of arrays against a graph's inputs, before it is run in floats or in integers."""

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.types import Dim, Extent, is_length


def named_inputs(graph: Graph, inputs: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Input name -> array.

    Raises:
        InvalidInput: the number, a shape or a dtype does not fit, or a symbolic extent has two sizes.
    """
    if len(inputs) != len(graph.inputs):
        raise InvalidInput(f"{len(inputs)} inputs were given, {graph.name} takes {len(graph.inputs)}")
    extents: dict[str, int] = {}
    for name, array in zip(graph.inputs, inputs, strict=True):
        type_ = graph.types[name]
        if array.dtype != type_.dtype.numpy:
            raise InvalidInput(f"input %{name} must be {type_.dtype}, not {array.dtype}")
        if not type_.matches(array.shape):
            expected = ", ".join(_said(extent) for extent in type_.shape)
            raise InvalidInput(f"input %{name} has shape {array.shape}, expected ({expected})")
        for extent, n in zip(type_.shape, array.shape, strict=True):
            if isinstance(extent, Dim) and extents.setdefault(extent.name, n) != n:
                raise InvalidInput(f"input %{name} has {extent.name} = {n}, another input {extents[extent.name]}")
    return dict(zip(graph.inputs, inputs, strict=True))


def _said(extent: Extent) -> str:
    if isinstance(extent, int):
        return str(extent)
    return f"1 to {extent.max}" if is_length(extent) else extent.name
