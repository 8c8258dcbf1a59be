"""What `capture` refuses, and that it says all of it at once, with places and what to change."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from penjing.core.errors import InvalidInput, UnsupportedOp
from penjing.frontends.torch_export import capture, coverage

NAN, INFINITY = float("nan"), float("inf")


class TwoKinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        y = torch.cumsum(self.fc(x), dim=1)
        z = torch.erfinv(y)
        return torch.cumsum(z + x, dim=1)


class Function(nn.Module):
    def __init__(self, function, **buffers) -> None:
        super().__init__()
        self.function = function
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_every_unsupported_operator_is_listed_with_its_line():
    first = TwoKinds.forward.__code__.co_firstlineno
    with pytest.raises(UnsupportedOp) as caught:
        capture(TwoKinds(), x(1, 4))
    assert caught.value.what == "TwoKinds cannot be carried in 3 places: 2 x aten.cumsum.default, aten.erfinv.default"
    assert [line.strip().partition(":")[0] for line in caught.value.where.splitlines()] == [
        "aten.cumsum.default (test_capture_refusals.py",
        "aten.cumsum.default (test_capture_refusals.py",
        "aten.erfinv.default (test_capture_refusals.py",
    ]
    for line in (1, 2, 3):
        assert f"test_capture_refusals.py:{first + line}," in str(caught.value)


def test_coverage_counts_what_is_carried_and_what_is_not():
    table = coverage(TwoKinds(), x(1, 4))
    first = TwoKinds.forward.__code__.co_firstlineno
    assert [(row.target, row.count) for row in table.supported] == [("aten.linear.default", 1), ("aten.add.Tensor", 1)]
    assert [(row.target, row.count) for row in table.unsupported] == [
        ("aten.cumsum.default", 2),
        ("aten.erfinv.default", 1),
    ]
    assert table.unsupported[0].places == (
        f"test_capture_refusals.py:{first + 1}, cumsum",
        f"test_capture_refusals.py:{first + 3}, cumsum",
    )
    assert not table.complete and coverage(nn.Linear(4, 2), x(1, 4)).complete


def test_an_option_that_no_operator_takes_is_listed_beside_unknown_operators():
    module = Function(lambda m, a: F.conv2d(torch.cumsum(a, 1), a[0:1]))
    with pytest.raises(UnsupportedOp) as caught:
        capture(module, x(1, 1, 4, 4))
    assert "cumsum" in str(caught.value) and "computed from the input" in str(caught.value)


def _counting(m, a):
    m.state.add_(1)
    return a * m.state


def _written_view(m, a):
    y = a * 1
    F.relu_(y.view(-1, 2, 2))
    return y


REFUSED = {
    "the batch joined with another axis": (lambda m, a: a.view(-1, 2), "mixes the batch with another axis"),
    "zeros for the whole batch": (lambda m, a: torch.cat([a, torch.zeros(a.size(0), 3)], 1), "of the batch's size"),
    "a comparison": (lambda m, a: a > 0, "makes bool"),
    "indices": (lambda m, a: a.argmax(1), "makes int64"),
    "a division of activations": (lambda m, a: a / (a + 9), "not constant"),
    "a division by zero": (lambda m, a: a / 0, "divisor of zero"),
    "random numbers": (lambda m, a: a + torch.rand(4), "aten.rand"),
    "dropout that ignores the mode": (lambda m, a: F.dropout(a, 0.5, training=True), "training"),
    "a buffer that counts": (_counting, "changes state on every call"),
    "a view that is written": (_written_view, "writes into memory"),
    "a number among the outputs": (lambda m, a: (a + 1, 4), "output 1 is 4, not a tensor"),
    "a constant among the outputs": (lambda m, a: (a + 1, torch.ones(2)), "output 1 does not depend on the input"),
    "no output": (lambda m, a: (), "returns nothing"),
    "a sample of the batch": (lambda m, a: a[0], "batch"),
}  # fmt: skip


@pytest.mark.parametrize("title", REFUSED)
def test_what_has_no_meaning_in_a_graph_is_refused_by_name(title):
    function, said = REFUSED[title]
    with pytest.raises(UnsupportedOp) as caught:
        capture(Function(function, state=torch.ones(1)), x(2, 4))
    assert said in str(caught.value)
    assert "docs/errors/unsupported-op.md" in str(caught.value)


def test_data_dependent_control_flow_is_refused_with_its_line_and_no_noise(capfd):
    def forward(m, a):
        return a if a.sum() > 0 else a + 1

    with pytest.raises(UnsupportedOp, match="cannot write Function down as a graph") as caught:
        capture(Function(forward), x(2, 4))
    assert caught.value.where == f"test_capture_refusals.py:{forward.__code__.co_firstlineno + 1}"
    assert "torch.where" in caught.value.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("function", [lambda m, a: a.view(2, -1) + 1, lambda m, a: a.reshape(4, 1, 1) * 2])
def test_a_batch_that_is_folded_away_says_what_to_write_instead(function):
    with pytest.raises(UnsupportedOp) as caught:
        capture(Function(function), x(1, 4))
    assert "x.flatten(1) or x.view(x.size(0), ...)" in str(caught.value)


@pytest.mark.parametrize("bad", [NAN, INFINITY, -INFINITY])
def test_a_weight_that_is_not_a_number_is_named_with_its_count_and_place(bad):
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with torch.no_grad():
        module[2].weight[1, 3] = bad
        module[2].weight[2, 0] = bad
    with pytest.raises(InvalidInput, match=r"2 of 16 numbers of 2\.weight are NaN or infinite .* first at \[1, 3\]"):
        capture(module, x(1, 4))


def test_a_buffer_that_no_output_reads_may_hold_anything():
    capture(Function(lambda m, a: a * 2, unused=torch.tensor([NAN])), x(1, 4))


def test_unsupported_operators_come_before_bad_weights():
    module = TwoKinds()
    with torch.no_grad():
        module.fc.weight.fill_(NAN)
    with pytest.raises(UnsupportedOp):
        capture(module, x(1, 4))


BAD_EXAMPLES = {
    "integers": (torch.ones(2, 4, dtype=torch.int64), "convert others with x.float()"),
    "integers that are no ids": (torch.ones(2, 4, dtype=torch.uint8), "uint8 inputs are not supported"),
    "booleans": (np.ones((2, 4), bool), "bool inputs are not supported"),
    "text": (np.array(["a"]), "cannot be an input"),
    "a list of numbers": ([1.0, 2.0], "a tensor or numpy array is needed"),
    "nothing": ((), "holds no input"),
    "a scalar": (torch.tensor(1.0), "no batch axis"),
    "no samples": (torch.ones(0, 4), "holds no numbers"),
    "NaN": (torch.tensor([[1.0, NAN, 1.0, 1.0]]), "NaN or infinity"),
    "two batch sizes": ((torch.ones(2, 4), torch.ones(3, 4)), "different batch sizes"),
    "another width": (torch.ones(2, 5), "cannot run on the example of shape"),
    "too many inputs": ((torch.ones(2, 4), torch.ones(2, 4)), "cannot run on the example of shape"),
}  # fmt: skip


@pytest.mark.parametrize("title", BAD_EXAMPLES)
def test_an_example_that_does_not_fit_is_refused(title):
    example, said = BAD_EXAMPLES[title]
    module = nn.Linear(4, 2).train()
    with pytest.raises(InvalidInput) as caught:
        capture(module, example)
    assert said in str(caught.value)
    assert module.training


def test_only_modules_with_numbers_are_taken():
    with pytest.raises(InvalidInput, match="only a torch"):
        capture(lambda a: a, x(1, 4))
    with pytest.raises(InvalidInput, match="meta device"):
        capture(nn.Linear(4, 2, device="meta"), x(1, 4))


@pytest.mark.parametrize("name", ["", "../up", "a b", "9lives", "n" * 65])
def test_a_name_that_cannot_be_a_file_or_a_c_identifier_is_refused(name):
    with pytest.raises(InvalidInput, match="cannot name a graph"):
        capture(nn.Linear(4, 2), x(1, 4), name=name)
