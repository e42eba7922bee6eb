"""Captions on a bundle of a few kilobytes, beside numpy; and the examples of the docs on generation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language
from PIL import Image
from tiny_language import END, PICTURES, TURN, ids_of, reference_greedy, reference_seen

import sanderling
from sanderling import Cancellation, CancelledError, ImageError, ImageToText, InputError
from sanderling.generation.results import Generation


@pytest.fixture(scope="session")
def captioner_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny-captioner`, not to be changed."""
    return tiny_language.captioner_bundle(tmp_path_factory.mktemp("bundles") / "tiny-captioner")


@pytest.fixture(scope="session")
def captioner(captioner_bundle: Path) -> ImageToText:
    found = sanderling.load(captioner_bundle, threads=1)
    assert isinstance(found, ImageToText)
    return found


def test_captions_are_those_of_numpy(captioner: ImageToText) -> None:
    found = captioner.generate(list(PICTURES.values()), max_new_tokens=10)
    assert len({one.tokens for one in found}) == len(PICTURES)
    for picture, caption in zip(PICTURES.values(), found, strict=True):
        assert list(caption.tokens) == reference_greedy([TURN], 10, seen=reference_seen(picture))
        alone = captioner.generate(picture, max_new_tokens=10)
        assert isinstance(alone, Generation)
        assert alone.tokens == caption.tokens
        assert "".join(captioner.stream(picture, max_new_tokens=10)) == alone.text
        assert alone.prompt_tokens == 1
        assert (alone.report.width, alone.report.height) == (17, 11)  # type: ignore[union-attr]


def test_beams_hear_their_own_picture(captioner: ImageToText) -> None:
    pictures = list(PICTURES.values())
    together = captioner.generate(pictures, max_new_tokens=10, num_beams=3)
    for picture, caption in zip(pictures, together, strict=True):
        alone = captioner.generate(picture, max_new_tokens=10, num_beams=3)
        assert (alone.tokens, alone.score) == (caption.tokens, caption.score)
        greedy = captioner.generate(picture, max_new_tokens=10)
        assert greedy.score is None
    assert len({caption.tokens for caption in together}) == len(pictures)


def test_a_caption_goes_on_from_a_text(captioner: ImageToText) -> None:
    picture = PICTURES["photo-2"]
    found = captioner.generate(picture, text="a bird ", max_new_tokens=8)
    assert list(found.tokens) == reference_greedy([TURN, *ids_of("a bird ")], 8, seen=reference_seen(picture))
    assert found.prompt_tokens == 1 + len(ids_of("a bird "))
    with pytest.raises(InputError, match="context"):
        captioner.generate(picture, text="x" * 100)


def test_golden_pictures_are_replayed(captioner_bundle: Path) -> None:
    report = sanderling.verify(captioner_bundle)
    assert report.held
    assert sum(check.batching == "steps" for check in report.checks) == len(PICTURES)


def test_what_is_no_picture_is_refused(captioner: ImageToText) -> None:
    for wrong in (b"no picture", "no such file.png", np.zeros((4, 4, 7), np.uint8), 7, {"a": 1}, None):
        with pytest.raises(ImageError):
            captioner.generate(wrong)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="several pictures"):
        captioner.stream(list(PICTURES.values()))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="num_beams=1"):
        captioner.stream(PICTURES["photo-1"], num_beams=2)
    with pytest.raises(sanderling.BundleError, match="only together"):
        sanderling.load(captioner.bundle.path, components="decoder")
    ended = Cancellation()
    ended.cancel()
    with pytest.raises(CancelledError):
        captioner.generate(PICTURES["photo-1"], cancellation=ended)


def test_a_closed_captioner_says_so(captioner_bundle: Path) -> None:
    with sanderling.load(captioner_bundle) as closed:
        assert isinstance(closed, ImageToText)
        assert closed.placement.complete
    for call in (lambda: closed.generate(PICTURES["photo-1"]), lambda: closed.stream(PICTURES["photo-1"])):
        with pytest.raises(sanderling.ModelClosedError):
            call()


def test_examples_of_the_docs_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_language.language_bundle(tmp_path / "models" / "bundles" / "my-writer")
    tiny_language.captioner_bundle(tmp_path / "models" / "bundles" / "world-captions")
    tiny_language.answerer_bundle(tmp_path / "models" / "bundles" / "world-answers")
    Image.fromarray(PICTURES["photo-1"]).save(tmp_path / "picture.png")
    text = (root / "docs" / "generation.md").read_text("utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) >= 2
    names: dict[str, Any] = {}
    for code in found:
        exec(code, names)
    assert isinstance(names["model"], sanderling.TextGenerator)
    assert isinstance(names["captioner"], ImageToText)
    assert isinstance(names["answerer"], sanderling.QuestionAnswerer)
    assert capsys.readouterr().out
    assert END not in names["answer"].tokens[:-1]
