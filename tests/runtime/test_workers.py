"""Workers, the budget of cores, cancellation: what runs side by side, and how it ends early."""

from __future__ import annotations

import threading
import time

import pytest

from sanderling.cancellation import Cancellation
from sanderling.cores import Budget
from sanderling.errors import CancelledError, DeadlineError, InputError
from sanderling.workers import Workers


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_item_is_worked_on_once(count: int) -> None:
    workers = Workers(count)
    seen: list[int] = []
    for _ in range(3):
        workers.each(range(100), seen.append)
    workers.close()
    assert sorted(seen) == sorted([*range(100)] * 3)


def test_items_really_run_side_by_side() -> None:
    workers = Workers(3)
    meet = threading.Barrier(3, timeout=30)
    workers.each(range(3), lambda _: meet.wait() and None)
    workers.close()


def test_the_first_error_is_raised_and_stops_what_has_not_begun() -> None:
    workers = Workers(2)
    seen: list[int] = []

    def work(item: int) -> None:
        seen.append(item)
        if item == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        workers.each(range(10_000), work)
    assert len(seen) < 10_000
    workers.each(range(10), lambda _: None)
    workers.close()


def test_an_error_of_the_items_themselves_is_raised() -> None:
    def items():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        Workers(2).each(items(), lambda _: None)


def test_no_more_threads_than_items_are_started() -> None:
    workers, before = Workers(64), set(threading.enumerate())
    workers.each([1, 2, 3], lambda _: None)
    started = set(threading.enumerate()) - before
    workers.close()
    assert len(started) <= 2


def test_a_call_under_way_while_it_is_closed_leaves_no_thread_behind() -> None:
    workers, before, seen = Workers(4), set(threading.enumerate()), []
    workers.each(range(10), lambda _: None)
    workers.close()
    workers.each(range(10), seen.append)
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(timeout=30)
    assert seen == list(range(10))
    assert not any(thread.is_alive() for thread in left)


def test_many_callers_share_the_workers() -> None:
    workers = Workers(2)
    totals: list[int] = []

    def call(n: int) -> None:
        found: list[int] = []
        workers.each(range(n), found.append)
        totals.append(len(found))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(50, 70)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    workers.close()
    assert sorted(totals) == [*range(50, 70)]


def test_the_budget_is_never_exceeded_and_everybody_is_served() -> None:
    budget = Budget(3)
    lock = threading.Lock()
    held = 0
    most = 0
    served: list[int] = []

    def user(cores: int) -> None:
        nonlocal held, most
        for _ in range(50):
            with budget.use(cores):
                with lock:
                    held += cores
                    most = max(most, held)
                with lock:
                    held -= cores
        served.append(cores)

    threads = [threading.Thread(target=user, args=(1 + i % 3,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(served) == 12
    assert 1 <= most <= 3


def test_asking_for_more_than_the_budget_takes_all_of_it() -> None:
    budget = Budget(2)
    with budget.use(8):
        pass
    with budget.use(2):
        pass


def test_an_error_inside_gives_the_cores_back() -> None:
    budget = Budget(1)
    with pytest.raises(ValueError, match="inside"), budget.use(1):
        raise ValueError("inside")
    with budget.use(1):
        pass


def terminated(stopped: threading.Event) -> None:
    """A run that fails once it is told to stop."""
    assert stopped.wait(30)
    raise RuntimeError("the run says it was terminated")


def test_cancelling_stops_what_runs_and_gives_the_reason() -> None:
    cancellation = Cancellation()
    stopped = threading.Event()
    threading.Timer(0.02, cancellation.cancel).start()
    with pytest.raises(CancelledError), cancellation.stopping(stopped.set):
        terminated(stopped)
    assert cancellation.cancelled


def test_a_deadline_stops_what_runs_and_gives_the_reason() -> None:
    cancellation = Cancellation(timeout=0.02)
    stopped = threading.Event()
    with pytest.raises(DeadlineError, match=r"0\.02 seconds"), cancellation.stopping(stopped.set):
        terminated(stopped)
    assert isinstance(DeadlineError("x"), TimeoutError)


def test_cancelling_before_the_run_prevents_it() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(CancelledError), cancellation.stopping(lambda: None):
        pytest.fail("the run was begun")


def test_an_error_of_another_cause_passes() -> None:
    with pytest.raises(RuntimeError, match="other"), Cancellation(timeout=60).stopping(lambda: None):
        raise RuntimeError("other")


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_zero(timeout: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        Cancellation(timeout=timeout)


@pytest.mark.parametrize("timeout", ["1", [1]])
def test_a_timeout_is_a_number(timeout: object) -> None:
    with pytest.raises(InputError, match="above 0"):
        Cancellation(timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [1e12, float("inf")])
def test_a_deadline_beyond_what_the_system_can_wait_is_none(timeout: float, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with Cancellation(timeout=timeout).stopping(lambda: None):
        pass
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)
    assert capsys.readouterr().err == ""


def test_an_expired_deadline_is_seen_at_once() -> None:
    cancellation = Cancellation(timeout=1e-9)
    time.sleep(0.001)
    assert cancellation.expired
    with pytest.raises(DeadlineError):
        cancellation.check()
