"""ONNX models, checked and run; and what a quantized network gives beside its ONNX form, in steps of each output."""

from collections.abc import Callable

import numpy as np
import pytest

from penjing.core.arithmetic import dequantize
from penjing.emit.onnx.emit import emit_onnx
from penjing.ir.graph import Graph
from penjing.program.interpret import interpret
from penjing.program.lower import lower
from penjing.runtime.engines import to_codes

onnx = pytest.importorskip("onnx", reason="ONNX files are read and run by onnx and onnxruntime")
ort = pytest.importorskip("onnxruntime", reason="ONNX files are read and run by onnx and onnxruntime")

Run = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="session")
def run_onnx() -> Run:
    """`run_onnx(data, *inputs)`: check the model as strictly as onnx can, and let ONNX Runtime compute its outputs."""

    def run(data: bytes, *inputs: np.ndarray, optimized: bool = True) -> list[np.ndarray]:
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # without it, x86 CPUs that have no VNNI add pairs of products in 16 bits, which saturate
        options.add_session_config_entry("session.x64quantprecision", "1")
        if not optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        found: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
        return found

    return run


@pytest.fixture(scope="session")
def steps_apart(run_onnx) -> Callable[..., list[np.ndarray]]:
    """`steps_apart(graph, *inputs)`: for each output, codes of ONNX Runtime less our own, on real inputs.

    Of inputs that are no codes, both round to the same ones.
    """

    def compare(
        graph: Graph, *inputs: np.ndarray, optimized: bool = True, int4: bool = False, tensorrt: bool = False
    ) -> list[np.ndarray]:
        quants = [graph.types[name].quant for name in graph.inputs]
        codes = to_codes(graph, inputs)
        reals = [c if q is None else dequantize(c, q.scale, q.zero_point) for c, q in zip(codes, quants, strict=True)]
        expected = interpret(lower(graph), *codes)
        found = run_onnx(emit_onnx(graph, int4=int4, tensorrt=tensorrt), *reals, optimized=optimized)
        apart = []
        for name, want, got in zip(graph.outputs, expected, found, strict=True):
            quant = graph.types[name].quant
            assert got.shape == want.shape
            apart.append(np.rint(got / quant.scale).astype(int) + quant.zero_point - want)
        return apart

    return compare
