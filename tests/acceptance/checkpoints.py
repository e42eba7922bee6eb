"""Issue 2: checkpoints that Sanderling was not built for export and verify without a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import photographs
from checks import Context, Row, registry, true
from command_line import export, last_line, sanderling
from numpy.typing import NDArray
from PIL import Image
from small_checkpoints import KINDS, Kind

from sanderling import load
from sanderling.verification import cosines

TEXTS = (
    "A small bird runs along the edge of the sea.",
    "b",
    "",
    "The value of an expression, and then of another one; " * 20,
    "Numbers like 12, 3.5 and names like __init__ and naïve ones.",
)


@registry.check(2, "checkpoints-without-recipe")
def without_recipe(context: Context) -> list[Row]:
    rows = []
    for kind in KINDS:
        context.say(kind.name)
        folder = context.folder / kind.name.lower().replace(" ", "-")
        bound = "verified, cosine >= 0.99999"
        what = f"{kind.name}, {kind.task}, no recipe"
        try:
            kind.make(folder)
            bundle = export(folder, folder.with_name(folder.name + "-bundle"))
        except Exception as error:
            rows.append(true(what, False, "not exported", bound, spread=f"{error}".splitlines()[0][:200]))
            continue
        verified = sanderling("verify", bundle)
        with load(bundle) as model:
            variants = model.bundle.manifest.variants
        similar = _cosine_to_original(kind, folder, bundle)
        said = "" if verified.returncode == 0 else f"; {last_line(verified.stdout + verified.stderr)}"
        rows.append(
            true(
                what,
                verified.returncode == 0 and similar >= 0.99999,
                f"{similar:.7f}",
                bound,
                spread=f"verify exits {verified.returncode}; {', '.join(variants)}{said}",
            )
        )
    return rows


def _cosine_to_original(kind: Kind, folder: Path, bundle: Path) -> float:
    """The least cosine of fp32's answers to those of the original in its own library, on inputs of its own."""
    with load(bundle, variant="fp32") as model:
        if kind.task == "feature-extraction":
            return float(cosines(model(list(TEXTS)).embeddings, _sentence_embeddings(folder)).min())
        if kind.task == "text-classification":
            return float(cosines(model(list(TEXTS)).logits, _text_logits(folder)).min())
        names = sorted(photographs.photographs())
        crops = photographs.crops(12, names, seed=3, kinds=("RGB", "grey", "EXIF 6"))
        found = np.stack([model(crop.file).logits for crop in crops])
        return float(cosines(found, _image_logits(folder, [crop.upright for crop in crops])).min())


def _sentence_embeddings(folder: Path) -> NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer

    found: NDArray[np.float32] = SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS))
    return found


def _text_logits(folder: Path) -> NDArray[np.float32]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        rows = [model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0] for text in TEXTS]
    found: NDArray[np.float32] = torch.stack(rows).numpy()
    return found


def _image_logits(folder: Path, images: list[Image.Image]) -> NDArray[np.float32]:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        rows = [model(**processor(image, return_tensors="pt")).logits[0] for image in images]
    found: NDArray[np.float32] = torch.stack(rows).numpy()
    return found
