"""The steps of `penjing demo`, from pixels to a tray that another process has verified."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penjing import api
from penjing.bundle.pack import TrayParts, save_tray
from penjing.bundle.schema import Accuracy
from penjing.bundle.tray import read_tray
from penjing.cli.output import Phases
from penjing.cli.verify import SelfTest
from penjing.cli.writing import placed_together
from penjing.core import knobs
from penjing.core.errors import BundleError, PruningError
from penjing.core.files import write_atomically
from penjing.core.targets import host_target
from penjing.ir.graph import Graph
from penjing.measure.correct import correct
from penjing.measure.intervals import Interval, PairedDrop, accuracy_interval, paired_drop
from penjing.measure.timing import Timing, time_interleaved
from penjing.program.plan import peak_activation_bytes
from penjing.runtime.loading import from_tray
from penjing.runtime.model import Model
from penjing.toolchain.compilers import find_compiler

if TYPE_CHECKING:
    from penjing.zoo.data import Dataset
    from penjing.zoo.trainings import Training

NAME = "edgecnn"
FILES = (f"{NAME}.tray", "digit.png")
_CALIBRATION_SAMPLES = 512
_BATCH = 64
_VERIFIED_INPUTS = 1000


@dataclass(frozen=True)
class Network:
    """One form of the network, as the table shows it.

    Attributes:
        name: float, pruned or int8.
        right: (n,) which test images it gets right.
        nbytes: of the parameters, or of the whole tray.
        ram_bytes: activations alive at once, or the arena.
        timing: of one image.
    """

    name: str
    right: np.ndarray
    nbytes: int
    ram_bytes: int
    timing: Timing

    @property
    def accuracy(self) -> Interval:
        """With its 95 % interval."""
        return accuracy_interval(int(self.right.sum()), len(self.right))


@dataclass(frozen=True)
class Made:
    """What the demo made: the networks (the float one first), the tray, and an image of a digit."""

    dataset: str
    pruned_share: float
    networks: tuple[Network, ...]
    tray: bytes
    png: bytes

    @property
    def drop(self) -> PairedDrop:
        """Accuracy of the first network minus that of the last."""
        return paired_drop(self.networks[0].right, self.networks[-1].right)


@dataclass(frozen=True)
class Delivered:
    """Where the files are, and what the other process found."""

    tray: Path
    image: Path
    test: SelfTest


def check(prune: float) -> None:
    """Refuse, before any work, what cannot end well.

    Raises:
        PruningError: nothing would be left.
        MissingCompiler, ToolchainError: no compiler for this machine.
    """
    if prune >= 1:
        raise PruningError("a share of 1 leaves no weights", where="--prune", hint="0.5 removes half of them")
    find_compiler(host_target())


def make(data: str, prune: float, shown: Phases) -> Made:
    """Train, prune, fine-tune, quantize, compile and measure.

    Raises:
        InvalidInput, MissingData, MissingDependency: the data set.
        PenjingError: of any stage.
    """
    from penjing.train.inference import with_weights_of
    from penjing.zoo import catalog, trainings
    from penjing.zoo.data import load

    shown.start("loading torch and the data")
    chosen = _choose(data)
    dataset = load(chosen)
    training = trainings.find(NAME, chosen)
    module = catalog.create(NAME, seed=knobs.SEED.integer())
    x = dataset.normalise(dataset.test_x)

    shown.start(f"training on {dataset.name}")
    _fit(training, module, dataset, shown)
    graph = api.capture(module, catalog.find(NAME).random_inputs(1), name=NAME)
    shown.start("pruning and fine-tuning")
    trainable = api.trainable(api.prune(graph, ratio=prune) if prune else graph)
    finer = replace(training, epochs=max(1, training.epochs // 2), learning_rate=training.learning_rate / 4)
    _fit(finer, trainable, dataset, shown)
    pruned_graph = trainable.to_graph()
    pruned = with_weights_of(pruned_graph, module)

    shown.start("quantizing")
    program = api.lower(api.quantize(pruned_graph, _calibration(dataset)))
    parts = api.assemble(program, _options(dataset, prune, x[:2]), progress=shown.start)
    model = from_tray(read_tray(api.pack(parts)))
    shown.start("measuring accuracy")
    right = {"float": _right(module, dataset), "pruned": _right(pruned, dataset)}
    right["int8"] = correct(model.run, x, dataset.test_y, progress=lambda n: shown.reached(n, len(x)))
    tray = api.pack(parts, accuracy=_accuracy(right["int8"], dataset.name))
    shown.start("timing")
    timings = _time(module, pruned, model, x[:1])
    networks = _networks(graph, parts, tray, right, timings)
    return Made(dataset.name, prune, networks, tray, _png(dataset.test_x[0, 0]))


def deliver(made: Made, folder: Path, shown: Phases, *, force: bool) -> Delivered:
    """Write the files, after a fresh process has verified the tray.

    Raises:
        BundleError: the tray computes something else than its program defines; no file is left then.
        OutputExists, WriteFailed: the folder.
    """
    tray, image = FILES
    with placed_together(folder, FILES, force=force) as place:
        save_tray(made.tray, place / tray)
        write_atomically(place / image, made.png)
        shown.start("verifying in a fresh process")
        test = _verify(place / tray)
        if test.differing_bytes:
            raise BundleError(f"{test.differing_bytes} bytes differ from the program's definition", where=tray)
    return Delivered(folder / tray, folder / image, test)


def _choose(data: str) -> str:
    if data != "auto":
        return data
    folder = knobs.DATA.path()
    return "mnist" if folder is not None and (folder / "mnist.npz").is_file() else "digits"


def _fit(training: "Training", module: Any, dataset: "Dataset", shown: Phases) -> None:
    training.fit(
        module,
        dataset,
        seed=knobs.SEED.integer(),
        progress=lambda p: shown.reached((p.epoch - 1) * p.steps + p.step, p.epochs * p.steps),
    )


def _calibration(dataset: "Dataset") -> list[np.ndarray]:
    rng = np.random.default_rng(knobs.SEED.integer())
    chosen = np.sort(rng.permutation(len(dataset.train_x))[:_CALIBRATION_SAMPLES])
    samples = dataset.normalise(dataset.train_x[chosen])
    return [samples[i : i + _BATCH] for i in range(0, len(samples), _BATCH)]


def _options(dataset: "Dataset", prune: float, golden: np.ndarray) -> api.BuildOptions:
    return api.BuildOptions(
        ports=[api.Port(dataset.mean, dataset.std, (0.0, 1.0), "gray")],
        labels=dataset.labels,
        card={
            "description": "EdgeCNN, handwritten digits",
            "source": f"penjing demo on {dataset.name}",
            "recipe": "w8a8",
            "pruning": f"{100 * prune:g} % of each layer's weights, fine-tuned",
        },
        golden_inputs=[golden],
        with_source=False,
    )


def _right(module: Any, dataset: "Dataset") -> np.ndarray:
    from penjing.train.fit import evaluate

    return evaluate(module, dataset.test_x, dataset.test_y, normalise=dataset.normalise)


def _accuracy(right: np.ndarray, dataset: str) -> Accuracy:
    interval = accuracy_interval(int(right.sum()), len(right))
    return Accuracy("top-1", interval.value, interval.low, interval.high, len(right), dataset)


def _time(module: Any, pruned: Any, model: Model, one: np.ndarray) -> dict[str, Timing]:
    from penjing.train.inference import one_thread
    from penjing.train.samples import tensor

    image = tensor(one)
    calls: dict[str, Callable[[], object]] = {
        "float": lambda: module(image),
        "pruned": lambda: pruned(image),
        "int8": lambda: model.run(one),
    }
    with one_thread():
        return time_interleaved(calls)


def _networks(
    graph: Graph, parts: TrayParts, tray: bytes, right: dict[str, np.ndarray], timings: dict[str, Timing]
) -> tuple[Network, ...]:
    in_float = 4 * graph.parameters(), peak_activation_bytes(graph)
    arenas = [made["default"].arena_bytes for made in parts.libraries.values()]
    in_integers = len(tray), max(arenas, default=parts.variants["default"].arena_bytes)
    sizes = {"float": in_float, "pruned": in_float, "int8": in_integers}
    return tuple(Network(name, right[name], *sizes[name], timings[name]) for name in sizes)


def _verify(path: Path) -> SelfTest:
    """By a process that knows the file alone."""
    command = [sys.executable, "-m", "penjing.cli", "inspect", str(path), "--self-test", "--json"]
    done = subprocess.run([*command, "--samples", str(_VERIFIED_INPUTS)], capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)["self_test"]
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"the verifying process failed: {done.stdout}{done.stderr}", where=path.name) from None
    return SelfTest(**found)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    codes = pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(codes).save(stream, "PNG")
    return stream.getvalue()
