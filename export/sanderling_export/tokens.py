"""A Hugging Face tokenizer as the bundle has it: a tokenizer.json, and settings that say all that is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sanderling.errors import CheckpointError
from sanderling.schema.preprocessing import TextPreprocessing

TOKENIZER_NAME = "tokenizer.json"


def settings(
    tokenizer: Any, limit: int, lowercase: bool, prompts: Mapping[str, str], default: str | None
) -> TextPreprocessing:
    """How texts become tokens of at most `limit`; `default` names one of the prompts, or none."""
    return TextPreprocessing(
        TOKENIZER_NAME,
        limit,
        pad_token_id=tokenizer.pad_token_id or 0,
        pad_token_type_id=tokenizer.pad_token_type_id or 0,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        lowercase=lowercase,
        prompts=dict(prompts),
        default_prompt=default if default in prompts else None,
    )


def tokenizer_json(tokenizer: Any) -> bytes:
    """The tokenizer's file, without padding and truncation. Raises CheckpointError for one that is not a fast one."""
    from tokenizers import Tokenizer

    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            f"The tokenizer {type(tokenizer).__name__} has no tokenizer.json and cannot be converted to one; "
            "save it with a fast tokenizer first."
        )
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.no_padding()
    fast.no_truncation()
    return bytes(fast.to_str().encode())
