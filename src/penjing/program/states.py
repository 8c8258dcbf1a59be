"""States of a program, the codes that one call leaves for the next: how they begin."""

import numpy as np

from penjing.core.arithmetic import quantize
from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Graph
from penjing.ir.types import DType, State

States = dict[str, np.ndarray]


def initial_code(name: str, state: State) -> int:
    """The code of a state's first value: that of `initial`, or `initial` itself where codes stand for no reals.

    Raises:
        InvalidGraph: it is no code.
    """
    quant, dtype = state.type.quant, state.type.dtype
    if quant is None:
        code = state.initial
    elif dtype is DType.U8:
        code = float(quantize(np.asarray(state.initial, np.float32), quant.scale, quant.zero_point))
    else:
        code = float(np.rint(np.float64(state.initial) / float(quant.scale))) + quant.zero_point
    codes = np.iinfo(dtype.numpy)
    if code != int(code) or not codes.min <= code <= codes.max:
        raise InvalidGraph(f"state %{name} starts at {state.initial}, which is no {dtype} code")
    return int(code)


def initial_states(program: Graph, samples: int = 1) -> States:
    """Name -> codes of the states before the first call, for so many samples side by side."""
    return {
        name: np.full((samples, *state.type.bounds[1:]), initial_code(name, state), state.type.dtype.numpy)
        for name, state in program.states.items()
    }
