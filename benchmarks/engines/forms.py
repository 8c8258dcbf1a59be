"""The table of engines and of the forms of a network that each of them runs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Precision = Literal["float32", "reduced float", "int8", "int4 weights"]
Ends = Literal["floats", "codes"]


@dataclass(frozen=True)
class Form:
    """One engine with one model file and one setting.

    Attributes:
        engine: its folder here.
        name: for tables.
        file: what a call runs; a converter made it, or left a reason. MAKER/NAME, where MAKER is the engine whose
            converter made it; just NAME for what `subjects.py` makes.
        precision: of most of the arithmetic.
        ends: whether a call takes and gives floats, or integer codes.
        options: for the worker.
    """

    engine: str
    name: str
    file: str
    precision: Precision
    ends: Ends = "floats"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """One name for engine and form."""
        return f"{self.engine}: {self.name}, {self.ends}"


@dataclass(frozen=True)
class EngineEntry:
    """One engine.

    Attributes:
        folder: here, with requirements.txt (and convert.txt where making models needs more), worker.py, convert.py.
        title: for tables.
        package: whose version is reported.
        avx2: its own setting (environment) that keeps it from using more than AVX2, for machines where
            `cpu_mask.py` cannot; None where there is no such setting.
        avx2_note: what that setting does, or why there is none.
        not_offered: names of forms that it has none of -> why.
    """

    folder: str
    title: str
    package: str
    avx2: dict[str, str] | None = None
    avx2_note: str = "no setting: it asks the processor (CPUID) which instructions there are"
    not_offered: dict[str, str] = field(default_factory=dict)


ENGINES = (
    EngineEntry("ours", "penjing", "penjing", {"PENJING_ISA": "x86_avx2"}, ""),
    EngineEntry("onnxruntime", "ONNX Runtime", "onnxruntime"),
    EngineEntry(
        "openvino",
        "OpenVINO",
        "openvino",
        {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        "ONEDNN_MAX_CPU_ISA=AVX2: holds oneDNN's kernels (convolutions, matrix products), not OpenVINO's own",
    ),
    EngineEntry("litert", "LiteRT", "ai-edge-litert"),
    EngineEntry("executorch", "ExecuTorch", "executorch"),
    EngineEntry("mnn", "MNN", "MNN"),
    EngineEntry(
        "ncnn",
        "ncnn",
        "ncnn",
        not_offered={
            "static": "ncnn2table and ncnn2int8, which make int8 models, are in neither package (ncnn, pnnx)",
            "int4 weights": "ncnn has no 4-bit weights",
        },
    ),
)


def forms(engine: str) -> Iterator[Form]:
    """Every form that an engine is measured with."""
    return {
        "ours": _ours,
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
        "litert": _litert,
        "executorch": _executorch,
        "mnn": _mnn,
        "ncnn": _ncnn,
    }[engine]()


def _ours() -> Iterator[Form]:
    yield Form("ours", "w8a8", "model.tray", "int8")
    yield Form("ours", "w8a8", "model.tray", "int8", "codes", {"codes": True})


def _onnxruntime() -> Iterator[Form]:
    engine = "onnxruntime"
    yield Form(engine, "float32", "model.onnx", "float32")
    for name in ("u8s8", "u8s8-7bit", "u8u8", "s8s8"):
        yield Form(engine, f"static {name} QDQ", f"onnxruntime/{name}.onnx", "int8")
    for name in ("u8s8", "u8u8"):
        yield Form(engine, f"static {name} QOperator", f"onnxruntime/{name}-qoperator.onnx", "int8")
    for name in ("s8", "u8"):
        yield Form(engine, f"dynamic {name} weights", f"onnxruntime/dynamic-{name}.onnx", "int8")
    for title, file in (("", "int4"), (", int8 sums", "int4-int8")):
        yield Form(engine, f"int4 weights{title}", f"onnxruntime/{file}.onnx", "int4 weights")
    for name in ("u8s8", "u8u8", "s8s8"):
        file = f"onnxruntime/{name}-codes.onnx"
        yield Form(engine, f"static {name} QDQ, ends off", file, "int8", "codes", {"codes": True})


def _openvino() -> Iterator[Form]:
    engine = "openvino"
    yield Form(engine, "float32", "model.onnx", "float32", options={"precision": "f32"})
    for hint in ("bf16", "f16"):
        yield Form(engine, hint, "model.onnx", "reduced float", options={"precision": hint})
    for title in ("NNCF", "NNCF mixed", "NNCF transformer"):
        yield from _openvino_static(title, f"openvino/{title.lower().replace(' ', '-')}.xml")
    yield from _openvino_static("u8s8 QDQ", "onnxruntime/u8s8.onnx")
    for name in ("u8u8", "s8s8"):
        yield Form(engine, f"static {name} QDQ", f"onnxruntime/{name}.onnx", "int8", options={"precision": "f32"})
    yield Form(engine, "int4 weights", "openvino/int4.xml", "int4 weights", options={"precision": "f32"})
    for hint, rest in (("f32", ""), ("bf16", ", rest bf16")):
        options = {"precision": hint, "codes": True}
        file = "onnxruntime/u8s8-codes.onnx"
        yield Form(engine, f"static u8s8 QDQ, ends off{rest}", file, "int8", "codes", options)


def _openvino_static(title: str, file: str) -> Iterator[Form]:
    yield Form("openvino", f"static {title}", file, "int8", options={"precision": "f32"})
    yield Form("openvino", f"static {title}, rest bf16", file, "int8", options={"precision": "bf16"})


def _litert() -> Iterator[Form]:
    engine = "litert"
    for title, through in (("", "interpreter"), (", CompiledModel", "compiled"), (", no delegate", "builtin")):
        way: dict[str, Any] = {"through": through}
        yield Form(engine, f"float32{title}", "litert/float.tflite", "float32", options=way)
        yield Form(engine, f"dynamic{title}", "litert/dynamic.tflite", "int8", options=way)
        for make, file in (("static", "static"), ("static PT2E", "pt2e")):
            yield Form(engine, f"{make}{title}", f"litert/{file}.tflite", "int8", options=way)
            codes = {**way, "codes": True}
            yield Form(engine, f"{make}{title}", f"litert/{file}-codes.tflite", "int8", "codes", codes)
    for title, through in (("", "interpreter"), (", CompiledModel", "compiled")):
        way = {"through": through}
        yield Form(engine, f"dynamic int4 weights{title}", "litert/int4.tflite", "int4 weights", options=way)
    yield Form(engine, "float32, YNNPACK", "litert/float.tflite", "float32", options={"through": "compiled ynnpack"})


def _executorch() -> Iterator[Form]:
    engine = "executorch"
    yield Form(engine, "XNNPACK float32", "executorch/float.pte", "float32")
    yield Form(engine, "XNNPACK static PT2E", "executorch/static.pte", "int8")
    yield Form(engine, "XNNPACK dynamic PT2E", "executorch/dynamic.pte", "int8")
    yield Form(engine, "XNNPACK dynamic PT2E, int4 weights", "executorch/int4.pte", "int4 weights")
    yield Form(engine, "XNNPACK static PT2E", "executorch/static-codes.pte", "int8", "codes", {"codes": True})


def _mnn() -> Iterator[Form]:
    engine = "mnn"
    normal, low = {"precision": "normal"}, {"precision": "low"}
    yield Form(engine, "float32", "mnn/float.mnn", "float32", options=normal)
    yield Form(engine, "precision low", "mnn/float.mnn", "reduced float", options=low)
    for name, file, precision in (("dynamic", "dynamic", "int8"), ("int4 weights", "int4", "int4 weights")):
        for title, options in (("", normal), (", precision low", low)):
            yield Form(engine, f"{name}{title}", f"mnn/{file}.mnn", precision, options={**options, "memory": "low"})
    for method in ("KL", "EMA"):
        yield Form(engine, f"static {method}", f"mnn/static-{method.lower()}.mnn", "int8", options=normal)


def _ncnn() -> Iterator[Form]:
    engine, file = "ncnn", "ncnn/model.ncnn.param"
    yield Form(engine, "float32", file, "float32", options={"precision": "f32"})
    for name in ("bf16", "f16"):
        yield Form(engine, f"{name} storage", file, "reduced float", options={"precision": name})
