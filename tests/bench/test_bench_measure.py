"""The whole bench on bundles too small to be slow: what it measures, writes and prints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_bundles
import typer
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from sanderling.bundle import Bundle, open_bundle
from sanderling.errors import BenchError, BundleError, MissingExtraError, SanderlingError, StorageError
from sanderling.golden import read_golden
from sanderling_bench import commands, record, table
from sanderling_bench.inputs import DEFAULT_TEXTS, inputs_for, standard_texts
from sanderling_bench.measure import Plan, measure
from sanderling_bench.process import Child, run_child

QUICK = Plan(rounds=2, samples=8, cold_starts=2, threads=1)
NO_PROCESSES = Plan(rounds=2, samples=8, cold_starts=0, threads=1)


def test_texts_are_measured_in_every_way(embedding_bundle: Path) -> None:
    bundle = open_bundle(embedding_bundle)
    steps: list[tuple[str, int, int]] = []
    made = measure(bundle, inputs_for(bundle), QUICK, lambda *step: steps.append(step))

    assert made.bundle.digest == bundle.digest
    assert made.settings.inputs == DEFAULT_TEXTS
    assert set(made.samples) == set(made.summary) == {"fp32", "int8-dynamic"}
    for name in ("fp32", "int8-dynamic"):
        samples = made.samples[name]
        assert [call.round for call in samples.single_stream] == [0] * 4 + [1] * 4
        assert [call.input for call in samples.single_stream] == list(range(8))
        assert all(c.stages and 0 < c.stages.run < c.seconds for c in samples.single_stream)
        assert [call.round for call in samples.offline] == [0, 1]
        assert len(samples.cold_start) == 2
        assert all(s.wall > s.imported + s.loaded + s.answered > 0 for s in samples.cold_start)
        assert samples.tokens is not None
        assert samples.tokens >= DEFAULT_TEXTS
        assert samples.peak_memory_bytes is not None
        # numpy and ONNX Runtime alone take tens of megabytes.
        assert 20e6 < samples.peak_memory_bytes < 2e9
    assert made.summary["fp32"].drift is not None
    assert made.summary["fp32"].drift.cosine_min == pytest.approx(1.0)
    drift = made.summary["int8-dynamic"].drift
    assert drift is not None
    assert 0.9 < drift.cosine_min < drift.cosine_mean < 1.0
    assert made.summary["int8-dynamic"].size_bytes == sum(
        path.stat().st_size for path in _files(bundle, "int8-dynamic")
    )
    assert [done for _, done, _ in steps] == list(range(len(steps)))
    assert {total for _, _, total in steps} == {len(steps)}
    assert record.decode(record.encode(made), "r") == made


def test_images_are_measured_on_the_golden_samples_or_the_users(image_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(image_bundle)
    golden = measure(bundle, inputs_for(bundle), NO_PROCESSES)
    assert golden.settings.inputs == len(read_golden(bundle).samples)
    assert golden.samples["fp32"].tokens is None
    assert all(golden.samples["fp32"].same_label_as_fp32)

    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(tiny_bundles.png(tiny_bundles.PICTURE[number:]))
    (tmp_path / "notes.txt").write_text("not an image")
    own = measure(bundle, inputs_for(bundle, [tmp_path]), NO_PROCESSES)
    assert own.settings.inputs == 3
    assert own.settings.inputs_from == str(tmp_path)
    assert own.settings.inputs_digest != golden.settings.inputs_digest


def test_one_variant_is_still_compared_with_fp32(embedding_bundle: Path) -> None:
    bundle = open_bundle(embedding_bundle)
    plan = Plan(variants=("int8-dynamic", "int8-dynamic"), scenarios=("offline",), rounds=1, cold_starts=0, threads=1)
    made = measure(bundle, inputs_for(bundle), plan)
    assert list(made.samples) == ["int8-dynamic"]
    assert made.samples["int8-dynamic"].single_stream == ()
    assert made.summary["int8-dynamic"].drift is not None
    assert made.summary["int8-dynamic"].speedup_offline is None


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(rounds=0), "rounds is 0"),
        (Plan(samples=0), "samples is 0"),
        (Plan(warmup=-1), "warmup is -1"),
        (Plan(cold_starts=-1), "cold_starts is -1"),
        (Plan(threads=0), "threads is 0"),
        (Plan(scenarios=()), "met none"),
        (Plan(variants=("int3",)), "no variant 'int3'"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(embedding_bundle: Path, plan: Plan, message: str) -> None:
    bundle = open_bundle(embedding_bundle)
    with pytest.raises(SanderlingError, match=message):
        measure(bundle, inputs_for(bundle), plan)


def test_standard_texts_are_of_all_lengths_and_always_the_same() -> None:
    texts = standard_texts(64)
    assert texts == standard_texts(64)
    assert len(set(texts)) == 64
    lengths = [len(text) for text in texts]
    assert min(lengths) < 50
    assert max(lengths) > 400
    assert lengths != sorted(lengths)
    with pytest.raises(BenchError, match="Name texts"):
        standard_texts(10**6)


def test_the_users_texts_come_one_a_line(embedding_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(embedding_bundle)
    (tmp_path / "a.txt").write_text("a small bird\n\n  \nruns\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("über den Rand\n", encoding="utf-8")
    (tmp_path / ".hidden").write_text("unseen\n", encoding="utf-8")
    assert inputs_for(bundle, [tmp_path]).items == ("a small bird", "runs", "über den Rand")


def test_inputs_that_are_none_have_their_errors(embedding_bundle: Path, image_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    texts, images = open_bundle(embedding_bundle), open_bundle(image_bundle)
    for bundle, path, message in (
        (texts, tmp_path / "none", "does not exist"),
        (texts, tmp_path / "empty.txt", "no line of text"),
        (texts, tmp_path / "binary.txt", "not text in UTF-8"),
        (images, tmp_path, "no image"),
    ):
        with pytest.raises(BenchError, match=message):
            inputs_for(bundle, [path])


def test_the_digest_tells_where_one_input_ends(embedding_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(embedding_bundle)
    digests = set()
    for number, content in enumerate(("ab\nc\n", "a\nbc\n", "c\nab\n")):
        path = tmp_path / f"{number}.txt"
        path.write_text(content)
        digests.add(inputs_for(bundle, [path]).digest)
    assert len(digests) == 3


def test_the_peak_is_the_childs_own(embedding_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a small bird\n")
    inputs = inputs_for(open_bundle(embedding_bundle), [tmp_path / "one.txt"])
    child = Child(embedding_bundle, "fp32", "cpu", 1, "model")
    before = child.peak_memory(inputs)
    ballast = np.ones(400_000_000, np.uint8)
    after = child.peak_memory(inputs)
    assert ballast.all()
    assert abs(after - before) < 100e6


def test_a_child_imports_sanderling_and_nothing_of_the_bench(embedding_bundle: Path) -> None:
    script = Path(commands.__file__).with_name("child.py")
    watch = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print(sorted(n for n in sys.modules if n.partition('.')[0] in"
        " ('sanderling_bench', 'rich', 'typer', 'psutil', 'torch', 'transformers', 'onnx')))"
    )
    text = b"a small bird"
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c", watch, str(script)),
            *("cold", str(embedding_bundle), "fp32", "cpu", "1", "text", "model", "0"),
        ],
        input=len(text).to_bytes(8, "little") + text,
        capture_output=True,
        check=True,
    )
    stamps, names = done.stdout.decode().splitlines()
    assert all(float(stamp) > 0 for stamp in stamps.split())
    assert names == "[]"


def test_a_child_that_fails_says_why(embedding_bundle: Path, tmp_path: Path) -> None:
    inputs = inputs_for(open_bundle(embedding_bundle))
    with pytest.raises(BenchError, match="has no variant 'int3'"):
        Child(embedding_bundle, "int3", "cpu", 1, "model").cold_start(inputs)
    with pytest.raises(BenchError, match="did not start"):
        run_child([str(tmp_path / "none")])
    with pytest.raises(BenchError, match="printed nothing"):
        run_child([sys.executable, "-c", "pass"], b"x" * 10**6)


def test_the_tables_fit_80_columns(embedding_bundle: Path, image_bundle: Path) -> None:
    for path, expected in ((embedding_bundle, "tokens/s"), (image_bundle, "same label")):
        bundle = open_bundle(path)
        made = measure(bundle, inputs_for(bundle), QUICK)
        console = Console(width=80, file=io.StringIO(), record=True)
        table.show(made, console)
        shown = " ".join(console.export_text().split())
        assert "…" not in shown
        assert expected in shown
        for words in ("p90 needs 64", "p99 needs 662", "fp32", "One at a time", "All at once", "Cold start"):
            assert words in shown


def test_the_command_prints_and_writes_the_record(embedding_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    arguments = [
        "bench",
        str(embedding_bundle),
        "--samples",
        "4",
        "--rounds",
        "1",
        "--cold-starts",
        "0",
        "--threads",
        "1",
    ]
    done = _run([*arguments, "--json", "-o", str(path)])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads(path.read_bytes())
    only = _run([*arguments, "--scenario", "offline", "--variant", "fp32"])
    assert "All at once" in only.stdout
    assert "One at a time" not in only.stdout
    assert "int8-dynamic" not in only.stdout


def test_the_command_raises_typed_errors(
    embedding_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(_run(["bench", str(tmp_path)]).exception, BundleError)
    assert isinstance(_run(["bench", str(embedding_bundle), "-o", str(tmp_path)]).exception, BenchError)
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: None)
    missing = _run(["bench", str(embedding_bundle)]).exception
    assert isinstance(missing, MissingExtraError)
    assert 'pip install "sanderling[bench]"' in str(missing)


def test_where_the_record_cannot_go_is_said_before_measuring_and_what_was_measured_is_shown(
    embedding_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ["bench", str(embedding_bundle), "--samples", "1", "--rounds", "1", "--cold-starts", "0", "--json"]
    refused = _run([*quick, "-o", str(tmp_path / "none" / "record.json")])
    assert isinstance(refused.exception, BenchError)
    assert refused.output == ""

    def full(path: Path, content: bytes) -> None:
        raise StorageError(f"Could not write {path}")

    monkeypatch.setattr("sanderling.storage.write_atomic", full)
    failed = _run([*quick, "-o", str(tmp_path / "record.json")])
    assert isinstance(failed.exception, StorageError)
    assert json.loads(failed.stdout)["bundle"]["name"] == "tiny-embedding"
    assert failed.stderr == ""


def _run(arguments: list[str]) -> Result:
    app = typer.Typer()
    commands.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, arguments)


def _files(bundle: Bundle, variant: str) -> list[Path]:
    form = next(iter(bundle.manifest.components["model"].variants[variant].forms.values()))
    return [bundle.path / name for name in (form.graph, *form.data)]
