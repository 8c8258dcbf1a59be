"""Capture of encoders as Hugging Face writes them: no padding, and no trace of its masks."""

import numpy as np
import pytest

from penjing.core.errors import UnsupportedOp
from penjing.core.length import Length
from penjing.frontends.torch_export import capture
from penjing.ops.evaluate import evaluate

torch = pytest.importorskip("torch")


class Sentence(torch.nn.Module):
    """An encoder that is called with ids alone, as a user calls it for one sentence."""

    def __init__(self, encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids):
        return self.encoder(ids)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("length", [None, Length(24)])
def test_an_encoder_without_padding_is_its_layers_alone(hugging_face, eager, length):
    torch.manual_seed(0)
    module = Sentence(hugging_face.Bert(eager=eager, head="pooler")).eval()
    graph = capture(module, torch.randint(0, hugging_face.WORDS, (2, 10)), length=length)
    names = [node.op.name for node in graph.nodes]
    assert names.count("add") == 4 and names.count("prefix") == (length is not None) and "mul" not in names
    ids = torch.randint(0, hugging_face.WORDS, (3, 10 if length is None else 5))
    with torch.no_grad():
        expected = module(ids)
    for made, want in zip(evaluate(graph, ids.numpy().astype(np.int32)), expected, strict=True):
        np.testing.assert_allclose(made, want.numpy(), rtol=0, atol=1e-5)


class Batched(torch.nn.Module):
    """A constant of the batch's size, put to some use."""

    def __init__(self, use) -> None:
        super().__init__()
        self.use = use
        self.row = torch.nn.Parameter(torch.arange(3.0))

    def forward(self, x):
        return self.use(self.row.expand(x.shape[0], 3), x)


def test_a_constant_that_all_samples_share_broadcasts():
    graph = capture(Batched(lambda rows, x: x * rows), torch.randn(2, 3))
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(graph, x)[0], x * np.arange(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (lambda rows, x: torch.cat([x, rows], 1), "of the batch's size"),
        (lambda rows, x: x * rows.sum(0), "joins the samples"),
    ],
)
def test_a_constant_of_the_batch_s_size_is_refused_where_its_samples_meet(use, why):
    with pytest.raises(UnsupportedOp, match=why):
        capture(Batched(use), torch.randn(2, 3))
