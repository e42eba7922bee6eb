"""`run` with labels of one's own, second texts and windows: what is shown, and what contradicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_bundles

import sanderling
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import LongText

pytest.importorskip("typer", reason="the extra [cli] is not installed")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the program: its exit status, output and errors."""
    from sanderling.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["sanderling", *map(str, arguments)])
            try:
                status = main() or 0
            except SystemExit as ended:
                status = int(ended.code or 0)
        found = capsys.readouterr()
        return status, found.out, found.err

    return call


@pytest.fixture
def changed(text_bundle: Path, copy_bundle: Any) -> Path:
    """`tiny-sentiment` of which several labels may hold, with windows."""
    folder = copy_bundle(text_bundle)
    head = ClassificationOutput("logits", "sigmoid", tiny_bundles.LABELS, (0.0, 1.0, 0.0))

    def change(manifest: Any) -> Any:
        text = msgspec.structs.replace(manifest.preprocessing.text, long_text=LongText(4))
        preprocessing = msgspec.structs.replace(manifest.preprocessing, text=text)
        return msgspec.structs.replace(manifest, preprocessing=preprocessing, postprocessing=head)

    tiny_bundles.reseal(folder, change)
    return Path(folder)


def test_labels_of_ones_own(run: Any, embedding_bundle: Path) -> None:
    status, out, _ = run("run", embedding_bundle, "a bird", "word", "--labels", "sea, word,bird", "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    with sanderling.load(embedding_bundle) as model:
        expected = sanderling.ZeroShotClassifier(model)(["a bird", "word"], ["sea", "word", "bird"])
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer["labels"] == list(wanted.labels)
        assert answer["scores"] == pytest.approx(wanted.scores, abs=1e-6)
    status, out, _ = run("run", embedding_bundle, "word", "--labels", "sea,word", "--top-k", "1", "--multi-label")
    assert status == 0
    assert "1.0000  word" in out


def test_a_second_text_and_windows(run: Any, changed: Path) -> None:
    long = "the bird runs along the edge of the sea " * 6
    status, out, _ = run("run", changed, "--text", long, "--long-text", "window", "--json")
    windows = json.loads(out)
    with sanderling.load(changed) as model:
        assert isinstance(model, sanderling.Classifier)
        wanted = model(long, long_text="window")
        pair = model({"text": "a bird", "text_pair": "the sea"})
    assert (status, windows["windows"], "lost" in windows) == (0, wanted.report.windows, False)  # type: ignore[union-attr]
    assert windows["scores"] == pytest.approx(wanted.scores, abs=1e-6)
    assert windows["selected"] == list(wanted.selected)
    assert set(wanted.selected) == {"calm", "stormy"}
    _, out, _ = run("run", changed, "a bird", "--pair", "the sea", "--json")
    assert json.loads(out)["scores"] == pytest.approx(pair.scores, abs=1e-6)
    _, out, _ = run("run", changed, "--text", long, "--long-text", "window")
    assert f"in {wanted.report.windows} windows" in out  # type: ignore[union-attr]
    assert out.count("* ") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "a,b"), 'one has to begin with "entail"'),
        (("--multi-label",), "--multi-label and --template go with --labels."),
        (("--template", "{}"), "--multi-label and --template go with --labels."),
        (("--long-text", "fold"), "--long-text is fold; truncate, or for a text classifier window, was expected."),
        (("--labels", "a", "--pair", "b"), "--labels goes with neither --pair nor --long-text."),
        (("--labels", "a", "--prompt", "query"), "--prompt goes with embedding models"),
    ],
)
def test_options_that_contradict(run: Any, text_bundle: Path, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run("run", text_bundle, "x", *arguments)
    assert (status, message in " ".join(err.split())) == (1, True)
    assert out.count("\n") <= 1


def test_options_that_embeddings_do_not_have(run: Any, embedding_bundle: Path) -> None:
    for arguments, message in (
        (("--pair", "b"), "--pair goes with text classifiers; tiny-embedding is for feature-extraction."),
        (("--long-text", "window"), "for a text classifier window, was expected"),
        (("--labels", "a,,b"), "'' is no label"),
        (("--labels", "a,a"), "'a' is given more than once"),
    ):
        status, _, err = run("run", embedding_bundle, "x", *arguments)
        assert (status, message in " ".join(err.split())) == (1, True), err
