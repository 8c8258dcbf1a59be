"""The inputs of an ONNX model: of floats or ids, for any batch, of one shape or for sequences of any length, or fixed.

A library runs one sequence of its own length, so that nothing is padded. An input that only says what is padding is
therefore fixed: a number fills it. Extents of the same name are the same, so that each has to be said once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from penjing.core.errors import InvalidInput
from penjing.core.length import Length
from penjing.core.onnx_package import import_onnx
from penjing.frontends.onnx.model import Fill
from penjing.frontends.onnx.tensors import HALVES, elements, type_name
from penjing.ir.types import LENGTH, Dim, Extent, Shape, bounds
from penjing.ops.onnx_call import BATCH

Shapes = Mapping[str, Sequence[int]]

_IDS = ("INT64", "INT32")
_FLOATS = ("FLOAT", "DOUBLE", *HALVES)
FIX_HINT = "where it only says what is padding, fix it: --fix {name}=1, or fixed={{{name!r}: 1}} in Python"


@dataclass
class Inputs:
    """What the user says of the inputs, and what they are.

    Attributes:
        shapes: input name -> shape without the batch, for inputs of which the file leaves extents open.
        length: which axis of the inputs that are not fixed is the length of a sequence.
        fixed: input name -> the number that it is full of.
        batch: the one batch size that the model is written for; None when it takes any.
        samples: input that is not fixed -> shape of one sample.
        fills: inputs that are fixed.
        ids: inputs of integers that are not fixed.
        half: whether one has fewer than 32 bits.
    """

    shapes: Shapes
    length: Length | None
    fixed: Mapping[str, float]
    batch: int | None = None
    samples: dict[str, Shape] = field(default_factory=dict)
    fills: dict[str, Fill] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    half: bool = False
    named: dict[str, Extent] = field(default_factory=dict)

    @property
    def longest(self) -> int | None:
        """The longest sequence."""
        return None if self.length is None else self.length.max

    def read(self, values: Sequence[Any]) -> None:
        """Take the inputs of a graph, in their order.

        Raises:
            InvalidInput: one that cannot be an input, extents that are open or do not fit, or names that are not there.
        """
        by_name = {value.name: value for value in values}
        self._check_names([value.name for value in values])
        free = [name for name in by_name if name not in self.fixed]
        if not free:
            raise InvalidInput("the model has no input" + (" that is not fixed" if by_name else ""))
        dims = {name: self._dims(value) for name, value in by_name.items()}
        axes: Sequence[int | None] = [None] * len(free)
        if self.length is not None:
            axes = self.length.axes([len(dims[name]) for name in free])
        self.batch = _batch(dims.values())
        for name, axis in zip(free, axes, strict=True):
            self._check_kind(by_name[name])
            self.samples[name] = self._sample(name, dims[name][1:], axis, ())
        first = self.samples[free[0]]
        for name in self.fixed:
            # what describes an input has its shape, whatever the exporter has called its axes
            like = first if len(first) == len(dims[name]) - 1 else ()
            shape = (BATCH, *self._sample(name, dims[name][1:], None, like))
            self.fills[name] = Fill(shape, _filled(name, by_name[name], self.fixed[name]))

    def _check_names(self, names: list[str]) -> None:
        for name in names:
            if not name or names.count(name) > 1:
                raise InvalidInput(f"the input {name!r} occurs twice, or has no name")
        for name in sorted({*self.shapes, *self.fixed}):
            if name not in names:
                raise InvalidInput(f"the model has no input {name!r}; it has {', '.join(names)}")

    def _dims(self, value: Any) -> list[Any]:
        kind = value.type.WhichOneof("value")
        where = f"input {value.name}"
        if kind != "tensor_type":
            raise InvalidInput(f"an input of {kind}; floats are supported, and ids of {' or '.join(_IDS)}", where=where)
        tensor = value.type.tensor_type
        if not tensor.HasField("shape") or not tensor.shape.dim:
            raise InvalidInput("an input without axes has no batch", where=where, hint="axis 0 is the batch")
        return list(tensor.shape.dim)

    def _check_kind(self, value: Any) -> None:
        kind = type_name(value.type.tensor_type.elem_type)
        if kind not in (*_FLOATS, *_IDS):
            raise InvalidInput(
                f"an input of {kind}; floats are supported, and ids of {' or '.join(_IDS)}",
                where=f"input {value.name}",
                hint=FIX_HINT.format(name=value.name) if kind == "BOOL" else None,
            )
        if kind in _IDS:
            self.ids.add(value.name)
        self.half |= kind in HALVES

    def _sample(self, name: str, dims: Sequence[Any], steps: int | None, like: Shape) -> Shape:
        """The shape of one sample, whose axis `steps` (batch included) is the length, and that may be like another."""
        where = f"input {name}"
        given = self.shapes.get(name)
        if given is not None and len(given) != len(dims):
            raise InvalidInput(f"it has {len(dims)} axes besides the batch, not {len(given)}", where=where)
        shape: list[Extent] = []
        for axis, dim in enumerate(dims):
            own = int(dim.dim_value) if dim.HasField("dim_value") else None
            wanted: Extent | None = int(given[axis]) if given is not None else None
            if axis + 1 == steps:
                wanted = self._steps(own, wanted, axis + 1, where)
            label = dim.dim_param if isinstance(dim.dim_param, str) else ""
            if own is None and wanted is None:
                wanted = self.named.get(label, like[axis] if axis < len(like) else None)
            if own is None and wanted is None:
                raise InvalidInput(
                    f"the extent of axis {axis + 1} is open ({label or 'unnamed'})",
                    where=where,
                    hint="say it: --input-shape 3x224x224, or shapes={...} in Python; "
                    "1..128 for sequences of any length, or length=Length(128); only the batch may stay open",
                )
            if own is not None and wanted is not None and wanted != own:
                raise InvalidInput(f"axis {axis + 1} is {own}, not {wanted}", where=where)
            extent = own if own is not None else wanted
            assert extent is not None
            if label:
                self.named.setdefault(label, extent)
            shape.append(extent)
        found = tuple(shape)
        if min(bounds(found), default=1) < 1:
            raise InvalidInput(f"a shape of {found} holds no numbers", where=where)
        elements(bounds(found), where)
        return found

    def _steps(self, own: int | None, wanted: Extent | None, axis: int, where: str) -> Extent:
        assert self.length is not None
        if own is not None:
            hint = "export the model with this axis in dynamic_axes, or import it for this length"
            raise InvalidInput(
                f"axis {axis} is always {own}, where a length of up to {self.length.max} was asked for",
                where=where,
                hint=hint,
            )
        if wanted not in (None, self.length.max):
            raise InvalidInput(f"axis {axis} is {wanted}, and the bound of the length {self.length.max}", where=where)
        return Dim(LENGTH, self.length.max)


def _batch(dims: Any) -> int | None:
    """The fixed batch, if any."""
    batches = {int(first.dim_value) for first, *_ in dims if first.HasField("dim_value")}
    if len(batches) > 1 or min(batches, default=1) < 1:
        raise InvalidInput(f"its inputs have batches of {sorted(batches)}", hint="axis 0 of every input is the batch")
    return batches.pop() if batches else None


def _filled(name: str, value: Any, number: float) -> np.generic:
    """The number in the input's own element type."""
    kind = value.type.tensor_type.elem_type
    try:
        dtype = import_onnx("onnx.helper").tensor_dtype_to_np_dtype(kind)
        with np.errstate(all="ignore"):
            made = np.asarray(number, np.float64).astype(dtype)[()]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{number!r} cannot fill it: {type_name(kind)}", where=f"input {name}") from error
    whole = np.dtype(dtype).kind in "iub"
    if not isinstance(made, np.generic) or not np.isfinite(number) or (whole and float(made) != number):
        raise InvalidInput(f"{number!r} is no number of {type_name(kind)}", where=f"input {name}")
    return made
