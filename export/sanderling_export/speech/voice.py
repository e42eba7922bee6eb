"""Silero's voice activity detector: its graph for runs of frames, taken over as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling.errors import CheckpointError
from sanderling.hearing.voice_activity import INPUTS, OUTPUTS, chances_of
from sanderling.plan import PADDED
from sanderling.providers import CPU
from sanderling.schema.sounds import VoiceActivity
from sanderling.schema.variants import Component, Form, Tolerance, Variant
from sanderling.session import Session
from sanderling_export import graphs

# Samples of a frame, and of those before it that it is told, at 16 kHz; the numbers of its two states.
SETTINGS = VoiceActivity(frame=512, context=64, size=128)
RATE = 16_000


def read(path: Path, rate: int) -> onnx.ModelProto:
    """The graph in a file. Raises CheckpointError: no ONNX graph, with other inputs, or the model has another rate."""
    if rate != RATE:
        raise CheckpointError(f"Voice activity is found at {RATE:,} Hz; this model takes {rate:,}.")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        raise CheckpointError(f"{path} is no ONNX graph: {error}.") from error
    inputs, outputs = ([value.name for value in side] for side in (model.graph.input, model.graph.output))
    if set(inputs) != set(INPUTS) or not set(OUTPUTS) <= set(outputs):
        raise CheckpointError(
            f"{path} takes {', '.join(inputs)} and answers with {', '.join(outputs)}; a graph for runs of frames takes "
            f"{', '.join(INPUTS)} and answers with {', '.join(OUTPUTS)} (silero_vad_16k_sequence.onnx)."
        )
    return model


def component(model: onnx.ModelProto, graph: str, variants: tuple[str, ...]) -> Component:
    """The component of a bundle: one graph, small enough to be the same in each variant."""
    made = {name: Variant({PADDED: Form(graph)}, Tolerance(-1.0)) for name in variants}
    return Component(graphs.specs(model.graph.input), graphs.specs(model.graph.output), made)


def answers(path: Path, bare: Component, sounds: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """The probability of speech in each frame of the sounds."""
    session = Session(path, bare, provider=CPU, threads=1)
    return [chances_of(session, SETTINGS, sound) for sound in sounds]
