"""What samples give each graph of a model that generates, which ranges of 8-bit numbers are found with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from sanderling.generation import prompt_front
from sanderling.generation.rules import DECODER
from sanderling.hearing.audio_front import FEATURES
from sanderling.schema.variants import Component
from sanderling_export import graphs
from sanderling_export.generation.measures import last
from sanderling_export.generation.originals import CausalLM, Original


def recorded(
    source: Original, nets: Mapping[str, onnx.ModelProto], items: Sequence[Any], steps: int, scratch: Path
) -> dict[str, list[dict[str, NDArray[Any]]]]:
    """Single inputs of each graph, to find ranges with: what the library's preprocessing and the graphs before it give.

    A decoder reads what a sequence begins with and the original's first tokens behind it, so that ranges are those of
    words and not of a beginning alone.
    """
    found: dict[str, list[dict[str, NDArray[Any]]]] = {name: [] for name in nets}
    begun = [source.start(item) for item in items]
    if not isinstance(source, CausalLM):  # whose prompts are words already
        pairs = zip(begun, items, strict=True)
        begun = [np.append(start, source.greedy(item, steps)[:-1]).astype(np.int64) for start, item in pairs]
    given = [
        {key: np.asarray(value)[None] for key, value in _windowed(source, source.inputs(item), place).items()}
        for place, item in enumerate(items)
    ]
    for name, net in nets.items():
        specs = graphs.specs(net.graph.input)
        later = name != last(nets)
        session = _session(net, scratch / name) if later else None
        for known, tokens in zip(given, begun, strict=True):
            if name == DECODER:
                known |= prompt_front.first_step([tokens], Component(specs, specs, {}), 0)
            feeds = {spec.name: known[spec.name] for spec in specs}
            found[name].append(feeds)
            if session is not None:
                names = [one.name for one in session.get_outputs()]
                known |= dict(zip(names, session.run(names, feeds), strict=True))
    return found


def _windowed(source: Original, inputs: dict[str, NDArray[Any]], place: int) -> dict[str, NDArray[Any]]:
    """Inputs as they are; of a model that also hears short windows every other one's spectrogram (bands, frames) is cut
    to one: ranges are those of both, for the silence behind a sound moves them."""
    audio = source.description.audio
    if audio is None or audio.short is None or place % 2 == 0:
        return inputs
    return inputs | {FEATURES: inputs[FEATURES][:, : audio.short]}


def _session(net: onnx.ModelProto, folder: Path) -> onnxruntime.InferenceSession:
    graphs.save(net, folder)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(folder / graphs.GRAPH_NAME), options, providers=["CPUExecutionProvider"])
