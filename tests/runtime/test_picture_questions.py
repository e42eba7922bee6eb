"""Questions about pictures on a bundle of a few kilobytes, beside numpy; bad input; and the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_language
from PIL import Image
from tiny_language import (
    CHOICES,
    CONTEXT,
    END,
    PICTURES,
    QUESTIONS,
    TURN,
    ids_of,
    reference_asked,
    reference_choice,
    reference_greedy,
)
from typer.testing import CliRunner

import sanderling
from sanderling import (
    AnswerClassifier,
    Cancellation,
    CancelledError,
    ImageError,
    InputError,
    ManifestError,
    PictureQuestion,
    QuestionAnswerer,
    TextError,
)
from sanderling.cli import build_app
from sanderling.generation.results import Generation, Generations

PICTURE = PICTURES["photo-2"]
ASKED = ["dark?", "is it the sea?", "light?", "is it the tide?"]


@pytest.fixture(scope="session")
def answerer_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny-answerer`, not to be changed."""
    return tiny_language.answerer_bundle(tmp_path_factory.mktemp("bundles") / "tiny-answerer")


@pytest.fixture(scope="session")
def answerer(answerer_bundle: Path) -> QuestionAnswerer:
    found = sanderling.load(answerer_bundle, threads=1)
    assert isinstance(found, QuestionAnswerer)
    return found


def expected(picture: Any, question: str, count: int = 10) -> list[int]:
    return reference_greedy([TURN], count, seen=reference_asked(picture, question))


def test_answers_are_those_of_numpy(answerer: QuestionAnswerer) -> None:
    pictures = list(PICTURES.values())
    found = answerer.generate(pictures, list(QUESTIONS.values()), max_new_tokens=10)
    assert isinstance(found, Generations)
    for picture, question, one in zip(pictures, QUESTIONS.values(), found, strict=True):
        assert list(one.tokens) == expected(picture, question)
        alone = answerer.generate(picture, question, max_new_tokens=10)
        assert isinstance(alone, Generation)
        assert alone.tokens == one.tokens
        assert alone.prompt_tokens == len(ids_of(question)) + 1
        assert "".join(answerer.stream(picture, question, max_new_tokens=10)) == alone.text
        assert (alone.report.width, alone.report.height) == (17, 11)  # type: ignore[union-attr]
    assert len({one.tokens for one in found}) == len(pictures)


def test_one_question_of_all_and_all_questions_of_one(answerer: QuestionAnswerer) -> None:
    pictures = list(PICTURES.values())
    same = answerer.generate(pictures, "light?", max_new_tokens=6)
    assert isinstance(same, Generations)
    assert [list(one.tokens) for one in same] == [expected(picture, "light?", 6) for picture in pictures]
    many = answerer.generate(PICTURE, ASKED, max_new_tokens=6)
    assert isinstance(many, Generations)
    assert [list(one.tokens) for one in many] == [expected(PICTURE, question, 6) for question in ASKED]
    mixed = [PictureQuestion(PICTURE, "dark?"), {"image": pictures[0], "question": "light?"}]
    both = answerer.generate(mixed, max_new_tokens=6)  # type: ignore[call-overload]
    assert [list(one.tokens) for one in both] == [expected(PICTURE, "dark?", 6), expected(pictures[0], "light?", 6)]
    assert len(answerer.generate([], [])) == 0  # type: ignore[arg-type]


def test_a_picture_is_seen_once_for_all_questions(answerer: QuestionAnswerer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    held = answerer._engines.single.hold

    def counted(feeds: Any, *more: Any) -> Any:
        seen.append(len(feeds["pixel_values"]))
        return held(feeds, *more)

    monkeypatch.setattr(answerer._engines.single, "hold", counted)
    answerer.generate(PICTURE, ASKED, max_new_tokens=2)
    assert seen == [1]


def test_beams_hear_their_own_question(answerer: QuestionAnswerer) -> None:
    together = answerer.generate(PICTURE, ASKED, max_new_tokens=8, num_beams=3)
    assert isinstance(together, Generations)
    for question, one in zip(ASKED, together, strict=True):
        alone = answerer.generate(PICTURE, question, max_new_tokens=8, num_beams=3)
        assert isinstance(alone, Generation)
        assert (alone.tokens, alone.score) == (one.tokens, one.score)
    awaited = asyncio.run(answerer.acall(PICTURE, "dark?", max_new_tokens=4))
    assert isinstance(awaited, Generation)
    assert list(awaited.tokens) == expected(PICTURE, "dark?", 4)


def test_golden_questions_are_replayed(answerer_bundle: Path) -> None:
    report = sanderling.verify(answerer_bundle)
    assert report.held
    assert sum(check.batching == "steps" for check in report.checks) == len(PICTURES)


def test_what_is_no_picture_or_no_question_is_refused(answerer: QuestionAnswerer) -> None:
    ask: Any = answerer.generate
    for picture in (b"no picture", "no such file.png", np.zeros((4, 4, 7), np.uint8), 7, None):
        with pytest.raises(ImageError):
            ask(picture, "dark?")
    for question in (7, b"dark?", PICTURE, Image.fromarray(PICTURE)):
        with pytest.raises(TextError, match="question"):
            ask([PICTURE], [question])
    with pytest.raises(TextError, match="The picture comes first"):
        ask(PictureQuestion(PICTURE, Image.fromarray(PICTURE)))  # type: ignore[arg-type]
    for empty in ("", "  \n"):
        with pytest.raises(TextError, match="empty"):
            ask(PICTURE, empty)
    for alone in (PICTURE, "photo.jpg", Image.fromarray(PICTURE), 7, [PICTURE], {"image": PICTURE}):
        with pytest.raises(InputError, match="question"):
            ask(alone)
    with pytest.raises(ImageError, match="no picture"):
        ask({"image": None, "question": "dark?"})
    with pytest.raises(InputError, match="3 questions"):
        ask([PICTURE, PICTURE], ["a", "b", "c"])
    with pytest.raises(TextError, match="nothing of a question is cut"):
        ask(PICTURE, "is it " * CONTEXT)
    with pytest.raises(TextError, match="surrogate"):
        ask(PICTURE, "dark \ud800?")
    with pytest.raises(InputError, match="several"):
        answerer.stream(PICTURE, ASKED)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="num_beams=1"):
        answerer.stream(PICTURE, "dark?", num_beams=2)
    ended = Cancellation()
    ended.cancel()
    with pytest.raises(CancelledError):
        ask(PICTURE, "dark?", cancellation=ended)


def test_an_answer_that_never_stops_is_bounded(tmp_path: Path) -> None:
    path = tiny_language.answerer_bundle(tmp_path / "endless", max_new_tokens=1_000_000, min_new_tokens=1_000_000)
    with sanderling.load(path) as model:
        assert isinstance(model, QuestionAnswerer)
        found = model.generate(PICTURE, "dark?")
        assert isinstance(found, Generation)
        assert (len(found.tokens), found.finish_reason, found.complete) == (CONTEXT - 1, "context", False)
        assert END not in found.tokens
    with pytest.raises(sanderling.ModelClosedError):
        model.generate(PICTURE, "dark?")


def test_manifests_that_do_not_hold_together_are_refused(answerer_bundle: Path) -> None:
    from sanderling import codec

    manifest = sanderling.open_bundle(answerer_bundle).manifest
    parts = manifest.components
    reader = parts["text_encoder"]
    for wrong, words in (
        ({name: part for name, part in parts.items() if name != "text_encoder"}, "components"),
        (parts | {"text_encoder": msgspec.structs.replace(reader, inputs=reader.inputs[:1])}, "image_embeds"),
        (parts | {"text_encoder": msgspec.structs.replace(reader, outputs=reader.outputs[:1])}, "encoder before it"),
    ):
        changed = msgspec.structs.replace(manifest, components=wrong)
        with pytest.raises(ManifestError, match=words):
            codec.decode(codec.encode(changed), "bundle.json")


def test_the_command_line_asks(answerer_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "photo.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    picture, broken = str(tmp_path / "photo.png"), str(tmp_path / "broken.png")
    base = ["run", str(answerer_bundle), "--max-new-tokens", "4"]
    asked = ["--question", "dark?", "--question", "light?"]
    done = CliRunner().invoke(build_app(), [*base, picture, broken, *asked, "--json"])
    assert done.exit_code == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["input"], one["question"]) for one in records] == [
        (picture, "dark?"), (picture, "light?"), (broken, "dark?"), (broken, "light?"),
    ]  # fmt: skip
    assert [one["tokens"] for one in records[:2]] == [expected(PICTURE, q, 4) for q in ("dark?", "light?")]
    assert all("error" in one for one in records[2:])
    shown = CliRunner().invoke(build_app(), [*base, picture, "--question", "dark?"])
    assert shown.exit_code == 0
    assert "dark?" in shown.stdout
    glass = Image.fromarray(PICTURE)
    glass.putalpha(90)
    glass.save(tmp_path / "clear.png")
    clear = [*base, str(tmp_path / "clear.png"), "--question", "dark?"]
    assert "transparency laid on white" in CliRunner().invoke(build_app(), clear).stderr
    assert json.loads(CliRunner().invoke(build_app(), [*clear, "--json"]).stdout)["lost"] == {"alpha_composited": True}
    none = CliRunner().invoke(build_app(), [*base, picture])
    assert none.exit_code != 0
    labels = CliRunner().invoke(build_app(), [*base, picture, "--question", "dark?", "--labels", "a,b"])
    assert labels.exit_code != 0


@pytest.fixture(scope="session")
def chooser_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny-chooser`, not to be changed."""
    return tiny_language.chooser_bundle(tmp_path_factory.mktemp("bundles") / "tiny-chooser")


def test_choices_are_those_of_numpy(chooser_bundle: Path) -> None:
    pictures = list(PICTURES.values())
    with sanderling.load(chooser_bundle) as model:
        assert isinstance(model, AnswerClassifier)
        assert (model.labels, model.family, model.modality) == (CHOICES, "multimodal", "image")
        found = model(pictures, ["dark?", "is it the sea?", "light?"], top_k=2)
        assert isinstance(found, sanderling.Classifications)
        for picture, question, one in zip(pictures, ["dark?", "is it the sea?", "light?"], found, strict=True):
            logits = reference_choice(picture, question)
            np.testing.assert_allclose(one.logits, logits, atol=1e-5)
            assert one.label == CHOICES[int(logits.argmax())]
            assert one.score == pytest.approx(1 / (1 + np.exp(-float(logits.max()))), abs=1e-5)
            assert len(one.labels) == 2
        alone = model(PictureQuestion(pictures[0], "dark?"))
        assert isinstance(alone, sanderling.Classification)
        np.testing.assert_allclose(alone.logits, found[0].logits, atol=1e-6)
        several = model(pictures[0], ["dark?", "light?"])
        assert isinstance(several, sanderling.Classifications)
        awaited = asyncio.run(model.acall(pictures[0], "dark?"))
        assert isinstance(awaited, sanderling.Classification)
        assert awaited.label == alone.label
        ask: Any = model
        for wrong, words in (
            ((pictures[0],), "question"), (([pictures[0]], [pictures[0]]), "text"), ((pictures[0], " "), "empty"),
            ((pictures[0], "is it " * CONTEXT), "nothing of a question is cut"), ((None, "a?"), "type NoneType"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=words):
                ask(*wrong)
        # So long and thin that a side would be nothing is still seen.
        assert model(np.zeros((400, 3, 3), np.uint8), "dark?").label in CHOICES  # type: ignore[union-attr]
    assert sanderling.verify(chooser_bundle).held
    with pytest.raises(InputError, match="max_memory"):
        sanderling.load(chooser_bundle, max_memory="300MB")


def test_the_command_line_chooses(chooser_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "photo.png")
    words = ["run", str(chooser_bundle), str(tmp_path / "photo.png"), "--question", "dark?", "--question", "light?"]
    done = CliRunner().invoke(build_app(), [*words, "--json", "--top-k", "1"])
    assert done.exit_code == 0, done.stdout
    records = [json.loads(line) for line in done.stdout.splitlines()]
    best = [CHOICES[int(reference_choice(PICTURE, question).argmax())] for question in ("dark?", "light?")]
    assert [(one["question"], one["labels"]) for one in records] == list(
        zip(["dark?", "light?"], [[one] for one in best], strict=True)
    )
    assert "dark?" in CliRunner().invoke(build_app(), words).stdout
    other = CliRunner().invoke(build_app(), [*words[:3], "--question", "a?", "--num-beams", "2"])
    assert other.exit_code != 0


def test_a_choice_needs_one_graph_that_sees_and_reads(chooser_bundle: Path) -> None:
    from sanderling import codec

    manifest = sanderling.open_bundle(chooser_bundle).manifest
    (component,) = manifest.components.values()
    blind = msgspec.structs.replace(component, inputs=component.inputs[1:])
    unread = msgspec.structs.replace(manifest.preprocessing, image=None)
    for changed, words in (
        (msgspec.structs.replace(manifest, components={"model": blind}), "pixel_values"),
        (msgspec.structs.replace(manifest, preprocessing=unread), "preprocessing.image"),
        (msgspec.structs.replace(manifest, family="general"), "multimodal"),
    ):
        with pytest.raises(ManifestError, match=words):
            codec.decode(codec.encode(changed), "bundle.json")
