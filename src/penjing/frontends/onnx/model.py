"""An ONNX model in plain Python: nodes, constants and the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OLDEST_OPSET, NEWEST_OPSET = 11, 23
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


@dataclass
class OnnxModel:
    """A model whose structure has been checked.

    Attributes:
        name: of the graph.
        opset: version of the standard operators.
        batch: the one batch size that the model is written for; None when it takes any.
        inputs: name -> shape of one sample, without the batch.
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
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    constants: dict[str, np.ndarray]
    nodes: list[OnnxNode]
    proto: Any
    half: bool = False
    ids: frozenset[str] = frozenset()

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
