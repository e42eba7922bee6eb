"""Cores granted: affinity and cgroup quotas, from trees made of files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling import cores

Tree = Callable[[str, dict[str, str]], int]


@pytest.fixture
def granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Cores granted on a machine of 8, given /proc/self/cgroup and the files below /sys/fs/cgroup."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(cores, "_ROOT", tmp_path / "root")
    monkeypatch.setattr(cores, "_TOPOLOGY", tmp_path / "topology")

    def count(membership: str, files: dict[str, str]) -> int:
        (tmp_path / "membership").write_bytes(membership.encode("utf-8", "surrogateescape"))
        for name, content in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="ascii")
        return cores.granted()

    return count


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("1600000 100000", 8),
        ("100000 0", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_a_quota_of_version_2_is_rounded_up(granted: Tree, quota: str, expected: int) -> None:
    assert granted("0::/app\n", {"app/cpu.max": quota}) == expected


def test_the_least_of_all_groups_above_counts(granted: Tree) -> None:
    files = {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "500000 100000"}
    assert granted("0::/a/b\n", files) == 3


def test_inside_a_container_the_group_is_the_root(granted: Tree) -> None:
    assert granted("0::/\n", {"cpu.max": "400000 100000"}) == 4


def test_a_quota_of_version_1(granted: Tree) -> None:
    files = {"cpu/job/cpu.cfs_quota_us": "250000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}
    assert granted("5:memory:/job\n4:cpu,cpuacct:/job\n", files) == 3
    files["cpu/job/cpu.cfs_quota_us"] = "-1\n"
    assert granted("4:cpu,cpuacct:/job\n", files) == 8


def test_a_group_that_is_not_visible_here_falls_back_to_those_above(granted: Tree) -> None:
    files = {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert granted("4:cpu:/docker/0123abc\n", files) == 1


@pytest.mark.parametrize("membership", ["", "\n", "rubbish\n", "0::/no/such\n", "0::/caf\udce9\n", "0::/../../x\n"])
def test_a_membership_that_says_nothing_leaves_all_cores(granted: Tree, membership: str) -> None:
    assert granted(membership, {"unrelated": ""}) == 8


def test_two_threads_of_one_physical_core_count_once(granted: Tree, tmp_path: Path) -> None:
    for cpu in range(8):
        topology = tmp_path / "topology" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n", encoding="ascii")
    assert granted("0::/\n", {}) == 4
    assert granted("0::/\n", {"cpu.max": "300000 100000"}) == 3


def test_without_cgroups_or_affinity_the_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_MEMBERSHIP", tmp_path / "missing")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores.granted() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.granted() == 1


def test_on_this_machine_it_is_a_count() -> None:
    assert 1 <= cores.granted() <= (os.cpu_count() or 1)
