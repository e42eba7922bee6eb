"""Face detectors: SSD on MobileNet v1 (Liu et al. 2016, Howard et al. 2017), and a tiny one after YOLO v2.

Each network gives logits (n, boxes) and encodings (n, boxes, 4); its decoder makes of them scores and boxes (left, top,
right, bottom) as shares of the padded square's side. The two are apart so that boxes keep their floats where the
network is quantized.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sanderling_export.faces.layers import Conv, Separable, conv
from sanderling_export.faces.shards import Weights

# Of the batch normalization behind the depthwise convolutions.
_EPSILON = 0.0010000000474974513
_STRIDES = {2: 2, 4: 2, 6: 2, 12: 2}
# Constants of the original graph that say how it was built.
_CONSTANTS = ("Prediction/BoxPredictor_0/st", "Prediction/BoxPredictor_1/st", "Prediction/BoxPredictor_2/st",
              "Prediction/BoxPredictor_3/st", "Prediction/BoxPredictor_4/st", "Prediction/BoxPredictor_5/st",
              "Postprocessor/", "Preprocessor/", "concat_1/")  # fmt: skip
_HEADS = 6
_LEAK = 0.10000000149011612
# Width and height of the tiny detector's five boxes, in cells.
ANCHORS = ((1.603231, 2.094468), (6.041143, 7.080126), (2.882459, 3.518061), (4.266906, 5.178857), (9.041765, 10.66308))


class SsdMobilenet(nn.Module):  # type: ignore[misc]
    """(n, 3, 512, 512) in [-1, 1] to logits (n, 5118) and encodings (n, 5118, 4)."""

    size = 512

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.stem = _pointwise(weights, "MobilenetV1", 0, 2)
        self.depthwise = nn.ModuleList(_depthwise(weights, place) for place in range(1, 14))
        self.pointwise = nn.ModuleList(_pointwise(weights, "MobilenetV1", place, 1) for place in range(1, 14))
        self.extra = nn.ModuleList(_pointwise(weights, "Prediction", place, 1 + place % 2) for place in range(8))
        self.encoders = nn.ModuleList(_predictor(weights, place, "BoxEncodingPredictor") for place in range(_HEADS))
        self.classifiers = nn.ModuleList(_predictor(weights, place, "ClassPredictor") for place in range(_HEADS))
        self.decoder: nn.Module = SsdDecoder(weights)
        weights.drop(_CONSTANTS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _six(self.stem(x))
        seen = []
        for place, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise, strict=True), 1):
            x = _six(pointwise(_six(depthwise(x))))
            if place in (11, 13):
                seen.append(x)
        for place, layer in enumerate(self.extra):
            x = _six(layer(x))
            if place % 2:
                seen.append(x)
        # Of the three classes the first is the background, and the second a face.
        logits = [_rows(head(x), 3)[:, :, 1] for head, x in zip(self.classifiers, seen, strict=True)]
        encodings = [_rows(head(x), 4) for head, x in zip(self.encoders, seen, strict=True)]
        return torch.cat(logits, 1), torch.cat(encodings, 1)


class SsdDecoder(nn.Module):  # type: ignore[misc]
    """Encodings against the prior boxes: centres move by a tenth of the prior's side, sides by a factor exp(e / 5)."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        top, left, bottom, right = weights.take("Output/extra_dim", 1, 0, 4)[0].T
        priors = np.stack([left + (right - left) / 2, top + (bottom - top) / 2, right - left, bottom - top], 1)
        self.register_buffer("priors", torch.from_numpy(priors.astype(np.float32)))

    def forward(self, logits: Tensor, encodings: Tensor) -> tuple[Tensor, Tensor]:
        x, y, width, height = self.priors.unbind(1)
        down, across, tall, wide = encodings.unbind(2)
        centre_x, centre_y = across / 10 * width + x, down / 10 * height + y
        half_width, half_height = torch.exp(wide / 5) * width / 2, torch.exp(tall / 5) * height / 2
        return torch.sigmoid(logits), _boxes(centre_x, centre_y, half_width, half_height)


class TinyDetector(nn.Module):  # type: ignore[misc]
    """(n, 3, 416, 416) to logits (n, 845) and encodings (n, 845, 4): five boxes in each of 13 x 13 cells."""

    size = 416

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.stem = conv(weights, "conv0", same=False)
        self.layers = nn.ModuleList(Separable(weights, f"conv{place}") for place in range(1, 6))
        self.head = conv(weights, "conv8")
        self.decoder: nn.Module = TinyDecoder(self.size // 32)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _leaky(self.stem(x))
        for layer in self.layers:
            x = _leaky(layer(functional.max_pool2d(x, 2, ceil_mode=True)))
        # A window of 2 that moves by 1: at the right and below it sees one row less, or the same one twice.
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1)
        rows = _rows(self.head(x), 5)
        return rows[:, :, 4], rows[:, :, :4]


class TinyDecoder(nn.Module):  # type: ignore[misc]
    """Encodings of cells: the centre lies within its cell, the sides are the anchor's times exp(e)."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        row, column, anchor = np.meshgrid(*(np.arange(n) for n in (cells, cells, len(ANCHORS))), indexing="ij")
        sides = np.array(ANCHORS)[anchor.ravel()]
        places = np.stack([column.ravel(), row.ravel(), sides[:, 0] / 2, sides[:, 1] / 2], 1)
        self._cells = cells
        self.register_buffer("places", torch.from_numpy(places.astype(np.float32)))

    def forward(self, logits: Tensor, encodings: Tensor) -> tuple[Tensor, Tensor]:
        column, row, half_width, half_height = self.places.unbind(1)
        across, down, wide, tall = encodings.unbind(2)
        found = _boxes(
            torch.sigmoid(across) + column,
            torch.sigmoid(down) + row,
            torch.exp(wide) * half_width,
            torch.exp(tall) * half_height,
        )
        return torch.sigmoid(logits), found / self._cells


def _boxes(x: Tensor, y: Tensor, half_width: Tensor, half_height: Tensor) -> Tensor:
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], 2)


def _rows(x: Tensor, width: int) -> Tensor:
    """(n, anchors * width, h, w) to (n, h * w * anchors, width)."""
    n, channels, height, across = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, height * across * (channels // width), width)


def _six(x: Tensor) -> Tensor:
    return torch.clamp(x, 0, 6)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _LEAK)


def _pointwise(weights: Weights, prefix: str, place: int, stride: int) -> Conv:
    name = f"{prefix}/Conv2d_{place}_pointwise"
    return Conv(
        weights.take(f"{name}/weights", 0, 0, 0, 0), weights.take(f"{name}/convolution_bn_offset", 0), stride=stride
    )


def _depthwise(weights: Weights, place: int) -> Conv:
    """The depthwise convolution with the batch normalization behind it folded in."""
    name = f"MobilenetV1/Conv2d_{place}_depthwise"
    norm = {
        part: weights.take(f"{name}/BatchNorm/{part}", 0).astype(np.float64)
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    factor = norm["gamma"] / np.sqrt(norm["moving_variance"] + _EPSILON)
    filters = weights.take(f"{name}/depthwise_weights", 3, 3, 0, 1) * factor[:, None]
    bias = norm["beta"] - norm["moving_mean"] * factor
    return Conv(filters.astype(np.float32), bias.astype(np.float32), stride=_STRIDES.get(place, 1), depthwise=True)


def _predictor(weights: Weights, place: int, kind: str) -> Conv:
    name = f"Prediction/BoxPredictor_{place}/{kind}"
    return Conv(weights.take(f"{name}/weights", 1, 1, 0, 0), weights.take(f"{name}/biases", 0))
