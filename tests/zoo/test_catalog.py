import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from penjing import zoo
from penjing.core.errors import InvalidInput
from penjing.core.normalise import normalise
from penjing.zoo import data, trainings, weights
from penjing.zoo.inputs import InputKind

WITH_BATCHNORM = ["resnet8", "resnet20", "resnet56", "dscnn", "mobilenetv1", "autoencoder"]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _bytes(module: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in module.state_dict().values())


def test_importing_the_zoo_imports_no_heavy_library():
    code = (
        "import sys, penjing.zoo as zoo; zoo.find(zoo.names()[0]); "
        "print([name for name in ('torch', 'sklearn', 'scipy', 'PIL') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_names_are_unique_and_findable():
    assert len(set(zoo.names())) == len(zoo.names()) == 11
    for name in zoo.names():
        model = zoo.find(name)
        assert model.name == name
        assert model.dataset is None or model.dataset in data.names()
        channels = model.input_shape[0] if len(model.input_shape) == 3 else 1
        assert len(model.input.mean) == len(model.input.std)
        assert len(model.input.mean) in (1, channels)


@pytest.mark.parametrize("call", [zoo.find, zoo.create])
def test_an_unknown_name_lists_those_there_are(call):
    with pytest.raises(InvalidInput, match="resnet21") as caught:
        call("resnet21")
    assert all(name in caught.value.hint for name in zoo.names())


@pytest.mark.parametrize("trained_batchnorm", [False, True])
@pytest.mark.parametrize("name", ["edgecnn", "resnet8", "dscnn"])
def test_a_seed_decides_every_weight(name, trained_batchnorm):
    first, second, other = (zoo.create(name, seed, trained_batchnorm) for seed in (1, 1, 2))
    assert _bytes(first) == _bytes(second) != _bytes(other)
    assert not first.training


def test_creating_leaves_the_callers_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    zoo.create("resnet8", trained_batchnorm=True)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name", WITH_BATCHNORM)
def test_settled_batch_norms_keep_activations_in_range_through_the_depth(name):
    module, model = zoo.create(name, seed=4, trained_batchnorm=True), zoo.find(name)
    deviations = []
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    for layer in norms:
        assert layer.momentum in (0.1, 0.01)
        assert layer.weight.std() > 0.1
        assert layer.bias.abs().max() > 0.1
        assert not torch.equal(layer.running_mean, torch.zeros_like(layer.running_mean))
        layer.register_forward_hook(lambda _layer, _inputs, output: deviations.append(float(output.std())))
    with torch.no_grad():
        output = module(torch.from_numpy(model.random_inputs(8, seed=5)))
    assert len(deviations) == len(norms)
    assert 0.3 < min(deviations) <= max(deviations) < 3
    assert torch.isfinite(output).all()


def test_random_inputs_cover_the_normalised_range():
    model = zoo.find("resnet20")
    x = model.random_inputs(50, seed=1)
    assert x.shape == (50, 3, 32, 32)
    assert x.dtype == np.float32
    for channel, (mean, std) in enumerate(zip(model.input.mean, model.input.std, strict=True)):
        assert x[:, channel].min() == pytest.approx((0 - mean) / std, abs=0.01)
        assert x[:, channel].max() == pytest.approx((1 - mean) / std, abs=0.01)


def test_normalising_takes_bytes_and_floats_to_the_same_numbers():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    kind = InputKind("rgb", (0.0, 1.0), (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    from_bytes = kind.normalise(pixels)
    from_floats = kind.normalise(pixels.astype(np.float32) / np.float32(255))
    assert from_bytes.dtype == np.float32
    assert np.array_equal(from_bytes, from_floats)
    assert from_bytes[0, :, -1, -1] == pytest.approx([(1 - 0.1) / 0.5, 0.8, 0.7 / 2])


def test_one_mean_serves_any_number_of_features():
    x = np.full((2, 640), 3.0, np.float32)
    assert np.array_equal(normalise(x, (1.0,), (2.0,)), np.ones((2, 640), np.float32))
    assert x[0, 0] == 3.0


def test_trainings_name_networks_and_data_that_exist():
    assert len({(one.model, one.dataset) for one in trainings.TRAININGS}) == len(trainings.TRAININGS)
    for training in trainings.TRAININGS:
        assert trainings.find(training.model, training.dataset) is training
        assert training.model in zoo.names()
        assert training.dataset in data.names()


def test_an_unknown_training_lists_those_there_are():
    with pytest.raises(InvalidInput, match="dscnn") as caught:
        trainings.find("dscnn", "mnist")
    assert "edgecnn on digits" in caught.value.hint


def test_networks_without_trained_weights_say_so():
    with pytest.raises(InvalidInput, match="edgecnn"):
        weights.trained("edgecnn")


@pytest.mark.slow
def test_the_digits_training_reaches_97_percent():
    training, digits = trainings.find("edgecnn", "digits"), zoo.digits()
    module = zoo.create("edgecnn")
    assert training.fit(module, digits).accuracy >= 0.97
