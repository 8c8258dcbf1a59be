"""ResNet-20 with most weights zero, in a pattern that kernels run, and int8: accuracy and speed against its dense int8.

The given network is pruned in one shot with compensation (`PruneObs`): N:M with n chosen for each layer by its error
(`choose_n`), or blocks of 16 x 4. Then it is trained for a few epochs with its masks held, to classify and to agree
with the given network, and measured as a compiled library.

The dense network gets the same training, as a baseline (--no-baseline leaves it out). An interrupted run goes on from
its checkpoint in PENJING_CACHE; --stop-after 1 ends after each epoch with exit status 75, so that others get a turn:

    until python benchmarks/compression/resnet20_n_of_m.py --stop-after 1; do :; done

Writes docs/results/compression/resnet20_n_of_m.json. An epoch takes 2 minutes of one core with bfloat16 products.
"""

import argparse
from collections.abc import Mapping

from _resnet20 import Smaller, Work, run

from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.prune.choose_n import choose_n, n_of_m_errors
from penjing.compress.prune.pattern_layers import pattern_layers
from penjing.compress.prune.patterns import Blocks, NOfM, Pattern
from penjing.compress.prune.prune_obs import PruneObs
from penjing.ir.graph import Graph
from penjing.ir.passes import run_passes


def options(found: argparse.ArgumentParser) -> None:
    """What this script adds."""
    found.add_argument("--form", choices=("n-of-m", "blocks"), default="n-of-m", help="the pattern of zeros")
    found.add_argument("--density", type=float, default=0.25, help="of weights that stay, on average over MACs")


def pruned(work: Work) -> Smaller:
    """The given network with zeros."""
    form, density = work.options.form, work.options.density
    inputs = collect_layer_inputs(work.given, work.calibration())
    patterns = _patterns(work.given, inputs, form, density)
    graph, (log,) = run_passes(work.given, [PruneObs(inputs, per_layer=patterns)])
    for remark in log.changed:
        print(f"{remark.where}: {remark.text}")
    named = {name: str(pattern) for name, pattern in patterns.items()}
    return Smaller(graph, f"{form}-{density}", {"form": form, "density": density, "patterns": named})


def _patterns(graph: Graph, inputs: Mapping[str, LayerInputs], form: str, density: float) -> dict[str, Pattern]:
    layers = {name: layer for name, layer in pattern_layers(graph).items() if layer.reason is None}
    if form == "blocks":
        return {name: Blocks(1 - density) for name in layers}
    errors = n_of_m_errors(graph, inputs)
    chosen = choose_n(errors, {name: layer.macs for name, layer in layers.items()}, density)
    return {name: NOfM(n) for name, n in chosen.items()}


if __name__ == "__main__":
    run("compression/resnet20_n_of_m", __doc__, options, pruned)
