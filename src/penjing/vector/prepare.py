"""What a library is built from and handed: the program as its target runs it, memory plan, packed weights."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from penjing.core.digests import digest_bytes
from penjing.core.targets import Target
from penjing.ir.graph import Graph
from penjing.program.plan import Plan, plan
from penjing.program.weights import pack_weights
from penjing.vector.specialise import specialise
from penjing.vector.tiles import Tiles, with_tiles


@dataclass(frozen=True, eq=False)
class Prepared:
    """A program ready for one target. The same program and target give the same bytes, here and on the device."""

    program: Graph
    plan: Plan
    target: Target
    threads: int = 1

    @cached_property
    def weights(self) -> np.ndarray:
        """u8[plan.weights_bytes] at an aligned address, as the library reads them."""
        return pack_weights(self.program, self.plan)

    @property
    def digest(self) -> str:
        """SHA-256 of `weights`."""
        return digest_bytes(self.weights.data)


def prepare(program: Graph, target: Target, threads: int = 1, tiles: Tiles | None = None) -> Prepared:
    """Specialise a lowered program for `target` and plan its memory, for up to `threads` threads in one call.

    `tiles` cut some of its layers in another way than by the rule, which changes neither plan nor weights.

    Raises:
        InvalidInput: tiles that do not fit the program.
    """
    specialised = specialise(program, target)
    return Prepared(with_tiles(specialised, tiles or {}), plan(specialised, threads), target, threads)
