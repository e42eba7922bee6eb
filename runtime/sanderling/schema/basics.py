"""The words of the manifest: paths, names, numbers, and the choices that fields have."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

# Relative POSIX path of portable segments: no empty, hidden or dot-dot segment, no final dot (Windows drops it), no
# drive, no backslash. `\Z` and not `$`, which matches before a final newline as well.
_SEGMENT = "[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_-])?"
BundlePath = Annotated[
    str,
    Meta(pattern=rf"^{_SEGMENT}(/{_SEGMENT})*\Z", max_length=240),
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\Z", max_length=120)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Level = Annotated[int, Meta(ge=0, le=255)]
Side = Literal["left", "right"]
Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Dtype = Literal[
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "float64",
    "uint16",
    "string",
]
Task = Literal[
    "feature-extraction",
    "text-classification",
    "image-classification",
    "image-feature-extraction",
    "text-ranking",
    "tabular-regression",
    "tabular-classification",
    "time-series-forecasting",
    "face-recognition",
    "zero-shot-image-classification",
    "text-generation",
    "image-to-text",
    "visual-question-answering",
    "text-to-speech",
    "automatic-speech-recognition",
    "audio-classification",
]
Decode = Literal["exact", "fast"]
Window = Literal["full", "short"]
Family = Literal["general", "embedding", "multimodal"]
