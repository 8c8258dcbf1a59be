"""Where narrow weights pay: what decoding costs, against bytes that need not be waited for.

Time of a narrow kernel over that of v_linear on the same layer at batch 1; weights not in the first level of the cache
(Emerald Rapids, 2 MiB in the second level; low quantile of 200 interleaved repeats, GMAC/s of v_linear for scale):

    K x O                64 x 64  256 x 64  128 x 128  256 x 128  640 x 128  1024 x 1024  4096 x 4096
    AVX-512, v_linear         94       120        117        125        127          110           24
    int4                    1.13      1.05       0.73       0.70       0.65         0.59         0.52
    codebook, 4 bits        1.20      1.11       0.97       0.96       0.92         0.85         0.55
    codebook, 2 bits        1.14      1.06       0.89       0.89       0.85         0.75         0.32
    AVX2, v_linear            42        53         52         53         55           50           21
    int4                    1.00      1.00       1.00       0.95       0.95         0.90         0.79
    codebook, 4 bits        1.40      1.44       1.43       1.43       1.40         1.33         0.72
    codebook, 2 bits        1.45      1.50       1.48       1.48       1.42         1.33         0.68

One library serves both instruction sets, so the geometric mean of both decides, and a narrow form at equal speed is
taken: it needs fewer bytes. Up to 64 channels there are too few independent sums; below 8 KiB the start of a layer
counts for more than its weights. Several rows share each weight that v_linear reads: with 3 rows narrow kernels need
1.4 to 2.3 times its time, unless the weights come from beyond the second level, where they gain up to 3 rows.
"""

from penjing.vector.linear_packing import NARROW
from penjing.vector.packing import LANES, round_up

LEAST_BYTES = 2**13
BEYOND_BYTES = 2**21
SHARED_ROWS = 3
_TIME = {"int4": (0.82, 0.64), "codebook, 4 bits": (1.15, 0.63), "codebook, 2 bits": (1.12, 0.47)}  # (within, beyond)
_SLOWER = 1.05


def is_beyond(features: int, channels: int) -> bool:
    """Whether weights of 8 bits are more than the second level of a cache holds."""
    return features * channels >= BEYOND_BYTES


def narrow_problem(form: str, rows: int, features: int, channels: int) -> str | None:
    """Why v_linear is faster than `form` on a layer; None when it is not."""
    beyond = is_beyond(features, channels)
    if rows > (SHARED_ROWS if beyond else 1):
        return f"its {rows} rows share each weight of 8 bits, and would have to decode it one by one"
    if features * channels < LEAST_BYTES or channels <= NARROW:
        return f"a layer of {features} x {channels} does not wait for its weights, and would for their decoding"
    filled = round_up(channels, NARROW) / round_up(channels, LANES)
    time = _TIME[form][beyond] * filled
    if time > _SLOWER:
        return f"a layer of {features} x {channels} takes {time:.2f} times the time of int8 with {form}"
    return None
