"""Text as it comes: whole characters, nothing taken back, stop strings never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from sanderling.decode.pieces import Pieces, without_blanks

UNKNOWN = "\ufffd"
Decode = Callable[[Sequence[int]], str]

WORDS = [".", ",", "?", "'", "n't", "'s", "s", "t", "a", "sea", "it", "##s", "##ing", "re", "'re", "wave", "!"]


def of_bytes(tokens: Sequence[int]) -> str:
    """A token a byte, as byte-level tokenizers."""
    return bytes(tokens).decode("utf-8", "replace")


def of_words() -> Decode:
    """Pieces of words, as BERT's."""
    made = Tokenizer(models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="a"))
    made.decoder = decoders.WordPiece(cleanup=False)
    return lambda tokens: str(made.decode(list(tokens)))


def of_blanks() -> Decode:
    """Pieces with blanks and bytes, as Llama's, the first blank of a text taken away."""
    pieces = ["▁sea", "▁", "a", "▁it", "s", "é", *(f"<0x{byte:02X}>" for byte in range(256))]
    made = Tokenizer(models.Unigram([(piece, 0.0) for piece in pieces], unk_id=0, byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return lambda tokens: str(made.decode(list(tokens)))


BYTES = st.one_of(
    st.lists(st.integers(0, 255), max_size=30), st.text(max_size=12).map(lambda text: list(text.encode("utf-8")))
)
CASES: list[tuple[str, Decode, st.SearchStrategy[list[int]], bool]] = [
    ("bytes", of_bytes, BYTES, False),
    ("words", of_words(), st.lists(st.integers(0, len(WORDS) - 1), max_size=25), False),
    ("words cleaned", of_words(), st.lists(st.integers(0, len(WORDS) - 1), max_size=25), True),
    ("blanks", of_blanks(), st.lists(st.integers(0, 261), max_size=25), False),
]


@pytest.mark.parametrize(("name", "decode", "tokens", "clean"), CASES, ids=[case[0] for case in CASES])
def test_pieces_together_are_the_text(
    name: str, decode: Decode, tokens: st.SearchStrategy[list[int]], clean: bool
) -> None:
    @given(tokens)
    @settings(max_examples=120)
    def check(drawn: list[int]) -> None:
        pieces = Pieces(decode, clean=clean)
        shown = "".join(pieces.add(token) for token in drawn)
        whole = decode(drawn)
        # Of bytes in a row that are no characters this tokenizer takes back those that are, and no piece can be.
        whole = pieces.text if name == "blanks" and UNKNOWN in whole else whole
        expected = without_blanks(whole) if clean else whole
        assert expected.startswith(shown)
        assert shown + pieces.end() == expected == pieces.text

    check()


@given(BYTES, st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3))
@settings(max_examples=120)
def test_nothing_of_a_stop_string_is_shown(drawn: list[int], stops: list[str]) -> None:
    pieces = Pieces(of_bytes, stops)
    shown = ""
    for count, token in enumerate(drawn, 1):
        shown += pieces.add(token)
        assert pieces.stopped == any(stop in of_bytes(drawn[:count]) for stop in stops)
        if pieces.stopped:
            break
    shown += pieces.end()
    read = of_bytes(drawn[:count]) if drawn else ""
    assert shown == read[: min([read.find(stop) for stop in stops if stop in read], default=len(read))]


def test_no_piece_breaks_a_character() -> None:
    pieces = Pieces(of_bytes)
    assert [pieces.add(byte) for byte in "é🐦".encode()] == ["", "é", "", "", "", "🐦"]
    assert pieces.end() == ""


def test_blanks_are_those_that_transformers_takes_out() -> None:
    assert without_blanks("it 's late , is n't it ? they 're off ! i 'm ' i 've") == (
        "it's late, isn't it? they're off! i'm'i've"
    )
