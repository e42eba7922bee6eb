"""`python -m sanderling_bench.peers`: make the peers' environments, hold the contest, write the tables."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sanderling import cores
from sanderling.errors import BenchError, SanderlingError
from sanderling.storage import write_atomic
from sanderling_bench.machine import this_machine
from sanderling_bench.peers import catalogue as catalogues
from sanderling_bench.peers import record
from sanderling_bench.peers.bounds import bounds
from sanderling_bench.peers.catalogue import Catalogue, Contestant
from sanderling_bench.peers.environments import OURS, Environments, Say, UnavailableError
from sanderling_bench.peers.inputs import Modality, PeerInputs, write_images, write_texts
from sanderling_bench.peers.match import Arena, Entry, Plan, Settled, compete
from sanderling_bench.peers.report import bounds_table, markdown
from sanderling_bench.record import versions

ROOT = Path(__file__).resolve().parents[3]
_DEFAULT = Plan()
REFERENCES: dict[Modality, str] = {
    "text": "sentence-transformers, torch fp32",
    "image": "torch, its original preprocessing",
}


def main(
    folder: Annotated[Path, typer.Option(help="Where environments, models and settings are kept.")] = ROOT / ".peers",
    bundles: Annotated[Path, typer.Option(help="The folder of the built bundles.")] = ROOT / "models" / "bundles",
    data: Annotated[Path | None, typer.Option(help="The folder of the sentences. Default: SANDERLING_DATA.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Contestants whose names hold this word; again for more.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of all inputs.")] = _DEFAULT.rounds,
    calls: Annotated[int, typer.Option(help="Single calls of each, in alternating blocks.")] = _DEFAULT.calls,
    texts: Annotated[int, typer.Option(help="Texts of a round.")] = 1000,
    images: Annotated[int, typer.Option(help="Images of a round; 0 leaves them out.")] = 128,
    install: Annotated[
        bool, typer.Option("--install", help="Make environments and models, and measure nothing.")
    ] = False,
    search: Annotated[bool, typer.Option("--search", help="As --install, and find settings.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The document to write. Default: none.")] = None,
) -> None:
    """Measure the peers and Sanderling against each other on this machine."""
    found = hold(
        folder.resolve(),
        bundles.resolve(),
        data or Path(os.environ.get("SANDERLING_DATA") or ROOT.parent / "shared" / "data"),
        Plan(rounds=rounds, calls=calls),
        say=_say,
        only=tuple(only or ()),
        texts=texts,
        images=images,
        install_only=install,
        settings_only=search,
    )
    if found is None:
        return
    document = markdown(found)
    if output is not None:
        write_atomic(output, document.encode())
        _say(f"written: {output}")
    sys.stdout.write(document)


def hold(
    folder: Path,
    bundles: Path,
    data: Path,
    plan: Plan,
    *,
    say: Say,
    only: tuple[str, ...] = (),
    texts: int = 1000,
    images: int = 128,
    install_only: bool = False,
    settings_only: bool = False,
) -> record.Contest | None:
    """Hold the contest, and keep its record in `folder`/record.json. None if it was only to be made ready.

    A peer that cannot be installed or fails takes no part, and its result says why. Raises BenchError: no data.
    """
    begin = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = catalogues.read()
    environments = Environments(folder, catalogue, say)
    results: dict[str, record.Result] = {}
    entries = _ready(catalogue, environments, bundles, only, results)
    if install_only:
        for result in results.values():
            say(f"{result.name}: {result.unavailable}")
        return None
    settled = Settled(folder / "settings.json")
    written: list[PeerInputs] = [write_texts(data, texts, folder)]
    written += [write_images(images, folder)] if images else []
    for inputs in written:
        field = [entry for entry in entries if entry.contestant.modality == inputs.modality]
        logs = folder / "logs" / inputs.modality
        logs.mkdir(parents=True, exist_ok=True)
        arena = Arena(inputs, logs, cores.granted(), say)
        for result in compete(arena, field, settled, plan, REFERENCES[inputs.modality], settings_only=settings_only):
            results[_key(result)] = result
    if settings_only:
        for result in results.values():
            say(f"{result.name}: {result.unavailable}")
        return None
    order = [c for c in catalogue.contestants if _key(c) in results]
    contest = record.Contest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        versions=versions(),
        inputs={inputs.modality: (inputs.count, inputs.source, inputs.digest) for inputs in written},
        results=tuple(_with_versions(results[_key(c)], c, catalogue, environments) for c in order),
        minutes=(time.perf_counter() - begin) / 60,
    )
    record.write(contest, folder / "record.json")
    say(bounds_table(bounds(contest)))
    return contest


def _ready(
    catalogue: Catalogue,
    environments: Environments,
    bundles: Path,
    only: tuple[str, ...],
    results: dict[str, record.Result],
) -> list[Entry]:
    entries = []
    for contestant in catalogue.contestants:
        if only and not contestant.ours and not any(word in contestant.name for word in only):
            continue
        try:
            if contestant.ours:
                bundle = bundles / str(contestant.load["bundle"])
                if not (bundle / "bundle.json").is_file():
                    raise BenchError(f"{bundle} is not there; build it with: make models")
            environments.ready(contestant)
        except UnavailableError as error:
            unavailable = record.Result(contestant.name, contestant.modality, unavailable=str(error))
            results[_key(contestant)] = unavailable
            continue
        models = bundles if contestant.ours else environments.models
        entries.append(Entry(contestant, environments.python(contestant.environment), models))
    return entries


def _with_versions(
    result: record.Result, contestant: Contestant, catalogue: Catalogue, environments: Environments
) -> record.Result:
    if contestant.environment == OURS or result.unavailable:
        return result
    named = {
        require.partition("==")[0].partition("[")[0]
        for require in catalogue.environments[contestant.environment].requires
    }
    there = environments.versions(contestant.environment)
    chosen = {name: version for name, version in sorted(there.items()) if name.replace("_", "-").lower() in named}
    return msgspec.structs.replace(result, versions=chosen)


def _key(of: Contestant | record.Result) -> str:
    return f"{of.modality} {of.name}"


def _say(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


if __name__ == "__main__":
    try:
        typer.run(main)
    except SanderlingError as error:
        sys.exit(f"Error: {error}")
