"""What a layer sees of calibration data, summed up: its mean, and how its inputs go together."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Moments:
    """The mean (..., k) and the covariance (..., k, k) of rows (..., n, k) that come in parts; leading axes are apart.

    Sums are float64; the `products` of one part's rows may be taken in float32, in half the time.
    """

    def __init__(self, products: DTypeLike = np.float64) -> None:
        self._type = products
        self._count = 0
        self._sum: NDArray[np.float64] = np.zeros(())
        self._products: NDArray[np.float64] = np.zeros(())

    def add(self, rows: NDArray[np.float32]) -> None:
        """Count rows (..., n, k) in."""
        self._count += rows.shape[-2]
        self._sum = self._sum + rows.sum(axis=-2, dtype=np.float64)
        factors = rows.astype(self._type, copy=False)
        self._products = self._products + np.swapaxes(factors, -1, -2) @ factors

    @property
    def mean(self) -> NDArray[np.float64]:
        """(..., k), float64."""
        return np.asarray(self._sum / self._count)

    @property
    def scatter(self) -> NDArray[np.float64]:
        """(..., k, k), float64: the covariance times the count of rows."""
        return np.asarray(self._products - self._sum[..., :, None] * self._sum[..., None, :] / self._count)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(..., k, k), float64."""
        return self.scatter / self._count
