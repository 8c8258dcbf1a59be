import io
import math
import os
import signal
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from penjing.core.digests import digest_bytes
from penjing.core.errors import InvalidInput, WriteFailed
from penjing.train.augment import crop_and_flip
from penjing.train.fit import cross_entropy, evaluate, fit, predict
from penjing.train.schedule import schedule_factor

SAMPLES, CLASSES, BATCH = 70, 3, 16  # 4 whole batches; 6 samples sit out each epoch
STEPS = SAMPLES // BATCH
OPTIONS = {"epochs": 3, "batch_size": BATCH, "learning_rate": 0.05}


@dataclass(frozen=True, eq=False)
class Blobs:
    """Images of 1x6x6 whose class is the row that is bright."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    def normalise(self, x: np.ndarray) -> np.ndarray:
        return (x.astype(np.float32) - 64) / 64


def blobs(seed: int = 0) -> Blobs:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, 2 * SAMPLES)
    x = rng.integers(0, 100, (2 * SAMPLES, 1, 6, 6), dtype=np.uint8)
    x[np.arange(2 * SAMPLES), 0, 2 * y] += 100
    return Blobs(x[:SAMPLES], y[:SAMPLES], x[SAMPLES:], y[SAMPLES:])


def network(seed: int = 0) -> nn.Module:
    """With batch norm and dropout, whose state and randomness a resumption has to restore."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, CLASSES)
        )


def linear(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))


def weights(module: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in module.state_dict().values())


class Stop:
    """A progress callback that presses Ctrl-C after so many steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, _progress) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_short_training_learns():
    module = network()
    result = fit(module, blobs(), epochs=15, batch_size=BATCH, learning_rate=0.05)
    assert result.losses[-1] < result.losses[0] / 3
    assert result.accuracy > 0.9
    assert result.correct.shape == (SAMPLES,)
    assert not module.training


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_the_same_seed_gives_the_same_weights(optimizer, schedule):
    options = OPTIONS | {"optimizer": optimizer, "schedule": schedule, "augment": crop_and_flip, "weight_decay": 1e-3}
    first, second, other = network(), network(), network()
    a, b = (fit(module, blobs(), seed=7, **options) for module in (first, second))
    fit(other, blobs(), seed=8, **options)
    assert weights(first) == weights(second) != weights(other)
    assert a.losses == b.losses


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(network(), blobs(), **OPTIONS)
    assert torch.equal(torch.rand(4), expected)


def test_progress_counts_every_step_once():
    seen = []
    result = fit(network(), blobs(), progress=seen.append, **OPTIONS)
    assert [(p.epoch, p.step) for p in seen] == [(e, s) for e in (1, 2, 3) for s in range(1, STEPS + 1)]
    assert {(p.epochs, p.steps) for p in seen} == {(3, STEPS)}
    first_epoch = [p.loss for p in seen if p.epoch == 1]
    assert result.losses[0] == pytest.approx(sum(first_epoch) / STEPS)


def test_fewer_samples_than_a_batch_make_one_step():
    seen = []
    data = blobs()
    few = (data.normalise(data.train_x[:5]), data.train_y[:5])
    result = fit(network(), few, epochs=2, batch_size=64, learning_rate=0.01, progress=seen.append)
    assert [(p.step, p.steps) for p in seen] == [(1, 1), (1, 1)]
    assert result.correct is None
    assert result.accuracy is None


def test_frozen_parameters_stay():
    module = network()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    fit(module, blobs(), **OPTIONS)
    assert torch.equal(module[0].weight, before)


def test_a_loss_sees_the_augmented_inputs_as_a_teacher_needs():
    teacher, student = linear(5), linear(6)

    def distil(x, output, _target):
        with torch.no_grad():
            wanted = teacher(x)
        return F.mse_loss(output, wanted)

    data = blobs()
    x = data.normalise(data.test_x)
    before = np.abs(predict(student, x) - predict(teacher, x)).mean()
    fit(student, data, loss=distil, augment=crop_and_flip, **OPTIONS | {"epochs": 30})
    assert np.abs(predict(student, x) - predict(teacher, x)).mean() < before / 5


def test_float_targets_train_an_autoencoder():
    x = np.random.default_rng(0).normal(size=(64, 5))  # float64 is taken as float32
    result = fit(
        nn.Linear(5, 5), (x, x), loss=lambda _x, out, y: F.mse_loss(out, y), epochs=20, batch_size=8, learning_rate=0.1
    )
    assert result.losses[-1] < 0.05


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("after", [1, 2, STEPS, STEPS + 1, 3 * STEPS - 1, 3 * STEPS])
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, after, optimizer):
    options = OPTIONS | {"optimizer": optimizer, "augment": crop_and_flip}
    whole = network()
    expected = fit(whole, blobs(), **options)

    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fit(network(), blobs(), checkpoint=path, progress=Stop(after), **options)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]

    resumed = network()
    seen = []
    result = fit(resumed, blobs(), checkpoint=path, progress=seen.append, **options)
    assert weights(resumed) == weights(whole)
    assert result.losses == expected.losses
    assert len(seen) == 3 * STEPS - after
    assert result.resumed_epochs == after // STEPS


def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(tmp_path):
    pressed = []

    def loss(x, output, target):
        if len(pressed) == 5:  # before the backward pass of the sixth step
            os.kill(os.getpid(), signal.SIGINT)
        pressed.append(0)
        return cross_entropy(x, output, target)

    whole, cut = network(), network()
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fit(cut, blobs(), loss=loss, checkpoint=path, **OPTIONS)
    assert len(pressed) == 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    resumed = network()
    fit(resumed, blobs(), loss=loss, checkpoint=path, **OPTIONS)
    assert len(pressed) == 3 * STEPS
    fit(whole, blobs(), **OPTIONS)
    assert weights(resumed) == weights(whole)


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    def loss(x, output, target):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one should have ended the step")

    with pytest.raises(KeyboardInterrupt):
        fit(network(), blobs(), loss=loss, **OPTIONS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_lost_in_the_last_step():
    def press(progress):
        if (progress.epoch, progress.step) == (3, STEPS):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(network(), blobs(), progress=press, **OPTIONS)


def test_a_finished_training_is_not_repeated(tmp_path):
    first, second = network(), network()
    path = tmp_path / "state"
    expected = fit(first, blobs(), checkpoint=path, **OPTIONS)
    seen = []
    result = fit(second, blobs(), checkpoint=path, progress=seen.append, **OPTIONS)
    assert seen == []
    assert weights(first) == weights(second)
    assert (result.losses, result.accuracy) == (expected.losses, expected.accuracy)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 0.01}, "learning_rate"),
        ({"epochs": 4}, "epochs"),
        ({"seed": 1}, "seed"),
        ({"augment": crop_and_flip}, "augment"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"precision": "bfloat16"}, "precision"),
        ({"data": blobs(1)}, "samples"),
        ({"module": network(1)}, "first weights"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, named):
    path = tmp_path / "state"
    fit(network(), blobs(), checkpoint=path, **OPTIONS)
    saved = path.read_bytes()
    arguments = {"module": network(), "data": blobs()} | OPTIONS | change
    before = weights(arguments["module"])
    with pytest.raises(InvalidInput, match=named):
        fit(checkpoint=path, **arguments)
    assert weights(arguments["module"]) == before
    assert path.read_bytes() == saved


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "longer"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "state"
    fit(network(), blobs(), checkpoint=path, **OPTIONS)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    damaged = {"empty": b"", "cut": whole[:middle], "flipped": flipped, "text": b"weights\n", "longer": whole + b"\0"}
    path.write_bytes(damaged[damage])
    module = network()
    before = weights(module)
    with pytest.raises(InvalidInput, match="cannot be read"):
        fit(module, blobs(), checkpoint=path, **OPTIONS)
    assert weights(module) == before
    assert path.read_bytes() == damaged[damage]


class Malicious:
    def __reduce__(self):
        return os.mkdir, (sys.argv[0] + ".owned",)


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "penjing")])
    buffer = io.BytesIO()
    torch.save({"format": 1, "module": Malicious()}, buffer)
    path = tmp_path / "state"
    path.write_bytes(digest_bytes(buffer.getvalue()).encode() + b"\n" + buffer.getvalue())
    with pytest.raises(InvalidInput, match="cannot be read"):
        fit(network(), blobs(), checkpoint=path, **OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_checkpoint_that_cannot_be_written_is_known_before_the_first_step(tmp_path):
    seen = []
    with pytest.raises(WriteFailed):
        fit(network(), blobs(), checkpoint=tmp_path / "missing" / "state", progress=seen.append, **OPTIONS)
    assert seen == []


def test_a_diverging_training_says_where_and_what_to_try():
    data = blobs()
    x = data.normalise(data.train_x) * 1e20
    with pytest.raises(InvalidInput, match="diverged") as caught:
        fit(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), (x, data.train_y), **OPTIONS | {"learning_rate": 1e20})
    assert "epoch" in caught.value.where
    assert "learning_rate" in caught.value.hint


def at_zero() -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    return module


def test_a_gradient_that_is_not_finite_stops_the_training_before_it_spoils_a_weight():
    # The loss is finite at 0, its gradient is not.
    module = at_zero()
    x = np.ones((2, 1), np.float32)
    options = {"epochs": 1, "batch_size": 2, "learning_rate": 0.1}
    with pytest.raises(InvalidInput, match="a gradient is NaN or infinite") as caught:
        fit(module, (x, x), loss=lambda _x, out, _y: out.sqrt().sum(), **options)
    assert "step 1 of 1" in caught.value.where
    assert module.weight.item() == 0


def test_a_weight_spoilt_by_the_last_step_is_noticed():
    # The gradient is finite, its product with the learning rate is not.
    x = np.ones((2, 1), np.float32)
    with pytest.raises(InvalidInput, match="a weight is NaN"):
        fit(
            at_zero(),
            (x, x),
            loss=lambda _x, out, _y: 1e30 * out.sum(),
            epochs=1,
            batch_size=2,
            learning_rate=1e30,
        )


def test_bfloat16_learns_with_float32_weights_and_losses():
    module = network()
    seen = []

    def loss(x, output, target):
        seen.append(output.dtype)
        return cross_entropy(x, output, target)

    result = fit(module, blobs(), loss=loss, precision="bfloat16", epochs=15, batch_size=BATCH, learning_rate=0.05)
    assert result.accuracy > 0.9
    assert set(seen) == {torch.float32}
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    exact = network()
    fit(exact, blobs(), epochs=15, batch_size=BATCH, learning_rate=0.05)
    assert weights(exact) != weights(module)


class Scaled:
    """A loss with an option."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def identity(self) -> str:
        return f"factor={self.factor}"

    def __call__(self, x, output, target):
        return self.factor * cross_entropy(x, output, target)


def test_the_options_of_a_loss_belong_to_the_identity_of_a_training(tmp_path):
    def scaled(factor, x, output, target):
        return factor * cross_entropy(x, output, target)

    for name, make in (("object", Scaled), ("partial", lambda factor: partial(scaled, factor))):
        path = tmp_path / name
        fit(network(), blobs(), loss=make(1.0), checkpoint=path, **OPTIONS)
        fit(network(), blobs(), loss=make(1.0), checkpoint=path, **OPTIONS)
        with pytest.raises(InvalidInput, match="loss differ"):
            fit(network(), blobs(), loss=make(2.0), checkpoint=path, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"seed": -1}, "seed"),
        ({"optimizer": "lion"}, "lion"),
        ({"precision": "float16"}, "float16"),
        ({"schedule": "step"}, "step"),
    ],
)
def test_an_impossible_option_is_refused(options, named):
    with pytest.raises(InvalidInput, match=named):
        fit(network(), blobs(), **OPTIONS | options)


def _pair():
    data = blobs()
    return data.normalise(data.train_x), data.train_y.copy()


def test_samples_that_do_not_fit_are_refused():
    x, y = _pair()
    spoilt = x.copy()
    spoilt[11, 0, 2, 3] = np.nan
    bad_labels = y.copy()
    bad_labels[4] = CLASSES
    for data, named in [
        ((x[:0], y[:0]), "0 samples"),
        ((x, y[:-1]), "69 targets"),
        ((blobs().train_x, y), "uint8"),
        ((spoilt, y), "sample 11"),
        ((x, np.where(y == 0, np.inf, 1.0)), "y holds NaN or infinity"),
        ((x, bad_labels), "3 outputs"),
        ((x, y - 1), "from -1"),
    ]:
        with pytest.raises(InvalidInput, match=named):
            fit(network(), data, **OPTIONS | {"batch_size": SAMPLES})


def test_a_module_without_parameters_is_refused():
    with pytest.raises(InvalidInput, match="no parameters"):
        fit(nn.Flatten(), blobs(), **OPTIONS)


@pytest.mark.parametrize("batch_size", [1, 7, SAMPLES, 1000])
def test_prediction_does_not_depend_on_the_batch_size(batch_size):
    module, data = network(), blobs()
    with torch.no_grad():
        expected = network().eval()(torch.from_numpy(data.normalise(data.test_x))).numpy()
    outputs = predict(module, data.test_x, batch_size=batch_size, normalise=data.normalise)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_evaluation_restores_every_mode():
    module = network()
    module.train()
    module[1].eval()  # a frozen batch norm
    before = [part.training for part in module.modules()]
    correct = evaluate(module, *_pair())
    assert [part.training for part in module.modules()] == before
    assert correct.dtype == bool
    assert correct.shape == (SAMPLES,)


def test_evaluation_refuses_what_does_not_fit():
    x, y = _pair()
    with pytest.raises(InvalidInput, match="70 samples and 69 labels"):
        evaluate(network(), x, y[1:])
    with pytest.raises(InvalidInput, match="0 samples"):
        predict(network(), x[:0])


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_one_cycle_rises_then_falls(steps):
    factors = [schedule_factor("one-cycle", step, steps) for step in range(steps)]
    top = int(np.argmax(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert all(np.diff(factors[: top + 1]) > 0)
    assert all(np.diff(factors[top:]) < 0)
    if steps == 100:
        assert top in (29, 30)
        assert factors[0] == pytest.approx(0.04, abs=0.01)
        assert factors[-1] < 0.001


def test_cosine_only_falls():
    factors = [schedule_factor("cosine", step, 50) for step in range(50)]
    assert factors[0] > 0.999
    assert all(np.diff(factors) < 0)
    assert {schedule_factor("constant", step, 50) for step in range(50)} == {1.0}


def test_crop_and_flip_gives_windows_of_the_padded_image():
    images = torch.arange(1.0, 2 * 3 * 8 * 8 + 1).reshape(2, 3, 8, 8).repeat(40, 1, 1, 1)
    out = crop_and_flip(images, torch.Generator().manual_seed(0))
    again = crop_and_flip(images, torch.Generator().manual_seed(0))
    assert torch.equal(out, again)
    padded = F.pad(images, (4, 4, 4, 4))
    places = [(top, left, mirrored) for top in range(9) for left in range(9) for mirrored in (False, True)]
    seen = set()
    for before, after in zip(padded, out, strict=True):
        matches = [place for place in places if torch.equal(_window(before, *place), after)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {mirrored for _, _, mirrored in seen} == {False, True}
    assert len(seen) > 40


def _window(padded: torch.Tensor, top: int, left: int, mirrored: bool) -> torch.Tensor:
    window = padded[:, top : top + 8, left : left + 8]
    return window.flip(2) if mirrored else window
