"""A recipe: a TOML file under `models/` that says all about a model which its checkpoint does not say itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from sanderling.errors import RecipeError
from sanderling.schema.answers import Target
from sanderling.schema.basics import Name, Task
from sanderling.schema.generation import Chat, GenerationSettings
from sanderling.schema.preprocessing import ImagePreprocessing, LongText, VideoPreprocessing
from sanderling_export.settings import Settings

Pooling = Literal[
    "mean",
    "cls",
    "last",
    "max",
    "mean_sqrt_len",
    "weighted_mean",
    "splade",
    "colbert",
    "pooler",
    "penultimate",
    "none",
]
Precision = Literal["fp32", "fp16", "int8-dynamic", "int8-static", "int8-weight-only", "int4-weight-only"]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Cosine = Annotated[float, Meta(ge=-1.0, le=1.0)]

# Where bare recipe names are looked up, and where bundles go by default: `models` in the current folder.
MODELS = "models"
BUNDLES = "bundles"


class Floor(Struct, frozen=True, forbid_unknown_fields=True):
    """The least a variant must reach against the original on the check data, else it is not written.

    `min_p01` bounds the 1st percentile of the cosines, which needs 100 samples to be measured. `max_metric_loss` is
    the most that the task's metric on `data.labelled` may lie below the original's, as a share of it: 0.01 is 1%. None
    is no demand: a metric near 0, as a correlation may be, can lose many times its size.
    """

    mean_cosine: Cosine = 0.95
    min_cosine: Cosine = 0.5
    min_p01: Cosine = -1.0
    agreement: Share = 0.0
    max_metric_loss: Share | None = None
    max_mel_distance: Annotated[float, Meta(ge=0.0)] | None = None


DEFAULT_FLOORS: dict[str, Floor] = {
    "fp32": Floor(mean_cosine=0.9999, min_cosine=0.999),
    "fp16": Floor(mean_cosine=0.999, min_cosine=0.99),
    "int8-dynamic": Floor(),
    "int8-static": Floor(),
    "int8-weight-only": Floor(mean_cosine=0.99, min_cosine=0.9),
    "int4-weight-only": Floor(mean_cosine=0.9),
}


class Wanted(Floor, frozen=True, forbid_unknown_fields=True):
    """A variant of a recipe: its floor, the precision (by default what the variant is named), and how it is made."""

    precision: Precision | None = None
    settings: Settings = Settings()


class Module(Struct, frozen=True, forbid_unknown_fields=True):
    """A plain torch module: `factory` is `import_name:qualified.name`, called with `arguments`.

    The factory's code runs at export, so a recipe that names one is trusted as code is.
    """

    factory: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
    arguments: tuple[str | int | float | bool, ...] = ()


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """Samples: references to images (`package:skimage/data/coffee.png`, or a path beside the recipe).

    `calibration` sets quantization ranges, `check` measures drift; no photograph is in both. From each, `crops`
    random crops are cut in turn. `texts` is a file beside the recipe with one text a line (for a model of pairs two,
    with a tab between them): every other line calibrates, the rest measures drift. `labelled` is a file of labelled
    inputs on which the task's metric is measured.
    """

    calibration: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    crops: Annotated[int, Meta(ge=8, le=10_000)] = 240
    texts: str | None = None
    labelled: str | None = None


class TableColumn(Struct, frozen=True, forbid_unknown_fields=True):
    """A column of the table: what is not said here is found out (see `sanderling_export.Column`)."""

    name: str
    dtype: Literal["float64", "float32", "int64", "bool", "string"] | None = None
    unit: str = ""
    missing: Literal["error", "pass", "fill"] | None = None
    fill: str | bool | int | float | None = None


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a fitted pipeline in a skops file: its columns, what it predicts, and `rows`, a CSV file to compare on.

    `trusted` are names of types beyond those skops knows that the file may hold: their code runs at export.
    """

    columns: tuple[TableColumn, ...] = ()
    targets: tuple[Target, ...] = ()
    rows: str | None = None
    missing_values: tuple[str, ...] = ("",)
    trusted: tuple[str, ...] = ()


class Cut(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a photograph that is kept in the bundle as a golden picture: `box` is left, top, right and bottom in
    pixels, `side` what its longer side is brought to."""

    photograph: str
    box: tuple[int, int, int, int]
    side: Annotated[int, Meta(ge=32, le=1024)] = 320


class FaceNetworks(Struct, frozen=True, forbid_unknown_fields=True):
    """Of face-api's networks: which `detector`, from which score on a sight is a face, and in which components
    quantized variants keep their floats. `golden` are the pictures that `verify` replays, with faces and without."""

    detector: Literal["ssd_mobilenetv1", "tiny_face_detector"]
    min_score: Share
    golden: Annotated[tuple[Cut, ...], Meta(min_length=1, max_length=20)]
    in_float: tuple[Literal["detector", "landmarks", "recognition", "expression", "age_gender"], ...] = ()


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """What one TOML file says. Only `checkpoint` and `name` are needed; the rest overrides the checkpoint."""

    name: Name
    checkpoint: str
    license: str = "unknown"
    license_file: str | None = None
    distributions: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    voice_activity: str | None = None
    task: Task | None = None
    module: Module | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    prompts: dict[str, str] | None = None
    default_prompt: str | None = None
    dimensions: tuple[Annotated[int, Meta(ge=1, le=1_000_000)], ...] = ()
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    labels: str | None = None
    pairs: bool | None = None
    thresholds: dict[str, float] = {}
    long_text: LongText | None = None
    image: ImagePreprocessing | None = None
    video: VideoPreprocessing | None = None
    templates: tuple[str, ...] = ()
    temperature: Annotated[float, Meta(gt=0.0)] | None = None
    same_from: Annotated[float, Meta(ge=-1.0, le=1.0)] | None = None
    default_variant: Name | None = None
    variants: dict[Name, Wanted] = {}
    data: Data = Data()
    generation: GenerationSettings | None = None
    chat: Chat | str | None = None
    tabular: Table | None = None
    faces: FaceNetworks | None = None
    notes: tuple[str, ...] = ()


def find_recipe(source: str) -> Path | None:
    """The recipe that `source` means: a path to a TOML file, or a bare name in `models/`; None if neither."""
    path = Path(source)
    if path.suffix == ".toml":
        if not path.is_file():
            raise RecipeError(f"{path} is not there; give the path of a recipe, or the name of one in {MODELS}/.")
        return path
    if path.name == source and not path.exists():
        named = Path(MODELS) / f"{source}.toml"
        return named if named.is_file() else None
    return None


def read_recipe(path: Path) -> Recipe:
    """Decode and check a recipe. Raises RecipeError: not TOML, an unknown field, a wrong type, a contradiction."""
    try:
        recipe = msgspec.toml.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise RecipeError(f"{path} is no valid recipe: {error}. docs/export.md lists the fields.") from error
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    both = sorted(set(recipe.data.calibration) & set(recipe.data.check))
    if both:
        raise RecipeError(
            f"{path}: {both[0]!r} is in both data.calibration and data.check; drift is measured on images that "
            "calibration never saw. Take it out of one."
        )
    if recipe.module is not None and (recipe.task is None or recipe.image is None):
        raise RecipeError(
            f"{path}: a torch module says nothing of itself; the recipe needs task and image.steps beside [module]."
        )
    if (recipe.task == "face-recognition") != (recipe.faces is not None):
        raise RecipeError(f'{path}: the table [faces] and task = "face-recognition" go together.')
    if recipe.faces is not None and not (recipe.data.calibration and recipe.data.check):
        raise RecipeError(f"{path}: a model of faces needs photographs in data.calibration and in data.check.")
    for name, wanted in recipe.variants.items():
        if wanted.precision is None and name not in get_args(Precision):
            raise RecipeError(
                f"{path}: the variant {name!r} is named after no precision; say which it has, "
                f"as precision: {', '.join(get_args(Precision))}."
            )
    for template in recipe.templates:
        if template.count("{}") != 1:
            raise RecipeError(f"{path}: the template {template!r} needs one {{}}, for the label.")
    prompts = recipe.prompts
    if recipe.default_prompt is not None and prompts is not None and recipe.default_prompt not in prompts:
        known = ", ".join(prompts) or "none"
        raise RecipeError(f"{path}: default_prompt is {recipe.default_prompt!r}, but prompts has {known}.")
    if recipe.default_variant and recipe.variants and recipe.default_variant not in recipe.variants:
        raise RecipeError(
            f"{path}: default_variant is {recipe.default_variant!r}, but variants has {', '.join(recipe.variants)}."
        )
