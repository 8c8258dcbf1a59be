"""Distillation: what the loss is, what belongs to its identity, and that a student gets closer to its teacher."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ops.linear import Linear
from penjing.ops.relu import Relu, Relu6
from penjing.testing.networks import Network
from penjing.train.distil import Distillation, relative_error, soft_cross_entropy
from penjing.train.fit import cross_entropy, fit, predict
from penjing.train.module import TrainableGraph, trainable

OPTIONS = {"epochs": 40, "batch_size": 16, "learning_rate": 0.05}


def mlp(seed: int, hidden: int = 16) -> Graph:
    net = Network(seed=seed)
    x = net.node(Relu(), net.linear(net.input(6), hidden, out="fc1"), out="relu")
    return net.done(net.node(Linear(), x, net.weight("w", 4, hidden), out="y"))


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(160, 6)).astype(np.float32)
    return x, predict(trainable(mlp(0)), x).argmax(1)


def logits(seed: int) -> torch.Tensor:
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_loss_is_the_divergence_of_softened_answers(temperature):
    ours, theirs = logits(1), logits(2)
    p, q = ((z.double() / temperature).softmax(1) for z in (theirs, ours))
    want = float((p * (p / q).log()).sum(1).mean()) * temperature**2
    assert float(soft_cross_entropy(ours, theirs, temperature)) == pytest.approx(want, rel=1e-5)
    assert float(soft_cross_entropy(ours, ours + 3, temperature)) == pytest.approx(0, abs=1e-5)


def test_the_share_mixes_labels_and_teacher():
    teacher = trainable(mlp(0))
    x, y = (torch.from_numpy(part[:8]) for part in data())
    output = logits(3)[:7].repeat(2, 1)[:8]
    soft = float(soft_cross_entropy(output, teacher(x).detach(), 2.0))
    hard = float(cross_entropy(x, output, y))
    for share in (0.0, 0.3, 1.0):
        got = float(Distillation(teacher, temperature=2.0, share=share)(x, output, y))
        assert got == pytest.approx(share * soft + (1 - share) * hard, rel=1e-5)


def test_features_are_compared_relative_to_the_teachers():
    theirs = torch.tensor([[3.0, 4.0]])
    assert float(relative_error(torch.tensor([[3.0, 3.0]]), theirs)) == pytest.approx(1 / 25)
    assert float(relative_error(torch.zeros(1, 2), torch.zeros(1, 2))) == 0
    with pytest.raises(InvalidInput, match="student"):
        relative_error(torch.zeros(1, 3), theirs)


def test_a_student_comes_close_to_its_teacher_and_the_teacher_stays():
    teacher, student = trainable(mlp(0)), trainable(mlp(1))
    x, y = data()
    answers = predict(teacher, x)

    def distance() -> float:
        ours, theirs = torch.from_numpy(predict(student, x)), torch.from_numpy(answers)
        return float(soft_cross_entropy(ours, theirs, 1.0))

    before = distance()
    wrong = np.zeros_like(y)
    fit(student, (x, wrong), loss=Distillation(teacher, temperature=1.0, share=1.0), **OPTIONS)
    assert distance() < before / 10
    np.testing.assert_array_equal(predict(teacher, x), answers)


def test_matched_features_become_like_the_teachers():
    x, y = data()
    teacher = trainable(mlp(0))
    errors = {}
    for weight in (0.0, 1.0):
        student = trainable(mlp(1))
        loss = Distillation(teacher, student=student, features=["relu"], feature_weight=weight)
        fit(student, (x, y), loss=loss, **OPTIONS)
        loss.close()
        with student.watch(["relu"]) as ours, teacher.watch(["relu"]) as theirs, torch.no_grad():
            student(torch.from_numpy(x)), teacher(torch.from_numpy(x))
            errors[weight] = float(relative_error(ours.values["relu"], theirs.values["relu"]))
    assert errors[1.0] < errors[0.0] / 2


def distillation(seed: int = 0, **options) -> Distillation:
    return Distillation(trainable(mlp(seed)), **options)


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 2.0},
        {"share": 0.5},
        {"seed": 2},
        {"precision": "bfloat16"},
    ],
)
def test_another_teacher_or_option_is_another_training(tmp_path, other):
    path, short = tmp_path / "state", OPTIONS | {"epochs": 1}
    fit(trainable(mlp(1)), data(), loss=distillation(), checkpoint=path, **short)
    fit(trainable(mlp(1)), data(), loss=distillation(), checkpoint=path, **short)
    with pytest.raises(InvalidInput, match="another training: loss differ"):
        fit(trainable(mlp(1)), data(), loss=distillation(**other), checkpoint=path, **short)


def test_teachers_of_the_same_weights_but_another_form_differ():
    plain, scaled = mlp(0), mlp(0)
    position = next(i for i, node in enumerate(scaled.nodes) if node.op.name == "relu")
    node = scaled.nodes[position]
    scaled.nodes[position] = type(node)(Relu6(), node.inputs, node.outputs, node.source)
    assert Distillation(trainable(plain)).identity() != Distillation(trainable(scaled)).identity()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"share": 1.5}, "share"),
        ({"feature_weight": -1.0}, "feature_weight"),
        ({"features": ["relu"]}, "two graphs"),
        ({"features": ["relu"], "student": nn.Linear(6, 4)}, "two graphs"),
        ({"features": ["relu9"], "student": TrainableGraph(mlp(1))}, "relu9"),
    ],
)
def test_an_impossible_distillation_is_refused(options, named):
    with pytest.raises(InvalidInput, match=named):
        distillation(**options)


def test_a_student_cannot_be_its_own_teacher_nor_have_another_number_of_classes():
    module = trainable(mlp(0))
    with pytest.raises(InvalidInput, match="own teacher"):
        Distillation(module, student=module)
    with pytest.raises(InvalidInput, match="the student"):
        distillation()(torch.zeros(2, 6), torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64))
