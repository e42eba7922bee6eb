"""Issue 3: memory stays where it is, however many texts of whatever lengths go through."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from checks import Context, Row, at_most, built, registry, true

from sanderling_bench.process import run_child

FIRST, MANY, MORE = 500, 20_000, 10_000
# Of what was resident after the first texts; of what was resident after the many.
MANY_GROWTH, MORE_GROWTH = 0.20, 0.02
PEAK_MEGABYTES = 350


@dataclass(frozen=True, slots=True)
class Grown:
    """Megabytes resident after the first texts, after many, after more, and the most there ever were."""

    first: float
    many: float
    more: float
    peak: float
    variant: str

    @property
    def growth(self) -> tuple[float, float]:
        """By how much many texts raised it, and then more of them."""
        return self.many / self.first - 1, self.more / self.many - 1

    @property
    def held(self) -> bool:
        return self.growth[0] < MANY_GROWTH and self.growth[1] < MORE_GROWTH


@registry.check(3, "memory")
def memory(context: Context, first: int = FIRST, many: int = MANY, more: int = MORE) -> list[Row]:
    bundle = built("all-minilm-l6-v2")
    context.say(f"{many + more:,} texts")
    sound = grown(bundle, "sound", (first, many, many + more))
    context.say("and again with a leak, which has to be found")
    leaking = grown(bundle, "leaking", (first, many, many + more))
    megabytes = f"{sound.first:.0f}, {sound.many:.0f}, {sound.more:.0f} MB"
    control = " and ".join(f"{share:.1%}" for share in leaking.growth)
    return [
        at_most(
            f"MiniLM {sound.variant}: resident memory, growth from {first:,} to {many:,} mixed texts, percent",
            100 * sound.growth[0],
            100 * MANY_GROWTH,
            digits=2,
            spread=megabytes,
        ),
        at_most(
            f"the same: growth with {more:,} texts more, percent",
            100 * sound.growth[1],
            100 * MORE_GROWTH,
            digits=2,
            spread=megabytes,
        ),
        at_most("the same: peak", sound.peak, PEAK_MEGABYTES, digits=0, unit=" MB"),
        true(
            "negative control: a caller that keeps every answer is caught",
            not leaking.held,
            "caught" if not leaking.held else "not caught",
            "caught",
            spread=control,
        ),
    ]


def grown(bundle: Path, mode: str, counts: tuple[int, int, int]) -> Grown:
    """What a fresh process had resident after each count of texts."""
    script = Path(__file__).with_name("resident.py")
    output, _ = run_child([sys.executable, str(script), str(bundle), mode, *map(str, counts)])
    found = json.loads(output)
    first, many, more = (count / 1e6 for count in found["resident"])
    return Grown(first, many, more, found["peak"] / 1e6, found["variant"])
