"""The graphs of a bundle of several: which of them a load takes."""

from __future__ import annotations

from collections.abc import Sequence

from sanderling.bundle import Bundle
from sanderling.errors import BundleError
from sanderling.manifest import Manifest
from sanderling.surroundings import TEXT_ENCODER, VISION_ENCODER, head, modality

__all__ = ["TEXT_ENCODER", "VISION_ENCODER", "apart", "choose", "forms", "head", "joins", "modality", "only", "seeing"]

# Tasks whose components answer by themselves: any of them may be loaded without the others.
_APART = frozenset({"zero-shot-image-classification"})


def choose(bundle: Bundle, asked: Sequence[str] | str | None = None) -> tuple[str, ...]:
    """The components asked for, in the manifest's order; where none is said, all of them.

    Raises BundleError for one that the bundle does not have, or where its components answer only together.
    """
    manifest = bundle.manifest
    there = tuple(manifest.components)
    if asked is None:
        return there
    names = {asked} if isinstance(asked, str) else set(asked)  # One name alone is no list of its letters.
    unknown = sorted(map(str, names - set(there)))
    if unknown or not names:
        met = f"no component {unknown[0]!r}" if unknown else "no component without a name"
        raise BundleError(f"{bundle.path} has {met}; it has {', '.join(there)}.")
    if names != set(there) and manifest.task not in _APART:
        raise BundleError(
            f"{bundle.path}: the components of a model for {manifest.task} answer only together "
            f"({', '.join(there)}). Leave `components` out."
        )
    return tuple(name for name in there if name in names)


def apart(bundle: Bundle) -> tuple[tuple[str, ...], ...]:
    """The sets of components that answer by themselves: each alone, or all of them together."""
    there = tuple(bundle.manifest.components)
    return tuple((name,) for name in there) if bundle.manifest.task in _APART else (there,)


def only(bundle: Bundle, names: Sequence[str]) -> str:
    """The one component among `names`, for tasks of a single graph. Raises BundleError where there are several."""
    if len(names) != 1:
        raise BundleError(
            f"{bundle.path} has the components {', '.join(names)}; the task {bundle.manifest.task} runs a single one. "
            "Update Sanderling: pip install -U sanderling"
        )
    return names[0]


def forms(bundle: Bundle, variant: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The forms that all components (or those named) have of a variant, in the manifest's order."""
    found = [bundle.manifest.components[name] for name in (names or bundle.manifest.components)]
    first, *others = found
    return tuple(f for f in first.variants[variant].forms if all(f in c.variants[variant].forms for c in others))


def joins(manifest: Manifest) -> bool:
    """Whether a bundle has both towers of a model that joins texts and images."""
    return {TEXT_ENCODER, VISION_ENCODER} <= set(manifest.components) and manifest.task in _APART


def seeing(manifest: Manifest) -> tuple[str, ...]:
    """The components that see images, so that how these are decoded moves their answers."""
    names = tuple(manifest.components)
    return tuple(name for name in names if modality(manifest, name) in ("image", "faces")) or names
