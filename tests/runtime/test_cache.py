"""The user's cache: losing it, or not having one, costs time and never an answer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

import sanderling
from sanderling import cache


def test_a_record_comes_back() -> None:
    key = cache.key("a", "b")
    assert cache.read("kind", key, dict[str, int]) is None
    cache.write("kind", key, {"x": 1})
    assert cache.read("kind", key, dict[str, int]) == {"x": 1}
    cache.write("kind", key, {"x": 2})
    assert cache.read("kind", key, dict[str, int]) == {"x": 2}
    assert cache.read("other", key, dict[str, int]) is None


def test_keys_depend_on_every_part_and_on_where_it_ends() -> None:
    keys = {cache.key(*parts) for parts in (("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), ("a\ud800",))}
    assert len(keys) == 5
    assert all(len(key) == 40 and set(key) <= set("0123456789abcdef") for key in keys)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'{"x": "not a number"}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_record_is_as_if_never_made(cache_folder: Path, content: bytes) -> None:
    key = cache.key("a")
    cache.write("kind", key, {"x": 1})
    (cache_folder / "kind" / f"{key}.json").write_bytes(content)
    assert cache.read("kind", key, dict[str, int]) is None
    cache.write("kind", key, {"x": 3})
    assert cache.read("kind", key, dict[str, int]) == {"x": 3}


def test_a_record_too_large_to_be_one_is_not_read(cache_folder: Path) -> None:
    key = cache.key("a")
    cache.write("kind", key, {})
    (cache_folder / "kind" / f"{key}.json").write_bytes(b" " * (4 * 2**20) + b"{}")
    assert cache.read("kind", key, dict[str, int]) is None


def test_a_folder_where_the_record_should_be_is_no_record(cache_folder: Path) -> None:
    key = cache.key("a")
    (cache_folder / "kind" / f"{key}.json").mkdir(parents=True)
    assert cache.read("kind", key, dict[str, int]) is None
    cache.write("kind", key, {"x": 1})
    assert cache.read("kind", key, dict[str, int]) is None


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedding_bundle: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SANDERLING_CACHE", str(tmp_path / "file" / "below"))
    cache.write("kind", cache.key("a"), {"x": 1})
    assert cache.read("kind", cache.key("a"), dict[str, int]) is None
    with sanderling.load(embedding_bundle) as model:
        assert model("sea").embedding.shape == (8,)


def test_a_user_without_a_home_has_no_cache_and_loads_all_the_same(
    monkeypatch: pytest.MonkeyPatch, embedding_bundle: Path
) -> None:
    def homeless() -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SANDERLING_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with sanderling.load(embedding_bundle) as model:
        assert model("sea").embedding.shape == (8,)


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "home/.cache/sanderling"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/sanderling"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/sanderling"),
        ("win32", {}, "home/AppData/Local/sanderling"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/sanderling"),
        ("linux", {"SANDERLING_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own"),
        ("win32", {"SANDERLING_CACHE": "own"}, "own"),
    ],
)
def test_each_platform_has_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, environment: dict[str, str], expected: str
) -> None:
    for name in ("SANDERLING_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache.folder() == tmp_path / expected


def test_a_second_load_trusts_the_stamps_of_the_first(
    cache_folder: Path, embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sanderling.load(embedding_bundle).close()
    (record,) = (cache_folder / "verified").glob("*.json")
    names = sorted(name.rpartition("/")[2] for name in msgspec.json.decode(record.read_bytes()))
    assert names == ["model.onnx", "tokenizer.json", "weights.bin"]
    hashed: list[str] = []
    monkeypatch.setattr("sanderling.bundle.file_sha256", lambda path: hashed.append(path.name))
    sanderling.load(embedding_bundle).close()
    assert hashed == []


def test_a_file_whose_time_changed_is_hashed_again(copy_bundle: object, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)  # type: ignore[operator]
    sanderling.load(bundle).close()
    weights = next(bundle.rglob("fp32/weights.bin"))
    before = weights.stat()
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(sanderling.IntegrityError, match=r"weights\.bin is not the file that was sealed: its SHA-256"):
        sanderling.load(bundle)
