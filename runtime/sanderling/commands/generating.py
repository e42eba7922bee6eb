"""What `sanderling run` does with a model that generates: text as it comes, or one JSON object an input."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sanderling.commands import losses
from sanderling.commands.console import clean, plain, print_json, stderr, stdout, visible
from sanderling.counts import counted
from sanderling.errors import InputError, SanderlingError
from sanderling.generation.results import Generation
from sanderling.schema.generation import GenerationOutput

if TYPE_CHECKING:
    from sanderling.commands.items import Item
    from sanderling.model import Model

# Characters that lay text out, and order a terminal nothing else.
_LAYOUT = "\n\t"


@dataclass(frozen=True, slots=True)
class GenerationAsk:
    """What the options ask of generation; None leaves it to the bundle."""

    max_new_tokens: int | None = None
    num_beams: int | None = None
    sample: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def check(self, model: Model, others: dict[str, object]) -> None:
        """Raise InputError for options of generation that `model` has no use for, or `others` that it has none for."""
        if not isinstance(model.bundle.manifest.postprocessing, GenerationOutput):
            given = [name for name, value in self._stated().items() if value not in (None, ())]
            if given:
                raise InputError(
                    f"--{given[0].replace('_', '-')} goes with models that generate; {model.name} does not."
                )
            return
        named = [name for name, value in others.items() if value not in (None, False, "truncate", "float32")]
        if named:
            raise InputError(f"--{named[0].replace('_', '-')} is of no use to {model.name}, which is for {model.task}.")

    @property
    def options(self) -> dict[str, Any]:
        """The settings to give to a call."""
        named = {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
            "do_sample": self.sample,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        asked = {name: value for name, value in named.items() if value is not None}
        return asked | {"stop": self.stop, "seed": self.seed or 0}

    def _stated(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def answer(model: Any, items: Iterable[Item], asked: GenerationAsk, *, as_json: bool) -> int:
    """Generate for each input in turn, and show it; how many failed."""
    failed = 0
    settings = asked.options
    beams = settings.get("num_beams", model.settings.num_beams) > 1
    if not as_json:
        threads = counted(model.threads, "thread")
        stdout().print(f"[bold]{plain(model.name)}[/] {model.variant} on {model.provider}, {threads}")
    for item in items:
        try:
            if item.error is not None:
                raise InputError(item.error)
            if as_json:
                print_json(_named(item) | _record(model.generate(item.value, **settings)))
            else:
                _show(model, item, settings, beams)
        except SanderlingError as error:
            failed += 1
            if as_json:
                print_json(_named(item) | {"error": clean(str(error))})
            else:
                stdout().print(f"{plain(item.name[:72])}\n  [red]{plain(str(error))}[/]", soft_wrap=True)
    return failed


def _named(item: Item) -> dict[str, Any]:
    return {"input": item.name} | ({} if item.question is None else {"question": item.question})


def _record(found: Generation) -> dict[str, Any]:
    record = {
        "text": found.text,
        "tokens": found.tokens,
        "finish_reason": found.finish_reason,
        "prompt_tokens": found.prompt_tokens,
        "first_token": round(found.timing.first_token, 6),
        "tokens_per_second": round(found.tokens_per_second, 3),
    }
    if found.score is not None:
        record["score"] = found.score
    if lost := losses.lost(found.report):
        record["lost"] = lost
    return record


def _show(model: Any, item: Item, settings: dict[str, Any], beams: bool) -> None:
    """The prompt and what follows it, as it comes; a picture's name above its caption, and the question above both."""
    picture = model.task != "text-generation"
    question = "" if item.question is None else f" {_harmless(item.question)}"
    sys.stdout.write(_harmless(item.name) + question + ("\n  " if picture else ""))
    sys.stdout.flush()
    if beams:
        found = model.generate(item.value, **settings)
        sys.stdout.write(_harmless(found.text))
    else:
        stream = model.stream(item.value, **settings)
        for piece in stream:
            sys.stdout.write(_harmless(piece))
            sys.stdout.flush()
        found = stream.result
    sys.stdout.write("\n")
    sys.stdout.flush()
    reasons = {
        "stop_token": "ended by itself",
        "stop_string": "ended before a stop string",
        "length": "cut off at the most tokens asked for (--max-new-tokens)",
        "context": "cut off where the model's context is full",
    }
    stderr().print(
        f"[dim]{counted(len(found.tokens), 'token')}, {reasons[found.finish_reason]}; first after "
        f"{found.timing.first_token:.2f} s, then {found.tokens_per_second:.1f} a second[/]"
    )
    if lost := losses.lost(found.report):
        stderr().print("[yellow]" + ", ".join(losses.in_words(name, value) for name, value in lost.items()) + "[/]")


def _harmless(text: str) -> str:
    """The text with its lines, and without what would order a terminal something."""
    return "".join(character if character in _LAYOUT else visible(character) for character in clean(text))
