"""From a bundle on disk to a model that answers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

# Before ONNX Runtime: imported from inside its module, numpy takes half as long again (measured, 70 of 250 ms).
import numpy as np  # noqa: F401
from msgspec.structs import replace

from sanderling import choices, memory, sessions, verdicts
from sanderling import components as parts
from sanderling.background import Background
from sanderling.bundle import Bundle, Integrity, open_bundle
from sanderling.counts import whole_number
from sanderling.engines import Engines
from sanderling.errors import InputError, PartialPlacementWarning, ProviderError
from sanderling.fronts import TextFront
from sanderling.generation.rules import ANSWERING
from sanderling.plan import Plan, default_form
from sanderling.providers import CPU
from sanderling.reading import check_inputs, front_of
from sanderling.schema.answers import (
    ClassificationOutput,
    ContrastiveOutput,
    CtcOutput,
    FaceOutput,
    ForecastOutput,
    RegressionOutput,
)
from sanderling.schema.basics import Decode, Window
from sanderling.schema.generation import GenerationOutput
from sanderling.schema.vectors import EmbeddingOutput, SparseOutput, TokenOutput
from sanderling.schema.voices import SpeechOutput
from sanderling.session import Engine

if TYPE_CHECKING:
    from sanderling.heads import Layer
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
    Of models that hear, these are as much sound as is heard at once, and as many tokens as the bundle's settings allow.
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
    hears = memory.hears(bundle)
    if cap is not None and isinstance(head, GenerationOutput) and not hears:
        raise InputError(
            f"max_memory is measured on models of one answer an input; what {bundle.path} takes grows with what it "
            "writes. Leave it out, and bound max_new_tokens and the prompts of a call."
        )
    if cap is not None and hears:
        from sanderling.hearing.memory import check_bounded

        check_bounded(bundle)
    if dimensions is not None:
        if not isinstance(head, EmbeddingOutput) or len(names) > 1:
            raise InputError(f"dimensions goes with embedding models; {bundle.path} is for {bundle.manifest.task}.")
        whole_number("dimensions", dimensions, head.dimension)
    plan = choices.choose_plan(bundle, variant, provider, threads, batch_invariant, names)
    permitted = verdicts.permitted(
        bundle, plan, variant_asked=variant is not None, provider_asked=provider not in (None, choices.AUTO)
    )
    if permitted != plan:  # another variant, or another provider, has forms of its own
        plan = replace(permitted, form=default_form(parts.forms(bundle, permitted.variant, names), permitted.provider))
    plan = replace(plan, decode=choices.choose_decode(bundle, plan.variant, decode))
    plan = replace(plan, window=choices.choose_window(bundle, plan, window))
    untold = variant is None and threads is None and provider in (None, choices.AUTO) and cap is None
    towers = choices.tuned_towers(bundle, names, batch_invariant, decode) if untold else {}
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
        from sanderling.generation.loading import generator

        return generator(bundle, plan, manifest.postprocessing, shared)
    if isinstance(manifest.postprocessing, SpeechOutput):
        from sanderling.voices.loading import voice

        return voice(bundle, plan, manifest.postprocessing)
    if isinstance(manifest.postprocessing, FaceOutput):
        return _face_recognizer(bundle, plan, manifest.postprocessing)
    if isinstance(manifest.postprocessing, ContrastiveOutput) and len(names) > 1:
        return _dual_encoder(bundle, plan, manifest.postprocessing, towers or {})
    name = parts.only(bundle, names)
    component, _ = sessions.as_planned(bundle, plan, name)
    new = sessions.builder(bundle, plan, name)

    def build(threads: int) -> Engine:
        return shared.engine(plan, threads, lambda: new(threads)) if shared is not None else new(threads)

    # ONNX Runtime builds a session without the interpreter's lock: the tokenizer is read meanwhile.
    session = Background(lambda: build(plan.threads))
    try:
        front = front_of(bundle, name, component, plan, shared)
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
        from sanderling.hearing.sound_front import SoundFront
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
    from sanderling.faces.front import FaceFront
    from sanderling.tasks.face_recognition import FaceRecognizer

    faces, space = bundle.manifest.preprocessing.faces, bundle.manifest.space
    assert faces is not None  # decode() refuses a model of faces without either
    assert space is not None

    def loaded(name: str) -> Engines:
        check_inputs(bundle, bundle.manifest.components[name], ("pixel_values",), "float32")
        build = sessions.builder(bundle, plan, name)
        # Faces of one picture are one batch: there is nothing for workers to share.
        return Engines(build(plan.threads), 1, partial(build, plan.threads))

    engines = sessions.of_each(bundle, loaded)
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


def dense_layers(bundle: Bundle, head: EmbeddingOutput | TokenOutput) -> tuple[Layer, ...]:
    """The dense layers behind an embedding model's pooling; most have none. Raises BundleError."""
    if head.weights is None:
        return ()
    from sanderling import heads
    from sanderling.golden import read_safetensors

    where = str(bundle.path / head.weights)
    return heads.layers(read_safetensors(bundle.read(head.weights), where), head, where)
