"""Whatever ends a writer, and whichever write fails: the index opens, and holds all that was acknowledged."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sanderling import Index
from sanderling.errors import StorageError

SPACE = "a" * 64
WIDTH = 8


def vector(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


class Model:
    """What an index should hold: by id, the seed of the vector and the metadata."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def same_as(self, index: Index) -> bool:
        if set(index.ids()) != set(self.items):
            return False
        for name, seed in self.items.items():
            expected = vector(seed) / np.linalg.norm(vector(seed))
            if index.metadata(name) != {"seed": seed} or not np.allclose(index.vectors([name])[0], expected, atol=1e-3):
                return False
            if index.search_words(f"seed{seed}", 1)[0][0] != name:
                return False
        index.check()
        return True


Change = tuple[str, list[int]]


def apply(index: Index, model: Model, change: Change, number: int) -> None:
    """Make a change to both; the model's only if the index acknowledged it."""
    kind, names = change
    ids = [str(name) for name in dict.fromkeys(names)]
    there = [name for name in ids if name in model.items]
    if kind == "compact":
        index.compact()
    elif kind == "delete":
        index.delete(there)
        for name in there:
            del model.items[name]
    else:
        seeds = [number * 100 + place for place in range(len(ids))]
        vectors = np.array([vector(seed) for seed in seeds]).reshape(-1, WIDTH)
        texts = [f"grown of seed{seed}" for seed in seeds]
        index.update(ids, vectors, [{"seed": seed} for seed in seeds], space=SPACE, texts=texts)
        model.items |= dict(zip(ids, seeds, strict=True))


changes = st.lists(
    st.tuples(st.sampled_from(["update", "update", "delete", "compact"]), st.lists(st.integers(0, 12), max_size=6)),
    max_size=12,
)


@given(changes, st.sampled_from(["float32", "float16", "int8"]), st.integers(0, 2**16))
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_it_is_what_a_dictionary_and_brute_force_are(
    tmp_path_factory: pytest.TempPathFactory, made: list[Change], precision: Any, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("model") / "index"
    model = Model()
    with Index.create(folder, space=SPACE, dimension=WIDTH, precision=precision) as index:
        for number, change in enumerate(made):
            apply(index, model, change, number)
        assert len(index) == len(model.items)
    with Index.open(folder) as index:
        assert model.same_as(index)
        query = vector(seed)
        hits: Any = index.search(query, 5, space=SPACE)
        cosines = {
            name: float(vector(own) @ query / np.linalg.norm(vector(own)) / np.linalg.norm(query))
            for name, own in model.items.items()
        }
        assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True)[:5], abs=2e-3)
        assert all(cosines[hit.id] == pytest.approx(hit.score, abs=2e-3) for hit in hits)


HISTORY: list[Change] = [
    ("update", [1, 2, 3]),
    ("update", [3, 4]),
    ("delete", [1]),
    ("compact", []),
    ("update", [20]),
]


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, kind: str, at: int) -> Iterator[list[int]]:
    """The call number `at` to the system that writes, syncs or renames fails; `[calls so far]` is given."""
    calls = [0]
    real_write, real_sync, real_replace = os.write, os.fsync, Path.replace

    def due() -> bool:
        calls[0] += 1
        return calls[0] - 1 == at

    def write(descriptor: int, data: Any) -> int:
        if not due():
            return real_write(descriptor, data)
        if kind == "short":
            return real_write(descriptor, data[: max(1, len(data) // 2)])
        real_write(descriptor, data[: len(data) // 3])
        raise OSError(errno.ENOSPC, "No space left on device")

    def synchronize(descriptor: int) -> None:
        if due() and kind != "short":
            raise OSError(errno.EIO, "Input/output error")
        real_sync(descriptor)

    def rename(self: Path, target: Any) -> Path:
        if due() and kind != "short":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(os, "fsync", synchronize)
        patch.setattr(Path, "replace", rename)
        yield calls


@pytest.mark.parametrize("kind", ["full", "short"])
def test_a_fault_at_each_write_in_turn_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    faults = 0
    for at in itertools.count():
        folder, model = tmp_path / f"{kind}-{at}", Model()
        with Index.create(folder, space=SPACE, dimension=WIDTH) as index, failing(monkeypatch, kind, at) as calls:
            for number, change in enumerate(HISTORY):
                try:
                    apply(index, model, change, number)
                except StorageError:
                    faults += 1
                    # Not acknowledged: it may have become true or not, but never in part.
                    after = Model()
                    after.items = dict(model.items)
                    with Index.open(folder) as reader:
                        if not model.same_as(reader):
                            apply_to_model(after, change, number)
                            assert after.same_as(reader)
                            model = after
                            continue
                    # The same again goes through, and the writer goes on.
                    apply(index, model, change, number)
            over = calls[0] <= at
        with Index.open(folder, writable=True) as index:
            assert model.same_as(index)
        if over:
            break
    assert at > 25
    assert faults == (0 if kind == "short" else at)


def apply_to_model(model: Model, change: Change, number: int) -> None:
    class Nothing:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None

    apply(Nothing(), model, change, number)  # type: ignore[arg-type]


_WRITER = """
import sys
import numpy as np
from sanderling import Index
sys.path.insert(0, {tests!r})
with Index.open({folder!r}, writable=True) as index:
    number = len(index)
    while True:
        rng = np.random.default_rng(number)
        count = int(rng.integers(1, 40))
        ids = [str(n) for n in range(number, number + count)]
        index.add(ids, rng.standard_normal((count, {width})), [{{"n": i}} for i in ids], space={space!r})
        number += count
        print(number, flush=True)
        if number % 5 == 0:
            index.compact()
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    Index.create(folder, space=SPACE, dimension=WIDTH, precision="int8").close()
    code = _WRITER.format(tests=str(Path(__file__).parent), folder=str(folder), width=WIDTH, space=SPACE)
    random = np.random.default_rng(0)
    acknowledged = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = process.stdout.readline()
        time.sleep(float(random.uniform(0, 0.4)))
        process.kill()
        # What stands behind the last end of a line is half a number.
        told += process.communicate()[0]
        acknowledged = max([acknowledged, *map(int, told.split("\n")[:-1])])
        with Index.open(folder) as index:
            assert len(index) >= acknowledged
            assert index.ids() == [str(n) for n in range(len(index))]
            index.check()
    assert acknowledged > 0
