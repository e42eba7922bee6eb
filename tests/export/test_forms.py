"""Forms: other graphs of the same weights, which answer as `padded` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sanderling
from sanderling.loading import assemble
from sanderling.plan import Plan
from sanderling.verification import verify
from sanderling_export import forms, tracing
from sanderling_export.description import Description
from sanderling_export.pipeline import export

TEXTS = ["low tide", "", "the small bird runs along the edge of the sea", "sand", "high tide", "a bird in the sand"]
ENCODERS = ("bert", "distilbert", "mpnet", "xlm-roberta")


@pytest.mark.parametrize("name", ENCODERS)
def test_every_form_answers_as_padded(
    name: str, checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    export(checkpoint(name), tmp_path / name, data=lines, variants=("fp32", "int8-static"))
    bundle = sanderling.open_bundle(tmp_path / name)
    for variant, found in bundle.manifest.components["model"].variants.items():
        # XLM-RoBERTa's export looks its one token type up in a table as long as a text: no row of many texts fits it.
        others = ("exact",) if name == "xlm-roberta" else ("exact", "packed")
        assert set(found.forms) == {"padded", *others}
        assert len({form.data for form in found.forms.values()}) == 1
        rows = {}
        for form in found.forms:
            with assemble(bundle, Plan(variant, "cpu", 1, 1, token_budget=64, form=form)) as model:
                rows[form] = model.answer(TEXTS).rows
        for form in others:
            np.testing.assert_allclose(rows[form], rows["padded"], atol=1e-5 * np.abs(rows["padded"]).max())


def test_a_dynamic_variant_is_proven_where_ranges_are_the_same(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    export(checkpoint("bert"), tmp_path / "bert", data=lines, variants=("int8-dynamic",))
    bundle = sanderling.open_bundle(tmp_path / "bert")
    assert set(bundle.manifest.components["model"].variants["int8-dynamic"].forms) == {"padded", "exact", "packed"}
    alone = []
    for form in ("padded", "exact", "packed"):
        with assemble(bundle, Plan("int8-dynamic", "cpu", 1, 1, token_budget=1, form=form)) as model:
            alone.append(model.answer(TEXTS).rows)
    np.testing.assert_array_equal(alone[0], alone[1])
    np.testing.assert_allclose(alone[0], alone[2], atol=1e-6)


def test_a_classifier_that_pools_inside_its_graph_is_not_packed(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path
) -> None:
    export(checkpoint("bert-classifier"), tmp_path / "mood", data=lines, variants=("fp32",))
    found = sanderling.open_bundle(tmp_path / "mood").manifest.components["model"].variants["fp32"].forms
    assert set(found) == {"padded", "exact"}
    assert [spec.name for spec in found["exact"].inputs] == ["input_ids", "token_type_ids"]


def test_verify_replays_every_form(checkpoint: Callable[[str], Path], lines: Path, tmp_path: Path) -> None:
    export(checkpoint("bert"), tmp_path / "bert", data=lines, variants=("fp32",))
    report = verify(tmp_path / "bert")
    assert report.held
    assert {check.form for check in report.checks} == {"padded", "exact", "packed"}


def _saved(folder: Path, nodes: list[onnx.NodeProto], vocabulary: int = 100) -> onnx.ModelProto:
    """A graph over embeddings of two numbers, saved in `folder`."""
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["b", "s", 2])
    table = numpy_helper.from_array(np.random.default_rng(0).normal(size=(vocabulary, 2)).astype(np.float32), "table")
    axes = numpy_helper.from_array(np.array([2], np.int64), "axes")
    graph = helper.make_graph(nodes, "tiny", ids, [output], [table, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))
    return model


_LOOKUP = helper.make_node("Gather", ["table", "input_ids"], ["rows"])
_FLOAT = helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT)
_WIDE = helper.make_node("Unsqueeze", ["mask", "axes"], ["wide"])


def _description() -> Description:
    from tiny_bundles import tokenizer

    from sanderling.schema.preprocessing import TextPreprocessing
    from sanderling.schema.vectors import EmbeddingOutput

    head = EmbeddingOutput("hidden", "mean", True, 2)
    text = TextPreprocessing("tokenizer.json", max_tokens=64)
    return Description("feature-extraction", head, text, tokenizer=tokenizer().to_str().encode())


def test_a_mask_that_masks_by_a_product_is_taken_out(tmp_path: Path) -> None:
    nodes = [_LOOKUP, _FLOAT, _WIDE, helper.make_node("Mul", ["rows", "wide"], ["hidden_"])]
    nodes.append(helper.make_node("Relu", ["hidden_"], ["hidden"]))
    _saved(tmp_path / "fp32", nodes)
    made = forms.write(tmp_path / "fp32", tmp_path, _description())
    assert set(made) == {"padded", "exact"}
    graph = onnx.load(str(tmp_path / "fp32" / "exact.onnx")).graph
    assert [node.op_type for node in graph.node] == ["Gather", "Relu"]
    assert [value.name for value in graph.input] == ["input_ids"]


def test_a_vocabulary_may_be_small(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["input_ids"], ["same"]), _FLOAT, _WIDE]
    nodes += [helper.make_node("Gather", ["table", "same"], ["rows"]), helper.make_node("Mul", ["rows", "wide"], ["h"])]
    nodes.append(helper.make_node("Relu", ["h"], ["hidden"]))
    _saved(tmp_path / "fp32", nodes, vocabulary=3)
    assert set(forms.write(tmp_path / "fp32", tmp_path, _description())) == {"padded", "exact"}


def test_a_mask_that_is_also_counted_stays(tmp_path: Path) -> None:
    nodes = [_LOOKUP, _FLOAT, _WIDE, helper.make_node("Add", ["rows", "wide"], ["hidden"])]
    _saved(tmp_path / "fp32", nodes)
    assert set(forms.write(tmp_path / "fp32", tmp_path, _description())) == {"padded"}
    assert [path.name for path in (tmp_path / "fp32").iterdir()] == ["model.onnx"]


def test_a_graph_that_answers_otherwise_does_not_hold(tmp_path: Path) -> None:
    model = _saved(tmp_path / "fp32", [_LOOKUP, _FLOAT, helper.make_node("Relu", ["rows"], ["hidden"])])
    other = onnx.ModelProto()
    other.CopyFrom(model)
    other.graph.node[-1].op_type = "Tanh"
    run = tracing.runner(tmp_path / "fp32")
    assert forms.exact_holds(model, model, run)
    assert not forms.exact_holds(model, other, run)
