"""Voices, from a bundle: their graphs loaded."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from sanderling import sessions
from sanderling.bundle import Bundle
from sanderling.engines import Engines
from sanderling.errors import BundleError
from sanderling.plan import Plan
from sanderling.providers import CPU
from sanderling.schema.voices import SpeechOutput
from sanderling.tasks.text_to_speech import Voice
from sanderling.voices.frames import FlowFrames
from sanderling.voices.front import VoiceFront
from sanderling.voices.graphs import VoiceGraphs
from sanderling.voices.rules import DECODER, VECTORS, VOCODER


def voice(bundle: Bundle, plan: Plan, head: SpeechOutput) -> Voice:
    """The model of a bundle whose task is text-to-speech.

    On a CPU the decoder runs parts of its frames side by side, a thread each: one run on all threads is slower, since
    its convolutions are long and narrow.
    """
    sounds = bundle.manifest.preprocessing.phonemes
    assert sounds is not None  # decode() refuses a voice without

    def loaded(name: str) -> Engines:
        build = sessions.builder(bundle, plan, name)
        threads = 1 if name in (DECODER, VOCODER) and plan.provider == CPU else plan.threads
        return Engines(build(threads), plan.workers, partial(build, 1))

    engines = sessions.of_each(bundle, loaded)
    try:
        front, graphs = VoiceFront(sounds), VoiceGraphs(bundle, plan, engines)
        if head.steps is None:
            name = bundle.manifest.name
            return Voice(bundle, plan, front, graphs, head, FlowFrames(name, graphs, head), DECODER)
        from sanderling.voices.stepped_frames import SteppedFrames  # for those who have one

        maker = SteppedFrames(bundle, graphs, head, head.steps, _vectors(bundle, head.steps.vectors))
        return Voice(bundle, plan, front, graphs, head, maker, VOCODER)
    except BaseException:
        for part in engines.values():
            part.close()
        raise


def _vectors(bundle: Bundle, path: str) -> NDArray[np.float32]:
    """The speakers' vectors (speakers, size), float32. Raises BundleError for a file that holds none."""
    from sanderling.golden import read_safetensors

    found = read_safetensors(bundle.read(path), str(bundle.path / path)).get(VECTORS)
    if found is None:
        raise BundleError(f"{bundle.path}: {path} has no {VECTORS}. Export the bundle again.")
    if found.dtype != np.float32 or found.ndim != 2 or not np.isfinite(found).all():
        raise BundleError(f"{bundle.path}: {VECTORS} in {path} are no finite float32 of rank 2. Export it again.")
    return found
