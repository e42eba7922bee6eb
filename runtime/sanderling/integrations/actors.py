"""What runs in each worker of a bulk embedding, on whichever machine: a model, and the parts it is given."""

from __future__ import annotations

import os
import platform
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct

import sanderling
from sanderling.errors import BundleError, InputError, SanderlingError
from sanderling.integrations import parquet
from sanderling.integrations.models import texts_model
from sanderling.tasks.feature_extraction import EmbeddingModel


class Job(Struct, frozen=True):
    """All that a worker has to know."""

    bundle: str
    digest: str
    variant: str
    dimensions: int | None
    threads: int
    space: str
    how: parquet.How


class Outcome(Struct, frozen=True):
    """What became of one part. `kind` names the error that ends the run; `error` alone is the part's own."""

    number: int
    worker: str
    made: parquet.Made | None = None
    stood: bool = False
    error: str = ""
    kind: str = ""


class Worker:
    """An actor: the model is loaded when it is first needed, so that what is wrong with it is told like all else."""

    def __init__(self, job: Job) -> None:
        self.job = job
        # The tokenizer's threads; they are made when it first encodes.
        os.environ["RAYON_NUM_THREADS"] = str(job.threads)

    @cached_property
    def model(self) -> EmbeddingModel:
        job = self.job
        model = texts_model(
            sanderling.load(job.bundle, variant=job.variant, threads=job.threads, dimensions=job.dimensions)
        )
        if model.bundle.digest != job.digest:
            raise BundleError(
                f"{job.bundle} is another bundle on a worker ({model.bundle.digest[:16]}) than where the run was "
                f"started ({job.digest[:16]}); copy it to every machine."
            )
        return model


class Embedder(Worker):
    """Tables to tables with vectors."""

    def __call__(self, table: Any) -> Any:
        return parquet.embedded(table, self.model, self.job.how)


class Maker(Worker):
    """Parts to files; each row of a batch is a part, and answered by its outcome."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"outcome": [msgspec.json.encode(self._make(bytes(part))) for part in batch["part"]]}

    def _make(self, encoded: bytes) -> Outcome:
        number, part = msgspec.json.decode(encoded, type=tuple[int, parquet.Part])
        worker = f"{platform.node()}:{os.getpid()}"
        try:
            with parquet.taken(part):
                made, stood = parquet.carry_out(part, self.model, self.job.how)
        except SanderlingError as error:
            # What is wrong with the rows is a matter of their part; what is wrong with the machine, of all.
            own = isinstance(error, InputError)
            return Outcome(number, worker, error=str(error), kind="" if own else type(error).__name__)
        return Outcome(number, worker, made, stood)
