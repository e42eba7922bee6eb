"""The range of an activation over calibration data: min-max, percentile or entropy, by ONNX Runtime's own histograms.

A range is found from values that were seen; who observes them leaves masked positions out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from sanderling.errors import ExportError

Method = Literal["min-max", "percentile", "entropy"]

# Share of values inside the range, in percent, where the method is "percentile" and nothing else is said.
PERCENTILE = 99.99
# Entropy tries every threshold from 64 bins on: more bins take the square of the time, 128 would be one threshold.
_BINS: dict[Method, int] = {"percentile": 2048, "entropy": 512}
_ENTROPY_LEVELS = 128


class Ranges:
    """Collects values of tensors, feed by feed, and gives the range of each.

    `ends` are the lowest and highest value of each tensor, known beforehand: a histogram that grows with what it meets
    has no bound. `percentile` is the share of values, in percent, that lie inside the range; the rest is cut at both
    ends alike. Ranges hold zero, which padding and quantized zeros need exactly.
    """

    def __init__(self, method: Method, percentile: float, ends: Mapping[str, tuple[float, float]]) -> None:
        self._ends = {name: (min(0.0, low), max(0.0, high)) for name, (low, high) in ends.items()}
        for name, (low, high) in self._ends.items():
            if not np.isfinite([low, high]).all():
                raise ExportError(
                    f"The tensor {name!r} is not finite on a calibration sample (from {low:g} to {high:g}), so it has "
                    "no range. Leave the sample out of --data, or the static variant out of --variants."
                )
        self._histograms: HistogramCollector | None = None
        if method != "min-max":
            self._histograms = HistogramCollector(
                method=method,
                symmetric=False,
                num_bins=_BINS[method],
                num_quantized_bins=_ENTROPY_LEVELS,
                percentile=percentile,
                scenario="same",
            )
            # A tensor of zeros alone has a histogram of no width, which no threshold divides.
            self._histograms.histogram_dict = {
                name: _empty(low, high, _BINS[method]) for name, (low, high) in self._ends.items() if low < high
            }

    def add(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take in float32 values of any shape, by tensor; min-max knows all it needs."""
        if self._histograms is not None:
            known = self._histograms.histogram_dict
            self._histograms.collect({name: value for name, value in values.items() if name in known and value.size})

    def found(self) -> dict[str, tuple[float, float]]:
        """Low and high of each tensor; low <= 0 <= high."""
        if self._histograms is None or not self._histograms.histogram_dict:
            return dict(self._ends)
        cut = self._histograms.compute_collection_result()
        return self._ends | {name: (min(0.0, float(ends[0])), max(0.0, float(ends[1]))) for name, ends in cut.items()}


def _empty(
    low: float, high: float, bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], np.float32, np.float32, np.float32]:
    """A histogram of the collector's kind that holds nothing yet, symmetric about zero."""
    threshold = np.float32(max(-low, high))
    edges = np.linspace(-threshold, threshold, bins + 1, dtype=np.float32)
    return np.zeros(bins, np.int64), edges, np.float32(low), np.float32(high), threshold
