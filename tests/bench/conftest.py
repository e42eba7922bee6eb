"""Two bundles too small to be slow: a text embedder and an image classifier, each in two variants."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from sanderling import bundle, manifest, storage

WORDS = ("a", "small", "bird", "runs", "along", "the", "edge")
DIMENSION = 4
LABELS = ("water", "sand", "bird")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDERLING_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedder of words: each has a row in a table, a text is the mean of its words."""
    target = tmp_path_factory.mktemp("bundles") / "words"
    table = np.random.default_rng(1).normal(size=(len(WORDS) + 1, DIMENSION)).astype(np.float32)
    # Without a vocabulary of their own, all other words are the unknown one.
    vocabulary = {word: index for index, word in enumerate(("?", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with storage.staging_folder(target) as staging:
        folder = bundle.build_folder(staging)
        tokenizer.save(str(folder / "tokenizer.json"))
        _save_words(folder / "fp32.onnx", table)
        _save_words(folder / "coarse.onnx", np.round(table, 1))
        _save_golden(folder, [{"id": "one", "text": "a small bird"}], {"one.output": np.zeros(DIMENSION, np.float32)})
        name = folder.name
        token_ids = [manifest.TensorSpec(n, "int64", ("batch", "tokens")) for n in ("input_ids", "attention_mask")]
        rows = manifest.TensorSpec("last_hidden_state", "float32", ("batch", "tokens", DIMENSION))
        made = _manifest(
            staging,
            name,
            task="feature-extraction",
            component=manifest.Component(tuple(token_ids), (rows,), _variants(name)),
            preprocessing=manifest.Preprocessing(text=manifest.TextPreprocessing(f"{name}/tokenizer.json", 16)),
            postprocessing=manifest.EmbeddingOutput("last_hidden_state", "mean", True, DIMENSION),
        )
        bundle.commit_bundle(staging, made, target)
    return target


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that looks at the mean colour of an image."""
    target = tmp_path_factory.mktemp("bundles") / "colours"
    weights = np.random.default_rng(2).normal(size=(3, len(LABELS))).astype(np.float32)
    with storage.staging_folder(target) as staging:
        folder = bundle.build_folder(staging)
        _save_colours(folder / "fp32.onnx", weights)
        _save_colours(folder / "coarse.onnx", np.round(weights, 1))
        (folder / "one.png").write_bytes(_photograph(7))
        name = folder.name
        golden = [{"id": "one", "image": f"{name}/one.png"}]
        _save_golden(folder, golden, {"one.output": np.zeros(len(LABELS), np.float32)})
        pixels = manifest.TensorSpec("pixel_values", "float32", ("batch", 3, 8, 8))
        logits = manifest.TensorSpec("logits", "float32", ("batch", len(LABELS)))
        steps = (manifest.Resize(8, 8, "bilinear"), manifest.Rescale(divisor=255.0))
        made = _manifest(
            staging,
            name,
            task="image-classification",
            component=manifest.Component((pixels,), (logits,), _variants(name)),
            preprocessing=manifest.Preprocessing(image=manifest.ImagePreprocessing(steps)),
            postprocessing=manifest.ClassificationOutput("logits", "softmax", LABELS),
        )
        bundle.commit_bundle(staging, made, target)
    return target


@pytest.fixture
def photographs() -> list[bytes]:
    """Three PNGs of noise, not square."""
    return [_photograph(seed) for seed in range(3)]


def _photograph(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(9, 13, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _variants(name: str) -> dict[str, manifest.Variant]:
    limits = manifest.Tolerance(-1.0)
    return {
        variant: manifest.Variant({"padded": manifest.Form(f"{name}/{variant}.onnx")}, limits)
        for variant in ("fp32", "coarse")
    }


def _manifest(
    staging: Path,
    name: str,
    *,
    task: manifest.Task,
    component: manifest.Component,
    preprocessing: manifest.Preprocessing,
    postprocessing: manifest.Postprocessing,
) -> manifest.Manifest:
    embeds = task == "feature-extraction"
    return manifest.Manifest(
        format=manifest.FORMAT,
        version="1.0",
        name="tiny",
        family="embedding" if embeds else "general",
        task=task,
        default_variant="fp32",
        components={"model": component},
        preprocessing=preprocessing,
        postprocessing=postprocessing,
        golden=manifest.GoldenFiles(f"{name}/golden.json", f"{name}/golden.safetensors"),
        provenance=manifest.Provenance("made by a test", "0" * 64, "Apache-2.0"),
        files=bundle.list_files(staging),
        space="0" * 64 if embeds else None,
    )


def _save_golden(folder: Path, samples: list[dict[str, str]], tensors: dict[str, NDArray[Any]]) -> None:
    (folder / "golden.json").write_text(json.dumps(samples), encoding="utf-8")
    save_file(tensors, folder / "golden.safetensors")


def _save_words(path: Path, table: NDArray[np.float32]) -> None:
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    rows = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", DIMENSION])
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    _save(path, nodes, ids, [rows], {"table": table})


def _save_colours(path: Path, weights: NDArray[np.float32]) -> None:
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
    ]
    _save(path, nodes, [pixels], [logits], {"weights": weights})


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any]) -> None:
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
