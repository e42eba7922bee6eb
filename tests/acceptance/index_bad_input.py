"""Issue 6: what an index and a folder may be like that they should not: a typed error each, and nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import texts
from checks import Context, NotCheckableError, Row, built, registry, true
from command_line import environment, last_line, must, sanderling
from interrupted import _LIMITED
from msgspec.structs import replace

from sanderling import Index
from sanderling.errors import IndexBusyError, SanderlingError, SearchIndexError
from sanderling.index import layout

_SPACE = "a" * 64
_ROWS = layout.BLOCK + 100


@registry.check(6, "index-bad-input")
def bad_input(context: Context) -> list[Row]:
    checks: dict[str, Callable[[Context, Path], Row]] = {
        "newer": _newer,
        "truncated": _truncated,
        "changed": _changed,
        "full": _full,
        "writers": _writers,
        "binary": _binary,
        "encodings": _encodings,
        "links": _links,
        "nothing": _nothing,
    }
    rows = []
    for name, check in checks.items():
        context.say(name)
        place = context.folder / name
        place.mkdir()
        rows.append(check(context, place))
    return rows


def _newer(context: Context, place: Path) -> Row:
    index = _made(place / "index")
    header = layout.encode(replace(layout.read_header(index), version=layout.VERSION + 1))
    (index / layout.HEADER).write_bytes(header)
    before = _digest(index)
    met = [_met(lambda writable=writable: Index.open(index, writable=writable)) for writable in (False, True)]
    (place / "files").mkdir()
    (place / "files" / "a.txt").write_text("a text")
    commands = (("search", index, "a query"), ("index", place / "files", "-o", index), ("similar", index))
    met += [_said(sanderling(*command)) for command in commands]
    held = all("of version 2" in found for found in met) and _digest(index) == before
    return _row("an index of a newer version: refused, and left as it is", held, met)


def _truncated(context: Context, place: Path) -> Row:
    index = _made(place / "index")
    met, wrong, tried = set(), [], 0
    for path in sorted(index.iterdir()):
        whole = path.read_bytes()
        for size in sorted({0, 1, len(whole) // 2, len(whole) - 1} - {len(whole)}) if whole else ():
            path.write_bytes(whole[:size])
            tried += 1
            for writable in (False, True):
                found = _met(lambda writable=writable: _read(index, writable))
                met.add(found.partition(":")[0])
                if not found.startswith(SearchIndexError.__name__) or path.stat().st_size != size:
                    wrong.append(f"{path.name} of {size:,} bytes: {found[:100]}")
        path.write_bytes(whole)
    _read(index, writable=True)
    return true(
        "an index with a file cut short: refused, its files left as they are, whole again once that is",
        not wrong and tried > 20,
        f"{tried - len(wrong)} of {tried}",
        "all",
        spread="; ".join(wrong)[:500] or ", ".join(sorted(met)),
    )


def _changed(context: Context, place: Path) -> Row:
    index = _made(place / "index")
    draw = np.random.default_rng(6)
    wrong, tried = [], 0
    for path in sorted(path for path in index.iterdir() if path.stat().st_size):
        whole = path.read_bytes()
        for at in draw.integers(0, len(whole), 5).tolist():
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            tried += 1
            found = _met(lambda: _read(index, writable=False))
            if not found.startswith(SearchIndexError.__name__):
                wrong.append(f"{path.name}, byte {at:,}: {found[:100]}")
        path.write_bytes(whole)
    return true(
        "an index with a byte changed: check() finds it",
        not wrong and tried > 20,
        f"{tried - len(wrong)} of {tried}",
        "all",
        spread="; ".join(wrong)[:500],
    )


def _full(context: Context, place: Path) -> Row:
    what = "a full disk while indexing: a typed error, what was acknowledged is there, the next run goes on"
    if sys.platform == "win32":
        return true(what, True, "not checked", "all", spread="Windows has no limit that would cut a write short")
    folder, index = _files(place / "files", 12), place / "files.index"
    must("index", folder, "-m", built("all-minilm-l6-v2"))
    size = layout.data_path(index, "vectors", 0).stat().st_size
    limits = (0, (index / layout.HEADER).stat().st_size // 2, size + 100, size + 4000)
    wrong = []
    for number, limit in enumerate(limits):
        held = _ids(index)
        _files(folder, 12, first=12 * (number + 1))
        done = subprocess.run(
            [sys.executable, "-c", _LIMITED, str(limit), "index", str(folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env=environment(),
        )
        after = _ids(index)
        must("index", folder)
        if not _said(done).startswith("error: Could not write") or after != held:
            wrong.append(f"limit {limit:,}: {_said(done)[:100]}, {len(after)} of {len(held)}")
        if {name.partition("#")[0] for name in _ids(index)} != {path.name for path in folder.iterdir()}:
            wrong.append(f"limit {limit:,}: it was not whole after the next run")
    shown = ", ".join(f"{limit:,}" for limit in limits)
    return true(
        what,
        not wrong,
        f"{len(limits) - len(wrong)} of {len(limits)}",
        "all",
        spread="; ".join(wrong)[:500] or f"no file beyond {shown} bytes",
    )


def _writers(context: Context, place: Path) -> Row:
    folder, index = _files(place / "files", 4), place / "files.index"
    must("index", folder, "-m", built("all-minilm-l6-v2"))
    _files(folder, 2, first=4)
    with Index.open(index, writable=True) as first:
        first.update("mine", np.ones(first.dimension, np.float32), space=first.space)
        met = [_said(sanderling("index", folder)), _met(lambda: Index.open(index, writable=True))]
        # Readers are let in all the while.
        reads = len(must("search", index, "a text", "--json", "-k", 3).splitlines()) == 3
        first.delete("mine")
    must("index", folder)
    whole = {name.partition("#")[0] for name in _ids(index)} == {path.name for path in folder.iterdir()}
    refused = "Another writer" in met[0] and met[1].startswith(IndexBusyError.__name__)
    return _row(
        "two writers: the second is refused, readers are not, nothing is lost", refused and reads and whole, met
    )


def _binary(context: Context, place: Path) -> Row:
    folder = _files(place / "files", 4)
    noise = np.random.default_rng(6).integers(0, 256, 5000, np.uint8).tobytes()
    others = {
        "program": b"\x7fELF\x02\x01\x01\x00" + noise,
        "archive.zip": b"PK\x03\x04\x14\x00\x00\x00" + noise,
        "database.sqlite": b"SQLite format 3\x00" + noise,
        "noise.txt": b"\x00" + noise,
        "picture.png": b"\x89PNG\r\n\x1a\n" + noise,
        "zeros.bin": bytes(100_000),
    }
    for name, data in others.items():
        (folder / name).write_bytes(data)
    done = sanderling("index", folder, "-m", built("all-minilm-l6-v2"), "--json")
    report = json.loads(done.stdout)
    held = done.returncode == 0 and (report["embedded"], report["other"], report["failed"]) == (4, len(others), {})
    return _row("a folder with binary files: passed over and counted, the texts are indexed", held, [_counts(report)])


def _encodings(context: Context, place: Path) -> Row:
    folder = _files(place / "files", 4)
    broken = {
        "latin.txt": "Möwe über dem Watt".encode("latin-1"),
        "cut.txt": "Möwe".encode()[:2],
        "surrogate.txt": b"a lone surrogate: \xed\xa0\x80",
        "overlong.txt": b"an overlong slash: \xc0\xaf",
        "late.txt": b"a text " * 10_000 + b"\xff",
        "odd.txt": "Möwe".encode("utf-16")[:-1],
        "page.html": b"<p>M\xf6we</p>",
    }
    good = {"wide.txt": "Möwe".encode("utf-16"), "marked.txt": b"\xef\xbb\xbf" + "Möwe".encode(), "empty.txt": b""}
    for name, data in (broken | good).items():
        (folder / name).write_bytes(data)
    if sys.platform == "linux":
        with open(os.fsencode(folder) + b"/name-\xff.txt", "wb") as file:  # noqa: PTH123 - no Path has such a name
            file.write(b"a text")
    done = sanderling("index", folder, "-m", built("all-minilm-l6-v2"), "--json")
    report = json.loads(done.stdout)
    named = {name for name in report["failed"] if not name.startswith("name-")}
    held = done.returncode == 1 and named == set(broken)
    held &= (report["embedded"], report["empty"]) == (4 + len(good) - 1, 1)
    held &= sys.platform != "linux" or len(report["failed"]) == len(broken) + 1
    return _row("broken encodings: each named with the reason, the others are indexed", held, [_counts(report)])


def _links(context: Context, place: Path) -> Row:
    folder = _files(place / "files", 4)
    (folder / "deep").mkdir()
    try:
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
        (folder / "self.txt").symlink_to(folder / "self.txt")
        (folder / "there.txt").symlink_to(folder / "back.txt")
        (folder / "back.txt").symlink_to(folder / "there.txt")
        (folder / "dangling.txt").symlink_to(folder / "nothing.txt")
    except OSError as error:
        raise NotCheckableError(f"This user may make no links: {error}") from error
    done = sanderling("index", folder, "-m", built("all-minilm-l6-v2"), "--json", timeout=120)
    report = json.loads(done.stdout)
    held = (
        done.returncode == 0
        and (report["embedded"], report["failed"]) == (4, {})
        and len(_ids(place / "files.index")) == 4
    )
    return _row("loops of links: it ends, each file is indexed once", held, [_counts(report)])


def _nothing(context: Context, place: Path) -> Row:
    bundle, folder, index = built("all-minilm-l6-v2"), place / "files", place / "files.index"
    folder.mkdir()
    met = [_said(sanderling("index", folder, "-m", bundle))]
    none = not index.exists()
    _files(folder, 3)
    must("index", folder, "-m", bundle)
    before = _ids(index)
    for path in folder.iterdir():
        path.unlink()
    met.append(_said(sanderling("index", folder)))
    kept = len(before) == 3 and _ids(index) == before
    Index.create(place / "empty", space=_SPACE, dimension=8).close()
    with Index.open(place / "empty") as empty:
        found = empty.search(np.ones(8, np.float32), space=_SPACE)
    held = none and kept and found == [] and all(said.startswith("error: There is no ") for said in met)
    return _row("0 documents: refused, an index that is there keeps its own, an empty one answers nothing", held, met)


def _made(folder: Path) -> Path:
    """An index with every file that one can have."""
    vectors = np.random.default_rng(0).standard_normal((_ROWS, 8)).astype(np.float32)
    ids = [str(row) for row in range(_ROWS)]
    with Index.create(folder, space=_SPACE, dimension=8, precision="int8") as index:
        index.add(ids, vectors, [{"row": row} for row in range(_ROWS)], space=_SPACE)
        index.delete(["5", "6"])
    return folder


def _read(index: Path, writable: bool) -> None:
    """Open an index, search it, and read all of it."""
    with Index.open(index, writable=writable) as opened:
        opened.search(np.ones(8, np.float32), space=_SPACE)
        opened.check()


def _files(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts.sentences()[first : first + count], start=first):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


def _ids(index: Path) -> set[str]:
    with Index.open(index) as opened:
        opened.check()
        return set(opened.ids())


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.name != layout.LOCK):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def _met(action: Callable[[], object]) -> str:
    """The typed error of an action, with its name; another error is let through."""
    try:
        action()
    except SanderlingError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an expected error; what else a command ended with, as it is."""
    line = last_line(done.stderr)
    sound = done.returncode == 1 and line.startswith("error: ") and "Traceback" not in done.stderr
    return line if sound else f"status {done.returncode}: {line}"


def _counts(report: dict[str, object]) -> str:
    failed = report["failed"]
    assert isinstance(failed, dict)
    return f"{report['embedded']} embedded, {report['other']} of other kinds, {len(failed)} named: {', '.join(failed)}"


def _row(what: str, held: bool, met: list[str]) -> Row:
    return true(
        what, held, "held" if held else "not so", "held", spread=met[-1][-200:] if held else "; ".join(met)[:900]
    )
