"""A bundle of one graph of numbers: written, measured through the runtime, verified, committed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

import sanderling
from sanderling import sealing, verification
from sanderling.codec import encode
from sanderling.errors import ExportError, StorageError
from sanderling.golden import GoldenSample
from sanderling.loading import load
from sanderling.manifest import (
    FORMAT,
    MAJOR_VERSION,
    MANIFEST_NAME,
    MINOR_VERSION,
    GoldenFiles,
    Manifest,
    Postprocessing,
    Preprocessing,
    Provenance,
)
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.basics import Task
from sanderling.schema.variants import Component, Form, Invariance, TensorSpec, Tolerance, Variant
from sanderling.storage import staging_folder
from sanderling_export import drift
from sanderling_export.progress import Progress
from sanderling_export.tabular.comparison import MAX_RELATIVE, relative
from sanderling_export.tabular.nodes import INPUT, OUTPUT

VARIANT = "fp64"
FORM = "padded"


@dataclass(frozen=True, slots=True)
class Sealing:
    """What goes into a bundle beside its graph."""

    task: Task
    preprocessing: Preprocessing
    head: Postprocessing
    widths: tuple[int, int]
    samples: Sequence[GoldenSample]
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    items: Sequence[Any]
    expected: NDArray[np.float64]
    origin: str
    digest: str | None = None
    license: str = "unknown"
    license_file: Path | None = None
    notes: tuple[str, ...] = ()


def seal(target: Path, graph: onnx.ModelProto, sealed: Sealing, tell: Progress) -> Path:
    """Write a bundle with the graph as its only variant, measured through the runtime and verified."""
    sealing.check_target(target)
    try:
        with staging_folder(target) as staging:
            build = sealing.build_folder(staging)
            manifest = _written(staging, build, graph, sealed, target.name)
            (staging / MANIFEST_NAME).write_bytes(encode(manifest))
            tell("measure and verify")
            manifest = _measured(staging, manifest, sealed)
            (staging / MANIFEST_NAME).write_bytes(encode(manifest))
            report = verification.verify(staging, provider="cpu")
            if not report.held:
                raise ExportError(f"The bundle does not verify: {report.combinations[0].reason}. Nothing was written.")
            tell("commit")
            (staging / MANIFEST_NAME).unlink()
            sealing.commit_bundle(staging, manifest, target)
    except OSError as error:
        raise StorageError(f"The export to {target} failed: {error.strerror or error}.") from error
    return target


def _written(staging: Path, build: Path, graph: onnx.ModelProto, sealed: Sealing, name: str) -> Manifest:
    folder = build / VARIANT
    folder.mkdir()
    raw = graph.SerializeToString()
    (folder / "model.onnx").write_bytes(raw)
    (build / "golden").mkdir()
    prefix = build.relative_to(staging).as_posix()
    (build / "golden" / "samples.json").write_bytes(msgspec.json.format(msgspec.json.encode(sealed.samples), indent=1))
    from safetensors.numpy import save

    tensors = {
        f"{s.id}.output": np.ascontiguousarray(row) for s, row in zip(sealed.samples, sealed.outputs, strict=True)
    }
    tensors |= {
        f"{s.id}.input.{INPUT}": np.ascontiguousarray(row) for s, row in zip(sealed.samples, sealed.inputs, strict=True)
    }
    (build / "golden" / "tensors.safetensors").write_bytes(save(tensors))
    license_file = None
    if sealed.license_file is not None:
        shutil.copyfile(sealed.license_file, build / "LICENSE.txt")
        license_file = f"{prefix}/LICENSE.txt"
    peak = float(np.abs(sealed.outputs).max(initial=0.0))
    variant = Variant(
        {FORM: Form(f"{prefix}/{VARIANT}/model.onnx")}, Tolerance(0.999999, max(MAX_RELATIVE * peak, 1e-9))
    )
    component = Component(
        (TensorSpec(INPUT, "float64", ("batch", sealed.widths[0])),),
        (TensorSpec(OUTPUT, "float64", ("batch", sealed.widths[1])),),
        {VARIANT: variant},
    )
    packages = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")
    versions = {"sanderling": sanderling.__version__} | {p: importlib.metadata.version(p) for p in packages}
    return Manifest(
        format=FORMAT,
        version=f"{MAJOR_VERSION}.{MINOR_VERSION}",
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:120] or "model",
        family="general",
        task=sealed.task,
        default_variant=VARIANT,
        components={"model": component},
        preprocessing=sealed.preprocessing,
        postprocessing=sealed.head,
        golden=GoldenFiles(f"{prefix}/golden/samples.json", f"{prefix}/golden/tensors.safetensors"),
        provenance=Provenance(
            sealed.origin,
            sealed.digest or hashlib.sha256(raw).hexdigest(),
            sealed.license,
            license_file,
            versions,
            sealed.notes,
        ),
        files=sealing.list_files(staging),
    )


def _measured(staging: Path, manifest: Manifest, sealed: Sealing) -> Manifest:
    """The manifest with drift and invariance, as the runtime answers the samples."""
    with load(staging, integrity="full") as model:
        found = model.answer(list(sealed.items)).rows
        some = list(sealed.items[:64])
        alone = np.concatenate([model.answer([item]).rows for item in some])
    labels = isinstance(sealed.head, ClassificationOutput)
    kind = "series" if manifest.preprocessing.series is not None else "row"
    names = [f"{kind} {number}" for number in range(1, len(found) + 1)]
    measured = drift.measure(found, sealed.expected, labels=labels, names=names)
    largest = float(relative(found, sealed.expected).max(initial=0.0))
    if largest > MAX_RELATIVE:
        raise ExportError(
            f"The runtime's answers differ from scikit-learn's by up to {largest:.2g} of themselves; at most "
            f"{MAX_RELATIVE:g} was expected. Nothing was written; please report this pipeline."
        )
    component = manifest.components["model"]
    variant = msgspec.structs.replace(
        component.variants[VARIANT],
        drift=msgspec.structs.replace(measured, max_relative=largest),
        invariance=Invariance(float(verification.cosines(found[: len(some)], alone).min(initial=1.0))),
    )
    component = msgspec.structs.replace(component, variants={VARIANT: variant})
    return msgspec.structs.replace(manifest, components={"model": component})
