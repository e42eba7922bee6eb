"""The cap on memory: sizes as people write them, what is resident, and the largest plan that was seen to fit."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sanderling
from sanderling import memory
from sanderling.errors import InputError, MemoryLimitError
from sanderling.loading import assemble
from sanderling.plan import Plan

MB = 10**6


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("300MB", 300 * MB),
        ("300 mb", 300 * MB),
        ("1.5GiB", 3 * 2**29),
        ("64KiB", 65536),
        ("7", 7),
        ("7B", 7),
        (12345, 12345),
    ],
)
def test_sizes_as_people_write_them(given: int | str, size: int) -> None:
    assert memory.parse_size(given) == size


@pytest.mark.parametrize("given", ["", "MB", "-1MB", "0", 0, -5, True, 1.5, None, "3 apples", "1e3", "10MBB"])
def test_what_is_no_size_is_named(given: Any, embedding_bundle: Path) -> None:
    with pytest.raises(InputError) as raised:
        sanderling.load(embedding_bundle, max_memory=given) if given is not None else memory.parse_size(given)
    assert str(raised.value) == (
        f'max_memory is {given!r}; a size above 0 was expected, as "300MB", "1.5GiB" or bytes.'
    )


@contextmanager
def pages(size: int) -> Iterator[None]:
    """Pages of the system's, written to: an array might be laid where freed memory is still resident."""
    with mmap.mmap(-1, size) as held:
        for start in range(0, size, MB):
            held[start : start + MB] = b"\1" * MB
        yield


def test_what_is_resident_grows_with_what_is_held() -> None:
    before = memory.resident()
    with pages(100 * MB):
        assert memory.resident() - before > 90 * MB


@pytest.mark.timeout(60)
def test_a_watch_sees_what_was_there_for_a_moment_only() -> None:
    with memory.Watch() as watch:
        with pages(100 * MB):
            # Against what is resident now: what the tests before this one held may be given back meanwhile.
            while watch.peak < memory.resident() - 5 * MB:
                time.sleep(0.001)
        after = memory.resident()
    assert watch.peak > after + 90 * MB


class Process:
    """A process in which a session takes 100 MB, and each input of a run 10 MB while it lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = 1000 * MB
        self.tried: list[tuple[int, int]] = []
        monkeypatch.setattr(memory, "resident", lambda: self.held)
        monkeypatch.setattr(memory, "_peak", self._peak)

    def assemble(self, bundle: Any, plan: Plan) -> Any:
        self.tried.append((plan.workers, plan.token_budget))
        self.held += 100 * MB
        model = assemble(bundle, plan)
        close = model.close

        def closing() -> None:
            self.held -= 100 * MB
            close()

        model.close = closing  # type: ignore[method-assign]
        return model

    def _peak(self, model: Any, before: int, plan: Plan) -> int:
        sessions = 2 if plan.workers > 1 else 1
        inputs = plan.workers * memory._inputs_a_run(model, plan)
        return self.held - before + 100 * MB * (sessions - 1) + inputs * 10 * MB


# The tiny bundle takes 16 tokens: a budget of 128 is 8 inputs a run.
@pytest.mark.parametrize(
    ("cap", "chosen"),
    [
        (10_000, (2, 128)),
        (360, (2, 128)),
        (359, (2, 64)),
        (280, (2, 64)),
        (240, (2, 32)),
        (220, (2, 16)),
        (219, (1, 128)),
        (150, (1, 64)),
        (120, (1, 32)),
        (119, (1, 16)),
        (110, (1, 16)),
    ],
)
def test_the_largest_plan_that_fits_is_loaded(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch, cap: int, chosen: tuple[int, int]
) -> None:
    process = Process(monkeypatch)
    plan = Plan("fp32", "cpu", 2, 2, token_budget=128, row_budget=1)
    bundle = sanderling.open_bundle(embedding_bundle)
    with memory.fitted(bundle, plan, cap * MB, process.assemble) as model:
        assert (model.plan.workers, model.plan.token_budget) == chosen
        assert process.tried == [(1, 1), chosen]
        assert process.held == 1100 * MB
        assert model("the sea").embedding.shape == (8,)
    assert process.held == 1000 * MB


def test_what_was_predicted_to_fit_and_does_not_is_not_given_back(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(monkeypatch)
    honest = process._peak
    monkeypatch.setattr(memory, "_peak", lambda m, b, p: honest(m, b, p) * (1 if p.token_budget <= 32 else 9))
    bundle = sanderling.open_bundle(embedding_bundle)
    with memory.fitted(
        bundle, Plan("fp32", "cpu", 1, 1, token_budget=128, row_budget=1), 200 * MB, process.assemble
    ) as model:
        assert model.plan.token_budget == 32
    assert process.tried == [(1, 1), (1, 128), (1, 64), (1, 32)]


def test_what_does_not_fit_in_any_way_is_refused(embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(monkeypatch)
    bundle = sanderling.open_bundle(embedding_bundle)
    with pytest.raises(MemoryLimitError) as raised:
        memory.fitted(bundle, Plan("fp32", "cpu", 2, 2), 109 * MB, process.assemble)
    assert "does not fit max_memory of 109.0 MB with the variant fp32: loaded it takes 100.0 MB" in str(raised.value)
    assert "110.0 MB while it answers one input. Allow more, or load a smaller variant" in str(raised.value)
    assert process.held == 1000 * MB


def test_a_real_load_under_a_cap(embedding_bundle: Path, image_bundle: Path) -> None:
    with pytest.raises(MemoryLimitError, match=r"max_memory of 0\.0 MB .* its files alone have"):
        sanderling.load(embedding_bundle, max_memory=100)
    for bundle, given in ((embedding_bundle, "sea"), (image_bundle, np.zeros((9, 9, 3), np.uint8))):
        with sanderling.load(bundle, threads=2) as free, sanderling.load(bundle, threads=2, max_memory="8GB") as model:
            assert model.plan == free.plan
            assert repr(model(given))
