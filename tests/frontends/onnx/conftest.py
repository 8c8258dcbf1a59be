"""Small ONNX models made by hand."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

Save = Callable[..., Path]


def make_model(
    nodes: Sequence[Any],
    shape: Sequence[int | str] = ("n", 4),
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> Any:
    """A model with one input x; nodes as from `helper.make_node`."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    for value in graph.output:
        value.type.tensor_type.elem_type = kind
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    )
    model.ir_version = 8
    return model


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a model of `make_model`'s arguments; returns its path."""

    def write(*args: Any, **options: Any) -> Path:
        path = tmp_path / "net.onnx"
        path.write_bytes(make_model(*args, **options).SerializeToString())
        return path

    return write


@pytest.fixture
def model_of() -> Callable[..., Any]:
    """`make_model`, for what is changed before it is written."""
    return make_model
