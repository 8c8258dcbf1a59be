"""LSTM, GRU and RNN of ONNX models become single layers that compute the same, or are refused with the reason."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import nn

from penjing import api
from penjing.core.errors import InvalidInput, PenjingError, UnsupportedOp
from penjing.frontends.onnx.capture import capture
from penjing.ir.verify import verify
from penjing.ops.evaluate import evaluate
from penjing.ops.gru import Gru
from penjing.ops.rnn import Rnn
from penjing.program.interpret import interpret

node = helper.make_node
BATCH, STEPS, FEATURES, UNITS = 3, 4, 5, 2
RNG = np.random.default_rng(0)
KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *args, **options: nn.RNN(*args, nonlinearity="relu", **options),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def layers(graph):
    return [n for n in graph.nodes if n.op.name in ("lstm", "gru", "rnn")]


class Everything(nn.Module):
    """All that a layer returns, batch first; its states are given by `states`, batch first."""

    def __init__(self, core):
        super().__init__()
        self.core = core

    def forward(self, x, *states):
        x = x if self.core.batch_first else x.transpose(0, 1)
        given = tuple(state.transpose(0, 1) for state in states)
        y, last = self.core(x, given if len(given) > 1 else given[0]) if given else self.core(x)
        last = last if isinstance(last, tuple) else (last,)
        return (y if self.core.batch_first else y.transpose(0, 1), *(state.transpose(0, 1) for state in last))


class TimeFirst(nn.Module):
    """Two layers and what stands between and behind them, all with the steps on axis 0."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(FEATURES, UNITS, bidirectional=True), nn.LSTM(2 * UNITS, UNITS)
        self.out = nn.Linear(UNITS, 3)

    def forward(self, x):
        y, _ = self.first(x.transpose(0, 1))
        y, (h, c) = self.second(torch.relu(y[1:]))
        return torch.softmax(self.out(y), -1).transpose(0, 1), torch.cat([h[-1], c.squeeze(0)], -1)


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.h = nn.Parameter(torch.randn(1, 1, UNITS))

    def forward(self, x):
        states = (self.h.expand(-1, x.shape[0], -1), torch.zeros(1, x.shape[0], UNITS))
        return self.core(x, states)[0][:, -1]


def exported(module, path, *inputs, opset=17, fixed=False):
    """The graph of what torch writes, once it is known to compute what the module does."""
    torch.manual_seed(1)
    tensors = tuple(torch.from_numpy(x) for x in inputs)
    names = [f"x{i}" for i in range(len(inputs))]
    axes = None if fixed else {name: {0: "batch"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tensors, str(path), dynamo=False, input_names=names, dynamic_axes=axes, opset_version=opset
        )
    graph = capture(path).graph
    verify(graph)
    with torch.no_grad():
        expected = module(*tensors)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for ours, theirs in zip(evaluate(graph, *inputs), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5)
    return graph


# pairs of options: each meets each other one
OPTIONS = (
    {"batch_first": True},
    {"batch_first": False, "bidirectional": True, "bias": False},
    {"batch_first": True, "bidirectional": True, "num_layers": 2},
)


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "bidirectional", "deep"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_module_is_the_captured_one(tmp_path, kind, options):
    torch.manual_seed(2)
    module, x = Everything(KINDS[kind](FEATURES, UNITS, **options)), floats(BATCH, STEPS, FEATURES)
    ours = exported(module, tmp_path / "net.onnx", x)
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", 0))
    assert [n.op.reverse for n in layers(ours)] == ([False, True] * count)[:count] if count > 1 else [False]
    parameters = {name: p.detach().numpy() for name, p in module.core.named_parameters() if name.startswith("weight")}
    names = [n.inputs[place] for n in layers(ours) for place in (1, 2)]
    for name, wanted in zip(names, parameters.values(), strict=True):
        np.testing.assert_array_equal(ours.constants[name].array, wanted)
    if (kind, count) in (("lstm", 1), ("gru", 2)):
        theirs = api.capture(module, x)
        for a, b in zip(evaluate(ours, x), evaluate(theirs, x), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_take_sequences_of_any_length(tmp_path, kind):
    torch.manual_seed(2)
    module = Everything(KINDS[kind](FEATURES, UNITS, batch_first=True, bidirectional=kind in ("lstm", "tanh"))).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "batch", 1: "steps"}}
        example = torch.zeros(2, STEPS, FEATURES)
        torch.onnx.export(module, example, tmp_path / "m.onnx", dynamo=False, input_names=["x"], dynamic_axes=axes)
    graph = capture(tmp_path / "m.onnx", length=api.Length(9)).graph
    verify(graph)
    for length in (1, STEPS, 9):
        x = floats(BATCH, length, FEATURES)
        with torch.no_grad():
            expected = module(torch.from_numpy(x))
        for ours, theirs in zip(evaluate(graph, x), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "relu"])
def test_initial_states_can_be_inputs(tmp_path, kind):
    module = Everything(KINDS[kind](FEATURES, UNITS, bidirectional=True, batch_first=True))
    states = [floats(BATCH, 2, UNITS) for _ in range(1 + (kind == "lstm"))]
    graph = exported(module, tmp_path / "net.onnx", floats(BATCH, STEPS, FEATURES), *states)
    assert len(graph.inputs) == 1 + len(states)


@pytest.mark.parametrize("opset", [11, 13, 20])
def test_states_of_the_batch_s_size_become_one_row_or_nothing(tmp_path, opset):
    graph = exported(Learned(), tmp_path / "net.onnx", floats(BATCH, STEPS, FEATURES), opset=opset)
    assert [n.op.name for n in graph.nodes] == ["lstm", "select"]
    h, c = (graph.constants[name].array for name in graph.nodes[0].inputs[-2:])
    assert h.shape == c.shape == (1, UNITS)
    assert not c.any()


@pytest.mark.parametrize(("fixed", "opset"), [(False, 11), (True, 17)])
def test_a_network_that_reads_time_first_is_carried_and_lowered(tmp_path, fixed, opset):
    x = floats(BATCH, STEPS, FEATURES)
    graph = exported(TimeFirst(), tmp_path / "net.onnx", x, fixed=fixed, opset=opset)
    quantized = api.quantize(graph, [x, floats(64, STEPS, FEATURES)])
    quant = quantized.types[quantized.inputs[0]].quant
    codes = np.clip(np.rint(x / quant.scale) + quant.zero_point, 0, 255).astype(np.uint8)
    for name, made, real in zip(graph.outputs, interpret(api.lower(quantized), codes), evaluate(graph, x), strict=True):
        target = quantized.types[name].quant
        np.testing.assert_allclose((made.astype(int) - target.zero_point) * target.scale, real, rtol=0, atol=0.05)


def test_moves_that_undo_each_other_leave_nothing(tmp_path):
    graph = exported(
        Everything(nn.GRU(FEATURES, UNITS, batch_first=True)), tmp_path / "a.onnx", floats(2, STEPS, FEATURES)
    )
    assert [n.op.name for n in graph.nodes] == ["gru", "reshape", "permute"]  # those of its last state
    assert graph.outputs[0] == graph.nodes[0].outputs[0]


def network(target="LSTM", *, attributes=None, inputs=None, constants=None, outputs=("Y",), before=(), directions=1):
    """Arguments for `save`: Transpose, one recurrent node, and its first output batch first."""
    rows = GATES[target] * UNITS
    known = {
        "W": floats(directions, rows, FEATURES),
        "R": floats(directions, rows, UNITS),
        "B": floats(directions, 2 * rows),
        **(constants or {}),
    }
    given = {"linear_before_reset": 1} if target == "GRU" else {}
    given |= {"hidden_size": UNITS, **(attributes or {})}
    given = {name: value for name, value in given.items() if value is not None}
    nodes = [
        node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
        *before,
        node(target, inputs or ["X", "W", "R", "B"], list(outputs), name="layer", **given),
        node("Transpose", [outputs[0]], ["t"], perm=[2, 0, 1, 3]),
        node("Relu", ["t"], ["y"]),
    ]
    return nodes, ("n", STEPS, FEATURES), known


@pytest.mark.parametrize("opset", [11, 14, 22, 23])
@pytest.mark.parametrize("target", GATES)
def test_every_opset_s_layer_is_carried(save, target, opset):
    if opset > 22:
        pytest.importorskip("onnxruntime", minversion="1.22", reason="runs opset 23")
    attributes = {"direction": "bidirectional"}
    made = network(target, attributes=attributes, directions=2)
    assert len(layers(capture(save(*made, opset=opset)).graph)) == 2


def test_lengths_that_are_all_steps_are_no_lengths(save):
    inputs = ["X", "W", "R", "B", "lengths"]
    lengths = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["n"], axis=0),
        node("Expand", ["steps", "n"], ["lengths"]),
    ]
    constants = {"first": np.array([0]), "steps": np.array([STEPS], np.int32)}
    graph = capture(save(*network(inputs=inputs, before=lengths, constants=constants))).graph
    assert len(layers(graph)) == 1
    constants["steps"] = np.array([STEPS - 1], np.int32)
    with pytest.raises(UnsupportedOp, match=f"sequence_lens other than {STEPS} for all"):
        capture(save(*network(inputs=inputs, before=lengths, constants=constants)))


def test_directions_can_have_activations_of_their_own(save):
    attributes = {"direction": "bidirectional", "activations": ["Relu", "Tanh"]}
    graph = capture(save(*network("RNN", attributes=attributes, directions=2))).graph
    assert [n.op for n in layers(graph)] == [Rnn(rectified=True), Rnn(reverse=True)]


def test_biases_of_zero_are_left_out(save):
    graph = capture(save(*network("GRU", constants={"B": np.zeros((1, 6 * UNITS), np.float32)}))).graph
    assert [(n.op, len(n.inputs)) for n in layers(graph)] == [(Gru(), 3)]


def test_an_output_alone_is_carried_with_only_what_it_needs(save):
    nodes, *rest = network(outputs=("", "", "Y_c"))
    nodes[-2:] = [node("Squeeze", ["Y_c", "lead"], ["y"])]
    rest[-1]["lead"] = np.array([0])
    graph = capture(save(nodes, *rest)).graph
    assert [n.op.name for n in graph.nodes] == ["lstm"]
    assert graph.outputs == graph.nodes[0].outputs[1:]


def test_an_output_whose_batch_is_not_first_is_read_and_refused_with_a_hint_where_samples_are_parted(tmp_path):
    graph = exported(nn.GRU(FEATURES, UNITS, batch_first=True), tmp_path / "net.onnx", floats(2, STEPS, FEATURES))
    quantized = api.quantize(graph, [floats(16, STEPS, FEATURES)])
    with pytest.raises(UnsupportedOp, match=r"its batch on axis 1[^\0]*return it batch first"):
        api.lower(quantized)


ALL_INPUTS = ["X", "W", "R", "B", "", "h", "c", "P"]
REFUSED = {
    "peepholes": ({"inputs": ALL_INPUTS, "constants": {"P": floats(1, 3 * UNITS)}}, "peepholes"),
    "a clip": ({"attributes": {"clip": 3.0}}, "clip given"),
    "slopes": ({"attributes": {"activation_alpha": [0.1]}}, "activation_alpha given"),
    "coupled gates": ({"attributes": {"input_forget": 1}}, "input_forget"),
    "other activations": ({"attributes": {"activations": ["HardSigmoid", "Tanh", "Tanh"]}}, "HardSigmoid"),
    "too few activations": ({"attributes": {"activations": ["Sigmoid"]}}, "activations = "),
    "an RNN with Sigmoid": ({"target": "RNN", "attributes": {"activations": ["Sigmoid"]}}, "activations = "),
    "a reset before": ({"target": "GRU", "attributes": {"linear_before_reset": 0}}, "linear_before_reset = 0"),
    "a reset that is not said": ({"target": "GRU", "attributes": {"linear_before_reset": None}}, "before_reset = 0"),
    "no direction": ({"attributes": {"direction": "sideways"}}, "direction = 'sideways'"),
    "another size": ({"attributes": {"hidden_size": 3}}, "hidden_size other than 2"),
    "one direction too few": ({"attributes": {"direction": "bidirectional"}}, "W of shape"),
    "W of other features": ({"constants": {"W": floats(1, 4 * UNITS, FEATURES + 1)}}, "W of shape"),
    "W of rank 2": ({"constants": {"W": floats(4 * UNITS, FEATURES)}}, "W of shape"),
    "R of other rows": ({"constants": {"R": floats(1, 3 * UNITS, UNITS)}}, "W of shape|R of shape"),
    "R of rank 0": ({"constants": {"R": np.float32(1)}}, "R of shape"),
    "R without units": ({"constants": {"R": np.zeros((1, 0, 0), np.float32)}}, "R of shape"),
    "B of one half": ({"constants": {"B": floats(1, 4 * UNITS)}}, "B of shape"),
    "B of integers": ({"constants": {"B": np.ones((1, 8 * UNITS), np.int64)}}, "a weight of int64"),
    "a weight that is computed": ({"inputs": ["X", "W", "X", "B"]}, "computed from the data"),
    "X that is known": ({"inputs": ["W", "W", "R", "X"]}, "is a constant, where an activation"),
    "X of rank 4": (
        {
            "inputs": ["X4", "W", "R"],
            "before": [node("Unsqueeze", ["X", "B0"], ["X4"])],
            "constants": {"B0": np.array([3])},
        },
        "X of rank 4",
    ),
    "time on axis 0": ({"inputs": ["x", "W", "R", "B"]}, "axis 1 of X is not the batch"),
    "lengths that are computed": ({"inputs": ["X", "W", "R", "B", "X"]}, "sequence_lens other than"),
    "states for two samples": ({"inputs": ALL_INPUTS[:6], "constants": {"h": floats(1, 2, UNITS)}}, "for a batch of 2"),
    "states of other units": ({"inputs": ALL_INPUTS[:6], "constants": {"h": floats(1, 1, 9)}}, "an initial state of"),
    "states that are no states": ({"inputs": [*ALL_INPUTS[:5], "X"]}, "an initial state of"),
    "states of rank 1": ({"inputs": ALL_INPUTS[:6], "constants": {"h": floats(UNITS)}}, "an initial state of"),
    "zero steps": (
        {
            "inputs": ["X0", "W", "R", "B"],
            "before": [node("Slice", ["X", "i", "i"], ["X0"])],
            "constants": {"i": np.array([2])},
        },
        "the empty part 2:2",
    ),
}


@pytest.mark.parametrize(("options", "why"), REFUSED.values(), ids=REFUSED)
def test_what_no_layer_computes_is_refused_with_the_reason(save, options, why):
    options = {
        **options,
        "constants": {"h": floats(1, 1, UNITS), "c": floats(1, 1, UNITS), **options.get("constants", {})},
    }
    with pytest.raises(UnsupportedOp, match=why):
        capture(save(*network(**options)))


def test_a_weight_that_is_not_finite_is_refused(save):
    weight = floats(1, 4 * UNITS, FEATURES)
    weight[0, 1, 2] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        capture(save(*network(constants={"W": weight})))


def test_states_that_differ_from_sample_to_sample_are_refused(save):
    nodes, _, constants = network(inputs=ALL_INPUTS[:6], constants={"h": floats(1, 2, UNITS)})
    with pytest.raises(UnsupportedOp, match="differs from sample to sample"):
        capture(save(nodes, (2, STEPS, FEATURES), constants))
    constants["h"][:, 1] = constants["h"][:, 0]
    assert len(layers(capture(save(nodes, (2, STEPS, FEATURES), constants)).graph)) == 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_of_a_layer_are_refused_or_read(data, save):
    path = save(*network("GRU"))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        capture(path)
    except PenjingError as error:
        assert str(error)


# of a value (steps, batch, features)
MOVED = {
    "one step": ([node("Gather", ["X", "two"], ["y"], axis=0)], ["select"]),
    "some steps": ([node("Slice", ["X", "ones", "threes", "zeros"], ["t"])], ["slice", "permute"]),
    "steps in a row": ([node("Gather", ["X", "row"], ["t"], axis=0)], ["slice", "permute"]),
    "joined steps": ([node("Concat", ["X", "X"], ["t"], axis=0)], ["concat", "permute"]),
    "parted features": ([node("Reshape", ["X", "parted"], ["r"]), node("Reshape", ["r", "joined"], ["t"])], []),
    "a lead": ([node("Unsqueeze", ["X", "zeros"], ["r"]), node("Squeeze", ["r", "zeros"], ["t"])], []),
    "each element": ([node("Sigmoid", ["X"], ["t"])], ["sigmoid", "permute"]),
    "a softmax of features": ([node("Softmax", ["X"], ["t"], axis=-1)], ["softmax", "permute"]),
    "a linear layer": ([node("MatMul", ["X", "w"], ["t"])], ["linear", "permute"]),
    "the shape": (
        [node("Shape", ["X"], ["s"]), node("Reshape", ["X", "s"], ["r"]), node("Relu", ["r"], ["t"])],
        ["relu", "permute"],
    ),
}  # fmt: skip
STUCK = {
    "one sample": ([node("Gather", ["X", "zero"], ["y"], axis=1)], "the batch"),
    "some samples": ([node("Slice", ["X", "ones", "threes", "ones"], ["y"])], "symbolic"),
    "joined samples": ([node("Concat", ["X", "X"], ["y"], axis=1)], "symbolic extent"),
    "steps and samples": ([node("Reshape", ["X", "merged"], ["y"])], "mixes the batch"),
    "samples and features": ([node("Flatten", ["X"], ["y"], axis=1)], "mixes the batch"),
    "a softmax of samples": ([node("Softmax", ["X"], ["y"], axis=1)], "whose batch is axis 1"),
    "a mean of steps": ([node("ReduceMean", ["X"], ["y"], axes=[0])], "whose batch is axis 1"),
    "a sum": ([node("Add", ["X", "w"], ["y"])], "whose batch is axis 1"),
    "samples as channels": ([node("Conv", ["X", "k"], ["y"])], "whose batch is axis 1"),
}
MOVING = {
    "two": np.array(2),
    "zero": np.array(0),
    "zeros": np.array([0]),
    "ones": np.array([1]),
    "threes": np.array([3]),
    "row": np.array([1, 2]),
    "parted": np.array([0, -1, FEATURES, 1]),
    "joined": np.array([0, 0, -1]),
    "merged": np.array([-1, FEATURES]),
    "w": floats(FEATURES, FEATURES),
    "k": floats(2, 1, 3),
}
TRANSPOSE = node("Transpose", ["x"], ["X"], perm=[1, 0, 2])


@pytest.mark.parametrize(("nodes", "names"), MOVED.values(), ids=MOVED)
def test_the_batch_may_stand_on_another_axis(save, nodes, names):
    is_done = nodes[-1].output[0] == "y"
    back = [] if is_done else [node("Transpose", ["t"], ["y"], perm=[1, 0, 2])]
    graph = capture(save([TRANSPOSE, *nodes, *back], ("n", STEPS, FEATURES), MOVING)).graph
    assert [n.op.name for n in graph.nodes] == (["permute", *names] if names else [])


@pytest.mark.parametrize(("nodes", "why"), STUCK.values(), ids=STUCK)
def test_the_batch_is_never_cut_merged_or_taken_for_another_axis(save, nodes, why):
    with pytest.raises(UnsupportedOp, match=why):
        capture(save([TRANSPOSE, *nodes], ("n", STEPS, FEATURES), MOVING))


def test_samples_that_meet_one_another_are_refused(save):
    nodes = [node("Squeeze", ["x", "axes"], ["a"]), node("Add", ["x", "a"], ["y"])]
    with pytest.raises(UnsupportedOp, match=r"batches part|mixes the batch"):
        capture(save(nodes, ("n", 1, FEATURES), {"axes": np.array([1])}))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_reshape_that_is_carried_is_that_of_the_model_for_any_batch(data, save):
    """Whatever the axis of the batch, and however the shape is written."""
    sample = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=3))
    where = data.draw(st.integers(0, len(sample)))
    perm = [*range(1, where + 1), 0, *range(where + 1, len(sample) + 1)]
    extents = data.draw(st.permutations([f for n in sample for f in ((2, 2) if n == 4 else (n,))]))
    wanted = [*extents]
    wanted.insert(data.draw(st.integers(0, len(wanted))), data.draw(st.sampled_from([-1, 0])))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(wanted) - 1))
        wanted[at] = -1 if -1 not in wanted else wanted[at]
    nodes = [node("Transpose", ["x"], ["X"], perm=perm), node("Reshape", ["X", "s"], ["y"])]
    path = save(nodes, ("n", *sample), {"s": np.array(wanted)})
    try:
        graph = capture(path, check=False).graph
    except UnsupportedOp:
        return
    verify(graph)
    for batch in (1, 5):
        x = floats(batch, *sample)
        moved = x.transpose(perm)
        shape = [moved.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
        np.testing.assert_array_equal(evaluate(graph, x)[0], moved.reshape(shape))
