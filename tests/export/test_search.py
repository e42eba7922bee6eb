"""The search, on a made-up network whose true drifts, sizes and speeds are known."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling.errors import DriftError, ExportError
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.variants import Metric
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export.recipe import Precision
from sanderling_export.search import aims, table
from sanderling_export.search import state as states
from sanderling_export.search.campaign import names_of
from sanderling_export.search.records import (
    HEADROOM,
    Candidate,
    Found,
    Group,
    Measured,
    Outcome,
    Quality,
    Target,
    Unmade,
)
from sanderling_export.search.strategy import DUEL_ROUNDS, MARGIN, REFERENCE, search
from sanderling_export.settings import Settings

WEIGHTS = 1000
BITS = {"fp32": 32, "fp16": 16, "int8-dynamic": 8, "int8-static": 8, "int8-weight-only": 8, "int4-weight-only": 4}
# Milliseconds a layer takes, and the share of a layer's drift that a precision causes.
TIME = dict(zip(BITS, (1.0, 1.2, 0.6, 0.5, 1.4, 1.3), strict=True))
DRIFT = dict(zip(BITS, (0.0, 1e-4, 0.5, 0.2, 0.01, 1.0), strict=True))


class Network:
    """An evaluator that knows the truth: layers whose drifts add up. Times are noisy, as on a busy machine."""

    def __init__(self, costs: Sequence[float], *, noise: int = 0, unmade: Sequence[Precision] = ()) -> None:
        self.convolutional = False
        self.layers = [Group((f"layer{i}",), WEIGHTS) for i in range(len(costs))]
        self.costs = dict(zip((group.nodes[0] for group in self.layers), costs, strict=True))
        self.unmade = unmade
        self.calls: Counter[object] = Counter()
        self._noise = random.Random(noise)

    def groups(self, precision: Precision) -> Sequence[Group]:
        return self.layers

    def measure(self, candidate: Candidate) -> Found:
        self.calls["measure", candidate] += 1
        if candidate.precision in self.unmade:
            return Unmade("there is no such kernel")
        drift = self.drift(candidate)
        size = sum(BITS[self._precision(candidate, name)] * WEIGHTS // 8 for name in self.costs)
        sets = [Quality(100, 1 - drift * worse / 2, 1 - drift * worse, 1 - drift * worse * 0.8) for worse in (1.0, 1.1)]
        return Measured(sets[0], sets[1], size + candidate.settings.block)

    def rough(self, candidate: Candidate) -> float:
        self.calls["rough", candidate] += 1
        return self.drift(candidate) / 2

    def race(self, candidate: Candidate, other: Candidate, number: int) -> float:
        self.calls["race", candidate, other, number] += 1
        return self.time(other) / self.time(candidate) * self._noise.uniform(0.98, 1.02)

    def drift(self, candidate: Candidate) -> float:
        return sum(cost * DRIFT[self._precision(candidate, name)] for name, cost in self.costs.items())

    def time(self, candidate: Candidate) -> float:
        return sum(TIME[self._precision(candidate, name)] for name in self.costs)

    def _precision(self, candidate: Candidate, layer: str) -> str:
        return candidate.settings.keep_as if layer in (candidate.settings.keep or ()) else candidate.precision


def silent(stage: str) -> None:
    assert stage.startswith("search")


COSTS = st.lists(st.floats(0, 0.2), min_size=2, max_size=12)


@given(COSTS, st.floats(0.9, 0.999), st.integers(0, 100))
def test_what_is_chosen_holds_the_floor_and_is_best_of_what_was_tried(
    costs: list[float], floor: float, noise: int
) -> None:
    network, target = Network(costs, noise=noise), Target(min_cosine=floor)
    found = search(network, target, silent)
    tried = {call[1]: network.measure(call[1]) for call in list(network.calls) if call[0] == "measure"}
    holding = {c for c, one in tried.items() if target.holds(one)}
    assert set(found.holding) == holding
    for chosen in (found.fastest, found.smallest):
        one = tried[chosen]
        assert isinstance(one, Measured)
        assert 1 - min(one.calibration.min, one.check.min) <= (1 - floor) * HEADROOM
    sizes = {c: one.bytes for c, one in tried.items() if isinstance(one, Measured)}
    assert sizes[found.smallest] == min(sizes[c] for c in holding)
    # A tie may stay with what is slower by the margin, and by what the noise hides.
    fastest = min(network.time(c) for c in holding)
    assert network.time(found.fastest) <= fastest * (1 + MARGIN) * 1.05


@given(COSTS, st.floats(0.9, 0.999), st.integers(0, 100), st.integers(101, 200))
def test_another_machine_noise_gives_the_same_result(costs: list[float], floor: float, one: int, other: int) -> None:
    target = Target(min_cosine=floor)
    found = [search(Network(costs, noise=noise), target, silent) for noise in (one, other)]
    assert found[0].smallest == found[1].smallest
    assert found[0].holding == found[1].holding
    assert found[0].refined == found[1].refined
    # Only candidates whose times are apart by just the margin may change places.
    network = Network(costs)
    times = [network.time(outcome.fastest) for outcome in found]
    assert max(times) <= min(times) * (1 + MARGIN) * 1.05


def test_the_few_layers_that_cost_the_drift_are_kept() -> None:
    costs = [0.0001] * 12
    costs[3], costs[7] = 0.3, 0.2
    found = search(Network(costs), Target(min_cosine=0.99), silent)
    by_precision = {refined.base.precision: refined for refined in found.refined}
    # int8-dynamic is no smaller than int8-weight-only, which holds the floor, but faster than all that do.
    assert set(by_precision) == {"int8-static", "int8-dynamic", "int4-weight-only"}
    for refined in by_precision.values():
        assert [kept.group.nodes for kept in refined.ranking[:2]] == [("layer3",), ("layer7",)]
        assert refined.result is not None
        assert refined.result.settings.keep == ("layer3", "layer7")
    assert found.smallest == by_precision["int4-weight-only"].result
    assert found.fastest == by_precision["int8-static"].result


def test_nothing_is_taken_apart_that_holds_the_floor() -> None:
    network = Network([0.0001] * 6)
    found = search(network, Target(min_cosine=0.9), silent)
    assert found.refined == ()
    assert not any(call[0] == "rough" for call in network.calls)
    assert found.fastest.precision == "int8-static"
    assert found.smallest.precision == "int4-weight-only"


def test_what_can_be_neither_smaller_nor_faster_is_not_taken_apart() -> None:
    # int8-static holds 0.99, and is as small as int8-dynamic and faster.
    network = Network([0.003] * 8)
    found = search(network, Target(min_cosine=0.99), silent)
    assert not Target(min_cosine=0.99).holds(network.measure(Candidate("int8-dynamic")))
    assert {refined.base.precision for refined in found.refined} == {"int4-weight-only"}
    assert found.fastest == Candidate("int8-static")


def test_a_floor_that_nothing_reaches_says_the_best_reached() -> None:
    with pytest.raises(DriftError, match=r"The best reached is fp16.*minimum cosine 0\.99\d+, floor 1.*--min-cosine"):
        search(Network([0.5] * 4), Target(min_cosine=1.0), silent)


def test_what_cannot_be_made_is_left_out() -> None:
    found = search(Network([0.01] * 4, unmade=["int4-weight-only", "fp16"]), Target(min_cosine=0.9), silent)
    assert found.smallest.precision.startswith("int8")
    with pytest.raises(DriftError, match="can be made: int8-static: there is no such kernel"):
        search(Network([0.01] * 4, unmade=[p for p in BITS if p != "fp32"]), Target(min_cosine=0.9), silent)  # type: ignore[misc]
    with pytest.raises(ExportError, match="fp32 graph itself does not run"):
        search(Network([0.01] * 4, unmade=["fp32"]), Target(min_cosine=0.9), silent)


class KilledError(BaseException):
    """The end of the process, as far as the search can tell."""


class Mortal(Network):
    """A network that dies at its `life`-th measurement."""

    def __init__(self, costs: Sequence[float], life: int) -> None:
        super().__init__(costs)
        self.life = life

    def _live(self) -> None:
        self.life -= 1
        if self.life < 0:
            raise KilledError

    def measure(self, candidate: Candidate) -> Found:
        self._live()
        return super().measure(candidate)

    def rough(self, candidate: Candidate) -> float:
        self._live()
        return super().rough(candidate)

    def race(self, candidate: Candidate, other: Candidate, number: int) -> float:
        self._live()
        return super().race(candidate, other, number)


@settings(max_examples=25)
@given(costs=COSTS, lives=st.lists(st.integers(0, 40), max_size=6))
def test_killed_at_any_moment_it_goes_on(
    tmp_path_factory: pytest.TempPathFactory, costs: list[float], lives: list[int]
) -> None:
    path, target = tmp_path_factory.mktemp("state") / "b.search.json", Target(min_cosine=0.97)
    made: Counter[object] = Counter()
    outcome: Outcome | None = None
    for life in [*lives, 10**6]:
        network = Mortal(costs, life)
        recorder, _ = states.opened(path, "a key", target, 0, network)
        try:
            outcome = search(recorder, target, silent)
            recorder.finish(outcome)
        except KilledError:
            pass
        made += network.calls
    assert made.most_common(1)[0][1] == 1
    again, word = states.opened(path, "a key", target, 0, Mortal(costs, 0))
    assert "goes on from" in word
    assert search(again, target, silent) == outcome
    assert (again.measured, again.state.outcome) == (0, outcome)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_none(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("state") / "b.search.json"
    path.write_bytes(data)
    assert states.read(path) is None
    recorder, word = states.opened(path, "key", Target(), 0, Network([0.1, 0.1]))
    assert "cannot be read" in word
    assert recorder.state.found == {}


def test_another_search_begins_anew_and_says_so(tmp_path: Path) -> None:
    path, target = tmp_path / "b.search.json", Target(min_cosine=0.9)
    first, word = states.opened(path, "one", target, 0, Network([0.01, 0.01]))
    assert word == ""
    first.finish(search(first, target, silent))
    other, word = states.opened(path, "two", target, 0, Network([0.01, 0.01]))
    assert "begins anew: b.search.json is of another search" in word
    assert other.state.found == {}
    raw = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(raw | {"version": states.VERSION + 1}))
    assert states.read(path) is None


def test_the_state_lists_every_candidate_in_the_table(tmp_path: Path) -> None:
    costs = [0.0001] * 6 + [0.4]
    target = Target(min_cosine=0.99)
    recorder, _ = states.opened(tmp_path / "s.json", "key", target, 0, Network(costs, unmade=["fp16"]))
    recorder.finish(search(recorder, target, silent))
    shown, *ranked = table.tables(recorder.state)
    assert shown.row_count == sum(isinstance(one, Measured) for one in recorder.state.found.values())
    assert len(ranked) == 3
    said = table.sentences(recorder.state)
    assert "fp16 cannot be made: there is no such kernel" in said
    (bought,) = [sentence for sentence in said if sentence.startswith("int4-weight-only: 1 of 7 groups of layers")]
    assert "kept in int8-weight-only: minimum cosine 0.5" in bought
    assert table.as_json(recorder.state)["outcome"]["smallest"]["precision"] == "int4-weight-only"


def test_variants_of_one_precision_have_names_of_their_own() -> None:
    small = Candidate("int8-static", Settings(keep=("a",)))
    names = names_of(Outcome(Candidate("int8-static"), small, (), ()))
    assert names == {"fp32": REFERENCE, "int8-static": Candidate("int8-static"), "int8-static-smallest": small}
    assert list(names_of(Outcome(REFERENCE, small, (), ()))) == ["fp32", "int8-static"]


@given(st.floats(0.5, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_floor_holds_where_no_shortfall_is_told(floor: float, one: float, other: float) -> None:
    target = Target(min_cosine=floor, min_p01=floor)
    qualities = [Quality(100, value, value, value) for value in (one, other)]
    found = Measured(qualities[0], qualities[1], 1)
    short = [words for quality in qualities for words in target.shortfalls(quality)]
    assert target.holds(found) == (not short)
    assert target.holds(found) == (1 - min(one, other) <= (1 - floor) * HEADROOM)


def test_a_floor_of_the_metric_holds_on_both_halves() -> None:
    target = Target(max_metric_loss=0.02)

    def found(*values: float) -> Measured:
        one, other = (Quality(100, 0.5, 0.1, 0.1, 0.2, Metric(value, 0.8, 50)) for value in values)
        return Measured(one, other, 1)

    assert target.holds(found(0.9, 0.8 * (1 - 0.02 * HEADROOM) + 1e-9))
    assert not target.holds(found(0.9, 0.8 * (1 - 0.02 * HEADROOM) - 1e-9))
    assert not target.holds(found(0.78, 0.9))
    assert target.shortfalls(found(0.78, 0.9).calibration) == ("task metric 2.50% below the original's, allowed 2.00%",)
    assert target.excess(found(0.78, 0.9)) == pytest.approx(1.25)
    assert not target.holds(found(float("nan"), 0.9))


def test_floors_that_make_no_sense_are_refused() -> None:
    for given_, told in (
        ((1.5, None, None, None), "--min-cosine is 1.5"),
        ((None, None, -0.1, None), "--min-agreement is -0.1"),
        ((None, None, None, 2.0), "--max-metric-loss is 2.0; a number from 0 to 1"),
    ):
        with pytest.raises(ExportError, match=told):
            aims.target_of(*given_, searched=True)
    with pytest.raises(ExportError, match="--min-p01 is nan"):
        aims.target_of(None, float("nan"), None, None, searched=True)
    with pytest.raises(ExportError, match="--min-p01 is the floor of a search; add --variants auto"):
        aims.target_of(None, 0.9, None, None, searched=False)
    embedding = EmbeddingOutput("y", "mean", True, 4)
    with pytest.raises(ExportError, match="--min-agreement compares first labels"):
        aims.completed(Target(min_agreement=0.9), embedding, labelled=False)
    assert aims.completed(Target(), embedding, labelled=False) == Target(min_cosine=0.99)
    chooser = ClassificationOutput("y", "softmax", ("a", "b"))
    assert aims.completed(Target(), chooser, labelled=False) == Target(min_agreement=0.99)
    with pytest.raises(ExportError, match=r"--max-metric-loss .* needs a labelled set: --labelled FILE"):
        aims.completed(Target(max_metric_loss=0.01), chooser, labelled=False)
    assert aims.completed(Target(max_metric_loss=0.01), chooser, labelled=True) == Target(max_metric_loss=0.01)
    with pytest.raises(ExportError, match="a single number"):
        aims.completed(Target(min_cosine=0.9), ClassificationOutput("y", "none", ("a",)), labelled=False)


def test_a_duel_is_bounded() -> None:
    network = Network([0.0] * 4)
    search(network, Target(min_cosine=0.9), silent)
    rounds = Counter((call[1], call[2]) for call in network.calls if call[0] == "race")
    assert max(rounds.values()) <= DUEL_ROUNDS + 5
