"""Micro-benchmarks of the runtime's own work. Skipped by default; run them with: pytest tests/bench --benchmark-only"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import sanderling
from sanderling_bench.inputs import standard_texts
from sanderling_bench.scenario import null_system, single_stream
from sanderling_bench.statistics import percentile, ratio_of_medians


@pytest.fixture
def words(embedding_bundle: Path) -> Iterator[Any]:
    with sanderling.load(embedding_bundle, threads=1) as model:
        yield model


@pytest.fixture
def colours(image_bundle: Path) -> Iterator[Any]:
    with sanderling.load(image_bundle, threads=1) as model:
        yield model


def test_one_short_text(benchmark: BenchmarkFixture, words: Any) -> None:
    assert benchmark(words, "a small bird").embedding.shape == (8,)


def test_a_batch_of_texts(benchmark: BenchmarkFixture, words: Any) -> None:
    assert benchmark(words, list(standard_texts(64))).embeddings.shape == (64, 8)


def test_a_photograph_of_twelve_megapixels(benchmark: BenchmarkFixture, colours: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(3000, 4000, 3), dtype=np.uint8)
    assert len(benchmark(colours, pixels).labels) == 4


def test_a_call_of_the_harness(benchmark: BenchmarkFixture) -> None:
    taken = benchmark(single_stream, null_system, ["a"], samples=1000, keep=lambda answer: answer)
    assert len(taken) == 1000


def test_a_percentile_of_many(benchmark: BenchmarkFixture) -> None:
    samples = np.random.default_rng(0).random(10_000).tolist()
    assert 0.98 < benchmark(percentile, samples, 0.99) < 1.0


def test_a_bootstrap_interval(benchmark: BenchmarkFixture) -> None:
    assert benchmark(ratio_of_medians, [2.0] * 15, [1.0] * 15).high == 2.0
