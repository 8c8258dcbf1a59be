"""An ONNX model in plain Python: nodes, constants and the shapes of its inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penjing.ir.types import Shape, Source, is_batch

OLDEST_OPSET, NEWEST_OPSET = 11, 24
ADVISED_OPSET = 20
MICROSOFT = "com.microsoft"


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One node; an absent optional input or output is the empty name.

    Attributes:
        op: operator, such as `Conv`.
        domain: '' for the standard one.
        name: of the node, or of its first output where it has none.
        attributes: int, float, str, tuples of these, or arrays.
        graphs: names of the attributes that are graphs.
        proto: the node as it was read; None for one that a pattern made.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    graphs: tuple[str, ...] = ()
    proto: Any = None

    @property
    def target(self) -> str:
        """`Conv`, `com.microsoft.QLinearAdd`."""
        return f"{self.domain}.{self.op}" if self.domain else self.op

    @property
    def stem(self) -> str:
        """What values of the graph that it makes are called after."""
        return plain(self.outputs[0])

    @property
    def source(self) -> Source:
        """Where nodes of the graph that it becomes come from."""
        return Source(origin=f"{self.target} {self.name}")


@dataclass(frozen=True)
class Fill:
    """An input that is fixed: an array full of one number, of which only the shape follows the batch and the length."""

    shape: Shape
    number: np.generic

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """The input as it is for a batch and a length."""
        return np.full(shape, self.number)

    def of(self, batch: int, steps: int) -> np.ndarray:
        """The input for so many samples of so many steps."""
        return self.array(tuple(n if isinstance(n, int) else batch if is_batch(n) else steps for n in self.shape))


@dataclass
class OnnxModel:
    """A model whose structure has been checked.

    Attributes:
        name: of the graph.
        opset: version of the standard operators.
        batch: the one batch size that the model is written for; None when it takes any.
        inputs: name -> shape of one sample, without the batch.
        longest: the longest sequence; None where all lengths are fixed.
        fixed: inputs of the file that are known.
        outputs: names.
        ids: inputs of integers, which embeddings look up.
        constants: initializers and `Constant` nodes.
        nodes: in order of execution.
        proto: the model as it was read, with all its data inside.
        half: whether it computes with fewer than 32 bits somewhere.
    """

    name: str
    opset: int
    batch: int | None
    inputs: dict[str, Shape]
    outputs: tuple[str, ...]
    constants: dict[str, np.ndarray]
    nodes: list[OnnxNode]
    proto: Any
    half: bool = False
    ids: frozenset[str] = frozenset()
    longest: int | None = None
    fixed: Mapping[str, Fill] = field(default_factory=dict)

    def live(self) -> list[OnnxNode]:
        """The nodes that the outputs depend on."""
        wanted, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(node.inputs)
        return kept[::-1]

    def users(self) -> dict[str, int]:
        """Value name -> how often nodes and outputs read it."""
        count = dict.fromkeys(self.outputs, 1)
        for node in self.nodes:
            for name in node.inputs:
                count[name] = count.get(name, 0) + 1
        return count


def plain(name: str) -> str:
    """An ONNX name in letters, digits, _ and dots: `/conv1/Conv_output_0` becomes `conv1.Conv_output_0`."""
    text = re.sub(r"[/:.]+", ".", name).strip(".")
    text = re.sub(r"[^A-Za-z0-9_.]", "_", text)[:200]
    return text if re.match(r"[A-Za-z_]", text) else f"v{text}"
