"""Issue 8: voices of transformers in their full shapes, with random weights, say what transformers says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from checks import Context, Row, at_most, registry

sys.path.insert(0, str(Path(__file__).parents[1]))

import tiny_transformers_voices

from sanderling import Phonemes, Voice, load
from sanderling_export import checkpoint, export
from sanderling_export.voices import speecht5, vits
from sanderling_export.voices.original import Original

TEXTS = ("a", "good morning, neighbour", "the tide had carried the boat far beyond the lighthouse and nobody saw it go")
SEEDS = (None, 1, 2)


@registry.check(8, "VITS of transformers, in the shape of the MMS voices")
def mms(context: Context) -> Sequence[Row]:
    """Exported, loaded, and said with the noise that transformers' own forward is given."""
    context.say("a checkpoint of random weights")
    folder = tiny_transformers_voices.vits(context.folder / "mms", full=True)
    context.say("export")
    bundle = export(folder, context.folder / "bundle", data=_few(context), variants=("fp32",))
    source = vits.load(checkpoint.resolve(str(folder)), context.folder)
    with load(bundle, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        return [_row(voice, source, text, seed) for text in TEXTS for seed in SEEDS]


@registry.check(8, "SpeechT5 of transformers in its full shape")
def steps(context: Context) -> Sequence[Row]:
    """Exported, loaded, and said with the dropout that transformers' generate_speech is given, and without any."""
    context.say("a checkpoint of random weights")
    folder = tiny_transformers_voices.speecht5(context.folder / "speecht5", full=True)
    context.say("export")
    bundle = export(folder, context.folder / "bundle", data=_few(context))
    source = speecht5.load(checkpoint.resolve(str(folder)), context.folder)
    with load(bundle, provider="cpu") as voice:
        assert isinstance(voice, Voice)
        return [_row(voice, source, text, seed) for text in TEXTS for seed in SEEDS[:2]]


def _few(context: Context) -> Path:
    """Texts that an export is measured on: random weights draw short ones out for many seconds."""
    path = context.folder / "texts.txt"
    path.write_text("nothing is rounded\nhello there\n", "utf-8")
    return path


def _row(voice: Voice, source: Original, text: str, seed: int | None) -> Row:
    symbols = tuple(letter for letter in text if letter in source.said.phonemes.ids)
    _, expected = source.waveform(symbols, seed)
    silent = {"noise": 0.0} if seed is None else {}
    if seed is None and source.said.steps is None:
        silent["duration_noise"] = 0.0
    found = voice(Phonemes((symbols,)), seed=seed or 0, **silent).audio  # type: ignore[call-overload]
    apart = float(np.abs(found - expected).max(initial=0.0)) if found.shape == expected.shape else float("inf")
    loud = float(np.abs(expected).max(initial=0.0))
    what = f"{len(symbols)} letters, {'no noise' if seed is None else f'seed {seed}'}: largest difference of samples"
    return at_most(what, apart, 1e-3, digits=7, spread=f"{len(expected)} samples, the loudest {loud:.3f}")
