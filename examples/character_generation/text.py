"""Characters as tokens, and the choice of the next one. Needs numpy alone."""

import numpy as np

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz0123456789.,'\"?!-:;()$%&/"


def tokens_of(text: str) -> np.ndarray:
    """int32 (n,): small letters for capitals, and nothing for what the alphabet lacks."""
    places = {character: i for i, character in enumerate(ALPHABET)}
    return np.array([places[c] for c in text.lower() if c in places], np.int32)


def text_of(tokens: np.ndarray) -> str:
    """The characters of tokens."""
    return "".join(ALPHABET[i] for i in tokens)


def choose(logits: np.ndarray, rng: np.random.Generator, temperature: float, top: int) -> int:
    """A token by its probability among the `top` likeliest; the likeliest itself at temperature 0."""
    if temperature == 0:
        return int(logits.argmax())
    likely = np.argsort(-logits, kind="stable")[:top]
    weights = np.exp((logits[likely] - logits[likely[0]]) / temperature)
    return int(rng.choice(likely, p=weights / weights.sum()))
