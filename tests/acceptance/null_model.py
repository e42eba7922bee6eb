"""The smallest bundle there can be: ids through one operator. What a call of it takes is the runtime's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from sanderling import sealing
from sanderling.bundle import open_bundle
from sanderling.schema.variants import Component, Form, TensorSpec, Tolerance, Variant
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.storage import staging_folder

GRAPH = "null.onnx"


def build(model: Path, target: Path) -> Path:
    """A bundle at `target` with the tokenizer of the bundle `model`, whose graph gives one number a token."""
    bundle = open_bundle(model)
    manifest = bundle.manifest
    head = manifest.postprocessing
    assert isinstance(head, EmbeddingOutput)
    assert manifest.preprocessing.text is not None
    with staging_folder(target) as staging:
        for name in (manifest.preprocessing.text.tokenizer, manifest.golden.samples, manifest.golden.tensors):
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / name, staging / name)
        onnx.save(_graph(), staging / GRAPH)
        inputs = (TensorSpec("input_ids", "int64", ("batch", "sequence")),)
        outputs = (TensorSpec("hidden", "float32", ("batch", "sequence", 1)),)
        form = Form(GRAPH)
        made = replace(
            manifest,
            name="null",
            default_variant="fp32",
            components={"model": Component(inputs, outputs, {"fp32": Variant({"padded": form}, Tolerance(-1.0))})},
            postprocessing=EmbeddingOutput("hidden", head.pooling, head.normalize, 1),
            provenance=replace(manifest.provenance, license_file=None),
            files=sealing.list_files(staging),
        )
        sealing.commit_bundle(staging, made, target)
    return target


def _graph() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["hidden"])],
        "null",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", 1])],
        [numpy_helper.from_array(np.ones((300_000, 1), np.float32), "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
