"""Late interaction (ColBERT): an encoder with linear layers over each token, as the checkpoint's own files say.

Two libraries write such checkpoints. PyLate's has `modules.json` with the layers, and the markers and lengths in
`config_sentence_transformers.json`; Stanford's has the layer among the model's own weights (`linear.weight`), and the
rest in `artifact.metadata`.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray
from torch.nn import functional

from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.vectors import DenseLayer, TokenOutput, TokenSide
from sanderling.token_front import DOCUMENT, QUERY
from sanderling_export import description, tokens
from sanderling_export.checkpoint import Checkpoint, read_json
from sanderling_export.description import Description, Options

Array = NDArray[Any]
POOLING = "colbert"

# What both libraries take where a checkpoint says nothing.
_QUERY_TOKENS, _DOCUMENT_TOKENS = 32, 180
_STANFORD = "artifact.metadata"
_WEIGHT, _BIAS = "linear.weight", "linear.bias"
_FUNCTIONS = {
    "Identity": ("none", lambda rows: rows),
    "Tanh": ("tanh", torch.tanh),
    "ReLU": ("relu", torch.relu),
    "Sigmoid": ("sigmoid", torch.sigmoid),
}


class _Module(Struct, frozen=True):
    type: str
    path: str


def is_late(checkpoint: Checkpoint, options: Options) -> bool:
    """Whether a text encoder gives a vector a token: asked for, or by PyLate's or Stanford's files beside it."""
    stated = read_json(checkpoint.folder / "config_sentence_transformers.json")
    known = "query_length" in stated or (checkpoint.folder / _STANFORD).is_file()
    return options.pooling == POOLING or (options.pooling is None and known)


class LateEmbedder:
    """A ColBERT model: transformers' encoder, then linear layers and a normalization of each token's vector."""

    def __init__(self, checkpoint: Checkpoint, options: Options) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = checkpoint.folder
        if options.dimensions:
            raise ExportError("Vectors of tokens are not cut to fewer numbers; leave out dimensions.")
        settings = {"local_files_only": True, "trust_remote_code": False}
        self.model = AutoModel.from_pretrained(str(folder), **settings).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder), **settings)
        if self._tokenizer.padding_side != "right":
            raise CheckpointError("The tokenizer pads on the left; a marker behind the first token needs it right.")
        self._layers, tensors = _layers(folder)
        limit = description.token_limit(self.model, self._tokenizer, None, None)
        query, document = _sides(folder, self._tokenizer)
        # A limit that is asked for is one of documents: queries are filled up to the length they were trained with.
        longest = document.max_tokens if options.max_tokens is None else options.max_tokens
        if longest > limit:
            raise ExportError(
                f"Documents are to have {longest:,} tokens, but the model takes {limit:,}. Say it: --max-tokens {limit}"
            )
        self._sides = {
            QUERY: replace(query, max_tokens=min(query.max_tokens, limit)),
            DOCUMENT: replace(document, max_tokens=longest),
        }
        self._normalize = options.normalize is not False
        prompts = {QUERY: "", DOCUMENT: ""} | _prompts(folder, options)
        self._prompts, self._default = prompts, options.default_prompt or DOCUMENT
        head = TokenOutput(
            "last_hidden_state",
            self._normalize,
            len(tensors[self._layers[-1].weight]),
            self._sides[QUERY],
            self._sides[DOCUMENT],
            self._layers,
        )
        limits = max(side.max_tokens for side in self._sides.values())
        self._tensors = {name: torch.from_numpy(value) for name, value in tensors.items()}
        self.description = Description(
            "feature-extraction",
            head,
            tokens.settings(self._tokenizer, limits, _lowers(folder), prompts, self._default),
            tokens.tokenizer_json(self._tokenizer),
            weights=tensors,
        )

    def inputs(self, item: str, prompt: str | None = None) -> dict[str, Array]:
        """A text's tokens on its side, with the marker and what fills it up."""
        name = prompt or self._default
        side, whole = self._sides[name], self._prompts[name] + item
        text = self.description.text
        assert text is not None  # made above
        whole = whole.lower() if text.lowercase else whole
        room = side.max_tokens - (side.marker is not None)
        made = self._tokenizer(whole, truncation=True, max_length=room, return_tensors="np")
        found: dict[str, list[int]] = {name: value[0].tolist() for name, value in made.items()}
        missing = side.max_tokens - len(found["input_ids"]) - (side.marker is not None)
        marks = {"input_ids": side.marker, "attention_mask": 1}
        fillers = {"input_ids": side.expansion, "attention_mask": int(side.attended)}
        for name, values in found.items():
            if side.marker is not None:
                values.insert(1, marks.get(name) or 0)
            if side.expansion is not None:
                values += [fillers.get(name) or 0] * missing
        return {name: np.array(values, np.int64) for name, values in found.items()}

    def answers(self, items: Sequence[str], prompt: str | None = None) -> NDArray[Any]:
        """The token vectors of each text: an array (texts,) of arrays (tokens, d), float32."""
        skipped = self._sides[prompt or self._default].skipped
        found = np.empty(len(items), object)
        with torch.inference_mode():
            for index, item in enumerate(items):
                made = self.inputs(item, prompt)
                feeds = {name: torch.from_numpy(value)[None] for name, value in made.items()}
                rows = self.model(**feeds).last_hidden_state[0].float()
                for layer in self._layers:
                    bias = self._tensors[layer.bias] if layer.bias is not None else None
                    rows = functional.linear(rows, self._tensors[layer.weight], bias)
                    rows = next(apply for name, apply in _FUNCTIONS.values() if name == layer.activation)(rows)
                if self._normalize:
                    rows = functional.normalize(rows, dim=1)
                found[index] = rows.numpy()[~np.isin(made["input_ids"], skipped)]
        return found


def _sides(folder: Path, tokenizer: Any) -> tuple[TokenSide, TokenSide]:
    """How queries and documents become tokens: by PyLate's file, else by Stanford's, else as both do it unasked."""
    stated = read_json(folder / "config_sentence_transformers.json")
    if "query_length" not in stated:
        metadata = read_json(folder / _STANFORD)
        stated = {
            "query_prefix": metadata.get("query_token_id", "[unused0]"),
            "document_prefix": metadata.get("doc_token_id", "[unused1]"),
            "query_length": metadata.get("query_maxlen"),
            "document_length": metadata.get("doc_maxlen"),
            "attend_to_expansion_tokens": metadata.get("attend_to_mask_tokens"),
            "skiplist_words": list(string.punctuation) if metadata.get("mask_punctuation", True) else [],
        }
    expands = stated.get("do_query_expansion", True) is not False
    filler = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.eos_token_id
    if expands and filler is None:
        raise CheckpointError("The tokenizer has no mask token to fill queries up with; use another checkpoint.")
    words = stated.get("skiplist_words")
    listed = words if isinstance(words, list) else list(string.punctuation)
    # A word that the vocabulary does not have is the unknown token, which both libraries then leave out as well.
    skipped = {tokenizer.convert_tokens_to_ids(str(word)) for word in listed} - {None}
    return (
        TokenSide(
            _count(stated, "query_length", _QUERY_TOKENS),
            _marker(stated, "query_prefix", tokenizer),
            int(filler) if expands else None,
            bool(stated.get("attend_to_expansion_tokens")) and expands,
        ),
        TokenSide(
            _count(stated, "document_length", _DOCUMENT_TOKENS),
            _marker(stated, "document_prefix", tokenizer),
            skipped=tuple(sorted(skipped)),
        ),
    )


def _count(stated: Mapping[str, object], name: str, usual: int) -> int:
    found = stated.get(name)
    return found if isinstance(found, int) and found > 0 else usual


def _marker(stated: Mapping[str, object], name: str, tokenizer: Any) -> int | None:
    word = stated.get(name)
    if word == "":
        return None
    usual = {"query_prefix": "[Q] ", "document_prefix": "[D] "}[name]
    word = usual if word is None else str(word)
    found = tokenizer.convert_tokens_to_ids(word)
    if found is None or found == tokenizer.unk_token_id:
        raise CheckpointError(
            f"The checkpoint marks its texts with {word!r} ({name}), which its tokenizer does not have. "
            "Save it with the token added."
        )
    return int(found)


def _prompts(folder: Path, options: Options) -> dict[str, str]:
    """What stands before queries and documents beside their markers: as asked for, else as the checkpoint says."""
    stated = read_json(folder / "config_sentence_transformers.json").get("prompts")
    found = options.prompts if options.prompts is not None else stated if isinstance(stated, dict) else {}
    unknown = [name for name in found if name not in (QUERY, DOCUMENT)]
    if unknown and options.prompts is not None:
        raise ExportError(f"prompts names {unknown[0]!r}; a late-interaction model has those of query and document.")
    return {name: str(found[name]) for name in (QUERY, DOCUMENT) if name in found}


def _lowers(folder: Path) -> bool:
    """Whether texts are put in lower case before they are tokens, as sentence-transformers' file may say."""
    return bool(read_json(folder / "sentence_bert_config.json").get("do_lower_case"))


def _layers(folder: Path) -> tuple[tuple[DenseLayer, ...], dict[str, NDArray[np.float32]]]:
    """The layers over tokens in their order, and their tensors: PyLate's Dense modules, or Stanford's `linear`."""
    modules = _modules(folder / "modules.json")
    kinds = [module.type.rpartition(".")[2] for module in modules]
    if kinds and (kinds[0] != "Transformer" or any(kind != "Dense" for kind in kinds[1:])):
        raise CheckpointError(
            f"{folder / 'modules.json'} stacks {' > '.join(kinds)}; Sanderling exports Transformer > Dense for late "
            "interaction."
        )
    layers: list[DenseLayer] = []
    tensors: dict[str, NDArray[np.float32]] = {}
    for number, module in enumerate(modules[1:], 1):
        place = folder / Path(module.path).name
        config = read_json(place / "config.json")
        function = str(config.get("activation_function", "Identity")).rpartition(".")[2]
        if function not in _FUNCTIONS or config.get("use_residual"):
            raise CheckpointError(
                f"{place} is a layer with {'a residual' if config.get('use_residual') else function}; Sanderling "
                f"exports linear layers with {', '.join(_FUNCTIONS)}."
            )
        layers.append(_layer(place, number, _FUNCTIONS[function][0], tensors))
    return tuple(layers) or (_layer(folder, 1, "none", tensors),), tensors


def _modules(file: Path) -> list[_Module]:
    """What sentence-transformers' list of modules has; empty where there is none. Raises CheckpointError."""
    if not file.is_file():
        return []
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[_Module])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Fetch the checkpoint again.") from error


def _layer(place: Path, number: int, activation: str, tensors: dict[str, NDArray[np.float32]]) -> DenseLayer:
    """One layer, whose weights are added to `tensors`. Raises CheckpointError where there are none."""
    found = _weights(place)
    if _WEIGHT not in found:
        raise CheckpointError(
            f"{place} has no linear layer over tokens ({_WEIGHT}), so that this is no late-interaction model. Choose "
            "another pooling: --pooling mean"
        )
    tensors[f"{number}.weight"] = found[_WEIGHT]
    if _BIAS in found:
        tensors[f"{number}.bias"] = found[_BIAS]
    bias = f"{number}.bias" if _BIAS in found else None
    return DenseLayer(f"{number}.weight", bias, activation)  # type: ignore[arg-type]


def _weights(place: Path) -> dict[str, NDArray[np.float32]]:
    """The layer's own tensors, of all that a file of weights holds."""
    if (place / "model.safetensors").is_file():
        from safetensors import safe_open

        with safe_open(str(place / "model.safetensors"), framework="pt") as file:
            held = {name: file.get_tensor(name) for name in (_WEIGHT, _BIAS) if name in file.keys()}  # noqa: SIM118
    elif (place / "pytorch_model.bin").is_file():
        # Never weights_only=False: a pickle may run code.
        held = torch.load(place / "pytorch_model.bin", map_location="cpu", weights_only=True)
    else:
        return {}
    return {name: held[name].float().numpy() for name in (_WEIGHT, _BIAS) if name in held}
