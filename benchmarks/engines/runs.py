"""What a run of `models.py` has so far: kept after each network, gone on with later, joined with an older file."""

import hashlib
import json
from pathlib import Path
from typing import Any

from engines.environments import engines_folder
from penjing.core.files import write_atomically

Results = dict[str, list[dict[str, Any]]]
BY_MODEL = ("models", "forms", "best")


class Unfinished:
    """The results of a run that may be cut short, in the cache folder.

    They are gone on with only by a run of the same settings at the same revision.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings`: all that decides what is measured, but not which networks."""
        text = json.dumps(settings, sort_keys=True)
        self._file = engines_folder() / f"unfinished-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"

    def read(self) -> Results:
        """What is there; empty lists where nothing is."""
        if not self._file.is_file():
            return {key: [] for key in BY_MODEL}
        found: Results = json.loads(self._file.read_text(encoding="utf-8"))
        return found

    def write(self, results: Results) -> None:
        """Keep what there is now."""
        write_atomically(self._file, json.dumps({key: results[key] for key in BY_MODEL}).encode(), force=True)

    def forget(self) -> None:
        """The run is done, or a new one begins."""
        self._file.unlink(missing_ok=True)


def mergeable(path: Path, held: str) -> dict[str, Any]:
    """The results of an older file, for `merged`.

    Args:
        path: of the file; where there is none, there are no results.
        held: how the engines of the new run are held to an instruction set.

    Raises:
        SystemExit: the engines of the older file were held otherwise.
    """
    if not path.is_file():
        return {}
    older: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["results"]
    if older.get("held", "") != held:
        raise SystemExit(f"{path}: engines were held otherwise there ({older.get('held') or 'not at all'})")
    return older


def merged(older: dict[str, Any], new: dict[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """Results with some networks measured anew.

    Args:
        older: what `mergeable` gave.
        new: the results that win.
        order: of networks.

    Returns:
        All of `new`, and of `older` the other networks and engines.
    """
    if not older:
        return new
    engines = {engine["engine"]: engine for engine in (*older["engines"], *new["engines"])}
    measured = {model["model"] for model in new["models"]}
    joined = {
        key: sorted(
            [*new[key], *(item for item in older[key] if item["model"] not in measured)],
            key=lambda item: order.index(item["model"]),
        )
        for key in BY_MODEL
    }
    return {**new, **joined, "engines": list(engines.values())}
