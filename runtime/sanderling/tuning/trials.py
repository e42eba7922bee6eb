"""Plans that were tried: what each came to, what all have to hold, and why none did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sanderling.counts import counted, megabytes
from sanderling.plan import PADDED, Plan
from sanderling.tuning.candidates import Purpose

if TYPE_CHECKING:
    from sanderling.schema.variants import Tolerance
    from sanderling.verification import Check


class Trial(Struct):
    """What became of one plan: the lowest cosine of the golden samples under its own batching, and its speed.

    `seconds` is the median of the measured rounds: of one call for latency, of one input otherwise; None where the plan
    failed its floor, could not be loaded (`reason` says why), or was not reached in time. `memory` is the most that a
    process with this plan had resident, in bytes, where it was measured. Of models that write, `tokens` are those of a
    second, `agreement` is the share of the original's tokens that the plan would have taken as well, each behind those
    before it, and `equal` the share of golden samples whose whole answer is the original's, token for token.
    """

    plan: Plan
    cosine: float | None = None
    reason: str = ""
    seconds: float | None = None
    rounds: int = 0
    memory: int | None = None
    tokens: float | None = None
    agreement: float | None = None
    equal: float | None = None


class Tuned(Struct, frozen=True):
    """The plan that won, for what, and all trials, the best first."""

    plan: Plan
    purpose: Purpose
    trials: tuple[Trial, ...]
    complete: bool


class Floor(Struct, frozen=True):
    """What every plan has to hold."""

    cosine: float | None
    agreement: float | None

    def objection(self, trial: Trial, checks: Sequence[Check], limits: Tolerance) -> str:
        """Note in the trial how near its answers came; why that is not near enough, empty if it is."""
        trial.cosine = min(check.cosine for check in checks)
        agreed = [check.agreement for check in checks if check.agreement is not None]
        if agreed:
            trial.agreement = sum(agreed) / len(agreed)
            trial.equal = sum(share == 1 for share in agreed) / len(agreed)
        if not all(check.held for check in checks):
            return f"below its floor: cosine {trial.cosine:.6f}, {limits.min_cosine:.6f} was asked for"
        least = self.agreement
        if least is not None and (trial.agreement is None or trial.agreement < least):
            return f"below its floor: {trial.agreement or 0:.1%} of the original's tokens, {least:.1%} asked for"
        return ""

    def failure(self, path: Path, trials: Sequence[Trial], max_memory: int | None) -> str:
        """Why none of the trials of the bundle at `path` gave a plan."""
        reached = [trial.cosine for trial in trials if trial.cosine is not None]
        sound = [trial for trial in trials if trial.cosine is not None and trial.memory is not None and trial.reason]
        if max_memory is not None and sound:
            least = min(trial.memory for trial in sound if trial.memory is not None)
            return (
                f"No plan for {path} stays within {megabytes(max_memory, 0)}; the smallest that was "
                f"tried took {megabytes(least, 0)}. Allow more, or tune for memory to find the smallest."
            )
        if not reached:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in trials if trial.reason))
            return f"No plan could be measured for {path}: {reasons or 'there was no time'}."
        share = self.agreement
        agreed = [trial.agreement for trial in trials if trial.agreement is not None]
        if share is not None and agreed and max(agreed) < share:
            return (
                f"No plan for {path} takes {share:.1%} of the original's tokens; the best took "
                f"{max(agreed):.1%}. Lower the floor, or export a more precise variant."
            )
        floor = "its variant's tolerance" if self.cosine is None else f"a cosine of {self.cosine}"
        return (
            f"No plan for {path} reaches {floor} on every golden sample; the best lowest cosine was "
            f"{max(reached):.6f}. Lower the floor, or export a more precise variant."
        )


def describe(plan: Plan) -> str:
    """A plan in one line."""
    words = [f"{plan.variant} on {plan.provider}"]
    if plan.form != PADDED:
        words.append(f"form {plan.form}")
    words += [counted(plan.threads, "thread"), counted(plan.workers, "worker")]
    words.append(
        "one input a run"
        if plan.batch_invariant
        else f"budget {plan.token_budget} tokens, {plan.image_budget} images or {plan.row_budget} rows"
    )
    if plan.rounding > 1:
        words.append(f"lengths rounded to {plan.rounding}")
    return ", ".join(words)
