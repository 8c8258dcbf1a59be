"""EfficientNet-Lite0 from torch and from ONNX files of it: whether both roads lead to the same program.

    python benchmarks/onnx_twin.py [--images 8]

The network is exported twice: as it is, with its batch norms, and as torch.onnx exports by default, which folds them
into the convolutions in float32 (penjing folds in float64). An ONNX file holds eps in float32, torch in float64. All
three graphs are quantized on the same photographs. Programs are compared with their values numbered in order, as an
ONNX file has other names. Agreement is on other photographs. Writes docs/results/onnx_twin.json.
"""

import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "compression"))
from efficientnet_lite0 import photographs, trained

from _record import load_average, parser, table, write_record
from _subjects import library_model
from penjing import api
from penjing.core.digests import digest_bytes
from penjing.ir.graph import Graph, Node
from penjing.ir.text import print_graph
from penjing.ir.types import Source

CHECKED = 100
NOTES = (
    "numbered: digest of the program's text, its values named by their order and its sources left out",
    f"agreement: the same class is highest as from torch, on {CHECKED} other photographs",
)


def main() -> None:
    """Capture three times, compare, print, write."""
    options = parser("onnx_twin", __doc__)
    options.add_argument("--images", type=int, default=8, help="that calibrate")
    given = options.parse_args()
    load = load_average()
    torch.set_num_threads(1)
    x, _ = photographs(given.images + CHECKED)
    module, batches = trained(), [x[: given.images]]
    programs = {"torch": _program(api.capture(module, torch.from_numpy(x[:2]), name="net"), batches)}
    with tempfile.TemporaryDirectory() as folder:
        for title, keeps_norms in (("ONNX, with batch norms", True), ("ONNX, as torch.onnx folds them", False)):
            path = Path(folder) / "net.onnx"
            _export(module, x[:1], path, keeps_norms=keeps_norms)
            programs[title] = _program(api.capture_onnx(path).graph, batches)
    checked = x[given.images :]
    classes = {title: _classes(program, checked) for title, program in programs.items()}
    results = [_compared(title, programs, classes) for title in programs]
    rows = [
        (
            str(r["road"]),
            str(r["numbered"])[:12],
            str(r["nodes"]),
            f"{r['codes_that_differ']} of {r['codes']}",
            f"{r['factors_that_differ']} of {r['factors']}",
            f"{100 * r['agreement']:.1f} %",
        )
        for r in results
    ]
    print(
        table(
            (
                "From",
                "Program",
                "Nodes",
                "Weight codes that differ",
                "Multipliers that differ",
                "Same class as from torch",
            ),
            rows,
        )
    )
    write_record(given.output, "onnx_twin", results, NOTES, load, f"--images {given.images}")


def _export(module: torch.nn.Module, x: np.ndarray, path: Path, *, keeps_norms: bool) -> None:
    mode = torch.onnx.TrainingMode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            torch.from_numpy(x),
            path,
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
            training=mode.PRESERVE if keeps_norms else mode.EVAL,
            do_constant_folding=not keeps_norms,
        )


def _program(graph: Graph, batches: Sequence[np.ndarray]) -> Graph:
    return api.lower(api.quantize(graph, batches))


def _numbered(program: Graph) -> Graph:
    """The same program, its values named by their order, without places in a source."""
    read = [name for node in program.nodes for name in (*node.inputs, *node.outputs) if name]
    number = {name: f"v{i}" for i, name in enumerate(dict.fromkeys([*program.inputs, *read]))}
    same = Graph("net", stage=program.stage)
    same.inputs = tuple(number[name] for name in program.inputs)
    same.outputs = tuple(number[name] for name in program.outputs)
    same.types = {number[name]: program.types[name] for name in number}
    same.constants = {number[name]: program.constants[name] for name in number if name in program.constants}
    for node in program.nodes:
        inputs = tuple(number[name] if name else "" for name in node.inputs)
        same.nodes.append(Node(node.op, inputs, tuple(number[name] for name in node.outputs), Source()))
    return same


def _digest(program: Graph) -> str:
    same = _numbered(program)
    constants = b"".join(constant.array.tobytes() for constant in same.constants.values())
    return digest_bytes(print_graph(same).encode() + constants)


def _constants(program: Graph, dtype: type) -> np.ndarray:
    read = dict.fromkeys(name for node in program.nodes for name in node.inputs if name in program.constants)
    arrays = [program.constants[name].array for name in read]
    return np.concatenate([array.reshape(-1) for array in arrays if array.dtype == dtype])


def _classes(program: Graph, x: np.ndarray) -> np.ndarray:
    model = library_model(api.build(program, api.BuildOptions(with_source=False)))
    return np.concatenate([np.asarray(model.run(x[i : i + 1])).argmax(-1) for i in range(len(x))])


def _compared(title: str, programs: dict[str, Graph], classes: dict[str, np.ndarray]) -> dict[str, Any]:
    own, first = programs[title], programs["torch"]
    codes, factors = ((_constants(own, dtype), _constants(first, dtype)) for dtype in (np.int8, np.float32))
    return {
        "road": title,
        "numbered": _digest(own),
        "nodes": len(own.nodes),
        "codes": len(codes[0]),
        "codes_that_differ": int((codes[0] != codes[1]).sum()),
        "factors": len(factors[0]),
        "factors_that_differ": int((factors[0] != factors[1]).sum()),
        "largest_difference": float(np.abs(factors[0] / factors[1] - 1).max()),
        "agreement": float((classes[title] == classes["torch"]).mean()),
    }


if __name__ == "__main__":
    main()
