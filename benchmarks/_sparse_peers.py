"""Networks with zeros against the fastest other engine: on the dense network, and on the same zeros."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from engines.contest import Rules, finalists, race, ratio, screened
from engines.environments import SetupFailed, run_python
from engines.forms import ENGINES, EngineEntry
from engines.report import LIMITS, TITLES, rounded
from engines.subjects import Given, prepare, zoo_network
from engines.workers import Row
from penjing.vector.sparse_samples import Prune

FASTEST = 2  # peers of each kind of ends that race, as the screening is rough
Rule = Callable[[tuple[int, int]], bool]


def usable(names: list[str]) -> list[EngineEntry]:
    """The engines of these names that can be set up, and ours."""
    found = []
    for entry in ENGINES:
        if entry.folder not in (*names, "ours"):
            continue
        try:
            run_python(entry.folder)
            found.append(entry)
        except SetupFailed as error:
            print(f"{entry.title} could not be set up: {error}", flush=True)
    return found


def against_peers(
    name: str, patterns: dict[str, Prune], takes_part: Rule, entries: list[EngineEntry], rules: Rules
) -> list[dict[str, Any]]:
    """Race ours and the fastest peers, all networks in the same turns.

    Args:
        name: of the network, in the catalogue.
        patterns: title -> which weights go.
        takes_part: whether a convolution with a kernel of this size has zeros.
        entries: engines, ours among them.
        rules: of the race; the first AMX setting counts.

    Returns:
        One record for each pattern and kind of ends, see `sparse.py`.
    """
    dense = zoo_network(name)
    networks = {"dense": dense, **{title: with_zeros(dense, prune, takes_part) for title, prune in patterns.items()}}
    chosen: dict[str, list[Row]] = {}
    for title, given in networks.items():
        print(f"\n{name}, {title}: other engines", flush=True)
        makers = {entry.folder for entry in entries if entry.folder != "ours"}
        prepared = prepare(name, sorted(makers | ({"onnxruntime"} if "openvino" in makers else set())), given)
        chosen[title] = list(_fastest(finalists(screened(prepared, entries, rules))))
    race([row for rows in chosen.values() for row in rows], rules)
    return [
        record
        for title in patterns
        for ends in LIMITS
        if (record := _compared(title, ends, chosen["dense"], chosen[title]))
    ]


def with_zeros(given: Given, prune: Prune, takes_part: Rule) -> Given:
    """The network with zeros in every convolution that takes part but the first and the depthwise ones."""
    module, rng = copy.deepcopy(given.module), np.random.default_rng(0)
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d) and layer.groups == 1]
    for layer in layers[1:]:
        if not takes_part(layer.kernel_size):
            continue
        outputs, inputs, rows, columns = layer.weight.shape
        ones = np.ones((outputs, rows * columns * inputs), np.int8)
        kept = prune(rng, ones).reshape(outputs, rows, columns, inputs).transpose(0, 3, 1, 2)
        with torch.no_grad():
            layer.weight.mul_(torch.from_numpy(np.ascontiguousarray(kept)))
    return Given(module, given.calibration, given.checked, given.origin)


def _fastest(rows: list[Row]) -> Iterator[Row]:
    for ends in LIMITS:
        there = [row for row in rows if row.form.ends == ends]
        yield from (row for row in there if row.form.engine == "ours")
        peers = [row for row in there if row.form.engine != "ours"]
        yield from sorted(peers, key=lambda row: row.screened_us or np.inf)[:FASTEST]


def _compared(title: str, ends: str, dense: list[Row], zeros: list[Row]) -> dict[str, Any] | None:
    raced = {
        key: [row for row in rows if row.form.ends == ends and row.stage == "final"]
        for key, rows in (("dense", dense), ("zeros", zeros))
    }
    ours = next((row for row in raced["zeros"] if row.form.engine == "ours"), None)
    peers = {key: [row for row in rows if row.form.engine != "ours" and row.passes] for key, rows in raced.items()}
    if ours is None or not all(peers.values()):
        return None
    found: dict[str, Any] = {"form": title, "ends": ends, "ours_us": rounded(ours.median_us)}
    found["ours_passes"] = ours.passes
    for key, rows in peers.items():
        best = min(rows, key=lambda row: row.median_us)
        low, middle, high = ratio(ours, best)
        found[f"{key}_peer"] = {
            "engine": TITLES[best.form.engine],
            "form": best.form.name,
            "us": rounded(best.median_us),
            "ours_over_it": rounded(middle, 3),
            "low": rounded(low, 3),
            "high": rounded(high, 3),
        }
    return found
