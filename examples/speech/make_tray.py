"""Train a network on spoken digits, make it a stream of 8-bit integers, write speech.tray and two recordings.

python make_tray.py [EPOCHS]
"""

import os
import sys
import wave
from pathlib import Path

import numpy as np
import torch
from sound import BANDS, RATE, frames_of
from torch import nn

import penjing
from penjing.runtime.session import Session
from penjing.train.fit import fit
from penjing.train.training import Augment

STEPS = 48  # frames of a training sample: 0.8 s
TEST_TAKES = 5  # of each speaker and digit; the split of the data set's makers


class Listener(nn.Module):
    """x (N, T, BANDS) -> (N, T, 10): after every frame, what it thinks of it."""

    def __init__(self, layer: type[nn.RNNBase] = nn.GRU, units: int = 64) -> None:
        super().__init__()
        self.memory = layer(BANDS, units, batch_first=True)
        self.answer = nn.Linear(units, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the digits."""
        return self.answer(self.memory(x)[0])


def loss(_: torch.Tensor, y: torch.Tensor, digit: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the mean over time."""
    return nn.functional.cross_entropy(y.mean(1), digit)


def varied(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Earlier or later, louder or softer, with noise, and with some bands missing."""
    n, steps, bands = x.shape
    start = torch.randint(-4, 7, (n, 1), generator=generator)
    x = x[torch.arange(n)[:, None], (torch.arange(steps) - start).clamp(0, steps - 1)]
    x = x + 0.2 * torch.randn(n, 1, 1, generator=generator) + 0.1 * torch.randn(x.shape, generator=generator)
    first = torch.randint(0, bands - 4, (n, 1), generator=generator)
    width = torch.randint(0, 5, (n, 1), generator=generator)
    gone = (torch.arange(bands) >= first) & (torch.arange(bands) < first + width)
    return x.masked_fill(gone[:, None], 0.0)


def recordings() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Sound of each recording, its digit, and whether it is for the test."""
    folder = os.environ.get("PENJING_DATA")
    path = Path(folder or ".") / "spoken_digits.npz"
    if not path.is_file():
        sys.exit(f"{path.name} is not here: set PENJING_DATA to the folder with the Free Spoken Digit Dataset")
    with np.load(path) as data:
        sounds = np.split(data["pcm"], data["offset"][1 : len(data["y"])])
        return sounds, data["y"].astype(np.int64), data["take"] < TEST_TAKES


def train(
    network: nn.Module,
    x: np.ndarray,
    digits: np.ndarray,
    *,
    epochs: int,
    rate: float = 0.006,
    augment: Augment | None = varied,
) -> None:
    """In place."""
    fit(
        network,
        (x, digits),
        epochs=epochs,
        batch_size=64,
        learning_rate=rate,
        optimizer="adam",
        augment=augment,
        loss=loss,
    )


def share_right(answers: np.ndarray, digits: np.ndarray) -> float:
    """Accuracy of (N, T, 10) answers."""
    return float((answers.mean(1).argmax(1) == digits).mean())


def main(epochs: int) -> None:
    """Train, quantize, cut into frames, build, compare, write."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a network this small trains fastest on one core
    sounds, digits, is_test = recordings()
    x = np.stack([frames_of(sound, STEPS) for sound in sounds])
    network = Listener()
    train(network, x[~is_test], digits[~is_test], epochs=epochs)
    with torch.inference_mode():
        in_float = network(torch.from_numpy(x[is_test])).numpy()

    graph = penjing.capture(network, x[:1], name="speech")
    whole = penjing.quantize(graph, [x[~is_test][:512]])
    program = penjing.lower(penjing.stream(whole, steps=1))
    card = {"description": "hears spoken digits, frame by frame"}
    tray = penjing.build(program, penjing.BuildOptions(card=card))
    penjing.save(tray, "speech.tray", force=True)
    penjing.save(penjing.build(penjing.lower(whole)), "whole.tray", force=True)

    session = penjing.load("speech.tray").session()
    in_frames = np.stack([heard(session, sample) for sample in x[is_test]])
    in_whole = penjing.load("whole.tray").run(x[is_test])
    print(f"float   {100 * share_right(in_float, digits[is_test]):.2f} % of {is_test.sum()} recordings")
    print(f"int8    {100 * share_right(in_frames, digits[is_test]):.2f} %, frame by frame")
    print(f"numbers that differ between whole recordings and frames: {np.count_nonzero(in_whole != in_frames)}")
    for digit in (3, 7):
        chosen = int(np.flatnonzero(is_test & (digits == digit))[0])
        with wave.open(f"{digit}.wav", "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(sounds[chosen].astype("<i2").tobytes())


def heard(session: Session, sample: np.ndarray) -> np.ndarray:
    """(T, 10): the answer after each frame."""
    session.reset()
    return np.concatenate([session.step(frame[None, None]) for frame in sample], axis=1)[0]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
