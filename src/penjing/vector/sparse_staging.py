"""Where the codes of a window lie from an output pixel's first code on: the distances that sparse lists are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penjing.ops.operator import Param
from penjing.ops.windows import Pads, Pair
from penjing.vector.bands import bands, is_pointwise
from penjing.vector.packing import QUAD

WINDOW = 64  # codes in a window: as many may be read behind the staged ones


@dataclass(frozen=True)
class Staging:
    """Input (N, H, W, C), output pixels, window, and the band of output that one stretch of staged input serves.

    A kernel reads `vector` codes at once, the last ones so that they end where the window ends: it never reads beyond
    its input, unless that is staged, with room behind.
    """

    n: int
    size: Pair
    channels: int
    output: Pair
    kernel: Pair
    stride: Pair
    padding: Pads
    dilation: Pair
    band: Pair
    vector: int

    @classmethod
    def of(
        cls, x: tuple[int, ...], output: Pair, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair, vector: int
    ) -> Staging:
        """For x (N, H, W, C). Pixels that see one input pixel each, all of them, become one long row."""
        n, *size, channels = x
        if is_pointwise(kernel, stride, padding):
            pixels = n * size[0] * size[1]
            n, size, output = 1, [1, pixels], (1, pixels)
        # long vectors serve from the second-level cache as well: they are read once for several products
        staged = channels if vector == QUAD else -(-channels // 4)
        band = bands(output, staged, kernel, stride, dilation)
        return cls(n, (size[0], size[1]), channels, output, kernel, stride, padding, dilation, band, vector)

    @property
    def reach(self) -> Pair:
        """Rows and columns of input that a window covers."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def fill(self) -> bool:
        """Whether input has to be staged: for its border, or as kernels would read beyond it."""
        codes = (self.reach[0] - 1) * self.size[1] * self.channels + self.length
        return any(self.padding) or codes < self.vector

    @property
    def pitch(self) -> int:
        """Codes from row to row."""
        columns = (self.band[1] - 1) * self.stride[1] + self.reach[1]
        return (columns if self.fill else self.size[1]) * self.channels

    @property
    def distances(self) -> np.ndarray:
        """int64 (KH * KW * C), ascending: from the first code of a pixel to each code of its window."""
        rows = np.arange(self.kernel[0]) * self.dilation[0] * self.pitch
        columns = np.arange(self.kernel[1]) * self.dilation[1] * self.channels
        return (rows[:, None, None] + columns[:, None] + np.arange(self.channels)).reshape(-1)

    @property
    def length(self) -> int:
        """Codes of one row of a window, those between taps included."""
        return self.reach[1] * self.channels

    @property
    def end(self) -> int:
        """Distance of the end of a window."""
        return (self.reach[0] - 1) * self.pitch + self.length

    @property
    def staged_codes(self) -> int:
        """Codes that a band stages at most, with what a kernel may read behind them."""
        rows = (self.band[0] - 1) * self.stride[0] + self.reach[0]
        columns = (self.band[1] - 1) * self.stride[1] + self.reach[1]
        return (rows - 1) * self.pitch + columns * self.channels + WINDOW

    def kernel_params(self, outputs: int) -> dict[str, Param]:
        """The first fields of a sparse kernel's struct."""
        return {
            **{"n": self.n, "ih": self.size[0], "iw": self.size[1], "ic": self.channels},
            **{"oh": self.output[0], "ow": self.output[1], "oc": outputs},
            **{"reach_h": self.reach[0], "reach_w": self.reach[1]},
            **{"stride_h": self.stride[0], "stride_w": self.stride[1]},
            **{"pad_top": self.padding[0], "pad_left": self.padding[1]},
            **{"band_h": self.band[0], "band_w": self.band[1], "pitch": self.pitch, "fill": int(self.fill)},
        }
