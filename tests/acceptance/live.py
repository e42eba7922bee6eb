"""Issue 8: speech is written down while it comes: an hour of it in flat memory, with the words that a whole sound has,
and at a microphone's pace an update every second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import streaming
from checks import DATA, Context, NotCheckableError, Row, at_least, at_most, built, registry, true
from numpy.typing import NDArray

from sanderling import Audio, SanderlingError, load
from sanderling.tasks.speech_recognition import SpeechRecognizer

# Seconds of the long stream and of the one at a microphone's pace; shorter ones show less, and try the check out.
LONG = float(os.environ.get("SANDERLING_LIVE_SECONDS") or 3600)
PACED = min(180.0, LONG)
# Seconds of the long stream that are also transcribed as whole sounds.
WHOLE = min(300.0, LONG)
MEMORY_GROWTH, WORSE = 0.05, 0.02
# An update comes every second; a chunk of the sound comes on top, and by the clock what hearing it takes.
EVERY, LATE = 1.3, 2.0
DELAY_P50, DELAY_P90 = 1.5, 2.5
RATE = streaming.RATE


def heard(bundle: Path, seconds: float, mode: str, seed: int = 8) -> Any:
    """What a process of its own heard of a stream."""
    script = Path(__file__).with_name("streaming.py")
    done = subprocess.run(
        [sys.executable, str(script), str(bundle), str(seconds), str(seed), mode],
        capture_output=True, text=True, encoding="utf-8", check=False, timeout=4 * seconds + 600,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:300] if done.stderr.strip() else "no word of why")
    return json.loads(done.stdout.splitlines()[-1])


def grown(resident: list[float]) -> float:
    """The most of a stream's parts above the least, the first part (the first minutes) left out."""
    later = resident[1:]
    return max(later) / min(later) - 1


def check_clips() -> None:
    if not (DATA / "speech" / "transcripts.tsv").is_file():
        raise NotCheckableError(f"The clips are not in {DATA / 'speech'}.")


@registry.check(8, "live hour")
def hour(context: Context) -> list[Row]:
    from sanderling_bench.words import word_errors

    check_clips()
    bundle = built("whisper-base")
    context.say(f"{LONG / 60:.0f} minutes as fast as they are taken")
    long = heard(bundle, LONG, "fast")
    live = word_errors([long["text"]], [long["said"]])
    report = long["report"]
    context.say(f"in {long['took']:.0f} s; {WHOLE / 60:.0f} minutes as whole sounds")
    whole = as_whole_sounds(bundle, WHOLE)
    context.say("and with a leak, which has to be found")
    leaking = heard(bundle, max(60.0, LONG / 6), "leaking")
    sizes = [size / 1e6 for size in long["resident"]]
    growth, control = grown(long["resident"]), grown(leaking["resident"])
    return [
        at_most(
            f"live, {report['seconds'] / 60:.0f} minutes: resident memory after the first twelfth, most above least, %",
            100 * growth, 100 * MEMORY_GROWTH, digits=2,
            spread=f"{min(sizes):.0f} to {max(sizes):.0f} MB, peak {long['peak'] / 1e6:.0f} MB",
        ),
        true(
            "negative control: a caller that keeps every chunk is caught", control > MEMORY_GROWTH,
            f"{100 * control:.1f} %", f"> {100 * MEMORY_GROWTH:g} %", spread=f"{leaking['report']['seconds']:.0f} s",
        ),
        at_most(
            "live: word error rate", live.rate, whole.rate + WORSE, digits=4,
            spread=f"{live.wrong} of {live.total} ({live.deleted} left out, {live.inserted} added); whole sounds "
            f"{whole.rate:.4f} of {whole.total}",
        ),
        true(
            "live: nothing dropped, nothing unfinished", not (report["dropped"] or report["unfinished"]),
            f"{report['dropped']:.1f} and {report['unfinished']:.1f} s", "0 s",
            spread=f"{report['silent']:.0f} s silent, {report['cuts']} windows cut without a pause",
        ),
        at_most("live: seconds taken for each second of sound", long["took"] / report["seconds"], 1.0,
                spread=f"{report['updates']} updates, {report['words']} words"),
    ]  # fmt: skip


def as_whole_sounds(bundle: Path, seconds: float) -> Any:
    """Errors of the beginning of the same stream, transcribed as a whole sound."""
    from sanderling_bench.words import word_errors

    parts = list(streaming.stream(seconds, 8))
    sound = np.concatenate([part for part, _ in parts])
    with load(bundle, threads=2) as model:
        assert isinstance(model, SpeechRecognizer)
        found = model.transcribe(Audio(sound, RATE), language="en")
    return word_errors([found.text], [" ".join(text for _, text in parts if text)])


@registry.check(8, "live pace")
def pace(context: Context) -> list[Row]:
    from sanderling_bench.words import word_errors

    check_clips()
    context.say(f"{PACED:.0f} s as a microphone gives them")
    bundle = built("whisper-base")
    found = heard(bundle, PACED, "paced")
    context.say("and as whole sounds")
    whole = as_whole_sounds(bundle, PACED)
    report, came = found["report"], found["came"]
    errors = word_errors([found["text"]], [found["said"]])
    # Between two updates of the same speech: behind its end comes a pause.
    between = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(came) if not before[2]]
    clock, sound = sorted(one for one, _ in between), sorted(one for _, one in between)
    p90 = quantiles(clock, n=10)[-1] if len(clock) > 1 else clock[0]
    said = f"{report['words']} words, {report['updates']} updates in {report['seconds']:.0f} s"
    return [
        at_most("live at a microphone's pace: seconds of sound between updates while somebody speaks, at most",
                sound[-1], EVERY, spread=f"{len(sound)} intervals, median {sound[len(sound) // 2]:.2f}"),
        at_most("live: the same by the clock, p90", p90, LATE, spread=f"longest {clock[-1]:.2f} s"),
        at_most("live: from a word's end to its first appearance, p50", report["delay_p50"], DELAY_P50, unit=" s",
                spread=said),
        at_most("live: from a word's end to its first appearance, p90", report["delay_p90"], DELAY_P90, unit=" s",
                spread=said),
        true("live: nothing dropped at a microphone's pace", not report["dropped"], f"{report['dropped']:.1f} s",
             "0 s"),
        at_most("live at a microphone's pace: word error rate", errors.rate, whole.rate + WORSE, digits=4,
                spread=f"{errors.wrong} of {errors.total}; whole sounds {whole.rate:.4f}"),
        at_least("live: updates while somebody speaks", len(between), (report["seconds"] - report["silent"]) / 2,
                 digits=0, spread="at least one every two seconds of speech"),
    ]  # fmt: skip


def hostile() -> dict[str, tuple[list[Any], dict[str, Any]]]:
    """Streams that are none, or hardly: by name, chunks and what is said of them."""
    tone = (np.sin(np.arange(RATE) * 0.05) * 8000).astype(np.int16)
    silence: list[NDArray[np.int16]] = [np.zeros(RATE, np.int16)] * 120
    return {
        "no chunks": ([], {}),
        "empty chunks": ([b"", b"", b""], {"rate": RATE}),
        "one byte": ([b"\x01"], {"rate": RATE}),
        "1 sample": ([tone[:1]], {"rate": RATE}),
        "endless silence": (silence, {"rate": RATE}),
        "clipping": ([np.where(tone > 0, 32767, -32768).astype(np.int16)] * 3, {"rate": RATE}),
        "a rate that changes": ([Audio(tone, RATE), Audio(tone, 8000)], {}),
        "channels that change": ([tone, np.stack([tone, tone], axis=1)], {"rate": RATE}),
        "not a number": ([tone, np.full(5, np.nan, np.float32)], {"rate": RATE}),
        "infinite": ([np.full(5, np.inf, np.float32)], {"rate": RATE}),
        "complex numbers": ([np.zeros(5, np.complex64)], {"rate": RATE}),
        "texts": (["sea", "gull"], {"rate": RATE}),
        "nothing": ([None], {"rate": RATE}),
        "bytes without a rate": ([tone.tobytes()], {}),
        "a rate of 1 Hz": ([tone], {"rate": 1}),
        "0 channels": ([tone.tobytes()], {"rate": RATE, "channels": 0}),
        "samples of 12 bits": ([tone.tobytes()], {"rate": RATE, "samples": "int12"}),
        "a whole sound in place of chunks": (tone, {"rate": RATE}),  # type: ignore[dict-item]
        "an update every 0 seconds": ([tone], {"rate": RATE, "every": 0}),
    }


@registry.check(8, "live bad input")
def bad_input(context: Context) -> list[Row]:
    outcomes: dict[str, str] = {}
    told: dict[str, bool] = {}
    with load(built("whisper-base"), threads=2) as model:
        assert isinstance(model, SpeechRecognizer)
        for name, (chunks, arguments) in hostile().items():
            try:
                stream = model.live(chunks, language="en", temperatures=(0,), **arguments)
                words = sum(len(update.final) for update in stream)
                outcomes[name] = "answered" if words < 60 else f"{words} words"
                report = stream.report
                told[name] = {
                    "endless silence": report.silent > 119, "clipping": report.clipped == 3 * RATE,
                    "one byte": report.missing == 1,
                }.get(name, True)  # fmt: skip
            except SanderlingError as error:
                outcomes[name] = "refused" if str(error).strip().endswith((".", ")", '"')) else f"no advice: {error}"
            except Exception as error:
                outcomes[name] = f"{type(error).__name__}: {error}"
            context.say(f"{name}: {outcomes[name][:80]}")
        context.say("a chunk of an hour")
        hour_long = model.live([np.zeros(3600 * RATE, np.int16)], rate=RATE, language="en")
        silent = [stretch for update in hour_long for stretch in update.silent]
    wrong = {name: what for name, what in outcomes.items() if what not in ("answered", "refused")}
    untold = [name for name, was in told.items() if not was]
    return [
        true("streams that are none, or hardly: a typed error or a bounded answer", not wrong,
             f"{len(outcomes) - len(wrong)} of {len(outcomes)}", "all", spread=str(wrong)[:200] if wrong else ""),
        true("what was not heard of them is told", not untold, f"{len(told) - len(untold)} of {len(told)}", "all",
             spread=", ".join(untold)),
        true("a chunk of an hour of silence is heard, and told to be silent", silent == [(0.0, 3600.0)],
             str(silent)[:60], "0 to 3,600 s"),
    ]  # fmt: skip
