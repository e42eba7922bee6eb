"""Issue 6: 100,000 texts in Parquet through two workers of Ray's local cluster, beside one process held to one core."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import texts
from checks import Context, NotCheckableError, Row, at_least, at_most, built, registry, true
from command_line import command, environment
from numpy.typing import NDArray

from sanderling import cores

_TEXTS = 100_000
_FILES = 4
_KILLED_TEXTS = 6_000
_ROWS = 256

# One process on one core: the model's own best, all texts of one half in one call, reading and writing apart.
_ONE = """
import json, os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(sys.argv[3])]})
import numpy as np
import pyarrow.parquet as pq
import sanderling
found = [text for path in sys.argv[4:] for text in pq.read_table(path).column("text").to_pylist()]
with sanderling.load(sys.argv[1], threads=1) as model:
    model(found[:64])
    begun = time.perf_counter()
    vectors = model(found).embeddings
    seconds = time.perf_counter() - begun
np.save(sys.argv[2], vectors)
print(json.dumps(seconds))
"""


@registry.check(6, "ray")
def ray(context: Context, count: int = _TEXTS) -> list[Row]:
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        raise NotCheckableError('ray is not installed: pip install "sanderling[ray]"')
    if cores.granted() < 2:
        raise NotCheckableError("One core was granted; two workers need two.")
    bundle, source = built("all-minilm-l6-v2"), _parquet(context.folder / "source", count, _FILES)
    files = sorted(source.iterdir())
    half = len(files) // 2
    context.say("one process, the first half")
    first, first_seconds = _one_process(context.folder, bundle, files[:half])
    context.say(f"two workers, {count:,} texts")
    from sanderling.integrations.ray import embed_parquet

    target = context.folder / "vectors"
    with _cluster():
        begun = time.perf_counter()
        report = embed_parquet(source, target, bundle, workers=2)
        seconds = time.perf_counter() - begun
    context.say("one process, the second half")
    second, second_seconds = _one_process(context.folder, bundle, files[half:])
    context.say("two processes without Ray, which is what these cores give")
    beside = _side_by_side(context.folder, bundle, files[half:]) * second_seconds / len(second)
    expected = np.concatenate([first, second])
    found = _vectors(target, count)
    alone = count / (first_seconds + second_seconds)
    rows = [
        true(
            "texts through two workers: every one has its vector, once",
            found is not None and report.rows == count and not report.failed and report.workers == 2,
            f"{report.rows:,} of {count:,}",
            "all, by 2 workers",
            spread=f"{report.parts} parts, {report.truncated:,} texts truncated",
        ),
        at_least(
            "two workers against one process on one core, times its texts a second",
            count / seconds / alone,
            1.7,
            digits=2,
            spread=f"{count / seconds:,.0f}/s, read and written; {alone:,.0f}/s, embedded alone: its halves, before "
            f"and after, {len(first) / first_seconds:,.0f} and {len(second) / second_seconds:,.0f}/s; "
            f"two processes without Ray {beside:.2f} times one",
        ),
    ]
    if found is not None:
        apart = np.abs(found - expected).max(axis=1)
        equal = f"{int((apart == 0).sum()):,} of {count:,} bit for bit"
        largest = float(apart.max())
        rows.append(at_most("the same: largest difference to one process", largest, 1e-5, digits=9, spread=equal))
    return rows


@registry.check(6, "ray-killed")
def killed(context: Context, count: int = _KILLED_TEXTS) -> list[Row]:
    """A worker killed, and the whole run killed: what was made is kept, and the rest is made."""
    for package in ("ray", "pyarrow", "psutil"):
        if importlib.util.find_spec(package) is None:
            raise NotCheckableError(f'{package} is not installed: pip install "sanderling[ray,bench]"')
    if cores.granted() < 2:
        raise NotCheckableError("One core was granted; two workers need two.")
    bundle, source = built("all-minilm-l6-v2"), _parquet(context.folder / "source", count, 1)
    expected, _ = _one_process(context.folder, bundle, sorted(source.iterdir()))
    return [
        _worker_killed(context, source, bundle, expected),
        _run_killed(context, source, bundle, expected),
    ]


def _worker_killed(context: Context, source: Path, bundle: Path, expected: NDArray[np.float32]) -> Row:
    import psutil

    from sanderling.integrations.ray import embed_parquet

    context.say("a worker is killed")
    ended: list[int] = []

    def kill(step: Any) -> None:
        if ended or step.done < len(expected) // 4:
            return
        for child in psutil.Process().children(recursive=True):
            if child.name().startswith("ray::MapWorker") or "ray::MapWorker" in " ".join(child.cmdline()[:1]):
                ended.append(child.pid)
                child.kill()
                return

    with _cluster():
        report = embed_parquet(source, context.folder / "worker", bundle, workers=2, rows=_ROWS, progress=kill)
    found = _vectors(context.folder / "worker", len(expected))
    same = found is not None and float(np.abs(found - expected).max()) <= 1e-5
    return true(
        "a worker killed midway: every text has its vector, once, as one process gives it",
        bool(ended) and same and not report.failed,
        f"{report.rows:,} of {len(expected):,}",
        "all",
        spread=f"{len(ended)} worker killed after a quarter" if ended else "no worker was found to kill",
    )


def _run_killed(context: Context, source: Path, bundle: Path, expected: NDArray[np.float32]) -> Row:
    context.say("the whole run is killed")
    target = context.folder / "run"
    asked = command("embed", source, "-m", bundle, "-o", target, "--workers", 2, "--rows", _ROWS, "--json")
    process = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    parts = -(-len(expected) // _ROWS)
    limit = time.monotonic() + 900
    while len(list(target.glob("*.parquet"))) < parts // 2 and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    midway = process.poll() is None
    process.kill()
    process.wait()
    stood = len(list(target.glob("*.parquet")))
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=1800, env=environment())
    report = json.loads(done.stdout) if done.returncode == 0 else {"unchanged": 0}
    found = _vectors(target, len(expected))
    same = found is not None and float(np.abs(found - expected).max()) <= 1e-5
    return true(
        "the whole run killed midway: the parts that stood are kept, the next run makes the rest",
        midway and 0 < stood <= report["unchanged"] and same,
        f"{report['unchanged']} kept of {stood}",
        "all",
        spread=f"{parts} parts" if done.returncode == 0 else done.stderr[-300:],
    )


def _parquet(folder: Path, count: int, files: int) -> Path:
    """`count` texts in Parquet files: the sentences, then one sentence after another, in ever new pairs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sentences = texts.sentences()
    size = len(sentences)
    made = [
        sentences[i] if i < size else f"{sentences[i % size]} {sentences[(i * 7 + i // size) % size]}"
        for i in range(count)
    ]
    folder.mkdir()
    each = -(-count // files)
    for number in range(files):
        rows = range(number * each, min(count, (number + 1) * each))
        pq.write_table(pa.table({"id": rows, "text": made[rows.start : rows.stop]}), folder / f"{number}.parquet")
    return folder


def _started(place: Path, bundle: Path, files: list[Path], core: int = 0) -> subprocess.Popen[str]:
    """A process on one core that embeds all texts of these files, writes their vectors and prints the seconds."""
    asked = [sys.executable, "-c", _ONE, str(bundle), str(place), str(core), *map(str, files)]
    return subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment())


def _one_process(folder: Path, bundle: Path, files: list[Path]) -> tuple[NDArray[np.float32], float]:
    """The vectors of all texts of these files, and the seconds that embedding them took."""
    place = folder / "one.npy"
    said, _ = _started(place, bundle, files).communicate()
    return np.load(place), float(json.loads(said))


def _side_by_side(folder: Path, bundle: Path, files: list[Path]) -> float:
    """Texts a second of two processes without Ray, each on a core of its own with half of the files."""
    begun = [_started(folder / f"beside-{core}.npy", bundle, files[core::2], core) for core in range(2)]
    seconds = [float(json.loads(process.communicate()[0])) for process in begun]
    return sum(len(np.load(folder / f"beside-{core}.npy")) / one for core, one in enumerate(seconds))


def _vectors(folder: Path, count: int) -> NDArray[np.float32] | None:
    """The vectors by the rows' ids; None where one is missing, or is there twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables(pq.read_table(path, columns=["id", "vector"]) for path in folder.rglob("*.parquet"))
    ids = table.column("id").to_numpy()
    column = table.column("vector").combine_chunks()
    if sorted(ids.tolist()) != list(range(count)) or column.null_count:
        return None
    rows = column.flatten().to_numpy().reshape(count, -1)
    found = np.empty_like(rows)
    found[ids] = rows
    return found


@contextmanager
def _cluster() -> Iterator[None]:
    """Ray's local cluster, as one would have it running; what it costs to start is not embedding."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()
