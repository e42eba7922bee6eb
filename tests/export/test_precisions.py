"""Every precision of a transformer: exported, measured, verified; and what is told where one cannot be made."""

from __future__ import annotations

import re
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
from sanderling_export import half
from sanderling_export.pipeline import export
from sanderling_export.quantize import ENOUGH, quantize
from sanderling_export.ranges import Method
from sanderling_export.recipe import DEFAULT_FLOORS, Precision
from sanderling_export.settings import Block, Settings

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


def test_every_precision_has_a_floor() -> None:
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


def test_a_first_percentile_below_its_floor_is_named(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "strict.toml"
    recipe.write_text(
        f'name = "strict"\ncheckpoint = "{checkpoint("bert").as_posix()}"\ndefault_variant = "fp32"\n'
        "[variants.fp32]\n[variants.int4-weight-only]\nmean_cosine = -1.0\nmin_cosine = -1.0\nmin_p01 = 1.0\n",
        encoding="utf-8",
    )
    with pytest.raises(DriftError, match=r"int4-weight-only is too far.*: 1st percentile of cosine [01]\.\d+, floor 1"):
        export(recipe, tmp_path / "b", data=lines)
    assert not (tmp_path / "b").exists()
    export(recipe, tmp_path / "b", data=lines, keep_failing=True)
    notes = sanderling.open_bundle(tmp_path / "b").manifest.provenance.notes
    assert any(note.startswith("int4-weight-only is below its floor: 1st percentile") for note in notes)


def test_speed_is_beside_fp32_with_its_interval(checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path) -> None:
    export(checkpoint("bert"), tmp_path / "b", data=lines, variants=("fp32", "int8-static"))
    manifest = sanderling.open_bundle(tmp_path / "b").manifest
    variants = manifest.components["model"].variants
    assert variants["fp32"].speed is None
    assert variants["int8-static"].speed is not None
    (note,) = [note for note in manifest.provenance.notes if "times fp32's speed" in note]
    value, low, high = (float(figure) for figure in re.findall(r"\d+\.\d+", note))
    assert low <= value <= high
    assert abs(value - variants["int8-static"].speed) < 0.01


def test_images_are_measured_alone_and_among_mates(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path
) -> None:
    export(checkpoint("vit"), tmp_path / "v", data=photographs, variants=("fp32", "int8-static"))
    for variant in sanderling.open_bundle(tmp_path / "v").manifest.components["model"].variants.values():
        assert variant.invariance is not None
        assert variant.invariance.batch > 1 - 1e-5
        assert variant.invariance.padding == {}


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "int8-weight-only"])
def test_a_node_that_cannot_be_quantized_is_named_and_left(precision: Precision) -> None:
    draw = np.random.default_rng(3)
    constants = {
        "w": draw.normal(size=(16, 8)),
        "lstm_w": draw.normal(size=(1, 16, 8)),
        "lstm_r": draw.normal(size=(1, 16, 4)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], "product"),
        helper.make_node("LSTM", ["product", "lstm_w", "lstm_r"], ["y"], "memory", hidden_size=4),
    ]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", "batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", 1, "batch", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    feeds = [{"x": draw.normal(size=(6, 1, 16)).astype(np.float32)} for _ in range(ENOUGH)]
    made, notes = quantize(model, precision, feeds)
    assert f"{precision}: cannot be quantized, left in fp32: memory (LSTM)" in notes
    assert any(node.op_type == "LSTM" for node in made.graph.node)
    assert not any(node.op_type == "MatMul" for node in made.graph.node)


@pytest.mark.parametrize("calibration", ["min-max", "percentile", "entropy"])
def test_convolutions_by_every_calibration(calibration: Method) -> None:
    draw = np.random.default_rng(4)
    feeds = [{"x": draw.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(ENOUGH)]
    feeds[5]["x"][0, 0, 0, 0] = 300.0
    settings = Settings(keep=(), calibration=calibration, percentile=99.9)
    made, notes = quantize(convolution(), "int8-static", feeds, settings)
    assert calibration in notes[0]
    scale = max(
        float(numpy_helper.to_array(tensor))
        for tensor in made.graph.initializer
        if tensor.name.endswith("_scale") and tensor.name.startswith("x")
    )
    # One spike in a hundred samples: min-max gives it all 255 steps, the others do not.
    assert (scale > 1) == (calibration == "min-max")


@pytest.mark.parametrize("block", [16, 64, 256])
def test_weight_only_by_block(block: Block) -> None:
    draw = np.random.default_rng(5)
    weight = numpy_helper.from_array(draw.normal(size=(256, 8)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 8])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    made, _ = quantize(model, "int8-weight-only", [], Settings(block=block))
    (node,) = [node for node in made.graph.node if node.op_type == "MatMulNBits"]
    assert {a.name: a.i for a in node.attribute}["block_size"] == block
