"""Where somebody speaks in a sound: a small recurrent graph frame by frame, and stretches made of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sanderling.errors import GraphError
from sanderling.hearing.windows import Window, quiet_cuts
from sanderling.schema.sounds import VoiceActivity

if TYPE_CHECKING:
    from sanderling.cancellation import Cancellation
    from sanderling.session import Engine

# Frames of one run: what is read of a sound at once.
_FRAMES = 512
INPUTS, OUTPUTS = ("input", "h", "c"), ("speech_probs", "hn", "cn")


class VoiceStream:
    """The probabilities of one sound's frames, as its samples come. Not to be shared by threads."""

    def __init__(self, engine: Engine, settings: VoiceActivity) -> None:
        self._engine = engine
        self._settings = settings
        self._rest = np.zeros(0, np.float32)
        self._context = np.zeros(settings.context, np.float32)
        self._hidden = np.zeros((1, 1, settings.size), np.float32)
        self._cell = np.zeros((1, 1, settings.size), np.float32)

    def push(self, samples: NDArray[np.float32], cancellation: Cancellation | None = None) -> NDArray[np.float32]:
        """The probability of speech in each frame that is whole now; what is left of the samples waits for more."""
        whole = np.concatenate([self._rest, samples])
        count = len(whole) // self._settings.frame
        self._rest = whole[count * self._settings.frame :]
        frames = whole[: count * self._settings.frame].reshape(count, self._settings.frame)
        found = [self._run(frames[at : at + _FRAMES], cancellation) for at in range(0, count, _FRAMES)]
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def end(self, cancellation: Cancellation | None = None) -> NDArray[np.float32]:
        """The probability of the last frame, filled up with silence; nothing where no sample is left."""
        if not len(self._rest):
            return np.zeros(0, np.float32)
        return self.push(np.zeros(self._settings.frame - len(self._rest), np.float32), cancellation)

    def _run(self, frames: NDArray[np.float32], cancellation: Cancellation | None) -> NDArray[np.float32]:
        context = self._settings.context
        before = np.concatenate([self._context[None], frames[:-1, -context:]])
        self._context = frames[-1, -context:].copy()
        feeds = {"input": np.concatenate([before, frames], axis=1), "h": self._hidden, "c": self._cell}
        made = self._engine.run(feeds, cancellation)
        self._hidden, self._cell = made["hn"], made["cn"]
        chances = np.asarray(made["speech_probs"], np.float32).reshape(-1)
        if len(chances) != len(frames):
            raise GraphError(
                f"The component voice_activity answered {len(chances)} probabilities for {len(frames)} frames."
            )
        return chances


def chances_of(
    engine: Engine, settings: VoiceActivity, sound: NDArray[np.float32], cancellation: Cancellation | None = None
) -> NDArray[np.float32]:
    """The probability of speech in each frame of a sound; the last one is filled up with silence."""
    stream = VoiceStream(engine, settings)
    return np.concatenate([stream.push(sound, cancellation), stream.end(cancellation)])


def spoken(chances: NDArray[np.float32], settings: VoiceActivity, rate: int, length: int) -> list[Window]:
    """The stretches of a sound of `length` samples in which somebody speaks.

    One begins with a frame of at least `threshold`, and ends where frames stay below `release` for `min_silence`
    seconds. Those of less than `min_speech` seconds are none; each is made longer by `pad` seconds on both sides, by
    half of what is between two where that is less.
    """
    frame = settings.frame
    found: list[tuple[int, int]] = []
    begun: int | None = None
    quiet: int | None = None
    patience = settings.min_silence * rate / frame
    for place, chance in enumerate(chances.tolist()):
        if chance >= settings.threshold:
            begun = place if begun is None else begun
            quiet = None
        elif begun is not None and chance < settings.release:
            quiet = place if quiet is None else quiet
            if place - quiet + 1 >= patience:
                found.append((begun, quiet))
                begun = quiet = None
    if begun is not None:
        found.append((begun, len(chances) if quiet is None else quiet))
    kept = [(first * frame, min(last * frame, length)) for first, last in found]
    kept = [(first, last) for first, last in kept if last - first >= settings.min_speech * rate]
    return _padded(kept, int(settings.pad * rate), length)


def _padded(stretches: Sequence[tuple[int, int]], pad: int, length: int) -> list[Window]:
    found = []
    for place, (first, last) in enumerate(stretches):
        before = stretches[place - 1][1] if place else None
        after = stretches[place + 1][0] if place + 1 < len(stretches) else None
        left = first if before is None else (first - before) // 2
        right = length - last if after is None else (after - last) // 2
        found.append(Window(first - min(pad, left), last + min(pad, right)))
    return found


def voiced(sound: NDArray[np.float32], stretches: Sequence[Window], rate: int, most: int) -> list[Window]:
    """Stretches of speech as windows of at most `most` samples: neighbours together where they fit, with what is
    between them, and one that is too long cut where it is quiet."""
    found: list[Window] = []
    for stretch in stretches:
        if found and stretch.last - found[-1].first <= most:
            found[-1] = Window(found[-1].first, stretch.last)
            continue
        cuts = quiet_cuts(sound[stretch.first : stretch.last], rate, most)
        found += [Window(stretch.first + one.first, stretch.first + one.last) for one in cuts]
    return found


def between(windows: Sequence[Window], length: int) -> list[Window]:
    """What of a sound of `length` samples no window has."""
    edges = [0, *(edge for one in windows for edge in (one.first, one.last)), length]
    return [Window(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
