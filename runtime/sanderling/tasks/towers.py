"""Two towers, one of texts and one of images, whose vectors are of one space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.errors import TextError
from sanderling.model import Answers, Model
from sanderling.pairs import TextPair
from sanderling.placement import Placement, together
from sanderling.plan import Plan
from sanderling.results import Embedding, Embeddings, InputReport, Timing, summed
from sanderling.tasks.feature_extraction import EmbeddingModel

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput


class Towers(Model):
    """Gives texts and images vectors that can be compared, each by an embedding model of its own."""

    def __init__(self, bundle: Bundle, plan: Plan, text: EmbeddingModel, vision: EmbeddingModel) -> None:
        super().__init__(bundle, plan, vision.front, vision._engines, vision.dimension)
        self.text_encoder = text
        self.vision_encoder = vision
        self.space = vision.space

    @property
    def takes(self) -> tuple[str, ...]:
        """The modalities that `answer` takes: "text" and "image"."""
        return ("text", "image")

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self.vision_encoder.dimension

    @property
    def placement(self) -> Placement:
        """Which provider really has which nodes, of both towers together."""
        return together(self.provider, (self.text_encoder.placement, self.vision_encoder.placement))

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement of both towers, with each provider's share of the time that a text and an image take.

        `inputs` may be texts, images or both; arguments are as with every model.
        """
        towers = (self.text_encoder, self.vision_encoder)
        if inputs is None:
            return together(self.provider, [tower.measure_placement(None, runs) for tower in towers])
        shares = _by_tower(inputs)
        found = [
            tower.measure_placement([inputs[place] for place in places], runs) if places else tower.placement
            for tower, places in zip(towers, shares, strict=True)
        ]
        return together(self.provider, found)

    def close(self) -> None:
        """Free both graphs. Calls under way end as they would; later ones raise ModelClosedError."""
        self.text_encoder.close()
        self.vision_encoder.close()

    @overload
    def embed_texts(self, texts: str, *, cancellation: Cancellation | None = None) -> Embedding: ...  # type: ignore[overload-overlap]
    @overload
    def embed_texts(self, texts: Iterable[str], *, cancellation: Cancellation | None = None) -> Embeddings: ...
    def embed_texts(
        self, texts: str | Iterable[str], *, cancellation: Cancellation | None = None
    ) -> Embedding | Embeddings:
        """Embed one text, or each of a list; what did not fit the model is in the report of each (`tokens_lost`).

        Raises TextError for what is no text: an image, bytes, an array.
        """
        if not isinstance(texts, str) and (hasattr(texts, "getbands") or isinstance(texts, np.ndarray)):
            raise TextError(f"An image was given as a text ({type(texts).__name__}); images go to embed_images.")
        return self.text_encoder(texts, cancellation=cancellation)

    @overload
    def embed_images(self, images: ImageInput, *, cancellation: Cancellation | None = None) -> Embedding: ...  # type: ignore[overload-overlap]
    @overload
    def embed_images(self, images: Iterable[ImageInput], *, cancellation: Cancellation | None = None) -> Embeddings: ...
    def embed_images(
        self, images: ImageInput | Iterable[ImageInput], *, cancellation: Cancellation | None = None
    ) -> Embedding | Embeddings:
        """Embed one image (a file, its bytes, a PIL image or an array), or each of a list. Raises ImageError."""
        return self.vision_encoder(images, cancellation=cancellation)

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """The vectors (n, dimension) of texts (str) and images (all else: bytes, a Path, a PIL image, an array), in
        input order."""
        rows = np.empty((len(items), self.dimension), np.float32)
        reports: dict[int, InputReport] = {}
        spent: list[Timing] = []
        for tower, places in zip((self.text_encoder, self.vision_encoder), _by_tower(items), strict=True):
            asked = prompt if tower is self.text_encoder else None
            answers = tower.answer([items[place] for place in places], asked, cancellation)
            if places:
                rows[places] = answers.rows
                reports |= dict(zip(places, answers.reports, strict=True))
                spent.append(answers.timing)
        return Answers(rows, tuple(reports[place] for place in range(len(items))), summed(spent))


def _by_tower(items: Sequence[Any]) -> tuple[list[int], list[int]]:
    """The places of texts, and those of images."""
    texts = [place for place, item in enumerate(items) if isinstance(item, str | TextPair)]
    return texts, sorted(set(range(len(items))) - set(texts))
