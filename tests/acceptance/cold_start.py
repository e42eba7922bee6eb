"""Issue 2: from nothing to the first answer in little more than the imports alone take."""

from __future__ import annotations

import wheel
from checks import Context, Row, at_most, built, registry

from sanderling_bench.process import run_child
from sanderling_bench.scenario import alternate
from sanderling_bench.statistics import median, ratio_of_medians

PAIRS = 21
BARE = "import numpy, onnxruntime, tokenizers; print(0, flush=True)"
ANSWER = """
import sys, sanderling
model = sanderling.load(sys.argv[1])
assert model.variant.startswith("int8"), model.variant
print(model("Sanderlings run along the edge of the waves.").embedding.shape[0], flush=True)
"""


@registry.check(2, "cold-start")
def cold_start(context: Context) -> list[Row]:
    bundle = str(built("all-minilm-l6-v2"))
    # In the environment that users have: the wheel alone, with byte code, as pip installs it.
    python = wheel.environment(context, compiled=True)
    commands = {
        "imports": [python, "-c", BARE],
        "answer": [python, "-c", ANSWER, bundle],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        run_child(command)
    context.say(f"{PAIRS} pairs of fresh processes")
    for _, name in alternate(PAIRS, list(commands)):
        seconds[name].append(run_child(commands[name])[1])
    ratio = ratio_of_medians(seconds["answer"], seconds["imports"])
    spread = (
        f"95% {ratio.low:.2f} to {ratio.high:.2f}, {ratio.pairs} pairs; "
        f"{median(seconds['answer']) * 1e3:.0f} over {median(seconds['imports']) * 1e3:.0f} ms"
    )
    return [
        at_most(
            "fresh process to MiniLM's first int8 answer, over importing numpy, onnxruntime, tokenizers",
            ratio.value,
            1.6,
            digits=2,
            spread=spread,
        )
    ]
