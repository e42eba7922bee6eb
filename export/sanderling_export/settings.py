"""How a variant is made: the settings of its precision, as a recipe says them and as the search finds them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling_export import split
from sanderling_export.ranges import PERCENTILE, Method

KeepAs = Literal["fp32", "int8-weight-only"]
Block = Literal[16, 32, 64, 128, 256]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a recipe may say of how a variant is quantized; each field concerns the precisions that have it.

    `keep` names nodes with weights (MatMul, Conv, Gemm) that stay in the precision `keep_as`, and with them the
    products that share their input; without it a convolutional network keeps those few that cost most. `block` is the
    count of weights that share a scale in weight-only precisions. `calibration` is how int8-static finds the range of
    an activation: the whole range seen, the one that holds `percentile` percent of the values, or the one of the least
    entropy lost. `split` is where int8-static of transformers splits hidden channels (0: nowhere).
    """

    keep: tuple[str, ...] | None = None
    keep_as: KeepAs = "fp32"
    block: Block = 32
    split: Annotated[float, Meta(ge=0.0, le=1e6)] = split.LIMIT
    calibration: Method = "min-max"
    percentile: Annotated[float, Meta(gt=50.0, le=100.0)] = PERCENTILE
