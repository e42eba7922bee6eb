"""From a bundle on disk to a model, used by many threads, and closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_bundles

import sanderling
from sanderling.errors import BundleError, InputError, IntegrityError, ModelClosedError, ProviderError

CopyBundle = Callable[[Path], Path]


def test_the_default_variant_is_the_manifests(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    with sanderling.load(bundle) as model:
        assert model.variant == "fp32"
    tiny_bundles.reseal(bundle, lambda manifest: msgspec.structs.replace(manifest, default_variant="int8-dynamic"))
    with sanderling.load(bundle) as model:
        assert model.variant == "int8-dynamic"


def test_variants_answer_differently_and_nearly_alike(embedding_bundle: Path) -> None:
    with (
        sanderling.load(embedding_bundle, variant="fp32") as exact,
        sanderling.load(embedding_bundle, variant="int8-dynamic") as coarse,
    ):
        one, other = exact("the small bird").embedding, coarse("the small bird").embedding
    assert 0.999 < float(one @ other) < 1 - 1e-7


def test_a_variant_that_is_not_there_names_those_that_are(embedding_bundle: Path) -> None:
    with pytest.raises(BundleError) as raised:
        sanderling.load(embedding_bundle, variant="int4")
    assert str(raised.value) == f"{embedding_bundle} has no variant 'int4'; it has fp32, int8-dynamic."


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.0, "2", True])
def test_threads_that_are_no_count_are_named(embedding_bundle: Path, threads: Any) -> None:
    for call in (sanderling.load, sanderling.verify):
        with pytest.raises(InputError) as raised:
            call(embedding_bundle, threads=threads)
        assert str(raised.value) == f"threads is {threads!r}; a whole number from 1 to 1024 was expected."


def test_any_whole_number_is_a_count_of_threads(embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle, threads=np.int64(1)) as model:
        assert type(model.threads) is int
        assert repr(model) == "<EmbeddingModel tiny-embedding fp32 on cpu, 1 thread>"


def test_threads_are_those_asked_for_or_granted(monkeypatch: pytest.MonkeyPatch, embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle, threads=3) as model:
        assert model.threads == 3
    monkeypatch.setattr("sanderling.cores.granted", lambda: 2)
    with sanderling.load(embedding_bundle) as model:
        assert model.threads == 2


@pytest.mark.parametrize("provider", ["gpu", "", "CPU"])
def test_a_provider_that_is_unknown_is_not_replaced_by_another(embedding_bundle: Path, provider: str) -> None:
    for call in (sanderling.load, sanderling.verify):
        with pytest.raises(ProviderError, match=f"There is no provider {provider!r}; known are cpu, "):
            call(embedding_bundle, provider=provider)


def test_what_is_no_bundle_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, message in (
        (tmp_path / "nowhere", "does not exist; a bundle is a folder with a bundle.json in it."),
        (tmp_path / "file", "is a file; a bundle is a folder with a bundle.json in it."),
        (tmp_path, "has no bundle.json, so it is no bundle. Make one with: sanderling export"),
    ):
        with pytest.raises(BundleError) as raised:
            sanderling.load(path)
        assert message in str(raised.value)


@pytest.mark.parametrize("name", ["fp32/model.onnx", "fp32/weights.bin", "tokenizer.json"])
def test_a_file_that_a_load_reads_is_checked(copy_bundle: CopyBundle, embedding_bundle: Path, name: str) -> None:
    bundle = copy_bundle(embedding_bundle)
    path = tiny_bundles.find(bundle, name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"is not the file that was sealed: its SHA-256 is not the manifest's"):
        sanderling.load(bundle)


def test_a_file_that_a_load_does_not_read_is_not_looked_at(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)
    tiny_bundles.find(bundle, "int8-dynamic/weights.bin").unlink()
    tiny_bundles.find(bundle, "samples.json").unlink()
    with sanderling.load(bundle) as model:
        assert model("sea").embedding.shape == (8,)
    with pytest.raises(IntegrityError, match="it is missing"):
        sanderling.load(bundle, variant="int8-dynamic")


def test_full_integrity_hashes_what_a_stamp_would_vouch_for(
    embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sanderling.load(embedding_bundle).close()
    monkeypatch.setattr("sanderling.bundle.file_sha256", lambda path: "0" * 64)
    sanderling.load(embedding_bundle).close()
    with pytest.raises(IntegrityError, match="its SHA-256 is not the manifest's"):
        sanderling.load(embedding_bundle, integrity="full")


def test_an_integrity_that_is_unknown_is_refused(embedding_bundle: Path) -> None:
    with pytest.raises(BundleError, match='integrity is \'none\'; it takes "stamp" or "full"'):
        sanderling.load(embedding_bundle, integrity="none")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "dtype"), [("position_ids", "int64"), ("token_type_ids", "int32")])
def test_inputs_that_no_front_can_fill_are_refused_at_load(
    copy_bundle: CopyBundle, embedding_bundle: Path, name: str, dtype: Any
) -> None:
    bundle = copy_bundle(embedding_bundle)
    component = tiny_bundles.read_manifest(bundle).components["model"]
    more = (*component.inputs, tiny_bundles.TensorSpec(name, dtype, ("batch", "sequence")))
    nodes = [tiny_bundles.helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    graph = tiny_bundles.find(bundle, "fp32/model.onnx")
    tiny_bundles.save_graph(graph, (nodes, {"table": tiny_bundles.TABLE}), more, component.outputs)
    changed = msgspec.structs.replace(component, inputs=more)
    tiny_bundles.reseal(bundle, lambda m: msgspec.structs.replace(m, components={"model": changed}))
    with pytest.raises(BundleError) as raised:
        sanderling.load(bundle)
    assert str(raised.value) == (
        f"{bundle}: the graph takes {name!r} of {dtype}; this Sanderling can give input_ids, attention_mask, "
        "token_type_ids, of int64. Update it: pip install -U sanderling"
    )


def test_a_load_that_fails_leaves_no_thread_behind(
    copy_bundle: CopyBundle, embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy_bundle(embedding_bundle)
    tiny_bundles.find(bundle, "tokenizer.json").write_bytes(b"{}")
    tiny_bundles.reseal(bundle)
    ended: list[bool] = []

    def slow(*_: Any, **__: Any) -> None:
        time.sleep(0.2)
        ended.append(True)

    monkeypatch.setattr("sanderling.sessions.Session", slow)
    with pytest.raises(BundleError, match="is no tokenizer"):
        sanderling.load(bundle)
    assert ended == [True]


def test_a_closed_model_says_so(embedding_bundle: Path, image_bundle: Path) -> None:
    for bundle, given in ((embedding_bundle, "sea"), (image_bundle, tiny_bundles.PICTURE)):
        model: Any = sanderling.load(bundle)
        model.close()
        model.close()
        for inputs in (given, [given], [given] * 50, []):
            with pytest.raises(ModelClosedError, match="This model was closed; load it again"):
                model(inputs)


def test_a_context_closes_its_model_also_after_an_error(embedding_bundle: Path) -> None:
    with pytest.raises(ZeroDivisionError), sanderling.load(embedding_bundle) as model:
        raise ZeroDivisionError
    with pytest.raises(ModelClosedError):
        model("sea")


def test_many_threads_get_what_one_gets(text_bundle: Path) -> None:
    random = np.random.default_rng(1)
    words = tiny_bundles.VOCABULARY[4:30]
    calls = [[" ".join(random.choice(words, random.integers(0, 30))) for _ in range(count)] for count in (1, 2, 7) * 20]
    with sanderling.load(text_bundle) as model:
        expected = [model(texts).logits for texts in calls]
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda texts: model(texts).logits, calls))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_closing_while_others_call_ends_in_answers_or_the_closed_error(embedding_bundle: Path) -> None:
    expected = tiny_bundles.reference_embedding("the sea")
    for _ in range(5):
        model: Any = sanderling.load(embedding_bundle, threads=2)
        started = threading.Barrier(5)

        def call(model: Any = model, started: threading.Barrier = started) -> int:
            started.wait()
            answered = 0
            try:
                while True:
                    np.testing.assert_allclose(model("the sea").embedding, expected, atol=1e-6)
                    answered += 1
            except ModelClosedError:
                return answered

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call) for _ in range(4)]
            started.wait()
            model.close()
            assert all(future.result(timeout=60) >= 0 for future in calls)
