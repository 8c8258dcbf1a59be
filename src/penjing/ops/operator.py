"""What one operator file must say.

A `Operator` is an operator of the network as its author wrote it: a meaning in floats, a shape rule, a cost, its names
in the front ends, and how it becomes integer operators. An `IntegerOperator` is an operator of the program that devices
run: a meaning in integers that is exact, and the numbers that its kernel needs. Neither knows torch, ONNX or C: front
ends read names, `torch_form` is handed the torch module, and `kernel_params` returns plain numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from penjing.core.errors import InvalidGraph, UnsupportedOp
from penjing.ir.graph import Node, Operation
from penjing.ir.types import DType, Quant, Type

if TYPE_CHECKING:
    from penjing.ops.coupling import Coupling, Kept
    from penjing.ops.lowering import Epilogue, Lowering
    from penjing.ops.onnx_call import OnnxCall
    from penjing.ops.onnx_nodes import OnnxForm
    from penjing.ops.torch_call import Composed, Imported, TorchCall


class QuantRule(Enum):
    """Where the quantization of an operator's output comes from."""

    OWN = "own"  # observed by calibration
    SAME = "same"  # that of the first input: codes are moved, not computed
    FIXED = "fixed"  # known from the operator: `fixed_range`


class FloatRule(Enum):
    """When a program computes an operator in float32."""

    NEVER = "never"  # it has an integer form alone
    KEPT = "kept"  # a layer, where its weight is kept in float32
    FOLLOWS = "follows"  # where all that it reads is in float32
    MOVES = "moves"  # likewise, and something in float32 reads it: codes are moved, or compared, more cheaply


@dataclass(frozen=True)
class WeightInput:
    """One constant that an operator multiplies by: positions among its inputs of the weight and of its bias, if any.

    `of_output`: it multiplies the operator's own output of the step before, as recurrent weights do, not its input.
    """

    weight: int
    bias: int | None
    of_output: bool = False


@dataclass(frozen=True)
class Carried:
    """What a recurrent operator carries from step to step: the position of its first value among the inputs.

    `fine`: its codes of 16 bits. Given in these, the last value is one more output, in the order of the inputs. None:
    it is y, step by step.
    """

    place: int
    fine: Quant | None = None


@dataclass(frozen=True)
class Cost:
    """Work of one call on one sample: multiply-accumulates, and bytes of constants and activations touched."""

    macs: int
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.bytes + other.bytes)


@dataclass(frozen=True)
class Sample:
    """One example of an operator: the operator with its attributes, and arrays for its inputs.

    `constant` names the inputs (by position) that are constants of the network, such as weights. A sample of an integer
    operator may also give the quantization of its inputs where it matters.
    """

    op: Operation
    inputs: tuple[np.ndarray | None, ...]
    constant: tuple[int, ...] = ()

    @property
    def types(self) -> tuple[Type, ...]:
        """Types of the inputs that are present."""
        return tuple(Type(tuple(x.shape), DType.of(x)) for x in self.inputs if x is not None)


@dataclass(frozen=True)
class Pieces:
    """How a value lies that does not lie in one piece: `nbytes` bytes together, the next `step` bytes further on."""

    nbytes: int
    step: int


@dataclass(frozen=True)
class Part:
    """Where an input lies in an output that joins inputs: its pieces, the first `offset` bytes from the start."""

    offset: int
    pieces: Pieces


class Operator(Operation):
    """An operator of the network, with its float meaning."""

    torch: ClassVar[tuple[str, ...]] = ()
    onnx: ClassVar[tuple[str, ...]] = ()
    onnx_rank: ClassVar[int | None] = None  # of the first input, where it decides which operator reads an ONNX name
    quant_rule: ClassVar[QuantRule] = QuantRule.OWN
    float_rule: ClassVar[FloatRule] = FloatRule.NEVER
    weight_input: ClassVar[int | None] = None  # position of the input that is quantized symmetrically, per channel
    # of an operator with several weights, which then has no `weight_input`: its outputs are not sums of products
    recurrent_weights: ClassVar[tuple[WeightInput, ...]] = ()
    weight_axis: ClassVar[int] = 0  # its output-channel axis
    bias_input: ClassVar[int | None] = None
    of_streams: ClassVar[bool] = False  # only a network that knows its position in a sequence holds it
    parameter_inputs: ClassVar[tuple[int, ...]] = ()  # float constants that lowering reads as they are

    @classmethod
    def from_torch(cls, call: TorchCall) -> Imported | Composed:
        """The operator for a call of one of the names in `torch`; the default takes all tensors and no attributes."""
        from penjing.ops.torch_call import Imported, Ref

        return Imported(cls(), tuple(a.name for a in call.arguments.values() if isinstance(a, Ref)))

    @classmethod
    def from_onnx(cls, call: OnnxCall) -> Imported | Composed:
        """The operator for a node of one of the names in `onnx`; the default takes all inputs and no attributes."""
        from penjing.ops.torch_call import Imported

        call.require(not call.attributes, f"{', '.join(call.attributes)} given")
        return Imported(cls(), tuple(call.operand(i).name for i in range(len(call.inputs))))

    @classmethod
    def weight_inputs(cls) -> tuple[WeightInput, ...]:
        """Every weight that the operator multiplies by."""
        return cls.recurrent_weights if cls.weight_input is None else (WeightInput(cls.weight_input, cls.bias_input),)

    def quant_rule_of(self, output: int) -> QuantRule:
        """The rule for one of its outputs."""
        return self.quant_rule

    def float_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        """The meaning: float32 arrays in (None for an absent input) and out. Axis 0 may be any batch size."""
        raise NotImplementedError

    def weight_operands(self, *inputs: Any) -> np.ndarray | None:
        """Of a layer: (groups, rows, k), what the weight is multiplied by, or None where the weight has no such rows.

        With w = weight.reshape(groups, O / groups, k), rows @ w[g].T are the outputs of group g before the bias, one
        row for each sample and position.
        """
        return None

    def torch_form(self, torch: Any, *inputs: Any) -> Any:
        """The same with torch tensors, differentiable; a tensor, or a tuple for several outputs."""
        raise NotImplementedError

    def to_onnx(self, form: OnnxForm) -> None:
        """Write it in ONNX; the default is a node named by the first of `onnx`, with all inputs and no attributes."""
        if not self.onnx or (is_dataclass(self) and fields(self)):
            raise UnsupportedOp(f"{self.name} cannot be written as ONNX", where=str(form.source))
        form.result(self.onnx[0], *form.inputs())

    def coupling(self, inputs: tuple[Type | None, ...], outputs: tuple[Type, ...]) -> Coupling:
        """Which slices of inputs (None for an absent one) and outputs go together; by default all axes stay whole."""
        from penjing.ops.coupling import Coupling

        return Coupling()

    def shrunk(self, inputs: tuple[Kept | None, ...], outputs: tuple[Kept, ...]) -> Operator:
        """The operator for what is left of inputs and outputs, where an attribute speaks of extents."""
        return self

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        """Work of one call; the default counts bytes only."""
        return Cost(0, sum(t.nbytes for t in (*inputs, *outputs)))

    def clamp_range(self) -> tuple[float, float] | None:
        """(low, high) when the operator is a clamp that the operator before it can do in passing; else None."""
        return None

    def fixed_range(self) -> tuple[float, float]:
        """The output range of a FIXED operator."""
        raise NotImplementedError

    def lower(self, lowering: Lowering, node: Node, epilogue: Epilogue) -> None:
        """Emit integer operators that compute `epilogue.output`."""
        raise NotImplementedError

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Examples from which tests, fuzzers and the operator table are made."""
        raise NotImplementedError


class IntegerOperator(Operation):
    """An operator of the program, with its exact integer meaning."""

    alias: ClassVar[bool] = False  # the output is the first input's bytes under another shape: no kernel, no copy;
    # the kernel, where a copy is needed after all, reads no other input
    in_place: ClassVar[bool] = False  # the kernel may write its output over its first input
    splits: ClassVar[bool] = False  # there is a kernel pj_<name>_part, of which several threads compute one part each

    def integer_reference(self, *inputs: Any) -> tuple[np.ndarray, ...]:
        """The definition: what every target must reproduce byte for byte. Axis 0 may be any batch size."""
        raise NotImplementedError

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        """The fields of `struct pj_<name>`, in order."""
        raise NotImplementedError

    def scratch_bytes(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> int:
        """Bytes of working memory that the kernel needs for one call."""
        return 0

    def parts(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> tuple[Part, ...]:
        """Where each input lies in the output of an operator that only joins them; () for every other operator.

        An input that the plan lays there is not moved.
        """
        return ()

    def writes_pieces(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], nbytes: int) -> bool:
        """Whether the kernel can write its output in pieces of so many bytes; `step` of its struct sets them apart."""
        return False

    def placed_params(
        self, inputs: tuple[Type, ...], outputs: tuple[Type, ...], pieces: Pieces | None, moved: Sequence[int]
    ) -> dict[str, Param]:
        """`kernel_params` for an output that lies in `pieces`.

        `moved` are the positions of the inputs that the kernel is given: of an operator with `parts`, those that do not
        lie in the output already; of others, all.
        """
        params = self.kernel_params(inputs, outputs)
        return {**params, "step": pieces.step} if pieces else params

    def inner_loops(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, set[int]]:
        """Which inner loops of its kernel it takes when one thread computes it: bits of the macros that choose them.

        A library holds only those that a node takes. An operator that names one macro names all of its kernel.
        """
        return {}

    def cost(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> Cost:
        """Work of one call; the default counts bytes only."""
        return Cost(0, sum(t.nbytes for t in (*inputs, *outputs)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Examples with every code, exact ties, both saturation ends and lengths around each vector width."""
        raise NotImplementedError


Param = int | float | tuple[int, ...]


def expect(condition: bool, what: str) -> None:
    """Raise InvalidGraph unless a shape rule's condition holds; the verifier adds the node."""
    if not condition:
        raise InvalidGraph(what)
