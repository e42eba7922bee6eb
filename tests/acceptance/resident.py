"""A model that answers texts of mixed lengths in a process of its own: run as a script with a bundle, counts, a mode.

Prints one JSON object: the bytes resident about each count of texts, and the most there ever were. After one call they
are a matter of what that call freed last, some percent up or down; so it is the median after each of the last calls.
The mode `leaking` keeps every answer with its text, as a bug would: whoever measures growth has to find it.
"""

from __future__ import annotations

import gc
import json
import random
import sys
from collections import deque
from collections.abc import Iterator
from statistics import median
from typing import Any

import psutil
import texts

import sanderling
from sanderling_bench.child import peak_memory

# Calls after which the memory is looked at, about 480 texts.
_LAST_CALLS = 40
# Texts of one call: single ones and batches, as an application would send them.
_CALLS = (1, 1, 2, 5, 16, 48)
# Sentences of one text: most are short, some fill the model's limit.
_SENTENCES = (1,) * 13 + (2,) * 3 + (3, 3, 6, 12)


def mixed(seed: int) -> Iterator[str]:
    """Texts without end, of mixed lengths in random order."""
    source, draw = texts.sentences(), random.Random(seed)
    while True:
        yield " ".join(draw.choices(source, k=draw.choice(_SENTENCES)))


def main() -> None:
    bundle, mode, *counts = sys.argv[1:]
    given, draw = mixed(7), random.Random(8)
    model: Any = sanderling.load(bundle)
    kept: list[Any] = []
    resident: list[float] = []
    process, lately = psutil.Process(), deque[int](maxlen=_LAST_CALLS)
    answered = 0
    for count in map(int, counts):
        while answered < count:
            size = min(draw.choice(_CALLS), count - answered)
            batch = [next(given) for _ in range(size)]
            answers = model(batch)
            answered += size
            if mode == "leaking":
                kept.append((batch, answers))
            del answers
            lately.append(process.memory_info().rss)
        gc.collect()
        resident.append(median(lately))
    print(json.dumps({"variant": model.variant, "resident": resident, "peak": peak_memory(), "kept": len(kept)}))


if __name__ == "__main__":
    main()
