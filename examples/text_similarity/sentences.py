"""Sentences as ids, and how alike their vectors are. No torch: this goes to the device too."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

LONGEST = 128  # tokens


def by_length(ids: Sequence[Sequence[int]], most: int = 32) -> Iterator[tuple[list[int], np.ndarray]]:
    """(places, ids s32 (n, length)) of at most `most` sentences of one length: nothing is padded."""
    places = defaultdict(list)
    for place, sentence in enumerate(ids):
        places[len(sentence)].append(place)
    for length in sorted(places):
        for start in range(0, len(places[length]), most):
            some = places[length][start : start + most]
            yield some, np.array([ids[place] for place in some], np.int32)


def vectors_of(ids: Sequence[Sequence[int]], encode: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(n, width), each of length 1, in the order of the sentences."""
    found: dict[int, np.ndarray] = {}
    for places, batch in by_length(ids):
        found |= dict(zip(places, encode(batch), strict=True))
    vectors = np.stack([found[place] for place in range(len(ids))])
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
