"""Recurrent layers, one sequence at a time, one core: penjing against the engines of `engines/`, each at its best.

LSTM and GRU of 2 layers of 128 units, 100 steps of 40 features, batch 1, as `torch.nn.LSTM` and `torch.nn.GRU` begin
them. Whole sequences in, all steps out. Rules, options and the JSON file are those of `models.py`.
"""

import argparse

import numpy as np
import torch

from _record import RESULTS, load_average, machine, write_record
from engines import report
from engines.runs import Results, mergeable, merged
from engines.subjects import CHECKED, Given
from models import NOTES, measure, names, race_options, said, set_up

STEPS, FEATURES, UNITS, LAYERS = 100, 40, 128, 2
CALIBRATION = 32
KINDS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
RECURRENT_NOTES = (
    *NOTES,
    f"{LAYERS} layers of {UNITS} units, {STEPS} steps of {FEATURES} features; untrained, seed 0; inputs are noise that "
    "is smooth in time",
)


class Sequence(torch.nn.Module):
    """(N, T, features) -> (N, T, units): the last layer's output at all steps."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layers = KINDS[kind](FEATURES, UNITS, LAYERS, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All steps at once."""
        return self.layers(x)[0]


def given(kind: str) -> Given:
    """The network with its inputs."""
    torch.manual_seed(0)
    module = Sequence(kind).eval()
    title = f"{kind.upper()} {LAYERS} x {UNITS}, {STEPS} steps of {FEATURES}"
    return Given(module, sequences(CALIBRATION, 1), sequences(CHECKED, 2), "untrained", title)


def sequences(count: int, seed: int) -> np.ndarray:
    """Noise (count, steps, features) of about unit variance, of which each step keeps four fifths of the last."""
    noise = np.random.default_rng(seed).normal(size=(count, STEPS, FEATURES))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for t in range(1, STEPS):
        x[:, t] = 0.8 * x[:, t - 1] + 0.6 * noise[:, t]
    return x.astype(np.float32)


def main() -> None:
    """Measure, print, write."""
    options = _options()
    load = load_average()
    torch.set_num_threads(1)
    entries, engines, rules, held = set_up(options)
    older = mergeable(options.output, held) if options.merge else {}
    results: Results = {"models": [], "forms": [], "best": []}
    for kind in options.kinds:
        print(f"\n## {kind}\n", flush=True)
        measure(kind, entries, rules, results, given(kind))
    print(f"\n{report.summary(results['best'])}")
    final = merged(older, {"held": held, "engines": engines, **results}, tuple(KINDS))
    write_record(options.output, "recurrent", final, RECURRENT_NOTES, load, said(options, rules))


def _options() -> argparse.Namespace:
    parser = race_options(__doc__, RESULTS / "recurrent.json")
    parser.add_argument("--kinds", type=names(KINDS), default=list(KINDS), help=f"some of {','.join(KINDS)}")
    return parser.parse_args()


if __name__ == "__main__":
    machine()  # fails early where there is no compiler
    main()
