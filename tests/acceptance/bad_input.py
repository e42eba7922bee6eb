"""Issue 2: bad input gets a typed error in bounded time and memory, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import hostile_bundles
import photographs
import probe
from checks import Context, NotCheckableError, Row, built, registry, true
from hostile_bundles import Damage
from PIL import Image

MAX_SECONDS = 5.0
MAX_MEGABYTES = 700
TEN_MEGABYTES_SECONDS = 1.0
_PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True, slots=True)
class Met:
    """What a probe met: see probe.py. `left` names the files that were not there before."""

    error: str
    typed: bool
    message: str
    seconds: float
    peak: int
    left: tuple[str, ...]

    @property
    def bounded(self) -> bool:
        return self.seconds <= MAX_SECONDS and self.peak <= MAX_MEGABYTES * 1e6 and not self.left

    @property
    def refused(self) -> bool:
        """Whether it was refused as it should be: typed, with a message of more than a word, within bounds."""
        return self.typed and self.error != "answered" and len(self.message) > 20 and self.bounded


@registry.check(2, "damaged-bundles")
def damaged_bundles(context: Context) -> list[Row]:
    original = _shipped(context, "all-minilm-l6-v2")
    rows = []
    for what, cases in (
        ("manifests", hostile_bundles.MANIFESTS),
        ("files", hostile_bundles.FILES),
        ("graphs, sealed anew", hostile_bundles.GRAPHS),
        ("tokenizers, sealed anew", hostile_bundles.TOKENIZERS),
    ):
        context.say(what)
        rows.append(_row(f"damaged {what}", _damaged(context, original, cases)))
    whole = _probe(context, original, "plain text")
    rows.append(true("the same bundle, undamaged", whole.error == "answered", whole.error, "answered"))
    return rows


@registry.check(2, "bad-inputs")
def bad_inputs(context: Context) -> list[Row]:
    rows = []
    for what, name, cases in (
        ("texts", "all-minilm-l6-v2", probe.TEXTS),
        ("images and arrays", "efficientnet-lite0", probe.IMAGES),
    ):
        bundle = built(name)
        context.say(what)
        refused = {case: _probe(context, bundle, case) for case in cases if case not in probe.ANSWERED}
        rows.append(_row(f"bad {what}", refused))
        good = {case: _probe(context, bundle, case) for case in cases if case in probe.ANSWERED}
        failed = [f"{case}: {met.error} {met.message}"[:160] for case, met in good.items() if met.error != "answered"]
        spread = "; ".join(failed) or ", ".join(good)
        figure = f"{len(good) - len(failed)} of {len(good)}"
        rows.append(true(f"unusual but good {what}: answered", not failed, figure, "all", spread=spread))
        slowest = max((met.seconds for case, met in good.items() if "10 MB" in case), default=None)
        if slowest is not None:
            held = slowest <= TEN_MEGABYTES_SECONDS
            bound = f"<= {TEN_MEGABYTES_SECONDS:g} s"
            rows.append(true("a text of 10 MB, truncated and saying so", held, f"{slowest:.2f} s", bound))
    context.say("image files")
    bundle = built("efficientnet-lite0")
    met = {}
    for case, content in _bad_images().items():
        path = context.folder / "image"
        path.write_bytes(content)
        met[f"file {case}"] = _probe(context, bundle, case, path)
    folder = context.folder / "a folder"
    folder.mkdir()
    met["a folder"] = _probe(context, bundle, "a folder", folder)
    rows.append(_row("bad image files", met))
    return rows


def _shipped(context: Context, name: str) -> Path:
    """A copy of a bundle that holds its default variant alone, as one would ship it."""
    from command_line import must

    bundle = context.folder / name
    shutil.copytree(built(name), bundle)
    must("trim", bundle, "--keep", hostile_bundles.read(bundle)["default_variant"])
    return bundle


def _damaged(context: Context, original: Path, cases: Mapping[str, Damage]) -> dict[str, Met]:
    met = {}
    for case, damage in cases.items():
        place = context.folder / "damaged"
        place.mkdir()
        bundle = place / "bundle"
        shutil.copytree(original, bundle)
        try:
            damage(bundle)
            met[case] = _probe(context, bundle, "plain text")
        except NotCheckableError as reason:
            context.say(f"{case}: not checked. {reason}")
        finally:
            shutil.rmtree(place)
    return met


def _probe(context: Context, bundle: Path, case: str, *files: Path) -> Met:
    scratch = context.folder / "scratch"
    cache = context.folder / "cache"
    for folder in (scratch, cache):
        folder.mkdir(exist_ok=True)
    watched = [bundle.parent, scratch, *([files[0].parent] if files else [])]
    before = _listing(watched)
    names = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    try:
        done = subprocess.run(
            [sys.executable, str(_PROBE), str(bundle), case, *map(str, files)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=120,
            cwd=scratch,
            env={**os.environ, **names, "SANDERLING_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except subprocess.TimeoutExpired:
        return Met("no end within 120 s", False, "", 120.0, 0, ())
    left = tuple(sorted(_listing(watched) - before))
    try:
        error, typed, message, seconds, peak = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Met(f"a crash with status {done.returncode}", False, done.stderr[-200:], 0.0, 0, left)
    return Met(error, typed, message, seconds, peak, left)


def _listing(folders: Iterable[Path]) -> set[str]:
    ours = ("cache", "scratch")
    return {
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if not (folder.name not in ours and path.relative_to(folder).parts[0] in ours)
    }


def _row(what: str, met: Mapping[str, Met]) -> Row:
    wrong = [_complaint(case, found) for case, found in met.items() if not found.refused]
    slowest = max(found.seconds for found in met.values())
    most = max(found.peak for found in met.values())
    errors = ", ".join(sorted({found.error for found in met.values() if found.refused}))
    spread = "; ".join(text[:300] for text in wrong) or f"{errors}; {slowest:.1f} s, {most / 1e6:.0f} MB at most"
    figure = f"{len(met) - len(wrong)} of {len(met)}"
    bound = f"all typed, <= {MAX_SECONDS:g} s, <= {MAX_MEGABYTES} MB"
    return true(what, not wrong, figure, bound, spread=spread)


def _complaint(case: str, found: Met) -> str:
    said = "" if found.typed else f" {found.message}"
    if found.bounded:
        return f"{case}: {found.error}{said}"
    left = ", ".join(found.left) or "nothing"
    return f"{case}: {found.error}{said} ({found.seconds:.1f} s, {found.peak / 1e6:.0f} MB, left {left})"


def _bad_images() -> dict[str, bytes]:
    place = photographs.photographs()["coffee.png"]
    png = place.read_bytes()
    buffer = io.BytesIO()
    Image.open(place).convert("RGB").save(buffer, "JPEG", quality=90)
    jpeg = buffer.getvalue()
    webp = io.BytesIO()
    Image.open(place).convert("RGB").save(webp, "WEBP")
    return {
        "empty": b"",
        "of text": b"not an image\n" * 100,
        "JPEG truncated": jpeg[: len(jpeg) // 2],
        "JPEG of a header alone": jpeg[:300],
        "PNG truncated": png[: len(png) // 2],
        "PNG with a damaged chunk": png[:1000] + bytes(500) + png[1500:],
        "WebP truncated": webp.getvalue()[: len(webp.getvalue()) // 2],
        "60,000 x 60,000 pixels": _png(60_000, 60_000),
        "0 x 0 pixels": _png(0, 0),
        "2^31 x 1 pixels": _png(2**31 - 1, 1),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }


def _png(width: int, height: int) -> bytes:
    """A small PNG file whose header promises that many RGB pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
