"""States of a program, the codes that one call leaves for the next: how they begin."""

import numpy as np

from penjing.core.arithmetic import quantize
from penjing.core.errors import InvalidGraph, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.types import DType, State
from penjing.ops.advance import QAdvance

States = dict[str, np.ndarray]


def initial_codes(name: str, state: State) -> np.ndarray:
    """A state's first codes, of one sample: those of `initial`, or `initial` itself where codes stand for no reals.

    Raises:
        InvalidGraph: they are no codes.
    """
    quant, dtype = state.type.quant, state.type.dtype
    real = np.asarray(state.initial, np.float64)
    if quant is None:
        codes = real
    elif dtype is DType.U8:
        codes = quantize(real.astype(np.float32), quant.scale, quant.zero_point).astype(np.float64)
    else:
        codes = np.rint(real / float(quant.scale)) + quant.zero_point
    limits = np.iinfo(dtype.numpy)
    wrong = (codes != np.trunc(codes)) | (codes < limits.min) | (codes > limits.max)
    if wrong.any():
        raise InvalidGraph(f"state %{name} starts at {real[wrong][0]}, which is no {dtype} code")
    shape = state.type.bounds[1:]
    return np.broadcast_to(codes, shape) if codes.ndim == 0 else codes.reshape(shape)


def initial_states(program: Graph, samples: int = 1) -> States:
    """Name -> codes of the states before the first call, for so many samples side by side."""
    return {
        name: np.repeat(initial_codes(name, state)[None], samples, axis=0).astype(state.type.dtype.numpy)
        for name, state in program.states.items()
    }


def counters(program: Graph) -> dict[str, QAdvance]:
    """States that count steps -> what counts them, for a limited number."""
    return {
        node.inputs[0]: node.op
        for node in program.nodes
        if isinstance(node.op, QAdvance) and node.inputs[0] in program.states
    }


def most_calls(program: Graph) -> int | None:
    """How many calls a session has room for; None where it has no end."""
    return min((op.capacity // op.steps for op in counters(program).values()), default=None)


def calls_left(program: Graph, states: States) -> int | None:
    """How many calls of one sample `states` leave room for; None where a session has no end."""
    return min(
        ((op.capacity - int(states[name].max())) // op.steps for name, op in counters(program).items()), default=None
    )


def check_room(program: Graph, states: States) -> None:
    """InvalidInput unless there is room for the steps of a call in what keeps all of them."""
    for name, op in counters(program).items():
        at = states[name]
        outside = (at < 0) | (at > op.last)
        if outside.any():
            raise InvalidInput(
                f"a session of {op.capacity} steps is at step {at[outside][0]}: there is no room for {op.steps} more",
                where=program.name,
                hint="reset the session, or quantize the network over longer sequences",
            )
