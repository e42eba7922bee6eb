"""Checkpoints to bundles. Needs the extra: pip install "sanderling[export]"

from sanderling_export import export
export("models/all-minilm-l6-v2.toml", "bundles/minilm")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sanderling_export.pipeline import export as export
    from sanderling_export.tabular.columns import Column as Column
    from sanderling_export.tabular.forecasting import export_forecaster as export_forecaster
    from sanderling_export.tabular.pipeline import export_tabular as export_tabular

__all__ = ["Column", "export", "export_forecaster", "export_tabular"]

_OF_NUMBERS = {"Column": "columns", "export_forecaster": "forecasting", "export_tabular": "pipeline"}


def __getattr__(name: str) -> Any:
    # The exporter pulls in the whole training stack, so that it is imported only when it is used.
    if name == "export":
        from sanderling_export.extra import load_pipeline

        return load_pipeline().export
    if name in _OF_NUMBERS:
        from sanderling_export.extra import load_tabular

        return getattr(load_tabular(_OF_NUMBERS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
