"""The parity check of an exported module: inputs like the example, and the first node that departs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.core import knobs
from penjing.core.errors import ParityError
from penjing.frontends.exported.places import user_frame
from penjing.frontends.exported.read import Reading
from penjing.frontends.exported.trace import FIXED_BATCH_HINT, Trace, import_torch, run_module
from penjing.frontends.parity import TOLERANCE, Arrays, Case, check_parity, departure
from penjing.ops.embedding import id_rows
from penjing.ops.evaluate import evaluate

_BATCHES = (1, 3)
# Rounding steps of the module's own type that a deep network may add up; decides for half precision only.
_STEPS = 8


def check_module(module: Any, traced: Trace, reading: Reading) -> None:
    """Raise ParityError unless the graph computes what the module does.

    With a symbolic batch: at a batch of 1 and of 3, and of sequences, at the shortest and two longer ones. Otherwise
    two samples together in the graph, each alone in the module, which also proves that the graph keeps samples apart.
    """
    torch = import_torch()
    roundings = [torch.finfo(x.dtype).eps for x in traced.inputs if x.is_floating_point()]
    tolerance = max([TOLERANCE, *(_STEPS * step for step in roundings)])
    rng = np.random.default_rng(knobs.SEED.integer())
    rows = id_rows(reading.graph)
    tops = [rows.get(name, 0) for name in reading.graph.inputs]
    if traced.length is not None:
        longest = traced.length.max
        sizes = ((1, longest), (3, longest // 2 + 1), (2, 1))
        made = [_sequences(rng, traced, tops, *size) for size in sizes]
        titles = [f"a batch of {n} sequences of {steps}" for n, steps in sizes]
        cases = [Case(i, _source(module, traced, i), title) for i, title in zip(made, titles, strict=True)]
    elif traced.batch is not None:
        made = [_batch(rng, traced, tops, n) for n in _BATCHES]
        cases = [Case(i, _source(module, traced, i), f"a batch of {i[0].shape[0]}") for i in made]
    else:
        pair = _batch(rng, traced, tops, 2)
        alone = [_source(module, traced, tuple(x[i : i + 1] for x in pair)) for i in range(2)]
        together = tuple(np.concatenate(parts) for parts in zip(*alone, strict=True))
        cases = [Case(pair, together, "two samples together, against each alone", FIXED_BATCH_HINT)]
    check_parity(reading.graph, cases, tolerance, lambda case: _first_departure(traced, reading, case, tolerance))


def _batch(rng: np.random.Generator, traced: Trace, tops: Sequence[int], batch: int) -> Arrays:
    """Inputs like the example."""
    return tuple(_like(rng, x, x.shape, batch, rows) for x, rows in zip(traced.inputs, tops, strict=True))


def _sequences(rng: np.random.Generator, traced: Trace, tops: Sequence[int], batch: int, steps: int) -> Arrays:
    """Inputs like the example, of so many sequences of so many steps."""
    assert traced.length is not None
    made = []
    for x, axis, rows in zip(traced.inputs, traced.length.axes, tops, strict=True):
        shape = list(x.shape)
        if axis is not None:
            shape[axis] = steps
        made.append(_like(rng, x, shape, batch, rows))
    return tuple(made)


def _like(rng: np.random.Generator, example: Any, like: Sequence[int], batch: int, rows: int) -> np.ndarray:
    """Random numbers of the example's mean, deviation and range, so that a logarithm, say, keeps to its domain.

    For ids, `rows` is the number of those that there are.
    """
    if not example.is_floating_point():
        return rng.integers(0, rows, (batch, *like[1:])).astype(np.int32)
    x = example.detach().float().cpu().numpy()
    shape = (batch, *like[1:])
    spread = float(x.std())
    if spread == 0:
        return rng.normal(float(x.mean()), 1.0, shape).astype(np.float32)
    return np.clip(rng.normal(float(x.mean()), spread, shape), x.min(), x.max()).astype(np.float32)


def _source(module: Any, traced: Trace, inputs: Arrays) -> Arrays:
    try:
        outputs = run_module(module, _tensors(traced, inputs))
    except RuntimeError as error:
        raise ParityError(
            f"the source model cannot run on inputs of {inputs[0].shape}: {str(error).splitlines()[0]}",
            where=user_frame(error),
            hint="it must take any batch, and any length where one was asked for, one included",
        ) from error
    return tuple(output.float().cpu().numpy() for output in outputs)


def _tensors(traced: Trace, inputs: Arrays) -> tuple[Any, ...]:
    torch = import_torch()
    return tuple(torch.from_numpy(a.copy()).to(x) for a, x in zip(inputs, traced.inputs, strict=True))


def _first_departure(traced: Trace, reading: Reading, case: Case, tolerance: float) -> str | None:
    """Words for the first node of the graph whose value departs from that of the exported program's node."""
    inputs = case.inputs if traced.batch is not None else tuple(x[:1] for x in case.inputs)
    expected = _values(traced, reading, inputs)
    found: list[tuple[str, float]] = []

    def watch(name: str, array: np.ndarray) -> None:
        if name in expected and not found:
            error = departure(array, expected[name])
            if error > tolerance:
                found.append((name, error))

    evaluate(reading.graph, *inputs, watch=watch)
    if not found:
        return None
    name, error = found[0]
    node = reading.graph.producers().get(name)
    size = "in shape, or by NaN" if np.isinf(error) else f"by {error:.2g} of its scale"
    return f"{node or name}, the first to depart: {size}"


def _values(traced: Trace, reading: Reading, inputs: Arrays) -> dict[str, np.ndarray]:
    """Value name -> what torch computes for it, node by node."""
    torch = import_torch()
    wanted: dict[Any, list[tuple[str, int | None]]] = {}
    for name, (node, index) in reading.origins.items():
        wanted.setdefault(node, []).append((name, index))
    values: dict[str, np.ndarray] = {}

    program = traced.program
    interpreter = torch.fx.Interpreter(program.graph_module)
    plain = interpreter.run_node

    def run_node(node: Any) -> Any:
        result = plain(node)
        for name, index in wanted.get(node, ()):
            part = result if index is None else result[index]
            values[name] = part.detach().float().cpu().numpy().copy()  # a later node may write into it
        return result

    interpreter.run_node = run_node
    tensors = iter(_tensors(traced, inputs))
    arguments = []
    for spec in program.graph_signature.input_specs:
        target = spec.target
        stored = program.state_dict.get(target) if target in program.state_dict else program.constants.get(target)
        arguments.append(next(tensors) if target is None else stored.clone())
    with torch.no_grad():
        interpreter.run(*arguments)
    return values
