"""The loops of decoding give token for token what transformers' `generate` gives, and its processors' scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sanderling.decode import loop, scores
from sanderling.decode.loop import Limit, Row
from sanderling.decode.steps import padded, positions
from sanderling.schema.generation import GenerationSettings

VOCABULARY = 23


def model_of(seed: int, kind: str = "gpt2", spread: float = 0.6) -> Any:
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=spread,
            bos_token_id=1, eos_token_id=1,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).eval()
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=32, initializer_range=spread, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


class TorchSteps:
    """A decoder without a cache: the whole of each row is read again at each step."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._rows: list[NDArray[np.int64]] = []

    def start(self, prompts: Sequence[NDArray[np.int64]], cancellation: object = None) -> NDArray[np.float32]:
        self._rows = list(prompts)
        return self._logits()

    def next(self, tokens: NDArray[np.int64], cancellation: object = None) -> NDArray[np.float32]:
        self._rows = [np.append(row, token) for row, token in zip(self._rows, tokens, strict=True)]
        return self._logits()

    def reorder(self, order: NDArray[np.int64]) -> None:
        self._rows = [self._rows[place] for place in order]

    def _logits(self) -> NDArray[np.float32]:
        ids, mask = padded(self._rows, 0)
        with torch.no_grad():
            found = self._model(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                position_ids=torch.tensor(positions(mask)),
            )
        return np.asarray(found.logits[:, -1].numpy(), np.float32)


def end_of(model: Any, prompt: NDArray[np.int64]) -> int:
    """A token that the model generates after some others: with it as the end token, sequences do end."""
    return generated(model, prompt, VOCABULARY, max_new_tokens=8, do_sample=False)[5]


def generated(model: Any, prompt: NDArray[np.int64], end: int, **more: Any) -> list[int]:
    """New tokens of transformers' `generate`, up to the end token."""
    mask = torch.ones(1, len(prompt), dtype=torch.int64)
    with torch.no_grad():
        found = model.generate(
            torch.tensor(prompt[None]), attention_mask=mask, pad_token_id=0, eos_token_id=end, **more
        )  # fmt: skip
    new: list[int] = found[0, len(prompt) :].tolist()
    return new[: new.index(end) + 1] if end in new else new


def prompts_of(seed: int, count: int) -> list[NDArray[np.int64]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(4, VOCABULARY, int(draw.integers(1, 9))) for _ in range(count)]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 6},
        {"no_repeat_ngram_size": 3, "repetition_penalty": 0.7, "min_new_tokens": 3},
    ],
)
def test_greedy_is_token_for_token_that_of_generate(kind: str, chosen: dict[str, Any]) -> None:
    ended = 0
    for seed in range(2):
        model = model_of(seed, kind)
        asked = [Row(prompt, Limit(12, "length"), None) for prompt in prompts_of(seed, 3)]
        end = end_of(model, asked[0].prompt)
        settings_ = GenerationSettings(max_new_tokens=12, **chosen)
        steps = list(loop.rows(TorchSteps(model), asked, settings_, (end,), lambda row, token: False))
        assert len(steps) == sum(len(row.tokens) for row in asked)
        for row in asked:
            assert row.tokens == generated(model, row.prompt, end, max_new_tokens=12, do_sample=False, **chosen)
            assert row.reason == ("stop_token" if row.tokens[-1] == end else "length")
            ended += row.reason == "stop_token"
    assert ended or chosen.get("min_new_tokens")


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.5, 2.0])
def test_beams_are_token_for_token_those_of_generate(early_stopping: Any, length_penalty: float) -> None:
    ended = 0
    for seed in range(2):
        model = model_of(seed)
        for count, more in ((4, {}), (3, {"min_new_tokens": 4}), (2, {"repetition_penalty": 1.3})):
            (prompt,) = prompts_of(seed + 100, 1)
            end = end_of(model, prompt)
            chosen = {"num_beams": count, "early_stopping": early_stopping, "length_penalty": length_penalty, **more}
            found = loop.search(
                TorchSteps(model),
                prompt,
                GenerationSettings(max_new_tokens=10, **chosen),
                Limit(10, "length"),
                (end,),
                lambda sequences: np.zeros(len(sequences), bool),
            )
            assert list(found.tokens) == generated(model, prompt, end, max_new_tokens=10, do_sample=False, **chosen)
            ended += found.reason == "stop_token"
    # A penalty above 1 favours sequences that go on to the limit.
    assert ended or length_penalty > 1


SCORES = st.lists(
    st.lists(st.floats(-30, 30, width=32), min_size=7, max_size=7), min_size=1, max_size=4
).map(lambda rows: np.array(rows, np.float32))  # fmt: skip


@given(SCORES, st.data())
@settings(max_examples=60)
def test_scores_are_those_of_transformers_processors(values: NDArray[np.float32], data: Any) -> None:
    length = data.draw(st.integers(1, 9))
    draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
    sequences = draw.integers(0, 7, (len(values), length))
    ids, given_ = torch.tensor(sequences), torch.tensor(values)
    penalty = data.draw(st.floats(0.25, 4))
    size = data.draw(st.integers(1, 4))
    k = data.draw(st.integers(1, 9))
    temperature = data.draw(st.floats(0.25, 4))
    pairs = [
        (scores.repetition_penalty(values, list(sequences), penalty),
         transformers.RepetitionPenaltyLogitsProcessor(penalty)(ids, given_.clone())),
        (scores.no_repeated_ngrams(values, list(sequences), size),
         transformers.NoRepeatNGramLogitsProcessor(size)(ids, given_.clone())),
        (scores.top_k(values, k), transformers.TopKLogitsWarper(k)(ids, given_.clone())),
        (scores.warped(values, GenerationSettings(temperature=temperature, top_k=0)),
         transformers.TemperatureLogitsWarper(temperature)(ids, given_.clone())),
        (scores.without(values, [2, 5]), transformers.SuppressTokensLogitsProcessor([2, 5])(ids, given_.clone())),
        (scores.log_softmax(values), torch.log_softmax(given_, dim=-1)),
    ]  # fmt: skip
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected.numpy(), rtol=2e-5, atol=2e-6)


@given(st.lists(st.integers(-40, 40), min_size=7, max_size=7, unique=True), st.integers(1, 99))
@settings(max_examples=60)
def test_top_p_keeps_what_transformers_keeps(values: list[int], percent: int) -> None:
    # Whole numbers apart, so that no sum of probabilities is a hair's breadth from the bound.
    array = np.array([values], np.float32) / 4
    found = scores.top_p(array, percent / 100)
    expected = transformers.TopPLogitsWarper(percent / 100)(None, torch.tensor(array)).numpy()
    near = np.isclose(np.sort(scores.log_softmax(array))[0], np.log(1 - percent / 100), atol=1e-4).any()
    assert near or np.array_equal(np.isfinite(found), np.isfinite(expected))
