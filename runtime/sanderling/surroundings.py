"""What stands before and behind each component of a manifest."""

from __future__ import annotations

from typing import Literal, TypeAlias

from sanderling.manifest import Manifest, Postprocessing
from sanderling.schema.answers import ContrastiveOutput

# The two towers of a model that joins texts and images.
TEXT_ENCODER, VISION_ENCODER = "text_encoder", "vision_encoder"

Modality: TypeAlias = Literal["text", "image", "tabular", "series", "faces", "phonemes", "audio"]


def modality(manifest: Manifest, name: str) -> Modality:
    """What a component takes: that of its name, or of a bundle of one kind of input that."""
    if name == TEXT_ENCODER and manifest.preprocessing.text is not None:
        return "text"
    if name == VISION_ENCODER and manifest.preprocessing.image is not None:
        return "image"
    if manifest.task == "visual-question-answering" and name not in (TEXT_ENCODER, VISION_ENCODER, "decoder"):
        return "image"
    if manifest.preprocessing.audio is not None:
        return "audio"
    known: tuple[Modality, ...] = ("text", "image", "tabular", "series", "faces", "phonemes")
    return next(kind for kind in known if getattr(manifest.preprocessing, kind) is not None)


def head(manifest: Manifest, name: str) -> Postprocessing:
    """What stands behind a component: the bundle's postprocessing, or of a tower its own part of it."""
    found = manifest.postprocessing
    if isinstance(found, ContrastiveOutput):
        return found.text if name == TEXT_ENCODER else found.image
    return found
