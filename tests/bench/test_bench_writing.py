"""Models that write are measured by their first token and those behind it; two towers one after the other."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import tiny_language
import tiny_towers
import typer
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from sanderling.bundle import open_bundle
from sanderling.errors import BenchError
from sanderling_bench import commands, record, table
from sanderling_bench.inputs import DEFAULT_PROMPTS, PROMPT_WORDS, inputs_for
from sanderling_bench.measure import Plan, measure
from sanderling_bench.writing import summarized

TOKENS = 6
QUICK = Plan(rounds=2, samples=4, cold_starts=1, threads=1, warmup=1, new_tokens=TOKENS)


def test_prompts_are_continued(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_language.language_bundle(tmp_path / "language"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The sea\nwave\n", encoding="utf-8")
    made = measure(bundle, inputs_for(bundle, [prompts]), QUICK)
    assert made.settings.new_tokens == TOKENS
    assert made.metal is None
    samples, summary = made.samples["fp32"], made.summary["fp32"]
    assert [call.new_tokens for call in samples.single_stream] == [TOKENS] * 4
    assert [call.new_tokens for call in samples.offline] == [2 * TOKENS] * 2
    assert all(call.first_token and 0 < call.first_token < call.seconds for call in samples.single_stream)
    assert samples.tokens is None
    assert samples.peak_memory_bytes is not None
    assert len(samples.cold_start) == 1
    found = summary.generation
    assert found is not None
    assert found.samples == 4
    assert found.tokens_per_second is not None
    assert found.tokens_per_second > 0
    assert found.tokens_per_second_offline is not None
    assert found.first_token_p90 is None  # of four calls none is known
    assert summary.drift is not None
    assert record.decode(record.encode(made), "r") == made
    standard = inputs_for(bundle)
    assert len(standard.items) == DEFAULT_PROMPTS
    assert max(len(prompt.split()) for prompt in standard.items) == PROMPT_WORDS


def test_pictures_are_captioned(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_language.captioner_bundle(tmp_path / "captioner"))
    made = measure(bundle, inputs_for(bundle), QUICK)
    assert made.settings.modality == "image"
    assert made.settings.inputs == len(tiny_language.PICTURES)
    assert made.samples["fp32"].offline[0].new_tokens == TOKENS * len(tiny_language.PICTURES)
    console = Console(width=80, file=io.StringIO(), record=True)
    table.show(made, console)
    shown = " ".join(console.export_text().split())
    assert "…" not in shown
    assert f"Writing {TOKENS} tokens" in shown


def test_of_calls_that_wrote_nothing_nothing_is_said(tmp_path: Path) -> None:
    assert summarized((), ()) is None
    one = record.Call(0, 0, 2.0, None, 0.5, 4)
    found = summarized([one] * 11, [record.Call(0, 0, 4.0, None, 0.5, 8)])
    assert found == record.GenerationSummary(11, 0.5, None, 2.0, 2.0)
    bundle = open_bundle(tiny_language.captioner_bundle(tmp_path / "captioner"))
    with pytest.raises(BenchError, match="new_tokens is 0"):
        measure(bundle, inputs_for(bundle), Plan(new_tokens=0))


def test_two_towers_are_measured_apart(tmp_path: Path) -> None:
    bundle = tiny_towers.dual_bundle(tmp_path / "towers")
    quick = ["bench", str(bundle), "--samples", "2", "--rounds", "1", "--cold-starts", "0", "--threads", "1"]
    done = _run([*quick, "--json", "-o", str(tmp_path / "r.json")])
    assert done.exit_code == 0, done.output
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["settings"]["component"] for one in printed] == ["text_encoder", "vision_encoder"]
    for one in printed:
        path = tmp_path / f"r-{one['settings']['component']}.json"
        assert json.loads(path.read_bytes()) == one
    alone = _run([*quick, "--component", "vision_encoder", "--json", "-o", str(tmp_path / "v.json")])
    assert json.loads(alone.stdout)["settings"]["component"] == "vision_encoder"
    assert (tmp_path / "v.json").exists()
    answerer = open_bundle(tiny_language.answerer_bundle(tmp_path / "answerer"))
    with pytest.raises(BenchError, match="visual-question-answering is not measured yet"):
        inputs_for(answerer)


def _run(arguments: list[str]) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    commands.register(app)
    return CliRunner().invoke(app, arguments)
