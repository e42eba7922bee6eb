"""What is read from a checkpoint's own files, and what is asked for where they do not say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Normalize, Pooling, Transformer

from sanderling.errors import CheckpointError, ExportError
from sanderling.schema.answers import ClassificationOutput
from sanderling.schema.preprocessing import CenterCrop, Rescale, Resize, ResizeShortest
from sanderling.schema.preprocessing import Normalize as NormalizeStep
from sanderling.schema.vectors import EmbeddingOutput
from sanderling_export import description, images, original
from sanderling_export.checkpoint import resolve
from sanderling_export.description import Options


def edited(folder: Path, target: Path, name: str, **changes: Any) -> Path:
    """A copy of a checkpoint with some keys of one JSON file changed, or removed where None."""
    shutil.copytree(folder, target)
    content = json.loads((target / name).read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (target / name).write_text(json.dumps(kept), encoding="utf-8")
    return target


def described(folder: Path, **asked: Any) -> description.Description:
    return original.load(resolve(str(folder)), Options(**asked)).description


@pytest.fixture
def stacked(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Saves a sentence-transformers folder with the given modules behind the tiny BERT."""

    def make(*modules: Any, **settings: Any) -> Path:
        transformer = Transformer(str(checkpoint("bert")), max_seq_length=64)
        SentenceTransformer(modules=[transformer, *modules], device="cpu", **settings).save(str(tmp_path / "st"))
        return tmp_path / "st"

    return make


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("cls", "cls"), ("max", "max"), ("lasttoken", "last"), ("weightedmean", "weighted_mean")],
)
def test_sentence_transformers_modules(stacked: Callable[..., Path], theirs: str, ours: str) -> None:
    folder = stacked(Pooling(32, pooling_mode=theirs), Normalize(), prompts={"query": "find: "})
    found = described(folder)
    assert found.head == EmbeddingOutput("last_hidden_state", ours, True, 32)  # type: ignore[arg-type]
    assert found.text is not None
    assert found.text.max_tokens == 64
    assert found.text.prompts["query"] == "find: "
    assert found.notes == ()


def test_options_go_before_the_files(stacked: Callable[..., Path]) -> None:
    folder = stacked(Pooling(32, pooling_mode="cls"))
    found = described(folder, pooling="mean", normalize=True, max_tokens=20)
    assert found.head == EmbeddingOutput("last_hidden_state", "mean", True, 32)
    assert found.text is not None
    assert found.text.max_tokens == 20


def test_refuses_modules_and_poolings_it_does_not_know(stacked: Callable[..., Path]) -> None:
    folder = stacked(Pooling(32, pooling_mode="mean"), LayerNorm(32))
    with pytest.raises(CheckpointError, match="Transformer > Pooling > LayerNorm"):
        described(folder)


def test_refuses_two_poolings_at_once(stacked: Callable[..., Path]) -> None:
    folder = stacked(Pooling(32, pooling_mode=("cls", "mean")))
    with pytest.raises(CheckpointError, match="--pooling mean"):
        described(folder)


def test_more_tokens_than_positions_are_refused(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ExportError, match="positions for 128 tokens"):
        described(checkpoint("mpnet"), max_tokens=129)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architectures": ["SomethingElse"]}, r"--task feature-extraction \| text-classification"),
        ({"architectures": None}, "architectures: none"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "trust_remote_code"),
    ],
)
def test_asks_for_the_task_it_cannot_know(
    changes: dict[str, Any], told: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=told):
        described(edited(checkpoint("bert"), tmp_path / "c", "config.json", **changes))


def test_an_unknown_architecture_is_an_error_of_ours(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = edited(checkpoint("bert"), tmp_path / "c", "config.json", model_type="plover")
    with pytest.raises(CheckpointError, match="plover"):
        described(folder)


def test_cut_weights_are_an_error_of_ours(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoint("bert-classifier"), tmp_path / "c")
    weights = tmp_path / "c" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        described(tmp_path / "c")


def test_a_pickle_that_runs_code_does_not(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    shutil.copytree(checkpoint("bert-classifier"), tmp_path / "c")
    (tmp_path / "c" / "model.safetensors").unlink()
    torch.save({"weight": Bomb()}, tmp_path / "c" / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        described(tmp_path / "c")
    assert not (tmp_path / "exploded").exists()


def test_labels_from_the_user_have_to_fit(checkpoint: Callable[[str], Path]) -> None:
    head = described(checkpoint("vit"), labels=("a", "b", "c", "d", "e")).head
    assert isinstance(head, ClassificationOutput)
    assert head.labels == ("a", "b", "c", "d", "e")
    with pytest.raises(ExportError, match="5 outputs, but 2 labels"):
        described(checkpoint("vit"), labels=("a", "b"))


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, "softmax"),
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ({"problem_type": "regression"}, "none"),
    ],
)
def test_activation_as_transformers_pipelines(
    changes: dict[str, Any], activation: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    head = described(edited(checkpoint("bert-classifier"), tmp_path / "c", "config.json", **changes)).head
    assert isinstance(head, ClassificationOutput)
    assert head.activation == activation


def test_no_image_processor_is_asked_for(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoint("vit"), tmp_path / "c")
    (tmp_path / "c" / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        described(tmp_path / "c")


HALF = NormalizeStep((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (transformers.ViTImageProcessor(), [Resize(224, 224, "bilinear"), Rescale(1 / 255), HALF]),
        (
            transformers.CLIPImageProcessor(size={"shortest_edge": 96}, crop_size=80),
            [ResizeShortest(96, "bicubic"), CenterCrop(80, 80), Rescale(1 / 255), None],
        ),
        (
            transformers.ConvNextImageProcessor(size={"shortest_edge": 224}),
            [ResizeShortest(256, "bilinear"), CenterCrop(224, 224), Rescale(1 / 255), None],
        ),
        (
            transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
            [Resize(384, 384, "bilinear"), Rescale(1 / 255), None],
        ),
        (
            transformers.DeiTImageProcessor(),
            [Resize(256, 256, "bicubic"), CenterCrop(224, 224), Rescale(1 / 255), None],
        ),
    ],
    ids=["vit", "clip", "convnext-224", "convnext-384", "deit"],
)
def test_image_processors(processor: Any, expected: list[Any]) -> None:
    found = images.steps(processor).steps
    assert len(found) == len(expected)
    assert all(want is None or have == want for have, want in zip(found, expected, strict=True))
    assert isinstance(found[-1], NormalizeStep)


def test_a_processor_that_does_something_else_is_caught() -> None:
    class Inverting(transformers.ViTImageProcessor):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            made = super().__call__(*args, **kwargs)
            made["pixel_values"] = [-values for values in made["pixel_values"]]
            return made

    with pytest.raises(CheckpointError, match="more than its settings say"):
        images.steps(Inverting())


def test_license_from_the_model_card(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(checkpoint("bert"), tmp_path / "c")
    assert description.license_of(resolve(str(tmp_path / "c"))) == "unknown"
    (tmp_path / "c" / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\n# A model", encoding="utf-8")
    assert description.license_of(resolve(str(tmp_path / "c"))) == "mit"
