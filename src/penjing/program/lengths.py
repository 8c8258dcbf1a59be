"""What the kernels of a program are given at each length of a sequence.

Extents, counts and strides are products of extents, of which the length is one: polynomials

    field = a + b * length + c * length^2

They are fitted through the first three lengths, exactly, and compared with the fields themselves at many others. A
field that is none, and a float that follows the length, is an error: no kernel is ever given what is only almost right.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from penjing.core.arithmetic import INT32_MAX
from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Graph, Node
from penjing.ir.lengths import at_length, lengths_to_check
from penjing.ir.types import Type
from penjing.ops.operator import IntegerOperator, Param
from penjing.program.plan import Plan, moved_inputs

_FIELDS = 3  # lengths that decide a polynomial

MakeParams = Callable[[int], Mapping[str, Param]]
"""The fields of a kernel's struct for sequences of so many steps."""


@dataclass(frozen=True)
class Polynomial:
    """a + b * length + c * length^2."""

    a: int
    b: int
    c: int

    def at(self, n: int) -> int:
        """Its value at length `n`."""
        return self.a + self.b * n + self.c * n * n

    def __str__(self) -> str:
        """As a C expression of `length`."""
        terms = [(self.c, "length * length"), (self.b, "length")]
        parts = [text if factor == 1 else f"{factor} * {text}" for factor, text in terms if factor]
        parts += [str(self.a)] if self.a or not parts else []
        return " + ".join(parts).replace("+ -", "- ")


def varying_fields(make: MakeParams, bound: int) -> dict[str, Polynomial]:
    """Those fields of `make`, `name` or `name[i]`, that follow the length.

    Raises:
        InvalidGraph: a field that no polynomial gives at every length up to `bound`.
    """
    lengths = lengths_to_check(bound)
    rows = {n: _flat(make(n)) for n in lengths}
    varying = {}
    for field, last in rows[bound].items():
        values = {n: row[field] for n, row in rows.items()}
        if all(value == last for value in values.values()):
            continue
        polynomial = _fitted(values)
        if polynomial is None:
            said = ", ".join(f"{values[n]} at {n}" for n in lengths[:4])
            raise InvalidGraph(f"its field {field} is no polynomial of the length: {said}")
        varying[field] = polynomial
    return varying


def node_fields(program: Graph, plan: Plan, node: Node, bound: int) -> dict[str, Polynomial]:
    """The fields of a node's kernel that follow the length. Errors as `varying_fields`, with the node."""
    op = node.op
    assert isinstance(op, IntegerOperator)
    moved, pieces = moved_inputs(program, plan, node), plan.places[node.outputs[0]].pieces
    inputs, outputs = program.input_types(node), program.output_types(node)

    def make(n: int) -> Mapping[str, Param]:
        return _at(op, n).placed_params(_cut(inputs, n), _cut(outputs, n), pieces, moved)

    try:
        varying = varying_fields(make, bound)
        _check_scratch(op, inputs, outputs, bound)
    except InvalidGraph as error:
        what = f"it cannot run on sequences of any length: {error.what}"
        raise InvalidGraph(what, where=str(node), hint="capture the network for one length") from error
    return varying


def length_fault(op: IntegerOperator, inputs: tuple[Type, ...], outputs: tuple[Type, ...], bound: int) -> str | None:
    """Why an operator's kernel cannot run on sequences of any length up to `bound`; None when it can."""
    try:
        varying_fields(lambda n: _at(op, n).kernel_params(_cut(inputs, n), _cut(outputs, n)), bound)
        _check_scratch(op, inputs, outputs, bound)
    except InvalidGraph as error:
        return error.what
    return None


def elements_of(type_: Type, bound: int) -> Polynomial:
    """How many elements a value has."""
    fields = varying_fields(lambda n: {"elements": type_.at_length(n).elements}, bound)
    return fields.get("elements", Polynomial(type_.elements, 0, 0))


def _check_scratch(op: IntegerOperator, inputs: tuple[Type, ...], outputs: tuple[Type, ...], bound: int) -> None:
    """Memory is planned at the bound."""
    most = op.scratch_bytes(inputs, outputs)
    for n in lengths_to_check(bound):
        needed = _at(op, n).scratch_bytes(_cut(inputs, n), _cut(outputs, n))
        if needed > most:
            raise InvalidGraph(f"it needs {needed} bytes of scratch memory at length {n}, and {most} at the bound")


def _at(op: IntegerOperator, n: int) -> IntegerOperator:
    cut = at_length(op, n)
    assert isinstance(cut, IntegerOperator)
    return cut


def _cut(types: Iterable[Type], n: int) -> tuple[Type, ...]:
    return tuple(type_.at_length(n) for type_ in types)


def _flat(params: Mapping[str, Param]) -> dict[str, int | float]:
    flat: dict[str, int | float] = {}
    for name, value in params.items():
        if isinstance(value, tuple):
            flat |= {f"{name}[{i}]": item for i, item in enumerate(value)}
        else:
            flat[name] = value
    return flat


def _fitted(values: Mapping[int, int | float]) -> Polynomial | None:
    """The polynomial through all values; None where there is none, or where its terms leave int32."""
    if any(isinstance(value, float) for value in values.values()):
        return None
    points = [(n, Fraction(values[n])) for n in sorted(values)[:_FIELDS]]
    slope = _slope(points[0], points[1])
    c = (
        (_slope(points[1], points[2]) - slope) / (points[2][0] - points[0][0])
        if len(points) == _FIELDS
        else Fraction(0)
    )
    b = slope - c * (points[0][0] + points[1][0])
    a = points[0][1] - b * points[0][0] - c * points[0][0] ** 2
    if any(term.denominator != 1 for term in (a, b, c)):
        return None
    polynomial = Polynomial(int(a), int(b), int(c))
    last = max(values)
    fits = all(polynomial.at(n) == value for n, value in values.items())
    return polynomial if fits and abs(polynomial.b) * last + abs(polynomial.c) * last**2 <= INT32_MAX else None


def _slope(left: tuple[int, Fraction], right: tuple[int, Fraction]) -> Fraction:
    return (right[1] - left[1]) / (right[0] - left[0])
