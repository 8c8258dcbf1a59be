"""Blocks of a Transformer, captured from torch, quantized and compiled: every byte is the interpreter's."""

import numpy as np
import pytest

from penjing import api
from penjing.core.arithmetic import dequantize, quantize
from penjing.ops.evaluate import evaluate
from penjing.program.interpret import interpret
from penjing.testing.model_suite import corner_samples, run_model_suite

torch = pytest.importorskip("torch")

STEPS, FEATURES = 11, 24
# Of random blocks on random data, which have a range of codes to themselves as trained ones have: 33 to 36 dB measured.
LEAST_DB = 30.0


def block(*, norm_first: bool, activation: str, causal: bool = False):
    torch.manual_seed(3)
    layer = torch.nn.TransformerEncoderLayer(
        FEATURES, 3, 40, activation=activation, batch_first=True, norm_first=norm_first
    )

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer
            self.register_buffer("mask", torch.nn.Transformer.generate_square_subsequent_mask(STEPS))

        def forward(self, x):
            return self.layer(x, src_mask=self.mask if causal else None)

    with torch.no_grad():
        for norm in (layer.norm1, layer.norm2):
            norm.weight += 0.2 * torch.randn(FEATURES)
            norm.bias += 0.2 * torch.randn(FEATURES)
    return api.capture(Block().eval(), torch.randn(2, STEPS, FEATURES))


def data(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, STEPS, FEATURES)).astype(np.float32)


def program_of(graph):
    return api.lower(api.quantize(graph, [(data(32, 1),)]))


def codes_of(program, x: np.ndarray) -> np.ndarray:
    quant = program.types[program.inputs[0]].quant
    return quantize(x, quant.scale, quant.zero_point)


@pytest.mark.parametrize(("norm_first", "activation"), [(False, "gelu"), (True, "relu")])
def test_an_encoder_layer_equals_the_interpreter_and_stays_near_the_network(norm_first, activation, host, rng):
    graph = block(norm_first=norm_first, activation=activation, causal=norm_first)
    program = program_of(graph)
    report = run_model_suite(program, corner_samples(program, rng, 8), host, optimize="-O1")
    assert not report.problems, "\n".join(report.problems)

    x = data(32, 2)
    (want,), (got,) = evaluate(graph, x), interpret(program, codes_of(program, x))
    quant = program.types[program.outputs[0]].quant
    error = dequantize(got, quant.scale, quant.zero_point) - want
    snr_db = 10 * np.log10(np.square(want).sum() / np.square(error).sum())
    assert snr_db > LEAST_DB


def test_what_comes_later_has_no_say_in_a_causal_block(rng):
    program = program_of(block(norm_first=True, activation="relu", causal=True))
    x = codes_of(program, data(4, 2))
    (before,) = interpret(program, x)
    changed = x.copy()
    changed[:, 6:] = rng.integers(0, 256, size=changed[:, 6:].shape)
    (after,) = interpret(program, changed)
    np.testing.assert_array_equal(after[:, :6], before[:, :6])
    assert (after[:, 6:] != before[:, 6:]).any()


def test_an_attention_moves_each_of_its_operands_once():
    program = program_of(block(norm_first=False, activation="relu"))
    names = [node.op.name for node in program.nodes]
    # queries, keys and values to heads, and the heads back
    assert names.count("q_transpose") == 4


def test_weights_of_long_rows_do_not_vanish():
    """A mean of 400 values: their weights, 1/400 each, would all be 0 in codes of 1/256."""
    from penjing.ops.attend import Attend
    from penjing.testing.networks import Network

    net = Network("mean")
    x, v = net.input(1, 2, 400, name="x"), net.input(1, 400, 3, name="v")
    graph = net.done(net.node(Attend(), x, v, out="y"))
    rng = np.random.default_rng(5)
    inputs = (
        0.01 * rng.normal(size=(2, 1, 2, 400)).astype(np.float32),
        (1 + rng.normal(size=(2, 1, 400, 3))).astype(np.float32),
    )
    program = api.lower(api.quantize(graph, [inputs]))
    quants = [program.types[name].quant for name in program.inputs]
    codes = [quantize(a, q.scale, q.zero_point) for a, q in zip(inputs, quants, strict=True)]
    out = program.types[program.outputs[0]].quant
    got = dequantize(interpret(program, *codes)[0], out.scale, out.zero_point)
    np.testing.assert_allclose(got, evaluate(graph, *inputs)[0], atol=0.02)
