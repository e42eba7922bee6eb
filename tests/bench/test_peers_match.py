"""Contestants as processes, the search for their settings, and a contest of fakes; no peer is installed."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from sanderling.errors import BenchError
from sanderling_bench.peers.catalogue import PROGRAMS, Contestant, Grid
from sanderling_bench.peers.inputs import PeerInputs, probes
from sanderling_bench.peers.match import Arena, Entry, Plan, Settled, choose, compete
from sanderling_bench.peers.process import ContestantError, Running
from sanderling_bench.peers.record import Chosen
from sanderling_bench.peers.search import FINAL_ROUNDS, FINALISTS, fastest

FAKE = """
import os, sys, threading
def load(folder, settings):
    print("a library says hello")
    if settings.get("fail"):
        raise RuntimeError("no such device here")
    if settings.get("spin"):
        threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
    limit = settings.get("limit", 10**9)
    def answer(texts, batch=1):
        print("and again")
        if batch == 13:
            raise ValueError("13 is no\\nbatch")
        if batch == 14:
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        rows = []
        for text in texts:
            words = text.split()[: limit - 2]
            rows.append([1.0, len(words), sum(map(ord, words[-1])) % 7])
        return rows
    return answer
"""
QUICK = Plan(rounds=2, calls=6, block=3, warmup=1, starts=1, search=2)


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "fake.py").write_text(FAKE)
    return str(tmp_path / "fake")


@pytest.fixture
def inputs(tmp_path: Path) -> PeerInputs:
    items = ["a bird", "the sea at night", "foam"]
    path = tmp_path / "texts.json"
    path.write_text(json.dumps([*items, *probes()]))
    return PeerInputs("text", path, len(items), len(probes()), "0" * 64, "fakes")


@pytest.fixture
def start(program: str, inputs: PeerInputs, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started = []

    def run(**settings: object) -> Running:
        command = [sys.executable, "-P", str(PROGRAMS / "serve.py"), f"{program}.py", str(tmp_path)]
        running = Running("fake", [*command, json.dumps(settings), str(inputs.path)], tmp_path / f"log-{len(started)}")
        started.append(running)
        return running

    yield run
    for running in started:
        running.close()


def contestant(name: str, program: str, **more: object) -> Contestant:
    return Contestant(name, "fakes", program, "text", **more)  # type: ignore[arg-type]


def entry(one: Contestant, folder: Path) -> Entry:
    return Entry(one, Path(sys.executable), folder)


def test_a_contestant_answers_what_it_is_asked(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start()
    assert running.first_answer > 0
    assert running.all(2, {"batch": 4}, first=1, to=tmp_path / "rows.npy") > 0
    rows = np.load(tmp_path / "rows.npy")
    assert rows.dtype == np.float32
    assert rows[:, 1].tolist() == [4, 1]
    assert len(running.each(1, 5, 3, warmup=2)) == 5
    assert 1e6 < running.peak_memory() < 1e10
    running.close()
    assert not psutil.pid_exists(running._process.pid)
    running.close()


def test_what_fails_in_a_contestant_is_said(start: Callable[..., Running], tmp_path: Path) -> None:
    with pytest.raises(ContestantError, match="fake: RuntimeError: no such device here"):
        start(fail=True)
    with pytest.raises(ContestantError, match="fake: ValueError: 13 is no batch"):
        start().all(1, {"batch": 13})
    with pytest.raises(ContestantError, match="last words"):
        start().all(1, {"batch": 14})
    with pytest.raises(ContestantError, match="did not start"):
        Running("fake", [str(tmp_path / "no such program")], tmp_path / "log")


def test_a_contestant_that_spins_burns_nothing_while_it_has_no_turn(start: Callable[..., Running]) -> None:
    running = start(spin=True)
    process = psutil.Process(running._process.pid)
    for _ in range(2):
        # A signal takes its time on a busy machine.
        deadline = time.monotonic() + 30
        while process.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.01)
        before = process.cpu_times()
        time.sleep(0.3)
        after = process.cpu_times()
        assert (after.user, after.system) == (before.user, before.system)
        assert running.all(3, {}) > 0


def test_the_search_finds_the_fastest_and_measures_it_longest() -> None:
    asked: list[tuple[int, int]] = []

    def measure(candidate: int, size: int) -> float:
        asked.append((candidate, size))
        return abs(candidate - 17) + 1.0

    best, trials = fastest(list(range(40)), measure, 10)
    assert best.settings == 17
    assert [trial.seconds for trial in trials][:3] == [1.0, 2.0, 2.0]
    assert sorted(trial.settings for trial in trials) == list(range(40))
    assert [size for candidate, size in asked if candidate == 17] == [10, 20, 40, 40, 40]
    assert [size for candidate, size in asked if candidate == 39] == [10]
    finals = [candidate for candidate, size in asked if size == 40]
    assert len(finals) == FINALISTS * FINAL_ROUNDS
    assert finals[0] != finals[FINALISTS]  # they alternate, each round begun by the next


def test_the_search_judges_the_last_by_their_medians() -> None:
    taken = {"steady": iter((2.0, 2.0, 2.0)), "once lucky": iter((0.1, 3.0, 3.0))}
    best, _ = fastest(list(taken), lambda name, _: next(taken[name]), 1)
    assert best.settings == "steady"


def test_the_search_of_one_measures_nothing_and_of_none_is_an_error() -> None:
    best, trials = fastest(["only"], lambda *_: pytest.fail("measured"), 1)
    assert (best.settings, len(trials)) == ("only", 1)
    with pytest.raises(BenchError, match="none to try"):
        fastest([], lambda *_: 1.0, 1)


def test_settings_that_fail_lose_with_the_reason(program: str, inputs: PeerInputs, tmp_path: Path) -> None:
    arena = Arena(inputs, tmp_path, 2, lambda _: None)
    grid = Grid(load={"fail": (True, False)}, call={"batch": (1, 2)})
    chosen = choose(arena, entry(contestant("a", program, throughput=grid), tmp_path), "throughput", 2)
    assert chosen.load == {"fail": False}
    assert [tried.seconds is None for tried in chosen.tried] == [False, False, True, True]
    assert "no such device" in chosen.tried[-1].reason
    broken = contestant("b", program, latency=Grid(load={"fail": (True,), "limit": (3, 4)}))
    with pytest.raises(ContestantError, match="no such device here"):
        choose(arena, entry(broken, tmp_path), "latency", 2)


def test_who_is_far_behind_is_not_searched(program: str, inputs: PeerInputs, tmp_path: Path) -> None:
    arena = Arena(inputs, tmp_path, 2, lambda _: None)
    one = entry(contestant("a", program, throughput=Grid(call={"batch": (1, 2, 3)})), tmp_path)
    behind = choose(arena, one, "throughput", 2, limit=0.0)
    assert behind.call == {"batch": 1}
    assert len(behind.tried) == 1
    assert len(choose(arena, one, "throughput", 2).tried) == 3


def test_settings_alone(program: str, inputs: PeerInputs, tmp_path: Path) -> None:
    said: list[str] = []
    grid = Grid(call={"batch": (1, 2)})
    entries = [
        entry(contestant("good", program, throughput=grid), tmp_path),
        entry(contestant("broken", program, load={"fail": True}, throughput=grid), tmp_path),
    ]
    settled = Settled(tmp_path / "settings.json")
    arena = Arena(inputs, tmp_path, 2, said.append)
    (broken,) = compete(arena, entries, settled, QUICK, "good", settings_only=True)
    assert "no such device" in broken.unavailable
    assert said == [f"{name}: the best of 2 settings for throughput" for name in ("good", "broken")]
    (broken,) = compete(arena, entries[:1], settled, QUICK, "good", settings_only=True) or (None,)
    assert (broken, len(said)) == (None, 2)


def test_a_contest(program: str, inputs: PeerInputs, tmp_path: Path) -> None:
    said: list[str] = []
    arena = Arena(inputs, tmp_path, 2, said.append)
    entries = [
        entry(contestant("whole", program, load={"limit": 256}, every_round=True), tmp_path),
        entry(contestant("cut", program, load={"limit": 4}, every_round=True), tmp_path),
        entry(contestant("broken", program, load={"fail": True}), tmp_path),
        entry(contestant("fragile", program, call={"batch": 14}), tmp_path),
    ]
    results = compete(arena, entries, Settled(tmp_path / "settings.json"), QUICK, "whole")
    whole, cut, broken, fragile = results
    assert [len(whole.rounds), len(whole.blocks), len(whole.blocks[0]), len(whole.starts)] == [2, 2, 3, 1]
    assert whole.cosines == pytest.approx([1, 1, 1])
    assert whole.token_limit == 256
    assert cut.token_limit is None
    assert cut.cosines[2] == pytest.approx(1)
    assert cut.cosines[1] < 0.99
    assert "no such device" in broken.unavailable
    assert "last words" in fragile.unavailable
    assert broken.rounds == fragile.rounds == ()
    turns = [line for line in said if line.startswith("round")]
    assert turns == ["round 1 of 2: whole", "round 1 of 2: cut", "round 2 of 2: cut", "round 2 of 2: whole"]


def test_settings_found_are_kept(tmp_path: Path) -> None:
    found = Chosen({"threads": 2}, {"batch": 8}, ())
    calls = []

    def find() -> Chosen:
        calls.append(1)
        return found

    for _ in range(2):
        assert Settled(tmp_path / "settings.json").get("key", find) == found
    assert len(calls) == 1
    (tmp_path / "settings.json").write_text("{damaged")
    assert Settled(tmp_path / "settings.json").get("key", find) == found
    assert len(calls) == 2


@pytest.mark.parametrize("field", ["rounds", "calls", "block", "starts", "search"])
def test_a_plan_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(BenchError, match=f"{field} is 0"):
        Plan(**{field: 0})


def test_an_infinite_time_never_wins() -> None:
    best, trials = fastest([1, 2, 3], lambda one, _: math.inf if one < 3 else 5.0, 1)
    assert best.settings == 3
    assert math.isinf(trials[-1].seconds)
