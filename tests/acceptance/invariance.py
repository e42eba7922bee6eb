"""Issue 4: loaded batch-invariant, no answer depends on its batch mates."""

from __future__ import annotations

import random

import numpy as np
import texts
from checks import Context, Row, at_most, built, registry

import sanderling
from sanderling.verification import cosines

TEXTS = 500
SETS = 20
MATES = 50


@registry.check(4, "batch-invariance")
def batch_invariance(context: Context) -> list[Row]:
    bundle = built("all-minilm-l6-v2")
    given = texts.of_all_lengths(TEXTS)
    rows = []
    for variant in sanderling.open_bundle(bundle).manifest.variants:
        with sanderling.load(bundle, variant=variant, batch_invariant=True) as model:
            context.say(f"{variant}: {TEXTS} texts alone")
            alone = np.stack([model(text).embedding for text in given])
            worst, equal, count = 0.0, 0, 0
            for seed in range(SETS):
                chosen = random.Random(seed).sample(range(TEXTS), MATES)
                answers = model([given[index] for index in chosen]).embeddings
                worst = max(worst, float((1 - cosines(answers, alone[chosen])).max()))
                equal += int((answers == alone[chosen]).all(axis=1).sum())
                count += len(chosen)
        rows.append(
            at_most(
                f"MiniLM {variant}, batch-invariant: 1 - cosine, alone against among {SETS} sets of mates",
                worst,
                1e-5,
                digits=9,
                spread=f"{equal} of {count} answers bit for bit",
            )
        )
    return rows
