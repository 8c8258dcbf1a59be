"""Masks that tighten through a training: by the cubic rule, never the other way, and the same after an interruption."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from penjing.compress.prune.gradual import masks_by_density
from penjing.compress.prune.magnitude import global_ratio_masks, ratio_mask, sparsity
from penjing.compress.prune.patterns import NOfM
from penjing.core.errors import InvalidInput, PruningError
from penjing.ir.graph import Graph
from penjing.ir.text import print_graph
from penjing.ops.relu import Relu
from penjing.testing.networks import Network
from penjing.train.fit import fit
from penjing.train.gradual_pruning import GradualPruning
from penjing.train.module import trainable

STEPS = 40
OPTIONS = {"epochs": 4, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 1e-3}


def mlp() -> Graph:
    net = Network()
    return net.done(net.linear(net.node(Relu(), net.linear(net.input(5), 12, out="fc1"), out="relu"), 3, out="fc2"))


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(8 * STEPS // 4, 5)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)


def by_magnitude(weights, density):
    return global_ratio_masks(weights, 1 - density)


def weights_of(graph: Graph) -> np.ndarray:
    return np.concatenate([graph.constants[f"{layer}.weight"].array.ravel() for layer in ("fc1", "fc2")])


def test_the_share_of_zeros_follows_the_cubic_rule():
    module, seen = trainable(mlp()), []
    hook = GradualPruning(by_magnitude, 0.8, begin=0.1, end=0.6, every=2)

    def note(progress):
        seen.append(sparsity(weights_of(module.to_graph())))

    fit(module, data(), on_step=hook, progress=note, **OPTIONS)
    assert len(seen) == STEPS
    first, last, n = 4, 24, weights_of(mlp()).size
    for step, got in enumerate(seen):
        if step < first:
            assert got == 0
            continue
        at = min(step - step % 2, last)
        want = 0.8 - 0.8 * (1 - (at - first) / (last - first)) ** 3
        assert got == pytest.approx(math.floor(want * n + 1e-6) / n)
    assert seen[-1] == math.floor(0.8 * n) / n


def test_zeros_never_come_back_and_older_ones_stay():
    graph = mlp()
    array = graph.constants["fc1.weight"].array.copy()
    array[0] = 0  # by an earlier pass, and not what is smallest per layer of fc2
    graph.set_constant("fc1.weight", type(graph.constants["fc1.weight"])(array))
    module, seen = trainable(graph), []
    hook = GradualPruning(lambda weights, density: {"fc1.weight": ratio_mask(weights["fc1.weight"], 1 - density)}, 0.5)
    fit(module, data(), on_step=hook, progress=lambda _: seen.append(module.mask("fc1.weight")), **OPTIONS)
    assert all((later <= earlier).all() for earlier, later in pairwise(seen))
    got = module.to_graph().constants
    assert not got["fc1.weight"].array[0].any()
    assert sparsity(got["fc1.weight"].array) == 0.5
    assert sparsity(got["fc2.weight"].array) == 0


@pytest.mark.parametrize("after", [3, 10, 11, 30])
def test_an_interrupted_training_prunes_the_same_weights(tmp_path, after):
    def hook():
        return GradualPruning(by_magnitude, 0.7, begin=0.1, end=0.6, every=5)

    whole, resumed = trainable(mlp()), trainable(mlp())
    fit(whole, data(), on_step=hook(), **OPTIONS)
    left = iter(range(after))

    def stop(_progress):
        if next(left) == after - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(trainable(mlp()), data(), on_step=hook(), progress=stop, checkpoint=tmp_path / "state", **OPTIONS)
    fit(resumed, data(), on_step=hook(), checkpoint=tmp_path / "state", **OPTIONS)
    assert print_graph(resumed.to_graph()) == print_graph(whole.to_graph())


def test_another_schedule_is_another_training(tmp_path):
    path = tmp_path / "state"
    hooks = [partial(GradualPruning, by_magnitude, 0.7), partial(GradualPruning, by_magnitude, 0.6)]
    fit(trainable(mlp()), data(), on_step=hooks[0](), checkpoint=path, **OPTIONS)
    with pytest.raises(InvalidInput, match="on_step differ"):
        fit(trainable(mlp()), data(), on_step=hooks[1](), checkpoint=path, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sparsity": 1.0}, PruningError),
        ({"sparsity": math.nan}, PruningError),
        ({"initial_sparsity": 0.9}, PruningError),
        ({"begin": 0.7}, InvalidInput),
        ({"end": 1.0}, InvalidInput),
        ({"every": 0}, InvalidInput),
    ],
)
def test_an_impossible_schedule_is_refused(options, error):
    with pytest.raises(error):
        GradualPruning(**{"masks_for": by_magnitude, "sparsity": 0.5} | options)


@pytest.mark.parametrize(
    ("masks", "error", "named"),
    [
        ({"fc3.weight": np.ones((3, 3), bool)}, InvalidInput, "fc3.weight"),
        ({"fc1.bias": np.ones(12, bool)}, InvalidInput, "fc1.bias"),
        ({"fc1.weight": np.ones((5, 12), bool)}, InvalidInput, "does not fit"),
        ({"fc1.weight": np.zeros((12, 5), bool)}, PruningError, "no weight"),
    ],
)
def test_masks_that_fit_nothing_are_refused(masks, error, named):
    with pytest.raises(error, match=named):
        fit(trainable(mlp()), data(), on_step=GradualPruning(lambda *_: masks, 0.5), **OPTIONS)


def test_a_plain_module_is_refused():
    with pytest.raises(InvalidInput, match="TrainableGraph"):
        fit(torch.nn.Linear(5, 3), data(), on_step=GradualPruning(by_magnitude, 0.5), **OPTIONS)


def test_a_training_leads_layers_to_their_patterns():
    module = trainable(mlp())
    masks = masks_by_density({"fc1.weight": NOfM(2, 5), "fc2.weight": NOfM(1, 4)}, 0.75)
    fit(module, data(), on_step=GradualPruning(masks, 0.75, end=0.5, every=3), **OPTIONS)
    weights = {name: constant.array for name, constant in module.to_graph().constants.items()}
    assert (np.count_nonzero(weights["fc1.weight"], axis=1) == 2).all()
    assert (np.count_nonzero(weights["fc2.weight"].reshape(3, 3, 4), axis=2) == 1).all()
