"""From a bundle on disk to a model that answers."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

# Before ONNX Runtime: imported from inside its module, numpy takes half as long again (measured, 70 of 250 ms).
import numpy as np  # noqa: F401
from msgspec.structs import replace

from sanderling import components as parts
from sanderling import cores, memory, verdicts
from sanderling.bundle import Bundle, Integrity, open_bundle
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.errors import BundleError, InputError, PartialPlacementWarning, ProviderError, StalePlanWarning
from sanderling.fronts import Front, ImageFront, TextFront
from sanderling.generation_rules import ANSWERING
from sanderling.manifest import (
    ClassificationOutput,
    Component,
    ContrastiveOutput,
    CtcOutput,
    Decode,
    EmbeddingOutput,
    FaceOutput,
    ForecastOutput,
    Form,
    GenerationOutput,
    RegressionOutput,
    SparseOutput,
    SpeechOutput,
    TextPreprocessing,
    TokenOutput,
    Window,
)
from sanderling.plan import EXACT, MAX_THREADS, PACKED, Plan, default_form, default_plan, tuned_plan
from sanderling.providers import CPU, RUNTIME_VERSION, available
from sanderling.session import Engine, Session

if TYPE_CHECKING:
    from sanderling.heads import Layer
    from sanderling.preprocess.text import TextEncoder
    from sanderling.shared import Shared
    from sanderling.tasks.classification import Classifier
    from sanderling.tasks.ctc_recognition import CtcRecognizer
    from sanderling.tasks.dual_encoder import DualEncoder
    from sanderling.tasks.face_recognition import FaceRecognizer
    from sanderling.tasks.feature_extraction import EmbeddingModel
    from sanderling.tasks.forecasting import Forecaster
    from sanderling.tasks.image_to_text import ImageToText
    from sanderling.tasks.late_interaction import LateInteractionModel
    from sanderling.tasks.ranking import Ranker
    from sanderling.tasks.sparse import SparseModel
    from sanderling.tasks.speech_recognition import SpeechRecognizer
    from sanderling.tasks.tabular import Regressor, TableClassifier
    from sanderling.tasks.text_generation import TextGenerator
    from sanderling.tasks.text_to_speech import Voice
    from sanderling.tasks.visual_questions import QuestionAnswerer
    from sanderling.tasks.wave_recognition import WaveRecognizer

    AnyModel: TypeAlias = (
        EmbeddingModel
        | LateInteractionModel
        | SparseModel
        | Classifier
        | Ranker
        | Regressor
        | TableClassifier
        | Forecaster
        | FaceRecognizer
        | DualEncoder
        | TextGenerator
        | ImageToText
        | QuestionAnswerer
        | Voice
        | SpeechRecognizer
        | CtcRecognizer
        | WaveRecognizer
    )


# The provider of the tuned plan, or the default where there is none.
AUTO = "auto"


def load(
    path: str | os.PathLike[str],
    *,
    variant: str | None = None,
    provider: str | None = None,
    threads: int | None = None,
    integrity: Integrity = "stamp",
    strict: bool = False,
    batch_invariant: bool = False,
    max_memory: int | str | None = None,
    decode: Decode | None = None,
    window: Window | None = None,
    dimensions: int | None = None,
    components: Sequence[str] | str | None = None,
) -> AnyModel:
    """Load the bundle in the folder `path`.

    `variant` is one of the bundle's (default: the one its manifest names), `provider` an execution provider
    (default "cpu"), `threads` the cores a run may use (default: all that this process was granted). Where none of them
    is given, or "auto" as the provider, the plan is used that `sanderling tune` found on this device.
    With `batch_invariant` every input is answered alone, so that no answer depends on its batch mates or on padding.
    With integrity "full" every file that is read is hashed, also if it was verified before. Where the provider takes
    only a part of the graph, a PartialPlacementWarning says so; with `strict` it is a ProviderError.
    A variant that `verify` failed on this machine is not used: the next one is, with a VerdictWarning.
    `max_memory`, as "300MB" or bytes, bounds what the model adds to the process's resident memory while it answers its
    largest inputs: batches and workers are made as few as it takes, by measuring here, which takes another load or two.
    With `decode` "fast" large JPEG files are decoded at reduced scale, which the report of each tells (`reduced`), and
    only what a crop keeps of a JPEG is resized; with "exact" all is done in full. Default: fast, where the drift
    measured with it at export holds the variant's floor.
    With `window` "short" a model that hears is given a short sound with a second of silence or a little more, and not
    as much as fills the window that it was trained on ("full", the default): many times faster, with other answers,
    whose drift was measured at export.
    `dimensions` cuts an embedding model's vectors to their first so many numbers (Matryoshka); their space is another.
    `components` names those of the bundle's graphs to load, where they answer by themselves: of a model of texts and
    images "text_encoder" gives an EmbeddingModel of texts, and nothing of the other tower is read.

    Raises BundleError: not a bundle, damaged, without that variant or component, or with `decode` "fast" or `window`
    "short" one of which the drift then was not measured; VerdictError, a BundleError: the variant asked for failed
    `verify` here; ProviderError: no such provider here; MemoryLimitError: it does not fit `max_memory`; InputError:
    dimensions that the model does not have.
    """
    cap = None if max_memory is None else memory.parse_size(max_memory)
    bundle = open_bundle(path, integrity=integrity)
    names = parts.choose(bundle, components)
    head = parts.head(bundle.manifest, names[0])
    if cap is not None and bundle.manifest.task == ANSWERING and not isinstance(head, GenerationOutput):
        raise InputError(
            f"max_memory is measured on texts or on images; {bundle.path} takes both at once, one picture a run. Leave "
            "it out."
        )
    if cap is not None and isinstance(head, SpeechOutput):
        raise InputError(
            f"max_memory is measured on models of one answer an input; what {bundle.path} takes grows with what it "
            "says. Leave it out, and stream long texts."
        )
    if cap is not None and isinstance(head, GenerationOutput):
        raise InputError(
            f"max_memory is measured on models of one answer an input; what {bundle.path} takes grows with what it "
            "writes. Leave it out, and bound max_new_tokens and the prompts of a call."
        )
    if cap is not None and parts.modality(bundle.manifest, names[0]) == "audio":
        raise InputError(
            f"max_memory is measured on texts or on images; what {bundle.path} takes grows with the length of a sound. "
            "Leave it out."
        )
    if dimensions is not None:
        if not isinstance(head, EmbeddingOutput) or len(names) > 1:
            raise InputError(f"dimensions goes with embedding models; {bundle.path} is for {bundle.manifest.task}.")
        whole_number("dimensions", dimensions, head.dimension)
    plan = choose_plan(bundle, variant, provider, threads, batch_invariant, names)
    permitted = verdicts.permitted(
        bundle, plan, variant_asked=variant is not None, provider_asked=provider not in (None, AUTO)
    )
    if permitted != plan:  # another variant, or another provider, has forms of its own
        plan = replace(permitted, form=default_form(parts.forms(bundle, permitted.variant, names), permitted.provider))
    plan = replace(plan, decode=choose_decode(bundle, plan.variant, decode))
    plan = replace(plan, window=choose_window(bundle, plan, window))
    untold = variant is None and threads is None and provider in (None, AUTO) and cap is None
    towers = _tuned_towers(bundle, names, batch_invariant, decode) if untold else {}
    build = partial(assemble, components=names, towers=towers)
    model = build(bundle, plan) if cap is None else memory.fitted(bundle, plan, cap, build, names)
    # On the CPU alone every node is where it was asked for.
    if plan.provider != CPU and not model.placement.complete:
        if strict:
            model.close()
            raise ProviderError(f"{bundle.path}: {model.placement}; strict=True refuses that. Use another provider.")
        warnings.warn(f"{bundle.path}: {model.placement}.", PartialPlacementWarning, stacklevel=2)
    if dimensions is not None:
        from sanderling.tasks.feature_extraction import EmbeddingModel

        assert isinstance(model, EmbeddingModel)  # its head has said so
        return model.reshaped(dimensions)
    return model


def choose_plan(
    bundle: Bundle,
    variant: str | None,
    provider: str | None,
    threads: int | None,
    batch_invariant: bool,
    names: Sequence[str] | None = None,
) -> Plan:
    """What was asked for; where nothing was, the plan tuned on this device; else a plan that is good without tuning.

    It is for all components, or for those named.
    """
    if variant is None and threads is None and provider in (None, AUTO):
        # Of components that answer by themselves each has a plan of its own.
        own = names[0] if names is not None and len(names) == 1 < len(bundle.manifest.components) else ""
        tuned = tuned_plan(bundle.digest, RUNTIME_VERSION, own)
        usable = (
            tuned is not None
            and tuned.variant in bundle.manifest.variants
            and tuned.form in parts.forms(bundle, tuned.variant, names)
        )
        if tuned is not None and usable and (tuned.batch_invariant or not batch_invariant):
            if tuned.provider == CPU or tuned.provider in available():
                return tuned
            warnings.warn(
                f"The plan tuned for {bundle.path} is for the provider {tuned.provider!r}, which is no longer usable "
                f"here; the default plan is used. Tune again with: sanderling tune {bundle.path}",
                StalePlanWarning,
                stacklevel=3,
            )
    chosen = choose_provider(None if provider == AUTO else provider)
    name = choose_variant(bundle, variant)
    form = default_form(parts.forms(bundle, name, names), chosen)
    return default_plan(name, chosen, choose_threads(threads), form=form, batch_invariant=batch_invariant)


def _tuned_towers(
    bundle: Bundle, names: Sequence[str], batch_invariant: bool, decode: Decode | None
) -> dict[str, Plan]:
    """Of two towers that are loaded together, the plans that were tuned for them."""
    found: dict[str, Plan] = {}
    for name in names if len(names) > 1 and parts.joins(bundle.manifest) else ():
        if tuned_plan(bundle.digest, RUNTIME_VERSION, name) is None:
            continue
        plan = choose_plan(bundle, None, None, None, batch_invariant, (name,))
        permitted = verdicts.permitted(bundle, plan, variant_asked=False, provider_asked=False)
        if permitted != plan:
            form = default_form(parts.forms(bundle, permitted.variant, (name,)), permitted.provider)
            permitted = replace(permitted, form=form)
        found[name] = replace(permitted, decode=choose_decode(bundle, permitted.variant, decode))
    return found


def choose_variant(bundle: Bundle, variant: str | None) -> str:
    """The variant asked for, or the manifest's default. Raises BundleError if the bundle has no such variant."""
    manifest = bundle.manifest
    if variant is None:
        return manifest.default_variant
    if variant not in manifest.variants:
        raise BundleError(f"{bundle.path} has no variant {variant!r}; it has {', '.join(manifest.variants)}.")
    return variant


def choose_provider(provider: str | None) -> str:
    """The provider asked for, or "cpu"."""
    return "cpu" if provider is None else provider


def choose_decode(bundle: Bundle, variant: str, decode: str | None) -> Decode:
    """How a variant decodes large JPEG files: as asked for, or as its manifest says. Raises BundleError, InputError."""
    found = [bundle.manifest.components[name].variants[variant] for name in parts.seeing(bundle.manifest)]
    if decode is None:
        return "fast" if all(part.decode == "fast" for part in found) else "exact"
    if decode == "exact":
        return "exact"
    if decode != "fast":
        raise InputError(f"decode is {decode!r}; 'exact' or 'fast' was expected.")
    if any(part.fast_decode is None for part in found):
        raise BundleError(
            f"{bundle.path}: how far {variant} drifts if JPEG files are decoded at reduced scale was not measured, so "
            "that decode='fast' is refused. Leave it out, or export the bundle again with this Sanderling."
        )
    return "fast"


def choose_window(bundle: Bundle, plan: Plan, window: str | None) -> Window:
    """How long the windows are that a model hears: as asked for, or as planned. Raises BundleError, InputError."""
    if window is None:
        window = plan.window
    if window == "full":
        return "full"
    if window != "short":
        raise InputError(f"window is {window!r}; 'full' or 'short' was expected.")
    if all(component.variants[plan.variant].short_window is None for component in bundle.manifest.components.values()):
        raise BundleError(
            f"{bundle.path}: how far {plan.variant} drifts if sounds are heard in short windows was not measured, so "
            "that window='short' is refused. Leave it out, or export the bundle of a model that hears again with this "
            "Sanderling."
        )
    return "short"


def choose_threads(threads: int | None) -> int:
    """The threads asked for, or as many as the process was granted cores. Raises InputError."""
    if threads is None:
        return cores.granted()
    return whole_number("threads", threads, MAX_THREADS)


def assemble(
    bundle: Bundle,
    plan: Plan,
    shared: Shared | None = None,
    components: Sequence[str] | str | None = None,
    towers: Mapping[str, Plan] | None = None,
) -> AnyModel:
    """The task's model as `plan` says: files verified, sessions built, preprocessing read; of all components, or of
    those named.

    With `shared`, sessions and tokenizer are taken from there where another plan had them made, and stay there.
    `towers` are plans of their own, of two towers that are loaded together.
    """
    manifest = bundle.manifest
    names = parts.choose(bundle, components)
    if isinstance(manifest.postprocessing, GenerationOutput):
        from sanderling.generators import generator

        return generator(bundle, plan, manifest.postprocessing, shared)
    if isinstance(manifest.postprocessing, SpeechOutput):
        from sanderling.voices import voice

        return voice(bundle, plan, manifest.postprocessing)
    if isinstance(manifest.postprocessing, FaceOutput):
        return _face_recognizer(bundle, plan, manifest.postprocessing)
    if isinstance(manifest.postprocessing, ContrastiveOutput) and len(names) > 1:
        return _dual_encoder(bundle, plan, manifest.postprocessing, towers or {})
    name, component = parts.only(bundle, names)
    form = _form(bundle, component, plan)
    if form.inputs:
        component = replace(component, inputs=form.inputs)
    graph, *_ = bundle.require([form.graph, *form.data])

    def build(threads: int) -> Engine:
        return shared.engine(plan, threads, lambda: new(threads)) if shared is not None else new(threads)

    def new(threads: int) -> Session:
        return _session(graph, component, form, plan, threads)

    # ONNX Runtime builds a session without the interpreter's lock: the tokenizer is read meanwhile.
    session = _Background(lambda: build(plan.threads))
    try:
        front = _front(bundle, name, component, plan, shared)
    finally:
        # A thread inside ONNX Runtime must not outlive the call: the interpreter may be about to end.
        session.wait()
    engines = Engines(session.result(), plan.workers, lambda: build(1))
    head = parts.head(manifest, name)
    if isinstance(head, EmbeddingOutput):
        from sanderling.tasks.feature_extraction import EmbeddingModel

        assert manifest.space is not None  # decode() refuses an embedding model without one
        dense = dense_layers(bundle, head)
        if parts.modality(manifest, name) == "audio":
            from sanderling.tasks.sound_embedding import SoundEmbeddingModel

            return SoundEmbeddingModel(bundle, plan, front, engines, head, manifest.space, dense, component=name)
        return EmbeddingModel(bundle, plan, front, engines, head, manifest.space, dense, component=name)
    if isinstance(head, TokenOutput):
        from sanderling.tasks.late_interaction import LateInteractionModel
        from sanderling.token_front import TokenFront

        assert manifest.space is not None  # as above
        assert isinstance(front, TokenFront)
        return LateInteractionModel(bundle, plan, front, engines, head, manifest.space, dense_layers(bundle, head))
    if isinstance(head, SparseOutput):
        from sanderling.tasks.sparse import SparseModel

        assert manifest.space is not None  # as above
        assert isinstance(front, TextFront)
        return SparseModel(bundle, plan, front, engines, head, manifest.space)
    if isinstance(head, RegressionOutput):
        from sanderling.tasks.tabular import Regressor

        return Regressor(bundle, plan, front, engines, head)
    if isinstance(head, CtcOutput):
        from sanderling.sound_front import SoundFront
        from sanderling.tasks.ctc_recognition import CtcRecognizer

        assert isinstance(front, SoundFront)  # the rules of such manifests see to it
        return CtcRecognizer(bundle, plan, front, engines, head)
    if isinstance(head, ForecastOutput):
        from sanderling.tasks.forecasting import Forecaster

        return Forecaster(bundle, plan, front, engines, head)
    assert isinstance(head, ClassificationOutput)  # what is left of the kinds
    if manifest.preprocessing.tabular is not None:
        from sanderling.tasks.tabular import TableClassifier

        return TableClassifier(bundle, plan, front, engines, head)
    if manifest.task == "text-ranking":
        from sanderling.tasks.ranking import Ranker

        return Ranker(bundle, plan, front, engines, head)
    if manifest.task == ANSWERING:
        from sanderling.tasks.chosen_answers import AnswerClassifier

        return AnswerClassifier(bundle, plan, front, engines, head)
    from sanderling.tasks.classification import Classifier

    return Classifier(bundle, plan, front, engines, head)


def _face_recognizer(bundle: Bundle, plan: Plan, head: FaceOutput) -> FaceRecognizer:
    """All graphs of a model of faces, loaded one after the other: together they take less than a text model's."""
    from sanderling.face_front import FaceFront
    from sanderling.tasks.face_recognition import FaceRecognizer

    faces, space = bundle.manifest.preprocessing.faces, bundle.manifest.space
    assert faces is not None  # decode() refuses a model of faces without either
    assert space is not None
    engines: dict[str, Engines] = {}
    for name, component in bundle.manifest.components.items():
        _check_inputs(bundle, component, ("pixel_values",), "float32")
        form = _form(bundle, component, plan)
        graph, *_ = bundle.require([form.graph, *form.data])
        build = partial(_session, graph, component, form, plan)
        # Faces of one picture are one batch: there is nothing for workers to share.
        engines[name] = Engines(build(plan.threads), 1, partial(build, plan.threads))
    return FaceRecognizer(bundle, plan, FaceFront(faces), engines, head, space)


def _dual_encoder(bundle: Bundle, plan: Plan, head: ContrastiveOutput, tuned: Mapping[str, Plan]) -> DualEncoder:
    """Both towers, each as it was tuned, or in the form that is good for it. The whole goes by the tower of images."""
    from sanderling.tasks.dual_encoder import DualEncoder
    from sanderling.tasks.feature_extraction import EmbeddingModel

    towers: list[EmbeddingModel] = []
    for name in (parts.TEXT_ENCODER, parts.VISION_ENCODER):
        form = default_form(parts.forms(bundle, plan.variant, (name,)), plan.provider)
        try:
            tower = assemble(bundle, tuned.get(name, replace(plan, form=form)), components=name)
        except BaseException:
            for built in towers:
                built.close()
            raise
        assert isinstance(tower, EmbeddingModel)  # as each component of such a bundle by itself
        towers.append(tower)
    return DualEncoder(bundle, tuned.get(parts.VISION_ENCODER, plan), towers[0], towers[1], head)


def _session(graph: Path, component: Component, form: Form, plan: Plan, threads: int) -> Session:
    return Session(
        graph,
        component,
        provider=plan.provider,
        threads=threads,
        optimized=form.optimized and plan.provider == CPU,
        disabled_fusions=plan.disabled_fusions,
    )


def dense_layers(bundle: Bundle, head: EmbeddingOutput | TokenOutput) -> tuple[Layer, ...]:
    """The dense layers behind an embedding model's pooling; most have none. Raises BundleError."""
    if head.weights is None:
        return ()
    from sanderling import heads
    from sanderling.golden import read_safetensors

    where = str(bundle.path / head.weights)
    return heads.layers(read_safetensors(bundle.read(head.weights), where), head, where)


def _form(bundle: Bundle, component: Component, plan: Plan) -> Form:
    found = component.variants[plan.variant].forms
    if plan.form not in found:
        raise BundleError(
            f"{bundle.path}: the variant {plan.variant!r} has no form {plan.form!r}; it has {', '.join(found)}."
        )
    return found[plan.form]


def _front(bundle: Bundle, name: str, component: Component, plan: Plan, shared: Shared | None) -> Front:
    preprocessing, modality = bundle.manifest.preprocessing, parts.modality(bundle.manifest, name)
    if bundle.manifest.task == ANSWERING:
        return _question_front(bundle, component, plan, shared)
    if modality == "text":
        from sanderling.preprocess.blocks import EXACT_INPUTS, PACKED_INPUTS
        from sanderling.preprocess.text import TEXT_INPUTS, TextEncoder

        settings = preprocessing.text
        assert settings is not None  # or the modality were another
        known = {EXACT: EXACT_INPUTS, PACKED: PACKED_INPUTS}.get(plan.form, TEXT_INPUTS)
        _check_inputs(bundle, component, known, "int64")

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
        from sanderling.sound_front import VALUES, SoundFront

        assert preprocessing.audio is not None  # or the modality were another
        _check_inputs(bundle, component, (VALUES,), "float32")
        return SoundFront(preprocessing.audio, plan.image_budget)
    assert preprocessing.image is not None  # decode() refuses a manifest without any
    _check_inputs(bundle, component, (component.inputs[0].name,), "float32")
    return ImageFront(preprocessing.image, component.inputs[0].name, plan.image_budget, plan.decode)


def _question_front(bundle: Bundle, component: Component, plan: Plan, shared: Shared | None) -> Front:
    from sanderling.preprocess.text import TextEncoder
    from sanderling.question_front import QuestionFront

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
    _check_inputs(bundle, component, (name,), "float64")
    if preprocessing.tabular is not None:
        return TableFront(preprocessing.tabular, name, plan.row_budget)
    assert preprocessing.series is not None
    return SeriesFront(preprocessing.series, name, plan.row_budget)


def _check_inputs(bundle: Bundle, component: Component, names: tuple[str, ...], dtype: str) -> None:
    for spec in component.inputs:
        if spec.name not in names or spec.dtype != dtype:
            raise BundleError(
                f"{bundle.path}: the graph takes {spec.name!r} of {spec.dtype}; this Sanderling can give "
                f"{', '.join(names)}, of {dtype}. Update it: pip install -U sanderling"
            )


class _Background:
    """A session that is built in a thread of its own while the caller goes on."""

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._built: Engine | BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(build,), daemon=True)
        self._thread.start()

    def _run(self, build: Callable[[], Engine]) -> None:
        try:
            self._built = build()
        except BaseException as error:  # raised in the caller's thread by result()
            self._built = error

    def wait(self) -> None:
        """Until the thread has ended, well or not."""
        self._thread.join()

    def result(self) -> Engine:
        """The session, or its error raised here; after `wait`."""
        assert self._built is not None
        if isinstance(self._built, BaseException):
            raise self._built
        return self._built
