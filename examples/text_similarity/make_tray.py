"""Make similarity.tray and tokenizer.json: all-MiniLM-L6-v2, everything in integers, for sentences of any length.

python make_tray.py
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sentences import LONGEST, by_length, vectors_of
from torch import nn

import penjing
from penjing.ir.graph import Graph
from penjing.zoo.minilm import minilm, minilm_tokenizer

CALIBRATION = 128  # sentences


def pairs() -> tuple[list[tuple[float, str, str]], list[str]]:
    """Scored pairs of sentences, and sentences of no such pair."""
    path = Path(os.environ.get("PENJING_DATA") or ".") / "sts2015_test.tsv"
    if not path.is_file():
        sys.exit(f"{path.name} is not here: set PENJING_DATA to the folder with the STS 2015 test set")
    scored, others = [], set()
    for line in path.read_text(encoding="utf-8").splitlines():
        score, a, b = line.split("\t")[:3]
        if score:
            scored.append((float(score), a, b))
        else:
            others |= {a, b}
    return scored, sorted(others - {text for _, a, b in scored for text in (a, b)})


def captured(network: nn.Module, longest: int = LONGEST) -> Graph:
    """The graph of an encoder, for any length up to `longest`."""
    example = torch.ones((2, min(10, longest - 1)), dtype=torch.int64)
    return penjing.capture(network, example, name="similarity", length=penjing.Length(longest, 1))


def batches(ids: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """Calibration batches, each of one length."""
    return (batch for _, batch in by_length(ids))


def tray_of(graph: Graph, calibration: Iterable[np.ndarray]) -> bytes:
    """Quantize and build."""
    return penjing.build(penjing.lower(penjing.quantize(graph, calibration)))


def main() -> None:
    """Capture, quantize, build, compare with the floats, write."""
    torch.set_num_threads(1)
    tokenizer = minilm_tokenizer()
    tokenizer.save("tokenizer.json")
    tokenizer.enable_truncation(LONGEST)
    scored, others = pairs()
    rng = np.random.default_rng(0)
    ids = [tokenizer.encode(others[i]).ids for i in rng.permutation(len(others))[:CALIBRATION]]
    network = minilm()
    penjing.save(tray_of(captured(network), batches(ids)), "similarity.tray", force=True)
    model = penjing.load("similarity.tray")
    tested = [tokenizer.encode(text).ids for _, a, b in scored[:50] for text in (a, b)]
    with torch.inference_mode():
        wanted = vectors_of(tested, lambda batch: network(torch.from_numpy(batch)).numpy())
    cosines = (wanted * vectors_of(tested, model.run)).sum(1)
    print(f"cosine between integer and float vectors of {len(tested)} sentences: {cosines.mean():.3f} on average")


if __name__ == "__main__":
    main()
