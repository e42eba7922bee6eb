"""`sanderling eval` on bundles whose answers numpy gives independently, with the metrics computed by hand."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import io
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundles

metrics_of = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")
pytest.importorskip("typer")

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

from sanderling import cli, load, open_bundle  # noqa: E402
from sanderling.errors import BundleError, EvalError, InputError, MissingExtraError  # noqa: E402
from sanderling.trimming import trim  # noqa: E402
from sanderling_bench import evaluation_command, evaluation_record, evaluation_table, retrieval  # noqa: E402
from sanderling_bench.evaluation import EvalPlan, evaluate  # noqa: E402
from sanderling_bench.evaluation_record import EvalRecord, Score  # noqa: E402

Call = Callable[..., tuple[int, str, str]]

_RANDOM = np.random.default_rng(12)
TEXTS = [" ".join(_RANDOM.choice(tiny_bundles._WORDS, size=int(_RANDOM.integers(1, 9)))) for _ in range(300)]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Call:
    """Runs the command line in this process, with `eval` as its entry point adds it."""

    def build_app() -> typer.Typer:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.callback()(lambda: None)
        evaluation_command.register(app)
        return app

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(cli, "build_app", build_app)
        monkeypatch.setattr(sys, "argv", ["sanderling", "eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfdbinary.readouterr()
        return int(ended.value.code or 0), out.decode(), err.decode()

    return run


@pytest.fixture
def reviews(tmp_path: Path) -> tuple[Path, list[int], list[int]]:
    """A file of labelled texts, their labels (two thirds the model's own), and the model's answers by hand."""
    answers = [int(tiny_bundles.reference_logits(text).argmax()) for text in TEXTS]
    truth = [answer if n % 3 else n // 3 % 3 for n, answer in enumerate(answers)]
    lines = [f"{text}\t{tiny_bundles.LABELS[label]}\n" for text, label in zip(TEXTS, truth, strict=True)]
    path = tmp_path / "reviews.tsv"
    path.write_text("text\tlabel\n" + "".join(lines), encoding="utf-8")
    return path, truth, answers


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, list[float]]:
    """A file of 150 pairs of texts with scores, and the scores."""
    scores = np.random.default_rng(5).normal(size=150).round(3).tolist()
    path = tmp_path / "pairs.jsonl"
    entries = zip(TEXTS[::2], TEXTS[1::2], scores, strict=True)
    encoded = [msgspec.json.encode({"text1": a, "text2": b, "score": s}) + b"\n" for a, b, s in entries]
    path.write_bytes(b"".join(encoded))
    return path, scores


def point(record: EvalRecord, variant: str, metric: str) -> float:
    score = record.scores[variant][metric].value
    assert score is not None
    assert score.low is not None
    assert score.high is not None
    assert score.low <= score.value <= score.high
    return score.value


def test_accuracy_and_f1_are_those_by_hand(text_bundle: Path, reviews: tuple[Path, list[int], list[int]]) -> None:
    path, truth, answers = reviews
    bundle = open_bundle(text_bundle)
    steps: list[tuple[str, int, int]] = []
    made = evaluate(bundle, EvalPlan(path, resamples=200), lambda *step: steps.append(step))
    assert made.truth == {"truth": tuple(truth)}
    assert made.answers == {"fp32": {"answer": tuple(answers)}}
    assert point(made, "fp32", "accuracy") == pytest.approx(metrics_of.accuracy_score(truth, answers), abs=1e-12)
    f1 = metrics_of.f1_score(truth, answers, average="macro")
    assert point(made, "fp32", "f1-macro") == pytest.approx(f1, abs=1e-12)
    assert made.bundle.digest == bundle.digest
    assert made.data.kind == "classification"
    assert made.data.files == (
        evaluation_record.DataFile(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), len(TEXTS)),
    )
    assert made.data.lines == tuple(range(2, len(TEXTS) + 2))
    assert made.data.cut == 0
    assert {what for what, _, _ in steps} == {
        "checking reviews.tsv",
        "loading tiny-sentiment",
        "answering",
        "intervals",
    }
    assert evaluation_record.decode(evaluation_record.encode(made), "r") == made


def test_correlations_are_those_by_hand_for_every_variant(
    embedding_bundle: Path, pairs: tuple[Path, list[float]]
) -> None:
    path, scores = pairs
    made = evaluate(open_bundle(embedding_bundle), EvalPlan(path, resamples=100))
    for variant in ("fp32", "int8-dynamic"):
        with load(embedding_bundle, variant=variant) as model:
            a, b = (model(texts).embeddings.astype(np.float64) for texts in (TEXTS[::2], TEXTS[1::2]))
        cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        answers = made.answers[variant]["answer"]
        assert answers == pytest.approx(cosine, abs=1e-6)
        assert point(made, variant, "spearman") == pytest.approx(stats.spearmanr(scores, answers).statistic, abs=1e-12)
        assert point(made, variant, "pearson") == pytest.approx(stats.pearsonr(scores, cosine).statistic, abs=1e-6)
    by_hand = [
        float(tiny_bundles.reference_embedding(a) @ tiny_bundles.reference_embedding(b))
        for a, b in zip(TEXTS[::2], TEXTS[1::2], strict=True)
    ]
    assert made.answers["fp32"]["answer"] == pytest.approx(by_hand, abs=1e-5)
    assert made.scores["fp32"]["spearman"].difference is None
    assert made.scores["int8-dynamic"]["spearman"].difference is not None


def test_fp32_is_evaluated_beside_the_variant_asked_for(
    embedding_bundle: Path, pairs: tuple[Path, list[float]]
) -> None:
    plan = EvalPlan(pairs[0], variants=("int8-dynamic",), metrics=("pearson",), limit=20, resamples=10, seed=4)
    made = evaluate(open_bundle(embedding_bundle), plan)
    assert list(made.scores) == ["fp32", "int8-dynamic"]
    assert list(made.scores["int8-dynamic"]) == ["pearson"]
    assert made.data.cases == len(made.data.lines) == 20
    assert made.data.files[0].rows == 150
    again = evaluate(open_bundle(embedding_bundle), plan)
    assert (again.scores, again.data, again.answers) == (made.scores, made.data, made.answers)


def test_images_are_classified(image_bundle: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    pictures = [random.integers(0, 256, (9, 11, 3), dtype=np.uint8) for _ in range(20)]
    lines = ["image,label\n"]
    for number, picture in enumerate(pictures):
        (tmp_path / f"{number}.png").write_bytes(tiny_bundles.png(picture))
        lines.append(f"{number}.png,{tiny_bundles.IMAGE_LABELS[number % 4]}\n")
    (tmp_path / "shore.csv").write_text("".join(lines), encoding="utf-8")
    answers = [int(tiny_bundles.reference_image_logits(picture).argmax()) for picture in pictures]
    made = evaluate(open_bundle(image_bundle), EvalPlan(tmp_path / "shore.csv", resamples=20))
    truth = [number % 4 for number in range(20)]
    assert point(made, "fp32", "accuracy") == pytest.approx(metrics_of.accuracy_score(truth, answers))

    (tmp_path / "13.png").write_bytes(b"no image")
    with pytest.raises(EvalError, match=r"shore\.csv, line 15: "):
        evaluate(open_bundle(image_bundle), EvalPlan(tmp_path / "shore.csv", resamples=20))


@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
def test_a_model_of_one_label_answers_numbers(activation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_bundles, "LABELS", ("warmth",))
    monkeypatch.setattr(tiny_bundles, "WEIGHT", tiny_bundles.WEIGHT[:, :1])
    monkeypatch.setattr(tiny_bundles, "BIAS", tiny_bundles.BIAS[:1])
    bundle = tiny_bundles.text_classification_bundle(tmp_path / "warmth")
    tiny_bundles.reseal(
        bundle,
        lambda manifest: msgspec.structs.replace(
            manifest, postprocessing=msgspec.structs.replace(manifest.postprocessing, activation=activation)
        ),
    )
    answers = np.array([tiny_bundles.reference_logits(text)[0] for text in TEXTS[:50]], np.float64)
    if activation == "sigmoid":
        answers = 1 / (1 + np.exp(-answers))
    truth = np.random.default_rng(7).normal(size=50).round(2)
    lines = [f"{text}\t{value}\n" for text, value in zip(TEXTS, truth, strict=False)]
    (tmp_path / "a.tsv").write_text("text\ttarget\n" + "".join(lines), encoding="utf-8")
    made = evaluate(open_bundle(bundle), EvalPlan(tmp_path / "a.tsv", resamples=20))
    assert point(made, "fp32", "mae") == pytest.approx(metrics_of.mean_absolute_error(truth, answers), abs=1e-5)
    rmse = metrics_of.root_mean_squared_error(truth, answers)
    assert point(made, "fp32", "rmse") == pytest.approx(rmse, abs=1e-5)


def retrieval_folder(folder: Path) -> tuple[Path, dict[int, dict[int, int]]]:
    """30 queries of which 25 are judged, 200 documents, and the judgements."""
    folder.mkdir()
    corpus = [{"_id": f"d{n}", "title": "sea" if n % 2 else "", "text": text} for n, text in enumerate(TEXTS[:200])]
    queries = [{"_id": f"q{n}", "text": text} for n, text in enumerate(TEXTS[200:230])]
    for name, entries in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    random = np.random.default_rng(8)
    judged = {
        query: {int(d): int(random.integers(1, 4)) for d in random.choice(200, 4, replace=False)} for query in range(25)
    }
    lines = [f"q{q}\td{d}\t{gain}\n" for q, of in judged.items() for d, gain in of.items()]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
    return folder, judged


def test_retrieval_is_that_by_hand(embedding_bundle: Path, tmp_path: Path) -> None:
    folder, judged = retrieval_folder(tmp_path / "set")
    made = evaluate(open_bundle(embedding_bundle), EvalPlan(folder, resamples=50))
    assert (made.settings.query_prompt, made.settings.prompt) == ("query", "passage")
    documents = np.stack(
        [
            tiny_bundles.reference_embedding("passage: " + ("sea " if n % 2 else "") + text)
            for n, text in enumerate(TEXTS[:200])
        ]
    )
    found: dict[str, list[float]] = {name: [] for name in made.scores["fp32"]}
    for query, relevance in judged.items():
        similar = documents @ tiny_bundles.reference_embedding("query: " + TEXTS[200 + query])
        order = np.argsort(-similar, kind="stable").tolist()
        gains = np.zeros(200)
        gains[list(relevance)] = list(relevance.values())
        for depth in (1, 5, 10):
            found[f"recall@{depth}"].append(len(set(order[:depth]) & set(relevance)) / len(relevance))
        found["mrr"].append(1 / (1 + min(order.index(document) for document in relevance)))
        found["ndcg@10"].append(metrics_of.ndcg_score(gains[None], similar[None], k=10))
    for name, values in found.items():
        assert point(made, "fp32", name) == pytest.approx(np.mean(values), abs=2e-3), name
    assert made.data.lines == tuple(range(1, 26))
    assert made.truth == {"relevant": (4,) * 25}
    assert set(made.answers) == {"fp32", "int8-dynamic"}

    assert "25 queries, those of 30 to which a document is relevant: " in shown(made)
    assert "prompts: query for queries, passage for the texts" in shown(made)
    some = evaluate(open_bundle(embedding_bundle), EvalPlan(folder, resamples=5, limit=7, query_prompt="passage"))
    assert some.data.cases == 7
    assert some.settings.query_prompt == "passage"
    picked = [made.answers["fp32"]["mrr"][line - 1] for line in some.data.lines]
    assert picked != list(some.answers["fp32"]["mrr"])  # the prompt counts


def test_vectors_of_a_retrieval_are_bounded(
    embedding_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = retrieval_folder(tmp_path / "set")
    monkeypatch.setattr(retrieval, "MAX_VECTOR_BYTES", 1000)
    with pytest.raises(EvalError, match="200 documents and 25 queries in 2 variants take 14,400 bytes; at most 1,000"):
        evaluate(open_bundle(embedding_bundle), EvalPlan(folder))


def test_texts_of_which_only_a_part_was_seen_are_counted(embedding_bundle: Path, tmp_path: Path) -> None:
    long = "word " * 40
    (tmp_path / "a.tsv").write_text(
        f"text1\ttext2\tscore\n{long}\tsea\t1\nsea\tbird\t2\nbird\tit\t0\n", encoding="utf-8"
    )
    made = evaluate(open_bundle(embedding_bundle), EvalPlan(tmp_path / "a.tsv", resamples=5))
    assert made.data.cut == 1
    assert "only the beginning of 1 texts" in shown(made)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"limit": 0}, "limit is 0; a whole number from 1"),
        ({"resamples": 0}, "resamples is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"metrics": ("mrr",)}, "'mrr' goes with retrieval, this data is for pairs"),
        ({"prompt": "haiku"}, "has no prompt 'haiku'; it has query, passage"),
        ({"query_prompt": "query"}, "--query-prompt query goes with retrieval"),
        ({"data": Path("not-there.tsv")}, "not-there.tsv does not exist"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(
    embedding_bundle: Path, pairs: tuple[Path, list[float]], changed: dict[str, object], message: str
) -> None:
    plan = EvalPlan(**{"data": pairs[0], **changed})  # type: ignore[arg-type]
    with pytest.raises(EvalError, match=message):
        evaluate(open_bundle(embedding_bundle), plan)


def test_what_goes_with_embeddings_is_refused_for_classifiers(
    text_bundle: Path, image_bundle: Path, reviews: tuple[Path, list[int], list[int]], tmp_path: Path
) -> None:
    with pytest.raises(EvalError, match="--prompt query goes with embeddings"):
        evaluate(open_bundle(text_bundle), EvalPlan(reviews[0], prompt="query"))
    with pytest.raises(EvalError, match="is a folder; a file of rows was expected"):
        evaluate(open_bundle(text_bundle), EvalPlan(tmp_path))
    with pytest.raises(EvalError, match="no column for image; it has text, label"):
        evaluate(open_bundle(image_bundle), EvalPlan(reviews[0]))
    with pytest.raises(BundleError, match="has no variant 'int9'"):
        evaluate(open_bundle(text_bundle), EvalPlan(reviews[0], variants=("int9",)))


def shown(record: EvalRecord, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    evaluation_table.show(record, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_every_figure(embedding_bundle: Path, pairs: tuple[Path, list[float]]) -> None:
    made = evaluate(open_bundle(embedding_bundle), EvalPlan(pairs[0], limit=60, resamples=50))
    text = shown(made)
    assert "60 pairs with a score, drawn from 150 rows with the seed 20240229" in text
    for scores in made.scores.values():
        for name, score in scores.items():
            assert f"{name} ↑" in text
            assert score.value is not None
            assert f"{score.value.value:.4f} " in text
            assert f"{score.value.low:.3f}–{score.value.high:.3f}" in text
            if score.difference is not None:
                assert (
                    f"{score.difference.value:+.4f} [{score.difference.low:+.4f}, {score.difference.high:+.4f}]" in text
                )
    assert "Fewer than 100 cases" in text
    # Each figure stays on its line where there are 80 columns.
    narrow = shown(made, 80)
    assert all(line in narrow.splitlines() for line in text.splitlines() if "int8-dynamic" in line)


def test_a_clear_difference_is_coloured_by_what_is_better(
    embedding_bundle: Path, pairs: tuple[Path, list[float]]
) -> None:
    made = evaluate(open_bundle(embedding_bundle), EvalPlan(pairs[0], metrics=("pearson",), resamples=5))
    value = evaluation_record.Interval(0.5, 0.4, 0.6, 5)
    for low, high, higher, style in (
        (0.1, 0.2, True, "green"),
        (-0.2, -0.1, True, "red"),
        (0.1, 0.2, False, "red"),
        (-0.2, -0.1, False, "green"),
        (-0.1, 0.1, True, ""),
    ):
        score = Score(higher, value, evaluation_record.Interval((low + high) / 2, low, high, 5))
        assert str(evaluation_table._difference(score).style) == style
    undefined = msgspec.structs.replace(
        made, scores={name: {"pearson": Score(True, None)} for name in made.settings.variants}
    )
    assert "not defined, since all scores or all answers are the same" in shown(undefined)


def test_the_command_writes_and_prints(
    call: Call, text_bundle: Path, reviews: tuple[Path, list[int], list[int]]
) -> None:
    path, truth, answers = reviews
    output = path.with_name("record.json")
    status, out, err = call(text_bundle, "--data", path, "--resamples", 50, "-o", output)
    assert status == 0, err
    assert f"{metrics_of.accuracy_score(truth, answers):.4f}" in out
    written = evaluation_record.read(output)
    status, out, _ = call(text_bundle, "--data", path, "--resamples", 50, "--json")
    assert status == 0
    printed = evaluation_record.decode(out.encode(), "standard output")
    assert printed.scores == written.scores
    assert printed.settings == written.settings


def test_the_command_says_what_is_wrong(call: Call, text_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("review\tmood\nfine\tcalm\n", encoding="utf-8")
    for arguments, message in (
        (["--data", path], "has no column for text and label; it has review, mood."),
        (["--data", path, "--column", "text"], "--column text: ROLE=NAME was expected"),
        (["--data", path, "-o", tmp_path], "is no place for the record"),
        (["--data", path, "-o", tmp_path / "none" / "r.json"], "is no place for the record"),
    ):
        status, out, err = call(text_bundle, *arguments)
        assert (status, out) == (1, "")
        assert err.splitlines()[-1].startswith("error: ")
        assert message in err
    columns = ["--column", "text=review", "--column", "label=mood"]
    assert call(text_bundle, "--data", path, *columns, "--resamples", 5)[0] == 0


@pytest.mark.parametrize(("module", "package"), [("sklearn", "scikit-learn"), ("scipy", "scipy")])
def test_without_its_extra_the_command_says_how_to_get_it(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(MissingExtraError, match=rf"'{package}'.*pip install \"sanderling\[eval\]\""):
        evaluation_command.evaluate_bundle(Path("bundle"), Path("data.tsv"))


def test_a_record_is_versioned(text_bundle: Path, reviews: tuple[Path, list[int], list[int]], tmp_path: Path) -> None:
    made = evaluate(open_bundle(text_bundle), EvalPlan(reviews[0], resamples=5))
    path = tmp_path / "r.json"
    evaluation_record.write(made, path)
    assert evaluation_record.read(path) == made
    raw = evaluation_record.encode(made)
    for before, after, message in (
        (b'"version":1', b'"version":2', "record version 2; this Sanderling reads version 1"),
        (b"sanderling-eval", b"sanderling-bench", "has the format 'sanderling-bench', expected 'sanderling-eval'"),
        (b'"scores"', b'"stores"', "is no evaluation record"),
    ):
        with pytest.raises(EvalError, match=message):
            evaluation_record.decode(raw.replace(before, after, 1), "r")
    with pytest.raises(EvalError, match="cannot be read"):
        evaluation_record.read(tmp_path / "none.json")


def test_every_field_of_the_record_is_documented(root: Path) -> None:
    text = (root / "docs" / "eval.md").read_text("utf-8")
    structs = (
        evaluation_record.EvalRecord,
        evaluation_record.EvalSettings,
        evaluation_record.Data,
        evaluation_record.DataFile,
        evaluation_record.Score,
        evaluation_record.Interval,
    )
    names = {field.name for struct in structs for field in msgspec.structs.fields(struct)}
    assert [name for name in sorted(names) if name not in text] == []


def test_without_fp32_there_is_nothing_to_differ_from(
    embedding_bundle: Path, pairs: tuple[Path, list[float]], tmp_path: Path
) -> None:
    trim(embedding_bundle, ["int8-dynamic"], tmp_path / "trimmed")
    made = evaluate(open_bundle(tmp_path / "trimmed"), EvalPlan(pairs[0], resamples=5))
    assert list(made.scores) == ["int8-dynamic"]
    assert made.scores["int8-dynamic"]["pearson"].difference is None
    assert "difference" not in shown(made)


def test_the_command_and_the_plan_have_the_same_defaults() -> None:
    options = inspect.signature(evaluation_command.evaluate_bundle).parameters
    plan = EvalPlan(Path("data.tsv"))
    assert {name: options[name].default for name in ("seed", "resamples", "limit", "provider", "threads")} == {
        "seed": plan.seed,
        "resamples": plan.resamples,
        "limit": plan.limit,
        "provider": plan.provider,
        "threads": plan.threads,
    }


def test_shorter_and_smaller_vectors_stand_beside_the_whole(
    embedding_bundle: Path, pairs: tuple[Path, list[float]]
) -> None:
    path, scores = pairs
    plan = EvalPlan(path, variants=("fp32",), resamples=50, dimensions=(4, 8), precisions=("float32", "binary"))
    # Four numbers have no whole byte of bits.
    with pytest.raises(InputError, match="Vectors of 4 numbers have no whole bytes"):
        evaluate(open_bundle(embedding_bundle), plan)
    made = evaluate(
        open_bundle(embedding_bundle),
        EvalPlan(path, variants=("fp32",), resamples=50, dimensions=(4, 8), precisions=("float32", "int8")),
    )
    assert made.settings.variants == ("fp32", "fp32:4", "fp32:4:int8", "fp32:int8")
    assert (made.settings.dimensions, made.settings.precisions) == ((4, 8), ("float32", "int8"))
    with load(embedding_bundle, variant="fp32") as model:
        for name, settings in (
            ("fp32", {}),
            ("fp32:4", {"dimensions": 4}),
            ("fp32:4:int8", {"dimensions": 4, "precision": "int8"}),
            ("fp32:int8", {"precision": "int8"}),
        ):
            first, second = (model(TEXTS[part::2], **settings).floats.astype(np.float64) for part in (0, 1))  # type: ignore
            lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
            expected = (first * second).sum(axis=1) / lengths
            np.testing.assert_allclose(made.answers[name]["answer"], expected, atol=1e-6)
            assert point(made, name, "spearman") == pytest.approx(stats.spearmanr(expected, scores)[0], abs=1e-9)
            assert (made.scores[name]["spearman"].difference is None) == (name == "fp32")
    assert evaluation_record.decode(evaluation_record.encode(made), "r") == made
    shown = io.StringIO()
    evaluation_table.show(made, Console(file=shown, width=80))
    assert "fp32:4:int8" in shown.getvalue()
    assert "a variant with vectors of fewer numbers, or in fewer bytes" in shown.getvalue()


def test_rankings_by_smaller_vectors(embedding_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "bird"}\n{"_id": "r", "text": "the sea"}\n', "utf-8")
    documents = ["a bird runs", "sea of it", "love it", "word", "edge along the sea"]
    rows = "".join(f"{number}\t{text}\n" for number, text in enumerate(documents))
    (tmp_path / "corpus.tsv").write_text(f"id\ttext\n{rows}", "utf-8")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t0\t1\nr\t4\t1\n", "utf-8")
    plan = EvalPlan(tmp_path, variants=("fp32",), resamples=20, dimensions=(3,), precisions=("binary", "float16"))
    with pytest.raises(InputError, match="whole bytes of bits"):
        evaluate(open_bundle(embedding_bundle), plan)
    made = evaluate(
        open_bundle(embedding_bundle), EvalPlan(tmp_path, variants=("fp32",), resamples=20, precisions=("binary",))
    )
    assert made.settings.variants == ("fp32", "fp32:binary")
    with load(embedding_bundle, variant="fp32") as model:
        held = model(documents, prompt="passage", precision="binary").floats  # type: ignore
        asked = model(["bird", "the sea"], prompt="query", precision="binary").floats  # type: ignore
    for place, relevant in enumerate((0, 4)):
        similar = held @ asked[place]
        rank = 1 + int((similar > similar[relevant]).sum()) + int((similar[:relevant] == similar[relevant]).sum())
        assert made.answers["fp32:binary"]["mrr"][place] == pytest.approx(1 / rank)


def test_shapes_go_with_dense_vectors_alone(
    text_bundle: Path, embedding_bundle: Path, reviews: tuple[Path, list[int], list[int]], call: Call
) -> None:
    path, _, _ = reviews
    code, _, err = call(text_bundle, "--data", path, "--precision", "int8")
    assert code == 1
    assert "go with models of one dense vector an input, which tiny-sentiment is not" in " ".join(err.split())
    code, _, err = call(embedding_bundle, "--data", path, "--dimensions", "9")
    assert (code, "dimensions is 9" in err) == (1, True)
