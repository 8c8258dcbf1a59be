"""A graph as a torch module: the same function, trainable, and back without loss."""

import numpy as np
import pytest
import torch

from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.core.errors import InvalidGraph, InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Constant, Encoding
from penjing.ops.add import Add
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.concat import Concat
from penjing.ops.evaluate import evaluate
from penjing.ops.linear import Linear
from penjing.ops.pool2d import AvgPool2d
from penjing.ops.relu import Relu
from penjing.ops.softmax import Softmax
from penjing.ops.split import Split
from penjing.testing.networks import Network, batches, edge_cnn
from penjing.train.module import TrainableGraph, trainable


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def branched() -> Graph:
    """Two inputs, two outputs, an operator with several outputs, absent inputs, a shared weight."""
    net = Network()
    a, b = net.input(3, 6, 6, name="a"), net.input(4, name="b")
    x = net.node(Add(), net.conv(a, 4, out="conv"), net.conv(a, 4, out="side", kernel=1, bias=False), out="sum")
    stats = (net.constant("0.mean", net.rng.normal(size=4)), net.constant("0.var", np.ones(4)))
    x = net.node(BatchNorm(), x, "", "", *stats, out="bn")
    x = net.flatten(net.node(AvgPool2d((6, 6), (6, 6)), x, out="pool"), out="flat")
    w = net.weight("shared", 4, 4)
    x = net.node(Linear(), net.node(Linear(), x, w, out="once"), w, out="twice")
    y = net.node(Concat(1), x, b, out="both")
    net.graph.add_node(Split(1, (3, 5)), (y,), ("head", "tail"))
    return net.done("head", net.node(Softmax(1), "tail", out="p"))


def pruned() -> Graph:
    return run_passes(edge_cnn(), [PruneMagnitude(ratio=0.6)])[0]


def tensors(graph: Graph, samples: int = 4) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(x) for x in next(batches(graph, samples)))


def parameter(module: TrainableGraph, name: str) -> torch.Tensor:
    """The parameter behind a constant: they are in the order of the graph's constants."""
    return module.get_parameter(f"p{list(module.to_graph().constants).index(name)}")


def step(module: TrainableGraph, graph: Graph, **options) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2, **options)
    for _ in range(3):
        optimizer.zero_grad()
        module(*tensors(graph))
        outputs = module(*tensors(graph))
        total = outputs if isinstance(outputs, torch.Tensor) else sum(y.square().sum() for y in outputs)
        total.square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("make", [edge_cnn, branched, pruned])
def test_the_module_computes_what_the_graph_means(make):
    graph = make()
    got = trainable(graph)(*tensors(graph))
    want = evaluate(graph, *next(batches(graph, 4)))
    for y, expected in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        # float32 sums of up to 2048 products in another order
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_one_output_comes_alone_and_several_as_a_tuple():
    graph = edge_cnn()
    assert isinstance(trainable(graph)(*tensors(graph)), torch.Tensor)
    several = trainable(branched())(*tensors(branched()))
    assert isinstance(several, tuple) and len(several) == 2


def test_any_batch_size_goes_through():
    graph = edge_cnn()
    module = trainable(graph)
    for n in (1, 3, 8):
        assert module(*tensors(graph, n)).shape == (n, 10)


def test_gradients_reach_every_constant():
    graph = edge_cnn()
    module = trainable(graph)
    module(*tensors(graph)).square().sum().backward()
    parameters = dict(module.named_parameters())
    assert len(parameters) == len(graph.constants)
    for parameter in parameters.values():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any()


def test_a_batch_norm_keeps_its_running_statistics_and_trains_the_rest():
    net = Network()
    names = [net.constant(name, np.full(4, 1.5)) for name in ("gamma", "beta", "mean", "var")]
    graph = net.done(net.node(BatchNorm(), net.conv(net.input(2, 3, 3), 4, out="conv"), *names, out="y"))
    module = trainable(graph)
    step(module, graph)
    got = module.to_graph()
    moved = {name for name in graph.constants if (got.constants[name].array != graph.constants[name].array).any()}
    assert moved == {"conv.weight", "conv.bias", "gamma", "beta"}


def normed() -> Graph:
    """conv, batch norm, relu, the same batch norm again."""
    net = Network()
    names = [
        net.constant(name, array) for name, array in zip(("gamma", "beta", "mean", "var"), STATISTICS, strict=True)
    ]
    x = net.node(BatchNorm(), net.conv(net.input(2, 5, 5), 4, out="conv"), *names, out="bn")
    return net.done(net.node(BatchNorm(), net.node(Relu(), x, out="relu"), *names, out="y"))


STATISTICS = np.array([[1, 2, 1, 0.5], [0, 1, -1, 0.5], [0.3, 0.1, 0, -0.2], [1, 2, 0.5, 1.5]], np.float32)


def test_a_batch_norm_in_training_does_what_torch_does():
    graph = normed()
    module = trainable(graph, batch_norm="train").train()
    norm = torch.nn.BatchNorm2d(4)
    with torch.no_grad():
        for tensor, value in zip(
            (norm.weight, norm.bias, norm.running_mean, norm.running_var), STATISTICS, strict=True
        ):
            tensor.copy_(torch.from_numpy(value))
    conv = torch.nn.Conv2d(2, 4, 3, padding=1)
    conv.load_state_dict({key: torch.tensor(graph.constants[f"conv.{key}"].array) for key in ("weight", "bias")})
    for training in (True, False):
        module.train(training), norm.train(training)
        (x,) = tensors(graph)
        want = norm(norm(conv(x)).relu())
        got = module(x)
        torch.testing.assert_close(got, want)
    (want**2).sum().backward()
    (got**2).sum().backward()
    torch.testing.assert_close(parameter(module, "gamma").grad, norm.weight.grad)
    trained = module.to_graph().constants
    np.testing.assert_allclose(trained["mean"].array, norm.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trained["var"].array, norm.running_var.numpy(), rtol=1e-5)


def test_only_the_named_constants_are_trained():
    graph = edge_cnn()
    module = trainable(graph, only=["fc2.weight", "fc2.bias"])
    step(module, graph)
    got = module.to_graph().constants
    moved = {name for name in graph.constants if (got[name].array != graph.constants[name].array).any()}
    assert moved == {"fc2.weight", "fc2.bias"}


@pytest.mark.parametrize(
    ("options", "named"), [({"only": ["fc2.weight", "fc9"]}, "fc9"), ({"batch_norm": "thawed"}, "thawed")]
)
def test_an_option_that_fits_nothing_is_refused(options, named):
    with pytest.raises(InvalidInput, match=named):
        trainable(edge_cnn(), **options)


def test_values_inside_can_be_watched_with_their_gradients():
    graph = edge_cnn()
    module = trainable(graph)
    seen = {}
    evaluate(graph, *next(batches(graph, 4)), watch=lambda name, array: seen.update({name: array}))
    with module.watch(["x", "pool1", "relu3"]) as watch:
        module(*tensors(graph))
        assert set(watch.values) == {"x", "pool1", "relu3"}
        for name, value in watch.values.items():
            np.testing.assert_allclose(value.detach().numpy(), seen[name], atol=1e-4)
        watch.values["relu3"].sum().backward()
        assert parameter(module, "conv1.weight").grad.any()
    module(*tensors(graph))
    assert not watch.values


def test_a_value_that_is_not_there_cannot_be_watched():
    with pytest.raises(InvalidInput, match="conv3"):
        trainable(edge_cnn()).watch(["conv1", "conv3"])


def codebook(graph: Graph, name: str, entries: int) -> Graph:
    """`graph` with the values of one constant rounded to a few, zero among them."""
    array = graph.constants[name].array
    book = np.linspace(-1, 1, entries, dtype=np.float32) * np.abs(array).max()
    nearest = book[np.abs(array[..., None] - book).argmin(-1)]
    graph = graph.copy()
    graph.set_constant(name, Constant(nearest, Encoding.CODEBOOK))
    return graph


def test_shared_weights_are_trained_by_the_sum_of_their_gradients_and_stay_shared():
    graph = codebook(edge_cnn(), "fc2.weight", 5)
    array = graph.constants["fc2.weight"].array
    free = graph.copy()
    free.set_constant("fc2.weight", Constant(array))
    module, dense = trainable(graph), trainable(free, keep_zeros=False)
    for each in (module, dense):
        each(*tensors(graph)).square().sum().backward()
    book = parameter(module, "fc2.weight")
    assert book.shape == (5,)
    grad = parameter(dense, "fc2.weight").grad.numpy()
    for value, got in zip(np.unique(array), book.grad.numpy(), strict=True):
        want = grad[array == value].sum() if value else 0.0  # zero is kept
        assert got == pytest.approx(want, rel=1e-4, abs=1e-5)
    step(module, graph)
    constant = module.to_graph().constants["fc2.weight"]
    assert constant.encoding is Encoding.CODEBOOK
    assert np.unique(constant.array).size == 5
    np.testing.assert_array_equal(constant.array == 0, array == 0)
    assert not np.array_equal(constant.array, array)


def test_a_shared_weight_is_one_parameter_with_both_gradients():
    net = Network()
    x, w = net.input(3), net.weight("w", 3, 3)
    graph = net.done(net.node(Linear(), net.node(Linear(), x, w, out="once"), w, out="twice"))
    module = trainable(graph)
    (parameter,) = module.parameters()
    module(*tensors(graph, 1)).sum().backward()
    free = torch.from_numpy(graph.constants["w"].array.copy()).requires_grad_()
    (tensors(graph, 1)[0] @ free.T @ free.T).sum().backward()
    torch.testing.assert_close(parameter.grad, free.grad)


@pytest.mark.parametrize("make", [edge_cnn, branched, pruned])
def test_an_untrained_module_leads_back_to_the_same_graph(make):
    graph = make()
    assert print_graph(trainable(graph).to_graph()) == print_graph(graph)


def test_training_leaves_the_graph_it_was_made_from_alone_and_shows_in_the_new_one():
    graph = edge_cnn()
    before = print_graph(graph)
    module = trainable(graph)
    step(module, graph)
    assert print_graph(graph) == before
    got = module.to_graph()
    assert print_graph(got) != before
    want = module(*tensors(graph)).detach().numpy()
    np.testing.assert_allclose(evaluate(got, *next(batches(graph, 4)))[0], want, atol=1e-5 * np.abs(want).max())


def test_pruned_weights_stay_zero_through_training_with_momentum_and_decay():
    graph = pruned()
    module = trainable(graph)
    step(module, graph)
    got = module.to_graph()
    for name, constant in graph.constants.items():
        trained = got.constants[name].array
        if name.endswith("weight"):
            np.testing.assert_array_equal(trained == 0, constant.array == 0)
        assert not np.array_equal(trained, constant.array)


def test_zeros_may_grow_when_they_are_not_kept():
    graph = pruned()
    module = trainable(graph, keep_zeros=False)
    step(module, graph)
    got = module.to_graph().constants["conv2.weight"].array
    assert np.count_nonzero(got) > np.count_nonzero(graph.constants["conv2.weight"].array)


def test_a_bias_that_starts_at_zero_is_trained():
    net = Network()
    graph = net.done(net.node(Linear(), net.input(3), net.weight("w", 2, 3), net.constant("b", np.zeros(2)), out="y"))
    module = trainable(graph)
    step(module, graph)
    assert np.all(module.to_graph().constants["b"].array != 0)


def test_masks_travel_with_the_state_of_the_module():
    graph = pruned()
    trained, fresh = trainable(graph), trainable(graph)
    step(trained, graph)
    fresh.load_state_dict(trained.state_dict())
    assert print_graph(fresh.to_graph()) == print_graph(trained.to_graph())


@pytest.mark.parametrize("stage", ["compressed", "lowered"])
def test_a_graph_that_holds_integers_is_refused(stage):
    graph = edge_cnn()
    graph.stage = stage
    with pytest.raises(InvalidGraph, match=f"a graph in stage {stage} holds integers"):
        trainable(graph)


def test_names_that_torch_could_not_use_do_not_matter():
    net = Network()
    w = net.constant("a.b[0] 名", np.eye(3))
    graph = net.done(net.node(Relu(), net.node(Linear(), net.input(3), w, out="0"), out="1"))
    module = trainable(graph)
    assert module.constant("a.b[0] 名").shape == (3, 3)
    assert print_graph(module.to_graph()) == print_graph(graph)
