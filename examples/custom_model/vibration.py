"""What a pump sounds like, made up: a healthy one has its turning rate and an overtone, a worn one rattles as well."""

import numpy as np

SAMPLES = 64
BINS = SAMPLES // 2 + 1


def spectra(count: int, *, worn: bool, seed: int) -> np.ndarray:
    """float32 (count, BINS): logarithms of magnitude spectra."""
    rng = np.random.default_rng(seed)
    t = np.arange(SAMPLES) / SAMPLES
    phases = rng.uniform(0, 2 * np.pi, (3, count, 1))
    sound = np.sin(2 * np.pi * 5 * t + phases[0]) + 0.5 * np.sin(2 * np.pi * 10 * t + phases[1])
    sound = sound * rng.uniform(0.8, 1.2, (count, 1)) + rng.normal(0, 0.1, (count, SAMPLES))
    if worn:
        sound += 0.4 * np.sin(2 * np.pi * rng.uniform(13, 25, (count, 1)) * t + phases[2])
    return np.log1p(np.abs(np.fft.rfft(sound))).astype(np.float32)


def strangeness(seen: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """(count,): how badly the network rebuilt each spectrum; it learned healthy ones only."""
    return np.abs(seen - rebuilt).mean(axis=1)
