"""What a graph answers, in the manifest: classes, numbers, frames of speech, faces, and pairs that fit."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling.schema.basics import Count
from sanderling.schema.vectors import EmbeddingOutput


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
