"""Structured pruning (裁剪): channels leave the shapes of weights and activations, so every engine gains.

What goes together is found by `dependency_groups`, what is lost with it is said by scores (`channel_scores`), how many
go by a ratio or a budget (`channel_plan`), and what is left can make up for it (`compensate_channels`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from penjing.compress.layer_inputs import LayerInputs
from penjing.compress.prune.channel_plan import Ranked, by_global_ratio, by_macs, by_ratio, total_macs
from penjing.compress.prune.channel_scores import Scores, group_scores, magnitude_scores, removal_scores
from penjing.compress.prune.compensate_channels import compensate_channels
from penjing.compress.prune.dependency_groups import ChannelGroup, dependency_groups
from penjing.compress.prune.remove_slices import remove_slices, slices_of
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark


@dataclass(frozen=True, eq=False)
class PruneChannels(Pass):
    """Remove whole channels, with everything that makes or reads them.

    Attributes:
        ratio: at most this share of every group's channels goes; a mapping names groups, and the others stay.
        scope: of one ratio: "group", or "global" for the lowest scores of all groups together.
        macs: instead of a ratio, the share of multiply-accumulates that may be left, in (0, 1].
        round_to: groups keep a multiple of so many channels: vectors have 16 outputs, and inputs go in fours.
        scores: what channels are worth (`channel_scores`); by default removal scores where `inputs` are given, else
            magnitudes. A group without scores stays whole.
        inputs: of the layers, from `collect_layer_inputs`: those that lose inputs are then refitted to the rest.
    """

    name = "prune-channels"

    ratio: float | Mapping[str, float] | None = None
    scope: Literal["group", "global"] = "group"
    macs: float | None = None
    round_to: int = 8
    scores: Scores | None = None
    inputs: Mapping[str, LayerInputs] | None = None

    def run(self, graph: Graph) -> PassResult:
        """A smaller graph with the same inputs and outputs.

        Raises:
            PruningError: neither or both of `ratio` and `macs`, values out of range, names that are no group's, scores
                that do not fit, nothing that can go, or a budget that cannot be met.
        """
        self._check()
        found = dependency_groups(graph)
        declined = [Remark(name, f"channels stay: {reason}") for name, reason in found.frozen.items()]
        if not found.groups:
            raise PruningError("no channel can be removed", where=f"graph {graph.name}", hint=_first(declined))
        ranked = self._ranked(graph, found.groups)
        scored = {one.group.name for one in ranked}
        declined += [Remark(g.name, "channels stay: none has a score") for g in found.groups if g.name not in scored]
        counts = self._counts(graph, ranked)
        changed = []
        for one, count in zip(ranked, counts, strict=True):
            size, name = one.group.size, one.group.name
            kind = "channels" if one.group.width == 1 else f"units of {one.group.width} channels"
            if count:
                changed.append(Remark(name, f"{size} {kind}, {size - count} left"))
            else:
                declined.append(Remark(name, _reason(size, kind, one.group.step(self.round_to))))
        chosen = [(one.group, one.least(count)) for one, count in zip(ranked, counts, strict=True)]
        removed = slices_of(chosen)
        fitted = graph if self.inputs is None else compensate_channels(graph, removed, self.inputs)
        small = remove_slices(fitted, removed) if removed else graph.copy()
        share = total_macs(small) / max(total_macs(graph), 1)
        changed.append(Remark(f"graph {graph.name}", f"{100 * share:.1f} % of the multiply-accumulates are left"))
        return PassResult(small, tuple(changed) if removed else (), tuple(declined))

    def _check(self) -> None:
        if (self.ratio is None) == (self.macs is None):
            raise PruningError("channels go by a ratio or by a share of macs, one of the two")
        ratios = self.ratio.values() if isinstance(self.ratio, Mapping) else [0.0 if self.ratio is None else self.ratio]
        for ratio in ratios:
            if not 0 <= ratio < 1:
                raise PruningError(f"a pruning ratio must lie in [0, 1), not {ratio}", hint="0.5 removes half")
        if self.macs is not None and not 0 < self.macs <= 1:
            raise PruningError(f"macs is the share that may be left, in (0, 1], not {self.macs}")
        if self.round_to < 1:
            raise PruningError(f"round_to must be at least 1, not {self.round_to}")
        if self.scope == "global" and (self.ratio is None or isinstance(self.ratio, Mapping)):
            raise PruningError("a global scope takes one ratio")

    def _scores(self, graph: Graph) -> Scores:
        if self.scores is not None:
            return self.scores
        return magnitude_scores(graph) if self.inputs is None else removal_scores(graph, self.inputs)

    def _ranked(self, graph: Graph, groups: Sequence[ChannelGroup]) -> list[Ranked]:
        if isinstance(self.ratio, Mapping) and (unknown := sorted(self.ratio.keys() - {g.name for g in groups})):
            known = ", ".join(group.name for group in groups)
            raise PruningError(f"there is no group {', '.join(unknown)}", hint=f"there are {known}")
        given = self._scores(graph)
        scored = [(group, group_scores(group, given)) for group in groups]
        return [Ranked(group, scores) for group, scores in scored if scores is not None]

    def _counts(self, graph: Graph, ranked: Sequence[Ranked]) -> list[int]:
        if self.macs is not None:
            return by_macs(graph, ranked, self.macs, self.round_to)
        if isinstance(self.ratio, Mapping):
            return by_ratio(ranked, self.ratio, self.round_to)
        assert self.ratio is not None
        if self.scope == "global":
            return by_global_ratio(ranked, self.ratio, self.round_to)
        return by_ratio(ranked, dict.fromkeys((one.group.name for one in ranked), self.ratio), self.round_to)


def _reason(size: int, kind: str, step: int) -> str:
    if size <= step:
        return f"{size} {kind} are not more than one step of {step}"
    return f"all {size} {kind} stay: less than a step of {step} would go"


def _first(remarks: Sequence[Remark]) -> str | None:
    return f"{remarks[0].where}: {remarks[0].text}" if remarks else None
