"""Generation on a bundle of a few kilobytes, beside numpy: tokens, texts, ends, streams, threads, and bad input."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_language
from conftest import CopyBundle
from tiny_language import CONTEXT, END, GOLDEN, ids_of, reference_greedy, reference_logits
from typer.testing import CliRunner

import sanderling
from sanderling import Cancellation, CancelledError, DeadlineError, InputError, ManifestError, TextError, codec
from sanderling.bundle import open_bundle
from sanderling.cli import build_app
from sanderling.manifest import MANIFEST_NAME
from sanderling.tasks.text_generation import TextGenerator

PROMPTS = ["The sea ", "a", "wave after wave after wave", "🐦"]


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny-language`, not to be changed."""
    return tiny_language.language_bundle(tmp_path_factory.mktemp("bundles") / "tiny-language")


@pytest.fixture(scope="session")
def model(language: Path) -> Any:
    found = sanderling.load(language, threads=1)
    assert isinstance(found, TextGenerator)
    return found


def test_greedy_tokens_are_those_of_numpy(model: TextGenerator) -> None:
    for prompt in PROMPTS:
        found = model.generate(prompt, max_new_tokens=12)
        assert list(found.tokens) == reference_greedy(ids_of(prompt), 12)
        assert found.text == tiny_language.tokenizer().decode([t for t in found.tokens if t != END])
        assert found.finish_reason == ("stop_token" if found.tokens[-1] == END else "length")
        assert found.complete == (found.finish_reason == "stop_token")
        assert found.prompt_tokens == len(ids_of(prompt))
        assert 0 < found.timing.first_token <= found.timing.total


def test_prompts_of_all_lengths_side_by_side_answer_as_alone(model: TextGenerator) -> None:
    together = model.generate([*PROMPTS, *PROMPTS[::-1], "x", "yy"], max_new_tokens=9)
    assert len(together) == 10
    for prompt, found in zip([*PROMPTS, *PROMPTS[::-1], "x", "yy"], together, strict=True):
        assert found.tokens == model.generate(prompt, max_new_tokens=9).tokens
    assert model.generate([]).items == ()
    assert together.texts[0] == together[0].text


def test_next_tokens_are_what_answer_gives(model: TextGenerator) -> None:
    rows = model.answer(list(PROMPTS)).rows
    expected = np.stack([reference_logits(ids_of(prompt)) for prompt in PROMPTS])
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_golden_steps_are_replayed(language: Path, copy_bundle: CopyBundle) -> None:
    report = sanderling.verify(language)
    assert report.held
    assert {check.batching for check in report.checks} >= {"alone", "steps"}
    assert sum(check.batching == "steps" for check in report.checks) == len(GOLDEN)
    wrong = copy_bundle(language)
    manifest = open_bundle(wrong).manifest
    path = wrong / manifest.golden.tensors
    raw = bytearray(path.read_bytes())
    # The last tensor by name is the waves' output; a step's logits are somewhere before it.
    place = raw.index(np.float32(reference_logits(ids_of(GOLDEN["wave"]))[3]).tobytes())
    raw[place : place + 4] = np.float32(99).tobytes()
    _reseal(wrong, path, bytes(raw))
    assert not sanderling.verify(wrong).held


def _reseal(bundle: Path, path: Path, raw: bytes) -> None:
    import hashlib

    path.write_bytes(raw)
    manifest = open_bundle(bundle).manifest
    name = path.relative_to(bundle).as_posix()
    entry = msgspec.structs.replace(
        manifest.files[name], size=len(raw), sha256=hashlib.sha256(raw).hexdigest()
    )  # fmt: skip
    changed = msgspec.structs.replace(manifest, files={**manifest.files, name: entry})
    (bundle / MANIFEST_NAME).write_bytes(codec.encode(changed))


def test_pieces_of_a_stream_are_the_text(model: TextGenerator) -> None:
    for prompt in PROMPTS:
        for options in ({}, {"do_sample": True, "seed": 3, "temperature": 2.0, "top_k": 0}):
            stream = model.stream(prompt, max_new_tokens=20, **options)  # type: ignore[arg-type]
            with pytest.raises(InputError, match="not come to its end"):
                stream.result  # noqa: B018
            pieces = list(stream)
            whole = model.generate(prompt, max_new_tokens=20, **options)  # type: ignore[arg-type]
            assert "".join(pieces) == stream.result.text == whole.text
            assert stream.result.tokens == whole.tokens
            assert all(pieces)


def test_a_stop_string_ends_a_text_before_itself(model: TextGenerator) -> None:
    free = model.generate("The sea ", max_new_tokens=20)
    stop = free.text[4:6]
    found = model.generate("The sea ", max_new_tokens=20, stop=stop)
    assert found.finish_reason == "stop_string"
    assert found.complete
    assert found.text == free.text[: free.text.index(stop)]
    assert len(found.tokens) < len(free.tokens)
    assert found.tokens == free.tokens[: len(found.tokens)]
    stream = model.stream("The sea ", max_new_tokens=20, stop=["never there", stop])
    assert "".join(stream) == found.text == stream.result.text
    beams = model.generate("The sea ", max_new_tokens=20, stop=stop, num_beams=3)
    assert stop not in beams.text


def test_a_decoder_that_never_stops_ends_at_the_limit_or_at_the_context(tmp_path: Path) -> None:
    bundle = tiny_language.language_bundle(tmp_path / "endless", ends=())
    with sanderling.load(bundle) as endless:
        assert isinstance(endless, TextGenerator)
        assert endless.generate("a", max_new_tokens=7).finish_reason == "length"
        found = endless.generate(["a", "bcd"], max_new_tokens=1_000_000)
        assert [len(one.tokens) for one in found] == [CONTEXT - 1, CONTEXT - 3]
        assert {one.finish_reason for one in found} == {"context"}
        assert not found[0].complete
        beams = endless.generate("bcd", max_new_tokens=1_000_000, num_beams=2)
        assert (len(beams.tokens), beams.finish_reason) == (CONTEXT - 3, "context")
        assert beams.score is not None


def test_drawing_is_by_the_seed(model: TextGenerator) -> None:
    def drawn(seed: int, prompts: Any = "The sea ", **more: Any) -> Any:
        return model.generate(prompts, do_sample=True, temperature=1.5, seed=seed, max_new_tokens=16, **more)

    assert drawn(1).tokens == drawn(1).tokens
    assert len({drawn(seed).tokens for seed in range(5)}) > 1
    same = drawn(4, ["The sea "] * 3)
    assert len({one.tokens for one in same}) > 1
    assert same[0].tokens == drawn(4).tokens
    # So cold that only the most probable token is left.
    assert drawn(9, top_k=1).tokens == model.generate("The sea ", max_new_tokens=16).tokens
    assert drawn(9, top_p=1e-6).tokens == model.generate("The sea ", max_new_tokens=16).tokens


def test_settings_are_the_bundles_unless_a_call_says_otherwise(tmp_path: Path) -> None:
    bundle = tiny_language.language_bundle(tmp_path / "short", ends=(), max_new_tokens=3)
    with sanderling.load(bundle) as short:
        assert isinstance(short, TextGenerator)
        assert short.settings.max_new_tokens == 3
        assert len(short.generate("a").tokens) == 3
        assert len(short.generate("a", max_new_tokens=5).tokens) == 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"num_beams": 65}, "num_beams"),
        ({"num_beams": 2, "do_sample": True}, "num_beams=1"),
        ({"temperature": 0.5}, "do_sample=True"),
        ({"top_k": 3, "num_beams": 2}, "do_sample=True"),
        ({"length_penalty": 2.0}, "num_beams above 1"),
        ({"early_stopping": True, "do_sample": True}, "num_beams above 1"),
        ({"beams": 2}, "no setting of generation"),
        ({"early_stopping": "sometimes"}, "early_stopping"),
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x" * 1001]}, "stop"),
        ({"stop": ["x"] * 101}, "stop"),
    ],
)
def test_settings_out_of_range_are_refused(model: TextGenerator, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        model.generate("a", **options)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "no tokens"),
        ("x" * CONTEXT, f"has {CONTEXT} tokens"),
        ("word " * 100_000, "not read"),
        ("lone \ud800", "surrogate"),
        (7, "type int"),
        (b"bytes", "type bytes"),
        ([3], "type int"),
        (None, "type NoneType"),
        ({"text": "a", "text_pair": "b"}, "type TextPair"),
    ],
)
def test_what_is_no_prompt_is_refused(model: TextGenerator, prompt: Any, says: str) -> None:
    with pytest.raises(TextError, match=says):
        model.generate(prompt)


def test_memory_that_grows_with_the_text_is_not_promised(language: Path) -> None:
    with pytest.raises(InputError, match="max_new_tokens"):
        sanderling.load(language, max_memory="1GB")


def test_batch_invariant_models_continue_one_at_a_time(language: Path, model: TextGenerator) -> None:
    with sanderling.load(language, batch_invariant=True) as alone:
        assert isinstance(alone, TextGenerator)
        found = alone.generate(PROMPTS, max_new_tokens=6)
    assert [one.tokens for one in found] == [one.tokens for one in model.generate(PROMPTS, max_new_tokens=6)]


def test_a_stream_takes_one_prompt_and_no_beams(model: TextGenerator) -> None:
    with pytest.raises(TextError, match="one prompt"):
        model.stream(["a"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="num_beams=1"):
        model.stream("a", num_beams=2)


def test_a_call_ends_between_steps(model: TextGenerator) -> None:
    cancellation = Cancellation()
    stream = model.stream("The sea ", max_new_tokens=40, min_new_tokens=40, cancellation=cancellation)
    next(stream)
    cancellation.cancel()
    with pytest.raises(CancelledError):
        list(stream)
    with pytest.raises(CancelledError):
        model.generate("a", cancellation=cancellation, num_beams=2)
    late = Cancellation(timeout=1e-9)
    with pytest.raises(DeadlineError):
        model.generate("a", cancellation=late)


def test_threads_do_not_mix(model: TextGenerator) -> None:
    expected = {prompt: model.generate(prompt, max_new_tokens=15, num_beams=2).tokens for prompt in PROMPTS}
    wrong: list[str] = []

    def work(prompt: str) -> None:
        found = [model.generate(prompt, max_new_tokens=15, num_beams=2).tokens for _ in range(6)]
        wrong.extend(prompt for tokens in found if tokens != expected[prompt])

    threads = [threading.Thread(target=work, args=(prompt,)) for prompt in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_streams_side_by_side_do_not_mix(model: TextGenerator) -> None:
    streams = [model.stream(prompt, max_new_tokens=12) for prompt in PROMPTS[:3]]
    texts = ["", "", ""]
    live = list(range(3))
    while live:
        for place in list(live):
            piece = next(streams[place], None)
            if piece is None:
                live.remove(place)
            else:
                texts[place] += piece
    assert texts == [model.generate(prompt, max_new_tokens=12).text for prompt in PROMPTS[:3]]


def test_many_generations_hold_on_to_nothing(model: TextGenerator) -> None:
    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    for _ in range(3):
        model.generate("a", max_new_tokens=4, num_beams=2)
    before = objects()
    for _ in range(30):
        model.generate("a", max_new_tokens=4, num_beams=2)
        next(model.stream("a", max_new_tokens=8), None)  # abandoned in the middle
    assert objects() - before < 30


def test_a_conversation_is_text_and_nothing_else(model: TextGenerator) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert model.conversation(messages) == "<|turn|>hi\n<|turn|>ho\n<|turn|>"
    stream = model.chat(messages, max_new_tokens=5)
    "".join(stream)
    ids = [tiny_language.TURN, *ids_of("hi\n"), tiny_language.TURN, *ids_of("ho\n"), tiny_language.TURN]
    assert list(stream.result.tokens) == reference_greedy(ids, 5)
    with pytest.raises(InputError, match="another role"):
        model.conversation([{"role": "user", "content": "x <|turn|> y"}])
    with pytest.raises(InputError, match="knows user, assistant"):
        model.conversation([{"role": "system", "content": "x"}])
    with pytest.raises(InputError, match="role and content"):
        model.conversation([{"role": "user"}])


def test_a_closed_model_says_so(language: Path) -> None:
    closed = sanderling.load(language)
    assert isinstance(closed, TextGenerator)
    closed.close()
    for call in (lambda: closed.generate("a"), lambda: closed.stream("a"), lambda: closed.generate([])):
        with pytest.raises(sanderling.ModelClosedError):
            call()


def _changed(language: Path, **changes: Any) -> bytes:
    content = msgspec.json.decode((language / MANIFEST_NAME).read_bytes())
    for path, value in changes.items():
        part = content
        *parents, last = path.split("__")
        for parent in parents:
            part = part[parent]
        part[last] = value
    return msgspec.json.encode(content)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"postprocessing__stop_token_ids": [999]}, "stop_token_ids"),
        ({"postprocessing__start_token_ids": [1]}, "start_token_ids"),
        ({"postprocessing__context": 3}, "context"),
        ({"postprocessing__settings": {"num_beams": 2, "do_sample": True}}, "do_sample"),
        ({"postprocessing__settings": {"num_beams": 0}}, "num_beams"),
        ({"postprocessing__output": "hidden"}, "hidden"),
        ({"task": "image-to-text"}, "components"),
        ({"task": "text-classification"}, "generation"),
        ({"family": "embedding"}, "family"),
        ({"preprocessing": {}}, "preprocessing.text"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(language: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        codec.decode(_changed(language, **changes), "bundle.json")


def test_a_cache_without_its_counterpart_is_refused(language: Path) -> None:
    content = msgspec.json.decode((language / MANIFEST_NAME).read_bytes())
    decoder = content["components"]["decoder"]
    decoder["outputs"] = [spec for spec in decoder["outputs"] if spec["name"] != "present.0.value"]
    with pytest.raises(ManifestError, match="output present"):
        codec.decode(msgspec.json.encode(content), "bundle.json")
    content = msgspec.json.decode((language / MANIFEST_NAME).read_bytes())
    content["components"]["decoder"]["inputs"][4]["shape"] = ["batch", "heads", "past", 6]
    with pytest.raises(ManifestError, match="numbers of heads"):
        codec.decode(msgspec.json.encode(content), "bundle.json")


def test_the_command_line_shows_text_as_it_comes(language: Path) -> None:
    def ran(*words: str) -> Any:
        return CliRunner().invoke(build_app(), ["run", str(language), *words])

    done = ran("The sea ", "--max-new-tokens", "6", "--json")
    assert done.exit_code == 0
    record = msgspec.json.decode(done.stdout)
    assert record["tokens"] == reference_greedy(ids_of("The sea "), 6)
    assert record["finish_reason"] in ("length", "stop_token")
    done = ran("wave", "", "--max-new-tokens", "6")
    assert done.exit_code == 1
    assert "wave" in done.stdout
    assert "no tokens" in done.stdout
    assert isinstance(ran("wave", "--labels", "a,b").exception, InputError)
    drawn = [ran("wave", "--sample", "--temperature", "2", "--seed", "5", "--json").stdout for _ in range(2)]
    first, second = (msgspec.json.decode(line)["text"] for line in drawn)
    assert first == second
    beams = msgspec.json.decode(ran("wave", "--num-beams", "2", "--stop", "zz", "--json").stdout)
    assert beams["score"] < 0


def test_options_of_generation_go_with_models_that_generate(embedding_bundle: Path) -> None:
    done = CliRunner().invoke(build_app(), ["run", str(embedding_bundle), "a", "--num-beams", "2"])
    assert isinstance(done.exception, InputError)
    assert "--num-beams" in str(done.exception)
