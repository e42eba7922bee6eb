"""Checkpoints to bundles. Needs the extra: pip install "sanderling[export]"

from sanderling_export import export
export("models/all-minilm-l6-v2.toml", "bundles/minilm")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sanderling_export.pipeline import export as export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    # The exporter pulls in the whole training stack, so that it is imported only when it is used.
    if name == "export":
        from sanderling_export.extra import load_pipeline

        return load_pipeline().export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
