"""The seam around ONNX Runtime: graphs that contradict their manifest, providers that are not there, fakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
import tiny_bundles
from onnx import helper

import sanderling
from sanderling import providers, sessions
from sanderling.errors import GraphError, InferenceError, ModelClosedError, ProviderError
from sanderling.placement import Placement
from sanderling.schema.variants import Component, Form, TensorSpec, Tolerance, Variant
from sanderling.session import Session

CopyBundle = Callable[[Path], Path]

IDS = TensorSpec("input_ids", "int64", ("batch", "sequence"))
ROWS = TensorSpec("rows", "float32", ("batch", "sequence", 3))
LOOKUP = (
    [helper.make_node("Gather", ["table", "input_ids"], ["rows"])],
    {"table": np.arange(30, dtype=np.float32).reshape(10, 3)},
)


def component(*, inputs: tuple[TensorSpec, ...] = (IDS,), outputs: tuple[TensorSpec, ...] = (ROWS,)) -> Component:
    return Component(inputs, outputs, {"fp32": Variant({"padded": Form("model.onnx")}, Tolerance(0.9))})


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lookup in a table of 10 rows."""
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    tiny_bundles.save_graph(path, LOOKUP, (IDS,), (ROWS,))
    return path


@pytest.fixture
def session(graph: Path) -> Session:
    return Session(graph, component(), threads=1)


def test_a_run_gives_the_outputs_by_name(session: Session) -> None:
    found = session.run({"input_ids": np.array([[2, 0]])})
    assert list(found) == ["rows"]
    assert found["rows"].tolist() == [[[6, 7, 8], [0, 1, 2]]]


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"input_ids": np.array([[1]]), "more": np.array([[1]])},
        {"input_ids": np.array([1])},
        {"input_ids": np.array([[1]], np.int32)},
        {"input_ids": np.array([[1.5]])},
        {"input_ids": np.array([[10]])},
        {"input_ids": np.array([["a"]])},
        {"input_ids": None},
    ],
    ids=["none", "too many", "rank", "int32", "float", "out of the table", "text", "null"],
)
def test_what_onnx_runtime_refuses_is_an_inference_error(session: Session, feeds: dict[str, Any]) -> None:
    with pytest.raises(InferenceError, match="ONNX Runtime failed on cpu: ") as raised:
        session.run(feeds)
    assert "\n" not in str(raised.value)
    assert session.run({"input_ids": np.array([[1]])})["rows"].tolist() == [[[3, 4, 5]]]


def test_after_close_a_run_says_so(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(ModelClosedError) as raised:
        session.run({"input_ids": np.array([[1]])})
    assert str(raised.value) == "This model was closed; load it again."


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"inputs": (msgspec.structs.replace(IDS, name="ids"),)}, "has the inputs input_ids; the manifest says ids."),
        ({"inputs": (IDS, msgspec.structs.replace(IDS, name="x"))}, "the inputs input_ids; the manifest says input_id"),
        ({"outputs": (msgspec.structs.replace(ROWS, name="y"),)}, "has the outputs rows; the manifest says y."),
        ({"inputs": (msgspec.structs.replace(IDS, dtype="int32"),)}, "'input_ids' is int64 of rank 2; the manifest sa"),
        ({"inputs": (msgspec.structs.replace(IDS, shape=("n",)),)}, "is int64 of rank 2; the manifest says int64 of r"),
        ({"outputs": (msgspec.structs.replace(ROWS, dtype="float16"),)}, "'rows' is float32 of rank 3; the manifest "),
        (
            {"outputs": (msgspec.structs.replace(ROWS, shape=("n", "s", 4)),)},
            "'rows' has the extent 3 in dimension 2; the manifest says 4.",
        ),
    ],
)
def test_a_graph_that_contradicts_the_manifest_is_refused(graph: Path, changed: Any, message: str) -> None:
    with pytest.raises(GraphError) as raised:
        Session(graph, component(**changed), threads=1)
    assert str(graph) in str(raised.value)
    assert message in str(raised.value)


def test_outputs_that_the_manifest_leaves_out_are_no_contradiction(tmp_path: Path) -> None:
    nodes, weights = LOOKUP
    more = [*nodes, helper.make_node("Neg", ["rows"], ["negated"])]
    negated = msgspec.structs.replace(ROWS, name="negated")
    tiny_bundles.save_graph(tmp_path / "model.onnx", (more, weights), (IDS,), (ROWS, negated))
    found = Session(tmp_path / "model.onnx", component(), threads=1).run({"input_ids": np.array([[1]])})
    assert list(found) == ["rows"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x09", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_graph_is_a_graph_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(GraphError, match=r"ONNX Runtime .* cannot load .*model\.onnx on cpu: ") as raised:
        Session(tmp_path / "model.onnx", component(), threads=1)
    assert "\n" not in str(raised.value)


def test_a_graph_without_its_weights_is_a_graph_error(tmp_path: Path) -> None:
    nodes, _ = LOOKUP
    big = {"table": np.zeros((1000, 3), np.float32)}
    tiny_bundles.save_graph(tmp_path / "model.onnx", (nodes, big), (IDS,), (ROWS,))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(GraphError, match="cannot load"):
        Session(tmp_path / "model.onnx", component(), threads=1)


def test_an_unknown_provider_names_the_known_ones(graph: Path) -> None:
    with pytest.raises(ProviderError) as raised:
        Session(graph, component(), provider="gpu", threads=1)
    names = ", ".join(provider.name for provider in providers.known())
    assert str(raised.value) == f"There is no provider 'gpu'; known are {names}."
    assert names.startswith("cpu, openvino, ")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that carries the CPU provider alone, without plugins."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cuda", "Install the build that has it with: pip uninstall onnxruntime && pip install onnxruntime-gpu"),
        (
            "openvino",
            "Install it with: pip install onnxruntime-ep-openvino. For processors of other makers than Intel: "
            "pip uninstall onnxruntime && pip install onnxruntime-openvino",
        ),
        ("webgpu", "Install it with: pip install onnxruntime-ep-webgpu"),
        ("coreml", "It is part of onnxruntime on the platforms that have it; this is none of them."),
    ],
)
def test_a_provider_that_is_not_there_says_how_to_get_it(name: str, hint: str) -> None:
    with pytest.raises(ProviderError) as raised:
        providers.resolve(name)
    assert str(raised.value) == f"The provider {name!r} is not installed; usable here: cpu. {hint}"


@pytest.mark.usefixtures("bare")
def test_the_cpu_is_always_there() -> None:
    assert providers.available() == ("cpu",)
    assert providers.resolve("cpu").full_name == "CPUExecutionProvider"
    assert ("cpu", "cpu") in [(device.provider, device.kind) for device in providers.devices()]


def test_a_provider_that_did_not_take_the_session_is_refused(monkeypatch: pytest.MonkeyPatch, graph: Path) -> None:
    """ONNX Runtime falls back to the CPU without an error when a provider's library cannot be loaded."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    made = onnxruntime.InferenceSession

    def fallen_back(path: str, options: Any, **settings: Any) -> Any:
        return made(path, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fallen_back)
    with pytest.raises(ProviderError, match=r"did not take the provider 'cuda' for .*: it would run on cpu instead"):
        Session(graph, component(), provider="cuda", threads=1)


class Fake:
    """An engine that gives each token the vector (id, 1, 0, ...), and notes what it was fed."""

    def __init__(self, graph: Path, component: Component, *, provider: str = "cpu", threads: int, **_: object) -> None:
        self.provider = provider
        self.threads = threads
        self.placement = Placement(provider, {provider: {"Fake": 1}})
        self.fed: list[tuple[int, ...]] = []
        self.closed = False
        FAKES.append(self)

    def run(self, feeds: Any, cancellation: object = None) -> dict[str, Any]:
        ids = feeds["input_ids"]
        self.fed.append(ids.shape)
        rows = np.zeros((*ids.shape, tiny_bundles.DIMENSION), np.float32)
        rows[..., 0], rows[..., 1] = ids, 1
        return {"last_hidden_state": rows}

    def close(self) -> None:
        self.closed = True


FAKES: list[Fake] = []


def test_a_model_runs_on_any_engine(monkeypatch: pytest.MonkeyPatch, embedding_bundle: Path) -> None:
    FAKES.clear()
    monkeypatch.setattr(sessions, "Session", Fake)
    texts = ["a b c", "", "a", "word " * 40]
    with sanderling.load(embedding_bundle, threads=1) as model:
        found = model(texts).embeddings
    for row, text in zip(found, texts, strict=True):
        mean = np.array([np.mean(tiny_bundles.token_ids(text)), 1.0])
        np.testing.assert_allclose(row[:2], mean / np.linalg.norm(mean), rtol=1e-6)
    (fake,) = FAKES
    assert fake.fed == [(4, tiny_bundles.MAX_TOKENS)]
    assert fake.closed


def test_a_graph_whose_rows_are_of_another_width_is_refused(copy_bundle: CopyBundle, embedding_bundle: Path) -> None:
    bundle = copy_bundle(embedding_bundle)

    def wider(manifest: Any) -> Any:
        head = msgspec.structs.replace(manifest.postprocessing, dimension=tiny_bundles.DIMENSION + 1)
        return msgspec.structs.replace(manifest, postprocessing=head)

    tiny_bundles.reseal(bundle, wider)
    with (
        pytest.raises(GraphError, match=r"pooled to the shape \(1, 8\); the manifest says a dimension of 9"),
        sanderling.load(bundle) as model,
    ):
        model("sea")


def test_answers_that_are_not_finite_are_an_error(monkeypatch: pytest.MonkeyPatch, embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle) as model:
        run = Session.run

        def spoiled(self: Session, feeds: Any, cancellation: Any = None) -> dict[str, Any]:
            return {name: value * np.float32("nan") for name, value in run(self, feeds, cancellation).items()}

        monkeypatch.setattr(Session, "run", spoiled)
        with pytest.raises(sanderling.InferenceError, match=r"answered input 0 with values that are not finite"):
            model("sea")
