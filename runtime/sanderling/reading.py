"""The front of a model of one graph: how its inputs are read and preprocessed, as its bundle says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sanderling import components as parts
from sanderling.bundle import Bundle
from sanderling.errors import BundleError
from sanderling.fronts import Front, ImageFront, TextFront
from sanderling.generation.rules import ANSWERING
from sanderling.plan import EXACT, PACKED, Plan
from sanderling.schema.preprocessing import TextPreprocessing
from sanderling.schema.variants import Component
from sanderling.schema.vectors import TokenOutput

if TYPE_CHECKING:
    from sanderling.preprocess.text import TextEncoder
    from sanderling.shared import Shared


def front_of(bundle: Bundle, name: str, component: Component, plan: Plan, shared: Shared | None) -> Front:
    """What makes the graph's inputs of what a component takes: read from the bundle, or from `shared`.

    Raises BundleError for a graph with inputs that are not known here.
    """
    preprocessing, modality = bundle.manifest.preprocessing, parts.modality(bundle.manifest, name)
    if bundle.manifest.task == ANSWERING:
        return _question_front(bundle, component, plan, shared)
    if modality == "text":
        from sanderling.preprocess.blocks import EXACT_INPUTS, PACKED_INPUTS
        from sanderling.preprocess.text import TEXT_INPUTS, TextEncoder

        settings = preprocessing.text
        assert settings is not None  # or the modality were another
        known = {EXACT: EXACT_INPUTS, PACKED: PACKED_INPUTS}.get(plan.form, TEXT_INPUTS)
        check_inputs(bundle, component, known, "int64")

        def read() -> TextEncoder:
            return TextEncoder(bundle.read(settings.tokenizer), settings, str(bundle.path / settings.tokenizer))

        names = [spec.name for spec in component.inputs]
        head = parts.head(bundle.manifest, name)
        if isinstance(head, TokenOutput):
            return _token_front(bundle, settings, head, names, plan, shared)
        encoder = shared.thing("encoder", read) if shared is not None else read()
        return TextFront(encoder, names, plan.token_budget, plan.form, plan.rounding)
    if modality in ("tabular", "series"):
        return _number_front(bundle, component, plan)
    if modality == "audio":
        from sanderling.hearing.sound_front import VALUES, SoundFront

        assert preprocessing.audio is not None  # or the modality were another
        check_inputs(bundle, component, (VALUES,), "float32")
        return SoundFront(preprocessing.audio, plan.image_budget)
    assert preprocessing.image is not None  # decode() refuses a manifest without any
    check_inputs(bundle, component, (component.inputs[0].name,), "float32")
    return ImageFront(preprocessing.image, component.inputs[0].name, plan.image_budget, plan.decode)


def _question_front(bundle: Bundle, component: Component, plan: Plan, shared: Shared | None) -> Front:
    from sanderling.generation.question_front import QuestionFront
    from sanderling.preprocess.text import TextEncoder

    image, settings = bundle.manifest.preprocessing.image, bundle.manifest.preprocessing.text
    assert image is not None  # decode() refuses such a manifest without either
    assert settings is not None

    def read() -> TextEncoder:
        return TextEncoder(bundle.read(settings.tokenizer), settings, str(bundle.path / settings.tokenizer))

    encoder = shared.thing("encoder", read) if shared is not None else read()
    pictures = ImageFront(image, next(s.name for s in component.inputs if s.dtype == "float32"), 1, plan.decode)
    # Pictures keep their aspect, so that any two may be of two sizes: each is run by itself.
    return QuestionFront(pictures, encoder, 1)


def _token_front(
    bundle: Bundle,
    settings: TextPreprocessing,
    head: TokenOutput,
    names: list[str],
    plan: Plan,
    shared: Shared | None,
) -> Front:
    from sanderling.token_front import TokenFront, read_encoders

    def read() -> dict[str, TextEncoder]:
        where = str(bundle.path / settings.tokenizer)
        return read_encoders(bundle.read(settings.tokenizer), settings, head, where)

    encoders = shared.thing("encoders", read) if shared is not None else read()
    return TokenFront(encoders, settings, head, names, plan.token_budget, plan.rounding)


def _number_front(bundle: Bundle, component: Component, plan: Plan) -> Front:
    from sanderling.number_fronts import SeriesFront, TableFront

    preprocessing = bundle.manifest.preprocessing
    name = component.inputs[0].name
    check_inputs(bundle, component, (name,), "float64")
    if preprocessing.tabular is not None:
        return TableFront(preprocessing.tabular, name, plan.row_budget)
    assert preprocessing.series is not None
    return SeriesFront(preprocessing.series, name, plan.row_budget)


def check_inputs(bundle: Bundle, component: Component, names: tuple[str, ...], dtype: str) -> None:
    """Raise BundleError for a graph that takes something else than these inputs of this dtype."""
    for spec in component.inputs:
        if spec.name not in names or spec.dtype != dtype:
            raise BundleError(
                f"{bundle.path}: the graph takes {spec.name!r} of {spec.dtype}; this Sanderling can give "
                f"{', '.join(names)}, of {dtype}. Update it: pip install -U sanderling"
            )
