"""A checkpoint in its original library to an fp32 ONNX graph."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from sanderling.errors import ExportError, SanderlingError
from sanderling.schema.answers import ContrastiveOutput
from sanderling.schema.vectors import SparseOutput
from sanderling_export import graphs
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.features import ImageEmbedder
from sanderling_export.original import ImageClassifier, Original
from sanderling_export.pace import compare
from sanderling_export.simplify import simplify
from sanderling_export.speech.hearing import SoundOriginal
from sanderling_export.timm_models import TimmClassifier
from sanderling_export.torch_modules import TorchModule, final_size
from sanderling_export.towers import TextTower, VisionTower

OPSET = 18
# Tasks that the exporter knows by another name.
_EXPORTED_AS: dict[str, str] = {"text-ranking": "text-classification"}


@dataclass(frozen=True, slots=True)
class Converted:
    """The graph, and notes on how it was rewritten."""

    model: onnx.ModelProto
    notes: tuple[str, ...] = ()


def convert(checkpoint: Checkpoint, original: Original) -> Converted:
    """The fp32 graph, constants and batch normalization folded, in its fastest form. Raises ExportError."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            before = unrewritten(checkpoint, original, Path(scratch))
            return rewritten(before)
        except SanderlingError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            lines = str(error).strip().splitlines()
            raise ExportError(
                f"{checkpoint.path} cannot be converted to ONNX: {lines[0][:300] if lines else type(error).__name__}. "
                "Its architecture may have no ONNX export in optimum."
            ) from error


def unrewritten(checkpoint: Checkpoint, original: Original, folder: Path) -> onnx.ModelProto:
    """The fp32 graph as the original library's exporter writes it, cleaned; files that it makes go to `folder`."""
    if isinstance(original, TorchModule | TimmClassifier):
        path = _module(original.model, original.size, folder, _output(original))
    elif isinstance(original, ImageClassifier) and not _known_to_optimum(original):
        assert original.description.image is not None  # every image classifier has it
        path = _module(_Logits(original.model).eval(), final_size(original.description.image), folder)
    elif isinstance(original, ImageEmbedder):
        path = _features(original, folder)
    elif isinstance(original, SoundOriginal):
        path = original.to_onnx(folder, OPSET)
    elif isinstance(original, TextTower | VisionTower):
        path = _tower(original, folder)
    else:
        known = original.description
        task = "fill-mask" if isinstance(known.head, SparseOutput) else _EXPORTED_AS.get(known.task, known.task)
        path = _transformers(checkpoint, task, folder)
    return graphs.clean(path, folder / "clean.onnx", _image_size(original))


class _Logits(torch.nn.Module):  # type: ignore[misc]
    """A classifier of transformers that answers with its logits alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(pixel_values=pixel_values).logits
        return logits


def _known_to_optimum(original: ImageClassifier) -> bool:
    """Whether optimum has an export of the architecture; torch exports the others as they are."""
    from optimum.exporters.tasks import TasksManager

    importlib.import_module("optimum.exporters.onnx.model_configs")  # it registers the architectures
    kind = str(original.model.config.model_type)
    try:
        known = TasksManager.get_supported_tasks_for_model_type(kind, "onnx", library_name="transformers")
    except KeyError:
        return False
    return original.description.task in known


def rewritten(before: onnx.ModelProto) -> Converted:
    """The graph in its fastest form, and notes on how it was rewritten."""
    return _faster(before, *simplify(before))


def _faster(before: onnx.ModelProto, after: onnx.ModelProto, counts: dict[str, int]) -> Converted:
    """The rewritten graph, unless it is slower here; and what was found, for the manifest."""
    pace = compare(before, after) if counts else None
    if pace is None:
        return Converted(after)
    done = ", ".join(f"{count} {name}" for name, count in counts.items())
    speed = f"{pace.value:.2f} times the unrewritten graph's speed in fp32 where it was exported (one thread)"
    if pace.pays:
        return Converted(after, (f"rewritten ({done}): {speed}",))
    return Converted(before, (f"not rewritten: {done} would have given {speed}",))


def _transformers(checkpoint: Checkpoint, task: str, folder: Path) -> Path:
    from optimum.exporters.onnx import main_export

    main_export(
        str(checkpoint.folder),
        folder,
        task=task,
        opset=OPSET,
        library_name="transformers",
        framework="pt",
        do_validation=False,
        local_files_only=True,
        trust_remote_code=False,
    )
    return folder / "model.onnx"


def _image_size(original: Original) -> dict[str, int]:
    """The names optimum gives to the dimensions of `pixel_values`, with the sizes that the preprocessing makes."""
    image = original.description.image
    if image is None:
        return {}
    height, width = final_size(image)
    return {"num_channels": 3, "height": height, "width": width}


def _features(original: ImageEmbedder, folder: Path) -> Path:
    """As optimum writes vision models, by tracing: the passes know the graphs that come of it."""
    assert original.description.image is not None  # an ImageEmbedder has preprocessing of images
    path = folder / "features.onnx"
    output = _output(original)
    torch.onnx.export(
        original.features,
        (torch.zeros(2, 3, *final_size(original.description.image)),),
        str(path),
        input_names=["pixel_values"],
        output_names=[output],
        dynamic_axes={"pixel_values": {0: "batch"}, output: {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return path


def _output(original: Original) -> str:
    """The name that the graph's output gets."""
    head = original.description.head
    assert not isinstance(head, ContrastiveOutput)  # of both towers together, which are converted one by one
    return head.output


def _tower(original: TextTower | VisionTower, folder: Path) -> Path:
    """One tower, whatever the lengths of texts; of one that sees the padding they are all of one length."""
    path = folder / "tower.onnx"
    inputs, names = original.example()
    free = [{0: "batch", **({1: "sequence"} if original.any_length else {})} for _ in inputs]
    output = _output(original)
    torch.onnx.export(
        original.graph,
        inputs,
        str(path),
        input_names=list(names),
        output_names=[output],
        dynamic_shapes=(tuple({axis: torch.export.Dim(name) for axis, name in axes.items()} for axes in free),),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def _module(model: torch.nn.Module, size: tuple[int, int], folder: Path, output: str = "logits") -> Path:
    path = folder / "module.onnx"
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, *size),),
        str(path),
        input_names=["pixel_values"],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path
