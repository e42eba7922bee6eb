"""Texts to calibrate, to measure drift, and to keep as golden samples where the user gives none."""

from __future__ import annotations

import random
import re
from pathlib import Path
from pydoc_data.topics import topics

from sanderling.errors import ExportError
from sanderling.pairs import TextPair

# What breaks tokenizers, truncation and pooling; measured with the others, never calibrated on.
HARD = (
    "",
    " ",
    "a",
    "7",
    "\n\t  \n",
    "🙂",
    "👩‍👩‍👧‍👦 went to the 🏖️ with 🐦🐦🐦",
    "三趾鹬沿着海浪奔跑，寻找沙中的小动物。",
    "シギは波打ち際を走る。",
    "طائر صغير يجري على الشاطئ مع الأمواج",
    "ציפור קטנה רצה לאורך החוף",
    "चिड़िया समुद्र के किनारे दौड़ती है",
    "e\u0301cole, naïve, Ångström, \ufb01ne print",
    "zero\u200bwidth\u200djoined\ufeffmarks",
    "bell \x07 escape \x1b[31m null \x00 end",
    "<s> [CLS] </s> [SEP] [MASK] <pad>",
    "aaaaaaaaaa" * 60,
    "https://example.org/a/b?c=d&e=f#g " * 6,
    "SHOUTING AND whispering, 1,234.56 € — at 07:45!",
    "the tide comes in and the tide goes out " * 375,
)

GOLDEN = (
    "A sanderling runs along the edge of the sea.",
    "Low tide.",
    "The ferry leaves at half past six, and whoever misses it waits for the morning boat.",
    "How do I reset the clock of the oven after a power cut?",
    "def area(radius): return 3.14159 * radius ** 2",
    "Nach dem Regen roch der Wald nach Harz und feuchter Erde.",
    "三趾鹬沿着海浪奔跑。",
    "🐦 🌊 tiny birds, big waves!",
    "",
    "x",
    "Invoice 2024-117: 3 boxes at 12.50 EUR each, due within 14 days; please quote the number when you pay.",
    "She counted the steps of the lighthouse, lost count at ninety, and began again from the bottom, "
    "because the view, her grandmother had said, is worth only what the stairs have cost. " * 12,
)

# Two texts as one input: the longer cut, both cut, one empty, and what the texts above have in one.
GOLDEN_PAIRS = (
    TextPair("A sanderling runs along the edge of the sea.", "A bird is on the beach."),
    TextPair("The tide comes in and the tide goes out, and nobody on the beach has counted how often. " * 60, "Sea."),
    TextPair("Which birds follow the waves? " * 90, "Dunlins, sanderlings and a few others do. " * 70),
    TextPair("", "三趾鹬沿着海浪奔跑。 🐦"),
)

_SEED = 20240501
_LONGEST_JOIN = 8


def corpus(count: int, half: int) -> list[str]:
    """`count` English texts of a few words to several paragraphs, from Python's own documentation.

    `half` 0 and 1 draw from different topics, so that what calibrates one never measures the other.
    """
    paragraphs = [
        paragraph
        for name in sorted(topics)[half::2]
        for paragraph in (_plain(part) for part in re.split(r"\n\s*\n", topics[name]))
        if len(paragraph) > 3
    ]
    draw = random.Random(_SEED + half)
    texts = []
    for index in range(count):
        start = draw.randrange(len(paragraphs))
        joined = " ".join(paragraphs[start : start + (draw.randint(2, _LONGEST_JOIN) if index % 8 == 0 else 1)])
        sentence = joined.split(". ")[0] if index % 3 == 1 else joined
        texts.append(sentence)
    return texts


def corpus_pairs(count: int, half: int) -> list[TextPair]:
    """`count` pairs of the texts of `corpus`, a long one with a short one now and then."""
    found = corpus(2 * count, half)
    return [TextPair(first, second) for first, second in zip(found[::2], found[1::2], strict=True)]


def pair(line: str) -> TextPair:
    """The two texts of a line, a tab between them. Raises ExportError."""
    cells = line.split("\t")
    if len(cells) != 2:
        raise ExportError(
            f"A line of the data has {len(cells)} texts ({line[:60]!r}); this model takes pairs: two, a tab between."
        )
    return TextPair(cells[0], cells[1])


def read(path: Path) -> list[str]:
    """One text a line, UTF-8, empty lines left out. Raises ExportError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} cannot be read as texts: {error}. Expected UTF-8, one text a line.") from error
    found = [line for line in lines if line.strip()]
    if len(found) < 2:
        raise ExportError(f"{path} holds {len(found)} texts; at least 2 are needed, 200 are better.")
    return found


def _plain(paragraph: str) -> str:
    return " ".join(paragraph.split())
