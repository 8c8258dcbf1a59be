"""Worker of LiteRT: through the Interpreter with its XNNPACK delegate, without it, or through CompiledModel."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from protocol import Bound, channels_last, serve, to_codes, to_floats


def load(path: Path, options: dict[str, Any]) -> Bound:
    """`options["through"]`: "interpreter", "builtin" (no delegate), "compiled" or "compiled ynnpack"."""
    codes = json.loads(path.with_suffix(".codes.json").read_text()) if options.get("codes") else None
    through = options["through"]
    if through.startswith("compiled"):
        calculate, call, facts = _compiled(path, codes["output"]["dtype"] if codes else "float32", through)
    else:
        calculate, call, facts = _interpreter(path, delegate=through == "interpreter")

    def run(values: np.ndarray) -> np.ndarray:
        last = channels_last(values)
        if codes is None:
            return calculate(last)
        return to_floats(calculate(to_codes(last, **codes["input"])), codes["output"]["scale"], codes["output"]["zero"])

    return Bound(run, call, facts)


Parts = tuple[Callable[[np.ndarray], np.ndarray], Callable[[], object], dict[str, Any]]


def _interpreter(path: Path, *, delegate: bool) -> Parts:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    model = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver)
    model.allocate_tensors()
    (source,), (sink,) = model.get_input_details(), model.get_output_details()
    invoke = model._interpreter.Invoke  # Interpreter.invoke adds a check of Python references only

    def calculate(values: np.ndarray) -> np.ndarray:
        model.set_tensor(source["index"], values)
        invoke()
        return model.get_tensor(sink["index"])

    kinds = [step["op_name"] for step in model._get_ops_details()]
    return calculate, invoke, {"delegates": kinds.count("DELEGATE")}


def _compiled(path: Path, output_type: str, through: str) -> Parts:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.options import Options

    settings = Options(cpu_options=CpuOptions(num_threads=1, enable_ynnpack=through.endswith("ynnpack")))
    model = CompiledModel.from_file(str(path), options=settings)
    (sink,) = model.get_output_tensor_details(next(iter(model.get_signature_list()))).values()
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)

    def calculate(values: np.ndarray) -> np.ndarray:
        inputs[0].write(values)
        model.run_by_index(0, inputs, outputs)
        return outputs[0].read(int(np.prod(sink["shape"])), np.dtype(output_type).type)

    run, given, taken = model._model.RunByIndex, [b.capsule for b in inputs], [b.capsule for b in outputs]
    return calculate, lambda: run(0, given, taken), {}


if __name__ == "__main__":
    serve(load)
