"""What `sanderling run` does with a voice: each input to a WAV file, and what of it is not heard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanderling.commands.console import clean, plain, print_json, stdout
from sanderling.counts import counted
from sanderling.errors import InputError, SanderlingError
from sanderling.voices.rules import TASK

if TYPE_CHECKING:
    from sanderling.commands.items import Item
    from sanderling.model import Model
    from sanderling.voices.speech import Speech

_SUFFIX = ".wav"


@dataclass(frozen=True, slots=True)
class SpeechAsk:
    """What the options ask of a voice; None leaves it to the bundle."""

    output: Path | None = None
    speed: float | None = None
    noise: float | None = None
    duration_noise: float | None = None
    pause: float | None = None
    speaker: str | None = None

    def check(self, model: Model, others: dict[str, object]) -> None:
        """Raise InputError for options of speech that `model` has no use for, or `others` that it has none for."""
        if model.task != TASK:
            given = [name for name in self.__slots__ if getattr(self, name) is not None]
            if given:
                raise InputError(f"--{given[0].replace('_', '-')} goes with voices; {model.name} is none.")
            return
        named = [name for name, value in others.items() if value not in (None, False, "truncate", "float32", ())]
        if named:
            raise InputError(f"--{named[0].replace('_', '-')} is of no use to {model.name}, which is a voice.")
        if self.output is None:
            raise InputError(f"Say where the speech goes: -o FILE{_SUFFIX}, or -o FOLDER for several inputs.")

    @property
    def options(self) -> dict[str, Any]:
        """The settings to give to a call."""
        names = ("speed", "noise", "duration_noise", "pause", "speaker")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def answer(model: Any, items: Iterable[Item], asked: SpeechAsk, seed: int, *, as_json: bool) -> int:
    """Say each input in turn, write it, and show what became of it; how many failed."""
    assert asked.output is not None  # check() has looked
    failed = 0
    show = print_json if as_json else _show
    if not as_json:
        threads = counted(model.threads, "thread")
        stdout().print(f"[bold]{plain(model.name)}[/] {model.variant} on {model.provider}, {threads}")
    for number, item in enumerate(items, 1):
        try:
            if item.error is not None:
                raise InputError(item.error)
            path = _place(asked.output, number)
            speech = model(item.value, seed=seed, **asked.options)
            speech.save(path)
            record = _record(item.name, path, speech)
        except SanderlingError as error:
            failed += 1
            record = {"input": item.name, "error": clean(str(error))}
        show(record)
    return failed


def _place(output: Path, number: int) -> Path:
    """The file itself, of one input; of several, files by their number in the folder `output`."""
    if output.suffix.lower() != _SUFFIX:
        output.mkdir(parents=True, exist_ok=True)
        return output / f"{number:04}{_SUFFIX}"
    if number > 1:
        raise InputError(f"{output} is one file; for several inputs give a folder: -o {output.with_suffix('')}")
    return output


def _record(name: str, path: Path, speech: Speech) -> dict[str, Any]:
    report = speech.report
    record: dict[str, Any] = {
        "input": name,
        "file": str(path),
        "seconds": round(speech.seconds, 3),
        "sample_rate": speech.sample_rate,
        "sentences": report.sentences,
        "phonemes": ["".join(sentence) for sentence in speech.phonemes],
        "real_time_factor": round(speech.real_time_factor, 4),
    }
    lost: dict[str, Any] = {}
    if report.characters_skipped:
        lost |= {"characters_skipped": report.characters_skipped, "skipped": dict(report.skipped)}
    if report.unknown:
        lost["unknown"] = dict(report.unknown)
    if report.unfinished:
        lost["unfinished"] = report.unfinished
    return record | ({"lost": lost} if lost else {})


def _show(record: dict[str, Any]) -> None:
    name = " ".join(record["input"].split())
    name = plain(name if len(name) <= 72 else name[:71] + "…") or "[dim](empty)[/]"
    out = stdout()
    out.print(name, soft_wrap=True)
    if "error" in record:
        out.print(f"  [red]{plain(record['error'])}[/]", soft_wrap=True)
        return
    pace = f", {record['real_time_factor']:.3f} of real time" if record["seconds"] else ""
    sentences = counted(record["sentences"], "sentence")
    out.print(f"  {plain(record['file'])}: {record['seconds']:.2f} s, {sentences}{pace}", soft_wrap=True)
    lost = record.get("lost", {})
    if "characters_skipped" in lost:
        shown = " ".join(plain(one) for one in lost["skipped"])
        out.print(f"  [yellow]{lost['characters_skipped']:,} characters are not heard: {shown}[/]", soft_wrap=True)
    if "unknown" in lost:
        shown = " ".join(plain(one) for one in lost["unknown"])
        out.print(f"  [yellow]phonemes that the voice never learned: {shown}[/]", soft_wrap=True)
    if "unfinished" in lost:
        count = counted(lost["unfinished"], "sentence")
        out.print(f"  [yellow]{count} cut off at the most that the voice says of one[/]", soft_wrap=True)
