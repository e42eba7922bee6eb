"""What stands before the graphs, by modality: a caller's inputs to batches of feeds, and a report of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sanderling import schedule
from sanderling.errors import ImageError, InputError, TextError
from sanderling.pairs import TextPair, as_pair
from sanderling.plan import EXACT, PACKED, PADDED
from sanderling.preprocess import blocks
from sanderling.results import InputReport
from sanderling.schema.basics import Decode
from sanderling.schema.preprocessing import ImagePreprocessing
from sanderling.session import Arrays

if TYPE_CHECKING:
    from PIL.Image import Image

    from sanderling.audio import Audio
    from sanderling.cancellation import Cancellation
    from sanderling.preprocess.text import Encoded, TextEncoder, Windows

    ImageInput: TypeAlias = str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]
    TextInput: TypeAlias = str | TextPair | Mapping[str, str]
    # One input of a model that takes texts, images or sounds.
    Input: TypeAlias = TextInput | ImageInput | Audio

_ONE_TEXT = (str, TextPair, Mapping)
_ONE_IMAGE = (str, bytes, bytearray, memoryview, os.PathLike, np.ndarray)


class Front(Protocol):
    """The way of one modality's inputs to the graphs."""

    modality: str

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """The inputs as a list, and whether it was a single one that was handed over."""
        ...

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[Any]:
        """What can and must be known of all inputs before they are batched; `cancellation` ends it early."""
        ...

    def batches(self, prepared: Sequence[Any]) -> Iterator[list[int]]:
        """The indices of the inputs of each run."""
        ...

    def feeds(self, batch: Sequence[Any]) -> tuple[Arrays, list[InputReport]]:
        """One run's graph inputs, and each input's report."""
        ...


class TextFront:
    """Texts, sorted by length and batched under a token budget as the graph's form takes them."""

    modality = "text"

    def __init__(
        self,
        encoder: TextEncoder,
        input_names: Sequence[str],
        token_budget: int,
        form: str = PADDED,
        rounding: int = 1,
    ) -> None:
        self._encoder = encoder
        self._input_names = input_names
        self._token_budget = token_budget
        self._form = form
        self._rounding = rounding

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        if isinstance(inputs, _ONE_TEXT):
            return [as_pair(inputs)], True
        if isinstance(inputs, bytes | Set) or not isinstance(inputs, Iterable):
            raise TextError(
                f"The input is of type {type(inputs).__name__}; a text (str) or a list of texts was expected."
            )
        return [as_pair(item) for item in inputs], False

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[Encoded]:
        return self._encoder.encode(items, prompt, cancellation)

    @property
    def room(self) -> int:
        """Tokens of a text that the model sees, beside the special ones."""
        return self._encoder.room

    def offsets(self, text: str) -> NDArray[np.int64]:
        """Where each token of a text stands: (tokens, 2), first character and the one after the last."""
        return self._encoder.offsets(text)

    def token(self, place: int) -> str:
        """The token of an id, as it stands in the vocabulary."""
        return self._encoder.token(place)

    def windows(self, items: list[Any], cancellation: Cancellation | None = None) -> list[Windows]:
        """Each text in as many windows as it needs; each window is prepared as `prepare` gives it."""
        return self._encoder.windows(items, cancellation)

    def batches(self, prepared: Sequence[Encoded]) -> Iterator[list[int]]:
        settings = self._encoder.settings
        full = settings.max_tokens if settings.padding == "max_tokens" else 0
        lengths = [full or encoded.length for encoded in prepared]
        return schedule.batches(lengths, self._token_budget, self._form, self._rounding)

    def feeds(self, batch: Sequence[Encoded]) -> tuple[Arrays, list[InputReport]]:
        return self._arrays(batch), [encoded.report for encoded in batch]

    def _arrays(self, batch: Sequence[Encoded]) -> Arrays:
        if self._form == EXACT:
            return blocks.exact(batch, self._input_names)
        if self._form == PACKED:
            return blocks.packed(batch, self._input_names)
        settings = self._encoder.settings
        if settings.padding == "max_tokens":
            return self._encoder.pad(batch, self._input_names, settings.max_tokens)
        if self._rounding == 1:
            return self._encoder.pad(batch, self._input_names)
        longest = max(encoded.length for encoded in batch)
        # A text may be as long as the model takes, which need not be a multiple.
        length = max(longest, min(schedule.rounded(longest, self._rounding), settings.max_tokens))
        return self._encoder.pad(batch, self._input_names, length)


class Pictures:
    """What fronts of images have in common: images as they are handed over, which are decoded later."""

    modality = "image"

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        if isinstance(inputs, _ONE_IMAGE) or hasattr(inputs, "getbands"):
            return [inputs], True
        if isinstance(inputs, Mapping | Set) or not isinstance(inputs, Iterable):
            raise ImageError(
                f"The input is of type {type(inputs).__name__}; "
                "a file, bytes, a PIL image, an array, or a list of these was expected."
            )
        return list(inputs), False

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[Any]:
        del cancellation  # nothing here takes time
        if prompt is not None:
            raise InputError(f"A prompt ({prompt!r}) goes with texts; this model takes images.")
        return items


class ImageFront(Pictures):
    """Images, in input order; each is decoded only when its run is due, so that memory does not grow with the list."""

    def __init__(
        self, settings: ImagePreprocessing, input_name: str, image_budget: int, decode: Decode = "exact"
    ) -> None:
        # Pillow is loaded only for models that see: text models start without it.
        from sanderling.preprocess.image import ImagePipeline, decoded

        self._decoded = decoded
        self._pipeline = ImagePipeline(settings)
        self._least = self._pipeline.least if decode == "fast" else None
        self._input_name = input_name
        self._image_budget = image_budget

    def batches(self, prepared: Sequence[Any]) -> Iterator[list[int]]:
        count, step = len(prepared), self._image_budget
        return (list(range(i, min(i + step, count))) for i in range(0, count, step))

    def feeds(self, batch: Sequence[Any]) -> tuple[Arrays, list[InputReport]]:
        pixels: list[NDArray[np.float32]] = []
        reports: list[InputReport] = []
        for image in batch:
            rgb, report, reduced = self._decoded(image, self._least)
            values, cropped = self._pipeline(rgb, reduced)
            pixels.append(values)
            reports.append(report.with_cropped(cropped))
        return {self._input_name: np.stack(pixels)}, reports
