"""Ray Data: bulk embedding on many machines; each worker is an actor with its own session and its own cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

import sanderling
from sanderling import cores, errors, storage
from sanderling.counts import whole_number
from sanderling.errors import InferenceError, InputError, MissingExtraError, SanderlingError, StorageError
from sanderling.integrations import parquet
from sanderling.integrations.actors import Embedder, Job, Maker, Outcome
from sanderling.integrations.models import texts_model
from sanderling.precisions import Precision
from sanderling.precisions import check as check_precision
from sanderling.prompts import prompt_for

# Ray reports its use over the network; Sanderling uses none. Set the variable to 1 to have it.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

try:
    import ray
    import ray.data
except ImportError as error:
    raise MissingExtraError("Bulk embedding", "ray", "ray") from error

# Some seconds of work of one core: all that is done again where a worker ends.
ROWS = 2048
_MAX_ROWS, _MAX_WORKERS = 2**20, 2**16
_LOCK = ".sanderling.lock"


class Report(Struct):
    """What became of a bulk embedding. Of `rows`, `empty` have no text and so no vector, and of `truncated` the model
    did not see the whole text. `parts` were made or stood as they would be made (`unchanged`); `removed` ones were of
    rows that are gone; `failed` names parts that could not be embedded, with the reason. `workers` took part."""

    rows: int = 0
    empty: int = 0
    truncated: int = 0
    parts: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: dict[str, str] = {}
    workers: int = 0


class Progress(Struct, frozen=True):
    """How far a bulk embedding is: rows that are done and all of them, and those that were embedded in this run."""

    done: int
    total: int
    embedded: int


def embed(
    dataset: ray.data.Dataset,
    bundle: str | os.PathLike[str],
    *,
    column: str = "text",
    workers: int | None = None,
    threads: int = 1,
    prompt: str | None = None,
    variant: str | None = None,
    dimensions: int | None = None,
    precision: Precision = "float32",
    rows: int = ROWS,
) -> ray.data.Dataset:
    """The dataset with vectors of the texts in `column`, computed as it is read.

    Adds the columns `vector` (a list of fixed size), with precision "int8" `scale`, `tokens_lost` and
    `characters_unread`; a row without a text (null) has none of them. Up to `workers` actors (default: as many as the
    cluster has cores for) load the bundle from the folder `bundle`, which every machine must have, with `threads`
    each, and are given `rows` rows at a time. `prompt` is as in the other adapters. Raises what `sanderling.load`
    raises, InputError for a bundle or a setting that does not fit; a worker's error arrives as Ray wraps it.
    """
    job = _job(bundle, column, threads, prompt, variant, dimensions, precision)
    most = _workers(workers, threads)
    # One actor at first: reading the dataset needs cores as well.
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
    return dataset.map_batches(
        Embedder,
        batch_format="pyarrow",
        batch_size=whole_number("rows", rows, _MAX_ROWS),
        compute=pool,
        num_cpus=threads,
        fn_constructor_args=(job,),
    )


def embed_parquet(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    column: str = "text",
    workers: int | None = None,
    threads: int = 1,
    prompt: str | None = None,
    variant: str | None = None,
    dimensions: int | None = None,
    precision: Precision = "float32",
    rows: int = ROWS,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Embed a Parquet file, or all of a folder, into Parquet files in the folder `target`; all columns are kept.

    The arguments are those of `embed`. A part of `rows` rows becomes one file, written whole or not at all. Run again,
    after whatever ended it, only parts are embedded whose rows, bundle or settings are others than before. Where a
    worker ends, Ray starts another, which makes its part again. Connects to the cluster of RAY_ADDRESS, or starts one
    of this machine and ends it again; source, target and bundle must be the same folders on every machine.

    Raises what `sanderling.load` raises; InputError: no Parquet file, one without that column, or a `target` that has
    the vectors of another source; SpaceError: it has vectors of another space; StorageError: it cannot be written, or
    another run is writing it.
    """
    folder = Path(target)
    job = _job(bundle, column, threads, prompt, variant, dimensions, precision)
    parts = parquet.parts(Path(source), folder, column, whole_number("rows", rows, _MAX_ROWS))
    report, total, embedded = Report(), sum(part.rows for part in parts), 0
    with _locked(folder):
        before = parquet.standing(folder)
        parquet.check(before, job.space, Path(source), folder)
        with _writing(folder):
            for inside in {Path(part.target).parent for part in parts}:
                inside.mkdir(parents=True, exist_ok=True)
        seen = set()
        for part, outcome in _carried_out(parts, job, workers, threads):
            seen.add(outcome.worker)
            report.rows += part.rows
            report.parts += 1
            if outcome.error:
                report.failed[part.target] = outcome.error
            elif outcome.made is not None:
                report.empty += outcome.made.empty
                report.truncated += outcome.made.truncated
                report.unchanged += outcome.stood
                embedded += 0 if outcome.stood else part.rows
            if progress is not None:
                progress(Progress(report.rows, total, embedded))
        report.workers = len(seen)
        gone = [path for path in before if path not in {Path(part.target) for part in parts}]
        with _writing(folder):
            for path in gone:
                path.unlink(missing_ok=True)
        report.removed = len(gone)
    return report


def _job(
    bundle: str | os.PathLike[str],
    column: str,
    threads: int,
    prompt: str | None,
    variant: str | None,
    dimensions: int | None,
    precision: Precision,
) -> Job:
    """The settings as every worker will use them; loaded here once, so that what is wrong is said before Ray starts."""
    threads = whole_number("threads", threads, _MAX_WORKERS)
    with sanderling.load(bundle, variant=variant, threads=threads, dimensions=dimensions) as loaded:
        model = texts_model(loaded)
        check_precision(precision, model.dimension)
        how = parquet.How(column, prompt_for(model, "document", prompt), precision)
        where = str(Path(bundle).resolve())
        return Job(where, model.bundle.digest, model.variant, dimensions, threads, model.space, how)


def _carried_out(
    parts: list[parquet.Part], job: Job, workers: int | None, threads: int
) -> Iterator[tuple[parquet.Part, Outcome]]:
    """Each part with what became of it, as they are done. Raises the first error that is no part's own."""
    if not parts:
        return
    with _quiet():
        count = min(_workers(workers, threads), len(parts))
        items = [{"part": msgspec.json.encode((number, part))} for number, part in enumerate(parts)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Maker,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=threads,
            fn_constructor_args=(job,),
        )
        try:
            for row in dataset.iter_rows():
                outcome = msgspec.json.decode(row["outcome"], type=Outcome)
                if outcome.kind:
                    raise _typed(outcome.kind, outcome.error)
                yield parts[outcome.number], outcome
        except ray.exceptions.RayError as error:
            raise InferenceError(
                f"Ray could not go on: {str(error).strip().splitlines()[-1][:300]}. What was made is kept; run it "
                "again to go on."
            ) from error


def _typed(kind: str, message: str) -> SanderlingError:
    """A worker's error, as it would have been raised here."""
    found = getattr(errors, kind, SanderlingError)
    return SanderlingError(message) if found is MissingExtraError else found(message)


def _workers(asked: int | None, threads: int) -> int:
    """As many as asked for, or as the cluster has cores for. Raises InputError for more."""
    there = int(ray.cluster_resources().get("CPU", 0))
    room = there // threads
    if room < 1 or (asked is not None and whole_number("workers", asked, _MAX_WORKERS) > room):
        raise InputError(
            f"{asked or 1} workers of {threads} threads were asked for; the cluster has {there} cores. Ask for fewer."
        )
    return room if asked is None else asked


@contextmanager
def _quiet() -> Iterator[None]:
    """With Ray running, and without its own bars and notes; a cluster that was started here is ended here."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    started = not ray.is_initialized()
    if started and "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    elif started:
        ray.init(num_cpus=cores.granted(), include_dashboard=False, log_to_driver=False, logging_level="error")
    context = ray.data.DataContext.get_current()
    bars = context.enable_progress_bars
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)
        if started:
            ray.shutdown()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One run at a time writes a folder; what a killed one left half written is swept."""
    lock = storage.FileLock(folder / _LOCK)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        taken = lock.acquire()
    if not taken:
        raise StorageError(f"Another run is writing to {folder}; wait until it is done, or choose another folder.")
    try:
        with _writing(folder):
            parquet.sweep(folder)
        yield
    finally:
        lock.release()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"Could not write to {folder}: {error.strerror or error}. Choose another folder.") from error
