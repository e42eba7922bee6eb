"""What an export is to do: the words of a recipe and of the command line, brought together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sanderling.errors import ExportError
from sanderling_export import checkpoint as checkpoints
from sanderling_export import description, references
from sanderling_export.checkpoint import Checkpoint
from sanderling_export.description import Options
from sanderling_export.recipe import (
    BUNDLES,
    DEFAULT_FLOORS,
    MODELS,
    Data,
    Floor,
    Precision,
    Recipe,
    find_recipe,
    read_recipe,
)
from sanderling_export.search.records import Aim
from sanderling_export.settings import Settings


@dataclass(frozen=True, slots=True)
class Making:
    """How a variant is made."""

    precision: Precision
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is exported, to where. Relative references of `data` start at `base`."""

    name: str
    checkpoint: Checkpoint
    options: Options
    output: Path
    base: Path
    data: Data = field(default_factory=Data)
    own_data: Path | None = None
    floors: Mapping[str, Floor] = field(default_factory=DEFAULT_FLOORS.copy)
    makings: Mapping[str, Making] = field(default_factory=dict)
    default_variant: str | None = None
    search: Aim | None = None
    license: str = "unknown"
    license_file: Path | None = None
    notes: tuple[str, ...] = ()
    keep_failing: bool = False

    def making(self, name: str) -> Making:
        """How the variant of this name is made: as the recipe or the search says, else as its precision usually is."""
        return self.makings.get(name) or Making(name)  # type: ignore[arg-type]


def make_plan(
    source: str,
    output: str | os.PathLike[str] | None,
    asked: Options,
    data: Path | None,
    keep_failing: bool,
    *,
    recipe: Recipe | None = None,
) -> Plan:
    """Find what `source` means (a recipe, else a checkpoint) and bring it together with what was asked for.

    `recipe` is that of `source`, where it was read already.
    """
    if data is not None and not data.exists():
        raise ExportError(f"{data} is not there; --data takes a file of texts, one a line, or a folder of images.")
    path = find_recipe(source)
    if path is not None:
        return _recipe_plan(path, recipe or read_recipe(path), output, asked, data, keep_failing)
    if output is None:
        known = ", ".join(sorted(found.stem for found in Path(MODELS).glob("*.toml"))) or "none"
        raise ExportError(
            f"{source} is no recipe (in {MODELS}/ of this folder: {known}), so it has no default place: "
            "for a checkpoint, say where the bundle goes with -o FOLDER."
        )
    found = checkpoints.resolve(source)
    return Plan(
        name=_name(Path(output).absolute().name),
        checkpoint=found,
        options=asked,
        output=Path(output).absolute(),
        base=Path.cwd(),
        own_data=data,
        license=description.license_of(found),
        license_file=found.license_file,
        keep_failing=keep_failing,
    )


def _recipe_plan(
    path: Path,
    recipe: Recipe,
    output: str | os.PathLike[str] | None,
    asked: Options,
    data: Path | None,
    keep_failing: bool,
) -> Plan:
    base = path.absolute().parent
    found = checkpoints.resolve(recipe.checkpoint, base, recipe.distributions, recipe.parts)
    labels = description.read_labels(base / recipe.labels) if recipe.labels else None
    options = Options(
        task=asked.task or recipe.task,
        module=recipe.module,
        pooling=asked.pooling or recipe.pooling,
        normalize=recipe.normalize if asked.normalize is None else asked.normalize,
        prompts=dict(recipe.prompts) if recipe.prompts is not None else None,
        default_prompt=recipe.default_prompt,
        dimensions=recipe.dimensions,
        max_tokens=asked.max_tokens or recipe.max_tokens,
        labels=asked.labels or labels,
        pairs=recipe.pairs,
        thresholds=dict(recipe.thresholds),
        long_text=recipe.long_text,
        image=recipe.image,
        video=recipe.video,
        voice_activity=(
            references.locate(recipe.voice_activity, base, recipe.distributions) if recipe.voice_activity else None
        ),
        generation=recipe.generation,
        chat=recipe.chat,
        templates=recipe.templates,
        temperature=recipe.temperature,
        same_from=recipe.same_from,
        variants=asked.variants or tuple(recipe.variants),
    )
    text = references.locate(recipe.license_file, base) if recipe.license_file else found.license_file
    own_floors: dict[str, Floor] = {str(name): floor for name, floor in recipe.variants.items()}
    return Plan(
        name=recipe.name,
        checkpoint=found,
        options=options,
        output=Path(output).absolute() if output is not None else base / BUNDLES / path.stem,
        base=base,
        data=recipe.data,
        own_data=data,
        floors=DEFAULT_FLOORS | own_floors,
        makings={
            name: Making(wanted.precision or name, wanted.settings)  # type: ignore[arg-type]
            for name, wanted in recipe.variants.items()
        },
        default_variant=recipe.default_variant,
        license=recipe.license,
        license_file=text,
        notes=recipe.notes,
        keep_failing=keep_failing,
    )


def _name(wanted: str) -> str:
    """A manifest's name from a folder's: characters that it cannot have become dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip(".-")[:120] or "model"
