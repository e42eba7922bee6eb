"""Faces: found as the definitions say, compared, identified; pictures without one, and galleries of other spaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import tiny_bundles
import tiny_faces
from PIL import Image
from typer.testing import CliRunner

import sanderling
from sanderling import sessions
from sanderling.cli import build_app
from sanderling.codec import decode
from sanderling.errors import (
    FaceError,
    GraphError,
    ImageError,
    InputError,
    ManifestError,
    ModelClosedError,
    SpaceError,
)
from sanderling.faces import results as answers
from sanderling.faces.suppression import MOST_BOXES, suppress
from sanderling.faces.verification import matched
from sanderling.preprocess import faces
from sanderling.schema.preprocessing import SquareInput
from sanderling.session import Session
from sanderling.tasks.face_recognition import FaceRecognizer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_faces.faces_bundle(tmp_path_factory.mktemp("faces") / "tiny")


@pytest.fixture(scope="module")
def model(bundle: Path) -> Any:
    with sanderling.load(bundle) as loaded:
        assert isinstance(loaded, FaceRecognizer)
        yield loaded


class Hit(NamedTuple):
    id: str
    score: float
    metadata: dict[str, Any]


class Gallery:
    """What an index does, over a handful of vectors."""

    def __init__(self, space: str = tiny_faces.SPACE) -> None:
        self.space = space
        self._known: dict[str, answers.Face] = {}

    def add(self, name: str, face: answers.Face) -> None:
        self._known[name] = face

    def search(self, vectors: Any, k: int = 10) -> list[list[Hit]]:
        found = []
        for vector in vectors:
            cosines = {
                name: float(sanderling.similarity(vector, face.vector)[0, 0]) for name, face in self._known.items()
            }
            hits = [Hit(name, cosine, {"name": name}) for name, cosine in cosines.items()]
            found.append(sorted(hits, key=lambda hit: -hit.score)[:k])
        return found


@pytest.mark.parametrize("quarters", [(0, 1), (0,), (1, 0)])
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (41, 33)])
def test_faces_are_as_the_definitions_say(model: FaceRecognizer, quarters: Any, size: tuple[int, int]) -> None:
    picture = tiny_faces.picture(*quarters, width=size[0], height=size[1])
    expected = tiny_faces.expected(picture)
    found = model(picture)
    assert expected
    assert len(found) == len(expected)
    for face, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(face.box, wanted["box"], atol=1e-4)
        assert face.score == pytest.approx(wanted["score"], abs=1e-5)
        np.testing.assert_allclose(face.landmarks, wanted["points"], atol=1e-3)
        np.testing.assert_allclose(face.embedding, wanted["recognition"][1], atol=1e-3)
        logits = wanted["expression"][1]
        scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert face.expressions == pytest.approx(dict(zip(tiny_faces.EXPRESSIONS, scores, strict=True)), abs=1e-4)
        assert face.expression == tiny_faces.EXPRESSIONS[int(scores.argmax())]
        assert face.age == pytest.approx(wanted["age_gender"][1][0], rel=1e-4)
        assert face.gender in tiny_faces.GENDERS
    assert found.embeddings.embeddings.shape == (len(expected), tiny_faces.DIMENSION)
    assert found.message == f"{len(expected)} face{'s' if len(expected) > 1 else ''}."


def test_a_picture_without_a_face_is_an_empty_answer_that_says_so(model: FaceRecognizer) -> None:
    found = model(tiny_faces.picture())
    assert len(found) == 0
    assert "No face" in found.message
    assert f"{found.best_score:.3f}" in found.message
    assert "0.4" in repr(found)
    assert found.embeddings.embeddings.shape == (0, tiny_faces.DIMENSION)
    assert model.identify(found, Gallery()) == ()
    with pytest.raises(FaceError, match=r"No face: the detector's best score is 0\.\d+, and a face has more than 0\.4"):
        model.compare(tiny_faces.picture(), tiny_faces.picture(0))


def test_more_faces_than_allowed_are_counted(model: FaceRecognizer) -> None:
    found = model(tiny_faces.picture(0, 1, 2, 3, width=64, height=64))
    assert len(found) == 3
    assert found.dropped == 1
    assert "1 more" in found.message


def test_two_pictures_of_one_face_are_the_same(model: FaceRecognizer) -> None:
    one, brighter = tiny_faces.picture(0), np.minimum(tiny_faces.picture(0).astype(int) + 5, 255).astype(np.uint8)
    other = tiny_faces.picture(0, seed=2)
    match = model.compare(one, brighter)
    assert match.same
    assert match.similarity > 0.99
    assert match.threshold == 0.9
    assert not model.compare(model(one)[0], other).same
    assert model.compare(one, other, threshold=-1.0).same
    assert model.compare(one, one).similarity == pytest.approx(1.0)


def test_a_comparison_needs_one_face_each(model: FaceRecognizer) -> None:
    with pytest.raises(FaceError, match=r"`b` is to be one face. 2 faces."):
        model.compare(tiny_faces.picture(0), tiny_faces.picture(0, 1))
    with pytest.raises(InputError, match="threshold is 2"):
        model.compare(tiny_faces.picture(0), tiny_faces.picture(0), threshold=2.0)


def test_faces_are_identified_in_a_gallery(model: FaceRecognizer) -> None:
    gallery = Gallery()
    two = model(tiny_faces.picture(0, 1))
    gallery.add("ada", two[0])
    known, unknown = sorted(model.identify(two, gallery), key=lambda one: -one.similarity)
    assert (known.id, known.metadata) == ("ada", {"name": "ada"})
    assert known.similarity == pytest.approx(1.0)
    assert known.face is two[0]
    assert unknown.id is None
    assert unknown.metadata is None
    assert unknown.similarity < unknown.threshold
    (nobody,) = model.identify(two[1], Gallery())
    assert (nobody.id, nobody.similarity) == (None, -1.0)


def test_an_index_is_a_gallery(model: FaceRecognizer, tmp_path: Path) -> None:
    two = model(tiny_faces.picture(0, 1))
    with sanderling.Index.create(tmp_path / "people", space=model.space, dimension=model.dimension) as people:
        people.add(["ada", "bea"], two.embeddings, [{"since": 1843}, {"since": 1850}])
        found = model.identify(tiny_faces.picture(0, 1), people)
        assert [(one.id, one.metadata) for one in found] == [("ada", {"since": 1843}), ("bea", {"since": 1850})]
        assert model.identify(tiny_faces.picture(), people) == ()
        (stranger,) = model.identify(tiny_faces.picture(0, seed=2), people)
        assert stranger.id is None
        assert -1 < stranger.similarity < stranger.threshold
    with (
        sanderling.Index.create(tmp_path / "words", space="8" * 64, dimension=model.dimension) as words,
        pytest.raises(SpaceError, match="The gallery is of the embedding space"),
    ):
        model.identify(two, words)


def test_a_gallery_of_another_space_is_refused(model: FaceRecognizer, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="The gallery is of the embedding space 8888"):
        model.identify(tiny_faces.picture(0), Gallery("8" * 64))
    with pytest.raises(SpaceError):
        model.identify(tiny_faces.picture(), Gallery("8" * 64))
    other = tiny_faces.faces_bundle(tmp_path / "other", space="8" * 64)
    with sanderling.load(other) as stranger:
        assert isinstance(stranger, FaceRecognizer)
        face = stranger(tiny_faces.picture(0))[0]
    with pytest.raises(SpaceError, match="2 embedding spaces"):
        model.compare(face, tiny_faces.picture(0))


def test_lists_streams_and_awaited_calls_answer_alike(model: FaceRecognizer) -> None:
    import asyncio

    pictures = [tiny_faces.picture(0, 1), tiny_faces.picture(), tiny_faces.picture(1)]
    listed = model(pictures)
    assert [len(found) for found in listed] == [2, 0, 1]
    assert [len(found) for found in model.stream(iter(pictures))] == [2, 0, 1]
    assert [len(found) for found in asyncio.run(model.acall(pictures))] == [2, 0, 1]
    assert model.answer(pictures).rows[:, 0].tolist() == [2, 0, 1]
    assert model.answer([]).rows.shape == (0, 2)


@pytest.mark.parametrize("bad", [b"", b"no picture", 3, {"a": 1}])
def test_what_is_no_picture_is_refused(model: FaceRecognizer, bad: Any) -> None:
    with pytest.raises(ImageError):
        model(bad)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2)])
def test_pictures_of_odd_sizes_are_answered(model: FaceRecognizer, size: tuple[int, int]) -> None:
    red = np.zeros((*size, 3), np.uint8)
    red[..., 0] = 255
    found = model(red)
    assert len(found) + found.dropped > 0 or found.best_score <= found.min_score


def test_a_closed_model_says_so(bundle: Path) -> None:
    loaded = sanderling.load(bundle)
    loaded.close()
    with pytest.raises(ModelClosedError):
        loaded(tiny_faces.picture(0))


def test_a_bundle_without_attributes_says_nothing_of_them(tmp_path: Path) -> None:
    with sanderling.load(tiny_faces.faces_bundle(tmp_path / "plain", attributes=False)) as plain:
        face = plain(tiny_faces.picture(0))[0]
    assert isinstance(face, sanderling.Face)
    assert (face.expressions, face.expression, face.age, face.genders, face.gender) == (None,) * 5
    assert sanderling.verify(tmp_path / "plain").held


def test_golden_pictures_prove_every_graph(bundle: Path, tmp_path: Path) -> None:
    report = sanderling.verify(bundle, provider="cpu")
    assert report.held
    named = {check.sample for check in report.checks}
    assert {"two: faces", "none: faces", "two: recognition of face 2", "one: age_gender of face 1"} <= named
    broken = tiny_faces.faces_bundle(tmp_path / "broken")
    graph = tiny_bundles.find(broken, "recognition/fp32/weights.bin")
    graph.write_bytes((np.frombuffer(graph.read_bytes(), np.float32)[::-1]).tobytes())
    tiny_bundles.reseal(broken)
    report = sanderling.verify(broken, provider="cpu")
    assert {check.sample.partition(": ")[2].partition(" ")[0] for check in report.failed} == {"recognition"}
    assert "recognition of face" in report.combinations[0].reason


def test_other_ways_to_cut_are_found_out(tmp_path: Path) -> None:
    made = tiny_faces.faces_bundle(tmp_path / "moved")

    def moved(manifest: Any) -> Any:
        settings = msgspec.structs.replace(manifest.preprocessing.faces, center=(0.5, 0.5))
        return msgspec.structs.replace(
            manifest, preprocessing=msgspec.structs.replace(manifest.preprocessing, faces=settings)
        )

    tiny_bundles.reseal(made, moved)
    report = sanderling.verify(made, provider="cpu")
    assert not report.held
    assert all("recognition" in check.sample for check in report.failed)


def test_a_manifest_of_faces_holds_together(bundle: Path) -> None:
    raw = json.loads((bundle / "bundle.json").read_text("utf-8"))

    def refused(change: Any) -> str:
        broken = json.loads(json.dumps(raw))
        change(broken)
        with pytest.raises(ManifestError) as error:
            decode(json.dumps(broken).encode(), "it")
        return str(error.value)

    assert "has the components" in refused(lambda m: m["components"].pop("landmarks"))
    assert "exactly where it is a component" in refused(lambda m: m["components"].pop("expression"))
    assert "needs preprocessing.faces" in refused(lambda m: m["preprocessing"].update(faces=None))
    assert "space" in refused(lambda m: m.update(space=None))
    assert "go together" in refused(lambda m: m.update(task="image-classification"))
    assert "divides by 0" in refused(lambda m: m["preprocessing"]["faces"]["landmarks"].update(divisor=0))
    assert "has the outputs" in refused(lambda m: m["components"]["detector"]["outputs"].pop())


def test_tuning_and_placement_of_several_graphs(bundle: Path, model: FaceRecognizer) -> None:
    tuned = sanderling.tune(bundle, time_limit=1.0)
    with sanderling.load(bundle) as chosen:
        assert chosen.plan == tuned.plan
    placed = model.measure_placement([tiny_faces.picture(0)], 1)
    assert placed.complete
    assert placed.nodes["cpu"] == sum(model.placement.operators["cpu"].values()) > 10
    assert placed.seconds["cpu"] > 0
    with sanderling.load(bundle, max_memory="2GB") as bounded:
        assert len(bounded(tiny_faces.picture(0, 1))) == 2


def test_the_command_line_shows_faces(bundle: Path, tmp_path: Path) -> None:
    for name, quarters in (("some.png", (0, 1)), ("none.png", ())):
        Image.fromarray(tiny_faces.picture(*quarters)).save(tmp_path / name)
    run = CliRunner()
    shown = run.invoke(build_app(), ["run", str(bundle), str(tmp_path / "some.png"), str(tmp_path / "none.png")])
    assert shown.exit_code == 0
    assert "2 faces." in shown.stdout
    assert "No face: the detector's best score" in shown.stdout
    lines = run.invoke(build_app(), ["run", str(bundle), str(tmp_path), "--json"]).stdout.splitlines()
    empty, two = (json.loads(line) for line in lines)
    assert empty["faces"] == []
    assert len(two["faces"][0]["landmarks"]) == 68
    assert set(two["faces"][0]["expressions"]) == set(tiny_faces.EXPRESSIONS)
    refused = run.invoke(build_app(), ["run", str(bundle), str(tmp_path / "some.png"), "--prompt", "query"])
    assert isinstance(refused.exception, InputError) or "--prompt does not go" in refused.output
    inspected = run.invoke(build_app(), ["inspect", str(bundle)]).stdout
    assert "from a cosine of 0.900 on" in " ".join(inspected.split())
    assert "recognition" in inspected
    assert run.invoke(build_app(), ["inspect", str(bundle), "--drift"]).exit_code == 0
    assert run.invoke(build_app(), ["verify", str(bundle), "--provider", "cpu"]).exit_code == 0


@pytest.mark.parametrize("pad", ["corner", "center"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 12), (12, 7), (31, 30), (64, 64)])
def test_squares_are_as_the_definition_says(shape: tuple[int, int], pad: Any) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    settings = SquareInput(12, pad, (120.0, 110.0, 100.0), 255.0)
    np.testing.assert_allclose(faces.square(picture, settings), tiny_faces.square(picture, settings), atol=5e-7)


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 5.1]], np.float32)
    scores = np.array([0.8, 0.9, 0.7, 0.95], np.float32)
    kept, beyond = suppress(boxes, scores, min_score=0.5, max_overlap=0.5, most=10)
    assert kept.tolist() == [3, 1, 2]
    assert beyond == 0
    kept, beyond = suppress(boxes, scores, min_score=0.5, max_overlap=0.5, most=2)
    assert (kept.tolist(), beyond) == ([3, 1], 1)
    assert suppress(boxes, scores, min_score=0.95, max_overlap=0.5, most=9)[0].tolist() == []
    flat = np.zeros((4, 4), np.float32)
    assert suppress(flat, np.ones(4, np.float32), min_score=0.5, max_overlap=0.5, most=9)[0].tolist() == [0, 1, 2, 3]


def test_a_detector_that_sees_faces_everywhere_costs_no_more() -> None:
    many = 200_000
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (many, 1)) + np.arange(many, dtype=np.float32)[:, None] * 2
    kept, beyond = suppress(boxes, np.ones(many, np.float32), min_score=0.5, max_overlap=0.5, most=5)
    assert kept.tolist() == [0, 1, 2, 3, 4]
    assert beyond == MOST_BOXES - 5


def test_boxes_find_their_partners() -> None:
    expected = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])
    found = np.array([[21, 20, 31, 30, 0.5], [1, 1, 9, 9, 0.6]])
    in_order = matched(found, expected)
    assert in_order is not None
    assert in_order[:, 4].tolist() == [0.6, 0.5]
    assert matched(found[:1], expected) is None
    assert matched(found + 100, expected) is None
    assert matched(np.array([[0, 0, 10, 10], [1, 1, 9, 9.0]]), expected) is None


def test_bench_and_eval_say_that_they_do_not_measure_faces(bundle: Path, tmp_path: Path) -> None:
    from sanderling.bundle import open_bundle
    from sanderling.errors import BenchError, EvalError
    from sanderling_bench.inputs import inputs_for
    from sanderling_bench.labelled import kind_of

    with pytest.raises(BenchError, match="face-recognition is not measured yet"):
        inputs_for(open_bundle(bundle))
    with pytest.raises(EvalError, match="is for face-recognition"):
        kind_of(open_bundle(bundle), tmp_path)


def test_a_load_that_fails_midway_closes_what_it_had(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Session] = []

    def failing(*given: Any, **more: Any) -> Session:
        if len(built) == 2:
            raise GraphError("the third graph cannot be read")
        built.append(Session(*given, **more))
        return built[-1]

    monkeypatch.setattr(sessions, "Session", failing)
    with pytest.raises(GraphError, match="third"):
        sanderling.load(bundle)
    for session in built:
        with pytest.raises(ModelClosedError):
            session.run({})
