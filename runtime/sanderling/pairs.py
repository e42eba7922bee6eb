"""Two texts as one input: a premise and a hypothesis, a question and a passage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from sanderling.errors import TextError

Truncation = Literal["longest_first", "only_first"]


class TextPair(Struct, frozen=True):
    """Two texts that a model sees together: `text`, and `text_pair` after it.

    Where the two are more tokens than the model takes, `truncation` says which of them is cut: "longest_first" the
    longer one until both are of one length, then both; "only_first" the first alone.
    """

    text: str
    text_pair: str
    truncation: Truncation = "longest_first"


def as_pair(item: object) -> object:
    """A mapping with `text` and `text_pair` as a TextPair, as transformers' pipelines take it; all else as it is.

    Raises TextError for a mapping with other keys.
    """
    if not isinstance(item, Mapping):
        return item
    if set(item) == {"text"}:
        return item["text"]
    if set(item) != {"text", "text_pair"}:
        raise TextError(
            f"The input has the keys {', '.join(sorted(map(str, item)))[:200] or 'none'}; "
            "text and text_pair were expected."
        )
    return TextPair(item["text"], item["text_pair"])
