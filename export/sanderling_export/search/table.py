"""What a search found, for people: every candidate, what keeping layers bought, and the lines of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from sanderling.commands.console import plain
from sanderling.counts import megabytes
from sanderling_export.labelled import loss
from sanderling_export.recipe import Floor
from sanderling_export.search import state as states
from sanderling_export.search.campaign import names_of
from sanderling_export.search.records import Candidate, Measured, Outcome, Quality, Refined, Target, Unmade
from sanderling_export.search.state import State
from sanderling_export.search.strategy import REFERENCE, SPEED_ROUNDS

if TYPE_CHECKING:
    from rich.table import Table

# Layers that keeping helps most, as many as a screen bears.
_RANKED = 8


def tables(state: State) -> list[Table]:
    """All candidates; and for each that was below the floor, its most sensitive layers. Empty before the end."""
    outcome = state.outcome
    if outcome is None:
        return []
    return [_candidates(state, outcome), *(_ranking(one) for one in outcome.refined if one.ranking)]


def sentences(state: State) -> list[str]:
    """What was chosen, what keeping layers bought, what could not be made, and what stayed in float."""
    outcome = state.outcome
    if outcome is None:
        return []
    said = [f"fastest: {outcome.fastest.label}", f"smallest: {outcome.smallest.label}"]
    said += [_bought(state, one) for one in outcome.refined]
    for key, found in state.found.items():
        if isinstance(found, Unmade):
            said.append(f"{key.partition(' ')[0]} cannot be made: {found.reason}")
    chosen = [state.found[candidate.key] for candidate in names_of(outcome).values()]
    said += dict.fromkeys(n for one in chosen if isinstance(one, Measured) for n in one.notes if "left in fp32" in n)
    return said


def recipe_lines(state: State) -> str:
    """The TOML of a recipe that makes what was found, without another search."""
    if state.outcome is None:
        return ""
    names = names_of(state.outcome)
    fastest = next(name for name, candidate in names.items() if candidate == state.outcome.fastest)
    lines = [f"default_variant = {json.dumps(fastest)}"]
    for name, candidate in names.items():
        lines += ["", f"[variants.{name}]"]
        if candidate == REFERENCE:
            continue
        if name != candidate.precision:
            lines.append(f"precision = {json.dumps(candidate.precision)}")
        lines += [f"{field} = {_toml(value)}" for field, value in _floor(state.target).items()]
        settings = msgspec.to_builtins(candidate.settings)
        if settings:
            lines += ["", f"[variants.{name}.settings]"]
            lines += [f"{field} = {_toml(value)}" for field, value in settings.items()]
    return "\n".join(lines) + "\n"


def as_json(state: State) -> dict[str, Any]:
    """The same for programs: the state, and the recipe's lines."""
    content: dict[str, Any] = msgspec.to_builtins(state)
    return {**content, "recipe": recipe_lines(state)}


def last(output: Path) -> State | None:
    """The state of the search for the bundle at `output`."""
    return states.read(states.beside(output))


def speed(state: State, candidate: Candidate) -> float | None:
    """Times fp32's speed on one thread, the median of the rounds; None where it was not timed."""
    if candidate == REFERENCE:
        return 1.0
    rounds = state.races.get(f"{candidate.key} | {REFERENCE.key}", ())
    return median(rounds[:SPEED_ROUNDS]) if rounds else None


def _candidates(state: State, outcome: Outcome) -> Table:
    from rich.table import Table

    shown = Table(title="Search", title_justify="left")
    shown.add_column("candidate", style="bold", overflow="fold")
    for column in ("size", "minimum", "p01", "agreement", "speed", "holds"):
        shown.add_column(column, justify="right")
    measured = any(isinstance(found, Measured) and found.check.metric is not None for found in state.found.values())
    if measured:
        shown.add_column("metric lost", justify="right")
    labels = {c.key: c for c in _all(state, outcome)}
    for key, found in state.found.items():
        candidate = labels.get(key)
        if candidate is None or not isinstance(found, Measured):
            continue
        factor = speed(state, candidate)
        lowest = _lowest(found.calibration, found.check)
        role = [
            role for role, one in (("fastest", outcome.fastest), ("smallest", outcome.smallest)) if one == candidate
        ]
        shown.add_row(
            plain(candidate.label + (f" ({', '.join(role)})" if role else "")),
            megabytes(found.bytes),
            f"{lowest.min:.4f}",
            f"{lowest.p01:.4f}",
            f"{lowest.agreement:.1%}" if lowest.agreement is not None else "",
            f"{factor:.2f}" if factor is not None else "",
            "yes" if candidate in outcome.holding else "no",
            *([f"{loss(lowest.metric):.2%}"] if lowest.metric is not None else []),
        )
    return shown


def _all(state: State, outcome: Outcome) -> list[Candidate]:
    del outcome
    found = []
    for key in state.found:
        precision, _, settings = key.partition(" ")
        found.append(msgspec.convert({"precision": precision, "settings": json.loads(settings)}, Candidate))
    return found


def _lowest(one: Quality, other: Quality) -> Quality:
    """Of both sets the worse in each respect: what the floor is held against."""
    agreements = [a for a in (one.agreement, other.agreement) if a is not None]
    return Quality(
        one.samples + other.samples,
        min(one.mean, other.mean),
        min(one.min, other.min),
        min(one.p01, other.p01),
        min(agreements) if agreements else None,
        max((metric for metric in (one.metric, other.metric) if metric is not None), key=loss, default=None),
    )


def _ranking(refined: Refined) -> Table:
    from rich.table import Table

    kept = refined.groups_kept if refined.result is not None else 0
    shown = Table(title=f"{plain(refined.base.label)}: drift that goes when a layer is kept", title_justify="left")
    shown.add_column("layer", overflow="fold")
    for column in ("weights", "drift gone", "kept"):
        shown.add_column(column, justify="right")
    for place, one in enumerate(refined.ranking[: max(_RANKED, kept)]):
        nodes = ", ".join(one.group.nodes)
        shown.add_row(plain(nodes), f"{one.group.weights:,}", f"{one.relief:+.5f}", "yes" if place < kept else "")
    return shown


def _bought(state: State, refined: Refined) -> str:
    if refined.result is None:
        return f"{refined.base.label}: no choice of layers to keep holds the floor"
    groups = f"{refined.groups_kept} of {len(refined.ranking)} groups of layers"
    kept = f"{refined.base.label}: {groups} kept in {refined.result.settings.keep_as}"
    before, after = state.found[refined.base.key], state.found[refined.result.key]
    assert isinstance(before, Measured)
    assert isinstance(after, Measured)
    low, high = (_lowest(one.calibration, one.check) for one in (before, after))
    moved = [f"minimum cosine {low.min:.4f} to {high.min:.4f}"]
    if low.metric is not None and high.metric is not None:
        moved.append(f"metric lost {loss(low.metric):.2%} to {loss(high.metric):.2%}")
    if low.agreement is not None and high.agreement is not None:
        moved.append(f"agreement {low.agreement:.1%} to {high.agreement:.1%}")
    moved.append(f"{megabytes(before.bytes)} to {megabytes(after.bytes)}")
    slow, fast = speed(state, refined.base), speed(state, refined.result)
    if slow is not None and fast is not None:
        moved.append(f"speed {slow:.2f} to {fast:.2f}")
    return f"{kept}: {', '.join(moved)}"


def _floor(target: Target) -> dict[str, float | None]:
    """What a recipe has to say for this floor: what it would take for granted is left out."""
    said: dict[str, float] = msgspec.to_builtins(target.floor)
    granted = msgspec.to_builtins(Floor())
    return {name: value for name, value in said.items() if value != granted[name]}


def _toml(value: object) -> str:
    """Numbers, texts and lists of texts are written alike in JSON and in TOML."""
    return json.dumps(value)
