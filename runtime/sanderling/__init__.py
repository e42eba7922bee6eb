"""Sanderling: small models, sealed and quantized, running anywhere without PyTorch.

The public names are those of `__all__`; each is loaded when it is first used, so that `import sanderling` is light.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sanderling.audio import Audio
    from sanderling.bundle import Bundle, open_bundle
    from sanderling.cancellation import Cancellation
    from sanderling.errors import (
        AudioError,
        BundleError,
        CancelledError,
        DeadlineError,
        FaceError,
        GraphError,
        ImageError,
        IndexBusyError,
        InferenceError,
        InputError,
        IntegrityError,
        ManifestError,
        MemoryLimitError,
        MissingExtraError,
        MixedVariantsWarning,
        ModelClosedError,
        PartialPlacementWarning,
        ProviderError,
        SanderlingError,
        SearchIndexError,
        SeriesError,
        SpaceError,
        StalePlanWarning,
        StorageError,
        TableError,
        TextError,
        TuneError,
        VerdictError,
        VerdictWarning,
        VideoError,
    )
    from sanderling.faces.results import Face, FaceMatch, Faces, Identification
    from sanderling.generation.questions import PictureQuestion
    from sanderling.generation.results import Generation, Generations, GenerationTiming, TextStream
    from sanderling.hearing.live_transcript import LiveTranscript
    from sanderling.hearing.live_words import LiveReport, LiveUpdate, LiveWord
    from sanderling.hearing.transcripts import Character, SpeechSegment, Transcript, Transcripts, Word
    from sanderling.index.index import Index
    from sanderling.index.opened import Hit
    from sanderling.index.uses import near_duplicates, recommend
    from sanderling.loading import load
    from sanderling.model import Model
    from sanderling.moments import Moment, Moments, video_moments
    from sanderling.pairs import TextPair
    from sanderling.plan import Plan
    from sanderling.predictions import Forecast, Forecasts, Prediction, Predictions
    from sanderling.results import (
        AudioReport,
        Classification,
        Classifications,
        Embedding,
        Embeddings,
        ImageReport,
        QuestionReport,
        RowReport,
        SeriesReport,
        SpeechReport,
        TextReport,
        Timing,
        TokenReport,
    )
    from sanderling.schema.generation import GenerationSettings
    from sanderling.schema.preprocessing import VideoPreprocessing
    from sanderling.schema.voices import VoiceSettings
    from sanderling.search_pipeline import SearchPipeline, SearchResult, SearchResults, Stage
    from sanderling.spaces import similarity
    from sanderling.subtitles import Segment, to_srt, to_webvtt, write_subtitles
    from sanderling.tasks.chosen_answers import AnswerClassifier
    from sanderling.tasks.classification import Classifier
    from sanderling.tasks.ctc_recognition import CtcRecognizer
    from sanderling.tasks.dual_encoder import DualEncoder
    from sanderling.tasks.face_recognition import FaceRecognizer
    from sanderling.tasks.feature_extraction import EmbeddingModel
    from sanderling.tasks.forecasting import Forecaster
    from sanderling.tasks.image_to_text import ImageToText
    from sanderling.tasks.late_interaction import LateInteractionModel, TokenEmbedding, TokenEmbeddings
    from sanderling.tasks.ranking import Ranker, Ranking
    from sanderling.tasks.sound_embedding import SoundEmbeddingModel, SoundMatch
    from sanderling.tasks.sparse import SparseEmbedding, SparseEmbeddings, SparseModel
    from sanderling.tasks.speech_recognition import SpeechRecognizer
    from sanderling.tasks.tabular import Regressor, TableClassifier
    from sanderling.tasks.text_generation import TextGenerator
    from sanderling.tasks.text_to_speech import Voice
    from sanderling.tasks.video_to_text import VideoCaptions, VideoToText
    from sanderling.tasks.visual_questions import QuestionAnswerer
    from sanderling.tasks.wave_recognition import WaveRecognizer
    from sanderling.tasks.zero_shot import ZeroShotClassifier
    from sanderling.tuning.halving import tune
    from sanderling.verification import verify
    from sanderling.video import VideoReport
    from sanderling.voices.speech import Phonemes, Speech, Speeches, SpeechStream

__version__ = "0.1.0"

# ONNX Runtime 1.31 starts a telemetry thread on import, which writes files, uploads, and keeps a forked child from
# ending. Sanderling uses no network; it says so before ONNX Runtime is imported. Set the variable to 0 to have it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "sanderling.audio": ("Audio",),
    "sanderling.bundle": ("Bundle", "open_bundle"),
    "sanderling.cancellation": ("Cancellation",),
    "sanderling.errors": (
        "AudioError",
        "BundleError",
        "CancelledError",
        "DeadlineError",
        "FaceError",
        "GraphError",
        "ImageError",
        "IndexBusyError",
        "InferenceError",
        "InputError",
        "IntegrityError",
        "ManifestError",
        "MemoryLimitError",
        "MissingExtraError",
        "MixedVariantsWarning",
        "ModelClosedError",
        "PartialPlacementWarning",
        "ProviderError",
        "SanderlingError",
        "SearchIndexError",
        "SeriesError",
        "SpaceError",
        "StalePlanWarning",
        "StorageError",
        "TableError",
        "TextError",
        "TuneError",
        "VerdictError",
        "VerdictWarning",
        "VideoError",
    ),
    "sanderling.faces.results": ("Face", "FaceMatch", "Faces", "Identification"),
    "sanderling.generation.questions": ("PictureQuestion",),
    "sanderling.generation.results": ("Generation", "GenerationTiming", "Generations", "TextStream"),
    "sanderling.hearing.live_transcript": ("LiveTranscript",),
    "sanderling.hearing.live_words": ("LiveReport", "LiveUpdate", "LiveWord"),
    "sanderling.hearing.transcripts": ("Character", "SpeechSegment", "Transcript", "Transcripts", "Word"),
    "sanderling.index.index": ("Index",),
    "sanderling.index.opened": ("Hit",),
    "sanderling.index.uses": ("near_duplicates", "recommend"),
    "sanderling.loading": ("load",),
    "sanderling.model": ("Model",),
    "sanderling.moments": ("Moment", "Moments", "video_moments"),
    "sanderling.pairs": ("TextPair",),
    "sanderling.plan": ("Plan",),
    "sanderling.predictions": ("Forecast", "Forecasts", "Prediction", "Predictions"),
    "sanderling.results": (
        "AudioReport",
        "Classification",
        "Classifications",
        "Embedding",
        "Embeddings",
        "ImageReport",
        "QuestionReport",
        "RowReport",
        "SeriesReport",
        "SpeechReport",
        "TextReport",
        "Timing",
        "TokenReport",
    ),
    "sanderling.schema.generation": ("GenerationSettings",),
    "sanderling.schema.preprocessing": ("VideoPreprocessing",),
    "sanderling.schema.voices": ("VoiceSettings",),
    "sanderling.search_pipeline": ("SearchPipeline", "SearchResult", "SearchResults", "Stage"),
    "sanderling.spaces": ("similarity",),
    "sanderling.subtitles": ("Segment", "to_srt", "to_webvtt", "write_subtitles"),
    "sanderling.tasks.chosen_answers": ("AnswerClassifier",),
    "sanderling.tasks.classification": ("Classifier",),
    "sanderling.tasks.ctc_recognition": ("CtcRecognizer",),
    "sanderling.tasks.dual_encoder": ("DualEncoder",),
    "sanderling.tasks.face_recognition": ("FaceRecognizer",),
    "sanderling.tasks.feature_extraction": ("EmbeddingModel",),
    "sanderling.tasks.forecasting": ("Forecaster",),
    "sanderling.tasks.image_to_text": ("ImageToText",),
    "sanderling.tasks.late_interaction": ("LateInteractionModel", "TokenEmbedding", "TokenEmbeddings"),
    "sanderling.tasks.ranking": ("Ranker", "Ranking"),
    "sanderling.tasks.sound_embedding": ("SoundEmbeddingModel", "SoundMatch"),
    "sanderling.tasks.sparse": ("SparseEmbedding", "SparseEmbeddings", "SparseModel"),
    "sanderling.tasks.speech_recognition": ("SpeechRecognizer",),
    "sanderling.tasks.tabular": ("Regressor", "TableClassifier"),
    "sanderling.tasks.text_generation": ("TextGenerator",),
    "sanderling.tasks.text_to_speech": ("Voice",),
    "sanderling.tasks.video_to_text": ("VideoCaptions", "VideoToText"),
    "sanderling.tasks.visual_questions": ("QuestionAnswerer",),
    "sanderling.tasks.wave_recognition": ("WaveRecognizer",),
    "sanderling.tasks.zero_shot": ("ZeroShotClassifier",),
    "sanderling.tuning.halving": ("tune",),
    "sanderling.verification": ("verify",),
    "sanderling.video": ("VideoReport",),
    "sanderling.voices.speech": ("Phonemes", "Speech", "SpeechStream", "Speeches"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
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


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sanderling' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
