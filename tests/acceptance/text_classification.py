"""Issue 5: trained text classifiers decide as well as they must, as the original does, and faster."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import small_checkpoints
import texts
from checks import DATA, ROOT, Context, NotCheckableError, Row, at_least, at_most, built, registry, true

import sanderling
from sanderling.pairs import TextPair

sys.path.insert(0, str(ROOT / "models"))
from training import sentences
from training.sentences import Example

# The least share of held-out rows that must be right, by the file they are from; of `topic` in all.
ACCURACY = {
    "sentiment": {"movie_reviews": 0.85, "tweets": 0.93, "product_reviews": 0.88},
    "topic": {"all": 0.95},
}
ABOVE_BASELINE = 0.03
INT8_LOSS = 0.01
FASTER = 4.0
ROUNDS = 5
TEXTS_A_ROUND = 256


@registry.check(5, "text-classification-accuracy")
def accuracy(context: Context) -> list[Row]:
    rows: list[Row] = []
    for task, bounds in ACCURACY.items():
        held_in, held_out = _examples(task)
        context.say(f"{task}: TF-IDF and logistic regression, {len(held_in)} sentences")
        baseline = _baseline(held_in, held_out)
        context.say(f"{task}: the bundle, {len(held_out)} sentences")
        with sanderling.load(built(task)) as model:
            assert isinstance(model, sanderling.Classifier)
            found = np.array([model.labels.index(answer.label) for answer in model([e.text for e in held_out])])
            names = [sentences.LABELS[task][example.label] for example in held_out]
            right = np.array([model.labels[label] for label in found]) == np.array(names)
            variant = model.variant
        for kind, bound in bounds.items():
            chosen = np.array([kind in ("all", example.kind) for example in held_out])
            share, theirs = float(right[chosen].mean()), float(baseline[chosen].mean())
            half = 1.96 * float(np.sqrt(share * (1 - share) / chosen.sum()))
            spread = f"{chosen.sum()} rows, +- {half:.3f}"
            rows.append(at_least(f"{task} {variant}, {kind}: accuracy", share, bound, spread=spread))
            rows.append(
                at_least(
                    f"{task} {variant}, {kind}: points above TF-IDF and logistic regression",
                    share - theirs,
                    ABOVE_BASELINE,
                    spread=f"the latter: {theirs:.3f}",
                )
            )
    return rows


@registry.check(5, "text-classification-int8")
def int8(context: Context) -> list[Row]:
    rows = []
    for task in ACCURACY:
        _, held_out = _examples(task)
        inputs, labels = [e.text for e in held_out], np.array([e.label for e in held_out])
        context.say(f"{task}: torch, {len(inputs)} sentences")
        theirs = _torch_logits(task, inputs).argmax(axis=1)
        bundle = sanderling.open_bundle(built(task))
        for variant in (name for name in bundle.manifest.variants if name.startswith("int8")):
            context.say(f"{task}: {variant}")
            with sanderling.load(bundle.path, variant=variant) as model:
                ours = model.answer(inputs).rows.argmax(axis=1)
            lost = float((theirs == labels).mean() - (ours == labels).mean())
            same = float((theirs == ours).mean())
            what = f"{task} {variant}: accuracy lost to torch fp32, {len(inputs)} rows"
            rows.append(at_most(what, lost, INT8_LOSS, digits=4, spread=f"{same:.1%} decided alike"))
    return rows


@registry.check(5, "text-classification-parity")
def parity(context: Context) -> list[Row]:
    rows = []
    chosen = [*texts.of_all_lengths(500), *texts.hard().values()]
    for task in ACCURACY:
        context.say(f"{task}: transformers' pipeline, {len(chosen)} texts")
        theirs = _pipeline(task)
        labels = sentences.LABELS[task]
        expected = []
        for answer in theirs(chosen, top_k=None, function_to_apply="none", truncation=True, batch_size=1):
            scores = {found["label"]: found["score"] for found in answer}
            expected.append([scores[label] for label in labels])
        with sanderling.load(built(task), variant="fp32") as model:
            ours = model.answer(list(chosen)).rows
        apart = np.abs(ours - np.array(expected))
        spread = f"median {np.median(apart):.2g}; {len(chosen) - 500} of the texts are hard ones"
        what = f"{task} fp32, {len(chosen)} texts: logits, max difference"
        rows.append(at_most(what, float(apart.max()), 1e-3, digits=6, spread=spread))
    return rows


@registry.check(5, "text-classification-pairs")
def pairs(context: Context) -> list[Row]:
    """Pairs and free labels on random weights: no model of inference installs."""
    import transformers

    folder = small_checkpoints.inference(context.folder / "checkpoint")
    target = context.folder / "bundle"
    context.say("export of a small model of inference")
    from sanderling_export.pipeline import export

    export(folder, target, variants=["fp32"])
    source = texts.of_all_lengths(60)
    both = list(zip(source[::2], reversed(source[1::2]), strict=False))
    theirs = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    free = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    labels = ["politics", "the weather", "a film"]
    apart, off = [], []
    with sanderling.load(target) as model:
        assert isinstance(model, sanderling.Classifier)
        ours = sanderling.ZeroShotClassifier(model)
        for first, second in both:
            # A list, for of a single input the pipeline ignores truncation.
            asked = [{"text": first, "text_pair": second}]
            (answer,) = theirs(asked, top_k=None, function_to_apply="none", truncation=True)
            expected = {found["label"]: found["score"] for found in answer}
            logits = model(TextPair(first, second)).logits
            apart.append(max(abs(expected[label] - float(x)) for label, x in zip(model.labels, logits, strict=True)))
        for text in source[:30]:
            for several in (False, True):
                answer = free(text, labels, multi_label=several)
                expected = dict(zip(answer["labels"], answer["scores"], strict=True))
                found = ours(text, labels, multi_label=several)
                assert isinstance(found, sanderling.Classification)
                off.append(max(abs(expected[n] - s) for n, s in zip(found.labels, found.scores, strict=True)))
    return [
        at_most(f"{len(both)} pairs, random weights: logits, max difference", max(apart), 1e-3, digits=6),
        at_most(f"free labels of {len(off)} texts, random weights: scores, max difference", max(off), 1e-3, digits=6),
    ]


@registry.check(5, "text-classification-speed")
def speed(context: Context) -> list[Row]:
    rows = []
    for task in ACCURACY:
        chosen = [e.text for e in _examples(task)[1]][:TEXTS_A_ROUND]
        theirs = _pipeline(task)
        with sanderling.load(built(task)) as model:
            assert isinstance(model, sanderling.Classifier)
            systems: dict[str, Callable[[], Any]] = {
                "ours": partial(model, chosen),
                "one": partial(theirs, chosen, truncation=True),
                "batched": partial(theirs, chosen, truncation=True, batch_size=32),
            }
            seconds: dict[str, list[float]] = {name: [] for name in systems}
            for turn in range(ROUNDS + 1):
                for name, answer in systems.items():
                    context.say(f"{task}: {name}, round {turn}")
                    started = time.perf_counter()
                    answer()
                    if turn:  # the first round warms up
                        seconds[name].append(time.perf_counter() - started)
            variant = model.variant
        ratios = sorted(
            min(one, batched) / ours
            for ours, one, batched in zip(seconds["ours"], seconds["one"], seconds["batched"], strict=True)
        )
        rows.append(
            at_least(
                f"{task} {variant}, {len(chosen)} sentences: times the throughput of transformers' pipeline",
                ratios[len(ratios) // 2],
                FASTER,
                digits=2,
                spread=f"{ratios[0]:.2f} to {ratios[-1]:.2f}, {ROUNDS} alternated rounds, its better batch size",
            )
        )
    return rows


@registry.check(5, "text-classification-bad-input")
def bad_input(context: Context) -> list[Row]:
    wrong: dict[str, Callable[[Any], Any]] = {
        "a number": lambda m: m(7),
        "a list with a number": lambda m: m(["low tide", 7]),
        "bytes": lambda m: m(b"low tide"),
        "None": lambda m: m(None),
        "a set": lambda m: m({"low tide"}),
        "a lone surrogate": lambda m: m("\ud800"),
        "a mapping without text": lambda m: m({"text_pair": "b"}),
        "a pair of numbers": lambda m: m(TextPair(1, 2)),  # type: ignore[arg-type]
        "no such way with long texts": lambda m: m("a", long_text="fold"),
        "windows of a pair": lambda m: m(TextPair("a", "b"), long_text="window"),
        "top_k of 0": lambda m: m("a", top_k=0),
        "free labels, but no model of inference": lambda m: sanderling.ZeroShotClassifier(m),
    }
    rows = []
    with sanderling.load(built("sentiment")) as model:
        missed = []
        for name, call in wrong.items():
            try:
                call(model)
                missed.append(f"{name}: an answer")
            except sanderling.InputError as error:
                if len(str(error)) < 30:
                    missed.append(f"{name}: {error}")
            except Exception as error:
                missed.append(f"{name}: {type(error).__name__}")
        figure = f"{len(wrong) - len(missed)} of {len(wrong)}"
        what = "wrong inputs are an InputError that says why"
        rows.append(true(what, not missed, figure, "all", spread="; ".join(missed)))
        assert isinstance(model, sanderling.Classifier)
        empty = model("")
        long = "The tide comes in and the tide goes out. " * 2000
        cut, windows = model(long), model(long, long_text="window")
        assert isinstance(cut.report, sanderling.TextReport)
        assert isinstance(windows.report, sanderling.TextReport)
        rows.append(true("the empty text has an answer", bool(empty.labels), empty.label, "a label"))
        lost = cut.report.tokens_lost
        rows.append(true("a long text says what was cut", lost > 0, f"{lost:,} tokens", "> 0 tokens"))
        figure = f"{windows.report.windows} windows"
        rows.append(true("in windows it loses nothing", windows.report.complete, figure, "complete"))
    return rows


def _examples(task: str) -> tuple[list[Example], list[Example]]:
    folder = DATA / "sentiment"
    if not folder.is_dir():
        raise NotCheckableError(f"There are no sentences in {folder}; SANDERLING_DATA names another folder.")
    return sentences.examples(task, folder)


def _baseline(held_in: Sequence[Example], held_out: Sequence[Example]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows TF-IDF of words and their pairs with logistic regression gets right, at its best strength of three."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform([e.text for e in held_in])
    asked = vectorizer.transform([e.text for e in held_out])
    labels, truth = [e.label for e in held_in], np.array([e.label for e in held_out])
    found = [
        LogisticRegression(C=strength, max_iter=1000).fit(known, labels).predict(asked) == truth
        for strength in (1.0, 5.0, 25.0)
    ]
    return max(found, key=lambda right: right.mean())


def _checkpoint(task: str) -> Path:
    folder = ROOT / "models" / "checkpoints" / task
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"models/checkpoints/{task} is not there; train it with: make models")
    return folder


def _pipeline(task: str) -> Any:
    import transformers

    return transformers.pipeline("text-classification", model=str(_checkpoint(task)), device="cpu")


def _torch_logits(task: str, inputs: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits of the checkpoint in transformers, 32 texts of about one length at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(_checkpoint(task)).eval()
    tokenizer = AutoTokenizer.from_pretrained(_checkpoint(task))
    order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]))
    rows = np.empty((len(inputs), model.config.num_labels), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            batch = tokenizer([inputs[i] for i in part], truncation=True, padding=True, return_tensors="pt")
            rows[part] = model(**batch).logits.numpy()
    return rows
