"""Bundles of a few kilobytes, built by hand without torch, with answers that numpy gives independently.

Each is a real one: a tokenizer of the tokenizers library, ONNX graphs with external weights, golden samples, a seal.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from sanderling.codec import decode, encode
from sanderling.manifest import FORMAT, MANIFEST_NAME, GoldenFiles, Manifest, Postprocessing, Preprocessing, Provenance
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import (
    CenterCrop,
    ImagePreprocessing,
    Normalize,
    Rescale,
    Resize,
    TextPreprocessing,
)
from sanderling.schema.variants import Component, Form, TensorSpec, Tolerance, Variant
from sanderling.schema.vectors import DenseLayer, EmbeddingOutput, SparseOutput, TokenOutput, TokenSide
from sanderling.sealing import build_folder, commit_bundle, list_files
from sanderling.storage import staging_folder

DIMENSION = 8
MAX_TOKENS = 16
LABELS = ("calm", "windy", "stormy")
IMAGE_LABELS = ("sand", "sea", "sky", "bird")
IMAGE_HEIGHT, IMAGE_WIDTH = 5, 6
PROMPTS = {"query": "query: ", "passage": "passage: "}
TEXTS = {
    "plain": "A small bird runs along the edge of the sea.",
    "empty": "",
    "emoji": "I love it! \N{GRINNING FACE}",
    "long": "word " * 40,
}

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_WORDS = ("the", "sea", "bird", "small", "runs", "edge", "of", "along", "word", "query", "passage", "love", "it")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS, *_LETTERS, *(f"##{c}" for c in _LETTERS), *".,:!?'")

_RANDOM = np.random.default_rng(20240229)
TABLE = _RANDOM.normal(size=(len(VOCABULARY), DIMENSION)).astype(np.float32)
WEIGHT = _RANDOM.normal(size=(DIMENSION, len(LABELS))).astype(np.float32)
BIAS = _RANDOM.normal(size=len(LABELS)).astype(np.float32)
IMAGE_WEIGHT = _RANDOM.normal(size=(3 * IMAGE_HEIGHT * IMAGE_WIDTH, len(IMAGE_LABELS))).astype(np.float32)
IMAGE_BIAS = _RANDOM.normal(size=len(IMAGE_LABELS)).astype(np.float32)
PICTURE = _RANDOM.integers(0, 256, (13, 17, 3), dtype=np.uint8)
TOKEN_WEIGHT = _RANDOM.normal(size=(4, DIMENSION)).astype(np.float32)

Graph = tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]


@cache
def tokenizer() -> Tokenizer:
    """WordPiece over letters and a few words; its file asks for padding and truncation that nobody should follow."""
    made = Tokenizer(WordPiece({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.enable_padding(length=32)
    made.enable_truncation(7)
    return made


def token_ids(text: str, max_tokens: int = MAX_TOKENS) -> list[int]:
    """The ids of a text, by the tokenizers library alone and truncation by hand."""
    plain = Tokenizer.from_str(tokenizer().to_str())
    plain.no_padding()
    plain.no_truncation()
    body = plain.encode(text, add_special_tokens=False).ids
    return [2, *body[: max_tokens - 2], 3]


def reference_embedding(text: str) -> NDArray[np.float32]:
    """Mean of the tokens' table rows, normalized; (DIMENSION,)."""
    mean = TABLE[token_ids(text)].astype(np.float64).mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def reference_logits(text: str) -> NDArray[np.float32]:
    """Mean of the tokens' table rows through a linear layer; (labels,)."""
    return (TABLE[token_ids(text)].astype(np.float64).mean(axis=0) @ WEIGHT + BIAS).astype(np.float32)


def reference_pixels(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bilinear resize, crop, and values from -1 to 1; (3, IMAGE_HEIGHT, IMAGE_WIDTH)."""
    resized = np.asarray(Image.fromarray(picture).resize((IMAGE_WIDTH + 2, IMAGE_HEIGHT), Image.Resampling.BILINEAR))
    scaled = resized[:, 1:-1].astype(np.float32) / np.float32(255)
    return np.moveaxis((scaled - np.float32(0.5)) / np.float32(0.5), 2, 0)


def reference_image_logits(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The pixels through a linear layer; (image labels,)."""
    return (reference_pixels(picture).reshape(-1).astype(np.float64) @ IMAGE_WEIGHT + IMAGE_BIAS).astype(np.float32)


def png(picture: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def embedding_bundle(target: Path, **text: Any) -> Path:
    """`tiny-embedding`: a table lookup in fp32 and in int8. `text` changes its TextPreprocessing."""
    scale = np.float32(np.abs(TABLE).max() / 127)
    lookup = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    dequantized = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("DequantizeLinear", ["rows", "scale"], ["last_hidden_state"]),
    ]
    graphs: dict[str, Graph] = {
        "fp32": (lookup, {"table": TABLE}),
        "int8-dynamic": (dequantized, {"table": np.round(TABLE / scale).astype(np.int8), "scale": np.array(scale)}),
    }
    component = (
        (_spec("input_ids", "int64"), _spec("attention_mask", "int64")),
        (_spec("last_hidden_state", "float32", DIMENSION),),
    )
    tolerances = {"fp32": Tolerance(0.999999, 1e-5), "int8-dynamic": Tolerance(0.999)}
    samples = [{"id": name, "text": content} for name, content in TEXTS.items()]
    tensors = {f"{name}.output": reference_embedding(content) for name, content in TEXTS.items()}
    with _Build(target) as build:
        settings = _text_settings(build, **text)
        build.commit(
            "tiny-embedding",
            ("embedding", "feature-extraction"),
            build.component(component, graphs, tolerances),
            Preprocessing(text=settings),
            EmbeddingOutput("last_hidden_state", "mean", True, DIMENSION),
            build.golden(samples, tensors | _token_tensors()),
            space="5" * 64,
        )
    return target


def _linear(labels: int) -> Graph:
    """The mean of the tokens' table rows through the linear layer's first outputs."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "last"], ["mask"]),
        helper.make_node("Mul", ["rows", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["mean"]),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"]),
    ]
    axes = {"last": np.array([2], np.int64), "middle": np.array([1], np.int64)}
    return nodes, {"table": TABLE, "weight": WEIGHT[:, :labels], "bias": BIAS[:labels], **axes}


def text_classification_bundle(target: Path) -> Path:
    """`tiny-sentiment`: a mean over the unmasked tokens and a linear layer."""
    graphs = {"fp32": _linear(len(LABELS))}
    component = (
        (_spec("input_ids", "int64"), _spec("attention_mask", "int64")),
        (TensorSpec("logits", "float32", ("batch", len(LABELS))),),
    )
    samples = [{"id": name, "text": content} for name, content in TEXTS.items()]
    tensors = {f"{name}.output": reference_logits(content) for name, content in TEXTS.items()}
    with _Build(target) as build:
        settings = _text_settings(build)
        build.commit(
            "tiny-sentiment",
            ("general", "text-classification"),
            build.component(component, graphs, {"fp32": Tolerance(0.999999, 1e-4)}),
            Preprocessing(text=settings),
            ClassificationOutput("logits", "softmax", LABELS),
            build.golden(samples, tensors | _token_tensors()),
        )
    return target


def ranking_bundle(target: Path) -> Path:
    """`tiny-ranker`: the first label of `tiny-sentiment` alone, as the relevance of a pair of texts."""
    text_classification_bundle(target)
    manifest = read_manifest(target)
    component = manifest.components["model"]
    outputs = (TensorSpec("logits", "float32", ("batch", 1)),)
    save_graph(find(target, "model.onnx"), _linear(1), component.inputs, outputs)
    tensors = {f"{name}.output": reference_logits(content)[:1] for name, content in TEXTS.items()}
    find(target, "tensors.safetensors").write_bytes(save(tensors | _token_tensors()))
    reseal(
        target,
        lambda sealed: msgspec.structs.replace(
            sealed,
            name="tiny-ranker",
            task="text-ranking",
            components={"model": msgspec.structs.replace(component, outputs=outputs)},
            postprocessing=ClassificationOutput("logits", "sigmoid", ("relevance",)),
        ),
    )
    return target


def sparse_bundle(target: Path) -> Path:
    """`tiny-sparse`: `tiny-embedding`, whose table's columns are taken for a vocabulary of eight tokens."""
    embedding_bundle(target)
    tensors = {f"{name}.output": reference_weights(content) for name, content in TEXTS.items()}
    find(target, "tensors.safetensors").write_bytes(save(tensors | _token_tensors()))
    head = SparseOutput("last_hidden_state", "max", "log1p_relu", DIMENSION)
    reseal(target, lambda sealed: msgspec.structs.replace(sealed, name="tiny-sparse", postprocessing=head))
    return target


TOKEN_PROMPTS = {"query": "", "document": ""}
# Of `tiny-late`: queries have 8 tokens, filled up with "word"; the full stop of documents has no vector.
QUERY_TOKENS, QUERY_MARKER, DOCUMENT_MARKER, FILLER = 8, VOCABULARY.index("query"), VOCABULARY.index("passage"), 12


def token_bundle(target: Path) -> Path:
    """`tiny-late`: the table's rows through a linear layer, one vector a token, for late interaction."""
    embedding_bundle(target, prompts=TOKEN_PROMPTS, default_prompt="document")
    golden = find(target, "samples.json")
    samples = [{"id": name, "text": content} for name, content in TEXTS.items()]
    asked = [{"id": f"asked-{name}", "text": content, "prompt": "query"} for name, content in TEXTS.items()]
    golden.write_bytes(msgspec.json.encode(samples + asked))
    tensors: dict[str, NDArray[Any]] = {}
    for one in samples + asked:
        ids, kept = token_sides(one["text"], one.get("prompt", "document"))
        tensors[f"{one['id']}.input.input_ids"] = np.array(ids)
        tensors[f"{one['id']}.output"] = reference_tokens(np.array(ids)[kept])
    find(target, "tensors.safetensors").write_bytes(save(tensors))
    weights = golden.parent.parent / "dense.safetensors"
    weights.write_bytes(save({"1.weight": TOKEN_WEIGHT}))
    head = TokenOutput(
        "last_hidden_state",
        True,
        len(TOKEN_WEIGHT),
        TokenSide(QUERY_TOKENS, QUERY_MARKER, FILLER),
        TokenSide(MAX_TOKENS, DOCUMENT_MARKER, skipped=(VOCABULARY.index("."),)),
        (DenseLayer("1.weight"),),
        weights.relative_to(target).as_posix(),
    )
    reseal(target, lambda sealed: msgspec.structs.replace(sealed, name="tiny-late", postprocessing=head))
    return target


def token_sides(text: str, side: str) -> tuple[list[int], list[bool]]:
    """The ids of a text as a query or a document of `tiny-late`, and which of them have a vector."""
    if side == "query":
        first, *rest = token_ids(text, QUERY_TOKENS - 1)
        ids = [first, QUERY_MARKER, *rest]
        ids += [FILLER] * (QUERY_TOKENS - len(ids))
        return ids, [True] * len(ids)
    first, *rest = token_ids(text, MAX_TOKENS - 1)
    ids = [first, DOCUMENT_MARKER, *rest]
    return ids, [VOCABULARY[i] != "." for i in ids]


def reference_tokens(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """The table's rows of these ids through the linear layer, each divided by its length; (ids, 4)."""
    rows = TABLE[ids].astype(np.float64) @ TOKEN_WEIGHT.T.astype(np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def reference_weights(text: str) -> NDArray[np.float32]:
    """The largest of each column over the tokens' table rows, at least 0, by log(1 + x); (DIMENSION,)."""
    return np.log1p(np.maximum(TABLE[token_ids(text)].astype(np.float64), 0)).max(axis=0).astype(np.float32)


def image_classification_bundle(target: Path) -> Path:
    """`tiny-shore`: a linear layer over resized and cropped pixels, with independent scores."""
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    graphs: dict[str, Graph] = {"fp32": (nodes, {"weight": IMAGE_WEIGHT, "bias": IMAGE_BIAS})}
    component = (
        (TensorSpec("pixel_values", "float32", ("batch", 3, IMAGE_HEIGHT, IMAGE_WIDTH)),),
        (TensorSpec("logits", "float32", ("batch", len(IMAGE_LABELS))),),
    )
    steps = (
        Resize(IMAGE_HEIGHT, IMAGE_WIDTH + 2, "bilinear"),
        CenterCrop(IMAGE_HEIGHT, IMAGE_WIDTH),
        Rescale(divisor=255.0),
        Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )
    tensors = {
        "shore.output": reference_image_logits(PICTURE),
        "shore.input.pixel_values": np.ascontiguousarray(reference_pixels(PICTURE)),
    }
    with _Build(target) as build:
        picture = build.write("golden/shore.png", png(PICTURE))
        build.commit(
            "tiny-shore",
            ("general", "image-classification"),
            build.component(component, graphs, {"fp32": Tolerance(0.999999, 1e-4)}),
            Preprocessing(image=ImagePreprocessing(steps)),
            ClassificationOutput("logits", "sigmoid", IMAGE_LABELS),
            build.golden([{"id": "shore", "image": picture}], tensors),
        )
    return target


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle as it stands."""
    return decode((bundle / MANIFEST_NAME).read_bytes(), str(bundle))


def reseal(bundle: Path, change: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> None:
    """Seal a bundle again after its files were changed, and change its manifest."""
    sealed = msgspec.structs.replace(read_manifest(bundle), files=list_files(bundle))
    (bundle / MANIFEST_NAME).write_bytes(encode(change(sealed)))


def find(bundle: Path, name: str) -> Path:
    """The one file of a bundle whose path ends so."""
    (found,) = (path for path in bundle.rglob("*") if path.as_posix().endswith(name))
    return found


def save_graph(path: Path, graph: Graph, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """An ONNX file at `path` with its weights in `weights.bin` beside it."""
    nodes, weights = graph
    made = helper.make_graph(
        nodes,
        "tiny",
        [_value(spec) for spec in inputs],
        [_value(spec) for spec in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=64)


class _Build:
    """A bundle in the making; gone if it is not committed."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> _Build:
        self._context = staging_folder(self._target)
        self._staging = self._context.__enter__()
        self._folder = build_folder(self._staging)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._context.__exit__(*raised)

    def write(self, name: str, data: bytes) -> str:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"{self._folder.name}/{name}"

    def component(
        self,
        signature: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
        graphs: dict[str, Graph],
        tolerances: dict[str, Tolerance],
        folder: str = "",
    ) -> Component:
        variants = {}
        for name, graph in graphs.items():
            place = "/".join(part for part in (self._folder.name, folder, name) if part)
            save_graph(self._staging / place / "model.onnx", graph, *signature)
            variants[name] = Variant(
                {"padded": Form(f"{place}/model.onnx", (f"{place}/weights.bin",))}, tolerances[name]
            )
        return Component(*signature, variants)

    def golden(self, samples: list[dict[str, Any]], tensors: dict[str, NDArray[Any]]) -> GoldenFiles:
        return GoldenFiles(
            self.write("golden/samples.json", msgspec.json.encode(samples)),
            self.write("golden/tensors.safetensors", save(tensors)),
        )

    def commit(
        self,
        name: str,
        kind: tuple[Any, Any],
        component: Component | dict[str, Component],
        preprocessing: Preprocessing,
        postprocessing: Postprocessing,
        golden: GoldenFiles,
        space: str | None = None,
    ) -> None:
        manifest = Manifest(
            format=FORMAT,
            version="1.0",
            name=name,
            family=kind[0],
            task=kind[1],
            default_variant="fp32",
            components=component if isinstance(component, dict) else {"model": component},
            preprocessing=preprocessing,
            postprocessing=postprocessing,
            golden=golden,
            provenance=Provenance("made by hand", "0" * 64, "apache-2.0"),
            files=list_files(self._staging),
            space=space,
        )
        commit_bundle(self._staging, manifest, self._target)


def _text_settings(build: _Build, **changes: Any) -> TextPreprocessing:
    file = build.write("tokenizer.json", tokenizer().to_str().encode())
    return TextPreprocessing(file, **{"max_tokens": MAX_TOKENS, "prompts": PROMPTS, **changes})


def _token_tensors() -> dict[str, NDArray[Any]]:
    return {f"{name}.input.input_ids": np.array(token_ids(text)) for name, text in TEXTS.items()}


def _spec(name: str, dtype: Any, *more: int) -> TensorSpec:
    return TensorSpec(name, dtype, ("batch", "sequence", *more))


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.shape)
