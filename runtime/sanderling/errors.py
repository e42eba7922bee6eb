"""The one tree of errors. Every message says what was met, what was expected, and what to do next."""

from __future__ import annotations


class SanderlingError(Exception):
    """Root of every error that Sanderling raises on purpose."""


class BundleError(SanderlingError):
    """A bundle cannot be used as it stands."""


class ManifestError(BundleError):
    """`bundle.json` is missing, not valid JSON, of a version this reader does not know, or contradictory."""


class IntegrityError(BundleError):
    """A file of a bundle is missing, differs from its hash, is a link, or leads outside the folder."""


class GraphError(BundleError):
    """A graph cannot be loaded by ONNX Runtime, or does not have the inputs and outputs the manifest states."""


class VerdictError(BundleError):
    """`verify` found on this machine that the variant asked for answers wrongly with this provider."""


class VerdictWarning(UserWarning):
    """Another variant was loaded than the default, which `verify` found on this machine to answer wrongly."""


class InputError(SanderlingError):
    """What the caller handed over cannot be an input of this model."""


class TextError(InputError):
    """A text cannot be encoded: a lone surrogate, or the tokenizer itself failed on it."""


class ImageError(InputError):
    """An image cannot be read: not an image, truncated, too large, or an array of the wrong dtype or rank."""


class AudioError(InputError):
    """A sound cannot be read: no sound, damaged, empty, too long, or an array of the wrong dtype, shape or rate."""


class VideoError(InputError):
    """A video cannot be read: no video, no video stream, not one frame that decodes, or frames that are too large."""


class FaceError(ImageError):
    """A picture was to hold one face, and holds none or several."""


class TableError(InputError):
    """A table or one of its rows cannot be read: columns missing or too many, text for a number, an infinity."""


class SeriesError(InputError):
    """A series cannot be read or continued: no numbers, too few of them, or missing where none can be filled in."""


class SpaceError(InputError):
    """Vectors of different embedding spaces were to be compared."""


class MixedVariantsWarning(UserWarning):
    """Vectors of variants were compared that may be further apart than the caller allows, or by an unknown distance."""


class ProviderError(SanderlingError):
    """The execution provider asked for is not there, or did not take the session."""


class MemoryLimitError(SanderlingError):
    """The model does not fit the memory it was allowed."""


class PartialPlacementWarning(UserWarning):
    """The provider asked for took only a part of the graph; the rest runs elsewhere."""


class StalePlanWarning(UserWarning):
    """The plan that was tuned on this device cannot be used any more; the default plan is."""


class ModelClosedError(SanderlingError):
    """The model was closed; load it again."""


class InferenceError(SanderlingError):
    """ONNX Runtime failed while running a graph."""


class StorageError(SanderlingError):
    """Writing failed: a full disk, missing rights. What was there before is still there."""


class SearchIndexError(SanderlingError):
    """An index cannot be used as it stands: not there, damaged, cut short, of a newer version, or closed."""


class IndexBusyError(SearchIndexError):
    """Another writer has the index open."""


class MissingExtraError(SanderlingError):
    """An optional package is missing; the message has the exact `pip install` line."""

    def __init__(self, purpose: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{purpose} needs the package {missing!r}, which is not installed. "
            f'Install it with: pip install "sanderling[{extra}]"'
        )


class TuneError(SanderlingError):
    """No plan answers well enough on this device."""


class CancelledError(SanderlingError):
    """The call was cancelled before it had its answer."""


class DeadlineError(SanderlingError, TimeoutError):
    """The call's time was up before it had its answer."""


class ExportError(SanderlingError):
    """A checkpoint cannot be exported as asked."""


class RecipeError(ExportError):
    """A recipe is not valid TOML, or lacks or contradicts a field."""


class CheckpointError(ExportError):
    """A checkpoint cannot be found or read, or does not say what the export has to know."""


class DriftError(ExportError):
    """A variant answers too far from the original checkpoint to be written."""


class BenchError(SanderlingError):
    """A measurement cannot be made as asked."""


class EvalError(BenchError):
    """Labelled data cannot be read, does not fit the bundle, or does not bear the metric asked for."""
