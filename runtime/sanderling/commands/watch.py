"""`sanderling watch`: what happens in a video, with time stamps; or when something is to be seen in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sanderling.commands.console import clean, plain, print_json, stderr, stdout
from sanderling.counts import counted
from sanderling.errors import InputError
from sanderling.loading import load
from sanderling.model import Model
from sanderling.moments import video_moments
from sanderling.subtitles import write_subtitles
from sanderling.tasks.dual_encoder import DualEncoder
from sanderling.tasks.image_to_text import ImageToText
from sanderling.tasks.video_to_text import VideoToText
from sanderling.video import VideoReport

_ENDINGS = (".srt", ".vtt")


def register(app: typer.Typer) -> None:
    """Add `watch` to the command line."""
    app.command("watch")(watch)


def watch(
    bundle: Annotated[Path, typer.Argument(help="The folder of the bundle.", show_default=False)],
    video: Annotated[Path, typer.Argument(help="The video.", show_default=False)],
    find: Annotated[
        str | None, typer.Option("--find", help="A text whose moments are shown; needs a bundle of two towers.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the captions to this file, .srt or .vtt.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a segment. Default: the bundle's, or 1.")] = None,
    by: Annotated[str, typer.Option(help="Divide by time, or by scene.")] = "time",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Moments to show, best first.")] = 5,
    variant: Annotated[str | None, typer.Option(help="A variant of the bundle. Default: the bundle's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, the report last.")] = False,
) -> None:
    """Caption a video, or find moments in it (extra `video`)."""
    if output is not None and output.suffix.lower() not in _ENDINGS:
        raise InputError(f"{output} ends in {output.suffix or 'nothing'}; captions are written as .srt or .vtt.")
    # The library says which words it knows.
    chosen: Any = by
    with load(bundle, variant=variant) as model:
        if find is not None:
            if output is not None:
                raise InputError("--output is for captions; --find shows moments, which --json gives as lines.")
            report = _found(model, video, find, 1.0 if seconds is None else seconds, chosen, top_k, as_json=as_json)
        else:
            report = _captioned(model, video, output, seconds, chosen, as_json=as_json)
    if as_json:
        print_json({"report": msgspec.to_builtins(report)})
    else:
        _say_lost(report)


def _captioned(
    model: Model, video: Path, output: Path | None, seconds: float | None, by: Any, *, as_json: bool
) -> VideoReport:
    if not isinstance(model, ImageToText):
        raise InputError(f"{model.name} is for {model.task}; videos are captioned by image-to-text, or see --find.")
    found = VideoToText(model)(video, seconds=seconds, by=by)
    for segment in found.segments:
        if as_json:
            print_json({"start": segment.start, "end": segment.end, "text": clean(segment.text)})
        elif output is None:
            stdout().print(f"{segment.start:9.2f} {segment.end:9.2f}  {plain(segment.text)}", soft_wrap=True)
    if output is not None:
        write_subtitles(output, found.segments)
        if not as_json:
            stdout().print(f"{plain(str(output))}: {counted(len(found.segments), 'caption')}", soft_wrap=True)
    if found.cut:
        stderr().print(f"note: {counted(found.cut, 'caption')} cut off at the most tokens that the bundle allows.")
    return found.report


def _found(model: Model, video: Path, text: str, seconds: float, by: Any, top_k: int, *, as_json: bool) -> VideoReport:
    if not isinstance(model, DualEncoder):
        raise InputError(f"{model.name} is for {model.task}; --find needs a model of two towers (CLIP, SigLIP).")
    moments = video_moments(model, video, seconds=seconds, by=by)
    for moment in moments.find(model.embed_texts(text), top_k):
        if as_json:
            print_json(msgspec.to_builtins(moment))
        else:
            stdout().print(f"{moment.start:9.2f} {moment.end:9.2f}  {moment.score:.3f}")
    return moments.report


def _say_lost(report: VideoReport) -> None:
    if report.seconds_lost:
        why = f" ({plain(report.ended_early)})" if report.ended_early else ""
        stated = f" of the {report.stated_seconds:.2f} stated" if report.stated_seconds is not None else ""
        stderr().print(f"note: {report.seconds_lost:.2f} seconds{stated} are missing{why}.", soft_wrap=True)
    if report.frames_damaged:
        stderr().print(f"note: {counted(report.frames_damaged, 'frame')} damaged, of {report.frames:,}.")
