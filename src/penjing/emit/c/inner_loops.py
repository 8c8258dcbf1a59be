"""Which inner loops the kernels of a program take, so that its library holds code for these only."""

from collections.abc import Iterator

from penjing.ir.graph import Graph, Node
from penjing.ir.lengths import length_bound, lengths_to_check
from penjing.ir.types import Type
from penjing.ops.operator import IntegerOperator


def inner_loop_lines(program: Graph) -> Iterator[str]:
    """A macro for each kind of inner loop, with a bit for each that some node takes."""
    taken: dict[str, set[int]] = {}
    for node in program.nodes:
        assert isinstance(node.op, IntegerOperator)
        for types in _types(program, node):
            for macro, bits in node.op.inner_loops(*types).items():
                taken.setdefault(macro, set()).update(bits)
    for macro, bits in sorted(taken.items()):
        yield f"#define {macro} {sum(1 << bit for bit in bits):#x}"


def _types(program: Graph, node: Node) -> Iterator[tuple[tuple[Type, ...], tuple[Type, ...]]]:
    """Types of a node's inputs and outputs, at every kind of length."""
    inputs, outputs = program.input_types(node), program.output_types(node)
    longest = length_bound(program)
    for n in lengths_to_check(longest) if longest else [1]:
        yield tuple(t.at_length(n) for t in inputs), tuple(t.at_length(n) for t in outputs)
