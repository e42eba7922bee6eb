"""What a text that a model wrote is worth, as numbers a case: beside what people wrote, or beside its own others.

Every figure of many cases is made of sums over them, so that it can be computed anew from cases drawn at random.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np

# Orders of n-grams that BLEU counts, and those whose variety is told.
BLEU_ORDERS = (1, 2, 3, 4)
DISTINCT_ORDERS = (1, 2)
# An answer that so many people gave is right in full (Antol et al. 2015, VQA).
_AGREEING = 3
# Texts that each one is compared with for Self-BLEU, drawn where there are more.
_BESIDE = 200

_NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = str.maketrans({mark: " " for mark in string.punctuation if mark not in "'"} | {"'": ""})
_WORD = re.compile(r"\w+|[^\w\s]")


def plain(text: str) -> str:
    """A text in lower case with single blanks: what exact match compares."""
    return " ".join(text.casefold().split())


def answer_words(text: str) -> str:
    """An answer as VQA compares it: no articles, no punctuation, numbers up to ten as digits."""
    words = text.casefold().translate(_PUNCTUATION).split()
    return " ".join(_NUMBERS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """How right an answer is, from 0 to 1, by what people answered.

    Of each person left out in turn it is the count of the others who gave it, divided by 3, at most 1; and of these the
    mean. Of three people or fewer it is 1 where one of them gave it.
    """
    given, found = [answer_words(one) for one in people], answer_words(answer)
    if len(given) <= _AGREEING:
        return float(found in given)
    same = sum(one == found for one in given)
    others = [same - (one == found) for one in given]
    return float(np.mean([min(1.0, count / _AGREEING) for count in others]))


def exact_match(text: str, references: Sequence[str]) -> float:
    """1 where the text is one of the references, whatever its case and blanks, else 0."""
    return float(plain(text) in {plain(one) for one in references})


def bleu_columns() -> tuple[str, ...]:
    """The names of what `bleu_counts` gives."""
    return (*(f"bleu-{kind}-{n}" for kind in ("matched", "all") for n in BLEU_ORDERS), "bleu-length", "bleu-reference")


def bleu_counts(text: str, references: Sequence[str]) -> dict[str, float]:
    """Of one text sacrebleu's counts: n-grams that are in a reference, all of them, its length and the reference's."""
    from sacrebleu.metrics import BLEU

    found = BLEU(effective_order=False).corpus_score([text], [[one] for one in references])
    numbers = (*found.counts, *found.totals, found.sys_len, found.ref_len)
    return dict(zip(bleu_columns(), map(float, numbers), strict=True))


def bleu(sums: Sequence[float]) -> float:
    """The BLEU, 0 to 100, of texts whose counts add up to `sums`, in the order of `bleu_columns`; sacrebleu's."""
    from sacrebleu.metrics import BLEU

    numbers = [round(one) for one in sums]
    count = len(BLEU_ORDERS)
    matched, everything, (own, reference) = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
    return float(BLEU.compute_bleu(matched, everything, own, reference, smooth_method="exp").score)


def distinct_counts(texts: Sequence[str]) -> list[dict[str, float]]:
    """Of each text its runs of n words, and those that no text before it has: their sums' quotient is distinct-n."""
    seen: dict[int, set[tuple[str, ...]]] = {n: set() for n in DISTINCT_ORDERS}
    found = []
    for text in texts:
        words = _WORD.findall(text.casefold())
        row: dict[str, float] = {}
        for n in DISTINCT_ORDERS:
            runs = [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
            row[f"distinct-{n}-new"] = float(len(set(runs) - seen[n]))
            row[f"distinct-{n}-all"] = float(len(runs))
            seen[n] |= set(runs)
        found.append(row)
    return found


def self_bleu(texts: Sequence[str], seed: int) -> list[float]:
    """Of each text its BLEU, 0 to 100, with the others as references (Zhu et al. 2018, Texygen): how alike they are.

    Beside more than 200 others so many are drawn with the seed, the same ones for the texts of every variant.
    """
    from sacrebleu.metrics import BLEU

    scorer = BLEU(effective_order=True)
    draw, found = np.random.default_rng(seed), []
    for place, text in enumerate(texts):
        others = [n for n in range(len(texts)) if n != place]
        if len(others) > _BESIDE:
            others = sorted(draw.choice(others, _BESIDE, replace=False).tolist())
        found.append(float(scorer.sentence_score(text, [texts[n] for n in others]).score) if others else 0.0)
    return found
