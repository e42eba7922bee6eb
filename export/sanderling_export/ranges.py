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

# Entropy tries every threshold from 64 bins on: more bins take the square of the time, 128 would be one threshold.
_BINS: dict[Method, int] = {"percentile": 2048, "entropy": 512}
_ENTROPY_LEVELS = 128


class Ranges:
    """Collects values of tensors, feed by feed, and gives the range of each.

    `percentile` is the share of values, in percent, that lie inside the range: the rest is cut at both ends alike.
    Ranges hold zero, which padding and quantized zeros need exactly.
    """

    def __init__(self, method: Method, percentile: float) -> None:
        self._method = method
        self._ends: dict[str, tuple[float, float]] = {}
        self._histograms = HistogramCollector(
            method=method,
            symmetric=False,
            num_bins=_BINS.get(method, 0),
            num_quantized_bins=_ENTROPY_LEVELS,
            percentile=percentile,
            scenario="same",
        )

    def add(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take in float32 values of any shape, by tensor. Raises ExportError for values that are not finite."""
        for name, value in values.items():
            if not value.size:
                continue
            low, high = float(value.min()), float(value.max())
            if not np.isfinite([low, high]).all():
                raise ExportError(
                    f"The tensor {name!r} is not finite on a calibration sample (from {low:g} to {high:g}), so it has "
                    "no range. Leave the sample out of --data, or the static variant out of --variants."
                )
            before = self._ends.get(name, (0.0, 0.0))
            self._ends[name] = min(before[0], low), max(before[1], high)
        if self._method != "min-max":
            self._histograms.collect({name: value for name, value in values.items() if value.size})

    def found(self) -> dict[str, tuple[float, float]]:
        """Low and high of each tensor that was seen; low <= 0 <= high."""
        if self._method == "min-max" or not self._ends:
            return dict(self._ends)
        # A tensor of zeros has a histogram of no width, which no threshold divides.
        flat = [name for name, ends in self._ends.items() if ends == (0.0, 0.0)]
        for name in flat:
            self._histograms.histogram_dict.pop(name, None)
        cut = self._histograms.compute_collection_result() if len(flat) < len(self._ends) else {}
        found = {name: (min(0.0, float(ends[0])), max(0.0, float(ends[1]))) for name, ends in cut.items()}
        return self._ends | found
