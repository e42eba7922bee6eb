"""Where somebody begins and stops to speak, as the sound comes: by a voice detector, or by how loud it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sanderling.schema.sounds import VoiceActivity

# Decibels of full scale: what is below the first is silence, whatever was before; what is above the second is taken for
# speech, however loud it always is.
_LEAST, _LOUD = -60.0, -30.0
# Speech is so many decibels above the quietest of late, which grows by so many a second where nothing is quiet.
_ABOVE, _GROWTH = 10.0, 2.0


class Chances(Protocol):
    """How probable speech is in each frame of a sound, as its samples come (see VoiceStream)."""

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probabilities of the frames that are whole now."""
        ...

    def end(self) -> NDArray[np.float32]:
        """The probability of the last frame, filled up with silence; nothing where no sample is left."""
        ...


class Turn(NamedTuple):
    """Somebody begins to speak, or stops, at a sample of the stream."""

    kind: Literal["begins", "ends"]
    place: int


class SpeechGate:
    """Turns of speech in a stream, as `spoken` finds stretches of it in a whole sound, but for their padding.

    `chances` makes a detector that knows of nothing yet; None takes everything for speech.
    """

    def __init__(self, chances: Callable[[], Chances] | None, settings: VoiceActivity, rate: int) -> None:
        self.settings = settings
        self._make = chances
        self._patience = settings.min_silence * rate / settings.frame
        self._begun = False
        self.restart(0)

    def restart(self, place: int) -> None:
        """Begin anew at a sample of the stream, behind sound that never came."""
        self._chances = None if self._make is None else self._make()
        self._from, self._frames = place, 0
        self._begun = False
        self._quiet: int | None = None

    def push(self, samples: NDArray[np.float32]) -> list[Turn]:
        """What these samples tell."""
        if self._chances is None:
            return self._always(len(samples))
        return self._turns(self._chances.push(samples))

    def end(self) -> list[Turn]:
        """What the last samples tell, of which no whole frame came."""
        return [] if self._chances is None else self._turns(self._chances.end())

    def _always(self, count: int) -> list[Turn]:
        if self._begun or not count:
            return []
        self._begun = True
        return [Turn("begins", self._from)]

    def _turns(self, chances: NDArray[np.float32]) -> list[Turn]:
        frame, settings = self.settings.frame, self.settings
        found: list[Turn] = []
        for chance in chances.tolist():
            place = self._from + self._frames * frame
            self._frames += 1
            if chance >= settings.threshold:
                if not self._begun:
                    found.append(Turn("begins", place))
                self._begun, self._quiet = True, None
            elif self._begun and chance < settings.release:
                self._quiet = place if self._quiet is None else self._quiet
                if (place - self._quiet) // frame + 1 >= self._patience:
                    found.append(Turn("ends", self._quiet))
                    self._begun, self._quiet = False, None
        return found


class LoudnessStream:
    """Whether a frame is louder than the quietest ones of late: 1 or 0, for bundles without a voice detector.

    It errs on the side of speech: what is taken for silence is quiet, not merely no voice.
    """

    def __init__(self, frame: int, rate: int) -> None:
        self._frame = frame
        self._growth = _GROWTH * frame / rate
        self._rest = np.zeros(0, np.float32)
        self._quietest = _LEAST - _ABOVE

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """1 or 0 of each frame that is whole now."""
        whole = np.concatenate([self._rest, samples])
        count = len(whole) // self._frame
        self._rest = whole[count * self._frame :].copy()
        frames = whole[: count * self._frame].reshape(count, self._frame)
        power = np.square(frames, dtype=np.float64).mean(axis=1)
        return np.array([self._loud(level) for level in (10 * np.log10(power + 1e-12)).tolist()], np.float32)

    def end(self) -> NDArray[np.float32]:
        """1 or 0 of the last frame, filled up with silence."""
        if not len(self._rest):
            return np.zeros(0, np.float32)
        return self.push(np.zeros(self._frame - len(self._rest), np.float32))

    def _loud(self, level: float) -> float:
        self._quietest = min(level, self._quietest + self._growth)
        return float(level >= min(_LOUD, max(_LEAST, self._quietest + _ABOVE)))
