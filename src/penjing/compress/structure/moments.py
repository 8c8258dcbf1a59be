"""Mean and covariance of what a layer reads, and what a change of the layer costs by them.

For y = W x + b and y~ = W~ x + b~, with D = W - W~, d = b - b~, mean m and covariance C of x:

    E |y - y~|^2 = tr(D C D^T) + |D m + d|^2

which d = -D m, a bias moved by what the mean of the outputs would move, brings down to its first term. Errors are given
relative to the deviation of y from its mean, sqrt(E |y - y~|^2 / tr(W C W^T)): 0 is the layer itself, 1 what a constant
in its place would cost. Without samples x counts as white: C = 1, m = 0, and the error is that of the weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penjing.compress.layer_inputs import LayerInputs
from penjing.core.errors import CalibrationError

_Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """covariance (groups, k, k) and mean (groups, k)."""

    covariance: _Float64
    mean: _Float64

    @staticmethod
    def white(groups: int, k: int) -> "Moments":
        """Of inputs of which nothing is known."""
        return Moments(np.broadcast_to(np.eye(k), (groups, k, k)), np.zeros((groups, k)))

    @staticmethod
    def of(seen: LayerInputs, groups: int, k: int, name: str) -> "Moments":
        """Of the samples that `seen` sums up.

        Raises:
            CalibrationError: they are those of a layer of another shape, or not finite.
        """
        if seen.gram.shape != (groups, k, k) or seen.mean.shape != (groups, k):
            raise CalibrationError(
                f"sums of shape {seen.gram.shape} for a layer that reads {groups} x {k} values",
                where=name,
                hint="collect the layer's inputs on this very graph",
            )
        if not (np.isfinite(seen.gram).all() and np.isfinite(seen.mean).all()):
            raise CalibrationError("NaN or infinity in the sums over a layer's inputs", where=name)
        return Moments(seen.gram - seen.mean[:, :, None] * seen.mean[:, None, :], seen.mean)

    def relative_error(self, rows: _Float64, changed: _Float64) -> float:
        """Of `changed` in the place of `rows`, both (groups, O / groups, k), when the bias makes good for the mean."""
        return float(
            np.sqrt(max(0.0, _energy(rows - changed, self.covariance)) / _or_one(_energy(rows, self.covariance)))
        )


def _energy(rows: _Float64, covariance: _Float64) -> float:
    return float(np.sum((rows @ covariance) * rows))


def _or_one(energy: float) -> float:
    return energy if energy > 0 else 1.0
