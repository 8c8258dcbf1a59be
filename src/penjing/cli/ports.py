"""What the command line says of a model's input and output: normalisation and labels."""

import math
from pathlib import Path

from penjing.api import Port
from penjing.cli.arrays import require_file
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph


def described_port(known: Port, mean: str | None, std: str | None, shape: tuple[int, ...]) -> Port:
    """The port with `mean` and `std` as given on the command line, one number per channel or one for all.

    Args:
        known: what the model itself says.
        mean: '0.485,0.456,0.406', or None for what is known.
        std: likewise.
        shape: of one sample, channels first.

    Raises:
        InvalidInput: no numbers, another count, or a deviation that is not above 0.
    """
    means = known.mean if mean is None else _numbers("--mean", mean, shape[0])
    deviations = known.std if std is None else _numbers("--std", std, shape[0])
    if std is not None and min(deviations or ()) <= 0:
        raise InvalidInput(f"a deviation must be above 0, not {std}", where="--std")
    color = known.color
    if color is None and len(shape) == 3:
        color = "rgb" if shape[0] == 3 else "gray" if shape[0] == 1 else None
    return Port(means, deviations, known.value_range, color)


def read_labels(path: Path | None) -> tuple[str, ...] | None:
    """The lines of a text file; None without a file.

    Raises:
        InvalidInput: no such file, not UTF-8, or nothing in it.
    """
    if path is None:
        return None
    require_file(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no UTF-8 text: {error.reason}", where=str(path)) from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise InvalidInput(f"{path} has no labels", where=str(path), hint="write one label per line")
    return labels


def check_labels(labels: tuple[str, ...] | None, graph: Graph) -> None:
    """Raise InvalidInput unless there is one label for each entry of some dimension of the first output."""
    if labels is None:
        return
    shape = graph.types[graph.outputs[0]].bounds[1:]
    if len(labels) not in shape:
        raise InvalidInput(
            f"there are {len(labels)} labels, and the model's output is {'x'.join(map(str, shape))}",
            where="--labels",
            hint="give one label for each class, one per line",
        )


def _numbers(option: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput(f"{text!r} is no list of numbers", where=option, hint="write 0.485,0.456,0.406") from None
    if not all(math.isfinite(value) for value in values):
        raise InvalidInput(f"{text!r} holds NaN or infinity", where=option)
    if len(values) not in (1, channels):
        raise InvalidInput(f"{len(values)} numbers for {channels} channels", where=option, hint="give one per channel")
    return values if len(values) == channels else values * channels
