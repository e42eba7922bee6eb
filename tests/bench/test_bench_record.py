"""Records survive the way to the disk and back, and a reader refuses what it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sanderling.errors import BenchError, StorageError
from sanderling_bench import record
from sanderling_bench.machine import FEATURES, Machine, parse_cpuinfo, this_machine
from sanderling_bench.record import Call, ColdStart, Record, Samples, Settings, Stages
from sanderling_bench.summary import by_round, percentiles, summarize


def samples(factor: float) -> Samples:
    calls = tuple(
        Call(number, index % 3, factor * (1 + number + index / 100), Stages(0.1, 0.8, 0.1))
        for number in range(4)
        for index in range(20)
    )
    return Samples(
        single_stream=calls,
        offline=tuple(Call(number, 0, factor * (2.0 + number)) for number in range(4)),
        cold_start=(ColdStart(0.1, 0.2, 0.3, 0.7), ColdStart(0.3, 0.2, 0.1, 0.9), ColdStart(0.2, 0.2, 0.2, 0.8)),
        peak_memory_bytes=1000,
        cosine_to_fp32=(1.0, 0.98),
        same_label_as_fp32=(True, False),
        tokens=120,
    )


@pytest.fixture
def made() -> Record:
    measured = {"fp32": samples(1.0), "int8": samples(0.25)}
    return Record(
        format=record.FORMAT,
        version=record.VERSION,
        created="2026-01-01T00:00:00+00:00",
        bundle=record.BundleId("tiny", "feature-extraction", "0" * 64),
        machine=Machine("a processor", "x86_64", {"AVX2": True, "AMX": None}, 2, 4, None, "a system"),
        versions={"onnxruntime": "1.0"},
        settings=Settings(
            ("fp32", "int8"), ("single-stream", "offline"), "cpu", 2, 4, 80, 3, 3, "text", 6, "0" * 64, "a test", 1
        ),
        harness=(1e-7,),
        samples=measured,
        summary=summarize(measured, {"fp32": 400, "int8": 100}, 6, "fp32"),
    )


def test_a_record_survives_the_disk(made: Record, tmp_path: Path) -> None:
    record.write(made, tmp_path / "r.json")
    assert record.read(tmp_path / "r.json") == made
    record.write(made, tmp_path / "r.json")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_raw_samples_and_summary_stand_apart(made: Record) -> None:
    plain = json.loads(record.encode(made))
    assert len(plain["samples"]["int8"]["single_stream"]) == 80
    assert plain["summary"]["int8"]["latency"]["samples"] == 80
    assert plain["summary"]["int8"]["latency"]["p99"] is None
    again = summarize(made.samples, {"fp32": 400, "int8": 100}, made.settings.inputs, "fp32")
    assert again == made.summary


def test_a_field_of_the_future_is_ignored_and_a_version_of_the_future_refused(made: Record) -> None:
    plain = json.loads(record.encode(made))
    assert record.decode(json.dumps({**plain, "of the future": 1}).encode(), "r.json") == made
    with pytest.raises(BenchError, match=r"record version 2; this Sanderling reads version 1"):
        record.decode(json.dumps({"format": record.FORMAT, "version": 2, "all": "else differs"}).encode(), "r.json")


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"\xff\xfe", b'{"format": "sanderling-bench", "version": 1}', b"[" * 100_000,
     b'{"format": "another", "version": 1}'],
)  # fmt: skip
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(BenchError, match=r"^r\.json "):
        record.decode(raw, "r.json")


def test_a_missing_record_and_a_missing_folder_have_their_errors(made: Record, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot be read"):
        record.read(tmp_path / "none.json")
    with pytest.raises(StorageError, match="Could not write"):
        record.write(made, tmp_path / "none" / "r.json")


def test_the_summary_by_hand(made: Record) -> None:
    of = made.summary["int8"]
    assert by_round(made.samples["fp32"].offline) == [2.0, 3.0, 4.0, 5.0]
    assert of.speedup_offline is not None
    assert (of.speedup_offline.value, of.speedup_offline.rounds) == (4.0, 4)
    assert of.speedup_offline.low == of.speedup_offline.high == 4.0
    assert of.throughput is not None
    # Rounds of 0.5, 0.75, 1 and 1.25 s, 6 inputs and 120 tokens in each.
    assert of.throughput.items_per_second == pytest.approx((6 / 0.75 + 6 / 1.0) / 2)
    assert of.throughput.tokens_per_second == pytest.approx((120 / 0.75 + 120 / 1.0) / 2)
    assert of.cold_start is not None
    assert (of.cold_start.imported, of.cold_start.wall, of.cold_start.processes) == (0.2, 0.8, 3)
    assert of.drift is not None
    assert (of.drift.cosine_mean, of.drift.cosine_min, of.drift.agreement) == (0.99, 0.98, 0.5)
    assert of.stages == Stages(0.1, 0.8, 0.1)
    assert (of.size_bytes, of.peak_memory_bytes) == (100, 1000)
    assert made.summary["fp32"].speedup_offline is None


def test_what_was_not_measured_is_null() -> None:
    of = summarize({"int8": Samples(offline=(Call(0, 0, 2.0),))}, {"int8": 1}, 4, "fp32")["int8"]
    assert of.latency is of.cold_start is of.drift is of.speedup_offline is of.peak_memory_bytes is None
    assert of.throughput is not None
    assert (of.throughput.items_per_second, of.throughput.tokens_per_second) == (2.0, None)


def test_percentiles_carry_their_count() -> None:
    assert msgspec.to_builtins(percentiles([1.0] * 63)) == {"samples": 63, "p50": 1.0, "p90": None, "p99": None}
    assert msgspec.to_builtins(percentiles([1.0] * 10)) == {"samples": 10, "p50": None, "p90": None, "p99": None}


def test_cpuinfo_of_both_kinds() -> None:
    x86 = (
        "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    )
    assert parse_cpuinfo(x86) == ("A Processor", {"fpu", "avx2", "avx512_vnni"})
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd08\n\nModel\t\t: A Board\n"
    assert parse_cpuinfo(arm) == ("A Board", {"fp", "asimd", "asimddp"})
    assert parse_cpuinfo("") == (None, set())


def test_this_machine_tells_what_it_is() -> None:
    machine = this_machine()
    assert machine.processor
    assert set(machine.features) == set(FEATURES)
    assert 1 <= machine.cores <= machine.processors
    assert machine.memory_bytes is None or machine.memory_bytes > 2**20


def test_the_class_says_what_is_not_known() -> None:
    def named(**features: bool | None) -> str:
        return Machine("p", "a", features, 1, 1, None, "s").processor_class

    assert named(AVX2=True, VNNI=None, AMX=False) == "AVX2 VNNI?"
    assert named(AVX2=False).startswith("none of AVX2")
