"""The forms that `pruned_resnets.py` can give a network: what each removes, and how.

n-of-m:0.25            N:M zeros, n chosen for each layer by its error, a quarter of the weights left on average over
                       multiply-accumulates; in one shot with compensation (`choose_n`, `PruneObs`)
blocks:0.2             blocks of 16 x 4, one in five left, likewise
gradual-n-of-m:0.07    the same patterns, with masks that tighten over the first half of the training
gradual-blocks:0.2     likewise
channels:0.44          the residual block of least effect goes (`RemoveBlocks`), then channels until this share of the
                       multiply-accumulates is left (`PruneChannels`)
channels-only:0.5      channels alone
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.prune.channel_plan import total_macs
from penjing.compress.prune.choose_n import choose_n, n_of_m_errors
from penjing.compress.prune.gradual import masks_by_density
from penjing.compress.prune.pattern_layers import pattern_layers
from penjing.compress.prune.patterns import Blocks, NOfM, Pattern
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.compress.prune.prune_obs import PruneObs
from penjing.compress.structure.remove_blocks import RemoveBlocks
from penjing.compress.structure.residual_blocks import block_effects
from penjing.ir.graph import Graph
from penjing.ir.passes import Remark, run_passes
from penjing.ops.layers import float_weights
from penjing.train.batch_norm import reestimate_batch_norm
from penjing.train.gradual_pruning import GradualPruning

KINDS = ("n-of-m", "blocks", "gradual-n-of-m", "gradual-blocks", "channels", "channels-only")
CHANNELS_TOGETHER = 8
TIGHTENING, EVERY = 0.5, 100  # the share of a training in which masks tighten, and steps between two


@dataclass(frozen=True)
class Form:
    """What is left of a network."""

    kind: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.share:g}"

    @classmethod
    def parse(cls, text: str) -> "Form":
        """From its name, as above."""
        kind, _, share = text.partition(":")
        if kind not in KINDS:
            raise SystemExit(f"there is no form {text!r}: choose of {', '.join(KINDS)}, with a share: n-of-m:0.25")
        return cls(kind, float(share))

    @property
    def is_gradual(self) -> bool:
        """Whether the network is pruned while it is trained."""
        return self.kind.startswith("gradual")


def pruned(form: Form, given: Graph, batches: list[np.ndarray]) -> Graph:
    """`given` in a form that is made in one shot; `batches` are normalised images that statistics come from."""
    if form.kind.startswith("channels"):
        return _without_channels(form, given, batches)
    inputs = collect_layer_inputs(given, batches)
    graph, (log,) = run_passes(given, [PruneObs(inputs, per_layer=_patterns(given, inputs, form))])
    _tell(log.changed)
    return graph


def pruning(form: Form, given: Graph, batches: list[np.ndarray]) -> GradualPruning:
    """What prunes `given` on the way, for a form that is gradual."""
    patterns = _patterns(given, collect_layer_inputs(given, batches), form)
    views = {name: layer.view for name, layer in pattern_layers(given).items()}
    masks = masks_by_density(patterns, 1 - form.share, views)
    return GradualPruning(masks, 1 - form.share, end=TIGHTENING, every=EVERY)


def layers(graph: Graph) -> dict[str, dict[str, Any]]:
    """Shapes of all weights, and the shares that are not zero."""
    weights = {name: graph.constants[name].array for name in float_weights(graph)}
    return {name: {"shape": w.shape, "kept": round(np.count_nonzero(w) / w.size, 4)} for name, w in weights.items()}


def _patterns(graph: Graph, inputs: Mapping[str, LayerInputs], form: Form) -> dict[str, Pattern]:
    layers = {name: layer for name, layer in pattern_layers(graph).items() if layer.reason is None}
    if form.kind.endswith("blocks"):
        return {name: Blocks(1 - form.share) for name in layers}
    errors = n_of_m_errors(graph, inputs)
    chosen = choose_n(errors, {name: layer.macs for name, layer in layers.items()}, form.share)
    return {name: NOfM(n) for name, n in chosen.items()}


def _without_channels(form: Form, given: Graph, batches: list[np.ndarray]) -> Graph:
    """Batch norms are measured anew after each step."""
    fewer = given
    if form.kind == "channels":
        fewer, (log,) = run_passes(given, [RemoveBlocks(block_effects(given, batches), 1)])
        _tell(log.changed)
        fewer = reestimate_batch_norm(fewer, batches)
    share = min(1.0, form.share * total_macs(given) / total_macs(fewer))
    prune = PruneChannels(macs=share, round_to=CHANNELS_TOGETHER, inputs=collect_layer_inputs(fewer, batches))
    small, (log,) = run_passes(fewer, [prune])
    _tell(log.changed)
    return reestimate_batch_norm(small, batches)


def _tell(remarks: Iterable[Remark]) -> None:
    for remark in remarks:
        print(f"{remark.where}: {remark.text}", flush=True)
