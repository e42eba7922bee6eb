"""Issue 3: many threads at once get what one thread gets, without errors, growing memory, or cores that stay busy."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import psutil
import texts
from checks import Context, Row, at_most, built, registry
from numpy.typing import NDArray

import sanderling

THREADS = 20
SECONDS = 300.0
# Texts whose answers one thread gave first; requests are drawn from them.
TEXTS = 240
_SIZES = (1, 1, 1, 2, 4, 16)
# Farthest an element of a unit vector may move with its batch mates, where no plan says it does not.
BOUND = 1e-5
# By how much memory may grow from the second fifth of the time to the last.
GROWTH = 0.02
# Seconds after a request over which the process is watched, and its share of a core there.
_WATCHED, IDLE = 1.0, 0.05


@dataclass
class Storm:
    """What the threads of one storm saw."""

    requests: int = 0
    answers: int = 0
    unequal: int = 0
    farthest: float = 0.0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        same = (found == expected).all(axis=1)
        distance = float(np.abs(found - expected).max())
        with self.lock:
            self.requests += 1
            self.answers += len(found)
            self.unequal += int((~same).sum())
            self.farthest = max(self.farthest, distance)

    def fail(self, error: Exception) -> None:
        with self.lock:
            self.errors.append(f"{type(error).__name__}: {error}"[:200])


@registry.check(3, "storm")
def storm(context: Context, seconds: float = SECONDS) -> list[Row]:
    rows = []
    # Half of the time for each way to run: the default plan of a variant that batch mates do move a little (fp32's
    # matrix products round by their shape), and a plan under which nothing depends on them.
    for variant, invariant in (("fp32", False), ("int8-static", True)):
        context.say(f"{variant}, {THREADS} threads for {seconds / 2:.0f} s")
        rows += _rows(variant, invariant, seconds / 2)
    return rows


def _rows(variant: str, invariant: bool, seconds: float) -> list[Row]:
    chosen = texts.of_all_lengths(TEXTS * 2)[:TEXTS] + texts.of_all_lengths(TEXTS * 2)[-8:]
    name = f"MiniLM {variant}{', batch-invariant' if invariant else ''}, {THREADS} threads"
    with sanderling.load(built("all-minilm-l6-v2"), variant=variant, batch_invariant=invariant) as model:
        expected = np.stack([model(text).embedding for text in chosen])
        found = Storm()
        process = psutil.Process()
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=_requests, args=(model, chosen, expected, found, end, n)) for n in range(20)]
        for thread in threads:
            thread.start()
        samples = []
        while any(thread.is_alive() for thread in threads):
            samples.append(process.memory_info().rss)
            time.sleep(0.25)
        for thread in threads:
            thread.join()
        # Medians of the second fifth and the last: single samples hold the runs under way.
        fifth = max(1, len(samples) // 5)
        warm, last = float(np.median(samples[fifth : 2 * fifth])), float(np.median(samples[-fifth:]))
        idle = _idle_shares(model)
    counts = f"{found.requests:,} requests, {found.answers:,} answers, {found.unequal:,} not bit for bit"
    bound = 0.0 if invariant else BOUND
    return [
        at_most(f"{name}: distance to one thread's answers", found.farthest, bound, digits=9, spread=counts),
        at_most(f"{name}: errors", len(found.errors), 0, digits=0, spread="; ".join(found.errors[:2])),
        at_most(
            f"{name}: memory, growth from the second fifth to the last, percent",
            100 * (last / warm - 1),
            100 * GROWTH,
            digits=2,
            spread=f"{warm / 1e6:.0f} to {last / 1e6:.0f} MB",
        ),
        at_most(
            f"{name}: processor in the second after a request, percent of a core",
            100 * max(idle),
            100 * IDLE,
            digits=2,
            spread=f"{len(idle)} requests, median {100 * float(np.median(idle)):.2f}",
        ),
    ]


def _requests(
    model: sanderling.EmbeddingModel,
    chosen: list[str],
    expected: NDArray[np.float32],
    found: Storm,
    end: float,
    seed: int,
) -> None:
    draw = random.Random(seed)
    while time.monotonic() < end:
        picked = [draw.randrange(len(chosen)) for _ in range(draw.choice(_SIZES))]
        try:
            if len(picked) == 1:
                rows = model(chosen[picked[0]]).embedding[None]
            else:
                rows = model([chosen[index] for index in picked]).embeddings
            found.add(rows, expected[picked])
        except Exception as error:
            found.fail(error)


def _idle_shares(model: sanderling.EmbeddingModel) -> list[float]:
    """The process's share of a core in the second after each of some requests, single and batch."""
    shares = []
    for request in (["one text"], ["some texts", "of a batch"] * 40) * 3:
        model(request)
        before, begin = time.process_time(), time.perf_counter()
        time.sleep(_WATCHED)
        shares.append((time.process_time() - before) / (time.perf_counter() - begin))
    return shares
