"""The vocabulary of a recognizer by CTC: what each logit says, which one says nothing, and which parts words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sanderling.errors import CheckpointError
from sanderling.schema.answers import CtcOutput
from sanderling_export.checkpoint import read_json

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_KNOWN = ("Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer")
_OUTPUT = "logits"


def described(folder: Path, count: int, hop: int, field: int, blank: int | None) -> CtcOutput:
    """What stands behind `count` logits of each frame, from the tokenizer in `folder`; `blank` is the model's own.

    Raises CheckpointError: no tokenizer, one of another kind, or one that contradicts the model.
    """
    vocabulary = read_json(folder / "vocab.json")
    if not vocabulary:
        raise CheckpointError(f"{folder} has no vocab.json, without which frames are no text.")
    if any(isinstance(value, dict) for value in vocabulary.values()):
        raise CheckpointError(
            f"{folder / 'vocab.json'} holds the vocabularies of several languages; Sanderling exports recognizers of "
            "one. Save the model with the adapter and the vocabulary of the language."
        )
    tokenizer = _tokenizer(folder)
    pad = tokenizer.pad_token_id
    if pad is None or (blank is not None and blank != pad):
        raise CheckpointError(
            f"The tokenizer's padding is {pad!r} and the model's {blank!r}: which logit says nothing is not known."
        )
    delimiter = _delimiter(tokenizer)
    said = dict(enumerate(tokenizer.convert_ids_to_tokens(list(range(count)))))
    silent = {pad, delimiter, *(place for place, token in said.items() if token in tokenizer.all_special_tokens)}
    tokens = tuple("" if place in silent else token for place, token in said.items())
    if tokenizer.replace_word_delimiter_char == "":
        delimiter = None
    return CtcOutput(
        _OUTPUT,
        tokens,
        int(pad),
        hop,
        field,
        delimiter=delimiter,
        lowercase=bool(tokenizer.do_lower_case),
        clean_up_spaces=bool(tokenizer.clean_up_tokenization_spaces),
    )


def _tokenizer(folder: Path) -> Any:
    from transformers import Wav2Vec2CTCTokenizer

    kind = read_json(folder / "tokenizer_config.json").get("tokenizer_class", _KNOWN[0])
    if kind not in _KNOWN:
        raise CheckpointError(f"The tokenizer {kind} is not known; {_KNOWN[0]} was expected.")
    found = Wav2Vec2CTCTokenizer.from_pretrained(str(folder), **_LOCAL)
    if found.replace_word_delimiter_char not in ("", " "):
        raise CheckpointError(
            f"The tokenizer writes {found.replace_word_delimiter_char!r} between words; a blank was expected."
        )
    return found


def _delimiter(tokenizer: Any) -> int | None:
    """The token between words, where the vocabulary has one."""
    token = tokenizer.get_vocab().get(tokenizer.word_delimiter_token)
    return None if token is None or token == tokenizer.pad_token_id else int(token)
