"""What stands before the stream of a pack: its lanes, and name, shape, form and models of its tensors.

It is small, so a decoder of the stream in another language can leave it to this one. Every number is checked before it
is used.
"""

from dataclasses import dataclass

from penjing.bundle.coding.deflate import inflate
from penjing.bundle.coding.dtypes import DTYPES
from penjing.bundle.coding.forms import FormFault, Layout, read_form
from penjing.bundle.coding.models import Model, ModelFault, read_model
from penjing.bundle.coding.reader import Reader
from penjing.bundle.names import line_fault

MAGIC = b"PJP1"
MAX_DIMS = 8
MAX_MODELS = 128
MAX_LANES = 16384
BYTES_PER_LANE = 16384  # of tensors, at most: what a lane may bring forth bounds the time and memory of a reader
_NAMES_BYTES = 1 << 20


@dataclass(frozen=True)
class Head:
    """The head of a pack.

    Attributes:
        lanes: how many states the stream has.
        names, layouts: of each tensor.
        models: the first is that of the models' own numbers.
        end: where the stream begins.
    """

    lanes: int
    names: tuple[str, ...]
    layouts: tuple[Layout, ...]
    models: tuple[Model, ...]
    end: int


def read_head(pack: memoryview) -> Head:
    """The head of a pack whose magic was looked at.

    Raises:
        ReaderFault, FormFault, ModelFault, DeflateFault: it is none.
    """
    reader = Reader(pack, len(MAGIC))
    lanes = int.from_bytes(reader.take(2), "little")
    if not 1 <= lanes <= MAX_LANES:
        raise FormFault(f"{lanes} lanes are not between 1 and {MAX_LANES}")
    n_models = reader.byte()
    limit, layouts = lanes * BYTES_PER_LANE, []
    for _ in range(reader.varint()):
        layouts.append(_read_layout(reader))
        limit -= layouts[-1].nbytes
        if limit < 0:
            raise FormFault("its tensors are too large for its lanes")
    text = inflate(reader.take(reader.varint()), _NAMES_BYTES)
    try:
        names = tuple(text.decode().split("\n")) if layouts else ()
    except UnicodeDecodeError:
        raise FormFault("its names are not UTF-8") from None
    if len(names) != len(layouts) or len(set(names)) < len(names) or any(map(line_fault, names)):
        raise FormFault("its names are not one for each tensor, all different, each a line")
    if n_models > MAX_MODELS or (n_models > 0) != bool(layouts):
        raise ModelFault(f"{n_models} models do not fit {len(layouts)} tensors")
    models = []
    for _ in range(n_models):
        model, reader.at = read_model(reader.data, reader.at)
        models.append(model)
    return Head(lanes, names, tuple(layouts), tuple(models), reader.at)


def _read_layout(reader: Reader) -> Layout:
    kind = reader.byte()
    dtype, n_dims = DTYPES.get(kind % 16), kind // 16
    if dtype is None or n_dims > MAX_DIMS:
        raise FormFault(f"a tensor of dtype code {kind % 16} with {n_dims} dimensions")
    shape = tuple(reader.varint() for _ in range(n_dims))
    if 0 in shape:
        raise FormFault(f"a tensor of shape {shape} is empty")
    layout = Layout(shape, dtype, read_form(reader))
    layout.check()
    return layout
