"""Tokenizers of two-tower models as tokenizer.json, SigLIP's of SentencePiece among them."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sanderling.errors import CheckpointError
from sanderling_export import texts, tokens

_COMPARED = 60


def load(folder: Path) -> Any:
    """The tokenizer in transformers. Raises CheckpointError where there is none that can be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (ImportError, ValueError, OSError, AttributeError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{folder} has no tokenizer that transformers can read here: {lines[0][:200].rstrip('.')}. "
            "Give the folder with its tokenizer's files."
        ) from error


def tokenizer_json(tokenizer: Any) -> bytes:
    """The tokenizer's file, without padding and truncation; SigLIP's own is converted, and compared with itself.

    Raises CheckpointError for a tokenizer that cannot be converted, or that gives other tokens then.
    """
    if getattr(tokenizer, "is_fast", False) or type(tokenizer).__name__ != "SiglipTokenizer":
        return tokens.tokenizer_json(tokenizer)
    made = _converted(tokenizer)
    for text in (*texts.HARD, *texts.GOLDEN, *texts.corpus(_COMPARED, 0)):
        expected, found = tokenizer(text)["input_ids"], made.encode(text).ids
        if expected != found:
            raise CheckpointError(
                f"The tokenizer of {type(tokenizer).__name__} gives other tokens as a tokenizer.json, such as for "
                f"{text[:60]!r}; please report this checkpoint."
            )
    return bytes(made.to_str().encode())


def _converted(tokenizer: Any) -> Any:
    """SiglipTokenizer as the tokenizers library has it: text in lower case without punctuation, white space as one
    blank, then SentencePiece's own normalization and unigrams, and the end of the text."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers.convert_slow_tokenizer import import_protobuf

    proto = import_protobuf().ModelProto()
    proto.ParseFromString(Path(tokenizer.vocab_file).read_bytes())
    if proto.trainer_spec.model_type != 1:
        raise CheckpointError("The checkpoint's SentencePiece model is no unigram model; Sanderling converts those.")
    vocabulary = [(piece.piece, piece.score) for piece in proto.pieces]
    made = Tokenizer(
        models.Unigram(vocabulary, proto.trainer_spec.unk_id, byte_fallback=proto.trainer_spec.byte_fallback)
    )
    special = list(dict.fromkeys([tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token]))
    # The blank before a text stands there once, and not before what follows a special token inside the text: so the
    # text is normalized as a whole, and the special tokens are found after that.
    steps: list[Any] = [normalizers.Lowercase()] if tokenizer.do_lower_case else []
    steps += [
        normalizers.Replace(Regex(_punctuation(special)), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    if proto.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
    marked = "|".join(map(re.escape, special))
    steps += [
        normalizers.Replace(Regex(" {2,}"), " "),
        normalizers.Prepend("▁"),
        normalizers.Replace(Regex(rf"\A▁(?= |{marked})"), ""),
    ]
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    end = tokenizer.eos_token
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    made.add_special_tokens(
        [AddedToken(token, special=True, normalized=True, lstrip=True, rstrip=True) for token in special]
    )
    return made


def _punctuation(special: Sequence[str]) -> str:
    """A pattern of the ASCII punctuation that is no part of a special token."""
    kept = [
        (f"(?<={re.escape(token[:at])})" if at else "") + re.escape(token[at:])
        for token in special
        for at, character in enumerate(token)
        if character in string.punctuation
    ]
    marks = "".join(f"\\{mark}" for mark in string.punctuation)
    return (f"(?!{'|'.join(kept)})" if kept else "") + f"[{marks}]"
