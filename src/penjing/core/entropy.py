"""What a code costs on disk, in bits, before it is stored: the model that choosing and storing codes share.

A symbol of frequency f out of 2^16 costs log2(2^16 / f) bits (Shannon, "A Mathematical Theory of Communication", 1948).
The coder of `penjing.bundle.coding` reaches that within 0.1 %; its tables are fitted to the symbols they describe, so
that counts of the symbols are what its cost follows from.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

PRECISION_BITS = 16
TOTAL = 1 << PRECISION_BITS
COST_UNIT = 4096  # of `frequency_costs`, in one bit


@cache
def frequency_costs() -> NDArray[np.int64]:
    """(TOTAL + 1,) bits * COST_UNIT of a symbol by its frequency, as integers: sums do not depend on the machine."""
    frequency = np.arange(TOTAL + 1)
    frequency[0] = 1
    costs: NDArray[np.int64] = np.rint((PRECISION_BITS - np.log2(frequency)) * COST_UNIT).astype(np.int64)
    costs.flags.writeable = False
    return costs


def counts_cost(counts: np.ndarray) -> int:
    """bits * COST_UNIT of all symbols that `counts` (n,) counts, each at its share: their empirical entropy."""
    present = counts[counts > 0].astype(np.int64)
    return int((present * frequency_costs()[np.maximum(present * TOTAL // present.sum(initial=0), 1)]).sum())


def code_bits(counts: np.ndarray) -> NDArray[np.float64]:
    """(n,) bits of each symbol, after `counts` (n,) of them; one that was never seen costs as if seen half a time.

    (Krichevsky and Trofimov, "The performance of universal encoding", 1981: the estimator of adaptive coders.)
    """
    smoothed = np.asarray(counts, np.float64) + 0.5
    bits: NDArray[np.float64] = np.log2(smoothed.sum()) - np.log2(smoothed)
    return bits
