"""What a call of generation asks for, on top of what the bundle says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import msgspec

from sanderling.errors import InputError
from sanderling.schema.generation import GenerationSettings

# Settings that say how tokens are drawn, and how beams are searched.
_OF_DRAWING = ("temperature", "top_k", "top_p")
_OF_BEAMS = ("length_penalty", "early_stopping")
_MOST_STOPS = 100
_LONGEST_STOP = 1000


class GenerationOptions(TypedDict, total=False):
    """The fields of `GenerationSettings` that a call may give; those it does not give are the bundle's."""

    max_new_tokens: int
    min_new_tokens: int
    num_beams: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    no_repeat_ngram_size: int


def settled(known: GenerationSettings, options: Mapping[str, Any]) -> GenerationSettings:
    """The bundle's settings with a call's options. Raises InputError: an unknown name, a value out of its range,
    beams that are drawn, or a setting that would do nothing."""
    names = GenerationSettings.__struct_fields__
    for name in options:
        if name not in names:
            raise InputError(f"{name} is no setting of generation; it has {', '.join(names)}.")
    try:
        found = msgspec.convert({**msgspec.to_builtins(known), **options}, GenerationSettings)
    except msgspec.ValidationError as error:
        raise InputError(f"A setting of generation is not usable: {error}.") from error
    if found.do_sample and found.num_beams > 1:
        raise InputError(
            f"do_sample goes with num_beams=1; num_beams is {found.num_beams}. Search with beams, or draw, not both."
        )
    for names, given, how in (
        (_OF_DRAWING, found.do_sample, "do_sample=True"),
        (_OF_BEAMS, found.num_beams > 1, "num_beams above 1"),
    ):
        idle = next((name for name in names if name in options), None)
        if idle is not None and not given:
            raise InputError(f"{idle} does nothing by itself; it goes with {how}.")
    return found


def stop_strings(given: str | Sequence[str]) -> tuple[str, ...]:
    """Stop strings as a tuple. Raises InputError: an empty one, too many, too long, no text."""
    found = (given,) if isinstance(given, str) else tuple(given)
    if len(found) > _MOST_STOPS:
        raise InputError(f"stop has {len(found)} strings; at most {_MOST_STOPS} are looked for.")
    for text in found:
        if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST_STOP:
            raise InputError(f"stop holds {text!r:.80}; strings of 1 to {_LONGEST_STOP:,} characters were expected.")
    return found
