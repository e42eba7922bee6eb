"""Depthwise weights to 8 bits: each channel's kernel by itself, each tap's error made up for by the taps still to come.

As `rounding` does it for products of matrices (after GPTQ, Frantar et al. 2022), with what a tap sees at the borders
counted as the zeros it is: in the small maps of the later layers, most places are at a border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PEAK = 127
_DAMPING = 0.01


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution reads its input: the extents of its kernel, its steps, and (top, left, bottom, right) zeros."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    def patches(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the taps see of images (n, channels, height, width): (channels, places, taps)."""
        top, left, bottom, right = self.pads
        padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
        views = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, axis=(2, 3))
        seen = views[:, :, :: self.strides[0], :: self.strides[1]]
        channels, taps = images.shape[1], self.kernel[0] * self.kernel[1]
        return np.moveaxis(seen, 1, 0).reshape(channels, -1, taps)


def rounded(
    weight: NDArray[np.float32], covariance: NDArray[np.float64]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The int8 weights (channels, taps) and a scale for each channel (channels,), float32.

    The covariance, not the raw moments: an error of the mean is taken back by the bias.
    """
    channels, taps = weight.shape
    usual = np.trace(covariance, axis1=1, axis2=2) / taps
    damping = np.maximum(_DAMPING * usual, 1e-12)
    damped = covariance + np.eye(taps) * damping[:, None, None]
    spreading = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    peaks = np.abs(weight).max(axis=1) / _PEAK
    scales = np.where(peaks > 0, peaks, 1).astype(np.float32)
    left = weight.astype(np.float64)
    found = np.zeros((channels, taps), np.int8)
    for tap in range(taps):
        found[:, tap] = np.clip(np.rint(left[:, tap] / scales), -_PEAK, _PEAK)
        error = (left[:, tap] - found[:, tap] * scales) / spreading[:, tap, tap]
        left[:, tap + 1 :] -= spreading[:, tap, tap + 1 :] * error[:, None]
    return found, scales


def window(
    kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int]
) -> Window | None:
    """The window of a convolution's attributes, in ONNX's order; None where it is not one over height and width."""
    if len(kernel) != 2 or any(step != 1 for step in dilations):
        return None
    return Window((kernel[0], kernel[1]), (strides[0], strides[1]), (pads[0], pads[1], pads[2], pads[3]))
