"""Write docs/operators.md from the operator files themselves.

    python tools/operator_table.py            write the page
    python tools/operator_table.py --check    exit 1 when the page is not what would be written

The integer form of an operator is what its samples become when they are calibrated, quantized and lowered.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from penjing.compress.quantize.calibrate import calibrate
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.files import write_atomically
from penjing.ops import integer_operators, operators
from penjing.ops.operator import Operator
from penjing.program.lower import lower
from penjing.testing.sample_graphs import operator_samples, sample_graph

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operators.md"
KERNELS = ROOT / "src" / "penjing" / "kernels" / "generic"

# Changes of layout around an operator, not the operator itself.
_MOVES = {"q_reshape", "q_transpose"}

_HEAD = """\
# Operators

Made by `tools/operator_table.py` from the files in `src/penjing/ops/`; do not edit. A test checks that it is current.

## Of networks

{count} operators. *Meaning* is what the file says of itself: the mathematics, then inputs and outputs. *torch* are the
ATen operators that the torch front end reads, without the prefix `aten.` and the suffix `.default`. *ONNX* are the
operators that the ONNX front end reads ([which of their cases](spec/onnx.md)). *Integer form* names the operators of
the program that it becomes. "Or nothing": it can vanish. A clamp goes into the layer before it, a batch norm into the
convolution or linear layer before it, and an identity is dropped.

`penjing ops MODEL` tells which of these a model of yours uses, and where it uses others.
"""

_INTEGER_HEAD = """
## Of programs

{count} integer operators, each with an exact definition in numpy (in the file of the operator it serves) and a kernel
in C. Activations are u8, weights s8, biases s32, multipliers f32; states between steps may be s16. Those of `f_`
compute layers that are [kept in float32](howto/mixed-precision.md).
"""


def page() -> str:
    """The whole page."""
    return "\n".join([*_network_part(), *_program_part()]) + "\n"


def _network_part() -> Iterator[str]:
    table = sorted(operators().items())
    yield _HEAD.format(count=len(table))
    yield "| Operator | Meaning | torch | ONNX | Integer form |"
    yield "|---|---|---|---|---|"
    for name, cls in table:
        torch = _codes(target.removeprefix("aten.").removesuffix(".default") for target in cls.torch)
        yield f"| {_link(name, cls)} | {_meaning(cls)} | {torch} | {_codes(cls.onnx)} | {_integer_form(name, cls)} |"


def _program_part() -> Iterator[str]:
    table = sorted(integer_operators().items())
    yield _INTEGER_HEAD.format(count=len(table))
    yield "| Operator | Inputs and output | Kernel |"
    yield "|---|---|---|"
    for name, cls in table:
        kernel = KERNELS / f"{name}.c"
        link = f"[{kernel.name}]({_from_docs(kernel)})" if kernel.exists() else "none"
        yield f"| {_link(name, cls)} | {_cell(_paragraph(cls.__doc__))} | {link} |"


def _meaning(cls: type[Operator]) -> str:
    own, module = _paragraph(cls.__doc__), _paragraph(inspect.getmodule(cls).__doc__)
    # a class that states its mathematics needs no line on the family
    return _cell(own if own.startswith("y = ") else f"{module.removesuffix(':')} — {own}")


def _integer_form(name: str, cls: type[Operator]) -> str:
    found: set[str] = set()
    for label, sample in operator_samples((name,)):
        made = sample_graph("sample", [(label, sample)])
        quantized = QuantizeStatic(calibrate(made.graph, [made.inputs], "min-max")).run(made.graph).graph
        found |= {node.op.name for node in lower(quantized).nodes}
    vanishes = name in ("batch_norm", "identity") or any(
        isinstance(sample.op, Operator) and sample.op.clamp_range() is not None for sample in cls.samples()
    )
    return _codes(sorted(found - _MOVES or found)) + (" or nothing" if vanishes else "")


def _link(name: str, cls: type) -> str:
    return f"[`{name}`]({_from_docs(Path(inspect.getfile(cls)))})"


def _from_docs(path: Path) -> str:
    return f"../{path.resolve().relative_to(ROOT).as_posix()}"


def _paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    """Plain text as a cell of a table; what stands in backticks stays as it is."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if i % 2 else re.sub(r"([*_<])", r"\\\1", part) for i, part in enumerate(parts))


def _codes(names: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/operators.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the page is not up to date")
    text = page()
    if not parser.parse_args().check:
        write_atomically(PAGE, text.encode(), force=True)
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{PAGE.relative_to(ROOT)} is not up to date: run python tools/operator_table.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
