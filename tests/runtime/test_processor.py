"""The processor's identity, from files as several systems write them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sanderling import processor as module
from sanderling.processor import Processor, processor

Read = Callable[[bytes], Processor]

EPYC = b"""processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
stepping\t: 1
cpu MHz\t\t: 2445.404
flags\t\t: fpu vme sse sse4_1 sse4_2 avx2 fma avx avx_vnni avx512_vnni amx_int8 bmi1
bogomips\t: 4890.80

processor\t: 1
flags\t\t: fpu avx512f
"""
ARM = b"""processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
"""


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Read]:
    """The processor as Linux tells it in a file of these bytes."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "_CPUINFO", path)
    monkeypatch.setattr(sys, "platform", "linux")

    def found(content: bytes) -> Processor:
        path.write_bytes(content)
        processor.cache_clear()
        return processor()

    yield found
    processor.cache_clear()


def test_x86_of_the_first_processor(read: Read) -> None:
    found = read(EPYC)
    assert found.model == "AMD EPYC AuthenticAMD 25 1 1"
    assert found.features == (
        "amx_int8", "avx", "avx2", "avx512_vnni", "avx_vnni", "fma", "sse4_1", "sse4_2",
    )  # fmt: skip


def test_arm(read: Read) -> None:
    found = read(ARM)
    assert found.model == "0x41 8 0xd40"
    assert found.features == ("asimd", "asimddp", "bf16", "i8mm", "sve")


def test_what_does_not_decide_answers_does_not_count(read: Read) -> None:
    assert read(EPYC).identity == read(EPYC.replace(b"2445.404", b"3100.000").replace(b"bmi1", b"rdpid")).identity
    assert read(EPYC).identity != read(EPYC.replace(b" avx512_vnni", b"")).identity
    assert read(EPYC).identity != read(EPYC.replace(b": 25", b": 26")).identity


def test_a_system_that_does_not_say(read: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "nowhere")
    assert read(b"").features == ()
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert read(b"").features == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), extra=st.lists(st.sampled_from(["avx2", "i8mm", "bmi2", "x" * 90]), max_size=5))
def test_no_file_breaks_it(read: Read, content: bytes, extra: list[str]) -> None:
    found = read(content)
    assert found.features == tuple(sorted(set(found.features)))
    found = read(b"flags : " + " ".join(extra).encode() + b"\n\n" + content)
    assert found.features == tuple(sorted({"avx2", "i8mm"} & set(extra)))
