"""Smaller vectors: what they are, what they compare like, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import sanderling
from sanderling import precisions, spaces
from sanderling.errors import InputError

ROWS = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(16)), elements=st.floats(-100, 100, width=32))
TEXTS = ["the sea", "a small bird", "", "word word"]


@given(ROWS)
def test_eight_bits_are_within_half_a_step(rows: NDArray[np.float32]) -> None:
    whole, scales = precisions.compress(rows, "int8")
    assert whole.dtype == np.int8
    assert scales is not None
    assert np.abs(whole.astype(np.int64)).max() <= 127
    back = precisions.expand(whole, "int8", scales)
    assert (np.abs(back - rows) <= 0.5001 * scales[:, None] + 1e-30).all()


@given(ROWS)
def test_bits_are_signs(rows: NDArray[np.float32]) -> None:
    bits, scales = precisions.compress(rows, "binary")
    assert bits.shape == (len(rows), 2)
    assert scales is None
    np.testing.assert_array_equal(precisions.expand(bits, "binary", None), np.where(rows > 0, 1, -1))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "binary"])
def test_a_model_answers_in_each(precision: precisions.Precision, embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle) as model:
        whole, found, one = model(TEXTS), model(TEXTS, precision=precision), model(TEXTS[0], precision=precision)
        streamed = list(model.stream(TEXTS, precision=precision))
    assert (found.precision, one.precision, found.space) == (precision, precision, whole.space)
    np.testing.assert_array_equal(found[0].embedding, one.embedding)
    np.testing.assert_array_equal(found[0].floats, found.floats[0])
    np.testing.assert_array_equal(streamed[1].floats, found.floats[1])
    near = sanderling.similarity(found, whole).diagonal()
    assert near.min() > {"float32": 0.999999, "float16": 0.99999, "int8": 0.9995, "binary": 0.5}[precision]
    assert "numbers" in repr(one)


def test_similarity_of_bits_counts_those_that_are_equal(embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle) as model:
        bits = model(TEXTS, precision="binary")
    unpacked = np.unpackbits(bits.embeddings, axis=1)
    equal = (unpacked[:, None] == unpacked[None]).mean(axis=2)
    np.testing.assert_allclose(sanderling.similarity(bits, bits), 2 * equal - 1, atol=1e-6)


def test_what_cannot_be_is_refused(embedding_bundle: Path, text_bundle: Path) -> None:
    with sanderling.load(embedding_bundle) as model:
        with pytest.raises(InputError, match="precision is 'int4'; one of float32, float16, int8, binary was expected"):
            model("sea", precision="int4")  # type: ignore[call-overload]
        with pytest.raises(InputError, match="5 numbers have no whole bytes of bits; a multiple of 8 was expected"):
            model("sea", precision="binary", dimensions=5)
    with pytest.raises(InputError, match="up to 70000, beyond float16's 65504"):
        precisions.compress(np.array([[7e4]], np.float32), "float16")
    with pytest.raises(InputError, match="dimensions goes with embedding models"):
        sanderling.load(text_bundle, dimensions=2)


def test_derived_spaces_are_distinct_and_stable() -> None:
    space = "a" * 64
    assert spaces.derived(space) == space
    found = {spaces.derived(space, dimensions=d, normalize=n) for d in (None, 8, 16) for n in (None, True, False)}
    assert len(found) == 9
    # SHA-256 of {"dimensions":8,"space":"aa..."}, by another implementation of JSON.
    import hashlib

    assert (
        spaces.derived(space, dimensions=8)
        == hashlib.sha256(b'{"dimensions":8,"space":"' + space.encode() + b'"}').hexdigest()
    )
