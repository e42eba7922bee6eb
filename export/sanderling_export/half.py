"""fp16: weights and what flows between operators in half precision, inputs and outputs in float32."""

from __future__ import annotations

import onnx
import onnxruntime as ort
from onnxruntime.transformers.float16 import convert_float_to_float16

from sanderling.errors import ExportError
from sanderling.reasons import first_line
from sanderling_export import graphs


def convert(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in half precision. Raises ExportError where this machine's ONNX Runtime cannot run it on the CPU."""
    half: onnx.ModelProto = convert_float_to_float16(
        graphs.copied(model), keep_io_types=True, disable_shape_infer=False
    )
    try:
        graphs.session(half)
    except Exception as error:
        raise ExportError(
            f"The variant fp16 cannot be made of this graph: ONNX Runtime {ort.__version__} does not run it on the CPU "
            f"({first_line(error, 200)}). Leave fp16 out of --variants."
        ) from error
    return half
