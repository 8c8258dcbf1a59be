"""Convolution and linear layers with few weights that are not zero: in the patterns 4:16 and 2:16, or anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from penjing.ir.types import Type
from penjing.ops.operator import Param, Sample
from penjing.vector.sparse_cost import windows_problem
from penjing.vector.sparse_operator import SparseOperator
from penjing.vector.sparse_packing import pack_blocks
from penjing.vector.sparse_samples import window_samples
from penjing.vector.sparse_staging import WINDOW, Staging
from penjing.vector.sparse_windows_packing import best_windows, pack_windows, unpack_windows


@dataclass(frozen=True)
class VSparseWindows(SparseOperator):
    """Every output channel picks its own codes from windows that 16 channels share.

    `blocks_at` is where the same weights follow as blocks, for instruction sets without long picks; else 0.
    """

    name = "v_sparse_windows"
    vector: ClassVar[int] = WINDOW
    preference: ClassVar[int] = 10

    blocks_at: int = 0

    @classmethod
    def problem_of(cls, w: np.ndarray, staging: Staging) -> str | None:
        return windows_problem(w, staging)

    def with_lists(self, w: np.ndarray, staging: Staging) -> tuple[SparseOperator, np.ndarray]:
        near, windows = best_windows(w, staging)
        lists = pack_windows(windows, len(w))
        if near:
            return self, lists
        return replace(self, blocks_at=len(lists)), np.concatenate([lists, pack_blocks(w, staging)])

    @classmethod
    def weights_of(cls, lists: np.ndarray, outputs: int, staging: Staging) -> np.ndarray:
        return unpack_windows(lists, outputs, staging)

    def kernel_params(self, inputs: tuple[Type, ...], outputs: tuple[Type, ...]) -> dict[str, Param]:
        return {**super().kernel_params(inputs, outputs), "blocks_at": self.blocks_at}

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from window_samples(cls.take_however_slow)
