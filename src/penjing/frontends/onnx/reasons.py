"""Why a node cannot be carried at all, whatever its inputs are."""

from collections.abc import Container

from penjing.frontends.onnx.codes import QUANTIZED
from penjing.frontends.onnx.fold import FOLDED
from penjing.frontends.onnx.model import OnnxNode

_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_NOT_YET = {"MultiHeadAttention", "InstanceNormalization"}
NO_MEANING = "no operator of penjing has this name"
# Operators that are carried within a pattern, and on constants.
_NORM = "it is carried only as a part of a norm over the last axes: x / sqrt(mean(x^2) + eps)"
PARTS = {
    "Erf": "it is carried only as a part of GELU: x * (1 + erf(x / sqrt(2))) / 2",
    "Where": "it is carried only where a constant mask hides scores of attention, by -80 or less",
    **dict.fromkeys(("Pow", "Sqrt", "Reciprocal"), _NORM),
}


def reason_for(node: OnnxNode, known: Container[str]) -> str | None:
    """Words, or None where it depends on the inputs."""
    if node.op in _CONTROL:
        loop = ": a recurrent layer that was taken apart; export it whole" if node.op in ("Loop", "Scan") else ""
        return f"control flow that depends on data{loop}"
    if node.graphs:
        return f"its attribute {node.graphs[0]} has a type that is not read"
    if node.op in _RANDOM:
        return "draws random numbers"
    if node.target in QUANTIZED:
        return None
    if node.op in _NOT_YET:
        return "not carried yet"
    if node.domain:
        return f"the domain {node.domain} is not known" if node.domain != "com.microsoft" else NO_MEANING
    if node.op in known or node.op in FOLDED:
        return None
    return NO_MEANING
