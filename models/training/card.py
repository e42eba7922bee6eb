"""The model card of a trained classifier: what it is, what it learned from, and its figures on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from training.finetune import Settings
from training.sentences import CLEAR, KINDS, Example

_WHAT = {
    "sentiment": f"whether a sentence says something good or bad (ratings of at least {CLEAR} either way; weaker "
    "ones were left out, so a neutral sentence gets one of the two labels as well)",
    "topic": "which kind of text a sentence is from",
}


def write(
    task: str,
    labels: Sequence[str],
    held_in: Sequence[Example],
    held_out: Sequence[Example],
    found: Sequence[int],
    settings: Settings,
    seconds: float,
) -> str:
    """The card as Markdown. `found` are the labels that the model gave to the held-out examples."""
    return f"""---
license: apache-2.0
language: en
pipeline_tag: text-classification
---
# {task}

Says {_WHAT[task]}: {", ".join(labels)}.

all-MiniLM-L6-v2 (Apache-2.0) with a classification head, fine-tuned in torch for {settings.epochs} epochs over
{len(held_in):,} sentences (batch {settings.batch}, AdamW, learning rate {settings.learning_rate:g} with
{settings.warmup:.0%} warm-up and linear decay, weight decay {settings.weight_decay:g}, seed {settings.seed}), in
{seconds / 60:.1f} minutes. English sentences of four kinds, each rated by 20 people: Hutto & Gilbert, VADER (ICWSM
2014), MIT licence. Split by the hash of the text: no held-out text was trained on.

Held-out rows, fp32 in torch:

| rows | accuracy | count | 95% interval |
| --- | ---: | ---: | ---: |
{chr(10).join(_lines(held_out, found))}

Learned from short English sentences of about 2004 to 2014; other languages, other times and long documents were not
measured.
"""


def _lines(held_out: Sequence[Example], found: Sequence[int]) -> list[str]:
    lines = [_line("all", held_out, found)]
    for kind in KINDS:
        chosen = [(e, f) for e, f in zip(held_out, found, strict=True) if e.kind == kind]
        if chosen:
            lines.append(_line(kind, [e for e, _ in chosen], [f for _, f in chosen]))
    return lines


def _line(name: str, held_out: Sequence[Example], found: Sequence[int]) -> str:
    count = len(held_out)
    right = sum(e.label == f for e, f in zip(held_out, found, strict=True)) / count if count else 0.0
    # The normal approximation of a binomial share.
    half = 1.96 * math.sqrt(right * (1 - right) / count) if count else 0.0
    return f"| {name} | {right:.3f} | {count:,} | {max(0.0, right - half):.3f} to {min(1.0, right + half):.3f} |"
