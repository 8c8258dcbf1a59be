"""ONNX to Graph, opset 11 to 24, floats or QDQ and QLinear models. The first axis of every input is the batch.

Shape arithmetic and constants are evaluated, decomposed patterns become one operator again, quantization is kept as
grids and ranges. Refused are, all places at once: operators that no file in `ops/` reads, control flow, models that mix
the batch with another axis.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penjing.core.errors import InvalidInput
from penjing.core.length import Length
from penjing.frontends.coverage import Coverage, coverage_of, refuse
from penjing.frontends.onnx.compare import check_model
from penjing.frontends.onnx.file import read_model
from penjing.frontends.onnx.inputs import Shapes
from penjing.frontends.onnx.model import OnnxModel, plain
from penjing.frontends.onnx.patterns import recognise
from penjing.frontends.onnx.read import Reading, read
from penjing.ir.dump import dump
from penjing.ir.graph import Graph
from penjing.ir.passes import Remark
from penjing.ir.verify import verify

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Captured:
    """What an ONNX model became.

    Attributes:
        graph: in stage `imported`; weights of a quantized model lie on their grids.
        ranges: of a quantized model, activation -> (low, high); None of a float model.
        unquantized: of a quantized model, activations that the model keeps as floats: they need calibration.
        notes: what of its quantization could not be kept, and why.
    """

    graph: Graph
    ranges: dict[str, tuple[float, float]] | None = None
    unquantized: tuple[str, ...] = ()
    notes: tuple[Remark, ...] = ()

    @property
    def needs_calibration(self) -> bool:
        """Whether quantizing the graph needs typical inputs."""
        return self.ranges is None or bool(self.unquantized)


def capture(
    path: Path,
    *,
    name: str | None = None,
    shapes: Shapes | None = None,
    length: Length | None = None,
    fixed: Mapping[str, float] | None = None,
    check: bool = True,
) -> Captured:
    """The graph of an ONNX model, and the ranges of its activations where it is quantized.

    Args:
        path: of the .onnx file; external data lie beside it or below its folder.
        name: of the graph; the file's name when None.
        shapes: input name -> shape without the batch, where the file leaves extents open. Extents of one name in the
            file have to be said once.
        length: which axis of the inputs that are not fixed is the length of a sequence, and how long it may get.
        fixed: input name -> the number that it is full of, as a mask of padding is of 1 where nothing is padded.
        check: compare the graph with the model on random inputs, by onnxruntime if it is installed, else by the
            reference of the onnx package.

    Returns:
        A verified graph. Inputs have shape (batch<=1, ...), with `length<=max` where that was asked for, and those that
        are fixed are gone; values and constants are named as in the model.

    Raises:
        InvalidInput: no ONNX model, or one that is damaged or breaks the rules of the format.
        UnsupportedOp: listing every node that cannot be carried, before any work.
        ParityError: the graph computes something else than the model, naming the first node that does.
        MissingDependency: the onnx package is not installed.
    """
    title = name if name is not None else plain(path.stem).replace(".", "_")[:64]
    if _NAME.fullmatch(title) is None:
        raise InvalidInput(f"{title!r} cannot name a graph", hint="use up to 64 letters, digits, _ and -")
    model, reading = _read(path, title, shapes, length, fixed)
    refuse(path.name, reading.problems)
    verify(reading.graph)
    codes = reading.codes
    unquantized = codes.complete() if codes.found else ()
    ranges = codes.ranges if codes.found else None
    if check:
        check_model(model, reading, None if ranges is None else {**ranges, **codes.given_up})
    dump(reading.graph, "imported")
    return Captured(reading.graph, ranges, unquantized, tuple(Remark(*note) for note in codes.notes))


def coverage(
    path: Path,
    *,
    shapes: Shapes | None = None,
    length: Length | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Coverage:
    """Which nodes of an ONNX model are carried, and which are not, with places and reasons.

    Takes the shapes, the length and what is fixed as `capture` does.

    Raises:
        InvalidInput, UnsupportedOp, MissingDependency: the file cannot be read at all.
    """
    _, reading = _read(path, "model", shapes, length, fixed)
    return coverage_of(reading.carried, reading.problems)


def _read(
    path: Path, name: str, shapes: Shapes | None, length: Length | None, fixed: Mapping[str, float] | None
) -> tuple[OnnxModel, Reading]:
    model = recognise(read_model(path, shapes, length, fixed))
    return model, read(model, name)
