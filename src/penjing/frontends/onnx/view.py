"""The nodes of a model so far, as patterns look at them: what makes a value, which numbers it is a product of."""

import math
from dataclasses import dataclass

from penjing.frontends.onnx.model import OnnxModel, OnnxNode

_CLOSE = 1e-3  # exporters write constants with few digits, such as 0.7978
_MOST_FACTORS, _MOST_STEPS = 8, 32


def is_close(value: float, wanted: float) -> bool:
    """Whether a constant is the one that a formula has."""
    return math.isclose(value, wanted, rel_tol=_CLOSE)


@dataclass
class View:
    """The nodes so far, by what they make."""

    model: OnnxModel
    makers: dict[str, OnnxNode]

    def __post_init__(self) -> None:
        self.users = self.model.users()

    def fresh(self, stem: str) -> str:
        """A name that no value has."""
        while stem in self.users or stem in self.model.constants:
            stem += "_"
        return stem

    def maker(self, name: str, *ops: str) -> OnnxNode | None:
        """The node that makes a value, if it is one of these operators."""
        node = self.makers.get(name)
        return node if node is not None and node.op in ops and not node.domain else None

    def uncast(self, name: str) -> str:
        """The value itself, where a name is that of a cast of it."""
        while (cast := self.maker(name, "Cast")) is not None:
            name = cast.inputs[0]
        return name

    def number(self, name: str) -> float | None:
        """A constant that is one number."""
        array = self.model.constants.get(name)
        if array is None or array.size != 1 or array.dtype.kind not in "fiu":
            return None
        return float(array.reshape(-1)[0])

    def product(self, name: str) -> tuple[list[str], float]:
        """(factors, number) with the value being their product."""
        factors: list[str] = []
        number, pending = 1.0, [name]
        steps = 0
        while pending:
            value, steps = pending.pop(), steps + 1
            constant = self.number(value)
            node = self.maker(value, "Mul", "Div")
            divisor = self.number(node.inputs[1]) if node is not None and node.op == "Div" else None
            if constant is not None:
                number *= constant
            elif (
                node is None
                or steps > _MOST_STEPS
                or len(factors) + len(pending) > _MOST_FACTORS
                or (node.op == "Div" and not divisor)
            ):
                factors.append(value)
            elif node.op == "Mul":
                pending += node.inputs
            else:
                number /= divisor or 1.0
                pending.append(node.inputs[0])
        return factors, number

    def plus(self, name: str) -> tuple[str, float] | None:
        """(value, number) of a sum with a number."""
        node = self.maker(name, "Add")
        for a, b in ((0, 1), (1, 0)) if node is not None else ():
            number = self.number(node.inputs[b]) if node is not None else None
            if node is not None and number is not None:
                return node.inputs[a], number
        return None
