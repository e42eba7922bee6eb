"""Voices, from a bundle: their three graphs loaded."""

from __future__ import annotations

from functools import partial

from sanderling.bundle import Bundle
from sanderling.engines import Engines
from sanderling.errors import BundleError
from sanderling.manifest import SpeechOutput
from sanderling.plan import Plan
from sanderling.providers import CPU
from sanderling.session import Session
from sanderling.tasks.text_to_speech import Voice
from sanderling.voice_front import VoiceFront
from sanderling.voice_rules import DECODER


def voice(bundle: Bundle, plan: Plan, head: SpeechOutput) -> Voice:
    """The model of a bundle whose task is text-to-speech.

    On a CPU the decoder runs parts of its frames side by side, a thread each: one run on all threads is slower, since
    its convolutions are long and narrow.
    """
    sounds = bundle.manifest.preprocessing.phonemes
    assert sounds is not None  # decode() refuses a voice without
    engines: dict[str, Engines] = {}
    try:
        for name in bundle.manifest.components:
            build = partial(_session, bundle, plan, name)
            threads = 1 if name == DECODER and plan.provider == CPU else plan.threads
            engines[name] = Engines(build(threads), plan.workers, partial(build, 1))
    except BaseException:
        for part in engines.values():
            part.close()
        raise
    return Voice(bundle, plan, VoiceFront(sounds), engines, head)


def _session(bundle: Bundle, plan: Plan, name: str, threads: int) -> Session:
    component = bundle.manifest.components[name]
    forms = component.variants[plan.variant].forms
    if plan.form not in forms:
        raise BundleError(
            f"{bundle.path}: {name} of the variant {plan.variant!r} has no form {plan.form!r}; it has "
            f"{', '.join(forms)}."
        )
    form = forms[plan.form]
    graph, *_ = bundle.require([form.graph, *form.data])
    return Session(
        graph,
        component,
        provider=plan.provider,
        threads=threads,
        optimized=form.optimized and plan.provider == CPU,
        disabled_fusions=plan.disabled_fusions,
    )
