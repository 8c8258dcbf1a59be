"""Networks that go step by step, as commands make them (`build --stream`), show them and feed them.

A sequence of T steps is T / steps calls. Where time is in an array need not be told when it is fed: an array that holds
more than a call takes differs from it along one axis, and that is time.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from penjing import api
from penjing.cli.sources import ModelSource
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.types import State
from penjing.program.states import most_calls

_AXIS = 1  # of time, where --time-axis does not say


def check_stream(steps: int | None, axis: int | None, *, evaluate: bool) -> None:
    """What is wrong with the options alone.

    Raises:
        InvalidInput: --time-axis without --stream, or --evaluate with it.
    """
    if steps is None and axis is not None:
        raise InvalidInput("there is no time to cut", where="--time-axis", hint="it belongs to --stream STEPS")
    if steps is not None and evaluate:
        raise InvalidInput(
            "accuracy is measured on whole sequences, and a stream reads pieces",
            where="--evaluate",
            hint="measure it by a build without --stream: the stream gives the same bytes",
        )


def check_time(steps: int, axis: int | None, model: ModelSource) -> None:
    """Refuse, before any work, an axis that is none, sequences of any length, and calls longer than a sequence.

    Raises:
        InvalidInput: one of these.
    """
    if model.length_axes:
        what = "a network for sequences of any length cannot be streamed"
        raise InvalidInput(what, where="--stream", hint="give one length: --input-shape 128x384, not 1..128x384")
    shape, at = model.shape, axis or _AXIS
    if at > len(shape):
        what = f"the input (n, {', '.join(map(str, shape))}) has no axis {at}"
        raise InvalidInput(what, where="--time-axis", hint=f"1 to {len(shape)}")
    if steps > shape[at - 1]:
        what = f"a call of {steps} steps, of sequences of {shape[at - 1]}"
        raise InvalidInput(what, where="--stream", hint="take fewer steps, longer sequences, or another --time-axis")


def port_of_calls(port: api.Port, steps: int, axis: int | None) -> api.Port:
    """How a call's input is prepared, where --mean and --std were given for axis 1 of whole sequences.

    Raises:
        InvalidInput: that axis is time, and they change along it.
    """
    given = {"mean": port.mean, "std": port.std}
    if (axis or _AXIS) != 1 or not any(given.values()):
        return port
    for name, values in given.items():
        if values and len(set(values)) > 1:
            what = "a stream cannot be normalised differently at every step"
            raise InvalidInput(what, where=f"--{name}", hint="give one number for all")
    mean, std = (values and values[:1] * steps for values in (port.mean, port.std))
    return replace(port, mean=mean, std=std)


def streamed(graph: Graph, steps: int, axis: int | None) -> Graph:
    """The quantized network for calls of `steps` steps. Errors as `penjing.stream`."""
    return api.stream(graph, steps=steps, axis=axis or _AXIS)


def stream_text(steps: int, axis: int | None) -> str:
    """For the model card."""
    return f"{steps} step{'s' * (steps > 1)} a call, along axis {axis or _AXIS}"


def first_calls(sequence: np.ndarray, graph: Graph, count: int) -> np.ndarray:
    """The first calls, at most `count`, that feed a network for pieces with a sequence (...) of real inputs."""
    shape = graph.types[graph.inputs[0]].bounds[1:]
    axis = next((i for i, (n, some) in enumerate(zip(sequence.shape, shape, strict=True)) if n != some), None)
    if axis is None:
        return sequence[None]
    some = min(count, sequence.shape[axis] // shape[axis])
    return _cut(sequence.take(range(some * shape[axis]), axis), axis, shape[axis])


def calls_of(sequence: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The calls (n, *shape) that feed an array to a network: pieces of a sequence, or an array of such calls.

    Args:
        sequence: (1, ...) or (...) of `shape`, but longer along one axis; or (n, *shape), calls one after another.
        shape: what a call takes.
        where: the file, for errors.

    Raises:
        InvalidInput: another shape, or a last call that would not be full.
    """
    whole = sequence[None] if sequence.ndim == len(shape) else sequence
    differing = [i for i, (n, some) in enumerate(zip(whole.shape[1:], shape, strict=False)) if n != some]
    if not whole.size:
        raise InvalidInput("there is no step in it", where=where)
    if whole.ndim == 1 + len(shape) and not differing:
        return whole
    if whole.ndim != 1 + len(shape) or len(whole) != 1 or len(differing) != 1:
        raise InvalidInput(
            f"an array of shape {sequence.shape} is no sequence of calls of {shape}",
            where=where,
            hint="give one sequence, which is longer than a call along time alone, or calls one after another",
        )
    axis = differing[0]
    steps, given = shape[axis], whole.shape[1 + axis]
    if given % steps:
        raise InvalidInput(
            f"{given} steps are no whole number of calls of {steps}",
            where=where,
            hint=f"leave out the last {given % steps}, or build it with another --stream" if given > steps else None,
        )
    return _cut(whole[0], axis, steps)


def stream_facts(program: Graph) -> dict[str, Any]:
    """What a program carries from call to call; nothing where it has no states."""
    if not program.states:
        return {}
    states = {name: _state(state) for name, state in program.states.items()}
    return {"states": states, "bytes": sum(one["bytes"] for one in states.values()), "calls": most_calls(program)}


def stream_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for a person: one line for each state, and how long a session may get."""
    if not facts:
        return []
    rows = [
        ("state", f"{name}: {'x'.join(map(str, one['shape']))} {one['dtype']}, {one['bytes']:,} bytes")
        for name, one in facts["states"].items()
    ]
    end = "no end" if facts["calls"] is None else f"room for {facts['calls']:,} calls"
    return [*rows, ("session", f"{facts['bytes']:,} bytes of states, {end}")]


def _state(state: State) -> dict[str, Any]:
    type_ = state.type
    return {"shape": list(type_.bounds[1:]), "dtype": str(type_.dtype), "bytes": type_.nbytes}


def _cut(sequence: np.ndarray, axis: int, steps: int) -> np.ndarray:
    calls = sequence.shape[axis] // steps
    shape = (*sequence.shape[:axis], calls, steps, *sequence.shape[axis + 1 :])
    return np.moveaxis(sequence.reshape(shape), axis, 0)
