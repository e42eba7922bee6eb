"""Manifests that are damaged, contradictory, hostile or from the future: ManifestError, in bounded time, or read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling.codec import decode, encode, read_header
from sanderling.errors import ManifestError
from sanderling.manifest import MAX_MANIFEST_BYTES, Manifest
from sanderling.schema.preprocessing import Normalize, Resize

Change = Callable[[dict[str, Any]], Any]

GOOD: dict[str, Any] = {
    "format": "sanderling-bundle",
    "version": "1.0",
    "name": "tiny",
    "family": "embedding",
    "task": "feature-extraction",
    "default_variant": "fp32",
    "components": {
        "model": {
            "inputs": [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}],
            "outputs": [{"name": "out", "dtype": "float32", "shape": ["batch", 8]}],
            "variants": {
                "fp32": {
                    "forms": {"padded": {"graph": "b/model.onnx", "data": ["b/weights.bin"]}},
                    "tolerance": {"min_cosine": 0.999},
                }
            },
        }
    },
    "preprocessing": {"text": {"tokenizer": "b/tokenizer.json", "max_tokens": 16, "prompts": {"query": "query: "}}},
    "postprocessing": {"type": "embedding", "output": "out", "pooling": "none", "normalize": True, "dimension": 8},
    "golden": {"samples": "b/samples.json", "tensors": "b/tensors.safetensors"},
    "provenance": {"checkpoint": "made by hand", "checkpoint_sha256": "0" * 64, "license": "apache-2.0"},
    "files": {
        f"b/{name}": {"size": 3, "sha256": "a" * 64}
        for name in ("model.onnx", "weights.bin", "tokenizer.json", "samples.json", "tensors.safetensors")
    },
    "space": "5" * 64,
}
IMAGE_STEPS: list[dict[str, Any]] = [
    {"op": "resize", "height": 4, "width": 4, "resample": "bilinear"},
    {"op": "rescale", "factor": 0.5},
    {"op": "normalize", "mean": [0, 0, 0], "std": [1, 1, 1]},
]


def changed(change: Change) -> bytes:
    manifest = copy.deepcopy(GOOD)
    change(manifest)
    return json.dumps(manifest).encode()


def put(*path: Any) -> Change:
    """A change that sets the last of `path` at the place the others lead to."""
    *keys, last, value = path

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in keys:
            place = place[key]
        place[last] = value

    return change


def with_steps(*steps: dict[str, Any]) -> Change:
    return put("preprocessing", "image", {"steps": list(steps)})


VARIANTS = ("components", "model", "variants")
FORM = (*VARIANTS, "fp32", "forms", "padded")


def test_a_good_manifest_is_read_and_written_back() -> None:
    manifest = decode(json.dumps(GOOD).encode(), "here")
    assert manifest.variants == ("fp32",)
    assert decode(encode(manifest), "here") == manifest
    assert encode(manifest).endswith(b"}\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode() + b"{}",
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).encode().replace(b'"tiny"', b'"\xff"'),
        json.dumps(GOOD).encode().replace(b'"made by hand"', b'"\\ud800"'),
        json.dumps(GOOD).encode().replace(b"0.999", b"NaN"),
        json.dumps(GOOD).encode().replace(b"0.999", b"1e999"),
        json.dumps(GOOD).encode().replace(b"16", b"9" * 5000),
    ],
)
def test_what_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^here/bundle\.json is no valid manifest: .+ export it again\.$"):
        decode(raw, "here/bundle.json")


def test_cut_anywhere() -> None:
    raw = encode(decode(json.dumps(GOOD).encode(), "here"))
    for length in range(len(raw) - 2):
        with pytest.raises(ManifestError):
            decode(raw[:length], "here")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_changed_bytes_are_an_error_or_a_manifest(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(GOOD).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(decode(bytes(raw), "here"), Manifest)
    except ManifestError as error:
        assert str(error).startswith("here")  # noqa: PT017


@pytest.mark.parametrize("bracket", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("key", ["unknown", "name", "files", "components", "preprocessing"])
@pytest.mark.parametrize("closed", [True, False])
def test_deep_nesting_in_known_and_unknown_fields(bracket: tuple[str, str], key: str, closed: bool) -> None:
    depth = 100_000
    nested = bracket[0] * depth + "1" + (bracket[1] * depth if closed else "")
    rest = json.dumps({k: v for k, v in GOOD.items() if k != key})
    for raw in (f'{{"{key}":{nested},{rest[1:]}', f'{rest[:-1]},"{key}":{nested}}}', nested):
        with pytest.raises(ManifestError):
            decode(raw.encode(), "here")


def test_a_manifest_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgspec.json, "decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ManifestError, match=r"has 16,777,217 bytes; a manifest has at most 16,777,216"):
        decode(b" " * (MAX_MANIFEST_BYTES + 1), "here")


def test_unknown_fields_and_minor_versions_are_ignored() -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["version"] = "1.73"
        manifest["later"] = {"deep": [{"er": [1, 2.5, None, True, "x"]}]}
        manifest["components"]["model"]["variants"]["fp32"]["later"] = 1
        manifest["files"]["b/model.onnx"]["blake3"] = "x"

    later = decode(changed(change), "here")
    assert later == msgspec.structs.replace(decode(json.dumps(GOOD).encode(), "here"), version="1.73")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2.0", r"format version 2\.0; this Sanderling reads version 1\.x\. Update it: pip install -U sanderling"),
        ("999999999.0", r"Update it"),
        ("0.9", r"format version 0\.9; .* Export the bundle again"),
        *(
            (v, 'expected "MAJOR.MINOR"')
            for v in ("", "1", "1.", ".1", "a.b", "-1.0", "1.0.0", " 1.0", "1.0\n", "1e1.0")
        ),
        ("٣.0", 'expected "MAJOR.MINOR"'),
        ("1" * 5000 + ".0", 'expected "MAJOR.MINOR"'),
        ("1." + "0" * 5000, None),
    ],
)
def test_versions(version: str, message: str | None) -> None:
    raw = changed(put("version", version))
    if message is None:
        assert decode(raw, "here").version == version
        return
    with pytest.raises(ManifestError, match=message) as caught:
        decode(raw, "here")
    assert len(str(caught.value)) < 400


def test_a_future_version_is_named_whatever_else_changed() -> None:
    raw = b'{"version": "2.1", "format": "sanderling-bundle", "components": "elsewhere"}'
    with pytest.raises(ManifestError, match=r"format version 2\.1"):
        decode(raw, "here")
    assert read_header(raw, "here").version == "2.1"


def test_another_format_is_named() -> None:
    with pytest.raises(ManifestError, match="format 'webpack', expected 'sanderling-bundle'"):
        decode(changed(put("format", "webpack")), "here")


BAD_PATHS = [
    *("../x", "x/../y", "..", "/x", "//x", "a//b", "a/", "", ".", "./x", "a/./b", ".hidden", "a/.hidden/b", "~/x"),
    *("a\\b", "..\\x", "C:x", "C:/x", "C:\\x", "a:b", "\\\\host\\x", "x\0", "x\n", "x\r", "a\n/b", "x ", " x", "a b"),
    *("x.", "a./b", "x..", "é", "x*", "x?", "-x", "a/-x", "x" * 241, "%2e%2e/x", "‮x"),
    *("con", "NUL", "a/aux.onnx", "Com1.tar.gz", "lpt9/x"),
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_are_not_portable_are_refused_wherever_they_stand(path: str) -> None:
    entry = GOOD["files"]["b/model.onnx"]
    with pytest.raises(ManifestError):
        decode(changed(lambda m: m["files"].update({path: entry})), "here")
    for place in (
        (*FORM, "graph"),
        ("golden", "samples"),
        ("golden", "tensors"),
        ("preprocessing", "text", "tokenizer"),
    ):
        with pytest.raises(ManifestError):
            decode(changed(lambda m, place=place: (put(*place, path)(m), m["files"].update({path: entry}))), "here")


@pytest.mark.parametrize(
    "path", ["x", "_x", "a/b/c.d", "a..b", "a-_.b", "0", "A/b", "console", "com", "com10", "x" * 240]
)
def test_paths_that_are_portable_are_taken(path: str) -> None:
    entry = GOOD["files"]["b/model.onnx"]
    assert path in decode(changed(lambda m: m["files"].update({path: entry})), "here").files


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab./\\:\n\0 -_~", max_size=8))
def test_no_path_that_is_taken_leads_out(path: str) -> None:
    entry = GOOD["files"]["b/model.onnx"]
    try:
        decode(changed(lambda m: m["files"].update({path: entry})), "here")
    except ManifestError:
        return
    parts = path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert not set("\\:\n\0 ") & set(path)
    base = Path("/bundle")
    assert (base / path).resolve().is_relative_to(base.resolve())


def test_two_paths_that_differ_in_case_alone_are_refused() -> None:
    entry = GOOD["files"]["b/model.onnx"]
    with pytest.raises(ManifestError, match=r"both 'b/model.onnx' and 'B/Model.ONNX'"):
        decode(changed(lambda m: m["files"].update({"B/Model.ONNX": entry})), "here")


@pytest.mark.parametrize("name", ["bundle.json", "Bundle.JSON"])
def test_a_manifest_that_lists_itself_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="itself"):
        decode(changed(lambda m: m["files"].update({name: m["files"]["b/model.onnx"]})), "here")


@pytest.mark.parametrize(
    "change",
    [
        put("files", "b/model.onnx", "sha256", "a" * 64 + "\n"),
        put("files", "b/model.onnx", "sha256", "A" * 64),
        put("files", "b/model.onnx", "sha256", "a" * 63),
        put("files", "b/model.onnx", "size", -1),
        put("files", "b/model.onnx", "size", 1.5),
        put("files", "b/model.onnx", "size", 2**53 + 1),
        put("files", "b/model.onnx", "size", 2**80),
        put("files", "b/model.onnx", "size", "3"),
        put("files", "b/model.onnx", "size", True),
        put("files", []),
        put("name", "tiny\n"),
        put("name", "../tiny"),
        put("name", ""),
        put("name", 7),
        put("task", "telepathy"),
        put("components", {}),
        put("components", "model", "inputs", []),
        put("components", "model", "outputs", "x"),
        put(*VARIANTS, {}),
        put(*VARIANTS, "fp32", "forms", {}),
        put(*VARIANTS, "fp32", "tolerance", "min_cosine", 1.5),
        put("components", "model", "inputs", 0, "shape", [-1]),
        put("components", "model", "inputs", 0, "shape", [1.5]),
        put("components", "model", "inputs", 0, "dtype", "complex64"),
        put("preprocessing", "text", "max_tokens", 0),
        put("preprocessing", "text", "max_tokens", 10**12),
        put("postprocessing", "type", "oracle"),
        put("postprocessing", "dimension", 0),
        put("postprocessing", "pooling", "eval"),
        with_steps(),
        with_steps(*IMAGE_STEPS * 6),
        with_steps({"op": "exec"}),
        with_steps({"op": "resize", "height": 0, "width": 4, "resample": "bilinear"}),
        with_steps({"op": "resize", "height": 10**9, "width": 4, "resample": "bilinear"}),
        with_steps({"op": "normalize", "mean": [0, 0], "std": [1, 1, 1]}),
    ],
)
def test_wrong_types_and_ranges(change: Change) -> None:
    with pytest.raises(ManifestError, match="is no valid manifest"):
        decode(changed(change), "here")


@pytest.mark.parametrize("key", [k for k in GOOD if k != "space"])
def test_a_field_that_is_missing_is_named(key: str) -> None:
    with pytest.raises(ManifestError, match=f"`{key}`"):
        decode(changed(lambda m: m.pop(key)), "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("default_variant", "int8"), r"default variant 'int8' is not among .* \(fp32\)"),
        (
            put(*FORM, "graph", "b/other.onnx"),
            r"variant 'fp32' names the file 'b/other.onnx', which is not in its list",
        ),
        (put(*FORM, "data", ["b/other.bin"]), r"names the file 'b/other.bin', which is not in its list"),
        (put(*FORM, "graph", "b/weights.bin"), r"the graph 'b/weights.bin'; a graph's name ends in \.onnx"),
        (put("golden", "samples", "b/none"), r"golden names the file 'b/none'"),
        (put("provenance", "license_file", "b/none"), r"provenance names the file 'b/none'"),
        (put("preprocessing", "text", "tokenizer", "b/none"), r"preprocessing\.text names the file 'b/none'"),
        (put("preprocessing", "text", "default_prompt", "passage"), r"default prompt 'passage' .* \('query'\)"),
        (put("preprocessing", {}), r"needs preprocessing\.image"),
        (put("task", "image-classification"), r"needs preprocessing\.image"),
        (put("task", "text-classification"), r"needs a postprocessing of type 'classification'"),
        (put("space", None), r"needs the fingerprint of its space"),
        (put("postprocessing", "output", "logits"), r"reads the output 'logits'; the graphs have out"),
        (with_steps({"op": "rescale"}), r"either a factor or a divisor"),
        (with_steps({"op": "rescale", "factor": 1, "divisor": 1}), r"either a factor or a divisor"),
        (with_steps({"op": "rescale", "divisor": 0}), r"divisor other than 0"),
        (with_steps({"op": "normalize", "mean": [0, 0, 0], "std": [1, 0, 1]}), r"std of 0"),
        (with_steps(*reversed(IMAGE_STEPS)), r"resize and crop steps stand before"),
    ],
)
def test_contradictions_say_what_contradicts_what(change: Change, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        decode(changed(change), "here")


def test_a_graph_of_another_format_cannot_slip_by_its_name() -> None:
    """ONNX Runtime reads `.ort` files as flatbuffers, which the check of graphs does not understand."""
    for name in ("b/model.ort", "b/model.ONNX", "b/model"):
        manifest = copy.deepcopy(GOOD)
        put(*FORM, "graph", name)(manifest)
        manifest["files"][name] = manifest["files"].pop("b/model.onnx")
        with pytest.raises(ManifestError, match=r"a graph's name ends in \.onnx"):
            decode(json.dumps(manifest).encode(), "here")


def test_steps_are_read_in_order() -> None:
    steps = decode(changed(with_steps(*IMAGE_STEPS)), "here").preprocessing.image
    assert steps is not None
    assert isinstance(steps.steps[0], Resize)
    assert isinstance(steps.steps[2], Normalize)
