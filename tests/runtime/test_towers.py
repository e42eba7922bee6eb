"""Bundles of two towers: each loads apart, both together decide images among free labels."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_bundles
import tiny_towers
from PIL import Image
from tiny_bundles import PICTURE, TEXTS

import sanderling
from sanderling.codec import decode
from sanderling.errors import BundleError, ImageError, InputError, ManifestError, SpaceError, TextError
from sanderling.loading import assemble
from sanderling.plan import Plan
from sanderling.schema.variants import Tolerance
from sanderling.tasks import label_cache
from sanderling.trimming import trim

LABELS = ["sea", "bird", "small bird"]
MANY = [f"word {number}" for number in range(1000)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers.dual_bundle(tmp_path_factory.mktemp("bundles") / "tiny-clip")


def expected_logits(labels: list[str], template: str = tiny_towers.TEMPLATE) -> np.ndarray[Any, Any]:
    texts = np.stack([tiny_towers.reference_text(template.format(label)) for label in labels])
    return tiny_towers.SCALE * texts @ tiny_towers.reference_image(PICTURE)


def test_both_towers_answer_with_vectors_of_one_space(bundle: Path) -> None:
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.DualEncoder)
        texts, image = model.embed_texts(list(TEXTS.values())), model.embed_images(PICTURE)
        for vector, text in zip(texts.embeddings, TEXTS.values(), strict=True):
            np.testing.assert_allclose(vector, tiny_towers.reference_text(text), atol=1e-6)
        np.testing.assert_allclose(image.embedding, tiny_towers.reference_image(PICTURE), atol=1e-6)
        assert texts.space == image.space == model.space == tiny_towers.SPACE
        cosine = sanderling.similarity(image, texts)
        np.testing.assert_allclose(cosine[0], texts.embeddings @ image.embedding, atol=1e-6)
        assert texts.reports[-1].tokens_lost > 0  # type: ignore[union-attr]
        assert model.family == "multimodal"
        assert model.dimension == 8


def test_images_are_decided_among_free_labels(bundle: Path) -> None:
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.DualEncoder)
        found = model(PICTURE, LABELS)
        logits = expected_logits(LABELS)
        np.testing.assert_allclose(found.logits, logits, atol=1e-4)
        assert found.labels[0] == LABELS[int(logits.argmax())]
        assert sum(found.scores) == pytest.approx(1, abs=1e-6)
        assert found.selected == found.labels[:1]
        warm = np.sort(np.exp(logits / 4 - (logits / 4).max()))[::-1]
        np.testing.assert_allclose(model(PICTURE, LABELS, temperature=4).scores, warm / warm.sum(), atol=1e-5)
        several = model([PICTURE, PICTURE[::-1].copy()], LABELS, top_k=2)
        assert len(several) == 2
        np.testing.assert_allclose(several.logits[0], logits, atol=1e-4)
        assert len(several[1].labels) == 2
        bare = model(PICTURE, LABELS, templates="{}")
        np.testing.assert_allclose(bare.logits, expected_logits(LABELS, "{}"), atol=1e-4)
        both = np.stack([[tiny_towers.reference_text(t.format(x)) for t in ("{}", "the {}")] for x in LABELS]).mean(1)
        both /= np.linalg.norm(both, axis=1, keepdims=True)
        ensemble = model.label_vectors(LABELS, templates=("{}", "the {}"))
        np.testing.assert_allclose(ensemble, both, atol=1e-6)
        again = model(model.embed_images(PICTURE), LABELS)
        np.testing.assert_allclose(again.logits, logits, atol=1e-4)
        assert [one.labels for one in model.stream(iter([PICTURE] * 3), LABELS)] == [found.labels] * 3
        assert asyncio.run(model.acall(PICTURE, LABELS)).labels == found.labels  # type: ignore[union-attr]


def test_with_a_sigmoid_each_label_stands_for_itself(tmp_path: Path) -> None:
    target = tiny_towers.dual_bundle(tmp_path / "b", activation="sigmoid", logit_bias=tiny_towers.BIAS, temperature=2.0)
    with sanderling.load(target) as model:
        assert isinstance(model, sanderling.DualEncoder)
        found = model(PICTURE, LABELS)
        logits = (expected_logits(LABELS) + tiny_towers.BIAS) / 2
        np.testing.assert_allclose(found.logits, logits, atol=1e-4)
        scores = dict(zip(found.labels, found.scores, strict=True))
        for label, logit in zip(LABELS, logits, strict=True):
            assert scores[label] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
        assert found.selected == tuple(label for label in found.labels if scores[label] >= 0.5)


@pytest.mark.parametrize("name", ["text_encoder", "vision_encoder"])
def test_a_tower_loads_without_the_other(bundle: Path, copy_bundle: Any, name: str) -> None:
    target = copy_bundle(bundle)
    other = "vision_encoder" if name == "text_encoder" else "text_encoder"
    for path in target.rglob(f"{other}/**/*.*"):
        path.write_bytes(b"damaged")  # what is not loaded is not even looked at
    with sanderling.load(target, components=name) as model:
        assert isinstance(model, sanderling.EmbeddingModel)
        assert model.modality == ("text" if name == "text_encoder" else "image")
        assert model.space == tiny_towers.SPACE
        if name == "text_encoder":
            np.testing.assert_allclose(model("sea").embedding, tiny_towers.reference_text("sea"), atol=1e-6)
        else:
            np.testing.assert_allclose(model(PICTURE).embedding, tiny_towers.reference_image(PICTURE), atol=1e-6)
            assert model.prompts == {}
        assert model.measure_placement().seconds
    with pytest.raises(sanderling.IntegrityError):
        sanderling.load(target)


def test_components_that_are_not_there_or_not_apart(bundle: Path, text_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no component 'decoder'; it has text_encoder, vision_encoder"):
        sanderling.load(bundle, components=["decoder"])
    with pytest.raises(BundleError, match="no component without a name"):
        sanderling.load(bundle, components=[])
    with sanderling.load(text_bundle, components=["model"]) as model:
        assert isinstance(model, sanderling.Classifier)
    with pytest.raises(InputError, match="dimensions goes with embedding models"):
        sanderling.load(bundle, dimensions=4)
    with sanderling.load(bundle, components="text_encoder", dimensions=4) as short:
        assert isinstance(short, sanderling.EmbeddingModel)
        assert short("sea").embedding.shape == (4,)
        assert short.space != tiny_towers.SPACE


def test_an_index_of_images_answers_texts_and_images(bundle: Path, tmp_path: Path) -> None:
    pictures = {f"p{i}": np.roll(PICTURE, i * 3, axis=1) for i in range(6)}
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.DualEncoder)
        with sanderling.Index.create(tmp_path / "i", space=model.space, dimension=model.dimension) as index:
            index.add(list(pictures), list(pictures.values()), model=model.vision_encoder)
            assert index.search(model.embed_images(pictures["p4"]), 1)[0].id == "p4"
            query = model.embed_texts("a small bird")
            vectors = np.stack([tiny_towers.reference_image(picture) for picture in pictures.values()])
            best = list(pictures)[int((vectors @ query.embedding).argmax())]
            assert index.search(query, 1)[0].id == best
    with sanderling.load(bundle, components="text_encoder") as texts:
        assert isinstance(texts, sanderling.EmbeddingModel)
        with sanderling.Index.open(tmp_path / "i") as index:
            assert index.search(texts("a small bird"), 1)[0].id == best


def test_a_thousand_labels_are_embedded_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.DualEncoder)
        answer = model.text_encoder.answer

        def counted(items: list[Any], *more: Any) -> Any:
            asked.append(len(items))
            return answer(items, *more)

        monkeypatch.setattr(model.text_encoder, "answer", counted)
        first = model(PICTURE, MANY, top_k=5)
        assert asked == [1000]
        np.testing.assert_allclose(first.logits, expected_logits(MANY), atol=1e-4)
        assert model(PICTURE[::-1].copy(), MANY, top_k=5).logits.shape == (1000,)
        assert asked == [1000]
    with sanderling.load(bundle) as later:
        assert isinstance(later, sanderling.DualEncoder)
        monkeypatch.setattr(later.text_encoder, "answer", lambda *given: pytest.fail("the labels were known"))
        assert later(PICTURE, MANY, top_k=5).labels == first.labels


def test_a_damaged_record_of_labels_is_as_if_never_made(bundle: Path, cache_folder: Path) -> None:
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.DualEncoder)
        expected = model.label_vectors(MANY[:20])
        (record,) = (cache_folder / "labels").glob("*.vectors")
        raw = record.read_bytes()
        for damaged in (raw[:-4], raw[:-1] + bytes([raw[-1] ^ 1]), b""):
            record.write_bytes(damaged)
            assert label_cache.read(model.text_encoder, tuple(MANY[:20]), model.templates) is None
            with sanderling.load(bundle) as other:
                assert isinstance(other, sanderling.DualEncoder)
                np.testing.assert_array_equal(other.label_vectors(MANY[:20]), expected)
        for count in range(16, 90):
            model.label_vectors(MANY[:count])
        assert len(list((cache_folder / "labels").glob("*.vectors"))) == 64


def test_what_is_no_input_is_refused(bundle: Path, tmp_path: Path) -> None:
    with sanderling.load(bundle) as model:
        assert isinstance(model, sanderling.DualEncoder)
        with pytest.raises(InputError, match="There are 0 labels"):
            model(PICTURE, [])
        with pytest.raises(InputError, match="a list of texts was expected"):
            model(PICTURE, "sea")
        with pytest.raises(InputError, match="more than once"):
            model(PICTURE, ["sea", "sea"])
        with pytest.raises(InputError, match=r"reads 16\. Shorten it"):
            model(PICTURE, ["sea", "word " * 40])
        for bad in ("no place", "{} and {}"):
            with pytest.raises(InputError, match=r"one \{\}, for the label"):
                model(PICTURE, LABELS, templates=bad)
        with pytest.raises(InputError, match="templates is empty"):
            model(PICTURE, LABELS, templates=())
        for zero in (0, -1.0, float("nan"), float("inf"), True):
            with pytest.raises(InputError, match="temperature is"):
                model(PICTURE, LABELS, temperature=zero)
        with pytest.raises(TextError, match="embed_images"):
            model.embed_texts(PICTURE)  # type: ignore[call-overload]
        with pytest.raises(TextError):
            model.embed_texts([PICTURE])  # type: ignore[list-item]
        with pytest.raises(ImageError):
            model.embed_images(str(tmp_path / "a bird on the beach"))
        other = msgspec.structs.replace(model.embed_images(PICTURE), space="1" * 64)
        with pytest.raises(SpaceError, match="Embed the input with this model"):
            model(other, LABELS)
        assert len(model([], LABELS)) == 0
    with pytest.raises(sanderling.ModelClosedError):
        model(PICTURE, LABELS)


def test_verify_replays_each_tower_and_says_which_failed(bundle: Path, copy_bundle: Any) -> None:
    report = sanderling.verify(bundle)
    assert report.held
    assert {check.sample for check in report.checks} == {*TEXTS, "shore"}
    target = copy_bundle(bundle)
    weights = next(target.rglob("vision_encoder/int8-dynamic/weights.bin"))
    weights.write_bytes(np.frombuffer(weights.read_bytes(), np.float32)[::-1].tobytes())
    tiny_bundles.reseal(target)
    report = sanderling.verify(target)
    assert {(check.variant, check.sample) for check in report.failed} == {("int8-dynamic", "shore")}
    assert [c.variant for c in report.combinations if not c.held] == ["int8-dynamic"]


def test_each_tower_is_held_against_its_own_tolerance(bundle: Path, copy_bundle: Any) -> None:
    target = copy_bundle(bundle)

    def strict(manifest: Any) -> Any:
        vision = manifest.components["vision_encoder"]
        variants = dict(vision.variants)
        variants["int8-dynamic"] = msgspec.structs.replace(
            variants["int8-dynamic"], tolerance=Tolerance(0.9999999, 1e-5)
        )
        components = manifest.components | {"vision_encoder": msgspec.structs.replace(vision, variants=variants)}
        return msgspec.structs.replace(manifest, components=components)

    tiny_bundles.reseal(target, strict)
    report = sanderling.verify(target, variants=["int8-dynamic"])
    assert report.held  # the rounded text tower would not hold what the vision tower does
    assert {check.tolerance.min_cosine for check in report.checks if check.tolerance} == {0.999}


def test_a_cap_on_memory_holds_for_both_towers(bundle: Path) -> None:
    with sanderling.load(bundle, max_memory="2GB") as model:
        assert isinstance(model, sanderling.DualEncoder)
    with pytest.raises(sanderling.MemoryLimitError):
        sanderling.load(bundle, max_memory=1000)
    opened = sanderling.open_bundle(bundle)
    with assemble(opened, Plan("fp32", "cpu", 1, 1)) as model:
        rows = model.answer([TEXTS["plain"], PICTURE, TEXTS["emoji"]]).rows
        np.testing.assert_allclose(rows[1], tiny_towers.reference_image(PICTURE), atol=1e-6)
        np.testing.assert_allclose(rows[2], tiny_towers.reference_text(TEXTS["emoji"]), atol=1e-6)
        assert model.measure_placement([TEXTS["plain"]]).seconds


def test_texts_are_padded_to_the_full_length_where_the_model_sees_it(bundle: Path, copy_bundle: Any) -> None:
    target = copy_bundle(bundle)
    tiny_bundles.reseal(
        target,
        lambda sealed: msgspec.structs.replace(
            sealed,
            preprocessing=msgspec.structs.replace(
                sealed.preprocessing, text=msgspec.structs.replace(sealed.preprocessing.text, padding="max_tokens")
            ),
        ),
    )
    with sanderling.load(target, components="text_encoder") as model:
        for texts in (["sea"], ["sea", "a small bird runs"]):
            feeds, _ = model.front.feeds(model.front.prepare(texts, None))
            assert feeds["input_ids"].shape == (len(texts), tiny_bundles.MAX_TOKENS)


CONTRADICTIONS: dict[str, Any] = {
    "needs preprocessing.text, preprocessing.image": lambda m: m["preprocessing"].pop("image"),
    "go together": lambda m: m.update(task="image-classification"),
    "of multimodal models": lambda m: m.update(family="embedding"),
    "has the outputs": lambda m: m["components"]["text_encoder"]["outputs"][0].update(name="other"),
    "of one dimension": lambda m: m["postprocessing"]["image"].update(dimension=9),
    "no tokens to pool": lambda m: m["postprocessing"]["image"].update(pooling="mean"),
    "needs one {}": lambda m: m["postprocessing"].update(templates=["nothing"]),
    "has the components": lambda m: m["components"].update(extra=m["components"]["text_encoder"]),
    "logit_scale": lambda m: m["postprocessing"].update(logit_scale=0),
    "dense layers need": lambda m: m["postprocessing"]["text"].update(dense=[{"weight": "w"}]),
    "a form without padding": lambda m: (
        m["preprocessing"]["text"].update(padding="max_tokens"),
        m["components"]["text_encoder"]["variants"]["fp32"]["forms"].update(
            exact=m["components"]["text_encoder"]["variants"]["fp32"]["forms"]["padded"]
        ),
    ),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused(bundle: Path, message: str) -> None:
    manifest = msgspec.json.decode((bundle / "bundle.json").read_bytes())
    CONTRADICTIONS[message](manifest)
    with pytest.raises(ManifestError) as raised:
        decode(msgspec.json.encode(manifest), "here")
    assert message in str(raised.value)


def test_a_bundle_may_have_one_tower_alone(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "texts"
    trimmed = trim(bundle, ["fp32"], target, components="text_encoder")
    assert trimmed.after < trimmed.before
    assert not list(target.rglob("vision_encoder"))
    with sanderling.load(target) as model:
        assert isinstance(model, sanderling.EmbeddingModel)
        assert model.modality == "text"
    assert sanderling.verify(target).held
    with pytest.raises(BundleError, match="no component 'decoder'"):
        trim(bundle, ["fp32"], tmp_path / "other", components=["decoder"])


def test_the_examples_of_the_docs_run(
    bundle: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (root / "docs" / "multimodal.md").read_text("utf-8")
    shutil.copytree(bundle, tmp_path / "models" / "bundles" / "world-clip")
    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    # Of a tokenizer that knows none of its words, a label has a token for each letter, and this model few for all.
    text = text.replace("two blue squares", "blue squares")
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for example in examples:
        exec(compile(example, "multimodal.md", "exec"), namespace)
    assert "picture.png" in capsys.readouterr().out
