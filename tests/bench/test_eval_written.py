"""`eval` of models that write, on bundles whose answers numpy gives independently, metrics computed by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_language
from PIL import Image
from tiny_language import PICTURES, TURN, ids_of, reference_asked, reference_greedy, reference_logits, reference_seen

pytest.importorskip("sklearn.metrics")
sacrebleu = pytest.importorskip("sacrebleu")

import sanderling  # noqa: E402
from sanderling.errors import BenchError, EvalError  # noqa: E402
from sanderling.tasks.text_generation import TextGenerator  # noqa: E402
from sanderling_bench import wording  # noqa: E402
from sanderling_bench.evaluation import EvalPlan, evaluate  # noqa: E402
from sanderling_bench.evaluation_record import EvalRecord  # noqa: E402
from sanderling_bench.evaluation_table import render  # noqa: E402
from sanderling_bench.inputs import inputs_for  # noqa: E402

TEXTS = ["the sea", "the tide comes in and goes out", "a bird runs along the sea", "low tide, high sand"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, picture in PICTURES.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    return tmp_path


def value(made: EvalRecord, metric: str) -> float:
    found = made.scores["fp32"][metric].value
    assert found is not None
    return found.value


def said(tokens: list[int]) -> str:
    return str(tiny_language.tokenizer().decode(tokens, skip_special_tokens=True))


def test_captions_are_compared_with_their_references(pictures: Path) -> None:
    bundle = tiny_language.captioner_bundle(pictures / "captioner", max_new_tokens=12)
    own = [said(reference_greedy([TURN], 12, seen=reference_seen(picture))) for picture in PICTURES.values()]
    # JSON lines, since what a model of random numbers says is full of odd characters.
    references = [[own[0].upper(), "a bird"], ["the sea at night"], ["a light picture"]]
    data = pictures / "captions.jsonl"
    lines = [
        msgspec.json.encode({"image": f"{name}.png", "caption": "|".join(given)})
        for name, given in zip(PICTURES, references, strict=True)
    ]
    data.write_bytes(b"\n".join(lines))
    made = evaluate(sanderling.open_bundle(bundle), EvalPlan(data, resamples=20))
    split = [[part.strip() for part in "|".join(given).split("|") if part.strip()] for given in references]
    assert made.answers["fp32"]["text"] == tuple(own)
    assert value(made, "exact-match") == pytest.approx(float("|" not in own[0]) / 3)
    widest = max(map(len, split))
    streams = [[given[n] if n < len(given) else None for given in split] for n in range(widest)]
    expected = sacrebleu.metrics.BLEU().corpus_score(own, streams).score
    assert value(made, "bleu") == pytest.approx(expected)
    assert made.data.kind == "captions"
    assert render(made) is not None


def test_answers_are_compared_with_what_people_answered(pictures: Path) -> None:
    bundle = tiny_language.answerer_bundle(pictures / "answerer", max_new_tokens=3)
    path = pictures / "photo-1.png"
    picture = np.asarray(Image.open(path))
    own = said(reference_greedy([TURN], 3, seen=reference_asked(picture, "dark?")))
    assert "|" not in own
    rows = [
        {"image": path.name, "question": "dark?", "answer": own},
        {"image": path.name, "question": "a?", "answer": "zz"},
    ]
    data = pictures / "asked.jsonl"
    data.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    made = evaluate(sanderling.open_bundle(bundle), EvalPlan(data, resamples=20))
    assert value(made, "exact-match") == 0.5
    assert value(made, "vqa-accuracy") == 0.5
    assert made.truth["references"] == (1, 1)
    for wrong, words in (
        ({"image": "none.png", "question": "a?", "answer": "b"}, "there is no image"),
        ({"image": path.name, "question": " ", "answer": "b"}, "question is empty"),
        ({"image": path.name, "question": "a?", "answer": "|"}, "nothing to compare with"),
        ({"image": path.name, "question": "is it " * 60, "answer": "b"}, "line 1: .*nothing of a question is cut"),
        ({"image": path.name, "answer": "b"}, "there is no 'question'"),
    ):
        data.write_bytes(msgspec.json.encode(wrong))
        with pytest.raises(EvalError, match=words):
            evaluate(sanderling.open_bundle(bundle), EvalPlan(data))
    data.write_bytes(b"")
    with pytest.raises(EvalError, match="has no rows"):
        evaluate(sanderling.open_bundle(bundle), EvalPlan(data))
    with pytest.raises(EvalError, match="is a folder"):
        evaluate(sanderling.open_bundle(bundle), EvalPlan(pictures))


def test_texts_are_read_and_continued(tmp_path: Path) -> None:
    bundle = tiny_language.language_bundle(tmp_path / "writer", max_new_tokens=5)
    data = tmp_path / "texts.tsv"
    data.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    made = evaluate(sanderling.open_bundle(bundle), EvalPlan(data, resamples=20))
    nats, tokens = 0.0, 0
    for text in TEXTS:
        ids = ids_of(text)
        for place in range(1, len(ids)):
            logits = reference_logits(ids[:place]).astype(np.float64)
            nats += float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[ids[place]])
            tokens += 1
    assert value(made, "perplexity") == pytest.approx(np.exp(nats / tokens), rel=1e-4)
    written = [str(text) for text in made.answers["fp32"]["text"]]
    words = [wording._WORD.findall(text.casefold()) for text in written]
    for n in (1, 2):
        runs = [tuple(of[place : place + n]) for of in words for place in range(len(of) - n + 1)]
        assert value(made, f"distinct-{n}") == pytest.approx(len(set(runs)) / len(runs) if runs else float("nan"))
    assert 0 <= value(made, "self-bleu") <= 100
    assert made.data.cut == 0
    data.write_text("text\n" + "the sea " * 8 + "\n", encoding="utf-8")
    assert evaluate(sanderling.open_bundle(bundle), EvalPlan(data, resamples=5)).data.cut == 1


def test_probabilities_of_a_text_are_those_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sanderling.tasks import text_generation

    monkeypatch.setattr(text_generation, "_READ_AT_ONCE", 4)
    with sanderling.load(tiny_language.language_bundle(tmp_path / "writer")) as model:
        assert isinstance(model, TextGenerator)
        ids = ids_of("the tide is low")
        found = model.log_probabilities("the tide is low")
        assert (found.dtype, found.shape) == (np.float64, (len(ids) - 1,))
        for place in range(1, len(ids)):
            logits = reference_logits(ids[:place]).astype(np.float64)
            expected = logits[ids[place]] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            assert found[place - 1] == pytest.approx(expected, abs=1e-4)
        assert len(model.log_probabilities("a")) == 0
        with pytest.raises(sanderling.TextError):
            model.log_probabilities(7)  # type: ignore[arg-type]


def test_vqa_accuracy_by_hand() -> None:
    ten = ["two"] * 3 + ["three"] * 2 + ["a bird"] * 5
    # Of the three who said it two are left of themselves, and of the seven others all three.
    assert wording.vqa_accuracy("2", ten) == pytest.approx((3 * 2 / 3 + 7 * 1) / 10)
    assert wording.vqa_accuracy("Bird.", ten) == 1
    assert wording.vqa_accuracy("three", ten) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert wording.vqa_accuracy("sand", ten) == 0
    assert wording.vqa_accuracy("The Two!", ["two"]) == 1
    assert wording.exact_match("A  bird", ["a bird", "x"]) == 1
    assert wording.exact_match("a bird.", ["a bird"]) == 0


def test_self_bleu_and_distinct_by_hand() -> None:
    same = ["the sea is low today"] * 3
    assert wording.self_bleu(same, 1) == pytest.approx([100.0] * 3)
    assert wording.self_bleu(["alone"], 1) == [0.0]
    assert max(wording.self_bleu(["one two three four", "five six seven eight"], 1)) < 20
    counts = wording.distinct_counts(["a b a", "a c"])
    assert counts[0] == {"distinct-1-new": 2, "distinct-1-all": 3, "distinct-2-new": 2, "distinct-2-all": 2}
    assert counts[1] == {"distinct-1-new": 1, "distinct-1-all": 2, "distinct-2-new": 1, "distinct-2-all": 1}


def test_what_cannot_be_measured_says_so(pictures: Path) -> None:
    bundle = tiny_language.answerer_bundle(pictures / "answerer")
    with pytest.raises(BenchError, match="not measured yet"):
        inputs_for(sanderling.open_bundle(bundle), ())
    with pytest.raises(sanderling.InputError, match="max_memory"):
        sanderling.load(bundle, max_memory="300MB")
