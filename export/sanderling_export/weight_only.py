"""int8-weight-only and int4-weight-only: weights in blocks, activations in float32 until inside the kernel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
    QuantFormat,
)

from sanderling_export import graphs, tables

BLOCK = 32
# The kernel may quantize each block of an activation to int8 for itself, which moves answers by about 1e-4 in cosine.
_ACCURACY_LEVEL = 4


@dataclass(frozen=True, slots=True)
class Made:
    """The quantized graph, how many products were quantized, and how many embedding tables."""

    model: onnx.ModelProto
    products: int
    tables: int


def quantize(model: onnx.ModelProto, bits: Literal[4, 8], *, block: int = BLOCK, keep: Collection[str] = ()) -> Made:
    """Quantize the constant weights of every MatMul symmetrically to `bits`, and large tables by row to int8.

    `block` weights of a column share a scale; nodes named in `keep` stay as they are.
    """
    changed = graphs.copied(model)
    looked_up = tables.quantize_tables(changed)
    config = DefaultWeightOnlyQuantConfig(
        block_size=block,
        is_symmetric=True,
        accuracy_level=_ACCURACY_LEVEL,
        quant_format=QuantFormat.QOperator,
        op_types_to_quantize=("MatMul",),
        bits=bits,
    )
    worker = MatMulNBitsQuantizer(changed, nodes_to_exclude=list(keep), algo_config=config)
    worker.process()
    made = worker.model.model
    graphs.prune(made)
    return Made(made, sum(node.op_type == "MatMulNBits" for node in made.graph.node), looked_up)
