"""What this machine can do at best: products of large matrices in float32 and int8, and moving memory.

Products run through ONNX Runtime, whose kernels a bundle runs on; the best of several shapes counts, and of several
rounds the fastest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from sanderling_bench.record import Metal

# Rows, depth and columns: the products of transformers from small to large, and a cube.
SHAPES = ((512, 384, 1536), (512, 768, 3072), (512, 3072, 768), (1024, 1024, 1024))
# Larger than any cache of today.
_COPIED_BYTES = 128 * 2**20
_ROUNDS = 5
_OPSET, _IR_VERSION = 18, 9


def measure_metal(threads: int, rounds: int = _ROUNDS) -> Metal:
    """The peaks of this machine's CPU with `threads` threads, in operations and bytes a second."""
    return Metal(
        threads=threads,
        float_operations=max(_product(shape, threads, rounds, integers=False) for shape in SHAPES),
        integer_operations=max(_product(shape, threads, rounds, integers=True) for shape in SHAPES),
        memory_bytes=_bandwidth(threads, rounds),
    )


def _product(shape: tuple[int, int, int], threads: int, rounds: int, *, integers: bool) -> float:
    """Operations a second of one product (rows, depth) x (depth, columns)."""
    rows, depth, columns = shape
    draw = np.random.default_rng(0)
    # Unsigned activations and signed weights, as quantized models have them; seven bits, so that no kernel saturates.
    weights = draw.integers(-64, 64, (depth, columns)).astype(np.int8 if integers else np.float32)
    inputs = draw.integers(0, 128, (rows, depth)).astype(np.uint8 if integers else np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _graph(shape, weights, integers=integers).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return 2 * rows * depth * columns / _fastest(lambda: session.run(None, {"x": inputs}), rounds)


def _graph(
    shape: tuple[int, int, int], weights: np.ndarray[tuple[int, ...], np.dtype[np.generic]], *, integers: bool
) -> onnx.ModelProto:
    rows, depth, columns = shape
    of, to = (TensorProto.UINT8, TensorProto.INT32) if integers else (TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if integers else "MatMul", ["x", "weights"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", of, [rows, depth])],
        [helper.make_tensor_value_info("y", to, [rows, columns])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _bandwidth(threads: int, rounds: int) -> float:
    """Bytes a second read and written by copying arrays, one pair for each thread."""
    sources = [np.ones(_COPIED_BYTES // threads, np.uint8) for _ in range(threads)]
    targets = [np.zeros_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:
        # NumPy copies without the interpreter's lock.
        seconds = _fastest(lambda: list(pool.map(np.copyto, targets, sources)), rounds)
    return 2 * sum(source.nbytes for source in sources) / seconds


def _fastest(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    # The first touches pages and packs weights.
    return min(taken[1:])
