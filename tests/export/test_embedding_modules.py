"""What sentence-transformers stacks behind an encoder is read from its own files, and answered as it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from sentence_transformers.util.quantization import quantize_embeddings

import sanderling
from sanderling.errors import CheckpointError, ExportError, InputError
from sanderling.schema.vectors import EmbeddingOutput
from sanderling.spaces import derived
from sanderling.verification import cosines, verify
from sanderling_export import description, losses
from sanderling_export.pipeline import export

TEXTS = ["low tide", "", "the small bird runs along the edge of the sea and " * 30, "ünïcode 三趾鹬 🐦"]
PROMPTS = {"query": "low bird: ", "passage": "the sea: "}

Made = tuple[SentenceTransformer, Path]
Make = Callable[..., Made]


@pytest.fixture(scope="module")
def made(
    checkpoint: Callable[[str], Path], lines: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Made]:
    """A sentence-transformers model, saved, and its fp32 bundle: made once for each set of arguments."""
    known: dict[str, Made] = {}

    def make(
        pooling: str = "mean", layers: tuple[Any, ...] = (), normalize: bool = False, prompted: bool = True
    ) -> Made:
        key = repr((pooling, layers, normalize, prompted))
        if key not in known:
            torch.manual_seed(11)
            modules: list[Any] = [Transformer(str(checkpoint("bert"))), Pooling(32, pooling, include_prompt=prompted)]
            size = 32
            for outputs, bias, function in layers:
                modules.append(Dense(size, outputs, bias=bias, activation_function=function()))
                size = outputs
            modules += [Normalize()] if normalize else []
            model = SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu")
            folder = tmp_path_factory.mktemp("stacks")
            model.save(str(folder / "checkpoint"))
            bundle = export(folder / "checkpoint", folder / "bundle", variants=["fp32"], data=lines)
            known[key] = model, bundle
        return known[key]

    return make


def check(model: SentenceTransformer, bundle: Path) -> None:
    report = verify(bundle)
    assert report.held, report.failed[:3]
    assert any("prompt" in found.sample for found in report.checks)
    with sanderling.load(bundle) as ours:
        assert isinstance(ours, sanderling.EmbeddingModel)
        assert PROMPTS.items() <= ours.prompts.items()
        for prompt in (None, "query", "passage"):
            expected = model.encode(TEXTS, prompt_name=prompt)
            alone = np.stack([ours(text, prompt=prompt).embedding for text in TEXTS])
            for found in (ours(TEXTS, prompt=prompt).embeddings, alone):
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean"])
def test_poolings(made: Make, pooling: str) -> None:
    check(*made(pooling))


def test_dense_layers_and_normalization(made: Make) -> None:
    model, bundle = made("mean", ((48, True, torch.nn.Tanh), (16, False, torch.nn.Identity)), True)
    check(model, bundle)
    head = sanderling.open_bundle(bundle).manifest.postprocessing
    assert isinstance(head, EmbeddingOutput)
    assert (head.dimension, [layer.activation for layer in head.dense]) == (16, ["tanh", "none"])


@pytest.mark.parametrize("pooling", ["mean", "weightedmean", "lasttoken"])
def test_a_prompt_is_left_out_of_the_pooling(made: Make, pooling: str) -> None:
    model, bundle = made(pooling, prompted=False)
    check(model, bundle)
    whole = sanderling.open_bundle(made(pooling)[1]).manifest.space if pooling != "mean" else None
    assert sanderling.open_bundle(bundle).manifest.space != whole


def test_a_prompt_takes_room_from_the_text(made: Make) -> None:
    with sanderling.load(made("weightedmean")[1]) as model:
        plain, prompted = model(TEXTS[2]).report, model(TEXTS[2], prompt="query").report
    assert (plain.prompt_tokens, prompted.prompt_tokens) == (0, 4)
    assert prompted.tokens == plain.tokens == 130
    assert prompted.tokens_lost == plain.tokens_lost + 3


def test_shorter_vectors_are_those_of_sentence_transformers_in_a_space_of_their_own(made: Make) -> None:
    theirs, bundle = made("mean", (), True)
    expected = theirs.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    with sanderling.load(bundle, dimensions=8) as short, sanderling.load(bundle) as whole:
        assert short.dimension == 8
        np.testing.assert_allclose(short(TEXTS).embeddings, expected, rtol=1e-3, atol=1e-5)
        one = whole(TEXTS, dimensions=8)
        np.testing.assert_array_equal(one.embeddings, short(TEXTS).embeddings)
        streamed = list(whole.stream(TEXTS, dimensions=8))
        assert [vector.space for vector in streamed] == [short.space] * len(TEXTS)
        np.testing.assert_allclose([vector.embedding for vector in streamed], one.embeddings, atol=1e-6)
        assert one.space == short.space == derived(whole.space, dimensions=8) != whole.space
        assert sanderling.similarity(one, short(TEXTS)).diagonal() == pytest.approx(1, abs=1e-5)
        with pytest.raises(sanderling.SpaceError, match="2 embedding spaces"):
            sanderling.similarity(one, whole(TEXTS))
        raw = whole(TEXTS, normalize=False)
        assert raw.space == derived(whole.space, normalize=False)
        np.testing.assert_allclose(cosines(raw.embeddings, whole(TEXTS).embeddings), 1, atol=1e-6)
        assert np.linalg.norm(raw.embeddings, axis=1).min() > 1.5
        with pytest.raises(InputError, match="dimensions is 33; a whole number from 1 to 32 was expected"):
            whole(TEXTS, dimensions=33)
    with pytest.raises(InputError, match="dimensions is 64"):
        sanderling.load(bundle, dimensions=64)


def test_bits_are_those_of_sentence_transformers(made: Make) -> None:
    theirs, bundle = made("mean", (), True)
    with sanderling.load(bundle) as model:
        bits = model(TEXTS, precision="binary")
    expected = quantize_embeddings(theirs.encode(TEXTS), precision="ubinary")
    np.testing.assert_array_equal(bits.embeddings, expected)


def test_what_vectors_lose_is_measured(made: Make) -> None:
    (component,) = sanderling.open_bundle(made("cls")[1]).manifest.components.values()
    found = component.variants["fp32"].losses
    # 20 lines and 20 hard texts; a quarter of 32 numbers is too few to be measured unasked.
    assert list(found) == ["float32", "float16", "int8", "binary"]
    assert found["float32"].recall > 0.98
    # Vectors of random weights are so alike that a last digit decides who is nearest.
    assert 0.3 < found["int8"].recall <= found["float16"].recall <= found["float32"].recall
    assert found["int8"].min_cosine is not None
    assert 0.9999 < found["int8"].min_cosine < 1
    assert found["binary"].cosine is None
    assert found["binary"].recall < found["int8"].recall
    rows = np.random.default_rng(2).standard_normal((50, 64)).astype(np.float32)
    cut = losses.measure(rows, rows, (32,))["float32-32"]
    assert 0.2 < cut.recall < 0.9
    assert losses.measure(rows[:20], rows[:20], (32,)) == {}


def test_lengths_to_measure() -> None:
    assert description.shorter(384, ()) == (192, 96)
    assert description.shorter(48, ()) == ()
    assert description.shorter(384, (256, 64)) == (256, 64)
    with pytest.raises(ExportError, match="dimensions are 384; the vectors have 384 numbers to cut"):
        description.shorter(384, (384,))


def test_a_stack_that_is_not_known_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    transformer = Transformer(str(checkpoint("bert")))
    strange = Dense(32, 32, activation_function=torch.nn.Softsign())
    for modules, words in (
        ([Pooling(32), strange], "activation Softsign; expected one of Identity, Tanh, ReLU, Sigmoid"),
        ([Pooling(32), Normalize(), Dense(32, 32)], "Transformer > Pooling > Normalize > Dense"),
    ):
        SentenceTransformer(modules=[transformer, *modules], device="cpu").save(str(tmp_path / "odd"))
        with pytest.raises(CheckpointError, match=words):
            export(tmp_path / "odd", tmp_path / "bundle")
