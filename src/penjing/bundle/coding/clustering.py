"""Which sequences share a model: as many models as pay for their own bytes.

Each sequence takes the model that costs it the fewest bits, its number included; each model is fitted to the sequences
that took it; and so on (Chou, Lookabaugh and Gray, "Entropy-constrained vector quantization", 1989, with a model in the
place of a code word). All costs are integers, so every machine finds the same models.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penjing.bundle.coding.models import LOWEST, SYMBOLS, Model, cost, fitted
from penjing.core.entropy import TOTAL, frequency_costs

_TRIED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_ROUNDS = 4
_NEVER = float(1 << 40)  # cost of a symbol that a model lacks; exact in float64, as all sums here are
MOST_MODELS = 120


def clustered(counts: np.ndarray, groups: np.ndarray) -> tuple[list[Model], NDArray[np.int64]]:
    """Models, and the number of the one that each sequence takes.

    Args:
        counts: (sequences, 256) how often each symbol occurs, -128 first.
        groups: (sequences,) sequences of different groups share no model.
    """
    models: list[Model] = []
    numbers = np.zeros(len(counts), np.int64)
    names = np.unique(groups)
    for name in names:
        chosen = groups == name
        found, own = _clustered(counts[chosen], MOST_MODELS // len(names))
        numbers[chosen] = own + len(models)
        models += found
    return models, numbers


def _clustered(counts: np.ndarray, most: int) -> tuple[list[Model], NDArray[np.int64]]:
    used = counts.sum(axis=1) > 0
    seen = counts[used].astype(np.float64)
    best: tuple[int, Sequence[NDArray[np.bool_]]] | None = None
    for count in _TRIED:
        if count > min(most, max(len(seen), 1)):
            break
        found = min((_partition(seen, count, order) for order in _orders(seen)), key=lambda part: part[0])
        if best is not None and found[0] >= best[0]:
            break
        best = found
    assert best is not None
    models = [fitted(seen[part].sum(axis=0).astype(np.int64), refine=True) for part in best[1]]
    numbers = np.zeros(len(counts), np.int64)
    for i, part in enumerate(best[1]):
        numbers[np.flatnonzero(used)[part]] = i
    return models, numbers


def _orders(seen: NDArray[np.float64]) -> Sequence[NDArray[np.int64]]:
    """Orders in which neighbours may be alike: of their magnitude, and as they come, layer by layer."""
    magnitude = seen @ np.abs(np.arange(SYMBOLS) + LOWEST) * 256 // np.maximum(seen.sum(axis=1), 1)
    return np.argsort(magnitude, kind="stable"), np.arange(len(seen))


def _partition(seen: NDArray[np.float64], count: int, order: NDArray[np.int64]) -> tuple[int, list[NDArray[np.bool_]]]:
    """Total cost, and which rows of `seen` are in each of at most `count` parts, which begin as pieces of `order`."""
    number = np.empty(len(seen), np.int64)
    number[order] = np.arange(len(seen)) * count // max(len(seen), 1)
    for last in (*[False] * (_ROUNDS if count > 1 else 0), True):
        parts = [number == i for i in range(count)]
        parts = [part for part in parts if part.any()] or [np.zeros(len(seen), np.bool_)]
        models = [fitted(seen[part].sum(axis=0).astype(np.int64)) for part in parts]
        share = np.array([part.sum() * TOTAL // max(len(seen), 1) for part in parts])
        of_number = frequency_costs()[np.maximum(share, 1)]
        if last:
            total = sum(cost(model, seen[part].sum(axis=0).astype(np.int64))
                        for model, part in zip(models, parts, strict=True))  # fmt: skip
            return total + int(of_number @ [part.sum() for part in parts]), parts
        number = np.argmin(seen @ _symbol_costs(models) + of_number, axis=1)
    raise AssertionError


def _symbol_costs(models: Sequence[Model]) -> NDArray[np.float64]:
    """(256, models) what each symbol costs."""
    frequencies = np.stack([model.frequencies() for model in models], axis=1)
    return np.where(frequencies > 0, frequency_costs()[frequencies], _NEVER).astype(np.float64)
