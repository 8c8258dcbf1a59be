"""The range whose codes keep the distribution of the values (entropy calibration).

For each candidate range, P is the histogram with what lies beyond added to its end bins, and Q is what the codes can
tell of it: the counts inside, evened out among the bins that one code covers and that are not empty. Chosen is the
range of least

    KL(P || Q) = sum over bins of p log(p / q)

(Migacz, "8-bit inference with TensorRT", 2017, slides 25 and 36.) That procedure is for magnitudes and signed codes;
here codes are asymmetric. Candidates are the ranges -t..t, cut to the smallest and the largest value. Values that are
exactly zero are left out of P and Q, as zero is a code in every range. In both, each bin that P fills has one more
value, so that a bin at an end which only holds what was cut off has a finite cost. A range that cuts off more than 1 %
is no candidate: where nearly all values lie far from zero, a range without any of them would have one full bin and no
cost.

NOTE: a range must hold at least one bin for each code, so that of a value 4096 / levels times farther out than all
others nothing can be cut off.
"""

import math

import numpy as np
from numpy.typing import NDArray

from penjing.compress.quantize.histogram import Histogram

_CANDIDATES = 256  # more of them move the end by less than 1/256 of the range
_MOST_CUT = 0.01  # of the values

_Float64 = NDArray[np.float64]


def least_divergence(seen: Histogram, levels: int) -> tuple[float, float]:
    """(low, high), low <= 0 <= high, of a histogram that is not empty."""
    scaled = [math.ldexp(value, -seen.exponent) for value in (min(seen.low, 0.0), max(seen.high, 0.0))]
    lowest, highest = scaled
    counts = seen.counts.astype(np.float64)
    if seen.low <= 0 <= seen.high:
        counts[-seen.first] -= seen.zeros
    centres = seen.first + 0.5 + np.arange(counts.size, dtype=np.float64)
    whole = max(-lowest, highest)
    best, chosen = math.inf, whole
    for end in _ends(lowest, highest, whole, levels):
        low, high = max(lowest, -end), min(highest, end)
        cost = _divergence(counts, centres, low, high, levels)
        if cost < best:
            best, chosen = cost, end
    low, high = max(lowest, -chosen), min(highest, chosen)
    return math.ldexp(low, seen.exponent), math.ldexp(high, seen.exponent)


def _ends(lowest: float, highest: float, whole: float, levels: int) -> list[float]:
    """Candidates for t, the largest first, so that it stays where nothing is better."""
    # the narrowest -t..t, cut to the values, that is `levels` bins wide
    least = max(levels / 2, levels - min(-lowest, highest))
    if least >= whole:
        return [whole]
    return [whole, *sorted({float(math.floor(t)) for t in np.linspace(least, whole, _CANDIDATES)}, reverse=True)]


def _divergence(counts: _Float64, centres: _Float64, low: float, high: float, levels: int) -> float:
    inside = np.flatnonzero((centres > low) & (centres < high))
    if not inside.size:
        return math.inf
    first, last = int(inside[0]), int(inside[-1])
    kept = counts[first : last + 1]
    if kept.sum() < (1 - _MOST_CUT) * counts.sum():
        return math.inf
    p = kept.copy()
    p[0] += counts[:first].sum()
    p[-1] += counts[last + 1 :].sum()
    level = np.minimum(((centres[first : last + 1] - low) * (levels / (high - low))).astype(np.intp), levels - 1)
    filled = p > 0
    sums = np.bincount(level, weights=kept, minlength=levels)
    sizes = np.bincount(level, weights=filled, minlength=levels)
    q = (sums / np.maximum(sizes, 1))[level][filled] + 1
    p = p[filled] + 1
    return float((p * np.log((p / p.sum()) / (q / q.sum()))).sum() / p.sum()) if p.size else 0.0
