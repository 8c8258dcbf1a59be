"""Which inner loops the kernels of a program take, so that its library holds code for these only."""

from collections.abc import Iterator

from penjing.ir.graph import Graph
from penjing.ops.operator import IntegerOperator


def inner_loop_lines(program: Graph) -> Iterator[str]:
    """A macro for each kind of inner loop, with a bit for each that some node takes."""
    taken: dict[str, set[int]] = {}
    for node in program.nodes:
        assert isinstance(node.op, IntegerOperator)
        for macro, bits in node.op.inner_loops(program.input_types(node), program.output_types(node)).items():
            taken.setdefault(macro, set()).update(bits)
    for macro, bits in sorted(taken.items()):
        yield f"#define {macro} {sum(1 << bit for bit in bits):#x}"
