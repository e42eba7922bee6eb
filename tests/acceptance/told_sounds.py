"""Issue 8: of sounds that are damaged, coded, loud, silent or very long, what was not heard is said."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
import streaming
from checks import DATA, Context, NotCheckableError, Row, at_most, built, registry, true

from sanderling import Audio, SanderlingError, Transcript, load
from sanderling.audio_wave import wave_bytes
from sanderling.tasks.speech_recognition import SpeechRecognizer
from sanderling_bench.child import peak_memory

RATE = 16_000
FOUR_HOURS = 4 * 3600
# Four hours as float32 are 0.92 GB, twice while their blocks are joined; the model and the sounds before come on top.
MOST_GIGABYTES = 3.0
Told = Callable[[Transcript], bool]


def sounds() -> dict[str, tuple[Any, Told]]:
    """Sounds by name, and what their transcript has to say of them."""
    if not (DATA / "speech" / "transcripts.tsv").is_file():
        raise NotCheckableError(f"The clips are not in {DATA / 'speech'}.")
    speech = streaming.clips()[0][0]
    whole = wave_bytes(speech, RATE)[0]
    lying = whole[:40] + (2**31 - 1).to_bytes(4, "little") + whole[44:]
    loud = np.clip(speech * 30, -1, 1).astype(np.float32)
    found: dict[str, tuple[Any, Told]] = {
        "truncated": (whole[: len(whole) // 2], lambda t: t.report.missing > RATE and not t.complete),
        "a length that lies": (lying, lambda t: t.report.missing > RATE and not t.complete),
        "clipping": (Audio(loud, RATE), lambda t: t.report.clipped > 1000),
        "eight channels": (Audio(np.repeat(speech[:, None], 8, axis=1), RATE), lambda t: t.report.mixed),
        "8 bits": (Audio(((speech * 0.9 + 1) * 127.5).astype(np.uint8), RATE), lambda t: t.report.encoding == "uint8"),
        "silence": (Audio(np.zeros(40 * RATE, np.float32), RATE), lambda t: t.silent == ((0.0, 40.0),) and not t.text),
        "speech after a minute of silence": (
            Audio(np.concatenate([np.zeros(60 * RATE, np.float32), speech]), RATE),
            lambda t: bool(t.text) and t.silent[0][1] > 55,
        ),
    }
    try:
        import soundfile
        import soxr  # noqa: F401 - the other half of the extra
    except (ImportError, OSError):
        return found
    coded = io.BytesIO()
    soundfile.write(coded, speech, RATE, format="WAV", subtype="IMA_ADPCM")
    slow = io.BytesIO()
    soundfile.write(slow, np.repeat(speech, 3), 3 * RATE, format="FLAC")
    found |= {
        "ADPCM": (coded.getvalue(), lambda t: bool(t.text) and "adpcm" in t.report.encoding),
        "ADPCM, truncated": (coded.getvalue()[: len(coded.getvalue()) // 2], lambda t: t.report.missing > RATE),
        "FLAC of 48,000 Hz": (slow.getvalue(), lambda t: bool(t.text) and t.report.resampled == RATE),
    }
    return found


@registry.check(8, "speech told")
def told(context: Context) -> list[Row]:
    wrong: dict[str, str] = {}
    cases = sounds()
    with load(built("whisper-base"), threads=2) as model:
        assert isinstance(model, SpeechRecognizer)
        for name, (sound, holds) in cases.items():
            try:
                found = model.transcribe(sound, language="en")
                if not holds(found):
                    wrong[name] = f"{found.text[:40]!r}, {found.report}, silent {found.silent}"
            except SanderlingError as error:
                wrong[name] = f"{type(error).__name__}: {error}"
            context.say(f"{name}{': ' + wrong[name] if name in wrong else ''}")
        context.say("four hours, with a minute of speech in their middle")
        path = context.folder / "hours.wav"
        hours(path)
        long = model.transcribe(path, language="en")
    unheard = sum(last - first for first, last in long.silent)
    return [
        true("sounds of which not all is heard: what was not is told", not wrong, f"{len(cases) - len(wrong)} of "
             f"{len(cases)}", "all", spread=str(wrong)[:300] if wrong else ""),
        true("four hours: the speech in their middle is written down, the silence told",
             bool(long.text) and unheard > FOUR_HOURS - 120, f"{unheard:,.0f} s silent", f"> {FOUR_HOURS - 120:,} s",
             spread=f"{len(long.text.split())} words, real-time factor {long.real_time_factor:.4f}"),
        at_most("four hours: peak memory", peak_memory() / 1e9, MOST_GIGABYTES, unit=" GB"),
    ]  # fmt: skip


def hours(path: Any) -> None:
    """Write four hours of silence with a minute of speech in their middle."""
    minute = np.concatenate([part for part, _ in streaming.stream(60, 1)])[: 60 * RATE]
    quiet = bytes(2 * RATE * 60)
    with wave.open(str(path), "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE)
        for number in range(FOUR_HOURS // 60):
            middle = number == FOUR_HOURS // 120
            written.writeframes(np.rint(minute * 32767).astype("<i2").tobytes() if middle else quiet)
