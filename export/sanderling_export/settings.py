"""How a variant is made: the settings of its precision, as a recipe says them and as the search finds them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from sanderling.errors import ExportError
from sanderling_export import split
from sanderling_export.ranges import PERCENTILE, Method

KeepAs = Literal["fp32", "int8-weight-only"]
Block = Literal[16, 32, 64, 128, 256]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a recipe may say of how a variant is quantized; each field concerns the precisions that have it.

    `keep` names nodes with weights (MatMul, Conv, Gemm) that stay in the precision `keep_as`, and with them the
    products that share their input; without it a convolutional network keeps those few that cost most. Of a model of
    several graphs a name begins with its graph's and a colon ("audio_encoder:/out_proj/MatMul"). `block` is the
    count of weights that share a scale in weight-only precisions. `calibration` is how int8-static finds the range of
    an activation: the whole range seen, the one that holds `percentile` percent of the values, or the one of the least
    entropy lost. `sums` is whether int8-static of a convolutional network rounds sums of activations, too; of voices
    it does not, unless a recipe has settings. `split` is where int8-static of transformers splits hidden channels (0:
    nowhere).
    """

    keep: tuple[str, ...] | None = None
    keep_as: KeepAs = "fp32"
    block: Block = 32
    split: Annotated[float, Meta(ge=0.0, le=1e6)] = split.LIMIT
    calibration: Method = "min-max"
    sums: bool = True
    percentile: Annotated[float, Meta(gt=50.0, le=100.0)] = PERCENTILE


def of_graph(settings: Settings, name: str, names: Collection[str]) -> Settings:
    """The settings of one graph of a model of several, `names`: those of its own nodes to keep, by their plain names.

    Raises ExportError: a node to keep whose graph is not said, or that the model does not have.
    """
    for one in settings.keep or ():
        if one.partition(":")[0] not in names:
            raise ExportError(
                f"keep has {one!r}; this model has several graphs, so a node's name begins with its graph's and a "
                f"colon: one of {', '.join(f'{known}:' for known in sorted(names))}"
            )
    own = tuple(node for graph, _, node in (one.partition(":") for one in settings.keep or ()) if graph == name)
    return replace(settings, keep=own or None)
