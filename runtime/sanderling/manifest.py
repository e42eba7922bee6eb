"""The schema of `bundle.json`, version 1: frozen structs, decoded and bounded by msgspec in `codec`.

`docs/bundle-format.md` specifies the same byte by byte; a field added here is added there.
Unknown fields within major version 1 are ignored, so that later fields break no reader.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from sanderling.schema.answers import (
    ClassificationOutput,
    ContrastiveOutput,
    CtcOutput,
    FaceOutput,
    ForecastOutput,
    RegressionOutput,
)
from sanderling.schema.basics import BundlePath, Family, Name, Sha256, Task
from sanderling.schema.generation import GenerationOutput
from sanderling.schema.preprocessing import (
    FacesPreprocessing,
    ImagePreprocessing,
    SeriesPreprocessing,
    TabularPreprocessing,
    TextPreprocessing,
    VideoPreprocessing,
)
from sanderling.schema.sounds import AudioPreprocessing, PhonemesPreprocessing
from sanderling.schema.variants import Component, FileEntry
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling.schema.voices import SpeechOutput

FORMAT = "sanderling-bundle"
MAJOR_VERSION = 1
MINOR_VERSION = 0
MANIFEST_NAME = "bundle.json"
MAX_MANIFEST_BYTES = 16 * 2**20


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
