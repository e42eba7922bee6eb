"""How a variant is made: the settings of its precision, as a recipe says them and as the search finds them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sanderling_export import matmuls, split

KeepAs = Literal["fp32", "int8-weight-only"]
Block = Literal[16, 32, 64, 128]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a recipe may say of how a variant is quantized; each field concerns the precisions that have it.

    `keep` names nodes with weights (MatMul, Conv, Gemm) that stay in the precision `keep_as`, and with them the
    products that share their input; without it a convolutional network keeps those few that cost most. `block` is the
    count of weights that share a scale in weight-only precisions. `split` is where hidden channels are split (0:
    nowhere), and `smooth` by how many times the median a channel stands out that is smoothed; both of int8-static for
    transformers.
    """

    keep: tuple[str, ...] | None = None
    keep_as: KeepAs = "fp32"
    block: Block = 32
    split: Annotated[float, Meta(ge=0.0, le=1e6)] = split.LIMIT
    smooth: Annotated[float, Meta(ge=1.0, le=1e6)] = matmuls.OUTLIER
