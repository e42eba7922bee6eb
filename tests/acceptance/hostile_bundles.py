"""Ways to damage a copy of a bundle, or to seal something hostile into it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checks import NotCheckableError

Damage = Callable[[Path], None]
MANIFEST = "bundle.json"


def read(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    return found


def changed(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """The manifest, decoded, changed and written again."""

    def damage(bundle: Path) -> None:
        manifest = read(bundle)
        change(manifest)
        (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    return damage


def manifest_of(content: bytes) -> Damage:
    return lambda bundle: void((bundle / MANIFEST).write_bytes(content))


def void(_: object) -> None:
    """Drops a value, for the sake of the type."""


def graph_of(bundle: Path) -> Path:
    """The graph that a plain load reads."""
    manifest = read(bundle)
    component = next(iter(manifest["components"].values()))
    forms = component["variants"][manifest["default_variant"]]["forms"]
    return bundle / str((forms.get("padded") or next(iter(forms.values())))["graph"])


def tokenizer_of(bundle: Path) -> Path:
    return bundle / str(read(bundle)["preprocessing"]["text"]["tokenizer"])


def sealed(path_of: Callable[[Path], Path], content: Callable[[bytes], bytes]) -> Damage:
    """A file replaced, and its new size and hash written into the manifest, as one would who means harm."""

    def damage(bundle: Path) -> None:
        path = path_of(bundle)
        data = content(path.read_bytes())
        path.write_bytes(data)
        entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        changed(lambda manifest: manifest["files"].update({path.relative_to(bundle).as_posix(): entry}))(bundle)

    return damage


def _truncated(bundle: Path) -> None:
    raw = (bundle / MANIFEST).read_bytes()
    (bundle / MANIFEST).write_bytes(raw[: len(raw) // 2])


def _is_a_folder(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()
    (bundle / MANIFEST).mkdir()


def _renamed(name: str) -> Damage:
    """The graph's entry in the manifest leads elsewhere."""

    def change(manifest: dict[str, Any]) -> None:
        component = next(iter(manifest["components"].values()))
        form = next(iter(component["variants"][manifest["default_variant"]]["forms"].values()))
        manifest["files"][name] = manifest["files"][form["graph"]]
        form["graph"] = name

    return changed(change)


def _one_byte_changed(bundle: Path) -> None:
    path = graph_of(bundle)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def _graph_a_folder(bundle: Path) -> None:
    path = graph_of(bundle)
    path.unlink()
    path.mkdir()


def _link(bundle: Path, path: Path) -> None:
    outside = bundle.with_name(bundle.name + "-outside")
    shutil.move(path, outside)
    try:
        path.symlink_to(outside, target_is_directory=outside.is_dir())
    except OSError as error:
        raise NotCheckableError(f"Links cannot be made here ({error.strerror}).") from error


def _pipe(bundle: Path) -> None:
    path = graph_of(bundle)
    path.unlink()
    if sys.platform != "win32":
        os.mkfifo(path)


def _input_renamed(manifest: dict[str, Any]) -> None:
    next(iter(manifest["components"].values()))["inputs"][0]["name"] = "another_input"


def _input_of_another_dtype(manifest: dict[str, Any]) -> None:
    next(iter(manifest["components"].values()))["inputs"][0]["dtype"] = "float64"


def _input_of_another_rank(manifest: dict[str, Any]) -> None:
    next(iter(manifest["components"].values()))["inputs"][0]["shape"].append(3)


def _wrong_dimension(manifest: dict[str, Any]) -> None:
    manifest["postprocessing"]["dimension"] += 1


def _tokenizer(**parts: Any) -> Damage:
    return sealed(tokenizer_of, lambda raw: json.dumps({**json.loads(raw), **parts}).encode())


_DEEP = 200_000
MANIFESTS: dict[str, Damage] = {
    "missing": lambda bundle: (bundle / MANIFEST).unlink(),
    "a folder": _is_a_folder,
    "empty": manifest_of(b""),
    "truncated": _truncated,
    "random": manifest_of(os.urandom(5000)),
    "not UTF-8": manifest_of(b'{"format": "\xff\xfe"}'),
    "a list": manifest_of(b"[]"),
    "nested lists": manifest_of(b"[" * _DEEP),
    "nested objects": manifest_of(b'{"a":' * _DEEP + b"1" + b"}" * _DEEP),
    "nested in a field": changed(lambda m: m.update(future=json.loads("[" * 900 + "]" * 900)) or m.update(files=[])),
    "20 MB": manifest_of(b'{"format": "' + b"a" * 20_000_000 + b'"}'),
    "files a number": changed(lambda m: m.update(files=5)),
    "components a list": changed(lambda m: m.update(components=[])),
    "no components": changed(lambda m: m.update(components={})),
    "a size below 0": changed(lambda m: next(iter(m["files"].values())).update(size=-1)),
    "another format": changed(lambda m: m.update(format="something-else")),
    "version 2.0": changed(lambda m: m.update(version="2.0")),
    "version 99999999999.0": changed(lambda m: m.update(version="9" * 11 + ".0")),
    "version a number": changed(lambda m: m.update(version=1.0)),
    "no such default variant": changed(lambda m: m.update(default_variant="int3")),
    "a task of the future": changed(lambda m: m.update(task="mind-reading")),
}
FILES: dict[str, Damage] = {
    "graph missing": lambda bundle: graph_of(bundle).unlink(),
    "graph changed in one byte": _one_byte_changed,
    "graph longer": lambda bundle: void(graph_of(bundle).write_bytes(graph_of(bundle).read_bytes() + b"\0")),
    "graph a folder": _graph_a_folder,
    "graph a pipe": _pipe,
    "graph a link": lambda bundle: _link(bundle, graph_of(bundle)),
    "folder a link": lambda bundle: _link(bundle, graph_of(bundle).parent),
    "manifest a link": lambda bundle: _link(bundle, bundle / MANIFEST),
    "tokenizer missing": lambda bundle: tokenizer_of(bundle).unlink(),
    "path leading up": _renamed("../outside.onnx"),
    "path leading up further in": _renamed("a/../../outside.onnx"),
    "absolute path": _renamed("/etc/hostname"),
    "drive letter": _renamed("C:/outside.onnx"),
    "backslashes": _renamed("..\\outside.onnx"),
    "path with NUL": _renamed("a\0b.onnx"),
    "path not listed": changed(lambda m: m["files"].clear()),
}
GRAPHS: dict[str, Damage] = {
    "0 bytes": sealed(graph_of, lambda _: b""),
    "random": sealed(graph_of, lambda _: os.urandom(100_000)),
    "cut in half": sealed(graph_of, lambda raw: raw[: len(raw) // 2]),
    "cut at the end": sealed(graph_of, lambda raw: raw[:-10]),
    "a text": sealed(graph_of, lambda _: b"not a graph " * 1000),
    "an input of another name": changed(_input_renamed),
    "an input of another dtype": changed(_input_of_another_dtype),
    "an input of another rank": changed(_input_of_another_rank),
    "another dimension": changed(_wrong_dimension),
}
TOKENIZERS: dict[str, Damage] = {
    "empty": sealed(tokenizer_of, lambda _: b""),
    "random": sealed(tokenizer_of, lambda _: os.urandom(5000)),
    "cut": sealed(tokenizer_of, lambda raw: raw[: len(raw) // 2]),
    "nested": sealed(tokenizer_of, lambda _: b'{"a":' * _DEEP),
    # Both make tokenizers 0.20 to 0.22 panic: the first while it reads the file, the second on the first text.
    "that panics as it is read": _tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "that panics on a text": _tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}),
}
