"""Every operator, calibrated, quantized, lowered and interpreted, is one rounding away from its float meaning."""

import numpy as np
import pytest

from penjing.compress.quantize.calibrate import Ranges, calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.arithmetic import dequantize, quantize
from penjing.core.errors import QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, Dim, DType, Shape, Type, bounds
from penjing.ops import operators
from penjing.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool
from penjing.ops.advance import Advance
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.identity import Identity
from penjing.ops.layer_norm import LayerNorm
from penjing.ops.matmul import Matmul
from penjing.ops.mean import Mean
from penjing.ops.operator import Operator, Sample
from penjing.ops.permute import Permute
from penjing.ops.pool1d import AvgPool1d, MaxPool1d
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.prelu import Prelu
from penjing.ops.recurrent import Recurrent
from penjing.ops.sigmoid import Sigmoid
from penjing.ops.softmax import Softmax
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.runtime.engines import to_codes

# in steps of the output: half a step of rounding, and what biases and tables of integers add
ROUNDING = 0.55
# each step of a recurrent layer reads what the one before has rounded
ROUNDING_OF_STEPS = 3.0

SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, operator in operators().items()
    for i, sample in enumerate(operator.samples())
    if operator is not Advance  # a count of steps has no codes
]


def graph_of(sample: Sample, *, channels_last: bool) -> Graph:
    """The sample's operator alone; `channels_last` puts a pool that changes nothing but the order before it."""
    graph = Graph("sample")
    names = []
    for i, array in enumerate(sample.inputs):
        name = f"x{i}"
        if array is None:
            name = ""
        elif i in sample.constant:
            graph.add_constant(name, Constant(array))
        else:
            graph.add_input(name, Type(array.shape, DType.of(array)))
            if channels_last and array.ndim == 4:
                name = graph.add_node(MaxPool2d((1, 1), (1, 1)), (name,), (f"{name}.nhwc",)).output
        names.append(name)
    outputs = tuple(f"y{i}" for i in range(len(sample.op.infer(*sample.types))))
    graph.add_node(sample.op, tuple(names), outputs)
    graph.outputs = outputs
    return graph


def activations(sample: Sample) -> tuple[np.ndarray, ...]:
    return tuple(x for i, x in enumerate(sample.inputs) if x is not None and i not in sample.constant)


def quantized(graph: Graph, *inputs: np.ndarray) -> Graph:
    return QuantizeStatic(calibrate(graph, [inputs], "min-max")).run(graph).graph


def seen_reals(graph: Graph, sample: Sample) -> list[np.ndarray | None]:
    """The inputs of the sample's operator as the codes have them; integer biases and float parameters as they were."""
    reals: list[np.ndarray | None] = []
    for name, array in zip(graph.nodes[-1].inputs, sample.inputs, strict=True):
        quant = graph.types[name].quant if name else None
        if array is None or quant is None:
            reals.append(array)
        elif name not in graph.constants:
            reals.append(dequantize(quantize(array, quant.scale, quant.zero_point), quant.scale, quant.zero_point))
        else:
            scales = quant.scale_array()
            shape = [1] * array.ndim
            shape[quant.axis or 0] = scales.size
            codes = graph.constants[name].array.astype(np.float32) - np.float32(quant.zero_point)
            reals.append(codes * (scales if quant.axis is None else scales.reshape(shape)))
    return reals


@pytest.mark.parametrize("channels_last", [False, True], ids=["as-it-comes", "channels-last"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_program_of_an_operator_is_one_rounding_away_from_its_meaning(sample: Sample, channels_last: bool) -> None:
    assert isinstance(sample.op, Operator)
    inputs = activations(sample)
    graph = quantized(graph_of(sample, channels_last=channels_last), *inputs)
    codes = to_codes(graph, inputs)
    program = lower(graph)
    expected = sample.op.float_reference(*seen_reals(graph, sample))
    for name, got, real in zip(graph.outputs, interpret(program, *codes), expected, strict=True):
        quant = graph.types[name].quant
        assert quant is not None
        steps = np.clip(real.astype(np.float64) / float(quant.scale) + quant.zero_point, 0, 255)
        assert got.shape == real.shape
        limit = ROUNDING_OF_STEPS if isinstance(sample.op, Recurrent) else ROUNDING
        assert np.abs(got - steps).max() <= limit, f"{sample.op}: {np.abs(got - steps).max()} steps"


def program_of(*operations: Operator, shape: Shape, constants: tuple[np.ndarray, ...] = ()) -> Graph:
    """The program of a chain of operators on one random input; `constants` follow the input of the last."""
    graph = Graph("chain")
    name = graph.add_input("x", Type(shape))
    rest = tuple(graph.add_constant(f"c{i}", Constant(c)) for i, c in enumerate(constants))
    for i, op in enumerate(operations):
        inputs = (name, *rest) if op is operations[-1] else (name,)
        name = graph.add_node(op, inputs, (f"y{i}",)).output
    graph.outputs = (name,)
    return lower(quantized(graph, np.random.default_rng(40).normal(size=bounds(shape)).astype(np.float32)))


POOL = MaxPool2d((2, 2), (2, 2))
SLOPES = np.array([0.1, 0.2, 0.3], np.float32)


@pytest.mark.parametrize(
    ("operations", "constants", "expected"),
    [
        ((POOL, Mean((2, 3))), (), ["q_mean"]),
        ((POOL, Mean((2, 3)), Softmax(1)), (), ["q_mean", "q_softmax"]),
        ((POOL, Prelu()), (SLOPES,), ["q_table", "q_transpose"]),
        ((POOL, Sigmoid()), (), ["q_table", "q_transpose"]),
        ((POOL, AdaptiveAvgPool((2, 2))), (), ["q_avg_pool2d", "q_transpose"]),
        ((POOL, AdaptiveAvgPool((5, 2))), (), ["q_adaptive_avg_pool2d", "q_transpose"]),
        ((POOL, AdaptiveMaxPool((1, 1))), (), ["q_max_pool2d", "q_reshape"]),
        ((POOL, BatchNorm()), (SLOPES,) * 4, ["q_depthwise", "q_transpose"]),
        ((POOL, Identity()), (), ["q_transpose"]),
        ((POOL, LayerNorm(3)), (), ["q_layer_norm", "q_transpose"]),
    ],
)
def test_an_operator_takes_channels_last_codes_as_they_are(
    operations: tuple[Operator, ...], constants: tuple[np.ndarray, ...], expected: list[str]
) -> None:
    program = program_of(*operations, shape=(1, 3, 8, 8), constants=constants)
    # the input is brought to channels-last for the pool, and an image is brought back for the output: no more moves
    assert [node.op.name for node in program.nodes] == ["q_transpose", "q_max_pool2d", *expected]


@pytest.mark.parametrize(
    ("operations", "constants", "shape"),
    [
        ((MaxPool1d(2, 2), AdaptiveAvgPool((3,)), AvgPool1d(2, 1), BatchNorm()), (SLOPES,) * 4, (3, 8)),
        ((Sigmoid(), BatchNorm()), (SLOPES,) * 4, (3,)),
        ((AdaptiveMaxPool((3, 2)), Mean((3,), True), Softmax(2), Prelu()), (SLOPES,), (3, 8, 8)),
    ],
)
def test_samples_of_a_batch_do_not_mix(
    operations: tuple[Operator, ...], constants: tuple[np.ndarray, ...], shape: tuple[int, ...]
) -> None:
    program = program_of(*operations, shape=(Dim("batch", 4), *shape), constants=constants)
    codes = np.random.default_rng(41).integers(0, 256, size=(3, *shape), dtype=np.uint8)
    (together,) = interpret(program, codes)
    alone = [interpret(program, codes[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_a_transposition_of_the_right_operand_costs_nothing() -> None:
    graph = Graph("scores")
    q, k = (graph.add_input(name, Type((1, 2, 6, 8))) for name in "qk")
    t = graph.add_node(Permute((0, 1, 3, 2)), (k,), ("t",)).output
    graph.outputs = (graph.add_node(Matmul(8**-0.5), (q, t), ("y",)).output,)
    x = np.random.default_rng(42).normal(size=(2, 1, 2, 6, 8)).astype(np.float32)
    assert [node.op.name for node in lower(quantized(graph, *x)).nodes] == ["q_matmul"]


def test_a_single_slope_needs_one_table() -> None:
    program = program_of(Prelu(), shape=(1, 3, 8), constants=(SLOPES[:1],))
    assert [program.types[node.inputs[1]].shape for node in program.nodes] == [(256,)]


@pytest.mark.parametrize(
    ("op", "constants", "error", "what"),
    [
        (BatchNorm(), (SLOPES, SLOPES, SLOPES, -SLOPES), QuantizationError, "variance"),
        (BatchNorm(1e-38), (SLOPES * np.float32(1e38), SLOPES, SLOPES, SLOPES * 0), QuantizationError, "finite"),
    ],
)
def test_constants_without_an_integer_form_are_refused(
    op: Operator, constants: tuple[np.ndarray, ...], error: type[Exception], what: str
) -> None:
    graph = Graph("sample")
    names = tuple(graph.add_constant(f"c{i}", Constant(c)) for i, c in enumerate(constants))
    graph.add_node(op, (graph.add_input("x", Type((1, 3))), *names), ("y",))
    graph.outputs = ("y",)
    ranges = Ranges({"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, 1)
    with pytest.raises(error, match=what):
        lower(QuantizeStatic(ranges).run(graph).graph)
