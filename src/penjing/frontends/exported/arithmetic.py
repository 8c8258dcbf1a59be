"""Calls that torch spells in many ways, brought to the one that operators read: plain Python, no torch.

x + 2, 2 + x, add_(x, c)       aten.add.Tensor, numbers as constants of shape ()
x - 2                          aten.sub.Tensor
2 - x, rsub(x, 2)              aten.sub.Tensor with the constant first
x * c, -x                      aten.mul.Tensor, with -1 for the sign
x / c                          aten.mul.Tensor with 1 / c, rounded once to float32
masked_fill(x, m, -inf)        aten.add.Tensor with a constant that hides where m does; where(m, x, -inf) likewise
relu_                          relu: writes are bound before, see `writes`
"""

import dataclasses
from collections.abc import Callable, Container

import numpy as np

from penjing.core.errors import UnsupportedOp
from penjing.ops.attention_mask import HIDDEN, HIDING
from penjing.ops.torch_call import Ref, TorchCall

_SPELLINGS = {"multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div", "negative": "neg"}
_MASKS = {"masked_fill", "where"}
_FAMILY = {"add", "sub", "rsub", "mul", "div", "neg"}

# Changes of element type or place; between floats they change nothing here, where every activation is float32.
CASTS = frozenset(
    {
        "aten._to_copy.default",
        "aten.to.device",
        "aten.to.dtype",
        "aten.to.dtype_layout",
        "aten.to.other",
        "aten.to.prim_Device",
        "aten.type_as.default",
    }
)


class Constants:
    """Access to the constants of the graph under construction."""

    def __init__(self, find: Callable[[str], np.ndarray | None], make: Callable[[np.ndarray], Ref]) -> None:
        self._find = find
        self._make = make

    def value(self, operand: object) -> np.ndarray | None:
        """float64 value of a number or constant; None of an activation."""
        if isinstance(operand, int | float):
            return np.asarray(operand, np.float64)
        found = self._find(operand.name) if isinstance(operand, Ref) else None
        return None if found is None else found.astype(np.float64)

    def make(self, value: np.ndarray) -> Ref:
        """A new constant, rounded to float32."""
        with np.errstate(over="ignore"):
            return self._make(value.astype(np.float32))


def canonical(call: TorchCall, known: Container[str], constants: Constants) -> TorchCall:
    """The call in the spelling that operators read; `known` are the targets that some operator names.

    Raises:
        UnsupportedOp: arithmetic that no operator can do.
    """
    parts = call.target.split(".")
    if parts[0] != "aten" or len(parts) != 3:
        return call
    name = parts[1].removesuffix("_")
    name = _SPELLINGS.get(name, name)
    if name in _FAMILY and parts[2] in ("Tensor", "Scalar", "default"):
        return _arithmetic(call, name, known, constants)
    if name in _MASKS:
        return _masked(call, constants)
    functional = f"aten.{parts[1].removesuffix('_')}.{parts[2]}"
    if call.target not in known and functional in known:
        return dataclasses.replace(call, target=functional)
    return call


def is_carried(target: str, known: Container[str]) -> bool:
    """Whether a call of this name can be carried at all, its arguments aside."""
    parts = target.split(".")
    name = parts[1].removesuffix("_") if len(parts) == 3 else target
    functional = f"aten.{name}.{parts[-1]}"
    return target in known or functional in known or target in CASTS or _SPELLINGS.get(name, name) in _FAMILY | _MASKS


def _arithmetic(call: TorchCall, name: str, known: Container[str], constants: Constants) -> TorchCall:
    if name == "neg" and call.target in known:
        return call
    a, b = call.arguments["self"], call.arguments.get("other", -1)
    alpha = call.arguments.get("alpha", 1)
    if alpha != 1:
        if name == "rsub":  # other - alpha * self
            a, b, name = b, a, "sub"
        scaled = constants.value(b)
        call.require(scaled is not None, f"alpha = {alpha!r} on a tensor that is not constant")
        assert scaled is not None and isinstance(alpha, int | float)
        b = constants.make(scaled * alpha)
    if name == "rsub":
        a, b, name = b, a, "sub"
    if name == "neg":
        name = "mul"
    if name == "div":
        divisor = constants.value(b)
        if divisor is None:
            if call.target in known:
                return call
            raise UnsupportedOp(f"{call.target} by a tensor that is not constant")
        call.require(bool(np.all(divisor != 0)), "a divisor of zero")
        b, name = constants.make(1.0 / divisor), "mul"
    operands = {"self": _operand(a, constants), "other": _operand(b, constants)}
    return TorchCall(f"aten.{name}.Tensor", operands, call.outputs)


def _masked(call: TorchCall, constants: Constants) -> TorchCall:
    """A sum with a constant: 0 where scores are kept, HIDDEN where the mask hides them."""
    if "mask" in call.arguments:
        hides, x, fill = constants.value(call.arguments["mask"]), call.arguments["self"], call.arguments["value"]
    else:
        x, fill = call.arguments["self"], call.arguments["other"]
        hides = constants.value(call.arguments["condition"])
        if constants.value(x) is not None:
            x, fill = fill, x
        elif hides is not None:
            hides = 1 - hides
    number = constants.value(fill)
    call.require(hides is not None, "a mask that is computed")
    call.require(number is not None and bool(np.all(number <= HIDING)), f"anything but numbers <= {HIDING:g}")
    assert hides is not None
    operands = {"self": _operand(x, constants), "other": constants.make(np.where(hides, HIDDEN, 0.0))}
    return TorchCall("aten.add.Tensor", operands, call.outputs)


def _operand(value: object, constants: Constants) -> Ref:
    if isinstance(value, Ref):
        return value
    number = constants.value(value)
    if number is None:
        raise UnsupportedOp(f"arithmetic with {value!r} is not supported")
    return constants.make(number)
