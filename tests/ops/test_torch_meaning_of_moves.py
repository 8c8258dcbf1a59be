"""What torch calls of moves, 1-D and transposed convolutions and resizing become, against torch and in integers."""

import numpy as np
import pytest
import torch

from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.errors import InvalidGraph, UnsupportedOp
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, Dim, DType, Quant, Type
from penjing.ops import operators
from penjing.ops.concat import Concat, QConcat
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.pad import Pad, PadValue, QPad
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.resize import QResizeBilinear, QResizeNearest
from penjing.ops.slice import QSlice, Slice
from penjing.ops.split import Split
from penjing.ops.torch_call import Imported, Ref, TorchCall
from penjing.program.interpret import interpret
from penjing.program.lower import lower

END = 2**63 - 1
BATCH = Dim("batch", 4)


def x4(n=2, c=6, h=5, w=4) -> torch.Tensor:
    return torch.arange(n * c * h * w, dtype=torch.float32).sin().reshape(n, c, h, w)


def x3(n=2, c=6, length=9) -> torch.Tensor:
    return x4(n, c, length, 1)[..., 0]


def weight(*shape) -> torch.Tensor:
    return torch.arange(np.prod(shape), dtype=torch.float32).cos().reshape(shape)


def imported(target: str, *args, shape=None) -> tuple[Imported, list[np.ndarray], list[np.ndarray]]:
    """(the operator of the call, arrays of its inputs, what torch computes); `shape` overrides that of the input."""
    packet, overload = target.removeprefix("aten.").split(".")
    function = getattr(getattr(torch.ops.aten, packet), overload)
    schema = function._schema.arguments
    values = {a.name: a.default_value for a in schema} | dict(zip((a.name for a in schema), args, strict=False))
    arrays: dict[str, np.ndarray] = {}

    def ref(value):
        if isinstance(value, list | tuple):
            return [ref(item) for item in value]
        if not isinstance(value, torch.Tensor):
            return value
        name = f"t{len(arrays)}"
        arrays[name] = value.numpy()
        return Ref(name, Type(shape if shape and name == "t0" else tuple(value.shape)))

    result = function(*args)
    results = [r.numpy() for r in (result if isinstance(result, list | tuple) else [result])]
    call = TorchCall(target, {k: ref(v) for k, v in values.items()}, tuple(r.shape for r in results))
    (operator,) = [cls for cls in operators().values() if target in cls.torch]
    made = operator.from_torch(call)
    return made, [arrays[name] for name in made.inputs], results


CALLS = [
    ("aten.conv1d.default", x3(), weight(4, 6, 3)),
    ("aten.conv1d.default", x3(), weight(4, 3, 3), weight(4), [2], [1], [2], 2),
    ("aten.conv1d.padding", x3(), weight(4, 6, 4), None, [1], "same", [2]),
    ("aten.conv1d.padding", x3(), weight(6, 1, 3), weight(6), [2], "valid", [1], 6),
    ("aten.conv_transpose1d.default", x3(), weight(6, 4, 3), weight(4), [3], [1], [2], 1, [2]),
    ("aten.conv_transpose1d.default", x3(), weight(6, 2, 2), None, [2], [0], [0], 3),
    ("aten.conv_transpose2d.input", x4(), weight(6, 4, 3, 2)),
    ("aten.conv_transpose2d.input", x4(), weight(6, 4, 3, 3), weight(4), [2, 2], [1, 1], [1, 1]),
    ("aten.conv_transpose2d.input", x4(), weight(6, 2, 4, 3), weight(6), [3, 2], [2, 0], [2, 0], 3, [1, 2]),
    ("aten.cat.default", [x4(), x4(c=2)], 1),
    ("aten.cat.default", [x4(), x4(w=1), x4()], -1),
    ("aten.concat.default", [x3()], 2),
    ("aten.split.Tensor", x4(), 4, 1),
    ("aten.split.Tensor", x4(), 2, -2),
    ("aten.split_with_sizes.default", x4(), [1, 3, 2], 1),
    ("aten.chunk.default", x4(), 4, 1),
    ("aten.tensor_split.sections", x4(), 4, 2),
    ("aten.slice.Tensor", x4(), 1, 1, END),
    ("aten.slice.Tensor", x4(), -1, -3, -1),
    ("aten.slice.Tensor", x4(), 2, None, None, 2),
    ("aten.slice.Tensor", x4(), 2, -100, 3),
    ("aten.narrow.default", x4(), 1, -3, 2),
    ("aten.select.int", x4(), 1, -1),
    ("aten.select.int", x4(), 3, 2),
    ("aten.pad.default", x4(), [0, 0, 0, 0, 3, 2]),
    ("aten.pad.default", x4(), [1, 2], "constant", -0.75),
    ("aten.pad.default", x4(), [1, 2, 3, 4], "reflect"),
    ("aten.pad.default", x4(), [4, 4, 5, 0], "circular"),
    ("aten.pad.default", x3(), [7, 1], "replicate"),
    ("aten.constant_pad_nd.default", x4(), [1, 0, 0, 2], 0),
    ("aten.constant_pad_nd.default", x4(), [1, 0], 2),
    ("aten.reflection_pad1d.default", x3(), [2, 8]),
    ("aten.reflection_pad2d.default", x4(), [1, 1, 2, 3]),
    ("aten.replication_pad1d.default", x3(), [2, 0]),
    ("aten.replication_pad2d.default", x4(), [0, 5, 1, 1]),
    ("aten.upsample_nearest2d.vec", x4(), None, [2.0, 2.0]),
    ("aten.upsample_nearest2d.vec", x4(), [7, 3], None),
    ("aten.upsample_nearest2d.vec", x4(h=16), None, [1.04, 1.7]),
    ("aten.upsample_nearest2d.default", x4(), [12, 9], None, 2.3),
    ("aten.upsample_nearest1d.vec", x3(), None, [1.12]),
    ("aten.upsample_nearest1d.default", x3(), [5]),
    ("aten.upsample_bilinear2d.vec", x4(), None, False, [2.0, 2.5]),
    ("aten.upsample_bilinear2d.vec", x4(), [9, 4], True, None),
    ("aten.upsample_bilinear2d.default", x4(), [2, 1], True),
    ("aten.upsample_linear1d.vec", x3(), None, False, [0.4]),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
def test_a_call_means_what_torch_computes(call):
    made, arrays, expected = imported(*call)
    assert made.op is not None
    actual = made.op.float_reference(*arrays)
    types = made.op.infer(*(Type(a.shape) for a in arrays))
    for a, e, t in zip(actual, expected, types, strict=True):
        assert a.dtype == np.float32
        assert t.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        ("aten.slice.Tensor", x4(), 0, 0, END),
        ("aten.slice.Tensor", x4(), 0, None, 2),
        ("aten.slice.Tensor", x4(), 2, -5, 100),
        ("aten.narrow.default", x4(), 1, 0, 6),
        ("aten.pad.default", x4(), [0, 0, 0, 0]),
    ],
    ids=str,
)
def test_a_call_that_changes_nothing_vanishes(call):
    made, arrays, expected = imported(*call)
    assert made.op is None
    np.testing.assert_array_equal(arrays[0], expected[0])


def test_the_whole_of_a_symbolic_batch_vanishes():
    made, _, _ = imported("aten.slice.Tensor", x4(), 0, 0, END, shape=(BATCH, 6, 5, 4))
    assert made.op is None


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (("aten.slice.Tensor", x4(), 0, 0, 1), "axis 0, the batch"),
        (("aten.slice.Tensor", x4(), 1, 3, 3), "empty part"),
        (("aten.select.int", x4(), 0, 0), "axis 0, the batch"),
        (("aten.cat.default", [x4(), x4()], 0), "the batch axis"),
        (("aten.split.Tensor", x4(), 1), "the batch axis"),
        (("aten.pad.default", x4(), [-1, 1]), "negative pads"),
        (("aten.pad.default", x4(), [0, 0, 0, 0, 0, 0, 1, 1]), "axis 0, the batch"),
        (("aten.constant_pad_nd.default", x4(), [1, 1], float("-inf")), "value = -inf"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_what_no_program_can_carry_is_refused_with_the_reason(call, reason):
    with pytest.raises(UnsupportedOp, match=reason):
        imported(*call)


@pytest.mark.parametrize("call", [("aten.slice.Tensor", x3(), 2, 1, 3), ("aten.select.int", x3(), 2, 0)], ids=str)
def test_a_part_of_a_symbolic_axis_is_refused(call):
    with pytest.raises(UnsupportedOp, match="symbolic"):
        imported(*call, shape=(2, 6, Dim("seq", 9)))


def test_pads_that_torch_cannot_write_crop_both_ends_on_their_own():
    x, w = x4(c=2).numpy(), weight(2, 3, 3, 3).numpy()
    whole = ConvTranspose2d((2, 2)).float_reference(x, w)[0]
    (part,) = ConvTranspose2d((2, 2), padding=(1, 0, 2, 3)).float_reference(x, w)
    np.testing.assert_array_equal(part, whole[:, :, 1:-2, :-3])


QUANT = Quant((0.0625,), 100)


def channels_last_graph(op, x: np.ndarray, *, quant: Quant = QUANT) -> Graph:
    """x -> max pool of one element, which leaves channels last -> op, every activation in codes of `quant`."""
    graph = Graph("g", stage="compressed")
    value = graph.add_input("x", Type((BATCH, *x.shape[1:])))
    if x.ndim == 4:
        value = graph.add_node(MaxPool2d((1, 1), (1, 1)), (value,), ("pooled",)).output
    n_outputs = len(op.infer(graph.types[value]))
    graph.outputs = tuple(f"y{i}" for i in range(n_outputs))
    graph.add_node(op, (value,), graph.outputs)
    for name in graph.activations():
        graph.types[name] = graph.types[name].with_quant(quant)
    return graph


def real(codes: np.ndarray, quant: Quant = QUANT) -> np.ndarray:
    return (codes.astype(np.float32) - quant.zero_point) * quant.scale


def some_codes(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


MOVES = [
    (name, sample)
    for name in ("slice", "select", "split", "pad", "upsample_nearest")
    for sample in operators()[name].samples()
]


@pytest.mark.parametrize(("name", "sample"), MOVES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(MOVES)])
def test_a_move_loses_nothing_in_integers_whatever_the_physical_order(name, sample):
    x = some_codes(sample.inputs[0].shape)
    program = lower(channels_last_graph(sample.op, x))
    for code, expected in zip(interpret(program, x), sample.op.float_reference(real(x)), strict=True):
        np.testing.assert_array_equal(real(code), expected)


def test_a_residual_block_without_weights_in_its_shortcut_costs_two_moves():
    # ResNet for CIFAR, option A: every second pixel, and as many zero channels as are missing
    graph = Graph("g", stage="compressed")
    graph.add_input("x", Type((BATCH, 16, 8, 8)))
    graph.add_node(MaxPool2d((1, 1), (1, 1)), ("x",), ("pooled",))
    graph.add_node(Slice(2, 0, 8, 2), ("pooled",), ("rows",))
    graph.add_node(Slice(3, 0, 8, 2), ("rows",), ("columns",))
    graph.add_node(Pad((0, 0, 8, 8, 0, 0, 0, 0)), ("columns",), ("padded",))
    graph.add_node(MaxPool2d((1, 1), (1, 1)), ("padded",), ("y",))
    graph.outputs = ("y",)
    for name in graph.activations():
        graph.types[name] = graph.types[name].with_quant(QUANT)
    program = lower(graph)
    between = [node.op.name for node in program.nodes][2:-2]
    assert between == ["q_slice", "q_slice", "q_pad"]
    x = some_codes((2, 16, 8, 8))
    (y,) = interpret(program, x)
    np.testing.assert_array_equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert (y[:, :8] == QUANT.zero_point).all()
    assert (y[:, 24:] == QUANT.zero_point).all()


def concat_graph(shapes, quants, target: Quant) -> Graph:
    graph = Graph("g", stage="compressed")
    for i, (shape, quant) in enumerate(zip(shapes, quants, strict=True)):
        graph.add_input(f"x{i}", Type(shape, quant=quant))
    graph.add_node(Concat(1), graph.inputs, ("y",))
    graph.types["y"] = graph.types["y"].with_quant(target)
    graph.outputs = ("y",)
    return graph


def test_inputs_of_a_concat_in_other_codes_are_at_most_half_a_step_off():
    quants = [Quant((0.0625,), 100), Quant((0.02,), 0), Quant((0.125,), 128)]
    target = Quant((0.125,), 128)
    inputs = [some_codes((3, c, 2, 5)) for c in (3, 1, 4)]
    program = lower(concat_graph([(BATCH, c, 2, 5) for c in (3, 1, 4)], quants, target))
    (y,) = interpret(program, *inputs)
    expected = np.concatenate([real(x, quant) for x, quant in zip(inputs, quants, strict=True)], axis=1)
    assert np.abs(real(y, target) - expected).max() <= 0.0625 + 1e-6
    assert [node.op.name for node in program.nodes].count("q_table") == 2


def test_more_parts_than_one_kernel_takes_are_joined_in_stages():
    inputs = [some_codes((2, 1 + i % 3)) for i in range(70)]
    program = lower(concat_graph([(BATCH, x.shape[1]) for x in inputs], [QUANT] * 70, QUANT))
    assert max(len(node.inputs) for node in program.nodes) == 32
    np.testing.assert_array_equal(interpret(program, *inputs)[0], np.concatenate(inputs, axis=1))


def test_a_concat_of_channels_last_maps_stays_channels_last():
    graph = Graph("g", stage="compressed")
    graph.add_input("x", Type((BATCH, 4, 3, 3)))
    graph.add_node(MaxPool2d((1, 1), (1, 1)), ("x",), ("a",))
    graph.add_node(Split(1, (1, 3)), ("a",), ("b", "c"))
    graph.add_node(Concat(1), ("c", "b", "a"), ("d",))
    graph.add_node(MaxPool2d((1, 1), (1, 1)), ("d",), ("y",))
    graph.outputs = ("y",)
    for name in graph.activations():
        graph.types[name] = graph.types[name].with_quant(QUANT)
    program = lower(graph)
    assert [node.op.name for node in program.nodes].count("q_transpose") == 2  # of the input and the output
    x = some_codes((2, 4, 3, 3))
    np.testing.assert_array_equal(interpret(program, x)[0], np.concatenate([x[:, 1:], x[:, :1], x], axis=1))


def test_a_constant_beyond_the_inputs_range_is_kept_by_a_pad_value():
    op = PadValue((0, 0, 0, 0, 1, 1, 0, 0), 40.0)
    graph = channels_last_graph(op, np.zeros((1, 2, 3, 3)))
    target = Quant((0.25,), 64)
    graph.types["y0"] = graph.types["y0"].with_quant(target)
    x = some_codes((2, 2, 3, 3))
    (y,) = interpret(lower(graph), x)
    assert (real(y, target)[:, :, [0, -1]] == 40.0).all()
    assert np.abs(real(y, target)[:, :, 1:-1] - real(x)).max() <= 0.125


def test_a_rectifier_after_a_pad_value_clamps_both_the_input_and_the_constant():
    graph = channels_last_graph(PadValue((0, 0, 0, 0, 1, 1, 0, 0), -2.0), np.zeros((1, 2, 3, 3)))
    graph.add_node(Relu(), ("y0",), ("y",))
    graph.outputs = ("y",)
    graph.types["y"] = graph.types["y"].with_quant(QUANT)
    x = some_codes((2, 2, 3, 3))
    (y,) = interpret(lower(graph), x)
    np.testing.assert_array_equal(real(y), np.pad(np.maximum(real(x), 0), ((0, 0), (0, 0), (1, 1), (0, 0))))


COMPUTED = [
    (name, sample)
    for name in ("conv1d", "conv_transpose1d", "conv_transpose2d", "upsample_linear")
    for sample in operators()[name].samples()
]


@pytest.mark.parametrize(("name", "sample"), COMPUTED, ids=[f"{name}-{i}" for i, (name, _) in enumerate(COMPUTED)])
def test_eight_bits_come_close_to_the_float_meaning(name, sample):
    x, *constants = sample.inputs
    graph = Graph("g")
    graph.add_input("x", Type((BATCH, *x.shape[1:])))
    names = [graph.add_constant(f"c{i}", Constant(c)) for i, c in enumerate(constants)]
    graph.add_node(sample.op, ("x", *names), ("y",))
    graph.outputs = ("y",)
    quantized = QuantizeStatic(calibrate(graph, [x], "min-max")).run(graph).graph
    source, target = quantized.types["x"].quant, quantized.types["y"].quant
    codes = np.clip(np.rint(x / source.scale) + source.zero_point, 0, 255).astype(np.uint8)
    (y,) = interpret(lower(quantized), codes)
    (expected,) = sample.op.float_reference(*sample.inputs)
    assert np.abs(real(y, target) - expected).max() <= 4 * target.scale


def test_groups_of_a_transposed_convolution_have_weights_and_biases_of_their_own():
    # each group's weights are worth one power of ten more: mixed up scales or channels would show
    x = np.abs(x4(1, 4, 3, 3).numpy())
    w = weight(4, 2, 2, 2).numpy() * np.array([1, 1, 0.1, 0.1], np.float32)[:, None, None, None]
    bias = np.array([3, -2, 0.3, -0.2], np.float32)
    graph = Graph("g")
    graph.add_input("x", Type((BATCH, 4, 3, 3)))
    graph.add_constant("w", Constant(w))
    graph.add_constant("b", Constant(bias))
    graph.add_node(ConvTranspose2d((2, 2), groups=2), ("x", "w", "b"), ("y",))
    graph.outputs = ("y",)
    quantized = QuantizeStatic(calibrate(graph, [x], "min-max")).run(graph).graph
    source, target = quantized.types["x"].quant, quantized.types["y"].quant
    codes = np.clip(np.rint(x / source.scale) + source.zero_point, 0, 255).astype(np.uint8)
    (y,) = interpret(lower(quantized), codes)
    expected = graph.nodes[0].op.float_reference(x, w, bias)[0]
    assert np.abs(real(y, target) - expected).max() <= 2 * target.scale


def test_the_largest_accumulator_of_a_resize_is_exact():
    x = np.full((1, 2, 2, 1), 255, np.uint8)
    table = np.array([[0, 1, 1024], [0, 1, 2048], [1, 1, 0]], np.int32)
    (y,) = QResizeBilinear(0, 2.0**-22, 0, 0, 255).integer_reference(x, table, table)
    assert (y == 255).all()
    (y,) = QResizeBilinear(255, 2.0**-22, 255, 0, 255).integer_reference(np.zeros_like(x), table, table)
    assert (y == 0).all()


@pytest.mark.parametrize("place", [-1, 2])
def test_a_table_that_points_outside_the_image_is_refused(place):
    x, good, bad = np.zeros((1, 2, 2, 1), np.uint8), np.array([0, 1], np.int32), np.array([0, place], np.int32)
    with pytest.raises(InvalidGraph, match="outside"):
        QResizeNearest().integer_reference(x, good, bad)
    wide = np.stack([good, bad, good], axis=1)
    with pytest.raises(InvalidGraph, match="outside"):
        QResizeBilinear(0, 1.0, 0, 0, 255).integer_reference(x, wide, np.zeros((1, 3), np.int32))


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        (QSlice(1, 0, 4, 1), [(1, 3)]),
        (QSlice(1, -1, 2, 1), [(1, 3)]),
        (QSlice(1, -2, 1, 1), [(1, 3)]),
        (QSlice(1, 0, 2, 0), [(1, 3)]),
        (QSlice(2, 0, 1, 1), [(1, 3)]),
        (QPad((0, 0, -1, 0), "constant", 0), [(1, 3)]),
        (QPad((0, 0, 1), "constant", 0), [(1, 3)]),
        (QPad((0, 0, 3, 0), "reflect", 0), [(1, 3)]),
        (QPad((0, 0, 4, 0), "circular", 0), [(1, 3)]),
        (QPad((0, 0, 1, 0), "mirror", 0), [(1, 3)]),
        (QPad((0, 0, 1, 0), "constant", 256), [(1, 3)]),
        (QConcat(1), [(1, 3)] * 33),
        (QConcat(1), [(1, 3, 2), (1, 3, 1)]),
        (QConcat(1), [(1, 3), (1, 3, 1)]),
        (QConcat(-1), [(1, 3)]),
    ],
    ids=str,
)
def test_an_integer_move_that_would_leave_its_input_is_refused(op, shapes):
    with pytest.raises(InvalidGraph):
        op.infer(*(Type(shape, DType.U8) for shape in shapes))


@pytest.mark.parametrize("rows", [(), (3,), (3, 2), (3, 3, 1)])
def test_tables_of_another_shape_are_refused(rows):
    types = (Type((1, 2, 2, 1), DType.U8), Type(rows, DType.S32), Type((4, 3), DType.S32))
    with pytest.raises(InvalidGraph, match="tables of shape"):
        QResizeBilinear(0, 1.0, 0, 0, 255).infer(*types)
