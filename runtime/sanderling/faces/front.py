"""What stands before the graphs of a model of faces: pictures to the detector's input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sanderling.fronts import Pictures
from sanderling.preprocess import faces
from sanderling.results import ImageReport, InputReport
from sanderling.schema.preprocessing import FacesPreprocessing
from sanderling.session import Arrays

if TYPE_CHECKING:
    from PIL.Image import Image

INPUT = "pixel_values"


class FaceFront(Pictures):
    """Pictures one by one: what is done with each depends on the faces in it."""

    def __init__(self, settings: FacesPreprocessing) -> None:
        # Pillow is loaded only for models that see: text models start without it.
        from sanderling.preprocess.canonical import canonical

        self._canonical = canonical
        self.settings = settings

    def batches(self, prepared: Sequence[Any]) -> Iterator[list[int]]:
        return ([place] for place in range(len(prepared)))

    def feeds(self, batch: Sequence[Any]) -> tuple[Arrays, list[InputReport]]:
        pictures = [self.picture(image) for image in batch]
        values = [faces.square(pixels, self.settings.detector) for pixels, _ in pictures]
        return {INPUT: np.stack(values)}, [report for _, report in pictures]

    def picture(self, image: Any) -> tuple[NDArray[np.uint8], ImageReport]:
        """An image upright, as 8-bit RGB (h, w, 3), and what was done to it. Raises ImageError."""
        rgb: Image
        rgb, report = self._canonical(image)
        return np.asarray(rgb), report
