"""How small weights get on disk, and how fast they come back: ResNet-20 in the forms that compression leaves.

The weights are those of the trained network of the zoo, folded, one int8 per weight, all layers in one pack; zstd at
level 19 gets the same bytes in the same order. Zeros are the smallest weights of each layer by the pattern, without
training, so that sizes are those of real magnitudes and accuracies are nobody's. The rows "size N" are codes chosen by
`round-for-size` at that strength, with input statistics of 256 training images; their accuracy (weights on the grid,
activations in float, the first 2,000 test images) is the price. The decoder in C is that of the library which a build
of the network makes: compiled small. Writes docs/results/compression/coding.json:

    results[]   form, bits (a weight, ours), zstd_bits, smaller (1 - ours / zstd), ideal_bits (N:M: choices of the
                pattern and entropy of the values), zeros, c_mb_per_s (the stream alone), load_mb_per_s (the tensors as
                loading has them: head read in Python, stream by C), numpy_mb_per_s (all of it in numpy; bytes of int8 a
                second each), numpy_ms, accuracy
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from math import comb, log2
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import penjing
from _record import load_average, parser, table, write_record
from penjing import api
from penjing.bundle import open_tray, pack_tensors, read_pack
from penjing.bundle.coding.tensors import PackDecoder
from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.quantize.round_for_size import RoundForSize, entropy_bits
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes
from penjing.ir.passes import run_passes
from penjing.ir.types import Constant
from penjing.ops.layers import float_weights
from penjing.runtime import loading
from penjing.runtime.decoding import pack_decoder
from penjing.runtime.native import NativeLibrary
from penjing.toolchain import host_target
from penjing.zoo import catalog, data, weights

Weights = dict[str, np.ndarray]
REPEATS = 15
TESTED = 2000
NOTES = (
    "bits a weight of all 268,352 weights of ResNet-20 together, everything in the member counted",
    "megabytes of int8 weights per second of processor time, the best of several runs, one core",
    "zeros without training: sizes are real, accuracies are given for chosen codes of the dense network only",
)


def main() -> None:
    """Measure, print, write."""
    options = parser("compression/coding", __doc__).parse_args()
    load = load_average()
    graph, images = network()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "resnet20.tray"
        decode = built(graph, images, path)
        loading_note = loaded(path)
    print(loading_note)
    found = [measured(form, codes, decode) for form, codes in forms(graph).items()]
    statistics = collect_layer_inputs(graph, [images.normalise(images.train_x[:256])])
    for bits, strengths in ((8, (0.3, 1.0, 3.0, 10.0)), (4, (0.0, 0.03, 0.1, 0.3))):
        for strength in strengths:
            pass_ = RoundForSize(strength, bits, statistics)
            chosen, _ = run_passes(graph, [pass_])
            row = measured(f"{bits} bit, size {strength:g}", in_layout(grid_weights(chosen)), decode)
            found.append({**row, "accuracy": accuracy(chosen, images)})
    for title, zeros in (("80 % anywhere", 0.8), ("90 % anywhere", 0.9)):
        for bits, strength in ((8, 1.0), (4, 0.1)):
            pruned = with_weights(graph, lambda w, zeros=zeros: anywhere(w, zeros))
            chosen, _ = run_passes(pruned, [RoundForSize(strength, bits, statistics)])
            title_ = f"{title}, {bits} bit, size {strength:g}"
            found.append(measured(title_, in_layout(grid_weights(chosen)), decode))
    print("\n" + shown(found))
    write_record(options.output, "compression/coding", found, (*NOTES, loading_note), load)


def network() -> tuple[Graph, data.Dataset]:
    """The folded float graph, and its images."""
    model = catalog.find("resnet20")
    return api.clean(api.capture(weights.trained("resnet20"), model.random_inputs(2), name="resnet20")), data.load(
        "cifar10"
    )


def forms(graph: Graph) -> dict[str, Weights]:
    """Title -> codes of every layer, output channels first and input channels last."""
    made: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "8 bit": lambda w: rounded(w, 8),
        "4 bit": lambda w: rounded(w, 4),
        "3 bit": lambda w: rounded(w, 3),
        "ternary": lambda w: (np.sign(w) * (np.abs(w) > 0.7 * np.abs(w).mean())).astype(np.int8),
        "codebook of 16": codebook,
    }
    for title, prune in (
        ("80 % anywhere", lambda w: anywhere(w, 0.8)),
        ("90 % anywhere", lambda w: anywhere(w, 0.9)),
        ("4:16", lambda w: n_of_m(w, 4, 16)),
        ("80 % blocks 16x4", lambda w: blocks(w, 0.8)),
    ):
        for bits in (8, 4):
            made[f"{title}, {bits} bit"] = lambda w, prune=prune, bits=bits: rounded(prune(w), bits)
    floats = in_layout(float_weights(graph))
    return {title: {name: make(w) for name, w in floats.items()} for title, make in made.items()}


def in_layout(found: Mapping[str, np.ndarray]) -> Weights:
    """As programs hold them: (O, KH, KW, C)."""
    return {name: np.ascontiguousarray(np.moveaxis(w, 1, -1)) if w.ndim == 4 else w for name, w in found.items()}


def grid_weights(graph: Graph) -> Weights:
    """The codes of a graph whose weights lie on a grid."""
    return {name: grid_codes(graph.constants[name]) for name in float_weights(graph)}


def with_weights(graph: Graph, change: Callable[[np.ndarray], np.ndarray]) -> Graph:
    """The graph with changed weights."""
    changed = graph.copy()
    for name, w in float_weights(graph).items():
        changed.set_constant(name, Constant(change(w).astype(np.float32)))
    return changed


def rounded(w: np.ndarray, bits: int) -> np.ndarray:
    """Nearest codes, one scale for each output channel."""
    top = 2 ** (bits - 1) - 1
    scale = np.abs(w.reshape(len(w), -1)).max(axis=1) / top
    return np.rint(w / np.where(scale > 0, scale, 1).reshape(-1, *(1,) * (w.ndim - 1))).astype(np.int8)


def anywhere(w: np.ndarray, zeros: float) -> np.ndarray:
    """The smallest weights zeroed."""
    return np.where(np.abs(w) > np.quantile(np.abs(w), zeros), w, 0)


def n_of_m(w: np.ndarray, n: int, m: int) -> np.ndarray:
    """The largest n of m neighbouring input channels, where they divide."""
    if w.shape[-1] % m:
        return w
    windows = w.reshape(-1, m)
    keep = np.abs(windows).argsort(axis=1).argsort(axis=1) >= m - n
    return (windows * keep).reshape(w.shape)


def blocks(w: np.ndarray, zeros: float) -> np.ndarray:
    """The blocks of 16 output and 4 input channels with the least energy zeroed, where they divide."""
    if len(w) % 16 or w.shape[-1] % 4:
        return w
    found = w.reshape(len(w) // 16, 16, -1, 4)
    energy = np.square(found).sum(axis=(1, 3))
    return (found * (energy > np.quantile(energy, zeros))[:, None, :, None]).reshape(w.shape)


def codebook(w: np.ndarray, entries: int = 16, rounds: int = 12) -> np.ndarray:
    """k-means of each layer (Han et al., "Deep Compression", 2016, section 3), its entries on an 8-bit grid."""
    flat = w.reshape(-1)
    book = np.quantile(flat, (np.arange(entries) + 0.5) / entries)
    for _ in range(rounds):
        nearest = np.searchsorted((book[1:] + book[:-1]) / 2, flat)
        sums = np.bincount(nearest, flat, entries)
        book = sums / np.maximum(np.bincount(nearest, minlength=entries), 1)
    codes = np.rint(book / np.abs(book).max() * 127).astype(np.int8)
    return codes[nearest].reshape(w.shape)


def measured(form: str, codes: Weights, decode: PackDecoder) -> dict[str, Any]:
    """One row; stops where anything does not come back as it was."""
    raw = b"".join(array.tobytes() for array in codes.values())
    pack = pack_tensors(codes)
    numpy_s = best(lambda: read_pack(pack), REPEATS)
    load_s = best(lambda: read_pack(pack, decode=decode), 4 * REPEATS)
    c_s = best(lambda: decode(memoryview(pack), len(raw), 1 << 30), 4 * REPEATS)
    for found in (read_pack(pack), read_pack(pack, decode=decode)):
        if b"".join(array.tobytes() for array in found.values()) != raw:
            raise SystemExit(f"{form}: other weights came back")
    peer = len(zstandard.ZstdCompressor(level=19).compress(raw))
    row = {
        "form": form,
        "bits": 8 * len(pack) / len(raw),
        "zstd_bits": 8 * peer / len(raw),
        "smaller": 1 - len(pack) / peer,
        "ideal_bits": ideal_bits(codes) if form.startswith("4:16") else None,
        "zeros": raw.count(0) / len(raw),
        "c_mb_per_s": len(raw) / c_s / 1e6,
        "load_mb_per_s": len(raw) / load_s / 1e6,
        "numpy_mb_per_s": len(raw) / numpy_s / 1e6,
        "numpy_ms": 1e3 * numpy_s,
        "accuracy": None,
    }
    print(f"{form}: {row['bits']:.3f} bits, zstd {row['zstd_bits']:.3f}", flush=True)
    return row


def ideal_bits(codes: Weights) -> float:
    """Choices of 4 of 16, and the values of each layer at their entropy."""
    total = 0.0
    for array in codes.values():
        pruned = array.shape[-1] % 16 == 0
        values = array[array != 0] if pruned else array.reshape(-1)
        total += values.size * entropy_bits(values) + (array.size / 16 * log2(comb(16, 4)) if pruned else 0)
    return total / sum(array.size for array in codes.values())


def best(work: Callable[[], object], repeats: int) -> float:
    """The least processor time that `work` takes, in seconds."""
    least = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return least


def built(graph: Graph, images: data.Dataset, path: Path) -> PackDecoder:
    """Build the network's tray at `path`; the decoder of its library."""
    program = api.lower(api.quantize(graph, [images.normalise(images.train_x[:256])]))
    api.save(api.build(program), path)
    library = open_tray(path).library(host_target().name, "default")
    decoder = None if library is None else pack_decoder(NativeLibrary(library, program.name))
    if decoder is None:
        raise SystemExit("the library has no decoder")
    return decoder


def loaded(path: Path) -> str:
    """What all of `penjing.load` takes, decoding by the library and by numpy."""
    by_library = best(lambda: penjing.load(path, engine="library"), REPEATS)
    with patch.object(loading, "pack_decoder", lambda code: None):
        by_numpy = best(lambda: penjing.load(path, engine="library"), REPEATS)
    return (
        f"penjing.load of the whole 8-bit tray, digests, program and packing included: {1e3 * by_library:.0f} ms; "
        f"{1e3 * by_numpy:.0f} ms where numpy decodes"
    )


def accuracy(graph: Graph, images: data.Dataset) -> float:
    """Share of the first test images that the float graph with these weights gets right."""
    import torch

    module = penjing.trainable(graph).eval()
    x = torch.from_numpy(images.normalise(images.test_x[:TESTED]))
    with torch.no_grad():
        guesses = torch.cat([module(part).argmax(1) for part in x.split(250)]).numpy()
    return float((guesses == images.test_y[:TESTED]).mean())


def shown(found: list[dict[str, Any]]) -> str:
    """The table."""
    head = ("form", "bits", "zstd -19", "smaller", "ideal", "C MB/s", "load MB/s", "numpy MB/s", "accuracy")
    rows = [
        (
            row["form"],
            f"{row['bits']:.3f}",
            f"{row['zstd_bits']:.3f}",
            f"{100 * row['smaller']:.1f} %",
            "" if row["ideal_bits"] is None else f"{row['ideal_bits']:.3f}",
            f"{row['c_mb_per_s']:.0f}",
            f"{row['load_mb_per_s']:.0f}",
            f"{row['numpy_mb_per_s']:.0f}",
            "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} %",
        )
        for row in found
    ]
    return table(head, rows)


if __name__ == "__main__":
    main()
