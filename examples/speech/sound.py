"""Sound as frames of log-mel energies, a piece at a time as a microphone gives it. Needs numpy alone."""

import numpy as np

RATE = 8000  # samples a second
WINDOW, HOP = 256, 128  # samples: 32 ms of sound in each frame, a frame every 16 ms
BANDS = 32
_LOW, _HIGH = 60.0, 3900.0  # Hz
_QUIET = 1e-5  # added to the energies, whose logarithm then lies around -6
_MIDDLE, _SPREAD = -5.0, 3.5  # brings them near -2..2


def _mel(hertz: np.ndarray | float) -> np.ndarray | float:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def _filters() -> np.ndarray:
    """(BANDS, WINDOW // 2 + 1): triangles of equal width on the mel scale."""
    edges = 700 * (10 ** (np.linspace(_mel(_LOW), _mel(_HIGH), BANDS + 2) / 2595) - 1) * WINDOW / RATE
    bins = np.arange(WINDOW // 2 + 1)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.clip(np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)), 0, None)


class Frames:
    """Takes sound in pieces of any length, and gives the frames that are complete."""

    def __init__(self) -> None:
        self._filters = _filters()
        self._shape = np.hanning(WINDOW)
        self._left = np.zeros(0, np.int16)

    def push(self, sound: np.ndarray) -> np.ndarray:
        """int16 samples -> (n, BANDS) float32; n is 0 until a window is full."""
        sound = np.concatenate([self._left, sound])
        count = max(0, (len(sound) - WINDOW) // HOP + 1)
        self._left = sound[count * HOP :]
        windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP] if count else np.zeros((0, WINDOW))
        energies = np.abs(np.fft.rfft(windows / 2**15 * self._shape)) ** 2 @ self._filters.T
        return ((np.log(energies + _QUIET) - _MIDDLE) / _SPREAD).astype(np.float32)


def frames_of(sound: np.ndarray, count: int) -> np.ndarray:
    """(count, BANDS): the first frames of a recording, with silence behind it where it is shorter."""
    length = (count - 1) * HOP + WINDOW
    return Frames().push(np.pad(sound, (0, max(0, length - len(sound))))[:length])
