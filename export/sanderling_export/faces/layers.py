"""Layers with TensorFlow's padding and TensorFlow's weights, in torch's order of dimensions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sanderling_export.faces.shards import Weights


def padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """`x` (n, c, h, w) with TensorFlow's "same" padding: what is odd of it goes to the right and below."""
    sides = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return functional.pad(x, sides) if any(sides) else x


class Conv(nn.Module):  # type: ignore[misc]
    """A convolution; `filters` (h, w, in, out), or depthwise (h, w, channels, 1)."""

    def __init__(
        self,
        filters: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        *,
        stride: int = 1,
        same: bool = True,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        order = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        weight = torch.from_numpy(np.ascontiguousarray(filters.transpose(order)))
        self._kernel, self._stride, self._same = filters.shape[0], stride, same
        self.conv = nn.Conv2d(
            weight.shape[1] * (len(weight) if depthwise else 1),
            len(weight),
            self._kernel,
            stride,
            groups=len(weight) if depthwise else 1,
            bias=bias is not None,
        )
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            self.conv.bias = nn.Parameter(torch.from_numpy(bias.copy()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(padded(x, self._kernel, self._stride) if self._same else x)


class Separable(nn.Module):  # type: ignore[misc]
    """A depthwise convolution of 3 x 3, then a pointwise one with a bias."""

    def __init__(self, weights: Weights, name: str, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = Conv(weights.take(f"{name}/depthwise_filter", 3, 3, 0, 1), None, stride=stride, depthwise=True)
        self.pointwise = Conv(weights.take(f"{name}/pointwise_filter", 1, 1, 0, 0), weights.take(f"{name}/bias", 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Dense(nn.Module):  # type: ignore[misc]
    """A matrix (in, out) and, where there is one, a bias."""

    def __init__(self, weights: NDArray[np.float32], bias: NDArray[np.float32] | None) -> None:
        super().__init__()
        self.linear = nn.Linear(*weights.shape, bias=bias is not None)
        self.linear.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(weights.T)), requires_grad=False)
        if bias is not None:
            self.linear.bias = nn.Parameter(torch.from_numpy(bias.copy()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def conv(weights: Weights, name: str, *, stride: int = 1, same: bool = True) -> Conv:
    """The convolution whose tensors are `name`/filters and `name`/bias."""
    return Conv(weights.take(f"{name}/filters", 0, 0, 0, 0), weights.take(f"{name}/bias", 0), stride=stride, same=same)
