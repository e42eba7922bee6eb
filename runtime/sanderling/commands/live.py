"""`sanderling live`: what is said in a sound, while it still comes."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
import typer

from sanderling.audio import Audio
from sanderling.audio_wave import wave_blocks, wave_header
from sanderling.commands.console import clean, plain, print_json, stderr, visible
from sanderling.errors import AudioError, InputError
from sanderling.hearing.live_transcript import LiveTranscript
from sanderling.hearing.live_words import LiveReport, LiveUpdate
from sanderling.loading import load
from sanderling.preprocess.audio import decoded
from sanderling.tasks.speech_recognition import SpeechRecognizer

# Bytes of standard input that are waited for at once, and seconds of a file that are handed over at once.
_BYTES, _SECONDS = 4096, 0.1


def register(app: typer.Typer) -> None:
    """Add `live` to the command line."""
    app.command("live")(live)


def live(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    sound: Annotated[
        str, typer.Argument(help="A sound file, heard at its own pace; - for PCM on standard input.")
    ] = "-",
    rate: Annotated[
        int | None, typer.Option(help="Samples a second of standard input. Default: the model's.", show_default=False)
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of standard input.")] = 1,
    samples: Annotated[
        str, typer.Option(help="Samples of standard input: uint8, int16, int24, int32 or float32.")
    ] = "int16",
    every: Annotated[float, typer.Option(help="Seconds between two updates while somebody speaks.")] = 1.0,
    language: Annotated[str | None, typer.Option(help="What is spoken, as en. Default: recognized.")] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Write English, whatever is spoken.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Show words that may still change, too.")] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop sound, and say which, rather than let the source wait.")
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Hear a file as fast as it can be.")] = False,
    variant: Annotated[str | None, typer.Option(help="A variant of the bundle. Default: the bundle's own.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads a run may use. Default: the cores granted.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object an update, the report last.")] = False,
) -> None:
    """Write down what is said in a sound while it still comes. Ctrl-C ends the sound; what was heard is written."""
    # The library says which words it knows.
    kind: Any = samples
    with load(bundle, variant=variant, threads=threads) as model:
        if not isinstance(model, SpeechRecognizer):
            raise InputError(f"{model.name} is for {model.task}; live takes a model that hears.")
        given = model.rate if rate is None else rate
        task: Any = "translate" if translate else "transcribe"
        if sound == "-":
            chunks: Iterator[Any] = _standard_input()
        else:
            chunks = _file(Path(sound), model.rate, fast=fast)
        with model.live(
            chunks, rate=given if sound == "-" else None, channels=channels, samples=kind, every=every,
            language=language, task=task, behind="drop" if drop else "wait",
        ) as stream:  # fmt: skip
            _ended_by_interruption(stream)
            for update in stream:
                if as_json:
                    print_json(_record(update))
                else:
                    _show(update, partial=partial)
            report = stream.report
    if as_json:
        print_json({"report": msgspec.to_builtins(report)})
    else:
        stderr().print(f"[dim]{plain(_told(report))}[/]", soft_wrap=True)


def _ended_by_interruption(stream: LiveTranscript) -> None:
    """The first Ctrl-C ends the sound, the second one the command."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(number: int, frame: Any) -> None:
        del number, frame
        signal.signal(signal.SIGINT, before)
        stream.end()

    signal.signal(signal.SIGINT, interrupted)


def _standard_input() -> Iterator[bytes]:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise AudioError("Standard input is a terminal; PCM from a pipe was expected. Or name a sound file.")
    # Without the buffer, whose lock a thread that waits for sound would hold when the command ends.
    raw = getattr(stream, "raw", stream)
    while data := raw.read(_BYTES):
        yield data


def _file(path: Path, rate: int, *, fast: bool) -> Iterator[Audio]:
    """The sound of a file in chunks, no earlier than they would be heard."""
    begun, given = time.monotonic(), 0.0
    for audio in _parts(path, rate):
        step = max(1, int(audio.rate * _SECONDS))
        for first in range(0, len(audio.samples), step):
            part = Audio(audio.samples[first : first + step], audio.rate)
            given += part.seconds
            if not fast:
                time.sleep(max(0.0, begun + given - time.monotonic()))
            yield part


def _parts(path: Path, rate: int) -> Iterator[Audio]:
    """A WAV file block by block; of other formats all of it, which the reader's own bound holds for."""
    if path.is_file():
        with path.open("rb") as file:
            header = _header(file, path)
            if header is not None:
                yield from (Audio(block, header.rate) for block in wave_blocks(file, header))
                if header.missing:
                    stderr().print(f"note: {header.missing:,} frames are missing at the end of the file.")
                return
    samples, _ = decoded(path, rate)
    yield Audio(samples, rate)


def _header(file: IO[bytes], path: Path) -> Any:
    return wave_header(file, path.stat().st_size, str(path))


def _record(update: LiveUpdate) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(update)
    return {name: value for name, value in found.items() if value or name in ("final", "partial", "until")}


def _show(update: LiveUpdate, *, partial: bool) -> None:
    if update.final:
        sys.stdout.write(f"{update.final[0].start:9.2f}  {visible(clean(update.text.strip()))}\n")
    if partial and update.partial:
        sys.stdout.write(f"{update.partial[0].start:9.2f}  … {visible(clean(update.partial_text.strip()))}\n")
    sys.stdout.flush()
    for first, last in update.dropped:
        stderr().print(f"note: dropped from {first:.2f} to {last:.2f} s: it came faster than it was heard.")
    for first, last in update.unfinished:
        stderr().print(f"note: the transcript from {first:.2f} to {last:.2f} s ended too early.")


def _told(report: LiveReport) -> str:
    told = [f"{report.seconds:.1f} s of sound", f"{report.words:,} words", f"{report.silent:.1f} s silent"]
    if report.delay_p50 is not None and report.delay_p90 is not None:
        told.append(f"words shown {report.delay_p50:.2f} s after their end (p50), {report.delay_p90:.2f} s (p90)")
    for name, value in (("dropped", report.dropped), ("unfinished", report.unfinished)):
        if value:
            told.append(f"{value:.1f} s {name}")
    if report.clipped:
        told.append(f"{report.clipped:,} samples clipped")
    if report.missing:
        told.append("a frame cut off at the end")
    return ", ".join(told)
