"""Fitted pipelines in files: skops files and recipes of them; pickles are refused, for loading one runs its code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanderling.errors import CheckpointError, ExportError
from sanderling.reasons import first_line
from sanderling_export.extra import load_tabular
from sanderling_export.recipe import BUNDLES, Recipe, find_recipe, read_recipe

SUFFIX = ".skops"
PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A skops file, and the recipe that names it with the folder its paths start from, if one does."""

    path: Path
    recipe: Recipe | None = None
    recipe_path: Path | None = None


def find(source: str) -> Fitted | None:
    """The fitted pipeline that `source` means, None where it is another kind of checkpoint.

    Raises ExportError for a pickle, with what to do; CheckpointError where the file is not there; RecipeError.
    """
    _refuse_pickle(source)
    path = Path(source)
    if path.suffix.lower() == SUFFIX:
        return Fitted(_existing(path))
    found = find_recipe(source)
    if found is None:
        return None
    recipe = read_recipe(found)
    _refuse_pickle(recipe.checkpoint)
    if Path(recipe.checkpoint).suffix.lower() != SUFFIX:
        if recipe.tabular is not None:
            raise ExportError(f"{found} describes a table; its checkpoint {recipe.checkpoint!r} is no {SUFFIX} file.")
        return None
    return Fitted(_existing(found.parent / recipe.checkpoint), recipe, found)


def export_fitted(
    fitted: Fitted,
    output: str | os.PathLike[str] | None,
    rows: str | os.PathLike[str] | None,
    trusted: Sequence[str],
    progress: Callable[[str], None] | None,
) -> Path:
    """Export a fitted pipeline, compared on the rows of the CSV file `rows` (default: those of the recipe).

    `trusted` are names of types beyond those skops knows that the file may hold. Raises ExportError.
    """
    pipeline = load_tabular("pipeline")
    columns = load_tabular("columns")
    recipe, base = fitted.recipe, (fitted.recipe_path or fitted.path).absolute().parent
    table = recipe.tabular if recipe is not None else None
    if output is None:
        if fitted.recipe_path is None:
            raise ExportError(f"Say where the bundle of {fitted.path} goes with -o FOLDER.")
        output = base / BUNDLES / fitted.recipe_path.stem
    if rows is None and table is not None and table.rows is not None:
        rows = base / table.rows
    if rows is None:
        raise ExportError(
            "A pipeline is compared with scikit-learn on rows of its columns. Give a CSV file of them, best a thousand "
            "that it was not fitted on: --data ROWS.csv"
        )
    model = load_skops(fitted.path, (*trusted, *(table.trusted if table is not None else ())))
    described = [
        columns.Column(column.name, column.dtype, column.unit, column.missing, column.fill)
        for column in (table.columns if table is not None else ())
    ]
    written: Path = pipeline.export_tabular(
        model,
        output,
        Path(rows),
        columns=described or None,
        targets=(table.targets or None) if table is not None else None,
        missing_values=table.missing_values if table is not None else ("",),
        license=recipe.license if recipe is not None else "unknown",
        license_file=base / recipe.license_file if recipe is not None and recipe.license_file else None,
        origin=fitted.path.name,
        digest=hashlib.sha256(fitted.path.read_bytes()).hexdigest(),
        notes=recipe.notes if recipe is not None else (),
        progress=progress,
    )
    return written


def load_skops(path: Path, trusted: Sequence[str]) -> Any:
    """The object in a skops file. Raises ExportError naming the types in it that are not trusted; CheckpointError."""
    import skops.io

    try:
        unknown = [name for name in skops.io.get_untrusted_types(file=path) if name not in trusted]
        if unknown:
            options = " ".join(f"--trust {name}" for name in unknown[:8])
            raise ExportError(
                f"{path} holds types that are not trusted: {', '.join(unknown)[:500]}. Loading them runs their code. "
                f"Where you know where the file comes from, name them: {options}"
            )
        return skops.io.load(path, trusted=list(trusted))
    except ExportError:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {first_line(error, 200)}"
        raise CheckpointError(
            f"{path} cannot be read as a skops file ({words}). Write it with skops.io.dump."
        ) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; a file written by skops.io.dump was expected.")
    return path


def _refuse_pickle(source: str) -> None:
    suffix = Path(source).suffix.lower()
    if suffix in PICKLES:
        raise ExportError(
            f"{source} is a pickle ({suffix}): loading it runs whatever code it holds, so Sanderling never does. Load "
            "it yourself where you trust it, and write it again with skops.io.dump(pipeline, 'model.skops'), or hand "
            "the object to sanderling_export.export_tabular."
        )
