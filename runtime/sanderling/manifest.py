"""The schema of `bundle.json`, version 1: frozen structs, decoded and bounded by msgspec in `codec`.

`docs/bundle-format.md` specifies the same byte by byte; a field added here is added there.
Unknown fields within major version 1 are ignored, so that later fields break no reader.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

FORMAT = "sanderling-bundle"
MAJOR_VERSION = 1
MINOR_VERSION = 0
MANIFEST_NAME = "bundle.json"
MAX_MANIFEST_BYTES = 16 * 2**20

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


class FileEntry(Struct, frozen=True):
    """Size in bytes and SHA-256 of one file of the bundle."""

    size: Count
    sha256: Sha256


class TensorSpec(Struct, frozen=True):
    """One graph input or output. A string in `shape` names a dimension that changes from run to run."""

    name: str
    dtype: Dtype
    shape: tuple[Count | str, ...]


class Form(Struct, frozen=True):
    """One way to run a variant's weights: a graph, and the external data files it reads.

    An `optimized` graph went through ONNX Runtime's own fusions for the CPU at export, and is loaded as it is.
    `inputs` are the graph's where they are others than the component's.
    """

    graph: BundlePath
    data: tuple[BundlePath, ...] = ()
    optimized: bool = False
    inputs: tuple[TensorSpec, ...] = ()


class Distances(Struct, frozen=True):
    """Cosine similarity over samples: mean, 1st percentile (null under 100 samples) and minimum."""

    samples: Count
    mean: float
    min: float
    p01: float | None = None


class WorstInput(Struct, frozen=True):
    """One of the inputs whose answers are farthest from the original's: what it is, and its cosine."""

    name: Annotated[str, Meta(max_length=200)]
    cosine: float


class Metric(Struct, frozen=True):
    """A task metric on labelled inputs, of the variant and of the original."""

    value: float
    reference: float
    samples: Count


class Drift(Struct, frozen=True):
    """Distance of a variant from the original checkpoint in its original library.

    `cosine` compares embeddings, or logits of a classifier; `max_abs` is the largest absolute difference
    of any element; `agreement` is the share of samples whose first label is the reference's; `worst` are the inputs of
    the lowest cosines, the lowest first; `metrics` are by their names, where a labelled set was given; `max_relative`
    is the largest difference of any number, divided by the original's (numbers only).
    """

    cosine: Distances
    max_abs: float
    agreement: float | None = None
    worst: Annotated[tuple[WorstInput, ...], Meta(max_length=100)] = ()
    metrics: dict[str, Metric] = {}
    max_relative: Annotated[float, Meta(ge=0.0)] | None = None


class Invariance(Struct, frozen=True):
    """How far an answer moves, as minimum cosine to the same input answered alone and unpadded.

    `batch` is among other batch mates; `padding` maps a count of added padding tokens to that minimum.
    """

    batch: float
    padding: dict[str, float] = {}


class VectorLoss(Struct, frozen=True):
    """What shorter or smaller vectors cost, measured at export on `samples` inputs, against the original's float32.

    `recall` is the share of an input's ten nearest others, by the original's cosines, that are still among its ten
    nearest; `cosine` the mean cosine to the original's vector, and `min_cosine` the least (both null where vectors
    are shorter or bits, so that they have none).
    """

    recall: Annotated[float, Meta(ge=0.0, le=1.0)]
    samples: Count
    cosine: float | None = None
    min_cosine: float | None = None


class Tolerance(Struct, frozen=True):
    """What `verify` demands of each golden sample: a minimum cosine and, if given, a largest absolute difference."""

    min_cosine: Annotated[float, Meta(ge=-1.0, le=1.0)]
    max_abs: Annotated[float, Meta(ge=0.0)] | None = None


class Variant(Struct, frozen=True):
    """One set of weights in one precision, in one or more forms that share them.

    `speed` is the inputs it answered a second where it was exported, divided by those of fp32 in the same run.
    `fast_decode` is its drift on large JPEG files that it decoded at reduced scale, and the original in full; null
    where that was not measured. `decode` says how it decodes them unless it is told otherwise. `short_window` is its
    drift on sounds that it heard in short windows, and the original in full ones; null where that was not measured.
    `losses` say what its vectors cost in a smaller precision ("float16", "int8", "binary"), and cut to fewer numbers
    ("float32-128").
    """

    forms: Annotated[dict[Name, Form], Meta(min_length=1)]
    tolerance: Tolerance
    drift: Drift | None = None
    invariance: Invariance | None = None
    speed: Annotated[float, Meta(gt=0.0)] | None = None
    fast_decode: Drift | None = None
    decode: Decode = "exact"
    losses: dict[Name, VectorLoss] = {}
    short_window: Drift | None = None


class Component(Struct, frozen=True):
    """One graph of a model, in all its variants. Inputs and outputs are the same in each."""

    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    variants: Annotated[dict[Name, Variant], Meta(min_length=1)]


class LongText(Struct, frozen=True):
    """How a text that is longer than `max_tokens` is answered in windows.

    Neighbouring windows share `stride` tokens, special ones not counted; `combine` makes one answer of the windows'
    answers, number by number: of the scores of a classifier, of its logits where it has no activation.
    """

    stride: Count
    combine: Literal["mean", "max"] = "mean"


class TextPreprocessing(Struct, frozen=True):
    """Text to `input_ids`. Truncation and padding are stated here, never taken from the tokenizer file.

    `max_tokens` counts special tokens too. `prompts` are prefixes by name, put before the text;
    `strip` and `lowercase` act on the text (after the prompt is put before it). `pairs` says that the model was made
    for two texts an input; `long_text` how windows are made of a long one, null where they are not. With `padding`
    "max_tokens" every text is padded to that many, for models that were trained to see the padding; else to the longest
    of its batch.
    """

    tokenizer: BundlePath
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)]
    pad_token_id: Count = 0
    pad_token_type_id: Count = 0
    padding_side: Side = "right"
    truncation_side: Side = "right"
    strip: bool = False
    lowercase: bool = False
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    pairs: bool = False
    long_text: LongText | None = None
    padding: Literal["longest", "max_tokens"] = "longest"


class Resize(Struct, frozen=True, tag_field="op", tag="resize"):
    """Resize to exactly `height` x `width`, ignoring the aspect."""

    height: Annotated[int, Meta(ge=1, le=16384)]
    width: Annotated[int, Meta(ge=1, le=16384)]
    resample: Resample


class ResizeShortest(Struct, frozen=True, tag_field="op", tag="resize_shortest"):
    """Resize so that the shorter side is `size`; the longer becomes `int(size * longer / shorter)`."""

    size: Annotated[int, Meta(ge=1, le=16384)]
    resample: Resample


class ResizeFit(Struct, frozen=True, tag_field="op", tag="resize_fit"):
    """Resize, keeping the aspect, so that the image just covers `height` x `width`, or that these just contain it.

    Each side is divided by the smaller ("cover") or larger ("contain") of h / `height` and w / `width`, and rounded to
    the nearest, ties to even (as timm's ResizeKeepRatio).
    """

    height: Annotated[int, Meta(ge=1, le=16384)]
    width: Annotated[int, Meta(ge=1, le=16384)]
    fit: Literal["cover", "contain"]
    resample: Resample


class ResizeLongest(Struct, frozen=True, tag_field="op", tag="resize_longest"):
    """Resize so that the longer side is `size`; the shorter becomes `int(size * shorter / longer)`, and one more where
    that is odd, at least 1 (as transformers' Idefics 3)."""

    size: Annotated[int, Meta(ge=1, le=4096)]
    resample: Resample


class ResizeBounded(Struct, frozen=True, tag_field="op", tag="resize_bounded"):
    """Resize, keeping the aspect, so that the shorter side is `shortest`, or less where the longer one would else be
    more than `longest`; both are then cut down to multiples of `divisor`, at least one (as transformers' ViLT)."""

    shortest: Annotated[int, Meta(ge=1, le=16384)]
    longest: Annotated[int, Meta(ge=1, le=16384)]
    divisor: Annotated[int, Meta(ge=1, le=1024)]
    resample: Resample


class CenterCrop(Struct, frozen=True, tag_field="op", tag="center_crop"):
    """Cut `height` x `width` from the middle; a smaller image is padded with the RGB colour `fill` first.

    The upper left corner is `(h - height) / 2`, rounded down ("floor", as transformers)
    or to the nearest even ("half_even", as torchvision).
    """

    height: Annotated[int, Meta(ge=1, le=16384)]
    width: Annotated[int, Meta(ge=1, le=16384)]
    rounding: Literal["floor", "half_even"] = "floor"
    fill: tuple[Level, Level, Level] = (0, 0, 0)


class Rescale(Struct, frozen=True, tag_field="op", tag="rescale"):
    """Multiply by `factor` in float64 and round to float32 (as transformers), or divide by `divisor` in float32
    (as torchvision). Exactly one of the two is given."""

    factor: float | None = None
    divisor: float | None = None


class Normalize(Struct, frozen=True, tag_field="op", tag="normalize"):
    """Subtract `mean`, then divide by `std`, a channel, in float32."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


ImageStep = Resize | ResizeShortest | ResizeFit | ResizeBounded | ResizeLongest | CenterCrop | Rescale | Normalize


class ImagePreprocessing(Struct, frozen=True):
    """Image to `pixel_values` (NCHW float32), by steps in this order, after the canonical step
    (EXIF orientation applied, alpha composited on white, 8-bit RGB). Mean and std are in the order of `channels`.

    A JPEG file may be decoded at a half, a quarter or an eighth of its size, if as many pixels a side are left as the
    first step makes of it, times `reduced_decode`; null where it is always decoded in full.
    """

    steps: Annotated[tuple[ImageStep, ...], Meta(min_length=1, max_length=16)]
    channels: Literal["RGB", "BGR"] = "RGB"
    reduced_decode: Annotated[float, Meta(ge=1.0, le=64.0)] | None = None


class ColumnSpec(Struct, frozen=True):
    """One column of a table.

    A `number` goes to the graph as it is, after rounding to its `dtype`; a `category` as its place in `categories`,
    one that is not among them as their count, a missing one as their count plus 1.
    `missing` says what a missing value does: "error", "pass" (the graph takes it), or "fill" (by `fill`, before all).
    `unseen` says the same of a category that is not listed: "error" or "pass".
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    kind: Literal["number", "category"]
    dtype: Literal["float64", "float32", "int64", "bool", "string"] = "float64"
    unit: Annotated[str, Meta(max_length=80)] = ""
    missing: Literal["error", "pass", "fill"] = "error"
    fill: str | bool | int | float | None = None
    unseen: Literal["error", "pass"] = "pass"
    categories: Annotated[tuple[str | bool | int | float, ...], Meta(max_length=1_000_000)] = ()


class TabularPreprocessing(Struct, frozen=True):
    """Rows of a table to the graph's only input, float64 of the shape (batch, columns), in this order of columns.

    `missing_values` are the cells of a text file that mean: missing.
    """

    columns: Annotated[tuple[ColumnSpec, ...], Meta(min_length=1, max_length=10_000)]
    missing_values: tuple[str, ...] = ("",)


class SeriesPreprocessing(Struct, frozen=True):
    """A univariate series to lag features: the graph's only input, float64 of the shape (batch, lags).

    Lag 1 is the last value of the series, lag 2 the one before it. With `center` "last" the last value is subtracted
    from every lag, and added to what the graph answers. `missing` values are an error, or interpolated between their
    neighbours on a straight line. `step` names the time from one value to the next.
    """

    lags: Annotated[tuple[Annotated[int, Meta(ge=1, le=100_000)], ...], Meta(min_length=1, max_length=10_000)]
    center: Literal["none", "last"] = "none"
    missing: Literal["error", "interpolate"] = "error"
    name: Annotated[str, Meta(max_length=200)] = "value"
    unit: Annotated[str, Meta(max_length=80)] = ""
    step: Annotated[str, Meta(max_length=80)] = ""


class SquareInput(Struct, frozen=True):
    """A picture, or a part of one, to a graph's `pixel_values`: float32 of the shape (batch, 3, size, size), RGB.

    The shorter side is made as long as the longer with black: all of it to the right or below ("corner"), or half on
    each side ("center", what is odd of it after). Pixel i of the square is then read at i * side / size, bilinearly
    between its two neighbours, as TensorFlow resizes without centres of pixels; `mean` is subtracted, and what is left
    divided by `divisor`, in float32.
    """

    size: Annotated[int, Meta(ge=8, le=4096)]
    pad: Literal["corner", "center"]
    mean: tuple[float, float, float]
    divisor: float


class FacesPreprocessing(Struct, frozen=True):
    """Which part of a picture each graph sees: `detector` the whole, `landmarks` a face's box.

    `recognition` sees the square whose side is the mean distance of the two eyes' centres to the mouth's, divided by
    `scale`, rounded down, and which has the centre of those three centres at the shares `center` (x, y) of its sides.
    `attributes` (expression, age, gender) sees the box around all landmarks, wider and higher by the share `margin`.
    """

    detector: SquareInput
    landmarks: SquareInput
    recognition: SquareInput
    attributes: SquareInput
    scale: Annotated[float, Meta(ge=0.05, le=10.0)]
    center: tuple[float, float]
    margin: Annotated[float, Meta(ge=0.0, le=10.0)]


class VideoPreprocessing(Struct, frozen=True):
    """What a captioner of pictures is shown of a segment of a video, `seconds` long where nothing else is asked for.

    One picture: `frames` taken evenly from the segment, each in the middle of its share, in the order of time row by
    row, `columns` a row. The steps of `image` then bring that picture to the graph.
    """

    frames: Annotated[int, Meta(ge=1, le=64)] = 1
    columns: Annotated[int, Meta(ge=1, le=64)] = 1
    seconds: Annotated[float, Meta(ge=0.01, le=86_400.0)] = 2.0


Symbol = Annotated[str, Meta(min_length=1, max_length=16)]


class PhonemesPreprocessing(Struct, frozen=True):
    """Text to the `input_ids` of a voice: int64 of the shape (1, tokens), a sentence a run.

    With the alphabet "espeak" a text becomes the phonemes that espeak-ng writes in its `voice`, sentence by sentence;
    with "characters" its own characters, as they are or, those without `ids`, in lower case (`lowercase`). Both are
    brought to the normal form `normalization` (by default taken apart into code points, NFD), of which those in a row
    that are one of `clusters` are put together again, the longest first. Symbols without `ids` are left out. Then
    `blanks` are "kept", "trimmed" from both ends, or "single": trimmed, and one where several are in a row. A sentence
    is `begin`, then the ids of each symbol, then `end`; `pad` stands behind `begin` and behind every symbol, and where
    there is no `begin`, before the first. Sentences of more than `max_symbols` are parted.
    """

    alphabet: Literal["espeak", "characters"]
    ids: Annotated[dict[Symbol, Annotated[tuple[Count, ...], Meta(min_length=1, max_length=16)]], Meta(min_length=1)]
    voice: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*\Z", max_length=60)] | None = None
    begin: Annotated[tuple[Count, ...], Meta(max_length=16)] = ()
    end: Annotated[tuple[Count, ...], Meta(max_length=16)] = ()
    pad: Annotated[tuple[Count, ...], Meta(max_length=16)] = ()
    clusters: Annotated[
        tuple[Annotated[tuple[Symbol, ...], Meta(min_length=2, max_length=16)], ...], Meta(max_length=1000)
    ] = ()
    lowercase: bool = False
    normalization: Literal["nfd", "nfkc", "none"] = "nfd"
    blanks: Literal["kept", "trimmed", "single"] = "kept"
    max_symbols: Annotated[int, Meta(ge=8, le=10_000)] = 400


class LogMel(Struct, frozen=True, tag_field="type", tag="log_mel"):
    """Sound to a log-mel spectrogram, float32 of the shape (batch, bands, frames), as Whisper's.

    A spectrum of `fft` samples (window of Hann) every `hop`; its power in `bands` triangular filters of Slaney's scale
    from 0 Hz to half the rate; log10 of at least 1e-10; at most 8 below the highest; plus 4, divided by 4. A sound of
    fewer samples than `frames` * `hop` is filled up with silence.
    """

    fft: Annotated[int, Meta(ge=16, le=65_536)]
    hop: Annotated[int, Meta(ge=1, le=65_536)]
    bands: Annotated[int, Meta(ge=1, le=1024)]
    frames: Annotated[int, Meta(ge=2, le=100_000)]


class Waveform(Struct, frozen=True, tag_field="type", tag="waveform"):
    """Sound as it is, float32 of the shape (batch, samples).

    With `normalize` the mean of the whole sound is subtracted, and it is divided by the root of its variance plus 1e-7.
    A sound of fewer samples than `least` is refused; of one of more than `most` the rest is not heard (null: all is).
    """

    least: Annotated[int, Meta(ge=1, le=10_000_000)]
    most: Annotated[int, Meta(ge=1, le=2**32)] | None = None
    normalize: bool = True


class Filterbank(Struct, frozen=True, tag_field="type", tag="filterbank"):
    """Sound to the logarithms of its bands, float32 of the shape (batch, frames, bands), as Kaldi makes them.

    Every `hop` samples a spectrum of `window` samples, filled up with zeros to `fft`: their mean is subtracted, from
    each sample `preemphasis` of the one before it, and they go through a symmetric window of Hann. Its power in `bands`
    triangular filters, even on Kaldi's mel scale from `lowest` Hz to half the rate; the natural logarithm of at least
    2^-23. What is missing of `frames` is 0; more of them are not heard. At last `mean` is subtracted, and the rest
    divided by `divisor`. A sound of fewer samples than `window` is refused.
    """

    window: Annotated[int, Meta(ge=16, le=65_536)]
    hop: Annotated[int, Meta(ge=1, le=65_536)]
    fft: Annotated[int, Meta(ge=16, le=65_536)]
    bands: Annotated[int, Meta(ge=1, le=1024)]
    frames: Annotated[int, Meta(ge=1, le=100_000)]
    lowest: Annotated[float, Meta(ge=0.0, le=96_000.0)] = 20.0
    preemphasis: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.97
    mean: float = 0.0
    divisor: float = 1.0


class VoiceActivity(Struct, frozen=True):
    """Where somebody speaks, as the component `voice_activity` says it of each `frame` of samples.

    It is told the `context` samples before the frame, and two states of `size` numbers that it left. Speech begins with
    a probability of at least `threshold`, and ends where it stays below `release` for `min_silence` seconds; what is
    shorter than `min_speech` seconds is none, and each stretch is made longer by `pad` seconds on both sides.
    """

    frame: Annotated[int, Meta(ge=16, le=65_536)]
    context: Annotated[int, Meta(ge=1, le=65_536)]
    size: Annotated[int, Meta(ge=1, le=65_536)]
    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.5
    release: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.35
    min_silence: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.5
    min_speech: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.1
    pad: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.2


class AudioPreprocessing(Struct, frozen=True):
    """Sound to a graph's input: one channel (the mean of all) at `rate` samples a second, then `features` of it.

    `voice` says how stretches of speech are found, where the bundle has the component `voice_activity`. `short` is how
    many frames a spectrogram has at least in a short window, where the graph takes fewer than `features.frames`; null
    where it does not.
    """

    rate: Annotated[int, Meta(ge=8_000, le=192_000)]
    features: LogMel | Waveform | Filterbank
    voice: VoiceActivity | None = None
    short: Annotated[int, Meta(ge=2, le=100_000)] | None = None

    @property
    def mel(self) -> LogMel:
        """The spectrogram, of models that are given one: the rules of their manifests see to it."""
        assert isinstance(self.features, LogMel)
        return self.features


class Preprocessing(Struct, frozen=True):
    """What stands before the graphs, by modality."""

    text: TextPreprocessing | None = None
    image: ImagePreprocessing | None = None
    tabular: TabularPreprocessing | None = None
    series: SeriesPreprocessing | None = None
    faces: FacesPreprocessing | None = None
    video: VideoPreprocessing | None = None
    phonemes: PhonemesPreprocessing | None = None
    audio: AudioPreprocessing | None = None


class DenseLayer(Struct, frozen=True):
    """A layer behind the pooling: `activation(x @ weight.T + bias)`, in float32.

    `weight` and `bias` name tensors (outputs, inputs) and (outputs) of the file that EmbeddingOutput's `weights` names.
    """

    weight: str
    bias: str | None = None
    activation: Literal["none", "tanh", "relu", "sigmoid"] = "none"


class EmbeddingOutput(Struct, frozen=True, tag_field="type", tag="embedding"):
    """`output` to one vector of `dimension` float32 an input.

    `pooling` works over the tokens that are not padding, and not the prompt's where `include_prompt` is false; `none`
    takes an output that is already pooled. Then come the layers of `dense`, whose tensors are in the safetensors file
    `weights`. `normalize` divides by the Euclidean norm (clamped below at 1e-12, as torch's `normalize`). `same_from`
    is the cosine from which on two sounds are taken for one speaker's; null where nobody said.
    """

    output: str
    pooling: Literal["mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean", "none"]
    normalize: bool
    dimension: Annotated[int, Meta(ge=1, le=1_000_000)]
    include_prompt: bool = True
    dense: Annotated[tuple[DenseLayer, ...], Meta(max_length=16)] = ()
    weights: BundlePath | None = None
    same_from: Annotated[float, Meta(ge=-1.0, le=1.0)] | None = None


class TokenSide(Struct, frozen=True):
    """How texts of one side, queries or documents, become the tokens of a late-interaction model.

    `max_tokens` are all of a text's, with the special ones and the `marker`, an id that stands behind the first one.
    Where there is an `expansion`, that id fills a text up to as many; the other tokens see it only where it is
    `attended`. Every token has a vector, but not those whose ids are in `skipped`.
    """

    max_tokens: Annotated[int, Meta(ge=4, le=1_000_000)]
    marker: Count | None = None
    expansion: Count | None = None
    attended: bool = False
    skipped: Annotated[tuple[Count, ...], Meta(max_length=10_000)] = ()


class TokenOutput(Struct, frozen=True, tag_field="type", tag="tokens"):
    """`output` (batch, tokens, hidden) to a vector of `dimension` float32 a token, for late interaction (ColBERT).

    It goes through the layers of `dense`, whose tensors are in the safetensors file `weights`, and is normalized or
    not. The prompts "query" and "document" choose the side that says which tokens a text has.
    """

    output: str
    normalize: bool
    dimension: Annotated[int, Meta(ge=1, le=1_000_000)]
    query: TokenSide
    document: TokenSide
    dense: Annotated[tuple[DenseLayer, ...], Meta(max_length=16)] = ()
    weights: BundlePath | None = None


class SparseOutput(Struct, frozen=True, tag_field="type", tag="sparse"):
    """`output`, logits over the vocabulary (batch, tokens, dimension), to one weight a token of the vocabulary.

    The weight of each position is log(1 + max(0, x)), with the activation "log1p_log1p_relu" log(1 + that); the
    `pooling` "max" or "sum" is over the positions that are not padding.
    """

    output: str
    pooling: Literal["max", "sum"]
    activation: Literal["log1p_relu", "log1p_log1p_relu"]
    dimension: Annotated[int, Meta(ge=1, le=1_000_000)]


class ClassificationOutput(Struct, frozen=True, tag_field="type", tag="classification"):
    """`output` (n, labels) to scores: softmax over the labels, sigmoid of each, or as it is (none).

    `thresholds`, one a label, are for labels of which several may hold: those whose score reaches its own do. Null
    where one label is the answer, or where the scores are numbers of a regression (activation none).
    """

    output: str
    activation: Literal["softmax", "sigmoid", "none"]
    labels: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1_000_000)]
    thresholds: tuple[float, ...] | None = None


class Target(Struct, frozen=True):
    """What one number of a regression is, and in which unit."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    unit: Annotated[str, Meta(max_length=80)] = ""


class RegressionOutput(Struct, frozen=True, tag_field="type", tag="regression"):
    """`output` (batch, targets) is the answer, each column a target."""

    output: str
    targets: Annotated[tuple[Target, ...], Meta(min_length=1, max_length=10_000)]


class IntervalSpec(Struct, frozen=True):
    """A prediction interval: at step h it reaches from the mean plus `lower[h]` to the mean plus `upper[h]`.

    The offsets are quantiles of the errors on a held-out part of the series; `coverage` is the share of values of a
    later part, of `samples` in all, that lay within.
    """

    level: Annotated[float, Meta(gt=0.0, lt=1.0)]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    coverage: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    samples: Count = 0


class ForecastOutput(Struct, frozen=True, tag_field="type", tag="forecast"):
    """`output` (batch, horizon) is the mean of each of the next `horizon` values, with intervals around it."""

    output: str
    horizon: Annotated[int, Meta(ge=1, le=100_000)]
    intervals: Annotated[tuple[IntervalSpec, ...], Meta(min_length=1, max_length=100)]


class GenerationSettings(Struct, frozen=True):
    """How tokens are chosen, one after the other; transformers' names and meanings.

    With `num_beams` above 1 by beam search, with `do_sample` drawn by `temperature`, `top_k` (0: all) and `top_p`,
    else the most probable each time. `length_penalty` and `early_stopping` are beam search's.
    """

    max_new_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 64
    min_new_tokens: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    num_beams: Annotated[int, Meta(ge=1, le=64)] = 1
    length_penalty: Annotated[float, Meta(ge=-10.0, le=10.0)] = 1.0
    early_stopping: bool | Literal["never"] = False
    do_sample: bool = False
    temperature: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] = 50
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    no_repeat_ngram_size: Annotated[int, Meta(ge=0, le=1000)] = 0


class Turn(Struct, frozen=True):
    """What stands before and after the words of one role in a conversation."""

    before: Annotated[str, Meta(max_length=10_000)] = ""
    after: Annotated[str, Meta(max_length=10_000)] = ""


class Chat(Struct, frozen=True):
    """A conversation as one prompt: `begin`, the turns by their `roles`, then `reply`, after which the model answers.

    This is text and nothing else: no template is executed.
    """

    roles: Annotated[dict[Name, Turn], Meta(min_length=1, max_length=20)]
    begin: Annotated[str, Meta(max_length=10_000)] = ""
    reply: Annotated[str, Meta(max_length=10_000)] = ""


class PicturePrompt(Struct, frozen=True):
    """How a picture and a question are one prompt, for a decoder that reads both.

    `template` is the text around the question, which stands in the place of `{}`; it holds the text of the tokenizer's
    `token` once, and in the tokens of the whole that one is repeated `count` times: what the vision encoder says of the
    picture is read in their places.
    """

    token: Count
    count: Annotated[int, Meta(ge=1, le=100_000)]
    template: Annotated[str, Meta(max_length=10_000)]


class SpeechTokens(Struct, frozen=True):
    """Tokens of the vocabulary that mean something to a model of Whisper's kind, and what follows what.

    A sequence begins with `start_token_ids`, a language of `languages` and `transcribe` or `translate` (of models of
    several languages), and `no_timestamps`, where times are not asked for. The tokens from `timestamps` on are times,
    0.02 seconds apart; the first of a sequence is at most `first_timestamp` of them late. `suppressed` are never
    generated, `suppressed_first` not first. `no_speech` is how probable it is that nobody speaks, read behind the
    start; `previous` begins what was said before. `alignment_heads` are the layers and heads of cross-attention that
    follow the words, in the order of the decoder's output `alignment`.
    """

    no_timestamps: Count
    timestamps: Count
    languages: Annotated[dict[Name, Count], Meta(max_length=1000)] = {}
    transcribe: Count | None = None
    translate: Count | None = None
    no_speech: Count | None = None
    previous: Count | None = None
    first_timestamp: Count | None = 50
    suppressed: Annotated[tuple[Count, ...], Meta(max_length=10_000)] = ()
    suppressed_first: Annotated[tuple[Count, ...], Meta(max_length=10_000)] = ()
    alignment_heads: Annotated[tuple[tuple[Count, Count], ...], Meta(max_length=10_000)] = ()


class GenerationOutput(Struct, frozen=True, tag_field="type", tag="generation"):
    """`output` of the component `decoder`, logits over a `vocabulary`, to tokens one after the other, and to text.

    Generation ends with one of `stop_token_ids`. A sequence begins with `start_token_ids` where it is not a prompt, and
    never has more than `context` tokens, those of the prompt included. `settings` are what a call does unless it says
    otherwise. With `clean_up_spaces` the blanks before punctuation that a tokenizer leaves are taken out of the text.
    `picture` says how a picture gets into a prompt, where it does.
    """

    output: str
    vocabulary: Annotated[int, Meta(ge=1, le=10_000_000)]
    context: Annotated[int, Meta(ge=2, le=10_000_000)]
    stop_token_ids: Annotated[tuple[Count, ...], Meta(max_length=100)] = ()
    start_token_ids: Annotated[tuple[Count, ...], Meta(max_length=1000)] = ()
    settings: GenerationSettings = GenerationSettings()
    clean_up_spaces: bool = False
    chat: Chat | None = None
    picture: PicturePrompt | None = None
    speech: SpeechTokens | None = None


class CtcOutput(Struct, frozen=True, tag_field="type", tag="ctc"):
    """`output` (batch, frames, tokens), logits of `tokens`, to text by connectionist temporal classification.

    The most probable token of each frame counts once where it stands in several frames in a row; then those of `blank`
    are left out. `tokens` are texts, "" of those that say nothing; `delimiter` is the one between words, if there is
    any, and becomes a blank. With `lowercase` the text is, and with `clean_up_spaces` blanks before punctuation are
    taken out of it. A frame is of `field` samples, and each begins `hop` samples behind the one before it. Of a sound
    of more frames than `window` so many are heard at a time, and the `margin` frames at a cut are taken from the window
    that has them farther from its end.
    """

    output: str
    tokens: Annotated[tuple[str, ...], Meta(min_length=2, max_length=1_000_000)]
    blank: Count
    hop: Annotated[int, Meta(ge=1, le=1_000_000)]
    field: Annotated[int, Meta(ge=1, le=1_000_000)]
    window: Annotated[int, Meta(ge=3, le=1_000_000)] = 1500
    margin: Annotated[int, Meta(ge=1, le=1_000_000)] = 125
    delimiter: Count | None = None
    lowercase: bool = False
    clean_up_spaces: bool = False


class FaceThreshold(Struct, frozen=True):
    """From which cosine on two faces are taken for one person's, and what it was measured on.

    `same` and `different` are the cosines of `same_pairs` pairs of pictures of one face and of `different_pairs` pairs
    of different people: the lowest of the former, and the highest of the latter. `error` is the share of pairs that the
    threshold decides wrongly, both kinds weighing alike. `how` says in words which they were.
    """

    cosine: Annotated[float, Meta(ge=-1.0, le=1.0)]
    same: Annotated[float, Meta(ge=-1.0, le=1.0)]
    same_pairs: Count
    different: Annotated[float, Meta(ge=-1.0, le=1.0)]
    different_pairs: Count
    error: Annotated[float, Meta(ge=0.0, le=1.0)]
    how: Annotated[str, Meta(max_length=2000)]


class FaceOutput(Struct, frozen=True, tag_field="type", tag="faces"):
    """Boxes of the detector to faces, and what the other graphs say of each.

    A box counts from above `min_score`; of two that overlap by more than `max_overlap` (intersection over union) the
    one of the lower score is dropped; at most `max_faces` are kept. `output` (batch, dimension) of the component
    `recognition` is a face's embedding, as it is. `expressions` and `genders` name the logits of the components
    `expression` and `age_gender`, where a bundle has these.
    """

    output: str
    dimension: Annotated[int, Meta(ge=1, le=1_000_000)]
    min_score: Annotated[float, Meta(ge=0.0, le=1.0)]
    max_overlap: Annotated[float, Meta(ge=0.0, le=1.0)]
    max_faces: Annotated[int, Meta(ge=1, le=1000)]
    threshold: FaceThreshold
    expressions: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()
    genders: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()


class ContrastiveOutput(Struct, frozen=True, tag_field="type", tag="contrastive"):
    """Texts and images to vectors of one space, and their cosines to scores of labels.

    `text` stands behind the component `text_encoder`, `image` behind `vision_encoder`. A label's logit is its cosine
    to the image times `logit_scale` plus `logit_bias`, all divided by `temperature`; the scores of an image are the
    softmax over its labels' logits, or the sigmoid of each. A label is put into each of `templates` in the place of
    `{}`; of several its vector is the mean of theirs, all of length 1.
    """

    text: EmbeddingOutput
    image: EmbeddingOutput
    activation: Literal["softmax", "sigmoid"]
    logit_scale: Annotated[float, Meta(gt=0.0)]
    logit_bias: float = 0.0
    temperature: Annotated[float, Meta(gt=0.0)] = 1.0
    templates: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1000)] = ("{}",)


class VoiceSettings(Struct, frozen=True):
    """How a voice speaks unless a call says otherwise.

    `speed` divides the time that every sound takes; `noise` and `duration_noise` are what the drawn noise of the sounds
    and of their durations is multiplied with: without any a voice says a sentence always alike, and flatter.
    """

    speed: Annotated[float, Meta(ge=0.1, le=10.0)] = 1.0
    noise: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.667
    duration_noise: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.8


class FrameSteps(Struct, frozen=True):
    """How a voice makes frames one after the other, `frames` of them a step, from what the frame before was.

    A step also takes `layers` rows of `units` factors, for the dropout that the voice has at inference, too: each is
    1 / (1 - `dropout`) with the chance `dropout`, else 0; without any it is 1. A sentence ends with the first step
    whose chances of an end sum up to `threshold`; at the latest after `most_per_token` frames for each of its tokens,
    or after `most_steps` steps.
    `vectors` is the file of the speakers' vectors: `speaker_vectors`, float32 (speakers, size), a row each.
    """

    frames: Annotated[int, Meta(ge=1, le=64)]
    layers: Annotated[int, Meta(ge=1, le=64)]
    units: Annotated[int, Meta(ge=1, le=65_536)]
    vectors: str
    dropout: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5
    threshold: Annotated[float, Meta(gt=0.0, le=64.0)] = 0.5
    most_per_token: Annotated[float, Meta(gt=0.0, le=1000.0)] = 20.0
    most_steps: Annotated[int, Meta(ge=1, le=100_000)] = 4000


class SpeechOutput(Struct, frozen=True, tag_field="type", tag="speech"):
    """The sounds of a sentence to its waveform, by the components `encoder`, `flow` and `decoder` in turn; or, with
    `steps`, by `encoder`, `frame_decoder` (step by step), `postnet` and `vocoder`, the last in the decoder's place.

    `output` of the decoder (1, samples) has `hop` samples of `sample_rate` a second for each frame of its input; what
    it makes of a frame depends on `context` frames to each side, so that it may be run on parts. With `normalize`
    "peak" the waveform of a sentence is divided by its largest magnitude. `speakers` are a voice's, by their names,
    with what the graphs call them; empty where there is one.
    """

    output: str
    sample_rate: Annotated[int, Meta(ge=1000, le=384_000)]
    hop: Annotated[int, Meta(ge=1, le=100_000)]
    context: Annotated[int, Meta(ge=0, le=10_000)]
    normalize: Literal["peak", "none"] = "none"
    settings: VoiceSettings = VoiceSettings()
    speakers: dict[Annotated[str, Meta(min_length=1, max_length=200)], Count] = {}
    steps: FrameSteps | None = None


Postprocessing = (
    EmbeddingOutput
    | TokenOutput
    | SparseOutput
    | ClassificationOutput
    | RegressionOutput
    | ForecastOutput
    | FaceOutput
    | ContrastiveOutput
    | GenerationOutput
    | SpeechOutput
    | CtcOutput
)


class GoldenFiles(Struct, frozen=True):
    """Where the golden samples are: `samples` a JSON list, `tensors` a safetensors file."""

    samples: BundlePath
    tensors: BundlePath


class Provenance(Struct, frozen=True):
    """Where the weights came from, under which licence, and what exported them."""

    checkpoint: str
    checkpoint_sha256: Sha256
    license: str
    license_file: BundlePath | None = None
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class Manifest(Struct, frozen=True):
    """The whole of `bundle.json`."""

    format: str
    version: str
    name: Name
    family: Family
    task: Task
    default_variant: Name
    components: Annotated[dict[Name, Component], Meta(min_length=1)]
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    golden: GoldenFiles
    provenance: Provenance
    files: dict[BundlePath, FileEntry]
    space: Sha256 | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants every component has, in the manifest's order."""
        first, *others = self.components.values()
        return tuple(name for name in first.variants if all(name in c.variants for c in others))


class Header(Struct, frozen=True):
    """What every version of a manifest has."""

    format: str
    version: str
