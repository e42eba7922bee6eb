"""What stands before a graph in the manifest: of texts, images, tables, series, faces and videos."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling.schema.basics import BundlePath, Count, Level, Resample, Side


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
