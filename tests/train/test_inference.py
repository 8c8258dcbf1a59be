"""What stands beside a compiled model in a comparison: the same network in torch, on one thread."""

import numpy as np
import torch

from penjing.frontends.torch_export import capture
from penjing.train.inference import one_thread, with_weights_of


def test_one_thread_is_for_the_time_being():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        assert torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_a_copy_with_other_weights_computes_with_them_and_the_original_stays():
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    x = torch.rand(2, 4)
    first = module(x)
    graph = capture(module, np.zeros((1, 4), np.float32))
    for name, constant in list(graph.constants.items()):
        graph.constants[name] = type(constant)(2 * constant.array, constant.encoding, constant.quant)
    assert torch.equal(with_weights_of(graph, module)(x), 2 * first)
    assert torch.equal(module(x), first)
