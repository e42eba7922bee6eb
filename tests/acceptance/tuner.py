"""Issue 3: the tuner finds what an exhaustive search finds, in its time, and never a plan that answers wrong."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import texts
from checks import Context, Row, at_least, at_most, built, registry, true
from msgspec.structs import replace

import sanderling
from sanderling import sealing
from sanderling.bundle import Bundle, open_bundle
from sanderling.codec import encode
from sanderling.golden import read_golden
from sanderling.loading import assemble
from sanderling.manifest import MANIFEST_NAME
from sanderling.plan import Plan
from sanderling.schema.variants import Form
from sanderling.shared import Shared, graph_of
from sanderling.tuning import candidates
from sanderling.tuning.trials import describe
from sanderling.tuning.workload import workload
from sanderling.verification import replay, tolerance
from sanderling_bench.scenario import alternate
from sanderling_bench.statistics import Ratio, median, ratio_of_medians

SECONDS = 60.0
ROUNDS = 11
TEXTS = 256
# Of the exhaustive search: inputs of one measurement, the share measured again, and how often.
BULK, SHARE, AGAIN = 96, 0.1, 5


@registry.check(3, "tuner")
def tuner(context: Context) -> list[Row]:
    bundle = open_bundle(built("all-minilm-l6-v2"))
    with _cache(context):
        started = time.perf_counter()
        tuned = sanderling.tune(bundle.path, "throughput", time_limit=SECONDS)
        took = time.perf_counter() - started
        with sanderling.load(bundle.path) as model:
            used = model.plan
        context.say(f"tune chose {describe(tuned.plan)}")
        invariant = sanderling.tune(bundle.path, "throughput", batch_invariant=True, time_limit=SECONDS).plan
        context.say(f"batch-invariant: {describe(invariant)}")
    best, count = _exhaustive(context, bundle)
    context.say(f"of {count} plans the best is {describe(best)}")
    chosen = texts.of_all_lengths(TEXTS * 5 // 3)[:TEXTS]
    seconds = _alternated(bundle, {"tuned": tuned.plan, "best": best, "invariant": invariant}, chosen, ROUNDS)
    against_best = ratio_of_medians(seconds["best"], seconds["tuned"])
    alone = ratio_of_medians(seconds["tuned"], seconds["invariant"])
    return [
        at_most("MiniLM, tune for throughput: seconds", took, SECONDS, digits=1, spread=f"{len(tuned.trials)} trials"),
        true("the plan that load uses", used == tuned.plan, describe(used), describe(tuned.plan)),
        at_least(
            f"throughput of its plan, of the best of {count} by exhaustive search",
            against_best.low,
            0.95,
            spread=_spread(against_best),
        ),
        at_least("throughput of the batch-invariant plan, of the fastest's", alone.low, 0.75, spread=_spread(alone)),
    ]


@registry.check(3, "tuner-floor")
def floor(context: Context) -> list[Row]:
    """A variant that answers after one layer of six: it would win every race."""
    bundle = _with_a_bad_variant(context)
    with _cache(context):
        tuned = sanderling.tune(bundle.path, "throughput", time_limit=SECONDS)
    out = [trial for trial in tuned.trials if trial.plan.variant == "bad"]
    plans = {"tuned": tuned.plan, "bad": Plan("bad", "cpu", tuned.plan.threads, tuned.plan.workers)}
    seconds = _alternated(bundle, plans, texts.of_all_lengths(TEXTS)[: TEXTS // 2], ROUNDS)
    faster = ratio_of_medians(seconds["tuned"], seconds["bad"])
    return [
        true(
            "speed of a variant made bad on purpose, over the plan's",
            faster.low > 1,
            f"{faster.value:.2f}",
            "> 1",
            spread=_spread(faster),
        ),
        true(
            "tune tried it and left it out",
            bool(out) and all(trial.reason.startswith("below its floor") for trial in out),
            f"{len(out)} trials",
            "all below their floor",
            spread=f"lowest cosine {min((t.cosine for t in out if t.cosine is not None), default=1):.3f}",
        ),
        true("tune's variant", tuned.plan.variant != "bad", tuned.plan.variant, "not the bad one"),
    ]


@registry.check(3, "schedule")
def schedule(context: Context) -> list[Row]:
    """The same graph, texts batched by 32 in input order, as a loop over a list does it."""
    bundle = open_bundle(built("all-minilm-l6-v2"))
    chosen = texts.of_all_lengths(TEXTS)
    seconds: dict[str, list[float]] = {"input order": [], "scheduled": []}
    with sanderling.load(bundle.path) as model, assemble(bundle, _in_input_order(model.plan)) as plain:
        for _, name in alternate(5, list(seconds)):
            started = time.perf_counter()
            if name == "scheduled":
                model(chosen)
            else:
                for start in range(0, len(chosen), 32):
                    plain.answer(chosen[start : start + 32])
            seconds[name].append(time.perf_counter() - started)
            context.say(f"{name}: {len(chosen) / seconds[name][-1]:.0f} texts/s")
    ratio = ratio_of_medians(seconds["input order"], seconds["scheduled"])
    return [
        at_least(
            "MiniLM, sorted and budgeted over batches of 32 in input order: throughput",
            ratio.low,
            1.5,
            digits=2,
            spread=_spread(ratio),
        )
    ]


def _in_input_order(plan: Plan) -> Plan:
    return Plan(plan.variant, plan.provider, plan.threads, 1, token_budget=10**9)


def _exhaustive(context: Context, bundle: Bundle) -> tuple[Plan, int]:
    """The fastest of every plan that holds its floor: each measured once, the best tenth again, alternated."""
    plans = candidates.everything(bundle, "throughput", False)
    golden = read_golden(bundle)
    items = workload(bundle, golden, BULK)
    found: dict[Plan, list[float]] = {}
    for graph in dict.fromkeys(map(graph_of, plans)):
        context.say(f"exhaustive search: {graph[0]}, form {graph[2]}, without {graph[3]}")
        shared = Shared()
        for plan in (plan for plan in plans if graph_of(plan) == graph):
            with assemble(bundle, plan, shared) as model:
                if all(check.held for check in replay(model, golden, tolerance(bundle, plan.variant))):
                    model.answer(items[:8])
                    started = time.perf_counter()
                    model.answer(items)
                    found[plan] = [time.perf_counter() - started]
        shared.close()
    ranked = sorted(found, key=lambda plan: found[plan][0])[: max(2, round(len(found) * SHARE))]
    again = _alternated(bundle, {str(i): plan for i, plan in enumerate(ranked)}, items, AGAIN)
    return min(ranked, key=lambda plan: median(again[str(ranked.index(plan))])), len(plans)


def _alternated(bundle: Bundle, plans: dict[str, Plan], items: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of all items, by plan, in alternating rounds."""
    shared = Shared()
    models = {name: assemble(bundle, plan, shared) for name, plan in plans.items()}
    seconds: dict[str, list[float]] = {name: [] for name in plans}
    for model in models.values():
        model.answer(list(items[:32]))
    for _, name in alternate(rounds, list(models)):
        started = time.perf_counter()
        models[name].answer(list(items))
        seconds[name].append(time.perf_counter() - started)
    for model in models.values():
        model.close()
    shared.close()
    return seconds


def _with_a_bad_variant(context: Context) -> Bundle:
    folder = context.folder / "bundle"
    shutil.copytree(built("all-minilm-l6-v2"), folder)
    manifest = open_bundle(folder).manifest
    component = manifest.components["model"]
    variant = component.variants[manifest.default_variant]
    good = folder / variant.forms["padded"].graph
    model = onnx.load(str(good), load_external_data=False)
    # Two normalizations a layer, after the one of the embeddings.
    first = [node for node in model.graph.node if node.op_type == "LayerNormalization"][2]
    output, made = model.graph.output[0].name, first.output[0]
    for node in model.graph.node:
        node.output[:] = [f"{output}_whole" if name == output else name for name in node.output]
        node.input[:] = [output if name == made else name for name in node.input]
    first.output[0] = output
    needed = {output}
    for node in reversed(list(model.graph.node)):
        if needed.isdisjoint(node.output):
            model.graph.node.remove(node)
        else:
            needed.update(node.input)
    onnx.save(model, str(good.with_name("bad.onnx")))
    path = (good.with_name("bad.onnx")).relative_to(folder).as_posix()

    form = Form(path, variant.forms["padded"].data, variant.forms["padded"].optimized)
    variants = component.variants | {"bad": replace(variant, forms={"padded": form})}
    components = {"model": replace(component, variants=variants)}
    # As the default it is tried first, so that no lack of time keeps it out.
    changed = replace(manifest, components=components, default_variant="bad", files=sealing.list_files(folder))
    (folder / MANIFEST_NAME).write_bytes(encode(changed))
    return open_bundle(folder)


@contextmanager
def _cache(context: Context) -> Iterator[None]:
    """A cache of its own, so that the plan found here is not used by anything else."""
    before = os.environ.get("SANDERLING_CACHE")
    os.environ["SANDERLING_CACHE"] = str(Path(context.folder) / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["SANDERLING_CACHE"]
        else:
            os.environ["SANDERLING_CACHE"] = before


def _spread(ratio: Ratio) -> str:
    return f"{ratio.value:.3f}, 95% {ratio.low:.3f} to {ratio.high:.3f}, {ratio.pairs} rounds"
