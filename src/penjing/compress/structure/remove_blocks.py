"""Fewer layers (层数减少): the residual blocks that do least lose their branch, and only their shortcut is left.

    y = shortcut + branch   ->   y = shortcut,   least effect first,   effect = ||branch|| / ||shortcut||

or any measure handed in, such as the accuracy lost without the block.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from penjing.compress.structure.residual_blocks import ResidualBlock, residual_blocks
from penjing.core.errors import PruningError
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult, Remark


@dataclass(frozen=True)
class RemoveBlocks(Pass):
    """Remove the branches of `count` residual blocks.

    Attributes:
        effects: name of a block (its sum) -> how much it does, as `block_effects` measures; blocks not named stay.
        count: how many go.
    """

    name = "remove-blocks"

    effects: Mapping[str, float]
    count: int = 1

    def run(self, graph: Graph) -> PassResult:
        """A graph of fewer nodes with the same inputs and outputs.

        Raises:
            PruningError: effects of what is no block, or that are no numbers; more blocks wanted than there are.
        """
        blocks, reasons = residual_blocks(graph)
        known = {block.output: block for block in blocks}
        self._check(known, reasons)
        order = sorted(self.effects, key=lambda name: (self.effects[name], list(known).index(name)))
        graph = graph.copy()
        for name in order[: self.count]:
            _remove(graph, known[name].output)
        graph.drop_unused_constants()
        left = set(order[self.count :])
        changed = tuple(Remark(n, f"branch removed, effect {self.effects[n]:.4g}") for n in order[: self.count])
        declined = [Remark(name, f"kept: {reason}") for name, reason in reasons.items()]
        declined += [Remark(n, f"kept, effect {self.effects[n]:.4g}") for n in known if n in left]
        declined += [Remark(n, "kept: no effect is given") for n in known if n not in self.effects]
        return PassResult(graph, changed, tuple(declined))

    def _check(self, known: Mapping[str, ResidualBlock], reasons: Mapping[str, str]) -> None:
        for name, effect in self.effects.items():
            if name not in known:
                raise PruningError(
                    f"%{name} is no residual block: {reasons.get(name, 'it is no sum')}",
                    hint=f"there are {', '.join(known) or 'none'}",
                )
            if not math.isfinite(effect):
                raise PruningError(f"an effect is a finite number, not {effect}", where=name)
        if not 0 <= self.count <= len(self.effects):
            raise PruningError(f"{self.count} blocks cannot go of the {len(self.effects)} that have an effect")


def _remove(graph: Graph, output: str) -> None:
    # looked up anew: another block that went may have given this one another shortcut
    block = next(block for block in residual_blocks(graph)[0] if block.output == output)
    sum_ = graph.producers()[output]
    graph.replace_value(output, block.shortcut)
    gone = {id(sum_), *map(id, block.nodes)}
    graph.remove_nodes([node for node in graph.nodes if id(node) in gone])
