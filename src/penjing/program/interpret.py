"""The interpreter: the definition of what a program computes. Every target must reproduce it, byte for byte.

Short and plain on purpose. It needs numpy alone.
"""

import numpy as np

from penjing.ir.graph import Graph
from penjing.ir.inputs import named_inputs
from penjing.ops.operator import IntegerOperator
from penjing.program.states import States, check_room, initial_states

# of the largest activation: what is computed at a time stays in tens of megabytes
_ELEMENTS_AT_A_TIME = 2**22


def rows_at_a_time(program: Graph) -> int:
    """How long axis 0 should be in one call of `interpret`: the batch where it is fixed, else what bounds memory."""
    for name in program.inputs:
        batch = program.types[name].shape[0]
        if isinstance(batch, int):
            return batch
    largest = max((program.types[name].elements for name in program.activations()), default=1)
    return max(1, _ELEMENTS_AT_A_TIME // max(largest, 1))


def interpret(program: Graph, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Run a lowered program on integer codes; where it has states, as the first call.

    Args:
        program: a graph in stage `lowered` or `planned`.
        inputs: one array of codes per program input; axis 0 may hold any number of samples.

    Returns:
        One array of codes per program output.

    Raises:
        InvalidInput: the number, shape or dtype of the inputs does not fit.
    """
    return interpret_step(program, initial_states(program, len(inputs[0]) if inputs else 1), *inputs)[0]


def interpret_samples(program: Graph, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Outputs of several samples: side by side, or as calls that go on from each other where the program has states."""
    if not program.states:
        return interpret(program, *inputs)
    states, steps = initial_states(program), []
    for i in range(len(inputs[0])):
        outputs, states = interpret_step(program, states, *(x[i : i + 1] for x in inputs))
        steps.append(outputs)
    return tuple(np.concatenate(outputs) for outputs in zip(*steps, strict=True))


def interpret_step(program: Graph, states: States, *inputs: np.ndarray) -> tuple[tuple[np.ndarray, ...], States]:
    """One call of a program with states: its outputs, and the states for the next call. Otherwise as `interpret`.

    Raises:
        InvalidInput: also where the states have no room for the steps of a call.
    """
    check_room(program, states)
    values = {name: constant.array for name, constant in program.constants.items()}
    values |= named_inputs(program, inputs)
    values |= states
    kept = {*program.constants, *program.sinks()}
    last_use = {name: i for i, node in enumerate(program.nodes) for name in node.inputs}
    for i, node in enumerate(program.nodes):
        assert isinstance(node.op, IntegerOperator)
        arguments = [values[name] for name in node.inputs]
        values.update(zip(node.outputs, node.op.integer_reference(*arguments), strict=True))
        for name in node.inputs:
            if last_use[name] == i and name not in kept:
                values.pop(name, None)
    updates = {name: values[state.update] for name, state in program.states.items()}
    return tuple(values[name] for name in program.outputs), updates
