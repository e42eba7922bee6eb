"""The recognition network: a residual network of 29 layers (the shape of dlib's), a face to 128 numbers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sanderling_export.faces.layers import Conv, Dense
from sanderling_export.faces.shards import Weights

# Stages by their width, and the blocks behind each stage's first one.
_STAGES = ((32, 3), (64, 3), (128, 2), (256, 2))


class Recognition(nn.Module):  # type: ignore[misc]
    """(n, 3, 150, 150) to embeddings (n, 128), which are not normalized."""

    size = 150

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.stem = _scaled(weights, "conv32_down", stride=2, same=False)
        blocks: list[nn.Module] = []
        for width, count in _STAGES:
            if width > _STAGES[0][0]:
                blocks.append(Shrink(weights, f"conv{width}_down"))
            blocks += [Residual(weights, f"conv{width}_{place}") for place in range(1, count + 1)]
        blocks.append(Shrink(weights, "conv256_down_out"))
        self.blocks = nn.Sequential(*blocks)
        self.head = Dense(weights.take("fc", 256, 128), None)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2)
        return self.head(self.blocks(x).mean((2, 3)))


class Residual(nn.Module):  # type: ignore[misc]
    """Two convolutions, and the input added."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.first = _scaled(weights, f"{name}/conv1")
        self.second = _scaled(weights, f"{name}/conv2")

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(functional.relu(self.first(x))) + x)


class Shrink(nn.Module):  # type: ignore[misc]
    """A block at half the resolution: the input is averaged, and padded with channels of zeros where it has too few."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.first = _scaled(weights, f"{name}/conv1", stride=2, same=False)
        self.second = _scaled(weights, f"{name}/conv2")

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(functional.relu(self.first(x)))
        pooled = functional.avg_pool2d(x, 2)
        short = pooled.shape[2] - out.shape[2]
        if short:
            out = functional.pad(out, (0, short, 0, short))
        missing = out.shape[1] - pooled.shape[1]
        if missing:
            pooled = functional.pad(pooled, (0, 0, 0, 0, 0, missing))
        return functional.relu(pooled + out)


def _scaled(weights: Weights, name: str, *, stride: int = 1, same: bool = True) -> Conv:
    """A convolution with the scale of each output channel, which stands behind it, folded in."""
    scale = weights.take(f"{name}/scale/weights", 0)
    bias = weights.take(f"{name}/conv/bias", 0) * scale + weights.take(f"{name}/scale/biases", 0)
    return Conv(weights.take(f"{name}/conv/filters", 0, 0, 0, 0) * scale, bias, stride=stride, same=same)
