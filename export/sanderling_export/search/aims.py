"""What a search is asked for, and what it is for where nothing was said."""

from __future__ import annotations

from msgspec.structs import replace

from sanderling.errors import ExportError
from sanderling.manifest import Postprocessing
from sanderling.schema.answers import ClassificationOutput
from sanderling_export.search.records import Target

_DEFAULT = 0.99


def target_of(
    min_cosine: float | None,
    min_p01: float | None,
    min_agreement: float | None,
    max_metric_loss: float | None,
    *,
    searched: bool,
) -> Target | None:
    """The floor that was asked for, None where nothing is searched. Raises ExportError."""
    given = {
        "min_cosine": min_cosine,
        "min_p01": min_p01,
        "min_agreement": min_agreement,
        "max_metric_loss": max_metric_loss,
    }
    for name, value in given.items():
        if value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if not searched:
            raise ExportError(
                f"{option} is the floor of a search; add --variants auto. Without a search, floors are in the recipe."
            )
        low = 0.0 if name in ("min_agreement", "max_metric_loss") else -1.0
        if isinstance(value, bool) or not low <= value <= 1.0:
            raise ExportError(f"{option} is {value!r}; a number from {low:g} to 1 was expected.")
    return Target(**given) if searched else None


def completed(target: Target, head: Postprocessing, *, labelled: bool) -> Target:
    """The floor, or where none was given: 0.99 of minimum cosine for embeddings, of agreement for classifiers.

    Raises ExportError for a floor of agreement where there are no labels to agree on, for a floor of the task's metric
    where nothing is `labelled`, and for a model of one number.
    """
    if target.max_metric_loss is not None and not labelled:
        raise ExportError(
            "--max-metric-loss bounds the task's metric, which needs a labelled set: --labelled FILE, or data.labelled "
            "in the recipe (tab-separated: label and text or image; for embeddings score, text1 and text2)."
        )
    chooses = isinstance(head, ClassificationOutput) and len(head.labels) > 1
    if isinstance(head, ClassificationOutput) and not chooses:
        raise ExportError(
            "--variants auto compares answers by their cosine, which says nothing of a model that answers with "
            "a single number. Name the variants, as --variants fp32,int8-dynamic; sanderling eval measures them."
        )
    if target.min_agreement is not None and not chooses:
        raise ExportError(
            "--min-agreement compares first labels, and this model has none to choose from. Use --min-cosine."
        )
    if target != Target():
        return target
    if chooses:
        return replace(target, min_agreement=_DEFAULT)
    return replace(target, min_cosine=_DEFAULT)
