"""What models answer: one frozen type for one input, one for a batch that can be indexed into the former.

Nothing is lost silently: each answer carries a report of what was done to its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds one call spent before the graphs, in them, and after them."""

    preprocess: float
    run: float
    postprocess: float

    @property
    def total(self) -> float:
        return self.preprocess + self.run + self.postprocess


@dataclass(frozen=True, slots=True)
class TextReport:
    """What became of one text: tokens the model saw (special ones included), and what it did not see.

    `tokens_lost` counts the tokens cut by truncation among the characters that were read; a text so long that its
    end cannot matter is read only in part, and `characters_unread` counts the rest.
    """

    tokens: int
    tokens_lost: int = 0
    characters_unread: int = 0

    @property
    def complete(self) -> bool:
        """Whether the model saw the whole text."""
        return self.tokens_lost == 0 and self.characters_unread == 0


@dataclass(frozen=True, slots=True)
class ImageReport:
    """What was done to one image before the model saw it.

    `width` and `height` are of the stored image, in pixels; `mode` is Pillow's name for its pixel format.
    `rotated` says that its EXIF orientation was applied, `alpha_composited` that transparency was laid on white,
    `frames_dropped` that only the first frame of several was seen, `depth_reduced` that more than 8 bits a channel
    were brought to 8. `cropped` is the share of the image's area that a crop cut away.
    """

    width: int
    height: int
    mode: str
    rotated: bool = False
    alpha_composited: bool = False
    frames_dropped: bool = False
    depth_reduced: bool = False
    cropped: float = 0.0

    def with_cropped(self, share: float) -> ImageReport:
        """The same report with the share of the area that was cut away."""
        return replace(self, cropped=share)


InputReport = TextReport | ImageReport


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One vector. `embedding` has the shape (d,), float32; `space` is the fingerprint of its embedding space."""

    embedding: NDArray[np.float32]
    report: InputReport
    space: str
    variant: str
    timing: Timing

    @property
    def tokens_lost(self) -> int:
        """Tokens of the text that truncation cut away; 0 for images."""
        return self.report.tokens_lost if isinstance(self.report, TextReport) else 0


@dataclass(frozen=True, slots=True)
class Classification:
    """One decision. `labels` and `scores` are sorted by falling score, `top_k` of them.

    `logits` has the shape (all labels,), float32, in the model's own order.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    report: InputReport
    variant: str
    timing: Timing
    logits: NDArray[np.float32] = field(repr=False, compare=False, default_factory=lambda: np.zeros(0, np.float32))

    @property
    def label(self) -> str:
        """The label of the highest score."""
        return self.labels[0]

    @property
    def score(self) -> float:
        """The highest score."""
        return self.scores[0]


class _Batch(Sequence[R], Generic[R]):
    """A sequence of answers that builds each on demand."""

    def _at(self, index: int) -> R:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> list[R]: ...
    def __getitem__(self, index: int | slice) -> R | list[R]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of a batch of {len(self)} answers")
        return self._at(index % len(self))

    def __iter__(self) -> Iterator[R]:
        return (self._at(i) for i in range(len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings(_Batch[Embedding]):
    """Vectors of a batch, in input order. `embeddings` has the shape (n, d), float32."""

    embeddings: NDArray[np.float32]
    reports: tuple[InputReport, ...]
    space: str
    variant: str
    timing: Timing

    def __len__(self) -> int:
        return len(self.reports)

    def _at(self, index: int) -> Embedding:
        return Embedding(self.embeddings[index], self.reports[index], self.space, self.variant, self.timing)

    @property
    def tokens_lost(self) -> tuple[int, ...]:
        """For each text, the tokens that truncation cut away."""
        return tuple(r.tokens_lost if isinstance(r, TextReport) else 0 for r in self.reports)


@dataclass(frozen=True, slots=True, eq=False)
class Classifications(_Batch[Classification]):
    """Decisions of a batch, in input order. `logits` has the shape (n, all labels), float32."""

    items: tuple[Classification, ...]
    logits: NDArray[np.float32]
    timing: Timing

    def __len__(self) -> int:
        return len(self.items)

    def _at(self, index: int) -> Classification:
        return self.items[index]
