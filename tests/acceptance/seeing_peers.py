"""The models that see in transformers, as their users call them: files in, vectors or captions out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Seeing:
    """A checkpoint in one precision with its processor, numpy's (`use_fast=False`) unless torchvision is asked for."""

    def __init__(self, folder: Path, dtype: str) -> None:
        import torch
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, BlipForConditionalGeneration

        self._torch = torch
        self._dtype = getattr(torch, dtype)
        kind = BlipForConditionalGeneration if AutoConfig.from_pretrained(folder).model_type == "blip" else AutoModel
        self.model = kind.from_pretrained(folder, dtype=self._dtype).eval()
        self._processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def images(self, files: Sequence[Path]) -> Any:
        """The vectors of pictures."""
        with self._torch.inference_mode():
            return self.model.get_image_features(pixel_values=self._pixels(files)).float().numpy()

    def captions(self, files: Sequence[Path], tokens: int) -> list[str]:
        """Greedy captions of exactly so many new tokens."""
        with self._torch.inference_mode():
            found = self.model.generate(
                pixel_values=self._pixels(files), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
                num_beams=1,
            )  # fmt: skip
        said: list[str] = self._tokenizer.batch_decode(found, skip_special_tokens=True)
        return said

    def first_token(self, file: Path) -> float:
        """Seconds until the first token of a caption is known."""
        begun = time.perf_counter()
        self.captions([file], 1)
        return time.perf_counter() - begun

    def _pixels(self, files: Sequence[Path]) -> Any:
        from PIL import Image

        pictures = [Image.open(file).convert("RGB") for file in files]
        return self._processor(images=pictures, return_tensors="pt")["pixel_values"].to(self._dtype)
