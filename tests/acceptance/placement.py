"""Issue 3: a provider that takes half a graph is found out: reported, refused under strict, out of the tuning."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import onnx
import wheel
from checks import Context, NotCheckableError, Row, built, registry, true
from hostile_bundles import changed, graph_of, read, sealed
from onnx import helper

# The build that carries OpenVINO for processors of every maker; its plugin takes Intel's only.
BUILD = "onnxruntime-openvino==1.24.1"
PROVIDER = "openvino"


@registry.check(3, "placement")
def placement(context: Context) -> list[Row]:
    python = environment(context)
    whole = only_fp32(built("efficientnet-lite0"), context.folder / "whole")
    half = halved(whole, context.folder / "half")
    context.say("the graph that OpenVINO takes whole")
    taken = placed(python, whole)
    context.say("the graph of which it takes half")
    split = placed(python, half)
    share = split["nodes"].get(PROVIDER, 0) / sum(split["nodes"].values())
    losers = [trial for trial in split["trials"] if trial[0] == PROVIDER]
    return [
        true(
            "EfficientNet-Lite0 on OpenVINO: every node is there, no warning, strict loads it",
            taken["complete"] and not taken["warnings"] and not taken["refused"],
            f"{taken['nodes']}",
            "all on openvino",
            spread=shares(taken["time"]),
        ),
        true(
            "half of it made such as OpenVINO does not take: the warning says so",
            len(split["warnings"]) == 1 and not split["complete"] and 0.25 <= share <= 0.75,
            f"{share:.0%} of the nodes",
            "a warning, 25% to 75%",
            spread=f"{split['nodes']}; {shares(split['time'])}",
        ),
        true(
            "the same under strict=True",
            "strict=True refuses" in split["refused"],
            "refused" if split["refused"] else "loaded",
            "refused",
            spread=split["refused"][:160],
        ),
        true(
            "the same in tune: the provider's plans lose",
            bool(losers) and split["tuned"] == "cpu" and all(trial[1] is None and trial[2] for trial in losers),
            f"{split['tuned']} won, {len(losers)} of {PROVIDER} out",
            "cpu wins",
            spread=losers[0][2][:160] if losers else "",
        ),
    ]


def shares(time: dict[str, float]) -> str:
    """Shares of the run time in words."""
    return "time: " + ", ".join(f"{share:.0%} {provider}" for provider, share in sorted(time.items()))


def environment(context: Context) -> str:
    """The wheel in an environment of its own, with the build of ONNX Runtime that carries OpenVINO."""
    python = wheel.environment(context, compiled=False)
    context.say(f"{BUILD} in place of onnxruntime")
    try:
        wheel.run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "onnxruntime")
        wheel.run(python, "-m", "pip", "install", "--quiet", BUILD)
    except AssertionError as error:
        raise NotCheckableError(f"{BUILD} does not install here: {error}") from error
    return python


def only_fp32(bundle: Path, target: Path) -> Path:
    """A copy of a bundle with the fp32 variant alone."""
    shutil.copytree(bundle, target)

    def keep(manifest: dict[str, Any]) -> None:
        manifest["default_variant"] = "fp32"
        (component,) = manifest["components"].values()
        component["variants"] = {"fp32": component["variants"]["fp32"]}

    changed(keep)(target)
    return target


def halved(bundle: Path, target: Path) -> Path:
    """A copy of a bundle in which every node of the graph's second half is followed by one that changes nothing.

    It is `ai.onnx.ml.Scaler` with a scale of 1: the CPU provider has it, and OpenVINO has none of that domain.
    """
    shutil.copytree(bundle, target)
    assert read(target)["default_variant"] == "fp32"

    def change(data: bytes) -> bytes:
        model = onnx.load_model_from_string(data)
        nodes = list(model.graph.node)
        outputs = {value.name for value in model.graph.output}
        made: list[onnx.NodeProto] = []
        for index, node in enumerate(nodes):
            made.append(node)
            if index < len(nodes) // 2 or node.op_type in ("Constant", "Shape") or node.output[0] in outputs:
                continue
            (name,) = node.output
            node.output[0] = f"{name}.kept"
            made.append(
                helper.make_node("Scaler", [f"{name}.kept"], [name], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
            )
        del model.graph.node[:]
        model.graph.node.extend(made)
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        data = model.SerializeToString()
        assert isinstance(data, bytes)
        return data

    sealed(graph_of, change)(target)
    return target


def placed(python: str, bundle: Path) -> dict[str, Any]:
    """What the script says of a bundle, in that environment."""
    script = Path(__file__).with_name("placed.py")
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    quiet["SANDERLING_CACHE"] = str(bundle.parent / "cache")
    done = subprocess.run(
        [python, str(script), str(bundle), PROVIDER],
        capture_output=True,
        text=True,
        check=False,
        env=quiet,
        timeout=900,
        cwd=bundle.parent,
    )
    if done.returncode:
        raise AssertionError(f"{bundle.name}: {done.stderr.strip()[-400:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found
