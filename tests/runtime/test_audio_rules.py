"""Manifests of models that hear with a single graph: what contradicts itself is refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sanderling import codec
from sanderling.errors import ManifestError
from sanderling.manifest import GoldenFiles, Manifest, Postprocessing, Preprocessing, Provenance
from sanderling.schema.answers import ClassificationOutput, CtcOutput
from sanderling.schema.preprocessing import TextPreprocessing
from sanderling.schema.sounds import AudioPreprocessing, Filterbank, LogMel, Waveform
from sanderling.schema.variants import Component, FileEntry, Form, TensorSpec, Tolerance, Variant
from sanderling.schema.vectors import EmbeddingOutput

WAVE = Waveform(400)
BANDS = Filterbank(400, 160, 512, 128, 1024)
CTC = CtcOutput("logits", ("", "a", "|"), 0, 320, 400, delimiter=2)
CLASSES = ClassificationOutput("logits", "softmax", ("rain", "wind"))
VECTORS = EmbeddingOutput("logits", "mean", False, 8)


def manifest(head: Postprocessing, features: Any = WAVE, shape: Any = ("batch", "samples"), **more: Any) -> Manifest:
    """A bundle's of one graph, whose task follows from what stands behind it."""
    task, family = "audio-classification", "general"
    if isinstance(head, CtcOutput):
        task, family = "automatic-speech-recognition", "multimodal"
    if isinstance(head, EmbeddingOutput):
        task, family = "feature-extraction", "embedding"
    component = Component(
        (TensorSpec("input_values", "float32", shape),),
        (TensorSpec("logits", "float32", ("batch", 2)),),
        {"fp32": Variant({"padded": Form("model.onnx")}, Tolerance(0.9))},
    )
    files = {name: FileEntry(1, "0" * 64) for name in ("model.onnx", "samples.json", "tensors.safetensors")}
    made = Manifest(
        "sanderling-bundle", "1.0", "hearing", family, task, "fp32", {"model": component},  # type: ignore[arg-type]
        Preprocessing(audio=AudioPreprocessing(16_000, features)), head,
        GoldenFiles("samples.json", "tensors.safetensors"), Provenance("here", "0" * 64, "unknown"), files,
        "1" * 64 if isinstance(head, EmbeddingOutput) else None,
    )  # fmt: skip
    return replace(made, **more)


def read(made: Manifest) -> Manifest:
    return codec.decode(codec.encode(made), "here")


@pytest.mark.parametrize("head", [CTC, CLASSES, VECTORS], ids=["ctc", "classes", "vectors"])
def test_what_holds_together_is_read(head: Postprocessing) -> None:
    made = manifest(head)
    assert read(made) == made


def test_bands_are_of_the_size_that_is_stated() -> None:
    made = manifest(CLASSES, BANDS, ("batch", 1024, 128))
    assert read(made) == made
    with pytest.raises(ManifestError, match=r"float32 of the shape \(any, 1024, 128\)"):
        read(manifest(CLASSES, BANDS, ("batch", 1000, 128)))
    with pytest.raises(ManifestError, match=r"float32 of the shape \(any, any\)"):
        read(manifest(CLASSES, WAVE, ("batch", 1024, 128)))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (manifest(replace(CTC, blank=3)), "blank is 3, but there are 3 tokens"),
        (manifest(replace(CTC, delimiter=7)), "delimiter is 7"),
        (manifest(replace(CTC, delimiter=0)), "blank and delimiter are two"),
        (manifest(replace(CTC, window=250)), "leaves none between margins"),
        (manifest(CTC, Waveform(399)), "waveforms of any length from 400"),
        (manifest(CTC, Waveform(400, 16_000)), "waveforms of any length"),
        (manifest(CTC, BANDS, ("batch", 1024, 128)), "waveforms of any length"),
        (manifest(CTC, family="general"), "family multimodal"),
        (manifest(CTC, task="audio-classification"), "'ctc' goes with"),
        (manifest(CLASSES, Waveform(400, 300)), "a most below its least"),
        (manifest(CLASSES, replace(BANDS, hop=500), ("b", 1024, 128)), "hop is at most window"),
        (manifest(CLASSES, replace(BANDS, fft=256), ("b", 1024, 128)), "window at most fft"),
        (manifest(CLASSES, replace(BANDS, divisor=0.0), ("b", 1024, 128)), "the latter not 0"),
        (manifest(CLASSES, replace(BANDS, lowest=8000.0), ("b", 1024, 128)), "below half the rate"),
        (manifest(CLASSES, LogMel(400, 160, 80, 3000)), "takes a waveform or a filterbank"),
        (manifest(CLASSES, preprocessing=Preprocessing()), r"needs preprocessing\.audio"),
        (manifest(CLASSES, task="image-classification"), "go with the tasks"),
        (manifest(VECTORS, space=None), "fingerprint"),
        (
            manifest(
                VECTORS,
                preprocessing=Preprocessing(
                    TextPreprocessing("samples.json", 8), audio=AudioPreprocessing(16_000, WAVE)
                ),
            ),
            "stands alone",
        ),
        (
            manifest(
                replace(VECTORS, same_from=0.9), preprocessing=Preprocessing(TextPreprocessing("samples.json", 8))
            ),
            "goes with vectors of sounds",
        ),
        (
            manifest(CLASSES, preprocessing=Preprocessing(audio=AudioPreprocessing(16_000, WAVE, short=64))),
            "goes with features of the type log_mel",
        ),
    ],
)
def test_contradictions_are_refused(made: Manifest, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read(made)
