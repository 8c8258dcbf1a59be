"""What was measured on this machine, kept between builds: one JSON file for each processor, kernel and compiler.

The file may vanish or be damaged at any time. Then layers are measured again, and a warning says so.
"""

import json
import math
import platform
import warnings
from pathlib import Path
from typing import NamedTuple

from penjing.core import knobs
from penjing.core.digests import digest_bytes
from penjing.core.errors import WriteFailed
from penjing.core.files import write_atomically
from penjing.vector.tiles import Tile

_MOST_BYTES = 4 * 1024 * 1024
_NUMBERS = len(Tile._fields)


class Measured(NamedTuple):
    """The best cut of a layer, its time, and that of the rule's cut."""

    tile: Tile
    rule_us: float
    tile_us: float


class TileCache:
    """Layers that were measured in circumstances that `about` describes, by what they are."""

    def __init__(self, about: dict[str, str]) -> None:
        self._about = about
        self._path: Path | None = None
        self._layers: dict[str, Measured] = {}
        text = json.dumps(about, sort_keys=True)
        try:
            self._path = knobs.cache_dir() / f"tiles-{digest_bytes(text.encode())[:16]}.json"
            if self._path.exists():
                self._layers = _read(self._path, about)
        except (OSError, ValueError) as error:
            where = self._path or knobs.CACHE.text()
            _warn(f"the measured tiles in {where} cannot be read ({error}); layers are measured again")

    def get(self, layer: str) -> Measured | None:
        """What was measured for it, if anything."""
        return self._layers.get(layer)

    def put(self, layer: str, measured: Measured) -> None:
        """Keep it, in the file as well."""
        self._layers[layer] = measured
        document = {"about": self._about, "layers": {key: _plain(one) for key, one in sorted(self._layers.items())}}
        if self._path is None:
            return
        try:
            write_atomically(self._path, json.dumps(document, indent=1).encode(), force=True)
        except WriteFailed as error:
            self._path = None
            _warn(f"measured tiles are not kept: {error.what}")


def cpu_model() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _read(path: Path, about: dict[str, str]) -> dict[str, Measured]:
    """Raises ValueError for anything but what `put` writes."""
    with path.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict) or document.get("about") != about or not isinstance(document.get("layers"), dict):
        raise ValueError("it is no record of this machine's tiles")
    return {key: _measured(value) for key, value in document["layers"].items()}


def _measured(value: object) -> Measured:
    if not (isinstance(value, list) and len(value) == _NUMBERS + 2):
        raise ValueError("a layer has other values than a tile and two times")
    tile, times = value[:_NUMBERS], value[_NUMBERS:]
    if not all(type(number) is int for number in tile):
        raise ValueError("a tile is no list of integers")
    if not all(type(us) is float and math.isfinite(us) and us > 0 for us in times):
        raise ValueError("a time is no positive number")
    return Measured(Tile(*tile), *times)


def _plain(measured: Measured) -> list[float]:
    return [*measured.tile, measured.rule_us, measured.tile_us]


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)
