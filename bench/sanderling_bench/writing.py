"""Models that write: each text of as many new tokens, so that their times can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sanderling.bundle import Bundle
from sanderling.generation.results import Generation, Generations
from sanderling_bench.record import Call, GenerationSummary, Stages
from sanderling_bench.statistics import QUANTILES, median, percentile

# Tasks whose inputs are at hand; questions about pictures and sounds are not.
WRITERS = frozenset({"text-generation", "image-to-text"})
NEW_TOKENS = 32


def writes(bundle: Bundle) -> bool:
    """Whether a bundle is of a model that writes token by token, and is measured as one."""
    return bundle.manifest.task in WRITERS


def writer(model: Any, new_tokens: int) -> Callable[[Any], Generation | Generations]:
    """The model as a system that writes `new_tokens` tokens of each input, greedily; fewer where the context ends."""

    def write(given: Any) -> Generation | Generations:
        found: Generation | Generations = model.generate(
            given, max_new_tokens=new_tokens, min_new_tokens=new_tokens, num_beams=1, do_sample=False
        )
        return found

    return write


@dataclass(frozen=True, slots=True)
class Taken:
    """What is kept of an answer: its stages, and of one that was written when its first token was there and how many
    there are."""

    stages: Stages
    first_token: float | None = None
    new_tokens: int | None = None


def taken(answer: Generation | Generations) -> Taken:
    """What is kept of written texts."""
    timing = answer.timing
    stages = Stages(timing.preprocess, timing.total - timing.preprocess, 0.0)
    every = [answer] if isinstance(answer, Generation) else answer
    return Taken(stages, timing.first_token, sum(len(one.tokens) for one in every))


def summarized(single: Sequence[Call], offline: Sequence[Call]) -> GenerationSummary | None:
    """Of the single calls when the first token is there, and how fast others follow; of all at once all tokens."""
    told = [call for call in single if call.first_token is not None and call.new_tokens]
    first = [call.first_token for call in told if call.first_token is not None]
    rates = [_rate(call) for call in told if call.new_tokens is not None and call.new_tokens > 1]
    together = [call.new_tokens / call.seconds for call in offline if call.new_tokens]
    if not told and not together:
        return None
    return GenerationSummary(
        samples=len(told),
        first_token_p50=percentile(first, QUANTILES[0]) if first else None,
        first_token_p90=percentile(first, QUANTILES[1]) if first else None,
        tokens_per_second=median(rates) if rates else None,
        tokens_per_second_offline=median(together) if together else None,
    )


def _rate(call: Call) -> float:
    assert call.new_tokens is not None  # as asked for
    assert call.first_token is not None
    return (call.new_tokens - 1) / max(call.seconds - call.first_token, 1e-9)
