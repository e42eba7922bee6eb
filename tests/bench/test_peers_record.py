"""The catalogue of peers, their environments, the inputs, the bounds and the document; no peer is installed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sanderling.errors import BenchError
from sanderling_bench.machine import this_machine
from sanderling_bench.peers import catalogue as catalogues
from sanderling_bench.peers import record
from sanderling_bench.peers.bounds import FASTEMBED, RAW_IMAGES, SANDERLING, TORCH, bounds, call_ratio, speedup
from sanderling_bench.peers.catalogue import Catalogue, Contestant, Environment, Grid
from sanderling_bench.peers.convert import CONVERSIONS
from sanderling_bench.peers.environments import Environments, UnavailableError
from sanderling_bench.peers.inputs import JOINED, LIMITS, probes, sentences, texts, token_limit, write_texts
from sanderling_bench.peers.record import Chosen, Contest, Result, Tried
from sanderling_bench.peers.report import bounds_table, markdown


def test_the_catalogue_is_whole() -> None:
    catalogue = catalogues.read()
    for name, environment in catalogue.environments.items():
        assert all(re.search(r"==[\d.]+$", require) for require in environment.requires), name
        assert bool(environment.requires) == (name != "sanderling")
    for contestant in catalogue.contestants:
        assert set(contestant.models) <= set(CONVERSIONS), contestant.name
        assert {"graph", "tokenizer"} & set(contestant.load) == set() or contestant.models
        for purpose in ("throughput", "latency"):
            assert contestant.candidates(purpose, 2)  # type: ignore[arg-type]
    for modality, names in (("text", {SANDERLING, FASTEMBED}), ("image", {SANDERLING, TORCH, RAW_IMAGES})):
        there = {contestant.name: contestant for contestant in catalogue.of(modality)}  # type: ignore[arg-type]
        assert names <= set(there)
        assert all(there[name].every_round for name in names)
        assert len(there) == len(catalogue.of(modality))  # type: ignore[arg-type]


def test_knobs_are_combined_each_once() -> None:
    grid = Grid(load={"threads": (1, "cores")}, call={"sort": (False, True), "batch": ("default", 8)})
    one = Contestant("a", "b", "c", "text", load={"graph": "g"}, call={"batch": 32}, throughput=grid)
    found = one.candidates("throughput", 4)
    assert len(found) == 8
    assert found[0] == ({"graph": "g", "threads": 1}, {"batch": 32, "sort": False})
    assert found[-1] == ({"graph": "g", "threads": 4}, {"batch": 8, "sort": True})
    assert len(one.candidates("throughput", 1)) == 4
    assert one.candidates("latency", 4) == [({"graph": "g"}, {"batch": 32})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contestants = 3", "is no catalogue"),
        ("not toml", "is no catalogue"),
        ('environments = {}\n[[contestants]]\nname="a"\nenvironment="b"\nprogram="c"\nmodality="text"', "not listed"),
        (
            'environments = {b = {}}\n[[contestants]]\nname="a"\nenvironment="b"\nprogram="c"\nmodality="text"',
            "which is not there",
        ),
    ],
)
def test_a_catalogue_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "peers.toml").write_text(text)
    with pytest.raises(BenchError, match=message):
        catalogues.read(tmp_path / "peers.toml")


class Pip:
    """Stands in for running commands: what a real one would leave behind, and what was asked of it."""

    def __init__(self, fails: str = "") -> None:
        self.commands: list[list[str]] = []
        self.fails = fails

    def __call__(self, command: Sequence[str], seconds: int) -> None:
        self.commands.append(list(command))
        if self.fails and self.fails in command:
            raise BenchError(f"ERROR: No matching distribution found for {self.fails}")
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        elif command[-1].endswith("versions.json"):
            Path(command[-1]).write_text('{"swift": "1.0"}')
        elif command[-1] == "onnx-fp32":
            (Path(command[-2]) / "model.onnx").write_bytes(b"")


def environments(folder: Path, pip: Pip, requires: str = "swift==1.0") -> Environments:
    listed = {"sanderling": Environment(), "builder": Environment((requires,)), "swift": Environment((requires,))}
    return Environments(folder, Catalogue(listed, ()), lambda _: None, pip)


def peer() -> Contestant:
    return Contestant("swift", "swift", "text_fastembed", "text", models=("onnx-fp32",))


def test_environments_and_models_are_made_once(tmp_path: Path) -> None:
    pip = Pip()
    made = environments(tmp_path, pip)
    made.ready(peer())
    assert made.versions("swift") == {"swift": "1.0"}
    assert (made.models / "onnx-fp32" / "model.onnx").is_file()
    assert sum("install" in command for command in pip.commands) == 2
    again = Pip()
    environments(tmp_path, again).ready(peer())
    assert again.commands == []
    changed = Pip()
    environments(tmp_path, changed, "swift==1.1").ready(peer())
    assert [command[-1] for command in changed.commands if "install" in command] == ["swift==1.1"]


def test_a_peer_that_does_not_install_takes_no_part_and_is_tried_once_a_run(tmp_path: Path) -> None:
    pip = Pip(fails="swift==1.0")
    made = environments(tmp_path, pip)
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"swift could not be made here: ERROR: No matching distribution"):
            made.ready(peer())
    assert sum("install" in command for command in pip.commands) == 1
    environments(tmp_path, Pip()).ready(peer())


def test_a_conversion_that_fails_leaves_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="model onnx-fp32 could not be made"):
        environments(tmp_path, Pip(fails="onnx-fp32")).ready(peer())
    assert not (tmp_path / "models" / "onnx-fp32").exists()


def test_the_texts_are_neighbours_joined(tmp_path: Path) -> None:
    source = [f"sentence {number}." for number in range(400)]
    made = texts(source, 100)
    assert made == texts(source, 100)
    assert len(set(made)) == 100
    sizes = [text.count(".") for text in made]
    assert sorted(sizes) == sorted(JOINED * 5)
    assert any(re.fullmatch(r"sentence (\d+)\. sentence (\d+)\.", text) for text in made)
    assert sizes != sorted(sizes)
    with pytest.raises(BenchError, match="no sentences"):
        sentences(tmp_path)
    (tmp_path / "sentiment").mkdir()
    (tmp_path / "sentiment" / "a.tsv").write_text("id\ttext\n1\tThe sea.\n2\tThe sea.\n3\tA bird.\n")
    assert sentences(tmp_path / "sentiment") == ["The sea.", "A bird."]
    written = write_texts(tmp_path, 5, tmp_path)
    assert len(msgspec.json.decode(written.path.read_bytes())) == 5 + written.probes


@pytest.mark.parametrize("limit", LIMITS)
def test_the_limit_in_tokens_is_found(limit: int) -> None:
    def read(text: str) -> list[float]:
        words = text.split()[: limit - 2]
        return [float(len(words)), float(len(words[-1]))]

    assert token_limit(np.array([read(text) for text in probes()], np.float32)) == limit


def test_a_limit_between_is_not_known() -> None:
    rows = np.array([[len(text.split()[:98][-1])] for text in probes()], np.float32)
    assert token_limit(rows) is None


def result(name: str, seconds: float, *, modality: str = "text", call: float = 0.01, cosine: float = 0.999) -> Result:
    chosen = Chosen({"threads": 2}, {"batch": 8}, (Tried({}, {}, 1.0),))
    noise = (1.0, 1.02, 0.98, 1.01, 0.99)
    return Result(
        name,
        modality,  # type: ignore[arg-type]
        versions={"swift": "1.0"},
        throughput=chosen,
        latency=chosen,
        rounds=tuple(seconds * factor for factor in noise),
        blocks=tuple(tuple(call * noise[n % 5] for n in range(50)) for _ in range(40)),
        starts=(0.5, 0.4, 0.6),
        peak_bytes=123_000_000,
        cosines=(cosine, 1.0),
        token_limit=256,
    )


def contest(*results: Result) -> Contest:
    inputs = {"text": (1000, "sentences", "ab" * 32), "image": (128, "crops", "cd" * 32)}
    return Contest("2024-02-29T00:00:00", this_machine(), {"python": "3"}, inputs, results, 21.0)  # type: ignore[arg-type]


def test_the_bounds_take_the_best_peer_and_the_end_of_the_interval() -> None:
    held = bounds(
        contest(
            result(SANDERLING, 1.0, call=0.008),
            result("slow", 9.0, call=0.011),
            result("fast", 1.7, call=0.010),
            result(FASTEMBED, 5.5, call=0.02),
            Result("gone", "text", unavailable="not here"),
            result(SANDERLING, 1.0, modality="image"),
            result(TORCH, 7.0, modality="image"),
            result(RAW_IMAGES, 1.3, modality="image"),
        )
    )
    assert [bound.held for bound in held] == [True, True, True, True, True, True, False]
    assert [bound.note for bound in held] == ["fast", "", FASTEMBED, "fast", "fast", TORCH, RAW_IMAGES]
    assert held[0].value == pytest.approx(1.7)
    assert held[3].value == pytest.approx(0.8)


def test_a_bound_needs_the_whole_interval_and_what_was_measured() -> None:
    ours = msgspec.structs.replace(result(SANDERLING, 1.0, cosine=0.98), rounds=(1.0, 1.0, 1.0, 1.0, 1.3))
    peer = msgspec.structs.replace(result("fast", 1.7), rounds=(1.65, 1.65, 1.7, 1.5, 1.5))
    found = bounds(contest(ours, peer))
    assert found[0].value is not None
    assert found[0].low is not None
    assert found[0].value >= 1.6 > found[0].low
    assert found[0].held is False
    assert found[1].held is False
    assert found[2].held is None
    assert found[2].note == "no such peer ran"
    few = msgspec.structs.replace(peer, blocks=((0.01,) * 20,) * 3)
    assert call_ratio(ours, few, 0.99) is None
    assert bounds(contest(ours, few))[4].held is None


def test_what_was_measured_once_is_compared_with_the_same_round() -> None:
    once = msgspec.structs.replace(result("slow", 9.0), rounds=(10.0,))
    ratio = speedup(result(SANDERLING, 1.0), once)
    assert (ratio.value, ratio.pairs) == (pytest.approx(10.0), 1)
    assert bounds(contest(result(SANDERLING, 1.0), once))[0].held is None


def test_the_document_says_it_all(tmp_path: Path) -> None:
    whole = contest(
        result(SANDERLING, 1.0),
        result("fast", 2.0),
        msgspec.structs.replace(result("slow", 9.0), rounds=(10.0,)),
        Result("gone", "text", unavailable="swift could not be made here: no | such thing"),
        msgspec.structs.replace(result(TORCH, 7.0, modality="image"), agreement=0.875, token_limit=None),
    )
    record.write(whole, tmp_path / "record.json")
    assert record.read(tmp_path / "record.json") == whole
    text = markdown(record.read(tmp_path / "record.json"))
    machine = this_machine()
    for expected in (
        machine.processor, "AMX", "VNNI", "| Sanderling | 1000 | 10.00 |", "| fast | 500 |", "0.9990", "256 tokens",
        "took no part: swift could not be made here: no / such thing", "87.5%", "threads 2, batch 8 (the best of 1)",
        "swift 1.0", "2.00 (2.00 to 2.00)", "10.00 (measured once)", "21 minutes",
        "of the best peer's | fast | 2.000 |",
    ):  # fmt: skip
        assert expected in text, expected
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |"), line
    (tmp_path / "broken.json").write_text("[]")
    with pytest.raises(BenchError, match="no record of a contest"):
        record.read(tmp_path / "broken.json")


def test_the_bounds_are_shown_with_what_was_not_measured() -> None:
    table = bounds_table(bounds(contest(result(SANDERLING, 1.0))))
    assert table.count("not measured") == 6
    assert "| 0.999 | – | >= 0.99 | yes |" in table
