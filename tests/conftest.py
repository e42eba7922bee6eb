"""What all tests share: a cache of their own, tiny bundles, and the data that is not part of the repository."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_bundles
import tiny_numbers
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# How long an example takes says more about the machine than about the code.
settings.register_profile("sanderling", deadline=None)
settings.load_profile("sanderling")

CopyBundle = Callable[[Path], Path]


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that live for a session never touch the user's own cache either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDERLING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SANDERLING_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


def _built(make: Callable[[Path], Path], name: str) -> Any:
    """A fixture: a bundle that is made once a session and not to be changed (see `copy_bundle`)."""

    @pytest.fixture(scope="session")
    def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return make(tmp_path_factory.mktemp("bundles") / name)

    return bundle


embedding_bundle = _built(tiny_bundles.embedding_bundle, "tiny-embedding")
text_bundle = _built(tiny_bundles.text_classification_bundle, "tiny-sentiment")
image_bundle = _built(tiny_bundles.image_classification_bundle, "tiny-shore")
sparse_bundle = _built(tiny_bundles.sparse_bundle, "tiny-sparse")
ranking_bundle = _built(tiny_bundles.ranking_bundle, "tiny-ranker")
house_bundle = _built(tiny_numbers.regression_bundle, "tiny-house")
dear_bundle = _built(tiny_numbers.classification_bundle, "tiny-dear")
tide_bundle = _built(tiny_numbers.forecast_bundle, "tiny-tide")


@pytest.fixture
def copy_bundle(tmp_path: Path) -> CopyBundle:
    """A copy of a bundle for one test to change."""

    def copy(bundle: Path) -> Path:
        return Path(shutil.copytree(bundle, tmp_path / bundle.name))

    return copy


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The data for development and tests: `SANDERLING_DATA`, or `shared/data` beside the repository."""
    folder = Path(os.environ.get("SANDERLING_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}; set SANDERLING_DATA")
    return folder
