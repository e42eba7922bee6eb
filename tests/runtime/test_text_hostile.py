"""Texts and tokenizers that are wrong, huge or cut: typed errors, bounded reading, nothing lost silently."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny_bundles

from sanderling.errors import BundleError, TextError
from sanderling.preprocess import text as module
from sanderling.preprocess.text import TextEncoder
from sanderling.results import TextReport
from sanderling.schema.preprocessing import TextPreprocessing

TOKENIZER = tiny_bundles.tokenizer().to_str().encode()
TEN_MEGABYTES = 10 * 2**20


class PanicException(BaseException):
    """Stands for a panic inside the tokenizer, which derives from BaseException alone."""


class Failing:
    """A tokenizer that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def encode(self, text: str) -> Any:
        raise self.error

    def encode_batch(self, texts: list[str]) -> Any:
        raise self.error


class Reading:
    """A tokenizer that notes how many characters it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.read: list[int] = []

    def encode(self, text: str) -> Any:
        self.read.append(len(text))
        return self.tokenizer.encode(text)


def encoder(**settings: Any) -> TextEncoder:
    stated = TextPreprocessing("tokenizer.json", **{"max_tokens": 16, **settings})
    return TextEncoder(TOKENIZER, stated, "tokenizer.json")


@pytest.mark.parametrize(
    ("text", "where"),
    [("\ud83d", "U+D83D, at position 0"), ("ab\udc80", "U+DC80, at position 2"), ("a\udfff\ud800", "U+DFFF, at pos")],
)
def test_a_lone_surrogate_is_named_with_its_place(text: str, where: str) -> None:
    with pytest.raises(TextError) as raised:
        encoder().encode(["fine", text])
    assert "Text 1 holds a lone surrogate" in str(raised.value)
    assert where in str(raised.value)
    cleaned = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert encoder().encode([cleaned])[0].length >= 2


@pytest.mark.parametrize("value", [None, 3, 2.5, b"bytes", ["nested"], {"a": 1}])
def test_what_is_no_text_is_named(value: Any) -> None:
    with pytest.raises(TextError) as raised:
        encoder().encode(["fine", value])
    assert str(raised.value) == f"Input 1 is of type {type(value).__name__}; a text (str) was expected."


@pytest.mark.parametrize(
    "unit", ["word ", " ", "x", "\0", "\N{GRINNING FACE}", "e\u0301", "\u0633\u0644 ", "小", "\r\n"]
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_ten_megabytes_are_read_in_part_and_said_so(unit: str, side: str) -> None:
    made = encoder(truncation_side=side)
    reading = made._tokenizer = Reading(made._tokenizer)  # type: ignore[assignment]
    text = unit * (TEN_MEGABYTES // len(unit))
    (encoded,) = made.encode([text])
    assert reading.read in ([module._FIRST_READ], [module._FIRST_READ, module._LAST_READ])
    assert encoded.report.characters_unread == len(text) - reading.read[-1]
    assert not encoded.report.complete
    assert encoded.ids.tolist() == encoder(truncation_side=side).encode([unit * 4096])[0].ids.tolist()


def test_a_text_is_read_as_far_as_its_tokens_are_needed() -> None:
    made = encoder()
    reading = made._tokenizer = Reading(made._tokenizer)  # type: ignore[assignment]
    blank = " " * (3 * module._FIRST_READ)
    (encoded,) = made.encode([blank + "a b c"])
    assert encoded.ids.tolist() == tiny_bundles.token_ids("a b c")
    assert encoded.report.complete
    assert reading.read == [module._FIRST_READ, len(blank) + 5]


def test_a_model_that_takes_more_tokens_reads_further() -> None:
    max_tokens = 200_000
    text = "a " * max_tokens
    (encoded,) = encoder(max_tokens=max_tokens).encode([text])
    assert encoded.report == TextReport(max_tokens, 2)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("room", [1, 2, 5, 50])
def test_where_the_reading_stops_does_not_change_the_tokens(side: str, room: int) -> None:
    """A word that the first step of reading cuts through: whole it is too long for WordPiece, its parts are not."""
    few, word = " b" * 10, "a" * 150
    blank = " " * (module._FIRST_READ - len(few) - room)
    text = f"{few}{blank}{word} c" if side == "right" else f"c {word}{blank}{few}"
    (encoded,) = encoder(truncation_side=side).encode([text])
    assert encoded.ids.tolist() == tiny_bundles.token_ids(text)
    assert encoded.report.complete


def test_a_panic_inside_the_tokenizer_is_a_text_error() -> None:
    made = encoder()
    made._tokenizer = Failing(PanicException("called `Option::unwrap()` on a `None` value"))  # type: ignore[assignment]
    for texts in (["one"], ["one", "two"]):
        with pytest.raises(TextError, match=r"The tokenizer tokenizer\.json failed on a text: called"):
            made.encode(texts)


def test_an_ordinary_failure_of_the_tokenizer_is_a_text_error() -> None:
    made = encoder()
    made._tokenizer = Failing(RuntimeError("no such token"))  # type: ignore[assignment]
    with pytest.raises(TextError, match="failed on a text: no such token"):
        made.encode(["one"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interrupt_passes_through(error: BaseException) -> None:
    made = encoder()
    made._tokenizer = Failing(error)  # type: ignore[assignment]
    with pytest.raises(type(error)):
        made.encode(["one"])


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"null", b"[]", b"{}", b'{"model": {}}', b"\xff\xfe", TOKENIZER[:200], b"[" * 100_000],
    ids=["empty", "cut", "null", "list", "bare", "no model", "not UTF-8", "half", "deep"],
)
def test_what_is_no_tokenizer_is_a_bundle_error(raw: bytes) -> None:
    with pytest.raises(BundleError, match=r"where is no tokenizer: .*Export the bundle again\."):
        TextEncoder(raw, TextPreprocessing("tokenizer.json", 16), "where")


def test_a_vocabulary_that_lacks_the_unknown_token_is_a_typed_error() -> None:
    broken = json.loads(TOKENIZER)
    broken["model"]["unk_token"] = "[NOWHERE]"
    made = TextEncoder(json.dumps(broken).encode(), TextPreprocessing("tokenizer.json", 16), "tokenizer.json")
    with pytest.raises(TextError, match="failed on a text"):
        made.encode(["\N{SNOWMAN}"])
