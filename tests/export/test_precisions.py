"""Every precision of a transformer: exported, measured, verified; and what is told where one cannot be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sanderling
from sanderling.errors import DriftError, ExportError
from sanderling.verification import verify
from sanderling_export import commands, half
from sanderling_export.pipeline import export
from sanderling_export.quantize import ENOUGH, quantize
from sanderling_export.recipe import DEFAULT_FLOORS, Precision

ALL: tuple[Precision, ...] = get_args(Precision)


def convolution(count: int = 1) -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [count, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [count, 8, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_the_command_line_and_the_floors_know_every_precision() -> None:
    assert commands._PRECISIONS == ALL
    assert set(DEFAULT_FLOORS) == set(ALL)


def test_a_tiny_bert_in_every_precision(checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path) -> None:
    export(checkpoint("bert"), tmp_path / "b", data=lines, variants=ALL)
    report = verify(tmp_path / "b")
    assert report.held, report.failed[:3]
    manifest = sanderling.open_bundle(tmp_path / "b").manifest
    assert manifest.variants == ALL
    found = manifest.components["model"].variants
    for name in ALL:
        drift, invariance = found[name].drift, found[name].invariance
        assert drift is not None
        assert invariance is not None
        assert drift.cosine.mean >= DEFAULT_FLOORS[name].mean_cosine
        if name not in ("int8-dynamic", "fp16"):
            assert min(invariance.batch, *invariance.padding.values()) > 1 - 1e-5, name
    eight, four = found["int8-weight-only"].drift, found["int4-weight-only"].drift
    assert eight is not None
    assert four is not None
    assert four.cosine.mean < eight.cosine.mean
    few = [note for note in manifest.provenance.notes if "samples only" in note]
    assert [note.split(":")[0] for note in few] == ["int8-dynamic", "int8-static"]
    assert f"with {ENOUGH} or more" in few[0]


def test_a_vision_transformer_in_static_ranges(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path
) -> None:
    export(checkpoint("vit"), tmp_path / "v", data=photographs, variants=("fp32", "int8-static"))
    assert verify(tmp_path / "v").held
    notes = sanderling.open_bundle(tmp_path / "v").manifest.provenance.notes
    assert any("products with weights by channel" in note for note in notes)


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic"])
def test_no_samples_to_calibrate_on(precision: Precision) -> None:
    with pytest.raises(ExportError, match=rf"{precision} is calibrated on samples, and there are none.*--data"):
        quantize(convolution(), precision, [])


def test_enough_samples_are_no_reason_to_warn() -> None:
    draw = np.random.default_rng(1)
    feeds = [{"x": draw.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(ENOUGH)]
    assert not any("samples only" in note for note in quantize(convolution(), "int8-static", feeds)[1])
    assert any("99 samples only" in note for note in quantize(convolution(), "int8-static", feeds[1:])[1])


@pytest.mark.parametrize("precision", ["int8-weight-only", "int4-weight-only"])
def test_weight_only_of_a_graph_without_products(precision: Precision) -> None:
    with pytest.raises(ExportError, match=rf"{precision} quantizes products.*takes int8-static"):
        quantize(convolution(), precision, [])


def test_half_precision_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: onnx.ModelProto) -> None:
        raise RuntimeError("no kernel for float16\nand more")

    monkeypatch.setattr(half.graphs, "session", fails)
    with pytest.raises(ExportError, match=r"fp16 cannot be made.*no kernel for float16\).*--variants"):
        quantize(convolution(), "fp16", [])


def test_texts_for_images_and_images_for_texts(
    checkpoint: Callable[[str], Path], lines: Path, photographs: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="folder of images"):
        export(checkpoint("vit"), tmp_path / "v", data=lines)
    with pytest.raises(ExportError, match="one text a line"):
        export(checkpoint("bert"), tmp_path / "b", data=photographs)
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(ExportError, match="holds 0 texts"):
        export(checkpoint("bert"), tmp_path / "b", data=tmp_path / "empty.txt")
    assert not (tmp_path / "b").exists()


def test_a_floor_that_nothing_reaches_says_what_was_reached(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "strict.toml"
    recipe.write_text(
        f'name = "strict"\ncheckpoint = "{checkpoint("bert").as_posix()}"\n'
        "[variants.fp32]\n[variants.int4-weight-only]\nmin_cosine = 1.0\n",
        encoding="utf-8",
    )
    with pytest.raises(DriftError, match=r"int4-weight-only is too far.*minimum cosine [01]\.\d+, floor 1"):
        export(recipe, tmp_path / "b", data=lines)
    assert not (tmp_path / "b").exists()
