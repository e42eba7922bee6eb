"""The inputs that a variant answers worst are named in the bundle, and a user's own texts are not quoted there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

import sanderling
from sanderling_export import drift, export


@given(arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-10, 10, width=32)))
def test_the_worst_come_first_and_none_is_worse(rows: NDArray[np.float32]) -> None:
    expected = np.tile(np.array([1, 2, -3], np.float32), (len(rows), 1))
    names = [str(place) for place in range(len(rows))]
    found = drift.measure(rows, expected, labels=False, names=names)
    assert len(found.worst) == min(5, len(rows))
    assert found.worst[0].cosine == found.cosine.min
    cosines = [one.cosine for one in found.worst]
    assert cosines == sorted(cosines)
    for one in found.worst:
        alone = drift.measure(rows[[int(one.name)]], expected[:1], labels=False)
        assert alone.cosine.min == one.cosine
        assert alone.worst == ()
    for name in set(names) - {one.name for one in found.worst}:
        assert drift.measure(rows[[int(name)]], expected[:1], labels=False).cosine.min >= cosines[-1]


def test_names_say_what_an_input_is() -> None:
    items = ["low tide", "a" * 61, "\ud800 lone", Image.new("RGB", (40, 30)), np.zeros((5, 6, 3), np.uint8)]
    assert drift.name_inputs(items, quoted=True) == [
        "text 1: low tide",
        f"text 2: {'a' * 60}…",
        "text 3: ? lone",
        "image 4 (40 x 30)",
        "image 5",
    ]
    assert drift.name_inputs(items[:2], quoted=False) == ["text 1 (8 characters)", "text 2 (61 characters)"]


@given(st.text(), st.booleans())
def test_every_name_fits_its_field(text: str, quoted: bool) -> None:
    (name,) = drift.name_inputs([text], quoted=quoted)
    assert len(name) <= 200
    name.encode()


def test_an_export_names_its_worst_inputs_and_quotes_no_text_of_the_user(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    target = export(checkpoint("bert"), tmp_path / "bundle", data=lines, variants=["fp32", "int8-dynamic"])
    (component,) = sanderling.open_bundle(target).manifest.components.values()
    for variant in component.variants.values():
        assert variant.drift is not None
        assert len(variant.drift.worst) == 5
        assert variant.drift.worst[0].cosine == variant.drift.cosine.min
        assert all(one.name.endswith(" characters)") for one in variant.drift.worst)
