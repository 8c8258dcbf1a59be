"""Convolution and linear layers whose weights are zero in whole blocks of 16 output channels and 4 input channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from penjing.ops.operator import Sample
from penjing.vector.packing import QUAD
from penjing.vector.sparse_cost import blocks_problem
from penjing.vector.sparse_operator import SparseOperator
from penjing.vector.sparse_packing import pack_blocks, unpack_blocks
from penjing.vector.sparse_samples import block_samples
from penjing.vector.sparse_staging import Staging


@dataclass(frozen=True)
class VSparseBlocks(SparseOperator):
    """Blocks of zeros are left out; every other block is one dot product of 16 lanes."""

    name = "v_sparse_blocks"
    vector: ClassVar[int] = QUAD
    preference: ClassVar[int] = 20

    @classmethod
    def problem_of(cls, w: np.ndarray, staging: Staging) -> str | None:
        return blocks_problem(w, staging)

    def with_lists(self, w: np.ndarray, staging: Staging) -> tuple[SparseOperator, np.ndarray]:
        return self, pack_blocks(w, staging)

    @classmethod
    def weights_of(cls, lists: np.ndarray, outputs: int, staging: Staging) -> np.ndarray:
        return unpack_blocks(lists, outputs, staging)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from block_samples(cls.take_however_slow)
