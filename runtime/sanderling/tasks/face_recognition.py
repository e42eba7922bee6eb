"""`face-recognition`: faces found, aligned by their landmarks, embedded, compared and known again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sanderling import heads, spaces
from sanderling.bundle import Bundle
from sanderling.cancellation import Cancellation
from sanderling.engines import Engines
from sanderling.errors import FaceError, GraphError, InputError, SpaceError
from sanderling.faces.front import INPUT, FaceFront
from sanderling.faces.results import Face, FaceMatch, Faces, Identification
from sanderling.faces.suppression import suppress
from sanderling.model import Answers, Model, in_thread, windows
from sanderling.placement import Placement, together
from sanderling.plan import Plan
from sanderling.preprocess import faces
from sanderling.results import Embedding, Embeddings, Timing, summed
from sanderling.schema.answers import FaceOutput, FaceThreshold

if TYPE_CHECKING:
    from sanderling.fronts import ImageInput

_LANDMARKS = 68


class Gallery(Protocol):
    """What faces are identified in: a `sanderling.Index`, or what searches as it does."""

    @property
    def space(self) -> str:
        """The fingerprint of the space of its vectors."""
        ...

    def search(self, vectors: Any, k: int = 10) -> Any:
        """For several vectors a list of hits each, best first; a hit has an `id`, a `score` and `metadata`."""
        ...


class FaceRecognizer(Model):
    """Finds faces, and says of any two whether they are one person's."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        front: FaceFront,
        engines: Mapping[str, Engines],
        head: FaceOutput,
        space: str,
    ) -> None:
        super().__init__(bundle, plan, front, engines["detector"], 2)
        self.space = space
        self._parts = dict(engines)
        self.pictures = front
        self._head = head
        stated = bundle.manifest.components["recognition"].variants[plan.variant].drift
        self._drift = stated.cosine.min if stated is not None else None

    @property
    def dimension(self) -> int:
        """Length of each embedding."""
        return self._head.dimension

    @property
    def threshold(self) -> FaceThreshold:
        """From which cosine on two faces are one person's, and what it was measured on."""
        return self._head.threshold

    @property
    def placement(self) -> Placement:
        """Which provider really has which nodes, of all graphs together."""
        merged = together(self.provider, (part.single.placement for part in self._parts.values()))
        return replace(merged, seconds={})  # each graph's would be of other inputs

    def measure_placement(self, inputs: Sequence[Any] | None = None, runs: int = 3) -> Placement:
        """The placement of all graphs, with each provider's share of the time that the detector takes.

        What the other graphs take depends on how many faces a picture has; arguments are as with every model.
        """
        found = super().measure_placement(inputs, runs)
        return replace(self.placement, seconds=found.seconds)

    def close(self) -> None:
        """Free the graphs. Calls under way end as they would; later ones raise ModelClosedError."""
        for part in self._parts.values():
            part.close()

    @overload
    def __call__(self, inputs: ImageInput, *, cancellation: Cancellation | None = None) -> Faces: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(
        self, inputs: Iterable[ImageInput], *, cancellation: Cancellation | None = None
    ) -> tuple[Faces, ...]: ...
    def __call__(
        self, inputs: ImageInput | Iterable[ImageInput], *, cancellation: Cancellation | None = None
    ) -> Faces | tuple[Faces, ...]:
        """Find the faces of one picture, or of each of a list; `cancellation` ends the call early.

        One picture gives Faces (a sequence of Face: `.box`, `.score`, `.landmarks`, `.embedding`, and where the bundle
        has them `.expression`, `.age` and `.gender`), which is empty where there is none, and says so; a list gives a
        tuple of Faces. Raises InputError for what is no picture.
        """
        items, single = self.front.items(inputs)
        self._engines.check()
        found = tuple(self._faces(item, cancellation) for item in self.front.prepare(items, None, cancellation))
        return found[0] if single else found

    def stream(self, inputs: Iterable[ImageInput], *, cancellation: Cancellation | None = None) -> Iterator[Faces]:
        """Find the faces of any iterable of pictures, also one without end, in bounded memory, in input order."""
        for window in windows(inputs):
            for item in window:
                yield self(item, cancellation=cancellation)

    async def acall(self, inputs: ImageInput | Iterable[ImageInput]) -> Faces | tuple[Faces, ...]:
        """As calling the model, without blocking the event loop; cancelling the task ends the call."""
        return await in_thread(lambda cancellation: self(inputs, cancellation=cancellation))

    def compare(
        self, a: Face | Faces | ImageInput, b: Face | Faces | ImageInput, *, threshold: float | None = None
    ) -> FaceMatch:
        """Whether two faces are one person's. Each is a Face, or a picture with one face.

        `threshold` is the cosine that makes them one (default: the bundle's, whose measurement is in `threshold`).
        Raises FaceError for a picture without a face or with several, SpaceError for a Face of another model's space.
        """
        first, second = self._one(a, "a"), self._one(b, "b")
        similarity = float(spaces.similarity(first.vector, second.vector)[0, 0])
        return FaceMatch(similarity, self._limit(threshold))

    def identify(
        self, image: Face | Faces | ImageInput, index: Gallery, *, threshold: float | None = None
    ) -> tuple[Identification, ...]:
        """Whose faces these are: for each face of a picture the nearest item of `index`, if it is near enough.

        `index` is a `sanderling.Index` of this model's space, to which faces were added:
        `index.add(["ada"], faces[:1].embeddings)`. `threshold` is as with `compare`. A picture without a face gives an
        empty tuple. Raises SpaceError for an index of another embedding space.
        """
        limit = self._limit(threshold)
        if index.space != self.space:
            raise SpaceError(
                f"The gallery is of the embedding space {index.space[:16]}, the faces are of {self.space[:16]}; "
                "cosines between them mean nothing. Fill a gallery with this model's faces."
            )
        seen = (image,) if isinstance(image, Face) else self._all(image)
        if not seen:
            return ()
        vectors = [face.vector for face in seen]
        return tuple(_identified(face, hits, limit) for face, hits in zip(seen, index.search(vectors, 1), strict=True))

    def answer(self, items: list[Any], prompt: str | None = None, cancellation: Cancellation | None = None) -> Answers:
        """How many faces each picture has, and the detector's best score: rows of the shape (n, 2), float32."""
        self._engines.check()
        found = [self._faces(item, cancellation) for item in self.front.prepare(items, prompt, cancellation)]
        rows = np.array([(len(one), one.best_score) for one in found], np.float32).reshape(-1, 2)
        return Answers(rows, tuple(one.report for one in found), summed(one.timing for one in found))

    def detect(
        self, picture: NDArray[np.uint8], values: NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], float, int]:
        """Boxes (n, 4) in pixels of a picture and their scores (n,), best first; the best score of all; how many were
        too many. `values` is the detector's input of the picture, (3, size, size)."""
        outputs = self.run("detector", values[None], cancellation)
        boxes, scores = outputs["boxes"], outputs["scores"]
        if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.shape != boxes.shape[:2]:
            raise GraphError(
                f"The detector answers boxes of the shape {boxes.shape} and scores of {scores.shape}; (1, n, 4) and "
                "(1, n) were expected."
            )
        head = self._head
        kept, beyond = suppress(
            boxes[0], scores[0], min_score=head.min_score, max_overlap=head.max_overlap, most=head.max_faces
        )
        size = self.pictures.settings.detector.size
        inside = np.clip(boxes[0, kept].astype(np.float64), 0.0, 1.0) * faces.scale(picture, size)
        return inside, scores[0, kept], float(scores.max(initial=0.0)), beyond

    def run(
        self, component: str, values: NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """The outputs of one of the graphs for inputs (n, 3, size, size), as many a run as the plan says.

        Raises InferenceError for answers that are not finite.
        """
        engine, step = self._parts[component].single, self.plan.image_budget
        runs = [
            engine.run({INPUT: values[first : first + step]}, cancellation) for first in range(0, len(values), step)
        ]
        found = {name: np.concatenate([outputs[name] for outputs in runs]) for name in runs[0]}
        for rows in found.values():
            if not np.isfinite(rows).all():
                raise self._not_finite(f"of the {component} graph")
        return found

    def rows(self, component: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `run`, all outputs of each input one after the other: (n, d)."""
        outputs = self.run(component, values)
        order = [spec.name for spec in self.bundle.manifest.components[component].outputs]
        return np.concatenate([outputs[name].reshape(len(values), -1) for name in order], axis=1)

    def _faces(self, image: Any, cancellation: Cancellation | None) -> Faces:
        laps = [time.perf_counter()]
        picture, report = self.pictures.picture(image)
        values = faces.square(picture, self.pictures.settings.detector)
        laps.append(time.perf_counter())
        boxes, scores, best, dropped = self.detect(picture, values, cancellation)
        seen = self._aligned(picture, boxes, cancellation)
        laps.append(time.perf_counter())
        answers = self._answers(picture, [points for _, points in seen], cancellation) if seen else {}
        laps.append(time.perf_counter())
        vectors = Embeddings(
            answers.get("recognition", np.empty((0, self.dimension), np.float32)),
            (report,) * len(seen),
            self.space,
            self.variant,
            Timing(laps[1] - laps[0], laps[3] - laps[1], 0.0),
            self._drift,
        )
        items = tuple(
            self._face(boxes[place], float(scores[place]), points, vector, number, answers)
            for number, ((place, points), vector) in enumerate(zip(seen, vectors, strict=True))
        )
        return Faces(
            items=items,
            report=report,
            space=self.space,
            dimension=self.dimension,
            variant=self.variant,
            timing=replace(vectors.timing, postprocess=time.perf_counter() - laps[3]),
            best_score=best,
            min_score=self._head.min_score,
            dropped=dropped + len(boxes) - len(seen),
            drift=self._drift,
        )

    def _aligned(
        self, picture: NDArray[np.uint8], boxes: NDArray[np.float64], cancellation: Cancellation | None
    ) -> list[tuple[int, NDArray[np.float64]]]:
        """Of each box that has something of the picture in it, its place and the landmarks (68, 2) in pixels; those
        whose landmarks lead out of the picture are left out."""
        settings = self.pictures.settings
        parts = [faces.cut(picture, tuple(box)) for box in boxes.tolist()]
        places = [place for place, part in enumerate(parts) if part is not None]
        if not places:
            return []
        values = np.stack([faces.square(part, settings.landmarks) for part in parts if part is not None])
        raw = self.run("landmarks", values, cancellation)["landmarks"]
        if raw.shape[1:] != (2 * _LANDMARKS,):
            raise GraphError(f"The landmarks have the shape {raw.shape}; (n, {2 * _LANDMARKS}) was expected.")
        found = []
        for place, row in zip(places, raw, strict=True):
            part = parts[place]
            assert part is not None  # `places` has no other
            points = faces.landmarks(row, part, tuple(boxes[place].tolist()))
            views = (faces.aligned(points, settings), faces.loose(points, settings))
            if all(faces.cut(picture, view) is not None for view in views):
                found.append((place, points))
        return found

    def _answers(
        self, picture: NDArray[np.uint8], points: list[NDArray[np.float64]], cancellation: Cancellation | None
    ) -> dict[str, NDArray[np.float32]]:
        """What the graphs on aligned faces say, a row each: embeddings, scores of expressions and genders, and ages."""
        settings, head = self.pictures.settings, self._head
        aligned = [faces.cut(picture, faces.aligned(one, settings)) for one in points]
        close = np.stack([faces.square(part, settings.recognition) for part in aligned if part is not None])
        found = {"recognition": self.run("recognition", close, cancellation)[head.output]}
        if found["recognition"].shape[1:] != (head.dimension,):
            raise GraphError(
                f"The graph's output {head.output!r} has the shape {found['recognition'].shape}; the manifest says a "
                f"dimension of {head.dimension}."
            )
        if head.expressions or head.genders:
            around = [faces.cut(picture, faces.loose(one, settings)) for one in points]
            wide = np.stack([faces.square(part, settings.attributes) for part in around if part is not None])
            if head.expressions:
                found["expression"] = heads.softmax(self.run("expression", wide, cancellation)["logits"])
            if head.genders:
                outputs = self.run("age_gender", wide, cancellation)
                found["age"], found["gender"] = outputs["age"], heads.softmax(outputs["gender"])
        for name, labels in (("expression", head.expressions), ("gender", head.genders), ("age", (0,))):
            if name in found and found[name].shape[1:] != (len(labels),):
                raise GraphError(
                    f"The {name} of a face has the shape {found[name].shape}; {len(labels)} were expected."
                )
        return found

    def _face(
        self,
        box: NDArray[np.float64],
        score: float,
        points: NDArray[np.float64],
        vector: Embedding,
        row: int,
        answers: dict[str, NDArray[np.float32]],
    ) -> Face:
        left, top, right, bottom = box.tolist()
        return Face(
            (left, top, right, bottom),
            score,
            points.astype(np.float32),
            vector,
            _named(self._head.expressions, answers.get("expression"), row),
            float(answers["age"][row, 0]) if "age" in answers else None,
            _named(self._head.genders, answers.get("gender"), row),
        )

    def _all(self, image: Faces | ImageInput) -> tuple[Face, ...]:
        found = image if isinstance(image, Faces) else self(image)
        if not isinstance(found, Faces):
            raise InputError(f"identify() takes one picture; a list of {len(found)} was given. Ask for one by one.")
        return found.items

    def _one(self, given: Face | Faces | ImageInput, name: str) -> Face:
        if isinstance(given, Face):
            return given
        found = given if isinstance(given, Faces) else self(given)
        if not isinstance(found, Faces) or len(found) != 1:
            said = found.message if isinstance(found, Faces) else f"A list of {len(found)} pictures."
            raise FaceError(
                f"`{name}` is to be one face. {said} Compare one of them: model.compare(model(picture)[0], ...), or "
                "cut the face out first."
            )
        return found[0]

    def _limit(self, threshold: float | None) -> float:
        if threshold is None:
            return self._head.threshold.cosine
        if not -1 <= threshold <= 1:
            raise InputError(f"threshold is {threshold!r}; a cosine from -1 to 1 was expected.")
        return float(threshold)


def _named(labels: tuple[str, ...], scores: NDArray[np.float32] | None, row: int) -> dict[str, float] | None:
    return dict(zip(labels, scores[row].tolist(), strict=True)) if scores is not None else None


def _identified(face: Face, hits: Sequence[Any], limit: float) -> Identification:
    if not hits:
        return Identification(face, None, -1.0, limit)
    nearest = hits[0]
    known = nearest.score >= limit
    return Identification(
        face, nearest.id if known else None, float(nearest.score), limit, nearest.metadata if known else None
    )
