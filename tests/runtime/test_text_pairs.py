"""Two texts as one input: ids, type ids and losses are the tokenizers library's, whatever is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bundles
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import sanderling
from sanderling.errors import ManifestError, TextError
from sanderling.golden import read_golden
from sanderling.pairs import TextPair
from sanderling.preprocess.text import TextEncoder
from sanderling.schema.preprocessing import TextPreprocessing


def _tokenizer() -> Tokenizer:
    made = Tokenizer.from_str(tiny_bundles.tokenizer().to_str())
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


TOKENIZER = _tokenizer().to_str().encode()


def encoder(max_tokens: int = 16, **settings: object) -> TextEncoder:
    stated = TextPreprocessing("tokenizer.json", max_tokens=max_tokens, **settings)  # type: ignore[arg-type]
    return TextEncoder(TOKENIZER, stated, "tokenizer.json")


def ids(text: str) -> list[int]:
    """The ids of a text without special tokens, whole."""
    return tiny_bundles.token_ids(text, 2**60)[1:-1]


def by_hand(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Longest first: the longer one is cut to the other's length, then both to half the room, the odd token to the
    one that was longer, or to the second where they were equal."""
    short, long = sorted((len(first), len(second)))
    if short + long <= room:
        return first, second
    if short <= room - short:
        keep_short, keep_long = short, room - short
    else:
        keep_short, keep_long = room // 2, room - room // 2
    if len(first) > len(second):
        return first[:keep_long], second[:keep_short]
    return first[:keep_short], second[:keep_long]


@given(st.text(max_size=60), st.text(max_size=60), st.integers(4, 30))
def test_ids_and_losses_of_any_pairs(first: str, second: str, max_tokens: int) -> None:
    (encoded,) = encoder(max_tokens).encode([TextPair(first, second)])
    a, b = by_hand(ids(first), ids(second), max_tokens - 3)
    assert encoded.ids.tolist() == [2, *a, 3, *b, 3]
    assert encoded.type_ids.tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    lost = len(ids(first)) + len(ids(second)) - len(a) - len(b)
    assert (encoded.report.tokens, encoded.report.tokens_lost) == (len(encoded.ids), lost)


def test_only_the_first_is_cut_where_that_is_asked() -> None:
    (encoded,) = encoder(10).encode([TextPair("a b c d e f g h i", "x y z", "only_first")])
    assert encoded.ids.tolist() == [2, *ids("a b c d"), 3, *ids("x y z"), 3]
    assert encoded.report.tokens_lost == 5
    with pytest.raises(TextError, match=r"tokenizer\.json failed on a text"):
        encoder(6).encode([TextPair("a", "t u v w x y z", "only_first")])


def test_texts_and_pairs_share_a_call() -> None:
    pair = TextPair("the sea", "")
    mixed = encoder().encode(["a bird", pair, "x" * 100])
    alone = [encoder().encode([item])[0] for item in ("a bird", pair, "x" * 100)]
    assert [found.ids.tolist() for found in mixed] == [found.ids.tolist() for found in alone]
    assert mixed[1].ids.tolist() == [2, *ids("the sea"), 3, 3]


def test_the_prompt_stands_before_the_first_text() -> None:
    (encoded,) = encoder(prompts={"query": "query "}).encode([TextPair("sea", "bird")], "query")
    assert encoded.ids.tolist() == [2, *ids("query sea"), 3, *ids("bird"), 3]


def test_a_huge_pair_is_read_in_part_and_says_so() -> None:
    (encoded,) = encoder().encode([TextPair("a " * 400_000, "b")])
    assert encoded.ids.tolist() == [2, *ids("a " * 12), 3, *ids("b"), 3]
    assert encoded.report.characters_unread > 0
    assert not encoded.report.complete


@pytest.mark.parametrize("pair", [TextPair("a", 7), TextPair(None, "b"), TextPair("a", "\ud800")])  # type: ignore[arg-type]
def test_what_is_no_text_is_refused(pair: TextPair) -> None:
    with pytest.raises(TextError, match=r"Input 0 is of type|Text 0 holds a lone surrogate"):
        encoder().encode([pair])
    with pytest.raises(TextError, match="longest_first or only_first was expected"):
        encoder().encode([TextPair("a", "b", "neither")])  # type: ignore[arg-type]


def test_a_model_takes_pairs_and_mappings(text_bundle: Path) -> None:
    with sanderling.load(text_bundle) as model:
        assert isinstance(model, sanderling.Classifier)
        single = model(TextPair("the sea", "a bird"))
        named = model({"text": "the sea", "text_pair": "a bird"})
        batch = model([TextPair("the sea", "a bird"), "the sea", {"text": "the sea"}])
        assert isinstance(single, sanderling.Classification)
        np.testing.assert_array_equal(named.logits, single.logits)
        np.testing.assert_allclose(batch[0].logits, single.logits, atol=1e-6)
        np.testing.assert_allclose(batch[1].logits, tiny_bundles.reference_logits("the sea"), atol=1e-5)
        np.testing.assert_array_equal(batch[2].logits, batch[1].logits)
        for wrong in (
            {"text": "a", "second": "b"},
            {},
            {"text_pair": "b"},
            {"text": ["a"]},
            {"text": "a", "text_pair": 7},
        ):
            with pytest.raises(TextError, match="text and text_pair, both str"):
                model(wrong)


def test_a_golden_pair_is_replayed(text_bundle: Path, copy_bundle: object) -> None:
    folder = copy_bundle(text_bundle)  # type: ignore[operator]
    samples = tiny_bundles.find(folder, "samples.json")
    first = samples.read_bytes()
    samples.write_bytes(first.replace(b'"id":"plain"', b'"id":"plain","text_pair":"the sea"'))
    tiny_bundles.reseal(folder)
    golden = read_golden(sanderling.open_bundle(folder))
    assert golden.samples[0].text_pair == "the sea"
    report = sanderling.verify(folder, provider="cpu")
    # The stored answer is that of the first text alone: a pair is another input, and verify sees it.
    assert {check.sample for check in report.failed} == {"plain"}
    samples.write_bytes(first.replace(b'"id":"plain","text":', b'"id":"plain","text_pair":'))
    tiny_bundles.reseal(folder)
    with pytest.raises(ManifestError, match="needs either a text or an image"):
        read_golden(sanderling.open_bundle(folder))
