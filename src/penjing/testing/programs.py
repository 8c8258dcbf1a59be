"""Small integer programs written by hand, whose sizes are easy to see."""

import numpy as np

from penjing.ir.graph import Graph
from penjing.ir.types import Constant, DType, Quant, Type
from penjing.ir.verify import verify
from penjing.ops.add import QAdd
from penjing.ops.concat import QConcat
from penjing.ops.operator import IntegerOperator
from penjing.ops.reshape import QReshape
from penjing.ops.table import QTable
from penjing.ops.transpose import QTranspose
from penjing.program.plan import Plan, plan
from penjing.testing.networks import BATCH
from penjing.testing.plan_check import plan_problems

CODES = Quant((1.0,), 0)
TABLE = np.arange(256, dtype=np.uint8)


class Program:
    """Builds a program of moves and tables, whose sizes are easy to see."""

    def __init__(self, *inputs: int) -> None:
        self.graph = Graph("by hand", stage="lowered")
        for i, n in enumerate(inputs):
            self.graph.add_input(f"x{i}", Type((BATCH, n), DType.U8, CODES))
        self.graph.add_constant("t", Constant(TABLE))

    def add(self, op: IntegerOperator, *names: str, out: str) -> str:
        """Any operator; returns the name of its output, as do all others."""
        self.graph.add_node(op, names, (out,))
        self.graph.types[out] = self.graph.types[out].with_quant(CODES)
        return out

    def table(self, x: str, out: str) -> str:
        """A table, which may work in place."""
        return self.add(QTable(), x, "t", out=out)

    def moved(self, x: str, out: str) -> str:
        """A copy that needs bytes of its own: a transpose of one sample with itself."""
        return self.add(QTranspose((0, 1)), x, out=out)

    def sum(self, a: str, b: str, out: str) -> str:
        """A sum, which keeps both inputs alive until it runs."""
        return self.add(QAdd(1.0, 0, 1.0, 0, 0, 0, 255), a, b, out=out)

    def joined(self, axis: int, *parts: str, out: str) -> str:
        """A concat."""
        return self.add(QConcat(axis), *parts, out=out)

    def reshaped(self, x: str, out: str, *shape: int) -> str:
        """An alias: the same bytes in another shape, the batch left out."""
        return self.add(QReshape((BATCH, *shape)), x, out=out)

    def done(self, *outputs: str) -> tuple[Graph, Plan]:
        """The program with these outputs, and its plan, which has been judged."""
        self.graph.outputs = outputs
        self.graph.drop_unused_constants()
        verify(self.graph)
        made = plan(self.graph)
        problems = plan_problems(self.graph, made)
        if problems:
            raise AssertionError("\n".join(problems))
        return self.graph, made
