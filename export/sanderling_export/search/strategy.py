"""What is tried in which order, and how it is decided: the same answers of an evaluator give the same outcome.

Quality and size decide without a clock. Speed is decided by duels: two candidates answer the same inputs in turn, and a
challenger must be faster by MARGIN in so many rounds as chance would not give. What is nearer than that is a tie, and
goes to the candidate of less drift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from sanderling.errors import DriftError, ExportError
from sanderling_export.progress import Progress
from sanderling_export.recipe import Precision
from sanderling_export.search.records import (
    Candidate,
    Found,
    Group,
    Kept,
    Measured,
    Outcome,
    Refined,
    Target,
    Unmade,
)
from sanderling_export.settings import KeepAs, Settings

MARGIN = 0.05
# A candidate below the floor is taken apart for its size if it is smaller by this at least: layers kept cost some.
SMALLER = 0.02
# After so many rounds, so many must have gone to the challenger: by chance that happens in less than 1 of 20 cases.
DUEL_WINS = {5: 5, 8: 7, 11: 9, 15: 12}
DUEL_ROUNDS = max(DUEL_WINS)
SPEED_ROUNDS = 5

REFERENCE = Candidate("fp32")
TRANSFORMER = (
    Candidate("int8-static"),
    Candidate("int8-static", Settings(calibration="percentile")),
    Candidate("int8-static", Settings(split=0.0)),
    Candidate("int8-dynamic"),
    Candidate("int8-weight-only"),
    Candidate("int8-weight-only", Settings(block=128)),
    Candidate("int4-weight-only"),
    Candidate("int4-weight-only", Settings(block=16)),
    Candidate("int4-weight-only", Settings(block=128)),
    Candidate("fp16"),
)
CONVOLUTIONAL = (
    Candidate("int8-static", Settings(keep=())),
    Candidate("int8-static", Settings(keep=(), calibration="percentile")),
    Candidate("int8-static", Settings(keep=(), calibration="entropy")),
    Candidate("int8-static"),
    Candidate("fp16"),
)
# In what layers are kept. The first is what their count is found with, the others are then tried on the same layers.
_KEPT_AS: dict[Precision, tuple[KeepAs, ...]] = {
    "int8-static": ("fp32", "int8-weight-only"),
    "int8-dynamic": ("fp32", "int8-weight-only"),
    "int8-weight-only": ("fp32",),
    "int4-weight-only": ("int8-weight-only",),
}


class Evaluator(Protocol):
    """Makes candidates and measures them."""

    @property
    def convolutional(self) -> bool:
        """Whether convolutions outnumber products with constant weights."""
        ...

    def groups(self, precision: Precision) -> Sequence[Group]:
        """What can be kept in higher precision, in the graph's order."""
        ...

    def measure(self, candidate: Candidate) -> Found:
        """Make the candidate and compare it with the original on both sets."""
        ...

    def rough(self, candidate: Candidate) -> float:
        """The mean drift (1 - cosine) of the candidate, made and measured on few calibration samples."""
        ...

    def race(self, candidate: Candidate, other: Candidate, number: int) -> float:
        """Round `number`: the time of `other` divided by that of `candidate`, above 1 where the candidate is faster."""
        ...


def search(evaluator: Evaluator, target: Target, tell: Progress) -> Outcome:
    """The fastest and the smallest candidate that hold `target` on both sets.

    Raises DriftError where nothing but fp32 does; it says what came nearest.
    """
    bases = CONVOLUTIONAL if evaluator.convolutional else TRANSFORMER
    found: dict[Candidate, Found] = {}

    def measured(candidate: Candidate) -> Found:
        if candidate not in found:
            tell(f"search: measure {candidate.label}")
            found[candidate] = evaluator.measure(candidate)
        return found[candidate]

    for base in (REFERENCE, *bases):
        measured(base)
    unmade = found[REFERENCE]
    if isinstance(unmade, Unmade):
        raise ExportError(f"The fp32 graph itself does not run, so that nothing can be searched: {unmade.reason}")
    holding = _preferred([c for c in found if target.holds(found[c])], found)
    champion = _fastest(holding, evaluator, tell) if holding else None
    refined = [
        _refine(base, evaluator, measured, target, tell)
        for base in _to_refine(bases, found, target)
        if _may_win(base, champion, holding, found, evaluator)
    ]
    holding = _preferred([c for c in found if target.holds(found[c])], found)
    if not any(candidate != REFERENCE for candidate in holding):
        raise _unreached(found, target)
    smallest = min(holding, key=lambda c: (_bytes(found[c]), holding.index(c)))
    for number, candidate in enumerate((c for c in _shown(found, holding) if c != REFERENCE), 1):
        tell(f"search: time candidates beside fp32 ({number})")
        for rounds in range(SPEED_ROUNDS):
            evaluator.race(candidate, REFERENCE, rounds)
    fastest = _fastest(holding, evaluator, tell)
    return Outcome(fastest, smallest, tuple(holding), tuple(refined))


def _bytes(found: Found) -> int:
    assert isinstance(found, Measured)
    return found.bytes


def _preferred(candidates: Sequence[Candidate], found: dict[Candidate, Found]) -> list[Candidate]:
    """Least mean drift on both sets first; of equal drift, in the order they were tried."""

    def drift(candidate: Candidate) -> float:
        one = found[candidate]
        assert isinstance(one, Measured)
        return 2.0 - one.calibration.mean - one.check.mean

    return sorted(candidates, key=drift)


def _to_refine(bases: Sequence[Candidate], found: dict[Candidate, Found], target: Target) -> list[Candidate]:
    """Of each precision of which nothing holds the floor, what comes nearest."""
    chosen: dict[Precision, Candidate] = {}
    held = {base.precision for base in bases if target.holds(found[base])}
    for base in bases:
        one = found[base]
        if base.precision in held or base.precision not in _KEPT_AS or not isinstance(one, Measured):
            continue
        best = chosen.get(base.precision)
        if best is None:
            chosen[base.precision] = base
            continue
        other = found[best]
        assert isinstance(other, Measured)
        if target.excess(one) < target.excess(other):
            chosen[base.precision] = base
    return list(chosen.values())


def _may_win(
    base: Candidate,
    champion: Candidate | None,
    holding: Sequence[Candidate],
    found: dict[Candidate, Found],
    evaluator: Evaluator,
) -> bool:
    """Whether a candidate is smaller or faster than all that hold the floor: keeping layers makes it neither."""
    if champion is None or all(candidate == REFERENCE for candidate in holding):
        return True
    smallest = min(_bytes(found[candidate]) for candidate in holding)
    return _bytes(found[base]) < smallest * (1.0 - SMALLER) or _wins(base, champion, evaluator)


def _refine(
    base: Candidate,
    evaluator: Evaluator,
    measured: Callable[[Candidate], Found],
    target: Target,
    tell: Progress,
) -> Refined:
    """Keep as few groups as the floor needs, those first whose keeping alone takes away the most drift."""
    groups = evaluator.groups(base.precision)
    # What the convolutional base keeps of itself is found anew here, by the same measure as all others.
    start = replace(base, settings=replace(base.settings, keep=() if evaluator.convolutional else None))
    ways = _KEPT_AS[base.precision][:1] if evaluator.convolutional else _KEPT_AS[base.precision]
    if len(groups) < 2:
        return Refined(base, (), None)
    tell(f"search: rank layers of {base.label}")
    whole = evaluator.rough(start)
    ranking = []
    for number, group in enumerate(groups, 1):
        tell(f"search: rank layers of {base.label} ({number} of {len(groups)})")
        ranking.append(Kept(group, whole - evaluator.rough(_keeping(start, [group], ways[0]))))
    # Python's sort is stable: equal reliefs stay in the graph's order.
    ranking.sort(key=lambda kept: -kept.relief)

    def holds(count: int) -> bool:
        return target.holds(measured(_keeping(start, [kept.group for kept in ranking[:count]], ways[0])))

    low, high = 0, len(groups) - 1
    if not holds(high):
        return Refined(base, tuple(ranking), None)
    # Few are wanted: the step from below doubles until the floor holds, then the gap is halved.
    step = 1
    while step < high:
        if holds(step):
            high = step
            break
        low, step = step, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    chosen = [kept.group for kept in ranking[:high]]
    for way in ways[1:]:
        measured(_keeping(start, chosen, way))
    return Refined(base, tuple(ranking), _keeping(start, chosen, ways[0]), high)


def _keeping(base: Candidate, groups: Sequence[Group], way: KeepAs) -> Candidate:
    # In one order, so that the same groups are the same candidate.
    nodes = sorted(node for group in groups for node in group.nodes)
    return replace(base, settings=replace(base.settings, keep=tuple(nodes), keep_as=way))


def _shown(found: dict[Candidate, Found], holding: Sequence[Candidate]) -> list[Candidate]:
    """Candidates whose speed is told: what holds, and the bases, so that what keeping bought can be seen."""
    return [c for c, one in found.items() if isinstance(one, Measured) and (c in holding or not c.settings.keep)]


def _fastest(holding: Sequence[Candidate], evaluator: Evaluator, tell: Progress) -> Candidate:
    champion, *others = holding
    for number, challenger in enumerate(others, 1):
        tell(f"search: find the fastest ({number} of {len(others)})")
        if _wins(challenger, champion, evaluator):
            champion = challenger
    return champion


def _wins(challenger: Candidate, champion: Candidate, evaluator: Evaluator) -> bool:
    """Whether the challenger is faster by MARGIN at least."""
    wins = 0
    for number in range(DUEL_ROUNDS):
        wins += evaluator.race(challenger, champion, number) > 1.0 + MARGIN
        rounds = number + 1
        needed = DUEL_WINS.get(rounds)
        if needed is not None and wins >= needed:
            return True
        # Rounds enough are lost that the last count cannot be reached any more.
        if wins + DUEL_ROUNDS - rounds < DUEL_WINS[DUEL_ROUNDS]:
            return False
    return False


def _unreached(found: dict[Candidate, Found], target: Target) -> DriftError:
    nearest = min(
        ((target.excess(one), index, candidate, one)
         for index, (candidate, one) in enumerate(found.items())
         if candidate != REFERENCE and isinstance(one, Measured)),
        default=None,
    )  # fmt: skip
    if nearest is None:
        reasons = "; ".join(f"{c.label}: {one.reason}" for c, one in found.items() if not isinstance(one, Measured))
        return DriftError(f"No quantized variant of this graph can be made: {reasons} Export it with --variants fp32.")
    _, _, candidate, one = nearest
    sets = (("the calibration set", one.calibration), ("the check set", one.check))
    short = [f"on {name} {'; '.join(words)}" for name, quality in sets if (words := target.shortfalls(quality))]
    return DriftError(
        f"No quantized variant holds the floor. The best reached is {candidate.label}: {', '.join(short)} (a quarter "
        "of the drift that a floor allows is left for inputs nobody has seen). Nothing was written. Lower the floor "
        "(--min-cosine, --min-p01, --min-agreement, --max-metric-loss), or export with --variants fp32."
    )
