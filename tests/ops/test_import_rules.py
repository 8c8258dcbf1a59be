"""What each call of a torch operator becomes, and which calls are refused; without torch."""

from typing import Any

import pytest

from penjing.core.errors import UnsupportedOp
from penjing.ir.graph import Operation
from penjing.ir.types import Shape, Type
from penjing.ops import operators
from penjing.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.gelu import Gelu
from penjing.ops.layer_norm import LayerNorm
from penjing.ops.leaky_relu import LeakyRelu
from penjing.ops.mean import Mean
from penjing.ops.mul import Mul
from penjing.ops.pool1d import AvgPool1d, MaxPool1d
from penjing.ops.prelu import Prelu
from penjing.ops.rms_norm import RmsNorm
from penjing.ops.sigmoid import Sigmoid
from penjing.ops.softmax import Softmax
from penjing.ops.torch_call import Imported, Ref, TorchCall

IMAGE = (2, 3, 8, 6)
SEQUENCE = (2, 3, 8)


def x(shape: Shape) -> Ref:
    return Ref("x", Type(shape))


def imported(target: str, arguments: dict[str, object]) -> Imported:
    (operator,) = [cls for cls in operators().values() if target in cls.torch]
    return operator.from_torch(TorchCall(target, arguments, ()))


def channels(name: str) -> Ref:
    return Ref(name, Type((3,)))


STATISTICS = {"running_mean": channels("m"), "running_var": channels("v"), "eps": 1e-3, "momentum": 0.1}
POOL = {"kernel_size": [3], "stride": [], "padding": [1], "ceil_mode": False}

ACCEPTED: list[tuple[str, dict[str, object], Operation | None, tuple[str, ...]]] = [
    ("aten.sigmoid_.default", {"self": x(IMAGE)}, Sigmoid(), ("x",)),
    ("aten.gelu.default", {"self": x(IMAGE), "approximate": "tanh"}, Gelu("tanh"), ("x",)),
    ("aten.leaky_relu_.default", {"self": x(IMAGE), "negative_slope": 1}, LeakyRelu(1.0), ("x",)),
    ("aten.prelu.default", {"self": x(IMAGE), "weight": channels("w")}, Prelu(), ("x", "w")),
    ("aten.mul.Tensor", {"self": x(IMAGE), "other": Ref("b", Type(()))}, Mul(), ("x", "b")),
    ("aten.dropout.default", {"input": x(IMAGE), "p": 0.5, "train": False}, None, ("x",)),
    ("aten.clone.default", {"self": x(IMAGE), "memory_format": None}, None, ("x",)),
    (
        "aten.batch_norm.default",
        {"input": x(IMAGE), "weight": channels("g"), "bias": channels("b"), "training": False, **STATISTICS},
        BatchNorm(1e-3),
        ("x", "g", "b", "m", "v"),
    ),
    (
        "aten._native_batch_norm_legit_no_training.default",
        {"input": x(IMAGE), "weight": None, "bias": None, **STATISTICS},
        BatchNorm(1e-3),
        ("x", "", "", "m", "v"),
    ),
    (
        "aten.layer_norm.default",
        {"input": x(IMAGE), "normalized_shape": [8, 6], "weight": Ref("g", Type((8, 6))), "bias": None, "eps": 0.1},
        LayerNorm(2, 0.1),
        ("x", "g", ""),
    ),
    (
        "aten.rms_norm.default",
        {"input": x(IMAGE), "normalized_shape": [6], "weight": None, "eps": None},
        RmsNorm(1, 2.0**-23),
        ("x", ""),
    ),
    ("aten.mean.dim", {"self": x(IMAGE), "dim": [-1, 2], "keepdim": True}, Mean((2, 3), True), ("x",)),
    ("aten.adaptive_avg_pool2d.default", {"self": x(IMAGE), "output_size": [1, 1]}, Mean((2, 3), True), ("x",)),
    ("aten.adaptive_avg_pool1d.default", {"self": x(SEQUENCE), "output_size": [1]}, Mean((2,), True), ("x",)),
    ("aten.adaptive_avg_pool2d.default", {"self": x(IMAGE), "output_size": [3]}, AdaptiveAvgPool((3, 3)), ("x",)),
    ("aten.adaptive_max_pool2d.default", {"self": x(IMAGE), "output_size": [1, 2]}, AdaptiveMaxPool((1, 2)), ("x",)),
    ("aten.max_pool1d.default", {"self": x(SEQUENCE), "dilation": [2], **POOL}, MaxPool1d(3, 3, (1, 1), 2), ("x",)),
    (
        "aten.avg_pool1d.default",
        {"self": x(SEQUENCE), "count_include_pad": False, **POOL, "stride": [2], "ceil_mode": True},
        AvgPool1d(3, 2, (1, 1), True, False),
        ("x",),
    ),
    ("aten.softmax.int", {"self": x(IMAGE), "dim": -1, "dtype": "torch.float32"}, Softmax(3), ("x",)),
    ("aten._softmax.default", {"self": x(IMAGE), "dim": 1, "half_to_float": False}, Softmax(1), ("x",)),
]

REFUSED: list[tuple[str, dict[str, object], str]] = [
    ("aten.gelu.default", {"self": x(IMAGE), "approximate": "fast"}, "approximate = 'fast'"),
    ("aten.dropout.default", {"input": x(IMAGE), "p": 0.5, "train": True}, "training"),
    (
        "aten.batch_norm.default",
        {"input": x(IMAGE), "weight": None, "bias": None, "training": True, **STATISTICS},
        "training",
    ),
    (
        "aten.batch_norm.default",
        {"input": x(IMAGE), "weight": None, "bias": None, "training": False, **STATISTICS, "running_mean": None},
        "running_mean",
    ),
    ("aten.mean.dim", {"self": x(IMAGE), "dim": [0, 1], "keepdim": True}, "batch"),
    ("aten.mean.dim", {"self": x(IMAGE), "dim": None, "keepdim": True}, "dim = None"),
    ("aten.mean.dim", {"self": x(IMAGE), "dim": [4], "keepdim": True}, "dim = "),
    ("aten.mean.dim", {"self": x(IMAGE), "dim": [1], "keepdim": True, "dtype": "torch.float64"}, "float64"),
    ("aten.softmax.int", {"self": x(IMAGE), "dim": 0}, "batch"),
    ("aten.softmax.int", {"self": x(IMAGE), "dim": 4}, "dim = 4"),
    ("aten.softmax.int", {"self": x(IMAGE), "dim": 1, "dtype": "torch.float16"}, "float16"),
    ("aten.adaptive_avg_pool2d.default", {"self": x(SEQUENCE), "output_size": [1, 1]}, "rank 3"),
    ("aten.layer_norm.default", {"input": x(SEQUENCE), "normalized_shape": SEQUENCE, "eps": 1e-5}, "batch"),
    ("aten.rms_norm.default", {"input": x(SEQUENCE), "normalized_shape": SEQUENCE, "eps": 1e-5}, "batch"),
    ("aten.matmul.default", {"self": x(SEQUENCE), "other": Ref("v", Type((8,)))}, "rank 1"),
]


def ids(cases: list[Any]) -> list[str]:
    return [f"{i}-{case[0].removeprefix('aten.')}" for i, case in enumerate(cases)]


@pytest.mark.parametrize(("target", "arguments", "op", "inputs"), ACCEPTED, ids=ids(ACCEPTED))
def test_a_call_becomes_its_operator(
    target: str, arguments: dict[str, object], op: Operation | None, inputs: tuple[str, ...]
) -> None:
    assert imported(target, arguments) == Imported(op, inputs)


@pytest.mark.parametrize(("target", "arguments", "reason"), REFUSED, ids=ids(REFUSED))
def test_a_call_that_means_something_else_is_refused(target: str, arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(UnsupportedOp, match=reason) as caught:
        imported(target, arguments)
    assert target in caught.value.what
