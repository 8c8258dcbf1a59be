"""How a convolution is cut: into bands that are computed from one stretch of staged input, and rows into tiles."""

from penjing.ops.windows import Pads, Pair

STAGED_BYTES = 20 * 1024  # with one code in a byte; what stays in a first-level cache of 32 KiB beside the weights

# In a tile of one vector of 16 channels, and of two, with 32 registers. Tiles are smaller where there are fewer.
MOST_PIXELS: Pair = (16, 12)


def cut(width: int, most: int) -> set[int]:
    """Sizes of the tiles of a row of `width` pixels, at most `most` in each: as equal as can be."""
    tiles = -(-width // most)
    small, larger = divmod(width, tiles)
    return {small, small + 1} if larger else {small}


def is_pointwise(kernel: Pair, stride: Pair, padding: Pads) -> bool:
    """Whether every output pixel needs its own input pixel only, so that rows and images may stand in one long row."""
    return kernel == stride == (1, 1) and not any(padding)


def bands(output: Pair, channels: int, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """(rows, columns) of output in a band: as many as `STAGED_BYTES` of input serve, whole rows where one fits."""
    height, width = output
    window = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    columns = (width - 1) * stride[1] + window[1]
    rows = STAGED_BYTES // (columns * channels)
    if rows >= window[0]:
        return min(height, (rows - window[0]) // stride[0] + 1), width
    columns = STAGED_BYTES // (window[0] * channels)
    return 1, min(width, max(1, (columns - window[1]) // stride[1] + 1))
