"""What an ONNX file is written for."""

from dataclasses import dataclass

from penjing.core.errors import InvalidInput

# Opset -> the IR version that came with it: engines refuse a newer one than they know.
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
_HAS_INT4 = 21


@dataclass(frozen=True)
class OnnxOptions:
    """How a network is written.

    Attributes:
        opset: version of the operators, 17 to 21; the older, the more engines read it.
        int4: store weights whose codes are -7..7 in four bits, which needs opset 21.
        tensorrt: codes of activations as TensorRT wants them, int8 around zero, and biases as floats.
    """

    opset: int
    int4: bool
    tensorrt: bool


def onnx_options(opset: int | None, *, int4: bool, tensorrt: bool) -> OnnxOptions:
    """Options with the oldest opset that fits, where none is given.

    Raises:
        InvalidInput: an opset that is not written, or is too old for four bits.
    """
    chosen = opset if opset is not None else _HAS_INT4 if int4 else min(IR_VERSIONS)
    if chosen not in IR_VERSIONS:
        first, last = min(IR_VERSIONS), max(IR_VERSIONS)
        raise InvalidInput(f"opset {chosen} is not written", where="opset", hint=f"give one of {first} to {last}")
    if int4 and chosen < _HAS_INT4:
        raise InvalidInput(f"opset {chosen} has no integers of four bits", where="opset", hint=f"give {_HAS_INT4}")
    return OnnxOptions(chosen, int4, tensorrt)
