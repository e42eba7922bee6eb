"""From texts to symbols: what is written out, what is skipped, where texts and sentences are parted; and espeak-ng."""

from __future__ import annotations

import builtins
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sanderling import InputError, MissingExtraError
from sanderling.preprocess import phonemes
from sanderling.preprocess.english import written_out
from sanderling.schema.sounds import PhonemesPreprocessing
from sanderling.voices.front import VoiceFront
from sanderling.voices.phonemizer import Phonemizer

LETTERS = PhonemesPreprocessing(
    alphabet="characters",
    ids={letter: (ord(letter),) for letter in "abcdefghijklmnopqrstuvwxyz .,;:!?"},
    begin=(1,),
    end=(2,),
    pad=(0,),
    lowercase=True,
    max_symbols=20,
)
IPA = replace(LETTERS, alphabet="espeak", voice="en-us", lowercase=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Dr. Smith met Mrs. Jones.", "Doctor Smith met Missis Jones."),
        ("the U.S. Army", "the U S Army"),
        ("It is in the U.S. The army left.", "It is in the U.S. The army left."),
        ("George W. Bush and J. R. Tolkien", "George W Bush and J R Tolkien"),
        ("We chose plan b. Then we left.", "We chose plan b. Then we left."),
        ("$3.50", "3 dollars and 50 cents"),
        ("$1", "1 dollar"),
        ("$1.01", "1 dollar and 1 cent"),
        ("$0.99", "99 cents"),
        ("$2.00", "2 dollars"),
        ("£1,250", "1,250 pounds"),
        ("€10", "10 euros"),
        ("$1.5 million", "1.5 million dollars"),
        ("the 1990s and the '80s", "the 19 nineties and the eighties"),
        ("on 2020-01-05", "on January 5, 2020"),
        ("on 3/4/2021", "on March 4, 2021"),
        ("pages 10-20", "pages 10 to 20"),
        ("call 555-1234", "call 555 to 1234"),
        ("No. 5, Vol. 3, p. 12", "number  5, volume  3, page  12"),
        ("100km, 1 kg, 3.5 GHz, 20°C", "100 kilometers, 1 kilogram, 3.5 gigahertz, 20 degrees Celsius"),
        ("Henry VIII and the IV drip", "Henry 8 and the IV drip"),
        ("on Main St. near St. Paul", "on Main Street near Saint Paul"),
        ("on Main St. He waved.", "on Main Street. He waved."),
        ("Jan. 5", "January 5"),
        ("salt, pepper, etc.", "salt, pepper, et cetera."),
        ("etc. and so on", "et cetera and so on"),
        ("A cat sat, in 2 a.m. or so, at 10:30.", "A cat sat, in 2 a.m. or so, at 10:30."),
    ],
)
def test_english_is_written_out_where_it_is_read_wrongly(text: str, said: str) -> None:
    assert " ".join(written_out(text).split()) == " ".join(said.split())


@given(st.text(max_size=300))
def test_any_text_is_written_out(text: str) -> None:
    assert isinstance(written_out(text), str)


@given(st.text(alphabet=st.sampled_from("ab .!?\n\tQé🙂你я"), max_size=4000))
def test_parts_are_the_text(text: str) -> None:
    found = list(phonemes.parts(text))
    assert "".join(found) == text[: len("".join(found))]
    assert not text[len("".join(found)) :].strip()
    assert all(part and len(part) <= 4000 for part in found)


def test_long_texts_come_in_parts_of_a_bounded_length() -> None:
    for text in ("word " * 10_000, "w" * 50_000, "A sentence that ends. " * 2000, "Ha! " * 9000):
        found = list(phonemes.parts(text))
        assert "".join(found).strip() == text.strip()
        assert max(map(len, found)) <= 1300
    first = next(phonemes.parts("The first sentences stand there. " * 100))
    assert first.rstrip().endswith(".")
    assert 100 < len(first) < 400


@given(st.text(max_size=200))
def test_what_is_skipped_is_counted(text: str) -> None:
    kept, skipped = phonemes.speakable(text, ("LATIN",))
    again, nothing = phonemes.speakable(kept, ("LATIN",))
    assert again == kept
    assert nothing == {}
    joiners = sum(character in "\u200d\ufe0e\ufe0f\u20e3" for character in text)
    assert len(kept) == len(text) - joiners
    assert sum(skipped.values()) <= len(text)
    assert all(kept.isascii() or unicodedata.category(one) not in ("Cc", "Cs") for one in kept if not one.isspace())


@pytest.mark.parametrize(
    ("text", "kept", "skipped"),
    [
        ("a😀b", "a b", {"😀": 1}),
        ("👩‍👩‍👧 x", "    x", {"👩": 2, "👧": 1}),
        ("café, naïve", "café, naïve", {}),
        ("Привет, world", "      , world", {"П": 1, "р": 1, "и": 1, "в": 1, "е": 1, "т": 1}),
        ("α is 5°C", "α is 5°C", {}),
        ("你好", "  ", {"你": 1, "好": 1}),
        ("\x00a", " a", {"\x00": 1}),
    ],
)
def test_pictures_controls_and_other_scripts_are_skipped(text: str, kept: str, skipped: dict[str, int]) -> None:
    assert phonemes.speakable(text, phonemes.scripts_of("en-us")) == (kept, skipped)


def test_scripts_follow_the_language() -> None:
    assert phonemes.speakable("Привет", phonemes.scripts_of("ru"))[1] == {}
    assert phonemes.speakable("你好", phonemes.scripts_of("cmn"))[1] == {}
    assert phonemes.scripts_of("de") == ("LATIN",)
    assert phonemes.speakable("Привет 你好")[1] == {}


@given(st.lists(st.sampled_from(["a", "b", " ", ",", "."]), max_size=120), st.integers(8, 50))
def test_parted_sentences_are_the_sentence(symbols: list[str], most: int) -> None:
    found = list(phonemes.bounded(symbols, most))
    assert [one for part in found for one in part] == symbols
    assert all(0 < len(part) <= most for part in found)
    assert all(len(part) > most // 2 for part in found[:-1])


def test_sentences_are_parted_at_clauses_then_at_blanks() -> None:
    assert ["".join(part) for part in phonemes.bounded("aaaa bbbb, cccc dddd", 13)] == ["aaaa bbbb,", " cccc dddd"]
    assert ["".join(part) for part in phonemes.bounded("aaaa bbbb cccc dddd", 13)] == ["aaaa bbbb ", "cccc dddd"]


def test_symbols_are_code_points_and_clusters() -> None:
    settings = replace(IPA, ids={"a": (5,), "ɪ": (6,), "aɪ": (7, 8), "\u0303": (9,)}, clusters=(("a", "ɪ"),))
    found = phonemes.spoken("aɪ(de)ã(en)ʒʒ", settings)
    assert found.symbols == ("aɪ", "a", "\u0303")
    assert found.unknown == (("ʒ", 2),)
    assert found.languages == ("de", "en")
    np.testing.assert_array_equal(
        phonemes.ids(found.symbols, settings), np.array([[1, 0, 7, 8, 0, 5, 0, 9, 0, 2]], np.int64)
    )
    assert phonemes.ids((), replace(settings, begin=(), end=())).tolist() == [[0]]


def test_texts_without_a_phonemizer_are_their_letters() -> None:
    (script,) = VoiceFront(LETTERS).prepare(["Hi you. Say: what?"], None)
    assert ["".join(one) for one in script.sentences] == ["hi you.", "say: what?"]


def test_without_the_extra_the_line_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "piper":
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(Phonemizer, "_bridge", None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'pip install "sanderling\[tts\]"'):
        Phonemizer("en-us").sentences("ha")


def test_espeak_says_sentences() -> None:
    pytest.importorskip("piper")
    found = Phonemizer("en-us").sentences("Hello, world. How are you? Fine")
    assert found == ["həlˈoʊ, wˈɜːld.", "hˈaʊ ɑːɹ juː?", "fˈaɪn"]
    with pytest.raises(InputError, match="no voice 'xx-none'"):
        Phonemizer("xx-none").sentences("ha")


@pytest.mark.parametrize(
    ("text", "count"),
    [("Dr. Smith left.", 1), ("He paid $3.50 to Mr. Poe. Then he left.", 2), ("The U.S. Army, etc., came.", 1)],
)
def test_abbreviations_end_no_sentence(text: str, count: int) -> None:
    pytest.importorskip("piper")
    (script,) = VoiceFront(replace(IPA, max_symbols=400)).prepare([text], None)
    assert script.report.sentences == count
