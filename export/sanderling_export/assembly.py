"""The manifest of a new bundle, from what the export knows."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace
from safetensors.numpy import save_file

import sanderling
from sanderling import sealing
from sanderling.manifest import FORMAT, MAJOR_VERSION, MINOR_VERSION, GoldenFiles, Manifest, Preprocessing, Provenance
from sanderling.schema.answers import ContrastiveOutput, CtcOutput
from sanderling.schema.variants import Component, Form, Tolerance, Variant
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Description
from sanderling_export.plan import Plan
from sanderling_export.tokens import TOKENIZER_NAME

COMPONENT = "model"
FORM = "padded"
LICENSE_NAME = "LICENSE.txt"
WEIGHTS_NAME = "dense.safetensors"

_VERSIONS = (
    "torch",
    "transformers",
    "sentence-transformers",
    "optimum",
    "optimum-onnx",
    "onnx",
    "onnxruntime",
)


def draft(
    plan: Plan,
    known: Description,
    components: Mapping[str, Component],
    files: GoldenFiles,
    build: Path,
    staging: Path,
    notes: Sequence[str],
) -> Manifest:
    """The manifest as far as it is known before anything was measured: every tolerance still lets all pass."""
    prefix = build.relative_to(staging).as_posix()
    text = known.text
    if text is not None and known.tokenizer is not None:
        (build / TOKENIZER_NAME).write_bytes(known.tokenizer)
        text = replace(text, tokenizer=f"{prefix}/{TOKENIZER_NAME}")
    head = known.head
    if isinstance(head, EmbeddingOutput | TokenOutput) and head.dense:
        save_file(dict(known.weights), build / WEIGHTS_NAME)
        head = replace(head, weights=f"{prefix}/{WEIGHTS_NAME}")
    embedding = isinstance(known.head, EmbeddingOutput | TokenOutput | SparseOutput)
    joined = isinstance(known.head, ContrastiveOutput)
    variants = tuple(next(iter(components.values())).variants)
    return Manifest(
        format=FORMAT,
        version=f"{MAJOR_VERSION}.{MINOR_VERSION}",
        name=plan.name,
        family="multimodal" if joined or isinstance(known.head, CtcOutput) else "embedding" if embedding else "general",
        task=known.task,
        default_variant=default_variant(plan, variants),
        components=dict(components),
        preprocessing=Preprocessing(text, known.image, audio=known.audio),
        postprocessing=head,
        golden=files,
        provenance=provenance(plan, build, staging, notes),
        files=sealing.list_files(staging),
        space=space(plan.checkpoint, known) if embedding or joined else None,
    )


def measured(draft: Manifest, variants: Mapping[str, Mapping[str, Variant]], notes: Sequence[str]) -> Manifest:
    """The draft with the variants of each component as they were measured, and notes on it behind its own."""
    components = {name: replace(one, variants=dict(variants[name])) for name, one in draft.components.items()}
    return replace(
        draft, components=components, provenance=replace(draft.provenance, notes=(*draft.provenance.notes, *notes))
    )


def component(bare: Component, forms: Mapping[str, Mapping[str, Form]]) -> Component:
    """A component with its variants' forms, as far as it is known before anything was measured."""
    return replace(bare, variants={name: Variant(dict(made), Tolerance(-1.0)) for name, made in forms.items()})


def provenance(plan: Plan, build: Path, staging: Path, notes: Sequence[str]) -> Provenance:
    """Where a bundle comes from, its licence's text copied into its folder `build`."""
    license_file = None
    if plan.license_file is not None:
        shutil.copyfile(plan.license_file, build / LICENSE_NAME)
        license_file = f"{build.relative_to(staging).as_posix()}/{LICENSE_NAME}"
    return Provenance(
        plan.checkpoint.source, plan.checkpoint.sha256, plan.license, license_file, versions(), tuple(notes)
    )


def default_variant(plan: Plan, variants: Sequence[str]) -> str:
    """The recipe's default if it was made, else the last of the variants: the quantized one."""
    wanted = plan.default_variant
    return wanted if wanted is not None and wanted in variants else variants[-1]


def space(checkpoint: Checkpoint, known: Description) -> str:
    """The fingerprint of the embedding space: vectors are comparable only where it is the same.

    SHA-256 of canonical JSON (sorted keys, no blanks) of the digest of the original weights, pooling, normalization,
    dimension and prompts; of an output that is pooled in its graph also the output, and `include_prompt` where it is
    false. Of vectors of tokens, the sides in place of a pooling. Both towers of a model that joins texts and images
    have one, with the output of each.
    """
    head = known.head
    if isinstance(head, ContrastiveOutput):
        return _digest(
            {
                "weights": checkpoint.sha256,
                "dimension": head.image.dimension,
                "normalize": head.image.normalize,
                "outputs": {"text": head.text.output, "image": head.image.output},
                "prompts": known.text.prompts if known.text else {},
            }
        )
    assert isinstance(head, EmbeddingOutput | TokenOutput | SparseOutput)
    content: dict[str, object] = {
        "weights": checkpoint.sha256,
        "dimension": head.dimension,
        "prompts": known.text.prompts if known.text else {},
    }
    if isinstance(head, TokenOutput):
        sides = {"query": msgspec.to_builtins(head.query), "document": msgspec.to_builtins(head.document)}
        return _digest({**content, **sides, "normalize": head.normalize, "type": "tokens"})
    content["pooling"] = head.pooling
    if isinstance(head, SparseOutput):
        return _digest({**content, "activation": head.activation, "type": "sparse"})
    content["normalize"] = head.normalize
    if head.pooling == "none":
        content["output"] = head.output
    if not head.include_prompt:
        content["include_prompt"] = False
    return _digest(content)


def _digest(content: dict[str, object]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of what an export is made with."""
    found = {name: importlib.metadata.version(name) for name in _VERSIONS}
    return {"sanderling": sanderling.__version__, **found}
