"""`feature-extraction` of sounds: vectors of what is heard, or of who speaks, and whether two are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from sanderling import spaces
from sanderling.errors import InputError
from sanderling.results import Embedding
from sanderling.tasks.feature_extraction import EmbeddingModel

if TYPE_CHECKING:
    from sanderling.audio import AudioInput


class SoundMatch(Struct, frozen=True):
    """How alike two sounds are: `similarity` is the cosine of their vectors, `threshold` from where on they are taken
    for one speaker's (None: nobody said)."""

    similarity: float
    threshold: float | None

    @property
    def same(self) -> bool | None:
        """Whether the similarity reaches the threshold; None without one."""
        return None if self.threshold is None else self.similarity >= self.threshold


class SoundEmbeddingModel(EmbeddingModel):
    """Turns sounds into vectors of one embedding space."""

    @property
    def threshold(self) -> float | None:
        """The cosine from which on two sounds are taken for one speaker's, as the bundle says; None where it does not.

        Of a model whose vectors were cut it says nothing.
        """
        return self._head.same_from if self.dimension == self._head.dimension else None

    def compare(
        self, a: AudioInput | Embedding, b: AudioInput | Embedding, *, threshold: float | None = None
    ) -> SoundMatch:
        """Whether two sounds are one speaker's. Each is a sound, or a vector that was made of one.

        `threshold` is the cosine from which on they are (default: the bundle's, where it has one). Raises AudioError
        for what is no sound, SpaceError for a vector of another space, InputError for a threshold that is no cosine.
        """
        if threshold is not None and not (isinstance(threshold, int | float) and -1 <= threshold <= 1):
            raise InputError(f"threshold is {threshold!r}; a cosine from -1 to 1 was expected.")
        first, second = (one if isinstance(one, Embedding) else self._vector(one) for one in (a, b))
        for vector in (first, second):
            if vector.space != self.space:
                raise spaces.refuse_mixed(vector.space, self.space)
        similarity = float(spaces.similarity(first, second)[0, 0])
        return SoundMatch(similarity, self.threshold if threshold is None else float(threshold))

    def _vector(self, sound: AudioInput) -> Embedding:
        found = self(sound)
        if not isinstance(found, Embedding):
            raise InputError("compare() was given a list in place of a sound; two single ones were expected.")
        return found
