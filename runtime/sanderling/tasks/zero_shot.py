"""`zero-shot-classification`: labels that the caller names, decided by an embedding model or by one of inference."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sanderling import heads
from sanderling.cancellation import Cancellation
from sanderling.counts import whole_number
from sanderling.errors import InputError, TextError
from sanderling.pairs import TextPair
from sanderling.results import Classification, Classifications, InputReport, TextReport, Timing, summed
from sanderling.tasks.classification import Classifier
from sanderling.tasks.feature_extraction import EmbeddingModel

if TYPE_CHECKING:
    from sanderling.model import Model

# As transformers' pipeline words a hypothesis; similarity of texts needs no sentence around a label.
INFERENCE_TEMPLATE = "This example is {}."
SIMILARITY_TEMPLATE = "{}"
# Cosines are multiplied by it before the softmax: the scale that sentence-transformers trains similarity with.
SCALE = 20.0
MAX_LABELS = 10_000
# Label vectors kept for each model: 4,096 of 384 numbers are 6 MB.
_KEPT_LABELS = 4096
# Pairs of a text and a label that are answered in one call of the model.
_PAIRS = 4096


class ZeroShotClassifier:
    """Decides among labels that need no training, by a model that `sanderling.load` gave.

    With an embedding model the scores come from the similarity of the text and each label; with a text classifier
    whose labels name an entailment, from whether the text entails the `template` with the label in it (as transformers'
    zero-shot pipeline does). `template` has one `{}`. Closing the model is left to who loaded it; safe to call from
    many threads. Raises InputError for another model, or a template without a place for the label.
    """

    def __init__(self, model: Model, *, template: str | None = None) -> None:
        self.model = model
        if model.modality != "text" or not isinstance(model, EmbeddingModel | Classifier):
            raise InputError(f"{model.name} takes {model.modality}s; free labels are decided by models of texts.")
        self._entailment, self._contradiction = (0, 0)
        if isinstance(model, Classifier):
            self._entailment, self._contradiction = _inference_labels(model)
        default = SIMILARITY_TEMPLATE if isinstance(model, EmbeddingModel) else INFERENCE_TEMPLATE
        self.template = default if template is None else template
        if not isinstance(self.template, str) or self.template.count("{}") != 1:
            raise InputError(f"The template is {self.template!r}; a text with one {{}}, for the label, was expected.")

    def __call__(
        self,
        inputs: str | Iterable[str],
        labels: Sequence[str],
        *,
        multi_label: bool = False,
        top_k: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Classification | Classifications:
        """Decide one text, or each of a list, among `labels`; `top_k` of them are given, best first (default: all).

        Scores of the labels add up to 1. With `multi_label` each label is decided by itself: its probability against a
        contradiction, or for an embedding model the bare cosine, -1 to 1. `logits` are the logits of entailment, or the
        cosines, in the order of `labels`; `selected` is the best label, with `multi_label` and a model of inference all
        from 0.5 on.
        Raises InputError for labels that are none, and what the model raises.
        """
        names = checked_labels(labels)
        count = len(names) if top_k is None else whole_number("top_k", top_k)
        items, single = self.model.front.items(inputs)
        for index, item in enumerate(items):
            if isinstance(item, TextPair):
                raise TextError(f"Input {index} is a pair of texts; a single text was expected beside free labels.")
        if isinstance(self.model, EmbeddingModel):
            logits, scores, reports, timing = self._by_similarity(self.model, items, names, multi_label, cancellation)
        else:
            logits, scores, reports, timing = self._by_inference(items, names, multi_label, cancellation)
        threshold = 0.5 if multi_label and not isinstance(self.model, EmbeddingModel) else None
        decided = tuple(
            decision(names, scores[i], logits[i], scores[i], report, self.model.variant, timing, count, threshold)
            for i, report in enumerate(reports)
        )
        return decided[0] if single else Classifications(decided, logits, timing)

    def _by_similarity(
        self,
        model: EmbeddingModel,
        items: list[Any],
        names: tuple[str, ...],
        multi_label: bool,
        cancellation: Cancellation | None,
    ) -> _Scored:
        known = _label_vectors(model, tuple(self.template.replace("{}", name) for name in names), cancellation)
        answers = model.answer(items, None, cancellation)
        cosines = heads.unit(answers.rows) @ known.T
        return (
            cosines,
            cosines if multi_label else heads.softmax(cosines * np.float32(SCALE)),
            answers.reports,
            answers.timing,
        )

    def _by_inference(
        self, items: list[Any], names: tuple[str, ...], multi_label: bool, cancellation: Cancellation | None
    ) -> _Scored:
        hypotheses = [self.template.replace("{}", name) for name in names]
        # Every text is paired with every label: a bounded number of texts at a time bounds the pairs in memory.
        step = max(1, _PAIRS // len(names))
        answered = []
        for start in range(0, max(1, len(items)), step):
            some = items[start : start + step]
            pairs = [TextPair(item, hypothesis, "only_first") for item in some for hypothesis in hypotheses]
            answered.append(self.model.answer(pairs, None, cancellation))
        flat = np.concatenate([answers.rows for answers in answered])
        rows = flat.reshape(len(items), len(names), flat.shape[1])
        entailed = rows[:, :, self._entailment]
        if multi_label or len(names) == 1:
            scores = heads.softmax(np.stack([rows[:, :, self._contradiction], entailed], axis=-1))[:, :, 1]
        else:
            scores = heads.softmax(entailed)
        said = [report for answers in answered for report in answers.reports]
        reports = tuple(_worst(said[i : i + len(names)]) for i in range(0, len(said), len(names)))
        return entailed, scores, reports, summed(answers.timing for answers in answered)


def decision(
    names: tuple[str, ...],
    order: NDArray[np.float32],
    logits: NDArray[np.float32],
    scores: NDArray[np.float32],
    report: InputReport,
    variant: str,
    timing: Timing,
    top_k: int,
    threshold: float | None,
) -> Classification:
    """One input decided among labels: the best `top_k` by `order` (labels,), and those selected: the best one alone, or
    with a `threshold` all whose score reaches it."""
    best = np.argsort(-order, kind="stable")
    held = best[:1] if threshold is None else [i for i in best if scores[i] >= threshold]
    return Classification(
        labels=tuple(names[i] for i in best[:top_k]),
        scores=tuple(float(scores[i]) for i in best[:top_k]),
        logits=logits,
        report=report,
        variant=variant,
        timing=timing,
        selected=tuple(names[i] for i in held),
    )


_Scored = tuple[NDArray[np.float32], NDArray[np.float32], tuple[Any, ...], Timing]

_vectors: WeakKeyDictionary[EmbeddingModel, OrderedDict[str, NDArray[np.float32]]] = WeakKeyDictionary()
_lock = threading.Lock()


def _label_vectors(
    model: EmbeddingModel, prompts: tuple[str, ...], cancellation: Cancellation | None
) -> NDArray[np.float32]:
    """The unit vectors of labels (n, d): of each model kept, the latest ones, so that they are embedded once."""
    with _lock:
        kept = _vectors.setdefault(model, OrderedDict())
        found = {prompt: kept[prompt] for prompt in prompts if prompt in kept}
    missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
    if missing:
        rows = heads.unit(model.answer(list(missing), None, cancellation).rows)
        found |= dict(zip(missing, rows, strict=True))
    with _lock:
        for prompt in prompts:
            kept[prompt] = found[prompt]
            kept.move_to_end(prompt)
        while len(kept) > _KEPT_LABELS:
            kept.popitem(last=False)
    return np.stack([found[prompt] for prompt in prompts])


def _inference_labels(model: Classifier) -> tuple[int, int]:
    """The places of entailment and contradiction among the labels, as transformers' pipeline finds them."""
    found = [index for index, label in enumerate(model.labels) if label.lower().startswith("entail")]
    if not found or len(model.labels) < 2:
        raise InputError(
            f"{model.name} has the labels {', '.join(model.labels[:10])}; to decide free labels, one has to begin with "
            '"entail" (a model of natural language inference), or use an embedding model.'
        )
    return found[0], len(model.labels) - 1 if found[0] == 0 else 0


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels as a tuple. Raises InputError: none, too many, empty ones, one twice, or a single text."""
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise InputError(f"labels is of type {type(labels).__name__}; a list of texts was expected.")
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"{label!r} is no label; a text that is not empty was expected.")
    if not 1 <= len(labels) <= MAX_LABELS:
        raise InputError(f"There are {len(labels):,} labels; 1 to {MAX_LABELS:,} were expected.")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise InputError(f"The label {twice!r} is given more than once.")
    return tuple(labels)


def _worst(reports: Sequence[Any]) -> TextReport:
    """What was lost of a text beside the label that left least room for it."""
    worst: TextReport = max(reports, key=lambda report: (report.tokens_lost, report.tokens))
    return worst
