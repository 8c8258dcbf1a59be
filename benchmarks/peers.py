"""One image at a time, one thread: penjing against ONNX Runtime (float and int8) and torch, on the same networks.

Outputs are checked before anything is timed. Writes docs/results/peers.json and prints Markdown tables. Needs
PENJING_DATA with MNIST, CIFAR-10 (JPEG) and the trained ResNet-20; takes some three minutes on two cores.

ONNX Runtime's int8 models are made by its own `quantize_static` (QDQ, one weight scale per output channel, the same
512 calibration images) in several forms, as no form is the fastest everywhere; all are measured, the fastest one that
keeps its accuracy stands in the table, and the others are in the JSON.
"""

import io
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from _record import arguments, load_average, table, write_record
from _subjects import Subject, library_model, subjects
from penjing.bundle.tray import read_tray
from penjing.measure.sizes import bytes_text
from penjing.measure.timing import Timing, ratio, time_interleaved

CHECKED_IMAGES = 2000
ROUNDS = 40
MIN_TIME_MS = 10
LARGEST_DROP = 0.01  # of a form of ONNX Runtime's int8 that may stand in the table

INT8_FORMS: dict[str, dict[str, Any]] = {
    "u8s8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
    "u8s8, 7-bit weights": {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "reduce_range": True,
    },
    "u8u8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "s8s8": {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
}

NOTES = (
    "batch 1, one thread, all engines called from Python on arrays in memory; 'codes' takes and gives 8-bit codes",
    "penjing's kernels are generic C for the target's baseline CPU (SSE2 on x86-64) at this revision; the others choose"
    " kernels for the CPU they meet",
    "u8s8 on a CPU without VNNI saturates in ONNX Runtime's AVX2 kernels, which is why its 7-bit form exists",
    f"times: processor time of the process, medians over {ROUNDS} interleaved rounds of at least {MIN_TIME_MS} ms; with"
    " one thread it equals the wall clock on an idle machine, and on a busy one it leaves out the waiting",
    f"accuracy here is on the first {CHECKED_IMAGES} test images; accuracy.json has the whole sets",
)


@dataclass(frozen=True, eq=False)
class Contender:
    """One engine with one form of the network.

    Attributes:
        name: for tables.
        run: normalised float images (n, ...) -> scores (n, classes).
        call: one image, as timed.
        nbytes: of the model file.
    """

    name: str
    run: Callable[[np.ndarray], np.ndarray]
    call: Callable[[], object]
    nbytes: int


class Images(CalibrationDataReader):
    """The calibration images, one by one."""

    def __init__(self, images: np.ndarray) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image as an input of the model; None after the last."""
        image = next(self._left, None)
        return None if image is None else {"x": image[None]}


def main() -> None:
    """Measure, print, write."""
    options = arguments("peers", __doc__)
    load = load_average()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects():
            results.append(compared(subject, Path(folder)))
            print(f"\n{results[-1]['network']} on {results[-1]['dataset']}, batch 1, one thread\n")
            print(_shown(results[-1]))
            print(f"\n{_verdict(results[-1])}", flush=True)
    engines = {name: installed_bytes(name) for name in ("penjing", "onnxruntime", "torch")}
    print("\nInstalled: " + ", ".join(f"{name} {bytes_text(size)}" for name, size in engines.items()))
    write_record(options.output, "peers", {"networks": results, "installed_bytes": engines}, NOTES, load)


def compared(subject: Subject, folder: Path) -> dict[str, Any]:
    """All engines on one network: outputs first, then time."""
    print(f"preparing {subject.title}", flush=True)
    tray = subject.tray()
    contenders = list(_contenders(subject, tray, folder))
    reference = subject.right(contenders[0].run, CHECKED_IMAGES)
    facts: dict[str, dict[str, Any]] = {}
    for contender in contenders:
        right = subject.right(contender.run, CHECKED_IMAGES)
        facts[contender.name] = {
            "accuracy": float(right.mean()),
            "drop": float(reference.mean() - right.mean()),
            "model_bytes": contender.nbytes,
        }
    timings = time_interleaved(
        {c.name: c.call for c in contenders}, rounds=ROUNDS, min_time_ms=MIN_TIME_MS, clock=time.process_time_ns
    )
    ours = timings["penjing int8"]
    for name, timing in timings.items():
        facts[name] |= _time_facts(timing) | {"time_over_penjing": ratio(timing, ours)}
    best = min(
        (name for name in facts if name.startswith("ORT int8") and facts[name]["drop"] <= LARGEST_DROP),
        key=lambda name: timings[name].median_us,
    )
    variant = read_tray(tray).variant("default")
    return {
        "network": subject.title,
        "dataset": subject.dataset.name,
        "macs": variant.macs,
        "engines": facts,
        "fastest_ort_int8": best,
        "penjing_bytes": _parts(subject, tray),
    }


def _contenders(subject: Subject, tray: bytes, folder: Path) -> Iterator[Contender]:
    image = subject.dataset.normalise(subject.dataset.test_x[:1])
    module, tensor = subject.module, torch.from_numpy(image)

    def eager(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return module(x)

    parameters = sum(p.numel() for p in module.parameters())
    yield Contender("torch fp32", lambda x: eager(torch.from_numpy(x)).numpy(), lambda: eager(tensor), 4 * parameters)
    model = library_model(tray)
    (codes,) = _codes(model, image)
    yield Contender("penjing int8", model.run, lambda: model.run(image), len(tray))
    yield Contender("penjing int8, codes", model.run, lambda: model.run_codes(codes), len(tray))
    exported = folder / f"{subject.name}.onnx"
    exported.write_bytes(to_onnx(module, image))
    yield _ort("ORT fp32", exported, image)
    for form in INT8_FORMS:
        yield _ort(f"ORT int8 {form}", quantized(exported, form, subject.calibration()), image)


def _codes(model: Any, image: np.ndarray) -> tuple[np.ndarray, ...]:
    from penjing.core.arithmetic import quantize

    spec = model.inputs[0]
    return (quantize(image, np.float32(spec.scale), spec.zero_point),)


def to_onnx(module: torch.nn.Module, image: np.ndarray) -> bytes:
    """torch's own export, with any batch."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one; the newer needs one more package
        torch.onnx.export(
            module,
            (torch.from_numpy(image),),
            stream,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )
    return stream.getvalue()


def quantized(exported: Path, form: str, images: np.ndarray) -> Path:
    """The int8 model that ONNX Runtime's own tools make."""
    prepared, output = exported.with_suffix(".prepared.onnx"), exported.with_suffix(f".{form}.onnx")
    if not prepared.exists():
        quant_pre_process(str(exported), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(output),
        Images(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        **INT8_FORMS[form],
    )
    return output


def _ort(name: str, path: Path, image: np.ndarray) -> Contender:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"x": image}
    return Contender(
        name, lambda x: session.run(None, {"x": x})[0], lambda: session.run(None, feed), path.stat().st_size
    )


def _time_facts(timing: Timing) -> dict[str, float]:
    return {"median_us": timing.median_us, "p10_us": timing.p10_us, "p90_us": timing.p90_us}


def _parts(subject: Subject, tray: bytes) -> dict[str, int]:
    opened = read_tray(tray)
    variant = opened.variant("default")
    ((target, built),) = opened.manifest.targets.items()
    library = opened.library(target, "default")
    assert built and library is not None
    return {
        "tray": len(tray),
        "library": len(library),
        "weights": variant.weights_bytes,
        "arena": variant.arena_bytes,
    }


def installed_bytes(package: str) -> int:
    """Bytes of a package's files as installed, without what it depends on."""
    found = find_spec(package)
    assert found is not None and found.origin is not None
    root = Path(found.origin).parent
    return sum(f.stat().st_size for f in root.rglob("*") if f.is_file() and "__pycache__" not in f.parts)


def _verdict(result: dict[str, Any]) -> str:
    """Who is fastest with floats in and out, in plain words."""
    engines = {name: facts for name, facts in result["engines"].items() if facts["drop"] <= LARGEST_DROP}
    engines.pop("penjing int8, codes")  # spared work that the others do
    fastest = min(engines, key=lambda name: engines[name]["median_us"])
    ours = engines["penjing int8"]["median_us"]
    if fastest == "penjing int8":
        del engines[fastest]
        second = min(engines, key=lambda name: engines[name]["median_us"])
        return f"penjing is the fastest; {second} takes {engines[second]['time_over_penjing']:.2f} times as long."
    return f"{fastest} is the fastest; penjing takes {ours / engines[fastest]['median_us']:.2f} times as long."


def _shown(result: dict[str, Any]) -> str:
    rows = []
    for name, facts in result["engines"].items():
        if name.startswith("ORT int8") and name != result["fastest_ort_int8"]:
            continue
        rows.append(
            (
                name,
                f"{facts['median_us']:.0f}",
                f"{facts['p90_us']:.0f}",
                f"{facts['time_over_penjing']:.2f}",
                f"{100 * facts['accuracy']:.2f} %",
                bytes_text(facts["model_bytes"]),
            )
        )
    head = ("engine", "median us", "90 % us", "time / penjing", f"accuracy ({CHECKED_IMAGES})", "model")
    return table(head, rows)


if __name__ == "__main__":
    main()
