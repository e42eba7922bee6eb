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
from PIL import Image
from safetensors.numpy import save
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from sanderling.golden import GoldenSample
from sanderling.manifest import FORMAT, GoldenFiles, Manifest, Preprocessing, Provenance
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.generation import Chat, GenerationOutput, GenerationSettings, Turn
from sanderling.schema.preprocessing import ImagePreprocessing, Rescale, Resize, ResizeBounded, TextPreprocessing
from sanderling.schema.variants import Component, Form, TensorSpec, Tolerance, Variant
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
SIDE = 8
SIGHT = (_RANDOM.normal(size=(SIZE, SIZE)) * 2).astype(np.float32)
# One dark, one of middle tones, one light: what is seen of each is another thing.
PICTURES = {
    f"photo-{place}": _RANDOM.integers(low, low + 60, (11, 17, 3), dtype=np.uint8)
    for place, low in enumerate((0, 90, 195), 1)
}
CHOICES = ("yes", "no", "two", "the sea")
DECIDING = _RANDOM.normal(size=(3 + SIZE, len(CHOICES))).astype(np.float32)
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


def reference_logits(tokens: Sequence[int], seen: NDArray[np.float64] | float = 0.0) -> NDArray[np.float32]:
    """Logits (vocabulary,) of what follows these tokens; `seen` is what a picture adds."""
    own, summed = OWN[tokens[-1]].astype(np.float64), SUMMED[list(tokens)].astype(np.float64).sum(axis=0)
    return np.asarray(np.tanh(own + summed + seen) @ MATRIX, np.float32)


def reference_greedy(
    tokens: Sequence[int], count: int, ends: Sequence[int] = (END,), seen: NDArray[np.float64] | float = 0.0
) -> list[int]:
    """The most probable token each time, up to a stop token."""
    found: list[int] = []
    while len(found) < count and (not found or found[-1] not in ends):
        found.append(int(reference_logits([*tokens, *found], seen).argmax()))
    return found


def reference_pixels(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The picture (height, width, 3) as the vision encoder's input: (3, SIDE, SIDE) from 0 to 1."""
    resized = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(np.moveaxis(resized.astype(np.float32) / np.float32(255), 2, 0))


def reference_seen(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the decoder is told of a picture, (SIZE,): the mean of its numbers, SIZE at a time, with a matrix."""
    rows = reference_pixels(picture).astype(np.float64).reshape(-1, SIZE)
    return np.asarray((rows @ SIGHT).mean(axis=0))


def sight_graph() -> onnx.ModelProto:
    """The vision encoder: pixels, SIZE at a time, through a matrix; keys and values alike."""
    node = helper.make_node
    nodes = [
        node("Reshape", ["pixel_values", "rows_shape"], ["rows"]),
        node("MatMul", ["rows", "sight"], ["cross_key_values.0.key"]),
        node("Identity", ["cross_key_values.0.key"], ["cross_key_values.0.value"]),
    ]
    constants = {"sight": SIGHT, "rows_shape": np.array([0, 1, -1, SIZE])}
    return _model(nodes, constants, (PIXELS,), CROSS)


def reference_asked(picture: NDArray[np.uint8], question: str) -> NDArray[np.float64]:
    """What the decoder is told of a picture and a question, (SIZE,): of each token the picture's and its own row."""
    rows = OWN[ids_of(question)].astype(np.float64) + reference_seen(picture)
    return np.asarray(rows.mean(axis=0))


def image_graph() -> onnx.ModelProto:
    """The vision encoder of a model that is asked: pixels, SIZE at a time, through a matrix."""
    nodes = [
        helper.make_node("Reshape", ["pixel_values", "rows_shape"], ["rows"]),
        helper.make_node("MatMul", ["rows", "sight"], ["image_embeds"]),
    ]
    return _model(nodes, {"sight": SIGHT, "rows_shape": np.array([0, -1, SIZE])}, (PIXELS,), (IMAGE,))


def reader_graph() -> onnx.ModelProto:
    """The reader of questions: of each token its row and the mean of the picture's; keys and values alike."""
    nodes = [
        helper.make_node("ReduceMean", ["image_embeds", "one"], ["seen"], keepdims=1),
        helper.make_node("Gather", ["own", "input_ids"], ["rows"]),
        helper.make_node("Add", ["rows", "seen"], ["both"]),
        helper.make_node("Unsqueeze", ["both", "one"], ["cross_key_values.0.key"]),
        helper.make_node("Identity", ["cross_key_values.0.key"], ["cross_key_values.0.value"]),
    ]
    return _model(nodes, {"own": OWN, "one": np.array([1])}, (ASKED, IMAGE), CROSS)


def graph(*, sees: bool = False) -> onnx.ModelProto:
    """The decoder; one that `sees` adds the mean of the cross-attention's keys."""
    node = helper.make_node
    both = [node("Add", ["row", "new_sums"], ["both"])]
    if sees:
        both = [
            node("ReduceMean", ["cross_key_values.0.key", "last"], ["seen_by_head"], keepdims=0),
            node("Sub", ["cross_key_values.0.value", "cross_key_values.0.key"], ["none"]),
            node("ReduceMean", ["none", "last"], ["none_by_head"], keepdims=0),
            node("Add", ["seen_by_head", "none_by_head"], ["seen"]),
            node("Add", ["row", "new_sums"], ["unseen"]),
            node("Add", ["unseen", "seen"], ["both"]),
        ]
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
        *both,
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
    return _model(nodes, constants, (*INPUTS, *(CROSS if sees else ())), OUTPUTS)


def _model(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> onnx.ModelProto:
    types = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}

    def value(spec: TensorSpec) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(spec.name, types[spec.dtype], list(spec.shape))

    made = helper.make_graph(
        list(nodes),
        "language",
        [value(spec) for spec in inputs],
        [value(spec) for spec in outputs],
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
PIXELS = TensorSpec("pixel_values", "float32", ("batch", 3, SIDE, SIDE))
CROSS = tuple(
    TensorSpec(f"cross_key_values.0.{kind}", "float32", ("batch", 1, "seen", SIZE)) for kind in ("key", "value")
)
IMAGE = TensorSpec("image_embeds", "float32", ("batch", "patches", SIZE))
ASKED = TensorSpec("input_ids", "int64", ("batch", "tokens"))
QUESTIONS = {"photo-1": "dark?", "photo-2": "is it the sea?", "photo-3": "light?"}
GOLDEN = {"sea": "The sea ", "wave": "wa", "bird": "🐦 naïve"}


def language_bundle(target: Path, *, ends: tuple[int, ...] = (END,), **settings: Any) -> Path:
    """`tiny-language`, in fp32. `settings` change its GenerationSettings."""
    with staging_folder(target) as staging:
        build = build_folder(staging)
        samples = [GoldenSample(name, text=text) for name, text in GOLDEN.items()]
        tensors: dict[str, NDArray[Any]] = {}
        for name, text in GOLDEN.items():
            tensors[f"{name}.input.input_ids"] = np.array(ids_of(text), np.int64)
            tensors |= _golden(name, ids_of(text), ends, 0.0)
        component = Component(INPUTS, OUTPUTS, {"fp32": _variant(build, "model.onnx", graph())})
        head = GenerationOutput("logits", VOCABULARY, CONTEXT, ends, (), GenerationSettings(**settings), False, CHAT)
        kind = ("tiny-language", "general", "text-generation")
        _commit(staging, build, target, kind, {"decoder": component}, head, None, (samples, tensors))
    return target


def captioner_bundle(target: Path, **settings: Any) -> Path:
    """`tiny-captioner`, in fp32: every caption begins with TURN."""
    with staging_folder(target) as staging:
        build = build_folder(staging)
        samples, tensors = [], {}
        (build / "golden").mkdir()
        for name, picture in PICTURES.items():
            Image.fromarray(picture).save(build / "golden" / f"{name}.png")
            samples.append(GoldenSample(name, image=f"{build.name}/golden/{name}.png"))
            tensors[f"{name}.input.pixel_values"] = reference_pixels(picture)
            tensors |= _golden(name, [TURN], (END,), reference_seen(picture))
        components = {
            "vision_encoder": Component((PIXELS,), CROSS, {"fp32": _variant(build, "sight.onnx", sight_graph())}),
            "decoder": Component(
                (*INPUTS, *CROSS), OUTPUTS, {"fp32": _variant(build, "model.onnx", graph(sees=True))}
            ),
        }  # fmt: skip
        head = GenerationOutput("logits", VOCABULARY, CONTEXT, (END,), (TURN,), GenerationSettings(**settings))
        image = ImagePreprocessing((Resize(SIDE, SIDE, "bilinear"), Rescale(divisor=255.0)))
        kind = ("tiny-captioner", "multimodal", "image-to-text")
        _commit(staging, build, target, kind, components, head, image, (samples, tensors))
    return target


def answerer_bundle(target: Path, **settings: Any) -> Path:
    """`tiny-answerer`, in fp32: every answer begins with TURN."""
    with staging_folder(target) as staging:
        build = build_folder(staging)
        samples, tensors = [], {}
        (build / "golden").mkdir()
        for name, picture in PICTURES.items():
            question = QUESTIONS[name]
            Image.fromarray(picture).save(build / "golden" / f"{name}.png")
            samples.append(GoldenSample(name, image=f"{build.name}/golden/{name}.png", question=question))
            tensors[f"{name}.input.pixel_values"] = reference_pixels(picture)
            tensors[f"{name}.input.input_ids"] = np.array(ids_of(question), np.int64)
            tensors |= _golden(name, [TURN], (END,), reference_asked(picture, question))
        components = {
            "vision_encoder": Component((PIXELS,), (IMAGE,), {"fp32": _variant(build, "sight.onnx", image_graph())}),
            "text_encoder": Component((ASKED, IMAGE), CROSS, {"fp32": _variant(build, "reader.onnx", reader_graph())}),
            "decoder": Component(
                (*INPUTS, *CROSS), OUTPUTS, {"fp32": _variant(build, "model.onnx", graph(sees=True))}
            ),
        }  # fmt: skip
        head = GenerationOutput("logits", VOCABULARY, CONTEXT, (END,), (TURN,), GenerationSettings(**settings))
        image = ImagePreprocessing((Resize(SIDE, SIDE, "bilinear"), Rescale(divisor=255.0)))
        kind = ("tiny-answerer", "multimodal", "visual-question-answering")
        _commit(staging, build, target, kind, components, head, image, (samples, tensors))
    return target


def reference_choice(picture: NDArray[np.uint8], question: str) -> NDArray[np.float32]:
    """Logits (CHOICES,) of the answers: the mean colour of 12 x 8 pixels of a picture, and that of the tokens' rows."""
    small = np.asarray(Image.fromarray(picture).resize((12, 8), Image.Resampling.BILINEAR)).astype(np.float32)
    colour = (small / np.float32(255)).astype(np.float64).mean(axis=(0, 1))
    row = OWN[ids_of(question)].astype(np.float64).mean(axis=0)
    return np.asarray(np.concatenate([colour, row]) @ DECIDING, np.float32)


def chooser_bundle(target: Path) -> Path:
    """`tiny-chooser`, in fp32: which of CHOICES a question about a picture has."""
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["pixel_values", "sides"], ["colour"], keepdims=0),
        node("Gather", ["own", "input_ids"], ["rows"]),
        node("ReduceMean", ["rows", "tokens"], ["row"], keepdims=0),
        node("Concat", ["colour", "row"], ["both"], axis=1),
        node("MatMul", ["both", "deciding"], ["logits"]),
    ]
    constants = {"own": OWN, "deciding": DECIDING, "sides": np.array([2, 3]), "tokens": np.array([1])}
    seen = TensorSpec("pixel_values", "float32", ("batch", 3, "height", "width"))
    told = TensorSpec("logits", "float32", ("batch", len(CHOICES)))
    with staging_folder(target) as staging:
        build = build_folder(staging)
        samples, tensors = [], {}
        (build / "golden").mkdir()
        for name, picture in PICTURES.items():
            Image.fromarray(picture).save(build / "golden" / f"{name}.png")
            question = QUESTIONS[name]
            samples.append(GoldenSample(name, image=f"{build.name}/golden/{name}.png", question=question))
            tensors[f"{name}.input.input_ids"] = np.array(ids_of(question), np.int64)
            tensors[f"{name}.output"] = reference_choice(picture, question)
        model = _model(nodes, constants, (seen, ASKED), (told,))
        components = {"model": Component((seen, ASKED), (told,), {"fp32": _variant(build, "model.onnx", model)})}
        image = ImagePreprocessing((ResizeBounded(8, 16, 4, "bilinear"), Rescale(divisor=255.0)))
        kind = ("tiny-chooser", "multimodal", "visual-question-answering")
        head = ClassificationOutput("logits", "sigmoid", CHOICES)
        _commit(staging, build, target, kind, components, head, image, (samples, tensors))
    return target


def _golden(
    name: str, start: list[int], ends: tuple[int, ...], seen: NDArray[np.float64] | float
) -> dict[str, NDArray[Any]]:
    following = reference_greedy(start, 5, ends, seen)
    steps = [reference_logits([*start, *following[:place]], seen) for place in range(len(following))]
    return {
        f"{name}.output": reference_logits(start, seen),
        f"{name}.decoder.input": np.array(following, np.int64),
        f"{name}.decoder.output": np.stack(steps),
    }


def _variant(build: Path, name: str, model: onnx.ModelProto) -> Variant:
    (build / name).write_bytes(model.SerializeToString())
    return Variant({"padded": Form(f"{build.name}/{name}")}, Tolerance(0.9999, 1e-3))


def _commit(
    staging: Path,
    build: Path,
    target: Path,
    kind: tuple[str, Any, Any],
    components: dict[str, Component],
    head: GenerationOutput | ClassificationOutput,
    image: ImagePreprocessing | None,
    golden: tuple[list[GoldenSample], dict[str, NDArray[Any]]],
) -> None:
    prefix, samples, tensors = build.name, *golden
    (build / "tokenizer.json").write_text(tokenizer().to_str(), encoding="utf-8")
    (build / "golden").mkdir(exist_ok=True)
    (build / "golden" / "samples.json").write_bytes(msgspec.json.encode(samples))
    (build / "golden" / "tensors.safetensors").write_bytes(save(tensors))
    text = TextPreprocessing(f"{prefix}/tokenizer.json", CONTEXT, pad_token_id=END, padding_side="left")
    manifest = Manifest(
        format=FORMAT,
        version="1.0",
        name=kind[0],
        family=kind[1],
        task=kind[2],
        default_variant="fp32",
        components=components,
        preprocessing=Preprocessing(text, image),
        postprocessing=head,
        golden=GoldenFiles(f"{prefix}/golden/samples.json", f"{prefix}/golden/tensors.safetensors"),
        provenance=Provenance("made by hand", "0" * 64, "Apache-2.0"),
        files=list_files(staging),
    )
    commit_bundle(staging, manifest, target)
