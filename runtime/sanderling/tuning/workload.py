"""What a plan is measured on where its user gave nothing better: inputs made of the golden samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from sanderling.bundle import Bundle
from sanderling.components import modality
from sanderling.golden import Golden, sample_input, samples_of
from sanderling.tuning.whole_answers import writes

# Words of a text: median 24 and 95th percentile 84, as sentences and paragraphs have them.
_MEDIAN_WORDS, _SPREAD = 24, 0.76
_LONGEST_WORD = 24
_FEWEST_WORDS = 32
_SEED = 20261122


def workload(bundle: Bundle, golden: Golden, count: int, component: str | None = None) -> list[Any]:
    """`count` inputs, the same in each call: golden samples in turn, or texts of all lengths made of their words; of a
    bundle whose components answer by themselves those of one.

    Few golden texts in turn would have few lengths, and make batches of equal ones that nobody's texts make. Prompts
    are the golden ones, which leave room for what is written behind them.
    """
    takes = (modality(bundle.manifest, component),) if component is not None else ()
    samples = [sample_input(bundle, sample) for sample in samples_of(golden, takes)]
    words = [word for text in samples if isinstance(text, str) for word in text.split() if len(word) <= _LONGEST_WORD]
    if writes(bundle) or len(words) < _FEWEST_WORDS or any(not isinstance(sample, str) for sample in samples):
        return [samples[i % len(samples)] for i in range(count)]
    random = np.random.default_rng(_SEED)
    sizes = np.maximum(1, np.rint(_MEDIAN_WORDS * np.exp(_SPREAD * random.standard_normal(count)))).astype(int)
    starts = random.integers(0, len(words), count)
    return [
        " ".join(words[(start + i) % len(words)] for i in range(size))
        for start, size in zip(starts, sizes, strict=True)
    ]
