"""States out of inputs and outputs: what a model leaves in an output for the next call to read as an input.

Recurrent networks, filters and caches are often exported so, `h_in` and `h_out`. As a state the value never leaves the
program: it stays in codes, which both ends therefore share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from penjing.compress.quantize.calibrate import Ranges
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.lengths import length_bound
from penjing.ir.passes import Pass, PassResult, Remark
from penjing.ir.types import State
from penjing.ops.operator import Operator, QuantRule


@dataclass(frozen=True)
class CarryStates(Pass):
    """Turn inputs into states that outputs replace.

    Attributes:
        pairs: input -> the output that the next call reads in its place.
        initial: input -> what the first call reads everywhere; 0 where it is not named.
    """

    name = "carry-states"

    pairs: Mapping[str, str]
    initial: Mapping[str, float] = field(default_factory=dict)

    def run(self, graph: Graph) -> PassResult:
        """A quantized graph without these inputs and outputs.

        Raises:
            InvalidInput: no such input or output, one that is named twice, other shapes or codes, or nothing is left.
        """
        check_pairs(graph, self.pairs)
        strangers = sorted(self.initial.keys() - self.pairs.keys())
        if strangers:
            raise InvalidInput(f"{', '.join(strangers)} is not carried, so it does not begin", where="initial")
        graph = graph.copy()
        graph.inputs = tuple(name for name in graph.inputs if name not in self.pairs)
        graph.outputs = tuple(name for name in graph.outputs if name not in self.pairs.values())
        remarks = []
        for name, update in self.pairs.items():
            type_ = graph.types[name]
            if graph.types[update].quant != type_.quant:
                raise InvalidInput(
                    f"input {name} and output {update} have different codes",
                    where=f"graph {graph.name}",
                    hint="quantize with the ranges of `shared_ranges`",
                )
            graph.states[name] = State(type_, update, self.initial.get(name, 0.0))
            remarks.append(Remark(name, f"carried from call to call, {type_.elements} codes"))
        return PassResult(graph, tuple(remarks))


def check_pairs(graph: Graph, pairs: Mapping[str, str]) -> None:
    """InvalidInput unless inputs and outputs of `graph` can become states, and something is left."""
    where = f"graph {graph.name}"
    if length_bound(graph) is not None:
        what = "a network for sequences of any length cannot carry states"
        raise InvalidInput(what, where=where, hint="capture it without a length")
    for name, update in pairs.items():
        if name not in graph.inputs:
            raise InvalidInput(f"there is no input {name}", where=where, hint=f"inputs: {', '.join(graph.inputs)}")
        if update not in graph.outputs:
            raise InvalidInput(f"there is no output {update}", where=where, hint=f"outputs: {', '.join(graph.outputs)}")
        before, after = graph.types[name], graph.types[update]
        if before.bounds != after.bounds:
            raise InvalidInput(f"input {name} has shape {before.bounds}, output {update} {after.bounds}", where=where)
    if len(set(pairs.values())) < len(pairs):
        raise InvalidInput("one output cannot replace two inputs", where=where)
    if len(pairs) == len(graph.inputs) or len(pairs) == len(graph.outputs):
        raise InvalidInput("a model needs an input and an output besides what it carries", where=where)


def shared_ranges(graph: Graph, ranges: Ranges, pairs: Mapping[str, str]) -> Ranges:
    """`ranges` in which each input of `pairs` gets the codes of the output that replaces it.

    That is the range of both together, or the output's own where its operator fixes it.

    Raises:
        InvalidInput: as `check_pairs`, or an output that is a constant.
    """
    check_pairs(graph, pairs)
    found = dict(ranges.ranges)
    for _ in pairs:  # one state may replace another
        for name, update in pairs.items():
            source, fixed = _source(graph, update)
            if fixed is not None:
                found[name] = fixed
            else:
                (low, high), (least, most) = found[name], found[source]
                found[name] = found[source] = min(low, least), max(high, most)
    return replace(ranges, ranges=found)


def _source(graph: Graph, value: str) -> tuple[str, tuple[float, float] | None]:
    """The value whose codes `value` has, and its range where its operator fixes that."""
    makers = graph.producers()
    while (maker := makers.get(value)) is not None:
        assert isinstance(maker.op, Operator)
        if maker.op.quant_rule is QuantRule.FIXED:
            return value, maker.op.fixed_range()
        if maker.op.quant_rule is QuantRule.OWN:
            break
        value = maker.inputs[0]
    if value in graph.constants:
        raise InvalidInput(f"constant {value} cannot replace a state", where=f"graph {graph.name}")
    return value, None
