"""PyTorch to Graph, by `torch.export` at the level of whole ATen operators.

A convolution, a batch norm or a linear layer arrives as one node; nothing is decomposed. The first axis of every input
is the batch. This front end refuses, naming every place at once: operators that no file in `ops/` reads, control flow
that depends on data, models that mix the batch with another axis, and state that changes from call to call.
"""

import re
from typing import Any

from penjing.core.errors import InvalidInput
from penjing.core.length import Length
from penjing.frontends.coverage import Coverage, coverage_of, refuse
from penjing.frontends.exported.compare import check_module
from penjing.frontends.exported.read import Reading, read
from penjing.frontends.exported.trace import Trace, evaluation, example_tensors, trace
from penjing.ir.dump import dump
from penjing.ir.graph import Graph
from penjing.ir.verify import verify

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def capture(
    module: Any, example: Any, *, name: str | None = None, check: bool = True, length: Length | None = None
) -> Graph:
    """The graph of a torch module, in stage `imported`.

    Args:
        module: a `torch.nn.Module`; it is read in evaluation mode and left as it was.
        example: the input, or a tuple of inputs: tensors or numpy arrays of floats whose axis 0 is the batch, of any
            size. Its mean, deviation and range shape the random inputs of the parity check.
        name: of the graph; the class name in lower case when None.
        check: compare the graph with the module on random inputs. The check always runs when the module fixes its batch
            at one, because only it can tell whether samples stay apart, and with `length`, as only it can tell whether
            constants that follow the length do so by their first elements.
        length: which axis of the inputs is the length of a sequence, and how long it may get. All shapes are fixed when
            None.

    Returns:
        A verified graph. Inputs have shape (batch<=1, ...), with `length<=max` where that was asked for; constants are
        float32 and named as in the state dict; values are named after the modules that make them.

    Raises:
        InvalidInput: the example or a parameter does not fit: type, dtype, NaN, size.
        UnsupportedOp: listing every operator that cannot be carried, before any work.
        ParityError: the graph computes something else than the module, naming the first node that does.
        MissingDependency: torch is not installed.
    """
    tensors = example_tensors(module, example)
    title = name if name is not None else re.sub(r"\W", "_", type(module).__name__.lower(), flags=re.ASCII)
    if _NAME.fullmatch(title) is None:
        raise InvalidInput(f"{title!r} cannot name a graph", hint="use up to 64 letters, digits, _ and -")
    with evaluation(module):
        traced, reading = _read(module, tensors, title, length)
        refuse(type(module).__name__, reading.problems)
        if reading.faults:
            raise reading.faults[0]
        verify(reading.graph)
        if check or traced.batch is None or traced.length is not None:
            check_module(module, traced, reading)
    dump(reading.graph, "imported")
    return reading.graph


def coverage(module: Any, example: Any, *, length: Length | None = None) -> Coverage:
    """Which operators of a torch module are carried, and which are not, with places and reasons.

    Takes the module, the example and the length as `capture` does.

    Raises:
        InvalidInput: the example does not fit.
        UnsupportedOp: torch.export cannot write the module down as a graph at all.
        MissingDependency: torch is not installed.
    """
    tensors = example_tensors(module, example)
    with evaluation(module):
        _, reading = _read(module, tensors, "model", length)
    return coverage_of(reading.carried, reading.problems)


def _read(module: Any, tensors: tuple[Any, ...], name: str, length: Length | None = None) -> tuple[Trace, Reading]:
    traced = trace(module, tensors, length)
    return traced, read(traced, name)
