"""Proof at build time that no accumulator of a program can overflow int32, whatever the input."""

from penjing.core.arithmetic import INT32_MAX, accumulator_bound
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Graph

# operators that accumulate u8 * s8: positions of their weights, each before its bias, and the output-channel axis
_LAYER, _RECURRENT = ((1,), 0), ((1, 4), 0)
_ACCUMULATING = {
    **{
        "q_conv2d": _LAYER,
        "q_linear": _LAYER,
        "q_linear_wide": _LAYER,
        "q_depthwise": ((1,), 2),
        "q_conv_transpose2d": _LAYER,
    },
    **{"q_lstm": _RECURRENT, "q_gru": _RECURRENT, "q_rnn": _RECURRENT},
}


def check_accumulators(program: Graph) -> None:
    """sum |w| * 255 + |bias| <= 2^31 - 1 for every channel, else QuantizationError naming the node."""
    for node in program.nodes:
        places, axis = _ACCUMULATING.get(node.op.name, ((), 0))
        arrays = [[program.constants[name].array for name in node.inputs[at : at + 2]] for at in places]
        bound = max((accumulator_bound(weight, bias, axis) for weight, bias in arrays), default=0)
        if bound > INT32_MAX:
            raise QuantizationError(
                f"an accumulator could reach {bound}, over the int32 limit of {INT32_MAX}",
                where=str(node),
                hint="the layer sums too many products: split it, or use fewer weight bits",
            )
