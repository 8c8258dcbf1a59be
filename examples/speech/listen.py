"""What runs on the device: numpy and penjing, no torch. Recordings come as from a microphone, 20 ms at a time.

python listen.py 3.wav 7.wav
"""

import sys
import time
import wave
from collections.abc import Iterator

import numpy as np
from sound import RATE, Frames

import penjing

PIECE = RATE // 50  # samples: 20 ms


def pieces(path: str) -> Iterator[np.ndarray]:
    """int16 samples of a recording, piece by piece."""
    with wave.open(path, "rb") as file:
        form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        if form != (RATE, 1, 2):
            sys.exit(f"{path} must have {RATE} samples of 16 bits a second, in one channel")
        while piece := file.readframes(PIECE):
            yield np.frombuffer(piece, "<i2")


model = penjing.load("speech.tray")
assert model.self_test() == 0, "this machine computes other bytes than the tray promises"
session = model.session()
for path in sys.argv[1:]:
    session.reset()
    frames, total, count, spent, said = Frames(), np.zeros(10), 0, 0.0, []
    for piece in pieces(path):
        for frame in frames.push(piece):
            began = time.perf_counter()
            total += session.step(frame[None, None])[0, 0]
            spent += time.perf_counter() - began
            count += 1
            said.append(str(total.argmax()))  # what it would answer if the sound ended here
    if not count:
        sys.exit(f"{path} is too short")
    print(f"{path}: {' '.join(said)}\n  heard {said[-1]}, {1e6 * spent / count:.0f} us a frame")
assert "torch" not in sys.modules
