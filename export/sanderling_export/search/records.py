"""What the search tries and what it finds out: plain records, kept in its state file."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from sanderling.schema.variants import Metric
from sanderling_export.labelled import loss, shortfall
from sanderling_export.recipe import Floor, Precision
from sanderling_export.settings import Settings

# The drift that a floor allows is used up to this share: on inputs nobody has seen yet, the worst is worse. Of two
# candidates for all-MiniLM-L6-v2 that reached 0.68 and 0.77 of it on 450 texts, 2,000 others took 0.61 and 1.71.
HEADROOM = 0.75


class Candidate(Struct, frozen=True):
    """One way to make a variant."""

    precision: Precision
    settings: Settings = Settings()

    @property
    def key(self) -> str:
        """What tells candidates apart, in the state file: the precision and every setting that is no default."""
        return f"{self.precision} {msgspec.json.encode(self.settings).decode()}"

    @property
    def label(self) -> str:
        """For people: the precision, its settings, and of what is kept only how much."""
        said = msgspec.to_builtins(self.settings)
        kept, kept_as = said.pop("keep", None), said.pop("keep_as", "fp32")
        words = [f"{name} {value:g}" for name, value in said.items() if isinstance(value, int | float)]
        words += [f"{name} {value}" for name, value in said.items() if isinstance(value, str)]
        if kept:
            # Nodes of many names may be kept; two candidates of one label would be hard to tell apart.
            mark = hashlib.sha256("\n".join(kept).encode()).hexdigest()[:4]
            words.append(f"{len(kept)} kept in {kept_as} ({mark})")
        elif kept is not None:
            words.append("all layers")
        return ", ".join([self.precision, *words])


class Group(Struct, frozen=True):
    """Nodes that are quantized together or kept together: products that share an input, or one convolution."""

    nodes: tuple[str, ...]
    weights: int


class Quality(Struct, frozen=True):
    """Cosine similarity to the original's answers over samples; `agreement` of first labels, for classifiers.

    `metric` is the task's own, on the labelled set's half that goes with these samples.
    """

    samples: int
    mean: float
    min: float
    p01: float
    agreement: float | None = None
    metric: Metric | None = None


class Measured(Struct, frozen=True, tag="measured"):
    """A candidate on both sets, and the bytes of its files."""

    calibration: Quality
    check: Quality
    bytes: int
    notes: tuple[str, ...] = ()


class Unmade(Struct, frozen=True, tag="unmade"):
    """Why a candidate cannot be made of this graph."""

    reason: str


Found = Measured | Unmade


class Target(Struct, frozen=True):
    """The floor that both sets must hold; None is no demand."""

    min_cosine: float | None = None
    min_p01: float | None = None
    min_agreement: float | None = None
    max_metric_loss: float | None = None

    def shortfalls(self, quality: Quality, headroom: float = HEADROOM) -> tuple[str, ...]:
        """In words, what of the floor is not reached with `headroom`."""
        demands = (
            ("minimum cosine", quality.min, self.min_cosine),
            ("1st percentile", quality.p01, self.min_p01),
            ("agreement", quality.agreement, self.min_agreement),
        )
        short = [
            f"{what} {found:.4f}, floor {floor:g}"
            for what, found, floor in demands
            if floor is not None and found is not None and not 1.0 - found <= (1.0 - floor) * headroom
        ]
        if quality.metric is not None:
            short += shortfall("task metric", quality.metric, self.max_metric_loss, headroom)
        return tuple(short)

    def holds(self, found: Found) -> bool:
        """Whether a candidate holds the floor on the calibration set and on the check set."""
        return isinstance(found, Measured) and not (self.shortfalls(found.calibration) or self.shortfalls(found.check))

    def excess(self, found: Measured) -> float:
        """The largest share of an allowed drift that is used on either set: at most HEADROOM where the floor holds."""
        shares = [0.0]
        for quality in (found.calibration, found.check):
            demands = (
                (quality.min, self.min_cosine),
                (quality.p01, self.min_p01),
                (quality.agreement, self.min_agreement),
            )
            for value, floor in demands:
                if floor is not None and value is not None:
                    shares.append((1.0 - value) / max(1.0 - floor, 1e-12))
            if self.max_metric_loss is not None and quality.metric is not None:
                shares.append(loss(quality.metric) / max(self.max_metric_loss, 1e-12))
        return max(shares)

    @property
    def floor(self) -> Floor:
        """The floor as a recipe says it."""
        return Floor(
            mean_cosine=-1.0,
            min_cosine=-1.0 if self.min_cosine is None else self.min_cosine,
            min_p01=-1.0 if self.min_p01 is None else self.min_p01,
            agreement=self.min_agreement or 0.0,
            max_metric_loss=self.max_metric_loss,
        )


class Aim(Struct, frozen=True):
    """What a search is for; `seed` draws the inputs that rank layers and that race."""

    target: Target
    seed: int = 0


class Kept(Struct, frozen=True):
    """A group, and how much of the mean drift goes when it alone is kept in higher precision."""

    group: Group
    relief: float


class Refined(Struct, frozen=True):
    """What became of a candidate below the floor: its groups, most relief first, and what holds it with some kept."""

    base: Candidate
    ranking: tuple[Kept, ...]
    result: Candidate | None
    groups_kept: int = 0


class Outcome(Struct, frozen=True):
    """The candidates that were chosen, and all that hold the floor, in the order of preference."""

    fastest: Candidate
    smallest: Candidate
    holding: tuple[Candidate, ...]
    refined: tuple[Refined, ...]
