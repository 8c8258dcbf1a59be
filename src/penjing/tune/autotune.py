"""Measure how each distinct convolution of a program is best cut on this machine."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from penjing.core.digests import digest_bytes
from penjing.core.errors import InvalidInput
from penjing.core.targets import Target, host_target
from penjing.ir.graph import Graph, Node
from penjing.toolchain.compilers import find_compiler
from penjing.tune.cache import Measured, TileCache, cpu_model
from penjing.tune.candidates import bands, sizes
from penjing.tune.layers import LayerTimer, kernel_sources, wanted_isa
from penjing.vector.conv2d import VConv2d
from penjing.vector.specialise import specialise
from penjing.vector.tiles import Tile, tile_fault, tile_of, tiled_nodes

_ROUNDS = 15
_TRIALS, _TRIAL_ROUNDS = 3, 25  # a cut must win each trial
_GAIN = 0.97  # of the rule's time: what is closer may be noise
# Numbers that a kernel computes with, but that do not change how long it takes.
_TIMELESS = ("x_zero", "y_zero", "qmin", "qmax", "residual_zero", "residual_scale", "band_h", "band_w", "pixels")


@dataclass(frozen=True)
class TunedLayer:
    """One convolution: the rule's cut, the one to take, the time of both in microseconds, and whether it was known."""

    name: str
    shape: str
    rule: Tile
    tile: Tile
    rule_us: float
    tile_us: float
    cached: bool


def check_tunable(target: Target) -> None:
    """Raise InvalidInput for a target whose layers cannot be measured here, or have nothing to choose from."""
    if target != host_target():
        raise InvalidInput(
            f"tiles are measured on the machine that runs them; {target.name} is another",
            hint=f"tune on such a machine, and build with --tiles and the tray made there; here: {host_target().name}",
        )
    if not target.isas:
        raise InvalidInput(
            f"{target.name} has no SIMD kernels, so there are no tiles to choose",
            hint="build without tuning",
        )


def autotune(program: Graph, target: Target, progress: Callable[[int, int], None]) -> list[TunedLayer]:
    """The best cut of every convolution of a lowered program.

    What is measured is kept after each layer, so an interruption loses one layer at most. Equal layers are
    measured once.

    Args:
        program: from `lower`.
        target: this machine's.
        progress: called with the number of layers done, and of all.

    Raises:
        InvalidInput: see `check_tunable`; or PENJING_ISA names what there is not.
        ToolchainError: there is no compiler.
    """
    check_tunable(target)
    cache = TileCache(_circumstances(target))
    specialised = specialise(program, target)
    nodes, tuned = tiled_nodes(specialised), []
    timer: LayerTimer | None = None
    for done, (name, node) in enumerate(nodes.items()):
        progress(done, len(nodes))
        layer = _layer(specialised, node)
        known = cache.get(layer)
        measured = known if known and tile_fault(specialised, node, known.tile) is None else None
        if measured is None:
            timer = timer or LayerTimer(target)
            measured = _measure(timer, specialised, node)
            cache.put(layer, measured)
        tuned.append(_tuned(specialised, name, node, measured, cached=measured is known))
    progress(len(nodes), len(nodes))
    return tuned


def _measure(timer: LayerTimer, program: Graph, node: Node) -> Measured:
    assert isinstance(node.op, VConv2d)
    rule = tile_of(node.op)
    size = _fastest(timer, program, node, sizes(program, node)) if timer.vectors > 1 else rule
    best = _fastest(timer, program, node, bands(program, node, size))
    trials = [timer.best_us(program, node, [rule, best], _TRIAL_ROUNDS) for _ in range(_TRIALS)]
    rule_us, best_us = (min(times) for times in zip(*trials, strict=True))
    wins = best != rule and all(so < _GAIN * by_rule for by_rule, so in trials)
    return Measured(best, rule_us, best_us) if wins else Measured(rule, rule_us, rule_us)


def _fastest(timer: LayerTimer, program: Graph, node: Node, tiles: list[Tile]) -> Tile:
    """The first wins where others are hardly faster."""
    times = timer.best_us(program, node, tiles, _ROUNDS)
    best = min(range(len(tiles)), key=times.__getitem__)
    return tiles[best] if times[best] < 0.5 * (1 + _GAIN) * times[0] else tiles[0]


def _circumstances(target: Target) -> dict[str, str]:
    sources = kernel_sources(target)
    text = "".join(f"{name}\n{sources[name]}\n" for name in sorted(sources))
    return {
        "cpu": cpu_model(),
        "isa": wanted_isa(target),
        "kernel": digest_bytes(text.encode()),
        "compiler": find_compiler(target).identity,
    }


def _layer(program: Graph, node: Node) -> str:
    """What a layer's time depends on, with the rule's cut, which bounds the others."""
    assert isinstance(node.op, VConv2d)
    params = node.op.kernel_params(program.input_types(node), program.output_types(node))
    kept = {key: value for key, value in params.items() if key not in _TIMELESS}
    return json.dumps({**kept, "rule": tile_of(node.op)}, separators=(",", ":"))


def _tuned(program: Graph, name: str, node: Node, measured: Measured, *, cached: bool) -> TunedLayer:
    assert isinstance(node.op, VConv2d)
    _, height, width, channels = program.input_types(node)[0].bounds
    kernel, stride = "x".join(map(str, node.op.kernel)), "x".join(map(str, node.op.stride))
    shape = f"{height}x{width}x{channels} to {node.op.channels}, {kernel}, stride {stride}"
    times = measured.rule_us, measured.tile_us
    return TunedLayer(name, shape, tile_of(node.op), measured.tile, *times, cached)
