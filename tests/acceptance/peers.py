"""Issue 3: faster than the peers, each at its own best settings, in one run with them."""

from __future__ import annotations

import os
from pathlib import Path

from checks import BUNDLES, DATA, ROOT, Context, NotCheckableError, Row, built, registry

from sanderling_bench.peers.__main__ import hold
from sanderling_bench.peers.bounds import Bound, bounds
from sanderling_bench.peers.match import Plan

ROUNDS = 5
CALLS = 2000


@registry.check(3, "peers")
def peers(context: Context) -> list[Row]:
    for name in ("all-minilm-l6-v2", "efficientnet-lite0"):
        built(name)
    if not (DATA / "sentiment").is_dir():
        raise NotCheckableError(f"There are no texts in {DATA / 'sentiment'}; SANDERLING_DATA names another folder.")
    folder = Path(os.environ.get("SANDERLING_PEERS") or ROOT / ".peers")
    contest = hold(folder, BUNDLES, DATA, Plan(rounds=ROUNDS, calls=CALLS), say=context.say)
    assert contest is not None
    has = [name for name in ("AMX", "VNNI") if contest.machine.features.get(name)]
    absent = [result.name for result in contest.results if result.unavailable]
    note = f"stated for AMX; this processor has {' and '.join(has) or 'neither AMX nor VNNI'}"
    if absent:
        note += f"; took no part: {', '.join(absent)}"
    return [_row(bound, note) for bound in bounds(contest)]


def _row(bound: Bound, note: str) -> Row:
    if bound.value is None:
        return Row(bound.what, "–", f"not measured: {bound.note}", bound.limit, False)
    interval = "" if bound.low is None else f"95% {bound.low:.2f} to {bound.high:.2f}, "
    peer = f"{bound.note}; " if bound.note else ""
    return Row(bound.what, f"{bound.value:.3f}", f"{interval}{peer}{note}", bound.limit, bool(bound.held))
