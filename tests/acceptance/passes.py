"""Issue 3: what the rewriting passes alone give, in the same precision: models of full size with random weights.

The unrewritten graph is the exporter's own, loaded as any user loads it, with all that ONNX Runtime fuses by default;
the rewritten one is loaded as the runtime loads it. Both run the same batches in alternating rounds, with all cores.
int8 is ONNX Runtime's dynamic quantization of either, by channel in seven bits, nothing smoothed.
"""

from __future__ import annotations

import gc
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from checks import Context, Row, at_least, at_most, registry, true
from numpy.typing import NDArray

from sanderling import cores
from sanderling.verification import cosines
from sanderling_bench.scenario import alternate
from sanderling_bench.statistics import ratio_of_medians
from sanderling_export import graphs
from sanderling_export.pace import compare
from sanderling_export.simplify import simplify

ROUNDS = 9
BOUND = 1.15
# Texts and tokens of each batch of a round: short ones, the usual, long ones; images of a batch.
TEXT_BATCHES = ((16, 24), (8, 64), (2, 256))
IMAGE_BATCHES = ((4, 0),)
_MAX_MOVED = 1e-5


@registry.check(3, "passes-bert")
def bert(context: Context) -> list[Row]:
    from transformers import BertConfig, BertModel

    return _rows(context, "BERT-base", lambda: BertModel(BertConfig()), "feature-extraction")


@registry.check(3, "passes-mpnet")
def mpnet(context: Context) -> list[Row]:
    from transformers import MPNetConfig, MPNetModel

    return _rows(context, "MPNet-base", lambda: MPNetModel(MPNetConfig()), "feature-extraction")


@registry.check(3, "passes-vit")
def vit(context: Context) -> list[Row]:
    from transformers import ViTConfig, ViTForImageClassification

    return _rows(
        context, "ViT-B/16", lambda: ViTForImageClassification(ViTConfig(num_labels=1000)), "image-classification"
    )


def _rows(context: Context, name: str, make: Callable[[], Any], task: str) -> list[Row]:
    path = _exported(context, make, task)
    context.say("rewrite")
    before = graphs.clean(path, context.folder / "clean.onnx", {"num_channels": 3, "height": 224, "width": 224})
    after, counts = simplify(before)
    pace = compare(before, after)
    graphs.save(after, context.folder / "rewritten")
    done = ", ".join(f"{count} {what}" for what, count in counts.items())
    rows = [
        true(
            f"{name}: kept by `sanderling export`, which times the rewritten graph on one thread",
            pace is not None,
            ("kept" if pace.pays else "not used") if pace else "not timed",
            "stated",
            spread=f"{done}; {pace.value:.2f} times" if pace else done,
        )
    ]
    del before, after
    gc.collect()
    rewritten = context.folder / "rewritten" / graphs.GRAPH_NAME
    batches = [_batch(path, *extent) for extent in (IMAGE_BATCHES if task.startswith("image") else TEXT_BATCHES)]
    exact = [_answers(path, batch) for batch in batches]
    moved = max(_distance(_answers(rewritten, b), e) for b, e in zip(batches, exact, strict=True))
    rows.append(at_most(f"{name} fp32: moved by the passes, of the largest value", moved, _MAX_MOVED, digits=8))
    rows.append(_speed(context, f"{name} fp32", path, _session(rewritten, disabled=graphs.SLOW), batches))
    context.say("quantize both")
    plain, fused = _quantized(path, context.folder / "plain"), _quantized(rewritten, context.folder / "fused")
    graphs.save(graphs.fuse(fused, context.folder / "fused.onnx"), context.folder / "final")
    final = context.folder / "final" / graphs.GRAPH_NAME
    similar = [
        min(float(cosines(_rowed(_answers(p, b)), _rowed(e)).min()) for b, e in zip(batches, exact, strict=True))
        for p in (plain, final)
    ]
    rows.append(
        at_least(
            f"{name} int8-dynamic: minimum cosine to fp32, less the unrewritten graph's",
            similar[1] - similar[0],
            -1e-3,
            digits=5,
            spread=f"{similar[1]:.5f} and {similar[0]:.5f}",
        )
    )
    rows.append(_speed(context, f"{name} int8-dynamic", plain, _session(final, optimized=True), batches))
    return rows


def _exported(context: Context, make: Callable[[], Any], task: str) -> Path:
    import torch
    from optimum.exporters.onnx import main_export

    torch.manual_seed(0)
    context.say("make and export")
    make().eval().save_pretrained(context.folder / "checkpoint")
    main_export(
        str(context.folder / "checkpoint"),
        context.folder / "exported",
        task=task,
        opset=18,
        library_name="transformers",
        framework="pt",
        do_validation=False,
        local_files_only=True,
    )
    return context.folder / "exported" / "model.onnx"


def _quantized(path: Path, target: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.mkdir()
    # Without recorded shapes, which the quantizer's own changes would contradict.
    quantize_dynamic(
        graphs.copied(onnx.load(path)),
        str(target / "model.onnx"),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    return target / "model.onnx"


def _session(path: Path, *, optimized: bool = False, disabled: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores.granted()
    options.log_severity_level = 3
    if optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if disabled:
        options.add_session_config_entry("optimization.disable_specified_optimizers", disabled)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _batch(path: Path, count: int, tokens: int) -> dict[str, NDArray[Any]]:
    draw = np.random.default_rng(1)
    made: dict[str, NDArray[Any]] = {}
    for value in _session(path).get_inputs():
        if value.name == "pixel_values":
            made[value.name] = draw.standard_normal((count, 3, 224, 224)).astype(np.float32)
        elif value.name == "input_ids":
            made[value.name] = draw.integers(1000, 30_000, (count, tokens))
        elif value.name == "attention_mask":
            lengths = draw.integers(tokens * 3 // 4, tokens + 1, count)
            made[value.name] = (np.arange(tokens) < lengths[:, None]).astype(np.int64)
        else:
            made[value.name] = np.zeros((count, tokens), np.int64)
    return made


def _answers(path: Path, batch: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The first output; of texts, the tokens that are no padding."""
    found: NDArray[np.float32] = _session(path).run(None, dict(batch))[0]
    return found[batch["attention_mask"] > 0] if "attention_mask" in batch else found


def _rowed(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    return answers.reshape(-1, answers.shape[-1])


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max())))


def _speed(
    context: Context,
    what: str,
    before: Path,
    after: onnxruntime.InferenceSession,
    batches: list[dict[str, NDArray[Any]]],
) -> Row:
    context.say(f"{what}: {ROUNDS} rounds")
    sessions = {"before": _session(before), "after": after}
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    each: dict[tuple[str, int], list[float]] = {}
    for session in sessions.values():
        for batch in batches:
            session.run(None, batch)
    for _, name in alternate(ROUNDS, list(sessions)):
        taken = []
        for place, batch in enumerate(batches):
            begin = time.perf_counter()
            sessions[name].run(None, batch)
            taken.append(time.perf_counter() - begin)
            each.setdefault((name, place), []).append(taken[-1])
        seconds[name].append(sum(taken))
    ratio = ratio_of_medians(seconds["before"], seconds["after"])
    parts = ", ".join(
        f"{_extent(batch)} {float(np.median(each['before', i]) / np.median(each['after', i])):.2f}"
        for i, batch in enumerate(batches)
    )
    return true(
        f"{what}: times the unrewritten graph's throughput",
        ratio.low >= BOUND,
        f"{ratio.value:.3f}",
        f">= {BOUND:g}",
        spread=f"95% {ratio.low:.3f} to {ratio.high:.3f}, {ROUNDS} rounds; {parts}; products are "
        f"{100 * _products(before, batches[-1], context.folder):.0f}% of the unrewritten graph's processor time",
    )


def _extent(batch: Mapping[str, NDArray[Any]]) -> str:
    return " x ".join(map(str, next(iter(batch.values())).shape[:2])) + ":"


def _products(path: Path, batch: Mapping[str, NDArray[Any]], scratch: Path) -> float:
    """The share of a run's node time in products with weights, which no rewrite makes faster."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores.granted()
    options.enable_profiling = True
    options.profile_file_prefix = str(scratch / "profile")
    options.log_severity_level = 3
    profiled = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    profiled.run(None, dict(batch))
    written = Path(profiled.end_profiling())
    events = json.loads(written.read_text(encoding="utf-8"))
    written.unlink()
    times: Counter[str] = Counter()
    for event in events:
        if event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"]
    products = ("MatMul", "Gemm", "Conv", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger")
    return sum(times[name] for name in products) / max(1, sum(times.values()))
