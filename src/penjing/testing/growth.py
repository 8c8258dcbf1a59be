"""A float graph that grows layer by layer, every choice drawn by hypothesis, so that it shrinks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from penjing.core.errors import InvalidGraph
from penjing.ir.graph import Graph
from penjing.ir.types import MAX_RANK, Constant, Dim, DType, Shape, Type
from penjing.ops.operator import Operator
from penjing.ops.pad import Pad
from penjing.ops.reshape import Reshape
from penjing.ops.slice import Slice

T = TypeVar("T")

BATCH = Dim("batch", 1)
MAX_ELEMENTS = 2048  # of any value: keeps one example in milliseconds
_NEAR = 6  # how far back a layer looks for its input: long chains with short cuts
_KINDS = ("normal",) * 6 + ("uneven", "zeros", "equal", "huge", "tiny")


@dataclass
class Growth:
    """A graph under construction; `pool` holds the activations that a layer may take as input."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    graph: Graph
    pool: list[str] = field(default_factory=list)

    def choose(self, options: list[T] | tuple[T, ...]) -> T:
        """One of `options`; shrinks to the first."""
        chosen: T = self.draw(st.sampled_from(options))
        return chosen

    def number(self, low: int, high: int) -> int:
        """An integer in low..high; shrinks to `low`."""
        return int(self.draw(st.integers(low, high)))

    def flag(self) -> bool:
        """True or False; shrinks to False."""
        return bool(self.draw(st.booleans()))

    def value(self, *ranks: int) -> str | None:
        """A value of one of `ranks` (of any when none is given), near the end of the pool; None if there is none."""
        fitting = [name for name in reversed(self.pool) if not ranks or self.type(name).rank in ranks]
        return self.choose(fitting[:_NEAR]) if fitting else None

    def type(self, name: str) -> Type:
        """The type of a value."""
        return self.graph.types[name]

    def constant(self, shape: tuple[int, ...], *, fan_in: int = 1, positive: bool = False) -> str:
        """A new float constant: usually normal, scaled by `fan_in`, now and then zero, huge, tiny or uneven."""
        kind = self.choose(_KINDS)
        rng = np.random.default_rng(self.number(0, 2**16))
        array = _array(rng, kind, shape) / np.sqrt(fan_in)
        array = np.abs(array) if positive else array
        return self.graph.add_constant(f"c{len(self.graph.types)}", Constant(array.astype(np.float32)))

    def ids(self, shape: tuple[int, ...]) -> str:
        """A new input of ids, (batch, *shape)."""
        batch = self.type(self.graph.inputs[0]).shape[0]
        return self.graph.add_input(f"ids{len(self.graph.types)}", Type((batch, *shape), DType.S32))

    def add(self, op: Operator, *inputs: str) -> tuple[str, ...]:
        """Append a layer; no outputs, and no change, when its shape rule refuses or a value would be unusual."""
        try:
            types = op.infer(*(self.type(name) for name in inputs if name))
        except InvalidGraph:
            return ()
        if not all(_is_usual(t) for t in types):
            return ()
        number = len(self.graph.types)
        outputs = tuple(f"v{number + k}" for k in range(len(types)))
        self.graph.add_node(op, inputs, outputs)
        self.pool += outputs
        return outputs

    def adapted(self, name: str, shape: tuple[int, ...]) -> str | None:
        """`name` cut or padded with zeros to (batch, *shape); None when that cannot be."""
        extents = self.type(name).bounds[1:]
        batch = self.type(name).shape[0]
        want: Shape = (batch, *shape)
        have_elements, elements = int(np.prod(extents)), int(np.prod(shape))
        steps: list[Operator] = [Reshape((batch, have_elements))] if len(extents) != 1 else []
        if have_elements > elements:
            steps.append(Slice(1, 0, elements))
        elif have_elements < elements:
            steps.append(Pad((0, 0, 0, elements - have_elements)))
        steps += [Reshape(want)] if len(shape) != 1 else []
        if self.type(name).shape == want:
            steps = []
        for op in steps:
            made = self.add(op, name)
            if not made:
                return None
            name = made[0]
        return name


def _is_usual(type_: Type) -> bool:
    """Whether a value is small, and symbolic along its first axis only."""
    fixed = all(isinstance(extent, int) for extent in type_.shape[1:])
    return fixed and 1 <= type_.elements <= MAX_ELEMENTS and type_.rank <= MAX_RANK


def _array(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    normal = rng.normal(size=shape)
    channels = 10.0 ** rng.uniform(-4, 2, size=(*shape[:1], *(1,) * (len(shape) - 1)))
    made: dict[str, np.ndarray] = {
        "normal": normal,
        "uneven": normal * channels,
        "zeros": np.zeros(shape),
        "equal": np.full(shape, rng.normal()),
        "huge": normal * 1e4,
        "tiny": normal * 1e-12,
    }
    return made[kind]
