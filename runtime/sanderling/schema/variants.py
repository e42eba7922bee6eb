"""Graphs in the manifest: components, their variants and forms, and what was measured of each."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from sanderling.schema.basics import BundlePath, Count, Decode, Dtype, Name, Sha256


class FileEntry(Struct, frozen=True):
    """Size in bytes and SHA-256 of one file of the bundle."""

    size: Count
    sha256: Sha256


class TensorSpec(Struct, frozen=True):
    """One graph input or output. A string in `shape` names a dimension that changes from run to run."""

    name: str
    dtype: Dtype
    shape: tuple[Count | str, ...]


class Form(Struct, frozen=True):
    """One way to run a variant's weights: a graph, and the external data files it reads.

    An `optimized` graph went through ONNX Runtime's own fusions for the CPU at export, and is loaded as it is.
    `inputs` are the graph's where they are others than the component's.
    """

    graph: BundlePath
    data: tuple[BundlePath, ...] = ()
    optimized: bool = False
    inputs: tuple[TensorSpec, ...] = ()


class Distances(Struct, frozen=True):
    """Cosine similarity over samples: mean, 1st percentile (null under 100 samples) and minimum."""

    samples: Count
    mean: float
    min: float
    p01: float | None = None


class WorstInput(Struct, frozen=True):
    """One of the inputs whose answers are farthest from the original's: what it is, and its cosine."""

    name: Annotated[str, Meta(max_length=200)]
    cosine: float


class Metric(Struct, frozen=True):
    """A task metric on labelled inputs, of the variant and of the original."""

    value: float
    reference: float
    samples: Count


class Drift(Struct, frozen=True):
    """Distance of a variant from the original checkpoint in its original library.

    `cosine` compares embeddings, or logits of a classifier; `max_abs` is the largest absolute difference
    of any element; `agreement` is the share of samples whose first label is the reference's; `worst` are the inputs of
    the lowest cosines, the lowest first; `metrics` are by their names, where a labelled set was given; `max_relative`
    is the largest difference of any number, divided by the original's (numbers only).
    """

    cosine: Distances
    max_abs: float
    agreement: float | None = None
    worst: Annotated[tuple[WorstInput, ...], Meta(max_length=100)] = ()
    metrics: dict[str, Metric] = {}
    max_relative: Annotated[float, Meta(ge=0.0)] | None = None


class Invariance(Struct, frozen=True):
    """How far an answer moves, as minimum cosine to the same input answered alone and unpadded.

    `batch` is among other batch mates; `padding` maps a count of added padding tokens to that minimum.
    """

    batch: float
    padding: dict[str, float] = {}


class VectorLoss(Struct, frozen=True):
    """What shorter or smaller vectors cost, measured at export on `samples` inputs, against the original's float32.

    `recall` is the share of an input's ten nearest others, by the original's cosines, that are still among its ten
    nearest; `cosine` the mean cosine to the original's vector, and `min_cosine` the least (both null where vectors
    are shorter or bits, so that they have none).
    """

    recall: Annotated[float, Meta(ge=0.0, le=1.0)]
    samples: Count
    cosine: float | None = None
    min_cosine: float | None = None


class Tolerance(Struct, frozen=True):
    """What `verify` demands of each golden sample: a minimum cosine and, if given, a largest absolute difference."""

    min_cosine: Annotated[float, Meta(ge=-1.0, le=1.0)]
    max_abs: Annotated[float, Meta(ge=0.0)] | None = None


class Variant(Struct, frozen=True):
    """One set of weights in one precision, in one or more forms that share them.

    `speed` is the inputs it answered a second where it was exported, divided by those of fp32 in the same run.
    `fast_decode` is its drift on large JPEG files that it decoded at reduced scale, and the original in full; null
    where that was not measured. `decode` says how it decodes them unless it is told otherwise. `short_window` is its
    drift on sounds that it heard in short windows, and the original in full ones; null where that was not measured.
    `losses` say what its vectors cost in a smaller precision ("float16", "int8", "binary"), and cut to fewer numbers
    ("float32-128").
    """

    forms: Annotated[dict[Name, Form], Meta(min_length=1)]
    tolerance: Tolerance
    drift: Drift | None = None
    invariance: Invariance | None = None
    speed: Annotated[float, Meta(gt=0.0)] | None = None
    fast_decode: Drift | None = None
    decode: Decode = "exact"
    losses: dict[Name, VectorLoss] = {}
    short_window: Drift | None = None


class Component(Struct, frozen=True):
    """One graph of a model, in all its variants. Inputs and outputs are the same in each."""

    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    variants: Annotated[dict[Name, Variant], Meta(min_length=1)]
