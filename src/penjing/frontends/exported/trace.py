"""From a torch module to an exported program: one graph of whole ATen operators, for any batch or for a batch of one.

The module is left as it was: modes are restored, parameters are shared and not copied, buffers are never written.
"""

import importlib
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penjing.core.errors import InvalidInput, MissingDependency, UnsupportedOp
from penjing.core.length import Length
from penjing.frontends.exported.attention import batch_first_attention
from penjing.frontends.exported.metadata import BATCH
from penjing.frontends.exported.places import user_frame
from penjing.frontends.exported.recurrent import name_recurrent, recurrent_of_any_length
from penjing.ir.types import LENGTH, Dim

FIXED_BATCH_HINT = (
    "the model is written for one batch size: let it follow its input, with x.flatten(1) or x.view(x.size(0), ...), "
    "and x.size(0) in place of len(x)"
)

# What torch and a user's forward raise when shapes or types do not fit; torch's own export errors are RuntimeErrors.
_FAILURES = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    NotImplementedError,
    AssertionError,
    KeyError,
)


@dataclass(frozen=True)
class Steps:
    """The longest sequence, and the axis of steps in each input, None where it has none."""

    max: int
    axes: tuple[int | None, ...]

    def first(self) -> tuple[int, int]:
        """(input, axis) where the length can be read."""
        return next((i, axis) for i, axis in enumerate(self.axes) if axis is not None)


@dataclass(frozen=True)
class Trace:
    """One export.

    Attributes:
        program: the `torch.export.ExportedProgram`; its `graph_module` may be rewritten.
        batch: torch's symbol for the batch; None when the export holds for a batch of one only.
        inputs: the example, as tensors of the module's own floating dtype and device.
        fixed_because: why the batch is not symbolic, in torch's words; '' when it is.
        dims: torch's symbols for what is symbolic, the batch and the length of sequences.
        length: the longest sequence, and the axis of steps in each input; None when all lengths are fixed.
    """

    program: Any
    batch: str | None
    inputs: tuple[Any, ...]
    fixed_because: str = ""
    dims: Mapping[str, Dim] = field(default_factory=dict)
    length: Steps | None = None


def import_torch() -> Any:
    """The torch module; MissingDependency when it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingDependency(
            "a torch model cannot be read, because torch is not installed", hint="pip install 'penjing[compress]'"
        ) from error


@contextmanager
def evaluation(module: Any) -> Iterator[None]:
    """The module in evaluation mode without gradients; every submodule gets its own mode back."""
    torch = import_torch()
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def run_module(module: Any, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The module's outputs as a flat tuple; inputs and buffers are cloned first, so that none is written."""
    torch = import_torch()
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    outputs = torch.func.functional_call(module, buffers, tuple(x.clone() for x in inputs))
    return tuple(torch.utils._pytree.tree_leaves(outputs))


def example_tensors(module: Any, example: object) -> tuple[Any, ...]:
    """The example as tensors on the module's device: floats of the module's dtype, and ids as they are.

    Raises:
        InvalidInput: not a module; neither floats nor ids; a scalar; no elements; NaN or infinity; different leading
            extents.
    """
    torch = import_torch()
    if not isinstance(module, torch.nn.Module):
        raise InvalidInput(f"only a torch.nn.Module can be captured, not {type(module).__name__}")
    items = tuple(example) if isinstance(example, tuple | list) else (example,)
    if not items:
        raise InvalidInput("the example holds no input", hint="give one array of the shape the model takes")
    dtype, device = _floating_kind(torch, module)
    tensors = tuple(_example_tensor(torch, i, item).to(device=device) for i, item in enumerate(items))
    tensors = tuple(x.to(dtype=dtype) if x.is_floating_point() else x for x in tensors)
    batches = {int(x.shape[0]) for x in tensors}
    if len(batches) > 1:
        raise InvalidInput(f"the inputs of the example have different batch sizes: {sorted(batches)}")
    return tensors


def _floating_kind(torch: Any, module: Any) -> tuple[Any, Any]:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise InvalidInput(f"{name} is on the meta device: it has no numbers", hint="load the weights first")
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.float32, torch.device("cpu")


def _example_tensor(torch: Any, position: int, item: object) -> Any:
    where = f"input {position} of the example"
    if isinstance(item, np.ndarray):
        if item.dtype.kind not in "fiub":
            raise InvalidInput(f"an array of {item.dtype} cannot be an input", where=where)
        item = torch.from_numpy(np.ascontiguousarray(item))
    if not isinstance(item, torch.Tensor):
        raise InvalidInput(f"a tensor or numpy array is needed, not {type(item).__name__}", where=where)
    tensor: Any = item.detach()
    if not tensor.is_floating_point() and tensor.dtype not in (torch.int64, torch.int32):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InvalidInput(
            f"{kind} inputs are not supported, only floats, and int64 or int32 for ids that an embedding looks up",
            where=where,
            hint="convert with x.float()",
        )
    if tensor.dim() == 0:
        raise InvalidInput("a scalar has no batch axis", where=where, hint="axis 0 of every input is the batch")
    if tensor.numel() == 0:
        raise InvalidInput(f"an array of shape {tuple(tensor.shape)} holds no numbers", where=where)
    if not bool(torch.isfinite(tensor).all()):
        raise InvalidInput("the array holds NaN or infinity", where=where)
    return tensor


def trace(module: Any, inputs: tuple[Any, ...], length: Length | None = None) -> Trace:
    """Export with a symbolic batch where the module allows, else for a batch of one.

    Args:
        module: in evaluation mode, within `evaluation`.
        inputs: from `example_tensors`.
        length: which axis is the length of a sequence; then both it and the batch are symbolic.

    Raises:
        InvalidInput: the module cannot run on the example at all.
        UnsupportedOp: torch.export cannot write the module down as a graph.
    """
    title = type(module).__name__
    steps = _steps(inputs, length)
    try:
        run_module(module, inputs)
    except _FAILURES as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise InvalidInput(
            f"{title} cannot run on the example of shape {shapes}: {_first_line(error)}",
            where=user_frame(error),
            hint=_hint(inputs),
        ) from error
    try:
        return _dynamic(module, inputs, steps)
    except _FAILURES as error:
        because = _first_line(error)
        if steps is not None:
            raise UnsupportedOp(
                f"{title} does not take batches and sequences of any length: {because}",
                where=user_frame(error),
                hint="let shapes follow the input, as in x.size(1) or x.flatten(2), and convolutions keep the length, "
                "with padding='same'; or capture it for one length",
            ) from error
    try:
        return _static(module, inputs, because)
    except _FAILURES as error:
        raise UnsupportedOp(
            f"torch.export cannot write {title} down as a graph: {_first_line(error)}",
            where=user_frame(error),
            hint="a decision in Python must not depend on the numbers in a tensor: use torch.where, or move it out",
        ) from error


def _hint(inputs: tuple[Any, ...]) -> str:
    if not all(x.is_floating_point() for x in inputs):
        return "integers are passed on as they are, as ids that an embedding looks up: convert others with x.float()"
    return "the first axis of every input is the batch: (n, channels, height, width) for images"


def _steps(inputs: tuple[Any, ...], length: Length | None) -> Steps | None:
    """The axes of steps, after the example has been checked against them."""
    if length is None:
        return None
    axes = tuple(length.axes([x.dim() for x in inputs]))
    found = {int(x.shape[axis]) for x, axis in zip(inputs, axes, strict=True) if axis is not None}
    if len(found) > 1:
        raise InvalidInput(f"the inputs of the example have different lengths: {sorted(found)}")
    if max(found) > length.max:
        raise InvalidInput(f"the example has {max(found)} steps, more than the bound {length.max}")
    return Steps(length.max, axes)


def _dynamic(module: Any, inputs: tuple[Any, ...], steps: Steps | None) -> Trace:
    torch = import_torch()
    axes = steps.axes if steps else (None,) * len(inputs)
    several = _several(inputs, axes)
    shapes = torch.export.ShapesCollection()
    batch = torch.export.Dim("batch")
    length = torch.export.Dim(LENGTH, max=steps.max) if steps else None
    for x, axis in zip(several, axes, strict=True):
        shapes[x] = {0: batch} if axis is None else {0: batch, axis: length}
    with _quiet(), batch_first_attention(torch), recurrent_of_any_length(torch) if steps else nullcontext():
        program = torch.export.export(module, several, dynamic_shapes=shapes)
    if steps:
        name_recurrent(torch, program)
    made = _user_inputs(program)
    symbol = _only_symbol("batch", [val.shape[0] for val in made])
    if steps is None:
        return Trace(program, symbol, inputs, dims={symbol: BATCH})
    said = [val.shape[axis] for val, axis in zip(made, axes, strict=True) if axis is not None]
    dims = {symbol: BATCH, _only_symbol(LENGTH, said): Dim(LENGTH, steps.max)}
    if len(dims) < 2:
        raise ValueError("the batch and the length became the same number")
    return Trace(program, symbol, inputs, dims=dims, length=steps)


def _several(inputs: tuple[Any, ...], axes: Sequence[int | None]) -> tuple[Any, ...]:
    """The example with two samples or more, and two steps or more, of another number.

    torch takes a 1 for a constant, and equal extents for the same one.
    """
    batch = int(inputs[0].shape[0])
    steps = next((int(x.shape[axis]) for x, axis in zip(inputs, axes, strict=True) if axis is not None), 0)
    samples, pieces = 2 if batch == 1 else 1, 2 if steps == 1 else 1
    samples *= 2 if batch * samples == steps * pieces else 1
    made = []
    for x, axis in zip(inputs, axes, strict=True):
        counts = [1] * x.dim()
        counts[0] = samples
        if axis is not None:
            counts[axis] = pieces
        made.append(x.repeat(*counts).clone())
    return tuple(made)


def _only_symbol(what: str, extents: list[Any]) -> str:
    symbols = {_symbol(extent) for extent in extents}
    symbol = symbols.pop()
    if symbols or symbol is None:
        raise ValueError(f"the {what} became a constant")
    return symbol


def _static(module: Any, inputs: tuple[Any, ...], because: str) -> Trace:
    torch = import_torch()
    with _quiet(), batch_first_attention(torch):
        program = torch.export.export(module, tuple(x[:1].clone() for x in inputs))
    return Trace(program, None, inputs, because)


def _user_inputs(program: Any) -> list[Any]:
    names = set(program.graph_signature.user_inputs)
    return [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def _symbol(extent: Any) -> str | None:
    if isinstance(extent, int):
        return None
    expression = extent.node.expr
    return str(expression) if expression.is_Symbol else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch from printing the failure of an attempt that has another attempt, or a clear error, after it."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stderr(io.StringIO()))
        for name in ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes"):
            logger = logging.getLogger(name)
            stack.callback(setattr, logger, "disabled", logger.disabled)
            logger.disabled = True
        yield


def _first_line(error: BaseException) -> str:
    """What an exception says, without torch's advice on how to make it say more."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    lines = [line for line in lines if not line.startswith("Constraints violated")] or [type(error).__name__]
    return re.sub(r" (For more information|If you're using).*", "", lines[0])[:300]
