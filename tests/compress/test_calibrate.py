"""Calibration watches a stream of real inputs, in bounded memory, and says what it cannot use."""

import tracemalloc

import numpy as np
import pytest

from penjing.compress.quantize.calibrate import calibrate
from penjing.core.errors import CalibrationError, InvalidInput
from penjing.ir.graph import Graph
from penjing.ops.add import Add
from penjing.ops.concat import Concat
from penjing.ops.pool2d import MaxPool2d
from penjing.ops.relu import Relu
from penjing.ops.softmax import Softmax
from penjing.testing.networks import Network, batches

KINDS = ["min-max", "mse", "percentile", "entropy"]


def network() -> Graph:
    net = Network()
    x = net.input(2, 6, 6)
    a = net.node(Relu(), net.conv(x, 3, out="conv"), out="relu")
    b = net.node(MaxPool2d((2, 2), (2, 2)), a, out="pool")
    y = net.linear(net.flatten(b, out="flat"), 4, out="fc")
    return net.done(net.node(Softmax(1), y, out="probabilities"))


def whole_numbers() -> Graph:
    """Sums of small integers: float32 gets them right in any order, so batches cannot differ by rounding."""
    net = Network()
    x = net.input(3, 4, 4)
    for i in range(2):
        x = net.conv(x, 3, out=f"conv{i}")
    graph = net.done(net.node(Relu(), x, out="relu"))
    made = Network()
    made.graph = graph.copy()
    for name, constant in graph.constants.items():
        made.constant(name, np.rint(3 * constant.array))
    return made.done(*graph.outputs)


def whole_batch(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-5, 6, size=(samples, 3, 4, 4)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_what_has_codes_of_its_own_are_observed_and_nothing_else(kind):
    graph = network()
    ranges = calibrate(graph, batches(graph, 4), kind)
    # pool and flatten move codes, softmax has a range of its own
    assert set(ranges.ranges) == {"x", "conv", "relu", "fc"}
    assert ranges.samples == 4


def test_min_max_ranges_are_the_ends_of_what_was_seen():
    graph = whole_numbers()
    x = whole_batch(3)
    ranges = calibrate(graph, [x], "min-max").ranges
    assert ranges["x"] == (float(x.min()), float(x.max()))
    assert ranges["relu"][0] == 0.0
    assert ranges["relu"][1] == ranges["conv1"][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_batches_gives_the_ranges_of_one_batch(kind):
    graph = whole_numbers()
    x = whole_batch(24)
    whole = calibrate(graph, [x], kind)
    for cut in ([1] * 24, [5, 7, 12], [23, 1]):
        parts = np.split(x, np.cumsum(cut)[:-1])
        assert calibrate(graph, iter(parts), kind) == whole
    assert calibrate(graph, [x[::-1]], kind) == whole


def test_batches_are_asked_for_one_at_a_time():
    graph = whole_numbers()
    log = []

    def stream():
        for i in range(3):
            log.append(f"batch {i}")
            yield whole_batch(2, i)

    calibrate(graph, stream(), "min-max", progress=lambda seen: log.append(f"seen {seen}"))
    assert log == ["batch 0", "seen 2", "batch 1", "seen 4", "batch 2", "seen 6"]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_stream(kind):
    graph = whole_numbers()

    def peak(count: int) -> int:
        tracemalloc.start()
        calibrate(graph, (whole_batch(256, i) for i in range(count)), kind)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # what is imported or cached by the first call counts for none
    assert peak(40) <= peak(4) + 2 * whole_batch(256).nbytes  # 36 more batches, each seen as 4 activations


@pytest.mark.parametrize("stream", [[], iter(()), (batch for batch in ())])
def test_an_empty_set_is_refused(stream):
    with pytest.raises(CalibrationError, match="the calibration set is empty"):
        calibrate(network(), stream)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_or_infinity_in_an_input_is_refused_with_its_name(kind, bad):
    graph = network()
    x = np.ones((2, 2, 6, 6), np.float32)
    x[1, 0, 3, 3] = bad
    with pytest.raises(CalibrationError, match="1 of 144 calibration values are NaN, infinite") as caught:
        calibrate(graph, [np.ones_like(x), x], kind)
    assert caught.value.where == "x"


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_an_overflow_inside_the_network_is_refused_where_it_happens():
    graph = network()
    with pytest.raises(CalibrationError) as caught:
        calibrate(graph, [np.full((1, 2, 6, 6), 3e38, np.float32)], "min-max")
    assert caught.value.where == "conv"


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 6, 6), np.float32),
        np.zeros((1, 3, 6, 6), np.float32),
        np.zeros((0, 2, 6, 6), np.float32),
        np.zeros((1, 2, 6, 6)),
        np.zeros((1, 2, 6, 6), np.uint8),
        (np.zeros((1, 2, 6, 6), np.float32),) * 2,
        (),
    ],
)
def test_a_batch_that_does_not_fit_the_inputs_is_refused(batch):
    with pytest.raises(InvalidInput):
        calibrate(network(), [batch])


def test_one_array_in_the_place_of_a_list_of_batches_is_refused():
    with pytest.raises(InvalidInput, match="input %x has shape"):
        calibrate(network(), np.zeros((8, 2, 6, 6), np.float32))


def test_an_unknown_observer_is_refused():
    with pytest.raises(InvalidInput, match="there is no observer 'best'"):
        calibrate(network(), [np.zeros((1, 2, 6, 6), np.float32)], "best")


def test_several_inputs_come_as_tuples():
    net = Network()
    a, b = net.input(3, name="a"), net.input(3, name="b")
    graph = net.done(net.node(Concat(1), net.node(Add(), a, b, out="sum"), b, out="both"))
    stream = [(np.float32([[1, 2, 3]]), np.float32([[-9, 0, 4]])), (np.float32([[5, 2, 3]]), np.float32([[0, 0, 0]]))]
    ranges = calibrate(graph, stream, "min-max")
    assert ranges.ranges == {"a": (1.0, 5.0), "b": (-9.0, 4.0), "sum": (-8.0, 7.0), "both": (-9.0, 7.0)}
    assert ranges.samples == 2
