"""ViLT's classifier over answers as one graph, for pictures of any size.

transformers shuffles a picture's patches and masks those that fill up a batch. A picture that is run by itself has none
to mask, and the order of patches changes nothing but the order of sums: here all of them are taken as they lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch

from sanderling.decode.names import INPUT_IDS
from sanderling_export import graphs
from sanderling_export.generation.decoders import LOGITS, OPSET, PIXELS, stated


class ViltClassifier(torch.nn.Module):  # type: ignore[misc]
    """Logits (batch, answers) of questions (batch, tokens) about pictures (batch, 3, height, width)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vilt = model.vilt
        self.classifier = model.classifier
        config = model.config
        side = int(config.image_size) // int(config.patch_size)
        positions = model.vilt.embeddings.position_embeddings.detach()
        self.register_buffer("first", positions[:, :1])
        self.register_buffer("grid", positions[:, 1:].transpose(1, 2).reshape(1, -1, side, side))

    def forward(self, pixel_values: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        embeddings = self.vilt.embeddings
        kinds = embeddings.token_type_embeddings.weight
        text = embeddings.text_embeddings(input_ids=input_ids) + kinds[0]
        patches = embeddings.patch_embeddings(pixel_values)
        places = torch.nn.functional.interpolate(
            self.grid, size=(patches.shape[2], patches.shape[3]), mode="bilinear", align_corners=True
        )
        seen = (patches + places).flatten(2).transpose(1, 2)
        whole = (embeddings.cls_token + self.first).expand(seen.shape[0], -1, -1)
        seen = torch.cat([whole, seen], dim=1) + kinds[1]
        states = self.vilt.encoder(torch.cat([text, seen], dim=1)).last_hidden_state
        logits: torch.Tensor = self.classifier(self.vilt.pooler(self.vilt.layernorm(states)))
        return logits


def to_onnx(model: Any, folder: Path) -> onnx.ModelProto:
    """The graph of a ViltForQuestionAnswering, constants folded; scratch files go to `folder`."""
    size, patch = int(model.config.image_size), int(model.config.patch_size)
    path = folder / "vilt.onnx"
    torch.onnx.export(
        ViltClassifier(model).eval(),
        (torch.zeros(2, 3, size, size + patch), torch.ones(2, 5, dtype=torch.int64)),
        str(path),
        input_names=[PIXELS, INPUT_IDS],
        output_names=[LOGITS],
        dynamic_axes={
            PIXELS: {0: "batch", 2: "height", 3: "width"},
            INPUT_IDS: {0: "batch", 1: "tokens"},
            LOGITS: {0: "batch"},
        },
        opset_version=OPSET,
        dynamo=False,
    )
    return stated(graphs.clean(path, folder / "vilt-clean.onnx"), {LOGITS: ("batch", int(model.num_labels))})
