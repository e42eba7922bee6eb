"""Messages that several parts of the exporter give alike."""

from __future__ import annotations

from sanderling.errors import ExportError


def unsupported(what: str) -> ExportError:
    """An error for what Sanderling cannot export yet."""
    return ExportError(
        f"This checkpoint cannot be exported: {what}, which Sanderling does not handle. "
        "Supported are text encoders (feature-extraction, text-classification, text-ranking) and models of images."
    )
