"""Encoded texts to the inputs of graphs that know no padding: texts of one length, and tokens of many in one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sanderling.preprocess.text import Encoded

Ids = NDArray[np.int64]

# The inputs of the forms `exact` and `packed`, as docs/bundle-format.md specifies them.
EXACT_INPUTS = ("input_ids", "token_type_ids")
PACKED_INPUTS = ("input_ids", "token_type_ids", "position_ids", "attention_mask", "block_ids", "token_ids")


def exact(batch: Sequence[Encoded], names: Sequence[str]) -> dict[str, Ids]:
    """Texts of one length to the inputs `names` of the form `exact`, each of the shape (texts, tokens), int64."""
    if len(batch) == 1:
        arrays = {"input_ids": batch[0].ids[None], "token_type_ids": batch[0].type_ids[None]}
    else:
        arrays = {
            "input_ids": np.stack([encoded.ids for encoded in batch]),
            "token_type_ids": np.stack([encoded.type_ids for encoded in batch]),
        }
    return {name: arrays[name] for name in names if name in arrays}


def packed(batch: Sequence[Encoded], names: Sequence[str]) -> dict[str, Ids]:
    """Texts of any lengths to the inputs `names` of the form `packed`, int64.

    `input_ids`, `token_type_ids` and `position_ids` (1, tokens): the texts one after another, and each token's place in
    its own. `attention_mask` and `block_ids` (texts, longest): 1 where a text has a token, and which token of the row
    that is (0 where there is none). `token_ids` (tokens): where in the flattened block each token stands.
    """
    lengths = np.array([encoded.length for encoded in batch])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    places = np.arange(lengths.max())
    mask = places < lengths[:, None]
    arrays = {
        "input_ids": np.concatenate([encoded.ids for encoded in batch])[None],
        "token_type_ids": np.concatenate([encoded.type_ids for encoded in batch])[None],
        "position_ids": (np.arange(ends[-1]) - np.repeat(starts, lengths))[None],
        "attention_mask": mask.astype(np.int64),
        "block_ids": np.where(mask, starts[:, None] + places, 0),
        "token_ids": np.flatnonzero(mask),
    }
    return {name: arrays[name].astype(np.int64, copy=False) for name in names if name in arrays}
