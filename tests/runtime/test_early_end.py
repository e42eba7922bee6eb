"""Calls that end before their answer: cancelled or out of time, in the tokenizer, in the queue for cores, in a run."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles
from onnx import TensorProto, helper

import sanderling
from sanderling.cancellation import Cancellation
from sanderling.cores import Budget
from sanderling.errors import CancelledError, DeadlineError, ModelClosedError
from sanderling.preprocess.text import TextEncoder
from sanderling.schema.variants import Component, Form, TensorSpec, Tolerance, Variant
from sanderling.session import Session

NUMBERS = TensorSpec("numbers", "float32", ("n",))
TOTALS = TensorSpec("totals", "float32", ("n",))
# Iterations of the graph that would run for hours if nothing ended it.
FOR_HOURS = 2**40


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that adds its input to itself in a loop of nearly no end."""
    path = tmp_path_factory.mktemp("endless") / "model.onnx"
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum", "numbers"], ["added"]),
            helper.make_node("Identity", ["going"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("added", TensorProto.FLOAT, ["n"]),
        ],
    )
    loop = helper.make_node("Loop", ["steps", "forever", "numbers"], ["totals"], body=body)
    weights = {"steps": np.array(FOR_HOURS, np.int64), "forever": np.array(True)}
    tiny_bundles.save_graph(path, ([loop], weights), (NUMBERS,), (TOTALS,))
    return path


@pytest.fixture
def session(endless: Path) -> Session:
    component = Component((NUMBERS,), (TOTALS,), {"fp32": Variant({"padded": Form("model.onnx")}, Tolerance(0.9))})
    return Session(endless, component, threads=1)


FEEDS = {"numbers": np.ones(4, np.float32)}


@pytest.mark.timeout(60)
def test_a_deadline_ends_a_run_in_the_middle(session: Session) -> None:
    with pytest.raises(DeadlineError, match=r"had 0\.2 seconds"):
        session.run(FEEDS, Cancellation(timeout=0.2))


@pytest.mark.timeout(60)
def test_cancelling_ends_a_run_in_the_middle_and_leaves_the_session_usable(session: Session) -> None:
    for _ in range(2):
        cancellation = Cancellation()
        threading.Timer(0.1, cancellation.cancel).start()
        with pytest.raises(CancelledError):
            session.run(FEEDS, cancellation)


@pytest.mark.timeout(60)
def test_closing_while_a_run_is_under_way_lets_it_end(session: Session) -> None:
    cancellation = Cancellation()
    ended: list[type[BaseException]] = []

    def call() -> None:
        try:
            session.run(FEEDS, cancellation)
        except CancelledError as error:
            ended.append(type(error))

    caller = threading.Thread(target=call)
    caller.start()
    session.close()
    with pytest.raises(ModelClosedError):
        session.run(FEEDS)
    cancellation.cancel()
    caller.join(30)
    # It was either under way, and was cancelled, or had not begun, and met the closed session.
    assert not caller.is_alive()
    assert ended in ([CancelledError], [])


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("given", "error"), [(0.05, DeadlineError), (None, CancelledError)])
def test_waiting_for_cores_ends_early(given: float | None, error: type[Exception]) -> None:
    budget = Budget(1)
    cancellation = Cancellation(timeout=given)
    if given is None:
        threading.Timer(0.05, cancellation.cancel).start()
    with budget.use(1), pytest.raises(error), budget.use(1, cancellation):
        pytest.fail("the cores are taken")
    with budget.use(1, Cancellation()):
        pass  # whoever gave up waiting is no longer in the queue


def test_tokenizing_ends_between_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_bundles.TextPreprocessing("tokenizer.json", max_tokens=tiny_bundles.MAX_TOKENS)
    encoder = TextEncoder(tiny_bundles.tokenizer().to_str().encode(), settings, "tokenizer.json")
    texts = ["the sea " * 100_000] * 30 + ["the sea"]
    cancellation = Cancellation()
    seen: list[int] = []
    encode = TextEncoder._encode

    def noting(self: TextEncoder, pieces: list[str]) -> Any:
        seen.append(len(pieces))
        cancellation.cancel()
        return encode(self, pieces)

    monkeypatch.setattr(TextEncoder, "_encode", noting)
    with pytest.raises(CancelledError):
        encoder.encode(texts, None, cancellation)
    assert len(seen) == 1
    assert seen[0] < 10


def test_texts_encoded_in_parts_are_those_encoded_at_once() -> None:
    settings = tiny_bundles.TextPreprocessing("tokenizer.json", max_tokens=tiny_bundles.MAX_TOKENS)
    encoder = TextEncoder(tiny_bundles.tokenizer().to_str().encode(), settings, "tokenizer.json")
    texts = ["sea " * (count * 4000) + f"edge {count}" for count in range(40)]
    for found, text in zip(encoder.encode(texts), texts, strict=True):
        assert found.ids.tolist() == tiny_bundles.token_ids(text)


def test_a_call_out_of_time_says_so_and_the_next_is_answered(embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle) as model:
        for inputs in ("sea", ["sea"] * 200):
            with pytest.raises(DeadlineError, match="Give it more time"):
                model(inputs, cancellation=Cancellation(timeout=1e-9))
        assert model("sea", cancellation=Cancellation(timeout=60)).embedding.shape == (8,)


@pytest.mark.timeout(60)
def test_awaiting_does_not_block_the_loop_and_cancelling_the_task_ends_the_run(
    session: Session, embedding_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def run(self: Session, feeds: Any, cancellation: Cancellation | None = None) -> Any:
        begun.set()
        return real(session, FEEDS, cancellation)

    async def scenario(model: Any) -> int:
        task = asyncio.create_task(model.acall("sea"))
        turns = 0
        while not begun.is_set():
            turns += 1
            await asyncio.sleep(0.001)
        for _ in range(5):
            turns += 1
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return turns

    with sanderling.load(embedding_bundle) as model:
        real = Session.run
        monkeypatch.setattr(Session, "run", run)
        # asyncio.run waits for its threads: it only comes back because the run really ended.
        assert asyncio.run(scenario(model)) >= 5
