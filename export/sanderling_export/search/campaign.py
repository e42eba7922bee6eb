"""One search from its state file to the variants that a bundle gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling import cores
from sanderling.processor import processor
from sanderling.schema.variants import Component
from sanderling_export import assembly
from sanderling_export.labelled import Labelled
from sanderling_export.original import Original
from sanderling_export.plan import Plan
from sanderling_export.progress import Progress
from sanderling_export.samples import Samples
from sanderling_export.search import state as states
from sanderling_export.search.evaluator import Bench
from sanderling_export.search.records import HEADROOM, Aim, Candidate, Outcome
from sanderling_export.search.strategy import MARGIN, REFERENCE, SMALLER, search


@dataclass(frozen=True, slots=True)
class Search:
    """What was found: the variants by name, fp32 the first; which is the fastest; and notes for the manifest."""

    variants: dict[str, Candidate]
    fastest: str
    notes: tuple[str, ...]


def conduct(
    plan: Plan,
    aim: Aim,
    source: Original,
    fp32: onnx.ModelProto,
    component: Component,
    samples: Samples,
    expected: NDArray[np.float32],
    labelled: tuple[Labelled, NDArray[np.float32]] | None,
    folder: Path,
    tell: Progress,
) -> Search:
    """Search, or go on with a search that was interrupted; `folder` is for scratch files.

    `expected` are the original's answers (check samples, d); `labelled` the cases of a floor of the task's metric, and
    the original's answers to their inputs. Raises DriftError where no quantized variant holds the floor; StorageError
    where the state cannot be written.
    """
    if aim.target.max_metric_loss is None:
        labelled = None
    bench = Bench(folder, plan, source, fp32, component, samples, expected, labelled, aim.seed)
    path = states.beside(plan.output)
    key = _key(plan, aim, source, fp32, samples, labelled[0] if labelled is not None else None)
    recorder, word = states.opened(path, key, aim.target, aim.seed, bench)
    tell(f"search: {word}" if word else "search")
    try:
        outcome = search(recorder, aim.target, tell)
    finally:
        bench.close()
    recorder.finish(outcome)
    names = names_of(outcome)
    fastest = next(name for name, candidate in names.items() if candidate == outcome.fastest)
    return Search(names, fastest, _notes(aim, outcome, names, recorder.state))


def names_of(outcome: Outcome) -> dict[str, Candidate]:
    """The variants of a bundle: fp32, the fastest, the smallest; each by its precision where that tells them apart."""
    names = {"fp32": REFERENCE}
    for candidate, purpose in ((outcome.fastest, "fastest"), (outcome.smallest, "smallest")):
        if candidate not in names.values():
            taken = candidate.precision in names
            names[f"{candidate.precision}-{purpose}" if taken else candidate.precision] = candidate
    return names


def _notes(aim: Aim, outcome: Outcome, names: dict[str, Candidate], state: states.State) -> tuple[str, ...]:
    floor = ", ".join(
        f"{name} {value:g}" for name, value in msgspec.to_builtins(aim.target).items() if value is not None
    )
    notes = [f"found by search: {len(state.found)} candidates, floor {floor} on two sets, seed {aim.seed}"]
    for name, candidate in names.items():
        roles = [
            role for role, one in (("fastest", outcome.fastest), ("smallest", outcome.smallest)) if one == candidate
        ]
        if roles:
            settings = msgspec.json.encode(candidate.settings).decode()
            notes.append(f"{name}: the {' and the '.join(roles)}: {candidate.precision} with {settings}")
    return tuple(notes)


def _key(
    plan: Plan, aim: Aim, source: Original, fp32: onnx.ModelProto, samples: Samples, labelled: Labelled | None
) -> str:
    known = source.description
    return states.key_of(
        {
            "checkpoint": plan.checkpoint.sha256,
            # Kept layers are named by nodes, so that a graph of other names is another search.
            "graph": hashlib.sha256(fp32.SerializeToString(deterministic=True)).hexdigest(),
            "head": known.head,
            "text": known.text,
            "tokenizer": hashlib.sha256(known.tokenizer or b"").hexdigest(),
            "image": known.image,
            "samples": [_digest(part) for part in (samples.calibration, samples.check)],
            "labelled": _digest([*labelled.inputs, labelled.truth]) if labelled is not None else None,
            "target": aim.target,
            "seed": aim.seed,
            "constants": [HEADROOM, MARGIN, SMALLER],
            "versions": assembly.versions(),
            # Speed, and the answers of 8-bit kernels, are those of one processor.
            "machine": f"{processor().identity}; {cores.granted()} cores",
        }
    )


def _digest(items: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for item in items:
        # An image is its pixels; a text, or a pair of them, is what it says.
        data = item.tobytes() if hasattr(item, "tobytes") else repr(item).encode("utf-8", "backslashreplace")
        digest.update(f"{len(data)} {getattr(item, 'size', '')}\n".encode())
        digest.update(data)
    return digest.hexdigest()
