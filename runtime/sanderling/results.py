"""What models answer: one frozen type for one input, one for a batch that can be indexed into the former.

Nothing is lost silently: each answer carries a report of what was done to its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar, overload

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import precisions
from sanderling.precisions import Precision


class Timing(Struct, frozen=True):
    """Seconds one call spent before the graphs, in them, and after them."""

    preprocess: float
    run: float
    postprocess: float

    @property
    def total(self) -> float:
        """The sum of the three."""
        return self.preprocess + self.run + self.postprocess


def summed(timings: Iterable[Timing]) -> Timing:
    """The seconds of several calls together; zeros for none."""
    spent = [(one.preprocess, one.run, one.postprocess) for one in timings]
    return Timing(*map(sum, zip(*spent, strict=True))) if spent else Timing(0.0, 0.0, 0.0)


class TextReport(Struct, frozen=True):
    """What became of one text: tokens the model saw (special ones included), and what it did not see.

    `tokens_lost` counts the tokens cut by truncation among the characters that were read; a text so long that its
    end cannot matter is read only in part, and `characters_unread` counts the rest. A text that was answered in
    several `windows` counts the tokens of all of them, those that two share twice. `prompt_tokens` are the first ones,
    which a prompt was made into, with the special tokens before it: they take room from the text. `tokens_unknown` are
    those that stand for what the vocabulary has no token for: words, signs or pictures of which the model saw no more
    than that something is there.
    """

    tokens: int
    tokens_lost: int = 0
    characters_unread: int = 0
    windows: int = 1
    prompt_tokens: int = 0
    tokens_unknown: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing of the text was cut off or left unread."""
        return self.tokens_lost == 0 and self.characters_unread == 0


class TokenReport(TextReport, frozen=True, kw_only=True):
    """What became of one text whose tokens have a vector each.

    `tokens` counts those that were filled up, `expanded`, too. `places` are those of the tokens that have a vector, in
    their order, and `ids` their ids in the vocabulary; the others, `tokens` less as many, were left out on purpose
    (punctuation of documents).
    """

    expanded: int = 0
    places: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()


class ImageReport(Struct, frozen=True):
    """What was done to one image before the model saw it.

    `width` and `height` are of the stored image, in pixels; `mode` is Pillow's name for its pixel format.
    `rotated` says that its EXIF orientation was applied, `alpha_composited` that transparency was laid on white,
    `frames_dropped` that only the first frame of several was seen, `depth_reduced` that more than 8 bits a channel
    were brought to 8. `reduced` is how many times smaller than it is stored a JPEG was decoded (1, 2, 4 or 8).
    `cropped` is the share of the image's area that a crop cut away.
    """

    width: int
    height: int
    mode: str
    rotated: bool = False
    alpha_composited: bool = False
    frames_dropped: bool = False
    depth_reduced: bool = False
    cropped: float = 0.0
    reduced: int = 1

    def with_cropped(self, share: float) -> ImageReport:
        """The same report with the share of the area that was cut away."""
        return replace(self, cropped=share)


class QuestionReport(ImageReport, frozen=True, kw_only=True):
    """What was done to one image, and what became of the `question` that was asked about it."""

    question: TextReport


class RowReport(Struct, frozen=True):
    """What became of one row: the columns whose value was missing, and those whose category the model never saw."""

    missing: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every value was there and known."""
        return not self.missing and not self.unseen


class SeriesReport(Struct, frozen=True):
    """What became of one series of `values`: of those the model looks at, `missing` were filled on a straight line.

    `unused` counts values too old to be looked at; `level` was subtracted before the graph and added after it.
    """

    values: int
    missing: int = 0
    unused: int = 0
    level: float = 0.0


class AudioReport(Struct, frozen=True):
    """What was done to one sound before the model heard it.

    `rate`, `channels`, `frames` (samples of a channel) and `encoding` ("pcm 16 bit") are of the sound as it is stored.
    Several channels were mixed down to their mean; another rate was `resampled` to the model's. `clipped` counts
    samples at an end of their range, where a recording was cut off. `missing` counts the frames that a file promises
    and does not have: they were not heard. `unheard` are the seconds at the end that are more than the model takes.
    """

    rate: int
    channels: int
    frames: int
    encoding: str
    clipped: int = 0
    missing: int = 0
    resampled: int | None = None
    unheard: float = 0.0

    @property
    def seconds(self) -> float:
        """How long the sound is."""
        return self.frames / self.rate

    @property
    def mixed(self) -> bool:
        """Whether several channels were made one."""
        return self.channels > 1

    @property
    def complete(self) -> bool:
        """Whether all was there that the file says it holds, and was heard."""
        return self.missing == 0 and self.unheard == 0


class SpeechReport(Struct, frozen=True):
    """What became of one text that was said: its `sentences`, and what of it is not heard.

    `skipped` are the characters that were left out, with how often each was met, the most frequent first and fifty at
    most; `characters_skipped` counts all: pictures, controls, and letters of a script that the voice does not read.
    `unknown` are phonemes that the voice never learned, with how often. `languages` are those that the phonemizer went
    to within the text, and `parted` counts the cuts in sentences too long for one run. `unfinished` counts the
    sentences that a voice which makes its frames step by step had not ended where the bundle's bound on their length
    ended them: what follows there is not heard.
    """

    characters: int
    sentences: int
    skipped: tuple[tuple[str, int], ...] = ()
    characters_skipped: int = 0
    unknown: tuple[tuple[str, int], ...] = ()
    languages: tuple[str, ...] = ()
    parted: int = 0
    unfinished: int = 0

    @property
    def complete(self) -> bool:
        """Whether all of the text is heard."""
        return not self.characters_skipped and not self.unknown and not self.unfinished


InputReport = TextReport | ImageReport | RowReport | SeriesReport | AudioReport | SpeechReport


class Embedding(Struct, frozen=True, eq=False):
    """One vector. `embedding` has the shape (d,), float32; `space` is the fingerprint of its embedding space.

    `drift` is the lowest cosine to the original's vectors that was measured of its variant at export, or None.
    In another `precision` the numbers are as in Embeddings, and `scale` is what 8-bit ones are multiplied with.
    """

    embedding: NDArray[Any]
    report: InputReport
    space: str
    variant: str
    timing: Timing
    drift: float | None = None
    precision: Precision = "float32"
    scale: float | None = None

    @property
    def floats(self) -> NDArray[np.float32]:
        """The vector (d,) as float32, whatever its precision; of bits -1 and 1."""
        scales = None if self.scale is None else np.array([self.scale], np.float32)
        return precisions.expand(self.embedding[None], self.precision, scales).reshape(-1)

    @property
    def tokens_lost(self) -> int:
        """Tokens of the text that truncation cut away; 0 for images."""
        return _tokens_lost(self.report)

    def __repr__(self) -> str:
        begins = ", ".join(f"{value:.4f}" for value in self.embedding[:3])
        kind = "" if self.precision == "float32" else f" ({self.precision})"
        return f"Embedding([{begins}, …], {len(self.embedding)} numbers{kind}, {self.variant}, {self.report})"


class Embeddings(Struct, frozen=True, eq=False):
    """Vectors of a batch, in input order. `embeddings` has the shape (n, d), float32; the rest is as in Embedding.

    With the `precision` "float16" they are float16; with "int8" whole numbers from -127 to 127, to be multiplied with
    `scales` (n,); with "binary" bits, 1 where a number is above 0, eight to a byte from the highest, uint8 (n, d / 8).
    Its length, its items (Embedding) and its slices are those of a sequence.
    """

    embeddings: NDArray[Any]
    reports: tuple[InputReport, ...]
    space: str
    variant: str
    timing: Timing
    drift: float | None = None
    precision: Precision = "float32"
    scales: NDArray[np.float32] | None = None

    @property
    def floats(self) -> NDArray[np.float32]:
        """The vectors (n, d) as float32, whatever their precision; of bits -1 and 1."""
        return precisions.expand(self.embeddings, self.precision, self.scales)

    @property
    def tokens_lost(self) -> tuple[int, ...]:
        """For each text, the tokens that truncation cut away."""
        return tuple(map(_tokens_lost, self.reports))

    def __repr__(self) -> str:
        count, dimension = self.embeddings.shape
        return f"Embeddings({count} x {dimension} numbers, {self.variant})"

    def __len__(self) -> int:
        return len(self.reports)

    @overload
    def __getitem__(self, index: int) -> Embedding: ...
    @overload
    def __getitem__(self, index: slice) -> list[Embedding]: ...
    def __getitem__(self, index: int | slice) -> Embedding | list[Embedding]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        scale = None if self.scales is None else float(self.scales[index])
        return Embedding(
            self.embeddings[index],
            self.reports[index],
            self.space,
            self.variant,
            self.timing,
            self.drift,
            self.precision,
            scale,
        )

    def __iter__(self) -> Iterator[Embedding]:
        return (self[i] for i in range(len(self)))


Item = TypeVar("Item")


class Batch(Struct, Generic[Item], frozen=True, eq=False):
    """Answers of a batch, in input order. Its length, its `items` and its slices, which are lists, are a sequence's."""

    items: tuple[Item, ...]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        return list(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


class Classification(Struct, frozen=True, eq=False):
    """One decision. `labels` and `scores` are sorted by falling score, `top_k` of them.

    `logits` has the shape (all labels,), float32, in the model's own order; of a text in windows they are combined as
    the scores are. `selected` are the labels that hold, best first: the best one, or where several labels may hold,
    all whose score reaches its threshold, which may be none. Of a regression `labels` and `scores` are the names and
    numbers of all its targets in the model's own order, and `selected` is empty.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    logits: NDArray[np.float32]
    report: InputReport
    variant: str
    timing: Timing
    selected: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The label of the highest score."""
        return self.labels[0]

    @property
    def score(self) -> float:
        """The highest score."""
        return self.scores[0]

    def __repr__(self) -> str:
        best = ", ".join(f"{label} {score:.4f}" for label, score in zip(self.labels, self.scores, strict=True))
        return f"Classification({best})"


class Classifications(Batch[Classification], frozen=True, eq=False):
    """Decisions of a batch, in input order. `logits` has the shape (n, all labels), float32.

    Its length, its items (Classification) and its slices are those of a sequence.
    """

    logits: NDArray[np.float32]
    timing: Timing

    def __repr__(self) -> str:
        first = ", ".join(item.label for item in self.items[:3]) + (", …" if len(self.items) > 3 else "")
        return f"Classifications({len(self.items)}: {first})"


def _tokens_lost(report: InputReport) -> int:
    return report.tokens_lost if isinstance(report, TextReport) else 0
