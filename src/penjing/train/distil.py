"""Distillation (蒸馏): the original network teaches the compressed one.

    loss = (1 - a) CE(y, softmax(z)) + a T^2 KL(softmax(z_t / T) || softmax(z / T)) + b mean of |f_t - f|^2 / |f_t|^2

z and z_t are the logits of student and teacher, f and f_t values inside them. The factor T^2 keeps the gradients of the
second term as large as those of the first (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
2015, section 2). The third term is the hint of Romero et al., "FitNets" (2015), equation 3, made relative so that
layers of all magnitudes count alike.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from penjing.core.digests import digest_bytes
from penjing.core.errors import InvalidInput
from penjing.ir.text import print_graph
from penjing.train.checkpoint import digest_state
from penjing.train.fit import cross_entropy
from penjing.train.module import TrainableGraph, Watch
from penjing.train.precision import Precision, autocast


class Distillation:
    """A loss for `fit`: a mixture of the labels and of what a teacher answers to the same batch.

    Args:
        teacher: gives logits of the student's shape; put in evaluation mode, never changed.
        temperature: T above, at least 1: how much the teacher's wrong answers count among one another.
        share: a above, 0..1, of the teacher; the rest is for the labels, and with 1 they do not count.
        student: the module that is trained; needed for `features` only.
        features: names of values that teacher and student (both TrainableGraph) have in the same shape.
        feature_weight: b above.
        precision: what the teacher computes in.

    Raises:
        InvalidInput: options out of range, or features that one of the two does not have.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        temperature: float = 4.0,
        share: float = 0.9,
        student: nn.Module | None = None,
        features: Sequence[str] = (),
        feature_weight: float = 1.0,
        precision: Precision = "float32",
    ) -> None:
        if not (math.isfinite(temperature) and temperature >= 1):
            raise InvalidInput(f"temperature must be 1 or more and finite, not {temperature}", where="Distillation")
        if not 0 <= share <= 1:
            raise InvalidInput(f"share must lie in 0..1, not {share}", where="Distillation")
        if not (math.isfinite(feature_weight) and feature_weight >= 0):
            raise InvalidInput(f"feature_weight must be 0 or more and finite, not {feature_weight}")
        if teacher is student:
            raise InvalidInput("the student cannot be its own teacher", hint="make a second module of the original")
        self._teacher = teacher.eval()
        self._temperature, self._share = temperature, share
        self._feature_weight, self._precision = feature_weight, precision
        self._features = tuple(features)
        self._watches = (_watch(teacher, features), _watch(student, features)) if features else None
        self._identity = (
            f"temperature={temperature} share={share} features={','.join(features)} "
            f"feature_weight={feature_weight} precision={precision} teacher={_digest(teacher)}"
        )

    def identity(self) -> str:
        """The options, and a digest of the teacher as it was given."""
        return self._identity

    def __call__(self, x: torch.Tensor, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of a batch, a scalar.

        Raises:
            InvalidInput: outputs or features of teacher and student have other shapes.
        """
        with torch.no_grad(), autocast(self._precision, x.device):
            wanted = self._teacher(x).float()
        if wanted.shape != output.shape:
            raise InvalidInput(f"the teacher gives {tuple(wanted.shape)}, the student {tuple(output.shape)}")
        loss = self._share * soft_cross_entropy(output, wanted, self._temperature)
        if self._share < 1:
            loss = loss + (1 - self._share) * cross_entropy(x, output, target)
        if self._watches is not None:
            loss = loss + self._feature_weight * self._feature_error(*self._watches)
        return loss

    def _feature_error(self, teacher: Watch, student: Watch) -> torch.Tensor:
        errors = [
            relative_error(student.values[name].float(), teacher.values[name].float(), name) for name in self._features
        ]
        return torch.stack(errors).mean()

    def close(self) -> None:
        """Stop watching features; the loss cannot be used afterwards."""
        for watch in self._watches or ():
            watch.close()


def soft_cross_entropy(logits: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(softmax(wanted / T) || softmax(logits / T)) of (n, classes), mean over n; 0 where they agree."""
    ours, theirs = F.log_softmax(logits / temperature, 1), F.log_softmax(wanted / temperature, 1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


def relative_error(ours: torch.Tensor, theirs: torch.Tensor, name: str = "features") -> torch.Tensor:
    """|theirs - ours|^2 / |theirs|^2, a scalar.

    Raises:
        InvalidInput: the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise InvalidInput(
            f"%{name} is {tuple(theirs.shape)} in the teacher and {tuple(ours.shape)} in the student",
            hint="match only values whose channels were kept",
        )
    tiny = torch.finfo(theirs.dtype).tiny
    return (theirs - ours).square().sum() / theirs.square().sum().clamp_min(tiny)


def _watch(module: nn.Module | None, features: Sequence[str]) -> Watch:
    if not isinstance(module, TrainableGraph):
        raise InvalidInput(
            "features can be matched between two graphs only",
            where="Distillation",
            hint="give penjing.trainable(graph) as teacher and as student",
        )
    return module.watch(features)


def _digest(teacher: nn.Module) -> str:
    form = print_graph(teacher.to_graph()) if isinstance(teacher, TrainableGraph) else repr(teacher)
    return digest_bytes(f"{form} {digest_state(teacher)}".encode())
