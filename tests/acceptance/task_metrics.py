"""Issue 4: `eval` says what scikit-learn and SciPy say by hand, for pairs of sentences and for a classifier."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import photographs
import texts
from checks import Context, NotCheckableError, Row, at_most, built, registry, true
from command_line import must
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score

from sanderling import load
from sanderling_bench import evaluation_record
from sanderling_bench.evaluation_record import EvalRecord

PAIRS = 400
CROPS = 120


@registry.check(4, "eval-sentence-pairs")
def sentence_pairs(context: Context) -> list[Row]:
    """The score of a pair is the share of its words that both have: a real quantity, though nobody's judgement."""
    bundle = built("all-minilm-l6-v2")
    source = texts.sentences()
    # Neighbours in the alphabet begin alike; sentences in the order of their hashes have little in common.
    alike = sorted(source[: 20 * PAIRS])[: PAIRS // 2 * 2]
    pairs = list(zip(alike[::2], alike[1::2], strict=True))
    others = source[-PAIRS // 2 * 2 :]
    pairs += list(zip(others[::2], others[1::2], strict=True))
    scores = [_shared(a, b) for a, b in pairs]
    rows = [("text1", "text2", "score"), *((a, b, repr(score)) for (a, b), score in zip(pairs, scores, strict=True))]
    record = _eval(context, bundle, rows)
    found = []
    for variant in record.settings.variants:
        context.say(f"{variant} by hand")
        with load(bundle, variant=variant) as model:
            first, second = (model([pair[side] for pair in pairs]).embeddings.astype(np.float64) for side in (0, 1))
        cosine = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
        by_hand = float(spearmanr(scores, cosine).statistic)
        found += _agreement(record, variant, "spearman", by_hand, f"MiniLM {variant}, {len(pairs)} pairs: Spearman")
    return found


@registry.check(4, "eval-classifier")
def classifier(context: Context) -> list[Row]:
    """A crop's label is the one that fp32 gives its whole photograph: many crops are right, and many are not."""
    bundle = built("efficientnet-lite0")
    unseen = photographs.unseen_by_calibration("efficientnet-lite0")
    if not unseen:
        raise NotCheckableError("Calibration saw every photograph that is installed here.")
    crops = photographs.crops(CROPS, unseen, seed=4, kinds=("RGB", "JPEG"))
    places = photographs.photographs()
    with load(bundle, variant="fp32") as model:
        labels = {name: int(model(places[name]).logits.argmax()) for name in unseen}
    truth = [labels[unseen[number % len(unseen)]] for number in range(CROPS)]
    rows = [("image", "label")]
    for number, (crop, label) in enumerate(zip(crops, truth, strict=True)):
        (context.folder / f"{number}.image").write_bytes(crop.file)
        rows.append((f"{number}.image", str(label)))
    record = _eval(context, bundle, rows)
    found = []
    for variant in record.settings.variants:
        context.say(f"{variant} by hand")
        with load(bundle, variant=variant) as model:
            answers = [int(model(crop.file).logits.argmax()) for crop in crops]
        by_hand = float(accuracy_score(truth, answers))
        found += _agreement(record, variant, "accuracy", by_hand, f"EfficientNet {variant}, {CROPS} crops: accuracy")
    return found


def _eval(context: Context, bundle: Path, rows: Sequence[Sequence[str]]) -> EvalRecord:
    context.say("sanderling eval")
    data, output = context.folder / "data.csv", context.folder / "record.json"
    with data.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    must("eval", bundle, "--data", data, "-o", output)
    return evaluation_record.read(output)


def _agreement(record: EvalRecord, variant: str, metric: str, by_hand: float, what: str) -> list[Row]:
    """By hand the inputs are batched in another way, on which dynamic int8 depends: hence the room it is given."""
    score = record.scores[variant][metric].value
    assert score is not None
    assert score.low is not None
    assert score.high is not None
    interval = f"{score.low:.4f}–{score.high:.4f}"
    room = 1e-4 if variant == "fp32" else 1e-2
    return [
        true(f"{what} by hand lies in eval's interval", score.low <= by_hand <= score.high, f"{by_hand:.4f}", interval),
        at_most(f"{what}, eval less by hand", abs(score.value - by_hand), room, digits=6, spread=f"{score.value:.4f}"),
    ]


def _shared(a: str, b: str) -> float:
    """Jaccard similarity of the two sets of words."""
    first, second = (set(text.lower().split()) for text in (a, b))
    return len(first & second) / len(first | second)
