"""From raw samples to what they say: pure functions, so that a record can be summarized anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sanderling_bench import writing
from sanderling_bench.record import (
    Call,
    ColdStart,
    ColdStartSummary,
    DriftSummary,
    Metal,
    MetalSummary,
    Percentiles,
    RatioSummary,
    Samples,
    Stages,
    Summary,
    Throughput,
)
from sanderling_bench.statistics import QUANTILES, SEED, median, percentile, ratio_of_medians


def summarize(
    samples: Mapping[str, Samples],
    sizes: Mapping[str, int],
    inputs: int,
    reference: str,
    seed: int = SEED,
    metal: Metal | None = None,
) -> dict[str, Summary]:
    """The summary of each variant. `sizes` are bytes, `inputs` their count in an offline call; a speed-up is over the
    variant named `reference`, where that was measured too."""
    base = samples.get(reference)
    found = {}
    for name, of in samples.items():
        compared = base is not None and name != reference
        found[name] = Summary(
            size_bytes=sizes[name],
            latency=percentiles([call.seconds for call in of.single_stream]) if of.single_stream else None,
            stages=_stages(of.single_stream or of.offline),
            speedup_single_stream=_speedup(base.single_stream, of.single_stream, seed) if compared and base else None,
            throughput=_throughput(of, inputs) if of.offline else None,
            speedup_offline=_speedup(base.offline, of.offline, seed) if compared and base else None,
            cold_start=_cold_start(of.cold_start) if of.cold_start else None,
            peak_memory_bytes=of.peak_memory_bytes,
            drift=_drift(of) if of.cosine_to_fp32 else None,
            metal=_metal(of, metal) if metal is not None and of.float_operations else None,
            generation=writing.summarized(of.single_stream, of.offline),
        )
    return found


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """p50, p90 and p99 with their sample count; None where it does not support one."""
    return Percentiles(len(seconds), *(percentile(seconds, quantile) for quantile in QUANTILES))


def by_round(calls: Sequence[Call]) -> list[float]:
    """The median seconds of each round, in the order of the rounds."""
    rounds: dict[int, list[float]] = {}
    for call in calls:
        rounds.setdefault(call.round, []).append(call.seconds)
    return [median(rounds[number]) for number in sorted(rounds)]


def _speedup(base: Sequence[Call], calls: Sequence[Call], seed: int) -> RatioSummary | None:
    if not base or not calls:
        return None
    ratio = ratio_of_medians(by_round(base), by_round(calls), seed=seed)
    return RatioSummary(ratio.value, ratio.low, ratio.high, ratio.pairs)


def _stages(calls: Sequence[Call]) -> Stages | None:
    known = [call.stages for call in calls if call.stages is not None]
    if not known:
        return None
    return Stages(
        median([stages.preprocess for stages in known]),
        median([stages.run for stages in known]),
        median([stages.postprocess for stages in known]),
    )


def _throughput(samples: Samples, inputs: int) -> Throughput:
    seconds = by_round(samples.offline)
    return Throughput(
        rounds=len(seconds),
        items_per_second=median([inputs / s for s in seconds]),
        tokens_per_second=None if samples.tokens is None else median([samples.tokens / s for s in seconds]),
    )


def _cold_start(starts: Sequence[ColdStart]) -> ColdStartSummary:
    return ColdStartSummary(
        processes=len(starts),
        imported=median([start.imported for start in starts]),
        loaded=median([start.loaded for start in starts]),
        answered=median([start.answered for start in starts]),
        wall=median([start.wall for start in starts]),
    )


def _drift(samples: Samples) -> DriftSummary:
    cosines, same = samples.cosine_to_fp32, samples.same_label_as_fp32
    return DriftSummary(
        samples=len(cosines),
        cosine_mean=sum(cosines) / len(cosines),
        cosine_min=min(cosines),
        agreement=sum(same) / len(same) if same else None,
    )


def _metal(samples: Samples, metal: Metal) -> MetalSummary:
    """The shares of the time taken that the work would take at the machine's peaks."""
    least = [
        floats / metal.float_operations + integers / metal.integer_operations
        for floats, integers in zip(samples.float_operations, samples.integer_operations, strict=True)
    ]
    single = [least[call.input] / call.seconds for call in samples.single_stream]
    offline = [sum(least) / seconds for seconds in by_round(samples.offline)]
    reading = (samples.weight_bytes or 0) / metal.memory_bytes
    return MetalSummary(
        float_operations=sum(samples.float_operations) / len(least),
        integer_operations=sum(samples.integer_operations) / len(least),
        single_stream=median(single) if single else None,
        offline=median(offline) if offline else None,
        weights=median([reading / call.seconds for call in samples.single_stream]) if single else None,
    )
