"""Every reference network is captured, and computes the same on inputs that the parity check has not seen."""

import numpy as np
import pytest
import torch

from penjing import zoo
from penjing.frontends.parity import departure
from penjing.frontends.torch_export import capture
from penjing.ir.types import Dim
from penjing.ops.evaluate import evaluate

TOLERANCE = 1e-4  # of the output's scale; float32 rounding reaches 1e-5 in the deepest of them


DEEP = ("resnet56", "mobilenetv1", "mobilenetv2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in zoo.names()]
)
def test_a_reference_network_is_captured_and_computes_the_same(name):
    model = zoo.find(name)
    module = zoo.create(name, trained_batchnorm=True)
    inputs = model.random_inputs(2, seed=7)
    if name == "mobilenetv2":  # any size that 32 divides will do, and 224 takes half a minute
        inputs = np.ascontiguousarray(inputs[:, :, :64, :64])
    graph = capture(module, inputs)
    assert graph.types[graph.inputs[0]].shape == (Dim("batch", 1), *inputs.shape[1:])
    assert graph.parameters() >= sum(p.numel() for p in module.parameters())
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    assert departure(evaluate(graph, inputs)[0], expected) < TOLERANCE
