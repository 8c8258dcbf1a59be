"""Proof at build time that no accumulator of a program can overflow int32, whatever the input."""

from penjing.core.arithmetic import INT32_MAX, accumulator_bound
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Graph

# operators that accumulate u8 * s8: position of weight and bias, and the weight's output-channel axis
_ACCUMULATING = {"q_conv2d": 0, "q_linear": 0, "q_depthwise": 2, "q_conv_transpose2d": 0}


def check_accumulators(program: Graph) -> None:
    """sum |w| * 255 + |bias| <= 2^31 - 1 for every channel, else QuantizationError naming the node."""
    for node in program.nodes:
        axis = _ACCUMULATING.get(node.op.name)
        if axis is None:
            continue
        weight, bias = (program.constants[name].array for name in node.inputs[1:3])
        bound = accumulator_bound(weight, bias, axis)
        if bound > INT32_MAX:
            raise QuantizationError(
                f"an accumulator could reach {bound}, over the int32 limit of {INT32_MAX}",
                where=str(node),
                hint="the layer sums too many products: split it, or use fewer weight bits",
            )
