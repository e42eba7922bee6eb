"""Reading golden samples: tensors of any honest safetensors file, and every lie of a header refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

from sanderling.bundle import open_bundle
from sanderling.errors import ManifestError, SanderlingError
from sanderling.golden import read_golden, read_safetensors

CopyBundle = Callable[[Path], Path]

DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint16, np.bool_]


def packed(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_tensors_written_by_safetensors_come_back(dtype: Any, data: st.DataObject) -> None:
    made = data.draw(arrays(dtype, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)))
    found = read_safetensors(save({"a": made, "b": np.arange(3)}), "file")
    assert found["a"].dtype == made.dtype
    assert found["a"].shape == made.shape
    assert found["a"].tobytes() == made.tobytes()
    assert found["b"].tolist() == [0, 1, 2]


def test_metadata_is_no_tensor_and_overlaps_are_harmless() -> None:
    header = {"__metadata__": {"by": "hand"}, **entry(), "u": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}
    found = read_safetensors(packed(header, np.array([1, 2], "<f4").tobytes()), "file")
    assert found["t"].tolist() == [1, 2]
    assert found["u"].shape == (4,)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        b"\1" + b"\0" * 7 + b"{",
        packed(b"{}", length=3),
        packed(b"{}", length=2**20 + 1),
        packed(b"{}", length=2**63),
        packed(b"{}", length=2**64 - 1),
        packed(b" " * (2**20 + 1)),
    ],
    ids=["empty", "seven bytes", "no header", "one byte", "beyond", "too long", "2^63", "2^64", "a megabyte"],
)
def test_a_header_length_that_cannot_be_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestError, match="file is no safetensors file, or only a part of one"):
        read_safetensors(raw, "file")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{]",
        b"\xff\xff",
        b'{"t": 1}',
        b'{"t": {}}',
        b"[" * 100_000,
        b'{"t":' + b"[" * 100_000,
        b'{"t": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        json.dumps(entry(dtype=7)).encode(),
        json.dumps(entry(shape="2")).encode(),
        json.dumps(entry(shape=[-2])).encode(),
        json.dumps(entry(shape=[2.5])).encode(),
        json.dumps(entry(shape=[2**41])).encode(),
        json.dumps(entry(offsets=[0])).encode(),
        json.dumps(entry(offsets=[0, 4, 8])).encode(),
        json.dumps(entry(offsets=[-8, 0])).encode(),
        json.dumps(entry(offsets=[0, 2**64])).encode(),
    ],
)
def test_a_header_of_wrong_types_is_refused(header: bytes) -> None:
    with pytest.raises(ManifestError, match="file has no valid safetensors header"):
        read_safetensors(packed(header, b"\0" * 8), "file")


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ((2,), (0, 12)),
        ((2,), (0, 4)),
        ((3,), (0, 8)),
        ((2,), (1, 9)),
        ((2,), (8, 0)),
        ((2,), (100, 108)),
        ((0,), (9, 9)),
        ((2**40, 2**40), (0, 8)),
        ((2**32, 2**32), (0, 0)),
        ((2**40, 2**40, 0), (0, 0)),
        ((1,) * 17, (0, 4)),
        ((1,) * 70, (0, 4)),
    ],
)
def test_a_tensor_that_does_not_fit_its_place_is_refused(shape: tuple[int, ...], offsets: tuple[int, int]) -> None:
    with pytest.raises(ManifestError, match="file: the tensor 't' does not fit its place in the file"):
        read_safetensors(packed(entry(shape=shape, offsets=offsets), b"\0" * 8), "file")


def test_a_shape_of_very_many_extents_is_refused_before_it_is_multiplied() -> None:
    header = packed(entry(shape=[2**40] * 60_000), b"\0" * 8)
    with pytest.raises(ManifestError, match="does not fit its place"):
        read_safetensors(header, "file")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "f32", "O", "", "|O8", "F32" * 100])
def test_an_unknown_dtype_is_named_in_short(dtype: str) -> None:
    with pytest.raises(ManifestError, match="the tensor 't' has the dtype") as raised:
        read_safetensors(packed(entry(dtype=dtype), b"\0" * 8), "file")
    assert len(str(raised.value)) < 120


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(raw: bytes) -> None:
    try:
        read_safetensors(raw, "file")
    except SanderlingError:
        return
    assert len(raw) >= 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I8", "BOOL", "X"]) | JSON,
        "shape": st.lists(st.integers(0, 4) | st.integers(0, 2**41), max_size=4) | JSON,
        "data_offsets": st.tuples(st.integers(0, 40), st.integers(0, 40)) | JSON,
    }
)


@given(st.dictionaries(st.text(max_size=5), ENTRY | JSON, max_size=3), st.binary(max_size=40))
def test_random_headers_are_refused_or_read(header: dict[str, Any], data: bytes) -> None:
    try:
        found = read_safetensors(packed(header, data), "file")
    except SanderlingError:
        return
    assert all(tensor.nbytes <= len(data) for tensor in found.values())


def test_the_samples_of_a_bundle(embedding_bundle: Path) -> None:
    golden = read_golden(open_bundle(embedding_bundle))
    assert {sample.id: sample.text for sample in golden.samples} == tiny_bundles.TEXTS
    for sample in golden.samples:
        assert sample.text is not None
        assert np.array_equal(golden.output(sample), tiny_bundles.reference_embedding(sample.text))
        (name, ids) = next(iter(golden.inputs(sample).items()))
        assert name == "input_ids"
        assert ids.tolist() == tiny_bundles.token_ids(sample.text)


def test_the_answer_is_float32_whatever_was_stored(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    tiny_bundles.find(bundle, "samples.json").write_bytes(b'[{"id": "a", "text": "b"}]')
    tiny_bundles.find(bundle, "tensors.safetensors").write_bytes(save({"a.output": np.arange(8, dtype=np.float64)}))
    tiny_bundles.reseal(bundle)
    golden = read_golden(open_bundle(bundle))
    assert golden.output(golden.samples[0]).dtype == np.float32
    assert golden.inputs(golden.samples[0]) == {}


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (b"", "is no valid list of golden samples"),
        (b"{}", "is no valid list of golden samples"),
        (b"[" * 100_000, "is no valid list of golden samples"),
        (b'[{"id": "../up", "text": ""}]', "is no valid list of golden samples"),
        (b'[{"id": "a", "image": "/etc/passwd"}]', "is no valid list of golden samples"),
        (b"[]", "needs 1 to 10,000 golden samples"),
        (b'[{"id": "plain", "text": ""}, {"id": "plain", "text": ""}]', "each with an id of its own"),
        (b'[{"id": "plain"}]', "sample 'plain' needs either a text or an image"),
        (b'[{"id": "plain", "text": "", "image": "a.png"}]', "sample 'plain' needs either a text or an image"),
        (b'[{"id": "other", "text": ""}]', "sample 'other' has no reference output among the tensors"),
    ],
)
def test_samples_that_make_no_sense_are_refused(
    copy_bundle: CopyBundle, embedding_bundle: Path, samples: bytes, message: str
) -> None:
    bundle = copy_bundle(embedding_bundle)
    tiny_bundles.find(bundle, "samples.json").write_bytes(samples)
    tiny_bundles.reseal(bundle)
    with pytest.raises(ManifestError, match=message):
        read_golden(open_bundle(bundle))
