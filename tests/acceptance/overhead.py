"""Issue 3: what the runtime itself adds to a call, beside what one call of MiniLM takes.

The runtime's own overhead is all of a call that is neither the tokenizer's work nor ONNX Runtime's: a call of the null
model, less its tokenizer's `encode` of the same text and less its session's `run` on the same arrays, measured in the
same rounds. It shows, too, in what `sanderling bench` prints of the null model.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import null_model
import onnxruntime
import texts
from checks import Context, Row, at_most, built, registry
from tokenizers import Tokenizer

import sanderling
from sanderling.bundle import open_bundle
from sanderling_bench.inputs import Inputs
from sanderling_bench.measure import Plan, measure
from sanderling_bench.scenario import alternate
from sanderling_bench.statistics import median, ratio_of_medians

ROUNDS = 15
CALLS = 100
BOUND = 3.0


@registry.check(3, "overhead")
def overhead(context: Context) -> list[Row]:
    path = built("all-minilm-l6-v2")
    null = null_model.build(path, context.folder / "null")
    chosen = [text for text in texts.sentences() if 20 <= len(text) <= 200][:CALLS]
    bundle = open_bundle(path)
    assert bundle.manifest.preprocessing.text is not None
    tokenizer = Tokenizer.from_buffer(bundle.read(bundle.manifest.preprocessing.text.tokenizer))
    tokenizer.no_padding()
    # As a session of the runtime runs a graph of one operator; the model takes the ids alone.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = str(open_bundle(null).require([null_model.GRAPH])[0])
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    seconds: dict[str, list[float]] = {}
    with sanderling.load(path) as model, sanderling.load(null) as nothing:
        ids = {text: nothing.front.feeds(nothing.front.prepare([text], None))[0] for text in chosen}
        ways: dict[str, Callable[[str], object]] = {
            "MiniLM": model,
            "null": nothing,
            "tokenizer": tokenizer.encode,
            "run": lambda text: session.run(["hidden"], ids[text]),
        }
        context.say(f"{ROUNDS} rounds of {CALLS} calls")
        for _, name in alternate(ROUNDS, list(ways)):
            seconds.setdefault(name, []).append(_round(ways[name], chosen))
        variant = model.variant
    own = [
        call - tokens - run
        for call, tokens, run in zip(seconds["null"], seconds["tokenizer"], seconds["run"], strict=True)
    ]
    share = ratio_of_medians(own, seconds["MiniLM"])
    context.say("the bench measures the null model")
    record = measure(
        open_bundle(null), Inputs("text", tuple(chosen), "sentences"), Plan(rounds=5, samples=330, cold_starts=0)
    )
    latency = record.summary["fp32"].latency
    assert latency is not None
    assert latency.p50 is not None
    return [
        at_most(
            f"One short text, {variant}: the runtime's own share of MiniLM's p50 "
            "(a call of the null model less its tokenizer and its run)",
            100 * share.value,
            BOUND,
            digits=2,
            unit="%",
            spread=f"95% {100 * share.low:.2f} to {100 * share.high:.2f}, {ROUNDS} rounds; "
            f"{1e6 * median(own):.0f} µs of {1e6 * median(seconds['MiniLM']):.0f} µs",
        ),
        at_most(
            "The same in `sanderling bench` of the null model: p50, tokenizer and run included, of MiniLM's",
            100 * latency.p50 / median(seconds["MiniLM"]),
            2 * BOUND,
            digits=2,
            unit="%",
            spread=f"{1e6 * latency.p50:.0f} µs; tokenizer {1e6 * median(seconds['tokenizer']):.0f} µs, "
            f"run {1e6 * median(seconds['run']):.0f} µs",
        ),
    ]


def _round(system: Callable[[str], object], chosen: list[str]) -> float:
    """The median seconds of a call, after all texts went through once.

    What MiniLM's run pushed out of the caches is so brought back for each system alike: else the null model, whose turn
    is after MiniLM's, would pay for the tokenizer's tables as well, and the tokenizer by itself would find them there.
    """
    for text in chosen:
        system(text)
    taken = []
    for text in chosen:
        begin = time.perf_counter()
        system(text)
        taken.append(time.perf_counter() - begin)
    return median(taken)
