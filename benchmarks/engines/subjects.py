"""Prepare a network for all engines: inputs, the float reference, its exports, our tray, and what others convert.

The folder of a network holds `model.onnx`, `model.pt2`, `model.tray`, `calibration.npy`, `checked.npy` (inputs whose
outputs are checked) and `reference.npy` (torch's float outputs for them).
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

from engines.environments import HERE, SetupFailed, convert_python, engines_folder, worker_environment
from penjing import api
from penjing.bundle.tray import read_tray
from penjing.zoo import catalog, data, weights

MODELS = ("edgecnn", "autoencoder", "dscnn", "mobilenetv1", "resnet8", "resnet20", "mobilenetv2")
CHECKED = 8
CALIBRATION = 128
LARGE_INPUT = 100_000  # values; larger ones are calibrated on fewer inputs
BATCH = 32


@dataclass(frozen=True)
class Prepared:
    """One network in its folder.

    Attributes:
        name: in the catalogue.
        title: for tables.
        weights: where they come from.
        folder: see above.
        macs: multiplications of one call.
        tray_bytes: of our tray.
        library_bytes: of our compiled library.
        failed: "engine/file" of what a converter could not make -> reason; "engine/*" when it made nothing.
    """

    name: str
    title: str
    weights: str
    folder: Path
    macs: int
    tray_bytes: int
    library_bytes: int
    failed: dict[str, str]


def prepare(name: str, engines: Iterable[str]) -> Prepared:
    """Make the folder of one network, converted for the given engines; conversions are kept in the cache."""
    model = catalog.find(name)
    module, calibration, checked, origin = _given(name)
    exported = _to_onnx(module, checked[:1])
    digest = hashlib.sha256(exported + calibration.tobytes() + checked.tobytes())
    for file in (HERE / "protocol.py", *sorted(HERE.glob("*/*.txt")), *sorted(HERE.glob("*/convert.py"))):
        digest.update(file.read_bytes())
    folder = engines_folder() / "models" / f"{name}-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "reference.npy").is_file():
        with torch.inference_mode():
            reference = module(torch.from_numpy(checked)).numpy()
        (folder / "model.onnx").write_bytes(exported)
        torch.export.save(torch.export.export(module, (torch.from_numpy(checked[:1]),)), folder / "model.pt2")
        np.save(folder / "calibration.npy", calibration)
        np.save(folder / "checked.npy", checked)
        np.save(folder / "reference.npy", reference)
    tray = _tray(name, module, calibration)
    (folder / "model.tray").write_bytes(tray)
    failed: dict[str, str] = {}
    for engine in engines:
        failed |= {f"{engine}/{file}": reason for file, reason in _converted(engine, folder).items()}
    opened = read_tray(tray)
    ((target, _),) = opened.manifest.targets.items()
    library = opened.library(target, "default")
    macs = opened.variant("default").macs
    return Prepared(name, model.title, origin, folder, macs, len(tray), len(library or b""), failed)


def why_missing(failed: dict[str, str], engine: str, file: str) -> str:
    """The reason why a model file is not there."""
    makers = (engine, "onnxruntime")  # OpenVINO runs ONNX Runtime's int8 models as well
    reasons = (failed.get(f"{maker}/{key}") for maker in makers for key in (file, "*"))
    return next((reason for reason in reasons if reason), "no converter made this file")


def _given(name: str) -> tuple[torch.nn.Module, np.ndarray, np.ndarray, str]:
    """The module, calibration inputs, checked inputs, and where the weights come from."""
    model = catalog.find(name)
    if name in weights.FILES:
        assert model.dataset is not None
        dataset = data.load(model.dataset)
        chosen = np.sort(np.random.default_rng(0).permutation(len(dataset.train_x))[:CALIBRATION])
        inputs, checked = dataset.normalise(dataset.train_x[chosen]), dataset.normalise(dataset.test_x[:CHECKED])
        return weights.trained(name), inputs, checked, f"trained ({weights.FILES[name]})"
    count = CALIBRATION if np.prod(model.input_shape) < LARGE_INPUT else CALIBRATION // 4
    module = catalog.create(name, trained_batchnorm=True)
    origin = "untrained, batch norms settled on random inputs"
    return module, model.random_inputs(count, seed=1), model.random_inputs(CHECKED, seed=2), origin


def _to_onnx(module: torch.nn.Module, example: np.ndarray) -> bytes:
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


def _tray(name: str, module: torch.nn.Module, calibration: np.ndarray) -> bytes:
    graph = api.capture(module, catalog.find(name).random_inputs(2), name=name)
    batches = (calibration[i : i + BATCH] for i in range(0, len(calibration), BATCH))
    return api.build(api.lower(api.quantize(graph, batches)), api.BuildOptions(with_source=False))


def _converted(engine: str, folder: Path) -> dict[str, str]:
    """Run an engine's converter unless it has run; the files that it could not make, with reasons."""
    script, report = HERE / engine / "convert.py", folder / f"{engine}.failed.json"
    if not script.is_file():
        return {}
    if not report.is_file():
        print(f"  converting for {engine}", flush=True)
        try:
            python = convert_python(engine)
            command, env = [str(python), str(script), str(folder)], worker_environment(python)
            done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=1800, check=False)
        except (SetupFailed, subprocess.TimeoutExpired) as error:
            return {"*": f"no converter: {error}"}
        if not report.is_file():
            said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            return {"*": f"the converter failed: {said[0]}"}
    found: dict[str, str] = json.loads(report.read_text())
    return found
