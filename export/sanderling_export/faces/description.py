"""What a bundle of faces says of itself: its manifest, its preprocessing, its embedding space."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sanderling import sealing
from sanderling.manifest import FORMAT, MAJOR_VERSION, MINOR_VERSION, GoldenFiles, Manifest, Preprocessing, Provenance
from sanderling.schema.answers import FaceOutput, FaceThreshold
from sanderling.schema.preprocessing import FacesPreprocessing, SquareInput
from sanderling.schema.variants import Component
from sanderling_export import assembly, references
from sanderling_export.faces import conversion, library
from sanderling_export.faces.attributes import EXPRESSIONS, GENDERS, SIZE
from sanderling_export.faces.library import FaceLibrary
from sanderling_export.faces.photographs import Photograph
from sanderling_export.faces.recognition import Recognition
from sanderling_export.recipe import FaceNetworks, Recipe

RECOGNITION = "recognition"
_TINY_MEAN = (117.001, 114.697, 97.404)


@dataclass(frozen=True, slots=True)
class Work:
    """What is exported: the recipe, its table of faces, the original, and the photographs it was shown."""

    recipe: Recipe
    wanted: FaceNetworks
    base: Path
    original: FaceLibrary
    calibration: list[Photograph]
    check: list[Photograph]
    keep_failing: bool


def manifest_of(
    work: Work,
    components: Mapping[str, Component],
    threshold: FaceThreshold,
    files: GoldenFiles,
    build: Path,
    staging: Path,
    notes: Sequence[str],
) -> Manifest:
    """The manifest of what was made so far in `staging`; drift and speed are measured by it."""
    recipe, prefix = work.recipe, build.relative_to(staging).as_posix()
    license_file = None
    if recipe.license_file is not None:
        found = references.locate(recipe.license_file, work.base, recipe.distributions)
        shutil.copyfile(found, build / assembly.LICENSE_NAME)
        license_file = f"{prefix}/{assembly.LICENSE_NAME}"
    digest = hashlib.sha256("".join(f"{work.original.digests[name]} {name}\n" for name in components).encode())
    made = next(iter(components.values())).variants
    default = recipe.default_variant if recipe.default_variant in made else list(made)[-1]
    assert default is not None
    return Manifest(
        format=FORMAT,
        version=f"{MAJOR_VERSION}.{MINOR_VERSION}",
        name=recipe.name,
        family="general",
        task="face-recognition",
        default_variant=default,
        components=dict(components),
        preprocessing=Preprocessing(faces=_preprocessing(work.original)),
        postprocessing=FaceOutput(
            output=conversion.OUTPUTS[RECOGNITION][0],
            dimension=128,
            min_score=work.wanted.min_score,
            max_overlap=library.OVERLAP[work.wanted.detector],
            max_faces=library.MAX_FACES,
            threshold=threshold,
            expressions=EXPRESSIONS,
            genders=GENDERS,
        ),
        golden=files,
        provenance=Provenance(
            recipe.checkpoint,
            digest.hexdigest(),
            recipe.license,
            license_file,
            assembly.versions(),
            (*recipe.notes, *notes),
        ),
        files=sealing.list_files(staging),
        space=space(work.original),
    )


def _preprocessing(original: FaceLibrary) -> FacesPreprocessing:
    face = SquareInput(SIZE, "center", library.MEAN, 255.0)
    middle = (127.5, 127.5, 127.5)
    detector = SquareInput(original.size, "corner", middle, 127.5)
    if original.detector_name == "tiny_face_detector":
        detector = SquareInput(original.size, "corner", _TINY_MEAN, 255.0)
    return FacesPreprocessing(
        detector=detector,
        landmarks=face,
        recognition=SquareInput(Recognition.size, "center", library.MEAN, 255.0),
        attributes=face,
        scale=library.SCALE,
        center=library.CENTER,
        margin=library.MARGIN,
    )


def space(original: FaceLibrary) -> str:
    """The fingerprint of the embedding space: SHA-256 of canonical JSON (sorted keys, no blanks) of the digest of the
    recognition's weights, its dimension, and how faces are aligned for it.

    Whichever detector found a face, and whatever the precision, its vector is of this space.
    """
    content = {
        "weights": original.digests[RECOGNITION],
        "dimension": 128,
        "size": Recognition.size,
        "scale": library.SCALE,
        "center": library.CENTER,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
