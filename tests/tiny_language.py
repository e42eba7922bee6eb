"""A language model of a few kilobytes, built by hand without torch: its logits are known to numpy independently.

Each token has a row in two tables. What a place says is the tanh of its own row and of the sum of the other rows of all
tokens up to it, which the key-value cache holds; a matrix makes logits of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from sanderling.golden import GoldenSample
from sanderling.manifest import (
    FORMAT,
    Chat,
    Component,
    Form,
    GenerationOutput,
    GenerationSettings,
    GoldenFiles,
    Manifest,
    Preprocessing,
    Provenance,
    TensorSpec,
    TextPreprocessing,
    Tolerance,
    Turn,
    Variant,
)
from sanderling.sealing import build_folder, commit_bundle, list_files
from sanderling.storage import staging_folder

END, TURN = 256, 257
VOCABULARY = 258
SIZE = 6
CONTEXT = 48
_RANDOM = np.random.default_rng(20261122)
OWN = _RANDOM.normal(size=(VOCABULARY, SIZE)).astype(np.float32)
SUMMED = (_RANDOM.normal(size=(VOCABULARY, SIZE)) * 0.4).astype(np.float32)
MATRIX = (_RANDOM.normal(size=(SIZE, VOCABULARY)) * 2).astype(np.float32)
CHAT = Chat({"user": Turn("<|turn|>", "\n"), "assistant": Turn("<|turn|>", "\n")}, reply="<|turn|>")


@cache
def tokenizer() -> Tokenizer:
    """A token a byte, and two special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end|>", special=True), AddedToken("<|turn|>", special=True)])
    return made


def ids_of(text: str) -> list[int]:
    """The tokens of a text."""
    return list(tokenizer().encode(text).ids)


def reference_logits(tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits (vocabulary,) of what follows these tokens."""
    own, summed = OWN[tokens[-1]].astype(np.float64), SUMMED[list(tokens)].astype(np.float64).sum(axis=0)
    return np.asarray(np.tanh(own + summed) @ MATRIX, np.float32)


def reference_greedy(tokens: Sequence[int], count: int, ends: Sequence[int] = (END,)) -> list[int]:
    """The most probable token each time, up to a stop token."""
    found: list[int] = []
    while len(found) < count and (not found or found[-1] not in ends):
        found.append(int(reference_logits([*tokens, *found]).argmax()))
    return found


def graph(dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The decoder."""
    node = helper.make_node
    nodes = [
        node("Gather", ["own", "input_ids"], ["row"]),
        node("Gather", ["summed", "input_ids"], ["new_rows"]),
        node("Unsqueeze", ["new_rows", "one"], ["new_by_head"]),
        node("Concat", ["past_key_values.0.key", "new_by_head"], ["present.0.key"], axis=2),
        node("Identity", ["past_key_values.0.value"], ["old"]),
        node("Concat", ["old", "new_by_head"], ["present.0.value"], axis=2),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["mask_column"]),
        node("Squeeze", ["present.0.key", "one"], ["all_rows"]),
        node("Mul", ["all_rows", "mask_column"], ["seen_rows"]),
        node("CumSum", ["seen_rows", "axis_one"], ["sums"]),
        # The sums of the new places are the last ones.
        node("Shape", ["input_ids"], ["shape"]),
        node("Gather", ["shape", "axis_one"], ["count"]),
        node("Neg", ["count"], ["negative"]),
        node("Unsqueeze", ["negative", "zero_list"], ["starts"]),
        node("Slice", ["sums", "starts", "far", "one"], ["new_sums"]),
        node("Add", ["row", "new_sums"], ["both"]),
        node("Tanh", ["both"], ["hidden"]),
        node("Unsqueeze", ["logits_positions", "last"], ["places_column"]),
        node("Expand", ["places_column", "spread"], ["places"]),
        node("GatherElements", ["hidden", "places"], ["kept"], axis=1),
        node("MatMul", ["kept", "matrix"], ["plain"]),
        # The positions take part, so that wrong ones show.
        node("Cast", ["position_ids"], ["positions"], to=TensorProto.FLOAT),
        node("ReduceSum", ["positions", "minus_one_list"], ["position_sum"], keepdims=1),
        node("Mul", ["position_sum", "nothing"], ["no_more"]),
        node("Unsqueeze", ["no_more", "last"], ["no_more_column"]),
        node("Add", ["plain", "no_more_column"], ["logits"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "own": OWN, "summed": SUMMED, "matrix": MATRIX, "one": np.array([1]), "last": np.array([2]),
        "axis_one": np.array(1), "zero_list": np.array([0]), "far": np.array([2**31 - 1]),
        "spread": np.array([1, 1, SIZE]), "minus_one_list": np.array([-1]), "nothing": np.array(0, np.float32),
    }  # fmt: skip
    names = {spec.name: spec for spec in (*INPUTS, *OUTPUTS)}
    types = {"int64": TensorProto.INT64, "float32": dtype}

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, types[names[name].dtype], list(names[name].shape))

    made = helper.make_graph(
        nodes,
        "language",
        [value(spec.name) for spec in INPUTS],
        [value(spec.name) for spec in OUTPUTS],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


INPUTS = (
    TensorSpec("input_ids", "int64", ("batch", "new")),
    TensorSpec("attention_mask", "int64", ("batch", "total")),
    TensorSpec("position_ids", "int64", ("batch", "new")),
    TensorSpec("logits_positions", "int64", ("batch", "kept")),
    TensorSpec("past_key_values.0.key", "float32", ("batch", 1, "past", SIZE)),
    TensorSpec("past_key_values.0.value", "float32", ("batch", 1, "past", SIZE)),
)
OUTPUTS = (
    TensorSpec("logits", "float32", ("batch", "kept", VOCABULARY)),
    TensorSpec("present.0.key", "float32", ("batch", 1, "total", SIZE)),
    TensorSpec("present.0.value", "float32", ("batch", 1, "total", SIZE)),
)
GOLDEN = {"sea": "The sea ", "wave": "wa", "bird": "🐦 naïve"}


def language_bundle(target: Path, *, ends: tuple[int, ...] = (END,), **settings: Any) -> Path:
    """`tiny-language`, in fp32. `settings` change its GenerationSettings."""
    with staging_folder(target) as staging:
        build = build_folder(staging)
        prefix = build.name
        (build / "model.onnx").write_bytes(graph().SerializeToString())
        (build / "tokenizer.json").write_text(tokenizer().to_str(), encoding="utf-8")
        (build / "golden").mkdir()
        samples = [GoldenSample(name, text=text) for name, text in GOLDEN.items()]
        tensors: dict[str, NDArray[Any]] = {}
        for name, text in GOLDEN.items():
            ids = ids_of(text)
            tensors[f"{name}.input.input_ids"] = np.array(ids, np.int64)
            tensors[f"{name}.output"] = reference_logits(ids)
            following = reference_greedy(ids, 5, ends)
            tensors[f"{name}.decoder.input"] = np.array(following, np.int64)
            logits = [reference_logits([*ids, *following[:place]]) for place in range(len(following))]
            tensors[f"{name}.decoder.output"] = np.stack(logits)
        (build / "golden" / "samples.json").write_bytes(msgspec.json.encode(samples))
        (build / "golden" / "tensors.safetensors").write_bytes(save(tensors))
        form = Form(f"{prefix}/model.onnx")
        manifest = Manifest(
            format=FORMAT,
            version="1.0",
            name="tiny-language",
            family="general",
            task="text-generation",
            default_variant="fp32",
            components={
                "decoder": Component(INPUTS, OUTPUTS, {"fp32": Variant({"padded": form}, Tolerance(0.9999, 1e-3))})
            },
            preprocessing=Preprocessing(
                TextPreprocessing(f"{prefix}/tokenizer.json", CONTEXT, pad_token_id=END, padding_side="left")
            ),
            postprocessing=GenerationOutput(
                "logits", VOCABULARY, CONTEXT, ends, (), GenerationSettings(**settings), False, CHAT
            ),
            golden=GoldenFiles(f"{prefix}/golden/samples.json", f"{prefix}/golden/tensors.safetensors"),
            provenance=Provenance("made by hand", "0" * 64, "Apache-2.0"),
            files=list_files(staging),
        )
        commit_bundle(staging, manifest, target)
    return target
