"""Networks on a face of 112 pixels: 68 landmarks and the expression by dense blocks, age and gender by a small Xception
(Chollet 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sanderling_export.faces.layers import Conv, Dense, Separable, conv
from sanderling_export.faces.shards import Weights

SIZE = 112
LANDMARKS = 68
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
GENDERS = ("male", "female")
_MAIN_BLOCKS = 2


class DenseNetwork(nn.Module):  # type: ignore[misc]
    """(n, 3, 112, 112) to (n, outputs): coordinates of landmarks as shares of the square, or logits of expressions."""

    def __init__(self, weights: Weights, outputs: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DenseBlock(weights, place) for place in range(4))
        self.head = Dense(weights.take("fc/weights", 256, outputs), weights.take("fc/bias", outputs))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class DenseBlock(nn.Module):  # type: ignore[misc]
    """Four convolutions, each of which reads the sum of all before it."""

    def __init__(self, weights: Weights, place: int) -> None:
        super().__init__()
        name = f"dense{place}"
        self.first: nn.Module = (
            Separable(weights, f"{name}/conv0", stride=2) if place else conv(weights, f"{name}/conv0", stride=2)
        )
        self.rest = nn.ModuleList(Separable(weights, f"{name}/conv{number}") for number in (1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        summed = functional.relu(self.first(x))
        current = summed
        for layer in self.rest:
            summed = summed + layer(current)
            current = functional.relu(summed)
        return current


class AgeGender(nn.Module):  # type: ignore[misc]
    """(n, 3, 112, 112) to age in years (n, 1) and logits of male and female (n, 2)."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.stem = conv(weights, "entry_flow/conv_in", stride=2)
        self.entry = nn.ModuleList(Reduction(weights, f"entry_flow/reduction_block_{n}", n > 0) for n in (0, 1))
        self.middle = nn.ModuleList(Main(weights, f"middle_flow/main_block_{n}") for n in range(_MAIN_BLOCKS))
        self.exit = Reduction(weights, "exit_flow/reduction_block", True)
        self.last = Separable(weights, "exit_flow/separable_conv")
        self.age = Dense(weights.take("fc/age/weights", 512, 1), weights.take("fc/age/bias", 1))
        self.gender = Dense(weights.take("fc/gender/weights", 512, 2), weights.take("fc/gender/bias", 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu(self.stem(x))
        for block in (*self.entry, *self.middle, self.exit):
            x = block(x)
        pooled = functional.relu(self.last(x)).mean((2, 3))
        return self.age(pooled), self.gender(pooled)


class Reduction(nn.Module):  # type: ignore[misc]
    """Two separable convolutions, then half the resolution; beside them a convolution of the input."""

    def __init__(self, weights: Weights, name: str, activate: bool) -> None:
        super().__init__()
        self._activate = activate
        self.first = Separable(weights, f"{name}/separable_conv0")
        self.second = Separable(weights, f"{name}/separable_conv1")
        self.beside: Conv = conv(weights, f"{name}/expansion_conv", stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(functional.relu(self.first(functional.relu(x) if self._activate else x)))
        return functional.max_pool2d(out, 3, 2, ceil_mode=True) + self.beside(x)


class Main(nn.Module):  # type: ignore[misc]
    """Three separable convolutions, and the input added."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Separable(weights, f"{name}/separable_conv{number}") for number in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.layers:
            out = layer(functional.relu(out))
        return out + x
