"""ONNX graphs as files: cleaning, saving with external data, and looking at what flows through them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from sanderling.schema.variants import Form, TensorSpec
from sanderling_export.errors import unsupported

Array = NDArray[np.generic]
Feed = Mapping[str, Array]

# 11.5 ms against 2.2 for the addition and the normalization apart (all-MiniLM-L6-v2, x86-64).
SLOW = "SkipLayerNormFusion"

GRAPH_NAME = "model.onnx"
WEIGHTS_NAME = "weights.bin"
_MASK = "attention_mask"

# Tensors below this many bytes stay in the graph; external data loads by memory mapping, without parsing.
_EXTERNAL_BYTES = 1024
_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.BOOL: "bool",
}


def clean(source: Path, target: Path, fixed: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Fold constants and batch normalization with ONNX Runtime's basic passes, which know no hardware.

    `target` is a scratch file; the cleaned graph is returned in memory. `fixed` are sizes of free dimensions, by name.
    """
    return _optimized(source, target, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, fixed or {})


def fuse(source: Path, target: Path) -> onnx.ModelProto:
    """ONNX Runtime's fusions for the CPU, of every CPU alike, but for one that is slower than its parts.

    `target` is a scratch file; the fused graph is returned in memory.
    """
    return _optimized(source, target, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, {})


def _optimized(
    source: Path, target: Path, level: ort.GraphOptimizationLevel, fixed: Mapping[str, int]
) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.add_session_config_entry("optimization.disable_specified_optimizers", SLOW)
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    for name, size in fixed.items():
        options.add_free_dimension_override_by_name(name, size)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return onnx.load(str(target))


def is_fused(model: onnx.ModelProto) -> bool:
    """Whether the graph is in the form that ONNX Runtime's fusions for the CPU lead to: optimizing it again is idle."""
    return any(node.op_type in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul") for node in model.graph.node)


def save(model: onnx.ModelProto, folder: Path) -> None:
    """Write `model` as `model.onnx` with its weights beside it in `weights.bin`."""
    folder.mkdir(parents=True, exist_ok=True)
    # Saving moves the weights out of the graph it is given.
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save_model(
        copy,
        str(folder / GRAPH_NAME),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WEIGHTS_NAME,
        size_threshold=_EXTERNAL_BYTES,
        convert_attribute=False,
    )
    weights_file = folder / WEIGHTS_NAME
    if weights_file.exists():
        # onnx makes it readable by its owner alone; a bundle is read by whoever may read its graph.
        weights_file.chmod((folder / GRAPH_NAME).stat().st_mode & 0o777)


def written(model: onnx.ModelProto, folder: Path, root: Path, *, optimized: bool = False) -> Form:
    """As `save`, and the form of a bundle in `root` that it is; `optimized` says that optimizing it again is idle."""
    save(model, folder)
    prefix = folder.relative_to(root).as_posix()
    data = (f"{prefix}/{WEIGHTS_NAME}",) if (folder / WEIGHTS_NAME).exists() else ()
    return Form(f"{prefix}/{GRAPH_NAME}", data, optimized=optimized)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy to change, without recorded shapes: those of weights that a pass transposes would contradict it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return copy


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy to change, as `copied`, in which every node has a name: where it had none, its operator and place."""
    copy = copied(model)
    for index, node in enumerate(copy.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return copy


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """A CPU session on a graph in memory (below protobuf's limit of 2 GiB), whose errors are raised and not logged."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def specs(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    """Names, dtypes and shapes of graph inputs or outputs."""
    found = []
    for value in values:
        tensor = value.type.tensor_type
        dtype = _DTYPES.get(tensor.elem_type)
        if dtype is None:
            kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
            raise unsupported(f"the graph's tensor {value.name!r} has the type {kind}")
        shape = tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or f"{value.name}_{axis}"
            for axis, d in enumerate(tensor.shape.dim)
        )
        found.append(TensorSpec(value.name, dtype, shape))  # type: ignore[arg-type]
    return tuple(found)


def weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The graph's initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    """The values of an initializer."""
    values: NDArray[np.float32] = numpy_helper.to_array(tensor)
    return values


def replace(tensor: onnx.TensorProto, values: Array) -> None:
    """Give an initializer new values under its old name."""
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def prune(model: onnx.ModelProto) -> None:
    """Drop initializers that no node reads any more."""
    read = {name for node in model.graph.node for name in node.input}
    read |= {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def observe(
    model: onnx.ModelProto, tensors: Iterable[str], feeds: Iterable[Feed]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Run the graph on each feed and give the named float32 tensors inside it."""
    names = sorted(set(tensors))
    inputs = {value.name for value in model.graph.input}
    inside = [name for name in names if name not in inputs]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {value.name for value in watched.graph.output}
    for name in inside:
        if name not in present:
            watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    runner = session(watched)
    for feed in feeds:
        # Asked for no tensor, a session gives all its outputs.
        values = dict(zip(inside, runner.run(inside, dict(feed)), strict=True)) if inside else {}
        values.update({name: np.asarray(feed[name]) for name in names if name in inputs})
        yield values


def channel_means(
    model: onnx.ModelProto, tensors: Iterable[str], feeds: Sequence[Feed]
) -> dict[str, NDArray[np.float64]]:
    """The mean of each tensor over the feeds by channel, its second axis: (channels,), float64."""
    sums: dict[str, NDArray[np.float64]] = {}
    for values in observe(model, tensors, feeds):
        for name, value in values.items():
            axes = tuple(axis for axis in range(value.ndim) if axis != 1)
            sums[name] = sums.get(name, np.zeros(1)) + value.mean(axis=axes, dtype=np.float64)
    return {name: total / len(feeds) for name, total in sums.items()}


def observe_rows(
    model: onnx.ModelProto, tensors: Iterable[str], feeds: Sequence[Feed]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """As `observe`, each tensor as rows (n, k), without the positions that the feed's attention mask hides.

    Padding holds whatever the graph makes of it; no range and no scale may come from there.
    """
    for feed, values in zip(feeds, observe(model, tensors, feeds), strict=True):
        seen = np.asarray(feed[_MASK]) != 0 if _MASK in feed else None
        yield {
            name: (value if seen is None or value.shape[: seen.ndim] != seen.shape else value[seen]).reshape(
                -1, value.shape[-1]
            )
            for name, value in values.items()
        }
