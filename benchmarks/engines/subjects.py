"""Prepare a network for all engines: inputs, the float reference, its exports, our tray, and what others convert.

The folder of a network, one for each digest of its content, holds `model.onnx`, `model.pt2`, `model.tray`,
`calibration.npy`, `checked.npy` (inputs whose outputs are checked) and `reference.npy` (torch's float outputs for
them), and one folder for each converter, named by the digest of its script and pins: what was converted once is kept
for as long as neither the network nor the converter changes.
"""

import hashlib
import io
import json
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engines import recurrent, transformer
from engines.environments import HERE, SetupFailed, convert_python, engines_folder, worker_environment
from penjing import api
from penjing.bundle.tray import read_tray
from penjing.zoo import catalog, data, weights

MODELS = ("edgecnn", "autoencoder", "dscnn", "mobilenetv1", "resnet8", "resnet20", "mobilenetv2")
ENCODER = "encoder"
NOT_OF_THE_ZOO = (ENCODER, *recurrent.KINDS)  # they run when they are asked for
CHECKED = 8
CALIBRATION = 128
LARGE_INPUT = 100_000  # values; larger ones are calibrated on fewer inputs
BATCH = 32


@dataclass(frozen=True, eq=False)
class Given:
    """A network before anything is made of it.

    Attributes:
        module: in evaluation mode.
        calibration: inputs for every quantizer.
        checked: inputs whose outputs are checked.
        origin: where the weights come from.
        title: for tables; "": as the catalogue has it.
    """

    module: torch.nn.Module
    calibration: np.ndarray
    checked: np.ndarray
    origin: str
    title: str = ""


@dataclass(frozen=True)
class Prepared:
    """One network in its folder.

    Attributes:
        name: in the catalogue.
        title: for tables.
        weights: where they come from.
        folder: see above.
        made: engine -> folder of what its converter made.
        macs: multiplications of one call.
        tray_bytes: of our tray.
        library_bytes: of our compiled library.
        failed: "engine/file" of what a converter could not make -> reason; "engine/*" when it made nothing.
    """

    name: str
    title: str
    weights: str
    folder: Path
    made: dict[str, Path]
    macs: int
    tray_bytes: int
    library_bytes: int
    failed: dict[str, str]

    def path(self, file: str) -> Path:
        """Where the file of a form is, whether or not it could be made."""
        maker, _, name = file.rpartition("/")
        return (self.made[maker] if maker else self.folder) / name

    def why_missing(self, file: str) -> str:
        """The reason why the file of a form is not there."""
        maker = file.rpartition("/")[0]
        return self.failed.get(file) or self.failed.get(f"{maker}/*") or "no converter made this file"


def prepare(name: str, engines: Iterable[str], given: Given | None = None) -> Prepared:
    """Make the folder of one network, converted for the given engines; conversions are kept in the cache.

    Args:
        name: of MODELS or NOT_OF_THE_ZOO, unless the network is given with its title.
        engines: whose converters are to run.
        given: the network with its inputs; None: what `network` makes.

    Returns:
        What was made.
    """
    given = given or network(name)
    title = given.title or catalog.find(name).title
    exported = to_onnx(given.module, given.checked[:1])
    digest = hashlib.sha256(exported + given.calibration.tobytes() + given.checked.tobytes())
    folder = engines_folder() / "models" / f"{name}-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "reference.npy").is_file():
        with torch.inference_mode():
            reference = given.module(torch.from_numpy(given.checked)).numpy()
        (folder / "model.onnx").write_bytes(exported)
        torch.export.save(
            torch.export.export(given.module, (torch.from_numpy(given.checked[:1]),)), folder / "model.pt2"
        )
        np.save(folder / "calibration.npy", given.calibration)
        np.save(folder / "checked.npy", given.checked)
        np.save(folder / "reference.npy", reference)  # the last: what is whole has it
    tray = _tray(name, given)
    (folder / "model.tray").write_bytes(tray)
    made, failed = {}, {}
    for engine in engines:
        made[engine] = folder / f"{engine}-{_converter_digest(engine)}"
        failed |= {f"{engine}/{file}": reason for file, reason in _converted(engine, folder, made[engine]).items()}
    opened = read_tray(tray)
    ((target, _),) = opened.manifest.targets.items()
    library = opened.library(target, "default")
    macs = opened.variant("default").macs
    return Prepared(name, title, given.origin, folder, made, macs, len(tray), len(library or b""), failed)


def network(name: str) -> Given:
    """A network of the tables by its name."""
    if name == ENCODER:
        return transformer_network()
    if name in recurrent.KINDS:
        inputs = recurrent.sequences(CALIBRATION // 4, seed=1), recurrent.sequences(CHECKED, seed=2)
        return Given(recurrent.network(name), *inputs, "untrained", recurrent.title(name))
    return zoo_network(name)


def zoo_network(name: str) -> Given:
    """A network of the zoo, trained where the data folder has weights."""
    model = catalog.find(name)
    if name in weights.FILES:
        assert model.dataset is not None
        dataset = data.load(model.dataset)
        chosen = np.sort(np.random.default_rng(0).permutation(len(dataset.train_x))[:CALIBRATION])
        inputs, checked = dataset.normalise(dataset.train_x[chosen]), dataset.normalise(dataset.test_x[:CHECKED])
        return Given(weights.trained(name), inputs, checked, f"trained ({weights.FILES[name]})")
    count = CALIBRATION if np.prod(model.input_shape) < LARGE_INPUT else CALIBRATION // 4
    module = catalog.create(name, trained_batchnorm=True)
    origin = "untrained, batch norms settled on random inputs"
    return Given(module, model.random_inputs(count, seed=1), model.random_inputs(CHECKED, seed=2), origin)


def transformer_network() -> Given:
    """A trained encoder and real text."""
    seen = CALIBRATION // 8
    inputs = transformer.inputs(seen), transformer.inputs(CHECKED, skip=seen)
    return Given(transformer.encoder(), *inputs, transformer.ORIGIN, transformer.TITLE)


def to_onnx(module: torch.nn.Module, example: np.ndarray) -> bytes:
    """The network as ONNX of opset 17 with input `x` and output `y`, both of the batch of `example`."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one; the newer needs one more package
        torch.onnx.export(
            module,
            (torch.from_numpy(example),),
            stream,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
        )
    return stream.getvalue()


def _tray(name: str, given: Given) -> bytes:
    graph = api.capture(given.module, given.checked[:2], name=name)
    batches = (given.calibration[i : i + BATCH] for i in range(0, len(given.calibration), BATCH))
    return api.build(api.lower(api.quantize(graph, batches)), api.BuildOptions(with_source=False))


def _converter_digest(engine: str) -> str:
    digest = hashlib.sha256()
    for file in (*sorted((HERE / engine).glob("*.txt")), *sorted((HERE / engine).glob("convert.py"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _converted(engine: str, folder: Path, output: Path) -> dict[str, str]:
    """Run an engine's converter unless it has run; the files that it could not make, with reasons."""
    script, report = HERE / engine / "convert.py", output / "failed.json"
    if not script.is_file():
        return {}
    if not report.is_file():
        print(f"  converting for {engine}", flush=True)
        output.mkdir(exist_ok=True)
        try:
            python = convert_python(engine)
            command = [str(python), str(script), str(folder), str(output)]
            # torch's quantizer goes through sets of names, and fails in some of their orders
            env = {**worker_environment(python), "PYTHONHASHSEED": "0"}
            done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=1800, check=False)
        except (SetupFailed, subprocess.TimeoutExpired) as error:
            return {"*": f"no converter: {error}"}
        if not report.is_file():
            said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            return {"*": f"the converter failed: {said[0]}"}
    found: dict[str, str] = json.loads(report.read_text())
    # records are published: a reason names files, not folders of this machine
    return {file: reason.replace(f"{output}/", "").replace(f"{folder}/", "") for file, reason in found.items()}
