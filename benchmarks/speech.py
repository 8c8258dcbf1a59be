"""Networks that hear spoken digits: what 8 bits cost, and whether a stream of frames computes what the whole does.

DS-CNN, GRU and LSTM are trained on the Free Spoken Digit Dataset (takes 5 and more), quantized, and tried on takes 0 to
4. The recurrent ones run once on whole recordings and once frame by frame, as `examples/speech` does.

Writes docs/results/speech.json and prints a table. Needs PENJING_DATA; takes some three minutes of one core.
"""

import sys
from typing import Any

import numpy as np
import torch
from torch import nn

from _record import ROOT, arguments, load_average, table, write_record

sys.path.append(str(ROOT / "examples" / "speech"))

from make_tray import STEPS, Listener, recordings, train
from sound import frames_of

import penjing
from penjing.bundle.tray import read_tray
from penjing.ir.graph import Graph
from penjing.measure.intervals import paired_drop
from penjing.runtime.loading import from_tray
from penjing.zoo.models.ds_cnn import DSCNN

EPOCHS = 25
NOTES = (
    f"trained for {EPOCHS} epochs, seed 0",
    "300 recordings of six speakers, who are those of the training part too; w8a8 without training, mse ranges",
    "the answer of a recurrent network is the mean of its outputs over time",
    "sizes: 4 bytes a parameter in float; in int8 all constants of the program, of which a recurrent layer's tables of "
    "sigmoid and tanh are 8 KiB; in the tray they are entropy-coded",
    "the drop is paired: both see the same recordings; its interval is Newcombe's, p is McNemar's, exact",
)


class Spotter(nn.Module):
    """DS-CNN on (N, T, 32) frames: three bands are one, and the first frame comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.network = DSCNN(classes=10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 10): one answer, as if it were a sequence."""
        return self.network(x).unsqueeze(1)


def bands_of_ten(x: np.ndarray) -> np.ndarray:
    """(n, 48, 32) -> (n, 1, 49, 10), as DS-CNN takes them."""
    wide = x[:, :, :30].reshape(*x.shape[:2], 10, 3).mean(-1)
    return np.pad(wide, ((0, 0), (1, 0), (0, 0)), mode="edge")[:, None].astype(np.float32)


def main() -> None:
    """Train, quantize, compare, print, write."""
    options = arguments("speech", __doc__)
    load = load_average()
    torch.set_num_threads(1)
    sounds, digits, is_test = recordings()
    x = np.stack([frames_of(sound, STEPS) for sound in sounds])
    networks = {"DS-CNN": Spotter, "GRU, 64 units": Listener, "LSTM, 64 units": lambda: Listener(nn.LSTM)}
    results = []
    for title, make in networks.items():
        torch.manual_seed(0)
        network = make()
        is_recurrent = isinstance(network, Listener)
        inputs = x if is_recurrent else bands_of_ten(x)
        print(f"training {title}", flush=True)
        # `varied` is written for frames of 32 bands
        how = {} if is_recurrent else {"rate": 0.003, "augment": None}
        train(network, inputs[~is_test], digits[~is_test], epochs=EPOCHS, **how)
        results.append(measured(title, network, inputs[~is_test], inputs[is_test], digits[is_test]))
    print(shown(results))
    write_record(options.output, "speech", results, NOTES, load)


def measured(title: str, network: nn.Module, train_x: np.ndarray, x: np.ndarray, digits: np.ndarray) -> dict[str, Any]:
    """Accuracies, sizes, and how many outputs of the stream are not those of the whole."""
    with torch.inference_mode():
        before = network(torch.from_numpy(x)).numpy()
    graph = penjing.capture(network, x[:2], name="speech")
    quantized = penjing.quantize(graph, [train_x[:512]])
    program = penjing.lower(quantized)
    tray = read_tray(penjing.build(program))
    after = from_tray(tray, engine="library").run(x)
    right = [answers.mean(1).argmax(1) == digits for answers in (before, after)]
    drop = paired_drop(*right)
    variant = tray.variant("default")
    return {
        "network": title,
        "n": len(x),
        "float": float(right[0].mean()),
        "int8": float(right[1].mean()),
        "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
        "float_bytes": 4 * graph.parameters(),
        "int8_bytes": variant.weights_bytes,
        "stored_bytes": tray.manifest.members[variant.weights].bytes,
        "differing_in_frames": in_frames(quantized, x, after) if isinstance(network, Listener) else None,
    }


def in_frames(quantized: Graph, x: np.ndarray, whole: np.ndarray) -> int:
    """How many numbers of the stream, one frame a call, differ from those of whole recordings."""
    program = penjing.lower(penjing.stream(quantized))
    session = from_tray(read_tray(penjing.build(program)), engine="library").session()
    differing = 0
    for sample, wanted in zip(x, whole, strict=True):
        session.reset()
        heard = np.concatenate([session.step(frame[None, None]) for frame in sample], axis=1)[0]
        differing += int(np.count_nonzero(heard != wanted))
    return differing


def shown(results: list[dict[str, Any]]) -> str:
    """The table."""
    return "\n" + table(
        (
            "spoken digits",
            "recordings",
            "float",
            "int8",
            "drop in points (95 %)",
            "smaller",
            "in the tray",
            "differ in frames",
        ),
        [
            (
                r["network"],
                str(r["n"]),
                f"{100 * r['float']:.2f} %",
                f"{100 * r['int8']:.2f} %",
                f"{100 * r['drop']['value']:+.2f} ({100 * r['drop']['low']:+.2f} .. {100 * r['drop']['high']:+.2f})",
                f"{r['float_bytes'] / r['int8_bytes']:.2f}x",
                f"{r['float_bytes'] / r['stored_bytes']:.2f}x",
                "" if r["differing_in_frames"] is None else str(r["differing_in_frames"]),
            )
            for r in results
        ],
    )


if __name__ == "__main__":
    main()
