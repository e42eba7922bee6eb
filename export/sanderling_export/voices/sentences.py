"""Sentences that voices are calibrated and measured with where the user gives none; no sentence is in both.

They are English; for a voice whose letters are others they are made up of its own letters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sanderling.schema.sounds import PhonemesPreprocessing

# The share of the letters of English sentences from which a voice of letters is asked to say them.
_ENGLISH = 0.9
_SEED = 20261122


@dataclass(frozen=True, slots=True)
class Sentences:
    """What a voice is calibrated with, measured with, and what stands in its bundle."""

    calibration: tuple[str, ...]
    check: tuple[str, ...]
    golden: tuple[str, ...]


def of(settings: PhonemesPreprocessing) -> Sentences:
    """The sentences for a voice of these symbols."""
    letters = [letter for text in CHECK for letter in text.lower() if letter.isalpha()]
    known = sum(letter in settings.ids for letter in letters)
    own = sorted(symbol for symbol in settings.ids if len(symbol) == 1 and symbol.isalpha())
    if settings.alphabet == "espeak" or known >= _ENGLISH * len(letters) or not own:
        return Sentences(CALIBRATION, CHECK, GOLDEN)
    draw = np.random.default_rng(_SEED)

    def made_up(count: int) -> tuple[str, ...]:
        return tuple(
            " ".join("".join(draw.choice(own, draw.integers(2, 9))) for _ in range(draw.integers(2, 12)))
            for _ in range(count)
        )

    return Sentences(made_up(len(CALIBRATION)), made_up(len(CHECK)), made_up(len(GOLDEN)))


CALIBRATION = (
    "A small grey bird ran along the wet sand, just ahead of the wave.",
    "Please close the window before the rain comes in.",
    "The committee will meet again on Thursday at half past four.",
    "Why did nobody tell me that the bridge was closed?",
    "She measured the flour twice, forgot the salt, and served the bread anyway.",
    "What a strange and beautiful noise!",
    "Turn left at the old mill; the house is the second one on the right.",
    "Eighteen thousand people live on the northern side of the river.",
    "He whispered something, and all of them laughed until the lights went out.",
    "If the battery is empty, connect the charger and wait for ten minutes.",
    "Their youngest daughter plays the violin, the cello and, lately, the drums.",
    "Good morning.",
    "Fresh vegetables, thick soup, and a quiet evening were all that he wished for.",
    "Nothing in the letter explained where the money had gone, or who had taken it.",
    "The judge asked the witness to speak more slowly.",
    "Could you measure the height of the shelf once more?",
    "Jupiter and Venus rose together above the frozen lake.",
    "A journey of a thousand miles begins, as they say, with a single step.",
    "Those who arrive after eight o'clock will have to use the back door.",
    "The pleasure was mine, thank you very much.",
)
CHECK = (
    "The tide had carried the boat far beyond the lighthouse.",
    "Is there a pharmacy near the central station?",
    "Seven quick foxes jumped over the lazy dogs, one after the other.",
    "Your parcel has been delivered to the neighbour on the third floor.",
    "After a long argument, they agreed to paint the kitchen yellow.",
    "I would rather have tea, if you do not mind.",
    "The engine coughed, shook, and finally came to life.",
    "Charles thought that the water was much too cold for swimming.",
    "Watch out!",
    "We should leave at dawn, walk along the ridge, and reach the hut before the storm.",
    "Both rooms are usually available in the first week of February.",
    "How much does a ticket to the museum cost for a group of twelve?",
    "The young oak had been planted by her grandfather, who never saw it grow.",
    "Yes, of course.",
    "Measure twice and cut once, the carpenter used to say.",
    "A thin layer of ice covered the path, and every step was an adventure.",
)
GOLDEN = ("The tide is low.", "Is it far to the lighthouse?", "Good morning, neighbour!")
