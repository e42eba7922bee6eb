"""The public names: a list, each there, each described."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sanderling
from sanderling import errors

PUBLIC = [
    "AnswerClassifier",
    "Audio",
    "AudioError",
    "AudioReport",
    "Bundle",
    "BundleError",
    "Cancellation",
    "CancelledError",
    "Character",
    "Classification",
    "Classifications",
    "Classifier",
    "CtcRecognizer",
    "DeadlineError",
    "DualEncoder",
    "Embedding",
    "EmbeddingModel",
    "Embeddings",
    "Face",
    "FaceError",
    "FaceMatch",
    "FaceRecognizer",
    "Faces",
    "Forecast",
    "Forecaster",
    "Forecasts",
    "Generation",
    "GenerationSettings",
    "GenerationTiming",
    "Generations",
    "GraphError",
    "Hit",
    "Identification",
    "ImageError",
    "ImageReport",
    "ImageToText",
    "Index",
    "IndexBusyError",
    "InferenceError",
    "InputError",
    "IntegrityError",
    "LateInteractionModel",
    "LiveReport",
    "LiveTranscript",
    "LiveUpdate",
    "LiveWord",
    "ManifestError",
    "MemoryLimitError",
    "MissingExtraError",
    "MixedVariantsWarning",
    "Model",
    "ModelClosedError",
    "Moment",
    "Moments",
    "PartialPlacementWarning",
    "Phonemes",
    "PictureQuestion",
    "Plan",
    "Prediction",
    "Predictions",
    "ProviderError",
    "QuestionAnswerer",
    "QuestionReport",
    "Ranker",
    "Ranking",
    "Regressor",
    "RowReport",
    "SanderlingError",
    "SearchIndexError",
    "SearchPipeline",
    "SearchResult",
    "SearchResults",
    "Segment",
    "SeriesError",
    "SeriesReport",
    "SoundEmbeddingModel",
    "SoundMatch",
    "SpaceError",
    "SparseEmbedding",
    "SparseEmbeddings",
    "SparseModel",
    "Speech",
    "SpeechRecognizer",
    "SpeechReport",
    "SpeechSegment",
    "SpeechStream",
    "Speeches",
    "Stage",
    "StalePlanWarning",
    "StorageError",
    "TableClassifier",
    "TableError",
    "TextError",
    "TextGenerator",
    "TextPair",
    "TextReport",
    "TextStream",
    "Timing",
    "TokenEmbedding",
    "TokenEmbeddings",
    "TokenReport",
    "Transcript",
    "Transcripts",
    "TuneError",
    "VerdictError",
    "VerdictWarning",
    "VideoCaptions",
    "VideoError",
    "VideoPreprocessing",
    "VideoReport",
    "VideoToText",
    "Voice",
    "VoiceSettings",
    "WaveRecognizer",
    "Word",
    "ZeroShotClassifier",
    "__version__",
    "load",
    "near_duplicates",
    "open_bundle",
    "recommend",
    "similarity",
    "to_srt",
    "to_webvtt",
    "tune",
    "verify",
    "video_moments",
    "write_subtitles",
]
# Raised by the other rooms, never by the runtime.
OF_OTHER_ROOMS = {"ExportError", "RecipeError", "CheckpointError", "DriftError", "BenchError", "EvalError"}


def test_the_list_is_exact() -> None:
    assert sorted(sanderling.__all__) == PUBLIC
    assert dir(sanderling) == sorted(dir(sanderling))
    assert set(sanderling.__all__) <= set(dir(sanderling))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_there_and_described(name: str) -> None:
    found = getattr(sanderling, name)
    if name != "__version__":
        assert inspect.getdoc(found)
        assert found.__name__ == name


def test_public_members_of_public_classes_are_described() -> None:
    classes = [found for name in PUBLIC if inspect.isclass(found := getattr(sanderling, name))]
    members = {
        f"{cls.__name__}.{name}": member
        for cls in classes
        for name, member in vars(cls).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    assert len(members) > 20
    assert [name for name, member in members.items() if not inspect.getdoc(member)] == []


def test_every_error_of_the_runtime_is_public_and_in_one_tree() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == "sanderling.errors"
    }
    assert found - OF_OTHER_ROOMS <= set(PUBLIC)
    for name in found:
        root = UserWarning if name.endswith("Warning") else errors.SanderlingError
        assert issubclass(getattr(errors, name), root)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sanderling' has no attribute 'lod'"):
        sanderling.lod  # noqa: B018


def test_importing_everything_gives_the_list() -> None:
    code = "from sanderling import *; print(sorted(n for n in dir() if n == '__version__' or not n.startswith('__')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == str(PUBLIC)


def test_the_version_is_that_of_the_project(root: Path) -> None:
    stated = re.search(r'^version = "(.+)"$', (root / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert stated is not None
    assert sanderling.__version__ == stated[1]
