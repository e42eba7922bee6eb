"""Texts to the tokens of a late-interaction model: queries and documents, each side in its own way (ColBERT)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import schedule
from sanderling.errors import TextError
from sanderling.fronts import TextFront
from sanderling.pairs import TextPair
from sanderling.plan import PADDED
from sanderling.preprocess.text import Encoded, TextEncoder
from sanderling.results import InputReport, TokenReport
from sanderling.schema.preprocessing import TextPreprocessing
from sanderling.schema.vectors import TokenOutput, TokenSide
from sanderling.session import Arrays

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation

QUERY, DOCUMENT = "query", "document"


class SidedText(Struct, frozen=True, eq=False):
    """One text as the graph sees it: `ids`, `type_ids` and `mask` of the shape (tokens,), int64, and its report."""

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    report: TokenReport

    @property
    def length(self) -> int:
        return len(self.ids)


def read_encoders(
    tokenizer_json: bytes, settings: TextPreprocessing, head: TokenOutput, where: str
) -> dict[str, TextEncoder]:
    """An encoder for each side, with room for the tokens of a text beside the marker. Raises BundleError."""
    return {
        name: TextEncoder(tokenizer_json, replace(settings, max_tokens=_room(side)), where)
        for name, side in ((QUERY, head.query), (DOCUMENT, head.document))
    }


class TokenFront(TextFront):
    """Texts of two sides, chosen by the prompt, each with its marker, its limit and what fills it up; padded runs."""

    def __init__(
        self,
        encoders: Mapping[str, TextEncoder],
        settings: TextPreprocessing,
        head: TokenOutput,
        input_names: Sequence[str],
        token_budget: int,
        rounding: int,
    ) -> None:
        super().__init__(encoders[DOCUMENT], input_names, token_budget, PADDED, rounding)
        self._encoders = encoders
        self._settings = settings
        self._sides = {QUERY: head.query, DOCUMENT: head.document}

    def prepare(self, items: list[Any], prompt: str | None, cancellation: Cancellation | None = None) -> list[Any]:
        name = prompt if prompt is not None else self._settings.default_prompt or DOCUMENT
        if name not in self._sides:
            raise TextError(f"This model has no prompt {name!r:.80}; it has {', '.join(map(repr, self._sides))}.")
        for index, item in enumerate(items):
            if isinstance(item, TextPair):
                raise TextError(f"Input {index} is a pair of texts; this model takes single ones, a side at a time.")
        side = self._sides[name]
        return [_placed(one, side) for one in self._encoders[name].encode(items, name, cancellation)]

    def batches(self, prepared: Sequence[Any]) -> Iterator[list[int]]:
        return schedule.batches([one.length for one in prepared], self._token_budget, PADDED, self._rounding)

    def feeds(self, batch: Sequence[Any]) -> tuple[Arrays, list[InputReport]]:
        longest = max(one.length for one in batch)
        length = max(1, longest, min(schedule.rounded(longest, self._rounding), self._settings.max_tokens))
        shape = (len(batch), length)
        arrays = {
            "input_ids": np.full(shape, self._settings.pad_token_id, np.int64),
            "token_type_ids": np.full(shape, self._settings.pad_token_type_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
        }
        for row, one in enumerate(batch):
            arrays["input_ids"][row, : one.length] = one.ids
            arrays["token_type_ids"][row, : one.length] = one.type_ids
            arrays["attention_mask"][row, : one.length] = one.mask
        return {name: arrays[name] for name in self._input_names}, [one.report for one in batch]


def _room(side: TokenSide) -> int:
    """Tokens of a text and its special ones, beside the marker."""
    return side.max_tokens - (side.marker is not None)


def _placed(encoded: Encoded, side: TokenSide) -> SidedText:
    """A text's tokens with the marker behind the first, filled up where the side is, and the places that count."""
    ids, type_ids = encoded.ids, encoded.type_ids
    if side.marker is not None:
        first = min(1, len(ids))
        ids, type_ids = np.insert(ids, first, side.marker), np.insert(type_ids, first, 0)
    own = len(ids)
    if side.expansion is not None and own < side.max_tokens:
        missing = side.max_tokens - own
        ids = np.concatenate([ids, np.full(missing, side.expansion, np.int64)])
        type_ids = np.concatenate([type_ids, np.zeros(missing, np.int64)])
    mask = np.ones(len(ids), np.int64)
    mask[own:] = int(side.attended)
    places = np.flatnonzero(~np.isin(ids, side.skipped)) if side.skipped else np.arange(len(ids))
    report = encoded.report
    told = TokenReport(
        tokens=len(ids),
        tokens_lost=report.tokens_lost,
        characters_unread=report.characters_unread,
        prompt_tokens=report.prompt_tokens,
        tokens_unknown=report.tokens_unknown,
        expanded=len(ids) - own,
        places=tuple(places.tolist()),
        ids=tuple(ids[places].tolist()),
    )
    return SidedText(ids, type_ids, mask, told)
