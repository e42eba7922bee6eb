"""A bundle with fewer variants: what an application ships."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from sanderling.bundle import open_bundle
from sanderling.choices import choose_variant
from sanderling.components import choose
from sanderling.errors import StorageError
from sanderling.manifest import Manifest
from sanderling.sealing import commit_bundle, replace_manifest
from sanderling.storage import staging_folder


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The trimmed bundle's folder, the variants it has, and the bytes of all files before and after."""

    path: Path
    kept: tuple[str, ...]
    before: int
    after: int


def trim(
    path: str | os.PathLike[str],
    keep: Sequence[str],
    output: str | os.PathLike[str] | None = None,
    *,
    components: Sequence[str] | str | None = None,
) -> Trimmed:
    """Keep only the variants `keep` of the bundle at `path`, in place, or in a new folder `output`.

    `components` are those to keep, where they answer by themselves (default: all). Every file that is kept is verified
    first. Interrupted at any point, the bundle is the old one or the new one.
    Raises BundleError: damaged, or without one of the variants or components; StorageError: `output` exists, or writing
    failed.
    """
    bundle = open_bundle(path, integrity="full")
    names = [keep] if isinstance(keep, str) else keep  # One name alone is no list of its letters.
    kept = tuple(dict.fromkeys(choose_variant(bundle, variant) for variant in names))
    if not kept:
        raise StorageError("No variant to keep was given; a bundle needs at least one.")
    manifest = _without_others(bundle.manifest, kept, choose(bundle, components))
    sources = dict(zip(manifest.files, bundle.require(manifest.files), strict=True))
    if output is None:
        replace_manifest(bundle, manifest)
        target = bundle.path
    else:
        target = Path(output).absolute()
        _copy(sources, manifest, target)
    return Trimmed(target, kept, _size(bundle.manifest), _size(manifest))


def _without_others(manifest: Manifest, kept: tuple[str, ...], names: tuple[str, ...]) -> Manifest:
    components = {
        name: replace(component, variants={v: component.variants[v] for v in component.variants if v in kept})
        for name, component in manifest.components.items()
        if name in names
    }
    dropped = _graph_files(manifest) - _graph_files(replace(manifest, components=components))
    return replace(
        manifest,
        components=components,
        default_variant=manifest.default_variant if manifest.default_variant in kept else kept[0],
        files={path: entry for path, entry in manifest.files.items() if path not in dropped},
    )


def _graph_files(manifest: Manifest) -> set[str]:
    return {
        path
        for component in manifest.components.values()
        for variant in component.variants.values()
        for form in variant.forms.values()
        for path in (form.graph, *form.data)
    }


def _copy(sources: dict[str, Path], manifest: Manifest, target: Path) -> None:
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise StorageError(f"{target} exists; give a new folder for the trimmed bundle.")
    with staging_folder(target) as staging:
        try:
            for name, source in sources.items():
                copy = staging / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
        except OSError as error:
            raise StorageError(f"Could not copy the bundle to {target}: {error.strerror or error}.") from error
        commit_bundle(staging, manifest, target)


def _size(manifest: Manifest) -> int:
    return sum(entry.size for entry in manifest.files.values())
