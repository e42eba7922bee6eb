"""Golden samples: inputs kept in the bundle with the original's preprocessed tensors and answers."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from sanderling.bundle import Bundle
from sanderling.errors import ManifestError
from sanderling.generation.questions import PictureQuestion
from sanderling.pairs import TextPair
from sanderling.schema.basics import BundlePath, Count, Name
from sanderling.voices.speech import Phonemes

# The dtypes of the safetensors format that a golden tensor can have, little-endian.
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "<i1", "U8": "<u1", "U16": "<u2", "BOOL": "?",
}  # fmt: skip
_MAX_HEADER = 2**20
_MAX_SAMPLES = 10_000
_MAX_RANK = 16

Extent = Annotated[int, Meta(ge=0, le=2**40)]


class GoldenSample(Struct, frozen=True, omit_defaults=True):
    """One input: a text, a pair of texts, the path of an image or of a WAV file in the bundle, a row of a table, or a
    series.

    A `question` is one about the image. `prompt` names the prompt that a text was answered with; null for the bundle's
    default. Of a voice, `phonemes` are the symbols of one sentence that the text is, and `seed` is what its noise was
    drawn with, null for none.
    """

    id: Name
    text: str | None = None
    text_pair: str | None = None
    prompt: str | None = None
    image: BundlePath | None = None
    row: dict[str, str | bool | int | float | None] | None = None
    series: tuple[float | None, ...] | None = None
    question: str | None = None
    phonemes: tuple[str, ...] | None = None
    seed: Count | None = None
    audio: BundlePath | None = None


class _TensorEntry(Struct, frozen=True):
    dtype: str
    shape: tuple[Extent, ...]
    data_offsets: tuple[Extent, Extent]


@dataclass(frozen=True)
class Golden:
    """All golden samples of a bundle, read and checked."""

    samples: tuple[GoldenSample, ...]
    tensors: dict[str, NDArray[Any]]

    def output(self, sample: GoldenSample) -> NDArray[Any]:
        """The original's answer: the final embedding (d,), or logits (labels,), float32; of numbers float64."""
        of_numbers = sample.row is not None or sample.series is not None
        return self.tensors[f"{sample.id}.output"].astype(np.float64 if of_numbers else np.float32, copy=False)

    def inputs(self, sample: GoldenSample) -> dict[str, NDArray[Any]]:
        """The original's preprocessed tensors by graph input, without the batch dimension."""
        prefix = f"{sample.id}.input."
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def part(self, sample: GoldenSample, component: str) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Of a model of several graphs: inputs (n, ...) that the original made of a sample for one of its graphs, and
        the original's answers to them (n, d); None where that graph had nothing to answer."""
        prefix = f"{sample.id}.{component}"
        names = (f"{prefix}.input", f"{prefix}.output")
        if not all(name in self.tensors for name in names):
            return None
        fed, answered = (self.tensors[name].astype(np.float32, copy=False) for name in names)
        return fed, answered


def read_golden(bundle: Bundle) -> Golden:
    """The golden samples of a bundle. Raises BundleError where a file is damaged or a sample has no answer."""
    files = bundle.manifest.golden
    where = bundle.path / files.samples
    try:
        samples = msgspec.json.decode(bundle.read(files.samples), type=tuple[GoldenSample, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{where} is no valid list of golden samples: {error}.") from error
    tensors = read_safetensors(bundle.read(files.tensors), str(bundle.path / files.tensors))
    if not 1 <= len(samples) <= _MAX_SAMPLES or len({sample.id for sample in samples}) != len(samples):
        raise ManifestError(f"{where} needs 1 to {_MAX_SAMPLES:,} golden samples, each with an id of its own.")
    asks = bundle.manifest.task == "visual-question-answering"
    for sample in samples:
        if (
            sum(given is not None for given in (sample.text, sample.image, sample.row, sample.series, sample.audio))
            != 1
        ):
            raise ManifestError(
                f"{where}: sample {sample.id!r} needs either a text or an image (or a row, a series, audio), one alone."
            )
        if sample.text is None and sample.text_pair is not None:
            raise ManifestError(f"{where}: sample {sample.id!r} has a text_pair, but no text.")
        if sample.text is None and sample.prompt is not None:
            raise ManifestError(f"{where}: sample {sample.id!r} has a prompt, but no text.")
        if (sample.question is not None) != (sample.image is not None and asks):
            raise ManifestError(
                f"{where}: sample {sample.id!r} needs a question beside its image where the task is "
                "visual-question-answering, and none elsewhere."
            )
        if sample.text is None and sample.phonemes is not None:
            raise ManifestError(f"{where}: sample {sample.id!r} has phonemes, but no text.")
        if f"{sample.id}.output" not in tensors:
            raise ManifestError(f"{where}: sample {sample.id!r} has no reference output among the tensors.")
    return Golden(samples, tensors)


def sample_input(bundle: Bundle, sample: GoldenSample) -> Any:
    """What a golden sample hands to a model: its text or texts, row or series, or its image's or sound's verified
    bytes, with the question about an image where there is one."""
    if sample.phonemes is not None:
        return Phonemes((sample.phonemes,))
    if sample.text is not None:
        return sample.text if sample.text_pair is None else TextPair(sample.text, sample.text_pair)
    for given in (sample.row, sample.series):
        if given is not None:
            return given
    stored = sample.image or sample.audio
    assert stored is not None  # read_golden() refuses a sample with none of them
    if sample.question is not None:
        return PictureQuestion(bundle.read(stored), sample.question)
    return bundle.read(stored)


def samples_of(golden: Golden, takes: Collection[str]) -> tuple[GoldenSample, ...]:
    """The golden samples that a model can be given which takes these modalities (as `Model.takes`).

    Of a model of two towers each is given those of its own.
    """
    known = {"text", "image"}
    if not known & set(takes):
        return golden.samples
    return tuple(sample for sample in golden.samples if ("text" if sample.text is not None else "image") in takes)


def inputs_of(bundle: Bundle, golden: Golden, takes: Collection[str]) -> list[Any]:
    """What these samples hand to the model. Raises ManifestError where there is none."""
    found = [sample_input(bundle, sample) for sample in samples_of(golden, takes)]
    if not found:
        raise ManifestError(f"{bundle.path} has no golden {' or '.join(takes)} for this model; export it again.")
    return found


def read_safetensors(raw: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Tensors of a safetensors file: 8 bytes of header length, a JSON header, the data.

    Raises ManifestError where the header contradicts the file.
    """
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or not 2 <= length <= min(_MAX_HEADER, len(raw) - 8):
        raise ManifestError(f"{where} is no safetensors file, or only a part of one.")
    try:
        header = msgspec.json.decode(raw[8 : 8 + length], type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=_TensorEntry) for name, entry in header.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{where} has no valid safetensors header: {error}.") from error
    data = memoryview(raw)[8 + length :]
    return {name: _tensor(name, entry, data, where) for name, entry in entries.items()}


def _tensor(name: str, entry: _TensorEntry, data: memoryview, where: str) -> NDArray[Any]:
    start, end = entry.data_offsets
    if entry.dtype not in _DTYPES:
        raise ManifestError(f"{where}: the tensor {name[:80]!r} has the dtype {entry.dtype[:20]!r}.")
    dtype = np.dtype(_DTYPES[entry.dtype])
    # Python's whole numbers have no end: the count of extents is bounded before they are multiplied.
    fits = len(entry.shape) <= _MAX_RANK and start <= end <= len(data)
    if not fits or math.prod(entry.shape) * dtype.itemsize != end - start or _spread(entry.shape) > 2**48:
        raise ManifestError(f"{where}: the tensor {name[:80]!r} does not fit its place in the file.")
    return np.frombuffer(data[start:end], dtype).reshape(entry.shape)


def _spread(shape: tuple[int, ...]) -> int:
    """The product of the extents that are not 0, which numpy bounds even where another is 0."""
    return math.prod(extent for extent in shape if extent)
