import numpy as np
import pytest
import torch
from torch import nn

from penjing import zoo
from penjing.zoo.models.edge_cnn import EdgeCNN
from penjing.zoo.models.resnet_cifar import BasicBlock, ResNetCIFAR

# Trainable parameters, all values of the state that inference needs (running statistics too), MACs, output shape.
# resnet*: table 6 of the paper says 0.27 M and 0.85 M. MLPerf Tiny's Keras models count 78,666, 24,908 (23,756
# trainable), 221,794 and 269,992. MobileNetV2: 3.50 M and 301 M MACs. LeNet-5 in Caffe's form: 431 k.
COUNTS = {
    "edgecnn": (268_362, 268_362, 1_590_528, (10,)),
    "lenet5": (431_080, 431_080, 2_293_000, (10,)),
    "lenet300": (266_610, 266_610, 266_200, (10,)),
    "resnet8": (78_186, 78_666, 12_501_632, (10,)),
    "resnet8-option-a": (75_290, 75_770, 12_239_488, (10,)),
    "resnet20": (269_722, 271_098, 40_551_040, (10,)),
    "resnet56": (853_018, 857_082, 125_485_696, (10,)),
    "dscnn": (23_756, 24_908, 2_656_768, (12,)),
    "mobilenetv1": (216_322, 221_794, 7_489_664, (2,)),
    "mobilenetv2": (3_504_872, 3_538_984, 300_774_272, (1000,)),
    "autoencoder": (267_928, 269_992, 264_192, (640,)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _macs(module: nn.Module, x: torch.Tensor) -> int:
    counted = []

    def count(layer, _inputs, output):
        per_output = layer.weight[0].numel()
        counted.append(output[0].numel() * per_output)

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(x)
    return sum(counted)


def test_every_network_is_counted_here():
    assert set(COUNTS) == set(zoo.names())


@pytest.mark.parametrize("name", COUNTS)
def test_sizes_are_the_published_ones(name):
    trainable, stored, macs, output_shape = COUNTS[name]
    module, model = zoo.create(name), zoo.find(name)
    x = torch.from_numpy(model.random_inputs(1))
    assert sum(p.numel() for p in module.parameters()) == trainable
    assert sum(t.numel() for key, t in module.state_dict().items() if not key.endswith("num_batches_tracked")) == stored
    assert _macs(module, x) == macs
    assert model.labels is None or output_shape == (len(model.labels),)
    with torch.no_grad():
        assert module(torch.from_numpy(model.random_inputs(3))).shape == (3, *output_shape)


@pytest.mark.parametrize("name", COUNTS)
def test_torch_export_takes_every_network_with_any_batch(name):
    module, model = zoo.create(name), zoo.find(name)
    x = torch.from_numpy(model.random_inputs(2))
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch", max=64)},))
    other = torch.from_numpy(model.random_inputs(3, seed=1))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), module(other), rtol=1e-4, atol=1e-4)


def test_edgecnn_is_the_article_s():
    module = EdgeCNN()
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert shapes == {
        "conv1.weight": (16, 1, 3, 3),
        "conv1.bias": (16,),
        "conv2.weight": (32, 16, 3, 3),
        "conv2.bias": (32,),
        "fc1.weight": (128, 2048),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    }


def test_option_a_shortcuts_subsample_and_pad_with_zero_channels():
    block = BasicBlock(16, 32, stride=2)
    x = torch.randn(2, 16, 8, 8)
    y = block.shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()
    assert torch.equal(BasicBlock(16, 16, stride=1).shortcut(x), x)


@pytest.mark.parametrize("depth", [8, 20, 32, 56])
def test_a_resnet_has_as_many_weighted_layers_as_its_depth(depth):
    layers = [layer for layer in ResNetCIFAR(depth).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Before and after, by TensorFlow's rule: ceil(size / stride) outputs, the odd pixel at the end."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + kernel - size)
    return total // 2, total - total // 2


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv1", "dscnn"])
def test_keras_networks_pad_as_keras_does(name):
    """Layer by layer: the padding module before a convolution, or the convolution's own, is TensorFlow's 'same'."""
    module, model = zoo.create(name), zoo.find(name)
    pending: list[tuple[int, int, int, int]] = []
    seen = []

    def remember(layer, _inputs, _output):
        pending.append(layer.padding)

    def compare(layer, inputs, _output):
        left, right, top, bottom = pending.pop() if pending else (layer.padding[1],) * 2 + (layer.padding[0],) * 2
        padded_before = layer.padding == (0, 0)
        height = inputs[0].shape[2] - (top + bottom if padded_before else 0)
        width = inputs[0].shape[3] - (left + right if padded_before else 0)
        assert (top, bottom) == _same_padding(height, layer.kernel_size[0], layer.stride[0])
        assert (left, right) == _same_padding(width, layer.kernel_size[1], layer.stride[1])
        seen.append(layer)

    for layer in module.modules():
        if isinstance(layer, nn.ZeroPad2d):
            layer.register_forward_hook(remember)
        elif isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(compare)
    with torch.no_grad():
        module(torch.from_numpy(np.zeros((1, *model.input_shape), np.float32)))
    assert len(seen) == sum(isinstance(layer, nn.Conv2d) for layer in module.modules())
    assert not pending
