"""Sequences and vectors as images of height (and width) 1, so that the 2-D integer operators serve them too.

    (N, L, C) -> (N, 1, L, C)        (N, C) -> (N, 1, 1, C)

The bytes stay where they are: only the shape changes, there and back.
"""

from penjing.ir.types import Shape
from penjing.ops.lowering import Epilogue, Lowering, channels_last
from penjing.ops.operator import IntegerOperator

IMAGE_RANK = 4


def as_image(shape: Shape) -> Shape:
    """A channels-last shape of rank 2 to 4 led up to rank 4 behind its batch axis."""
    return (shape[0], *(1,) * (IMAGE_RANK - len(shape)), *shape[1:])


def emit_as_image(
    lowering: Lowering, value: str, op: IntegerOperator, epilogue: Epilogue, constants: tuple[str, ...] = ()
) -> None:
    """Emit a 2-D channels-last `op` on network value `value` of rank 2 to 4 and program `constants`."""
    rank = len(lowering.shape(value))
    order = channels_last(rank)
    x = lowering.placed(value, order)
    image = lowering.reshape(x, as_image(lowering.program.types[x].shape))
    y = lowering.emit(op, (image, *constants), epilogue.output, lowering.quant(epilogue.output))
    shape = lowering.program.types[y].shape
    y = lowering.reshape(y, (shape[0], *shape[1 + IMAGE_RANK - rank :]))
    lowering.define(epilogue.output, y, order)
