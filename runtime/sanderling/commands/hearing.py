"""What `sanderling run` does with a model that hears: text, subtitles, or one JSON object a sound."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sanderling.commands.console import clean, plain, print_json, stderr, stdout, visible
from sanderling.commands.generating import GenerationAsk
from sanderling.counts import counted
from sanderling.errors import InputError, SanderlingError
from sanderling.hearing.transcripts import Transcript
from sanderling.schema.generation import GenerationOutput

if TYPE_CHECKING:
    from sanderling.commands.items import Item
    from sanderling.model import Model

TASK = "automatic-speech-recognition"
_SUBTITLES = ("srt", "vtt")


@dataclass(frozen=True, slots=True)
class HearingAsk:
    """What the options ask of a transcript."""

    language: str | None = None
    translate: bool = False
    timestamps: bool = False
    subtitles: str | None = None

    def check(self, model: Model, asked: GenerationAsk, *, as_json: bool) -> None:
        """Raise InputError for options that `model` has no use for, or that do not go together."""
        given = next((name for name in self.__slots__ if getattr(self, name)), None)
        if model.task != TASK:
            if given is not None:
                raise InputError(f"--{given} goes with models that hear; {model.name} is for {model.task}.")
            return
        if not _chooses(model):
            named = next((name for name in ("language", "translate") if getattr(self, name)), None)
            if named is not None:
                raise InputError(f"--{named} is of no use to {model.name}, which writes the one language it learned.")
        for name in ("sample", "temperature", "top_p", "stop"):
            if getattr(asked, name):
                raise InputError(f"--{name.replace('_', '-')} is of no use to {model.name}: transcripts are not drawn.")
        if self.subtitles is not None and self.subtitles not in _SUBTITLES:
            raise InputError(f"--subtitles is {self.subtitles!r}; {' or '.join(_SUBTITLES)} was expected.")
        if self.subtitles is not None and as_json:
            raise InputError("--subtitles and --json are two ways to show a transcript; leave one out.")

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a call."""
        return {
            "language": self.language,
            "task": "translate" if self.translate else "transcribe",
            "timestamps": self.timestamps or self.subtitles is not None,
        }


def answer(model: Any, items: Iterable[Item], ask: HearingAsk, asked: GenerationAsk, *, as_json: bool) -> int:
    """Write down each sound in turn, and show it; how many failed."""
    failed = 0
    # Of a model of one language, segments have times unasked.
    settings = ask.options if _chooses(model) else {}
    for name, value in (("max_new_tokens", asked.max_new_tokens), ("num_beams", asked.num_beams), ("seed", asked.seed)):
        if value is not None:
            settings[name] = value
    if not as_json and ask.subtitles is None:
        threads = counted(model.threads, "thread")
        stdout().print(f"[bold]{plain(model.name)}[/] {model.variant} on {model.provider}, {threads}")
    for item in items:
        try:
            if item.error is not None:
                raise InputError(item.error)
            found = model.transcribe(item.value, **settings)
            if as_json:
                print_json(_record(item.name, found))
            else:
                _show(item.name, found, ask)
        except SanderlingError as error:
            failed += 1
            if as_json:
                print_json({"input": item.name, "error": clean(str(error))})
            elif ask.subtitles is not None:
                stderr().print(f"[red]{plain(item.name)}: {plain(str(error))}[/]", soft_wrap=True)
            else:
                stdout().print(f"{plain(item.name[:72])}\n  [red]{plain(str(error))}[/]", soft_wrap=True)
    return failed


def _chooses(model: Model) -> bool:
    """Whether a model has languages and tasks to choose among, as Whisper has."""
    head = model.bundle.manifest.postprocessing
    return isinstance(head, GenerationOutput) and head.speech is not None


def _record(name: str, found: Transcript) -> dict[str, Any]:
    segments = [{"start": one.start, "end": one.end, "text": one.text} for one in found.segments]
    record: dict[str, Any] = {"input": name, "text": found.text, "language": found.language, "segments": segments}
    if found.language_probability is not None:
        record["language_probability"] = round(found.language_probability, 6)
    record |= {"seconds": round(found.report.seconds, 3), "real_time_factor": round(found.real_time_factor, 4)}
    lost = _lost(found)
    return record | {"lost": lost} if lost else record


def _lost(found: Transcript) -> dict[str, Any]:
    """What was not heard of a sound, or heard changed; empty if nothing."""
    report = found.report
    told = {
        "missing": report.missing,
        "mixed": report.channels if report.mixed else 0,
        "resampled": report.rate if report.resampled else 0,
        "clipped": report.clipped,
        "unheard": report.unheard,
        "silent": found.silent,
        "unfinished": found.unfinished,
    }
    return {name: value for name, value in told.items() if value}


def _show(name: str, found: Transcript, ask: HearingAsk) -> None:
    if ask.subtitles is not None:
        sys.stdout.write(_harmless(found.srt() if ask.subtitles == "srt" else found.webvtt()) + "\n")
    elif ask.timestamps:
        sys.stdout.write(_harmless(name) + "\n")
        for one in found.segments:
            sys.stdout.write(f"  {one.start:8.2f} to {one.end:8.2f}  {_harmless(one.text)}\n")
    else:
        sys.stdout.write(f"{_harmless(name)}\n  {_harmless(found.text)}\n")
    sys.stdout.flush()
    told = [f"{found.report.seconds:.1f} s of sound in {found.timing.total:.1f} s"]
    if found.language is not None:
        sure = "" if found.language_probability is None else f" ({found.language_probability:.0%})"
        told.append(f"language {found.language}{sure}")
    told += [in_words(key, value) for key, value in _lost(found).items()]
    stderr().print(f"[dim]{', '.join(told)}[/]")


_WORDS = {
    "missing": "frames missing at its end",
    "mixed": "channels mixed down",
    "resampled": "Hz resampled",
    "clipped": "samples clipped",
    "unheard": "seconds at its end not heard, more than the model takes",
}


def in_words(name: str, value: Any) -> str:
    """What was not heard of a sound, or heard changed, for people."""
    return f"{value:,} {_WORDS[name]}" if name in _WORDS else f"{counted(len(value), 'stretch')} {name}"


def _harmless(text: str) -> str:
    """The text with its lines, and without what would order a terminal something."""
    return "".join(character if character == "\n" else visible(character) for character in clean(text))
