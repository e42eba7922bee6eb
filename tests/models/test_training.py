"""The scripts that train: the split, runs that are seeded and resumed, what they leave; on a model of few weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra [export] is not installed")
transformers = pytest.importorskip("transformers", reason="the extra [export] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MODELS = Path(__file__).resolve().parents[2] / "models"
sys.path.insert(0, str(MODELS))
try:
    import train as script
    from training import card, finetune, sentences, steps
finally:
    sys.path.remove(str(MODELS))

WORDS = {"good": 2.5, "fine": 1.0, "flat": 0.1, "poor": -1.0, "bad": -2.5}
SETTINGS = finetune.Settings(epochs=3, batch=4, learning_rate=3e-2, save_every=3)


def small_model(labels: int = 2) -> Any:
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, num_labels=labels,
    )  # fmt: skip
    torch.set_num_threads(1)
    return transformers.BertForSequenceClassification(config)


def separable(count: int = 60) -> tuple[finetune.Tokens, list[int]]:
    """Sequences of 3 to 7 tokens, whose label is whether they hold a 5 or a 6."""
    labels = [index % 2 for index in range(count)]
    return [[2, 5 + label, *range(10, 11 + index % 5), 3] for index, label in enumerate(labels)], labels


@given(st.text(max_size=40))
def test_case_and_blanks_make_no_other_text(text: str) -> None:
    assert sentences.is_held_out(text) == sentences.is_held_out(f"  {text.casefold()}\t")


def test_a_fifth_is_held_out() -> None:
    held = sum(sentences.is_held_out(f"sentence {number}") for number in range(4000))
    assert 0.17 < held / 4000 < 0.23


def test_the_examples_of_each_task(data: Path) -> None:
    train, held_out = sentences.examples("sentiment", data)
    both = [*train, *held_out]
    assert {example.text.split()[0] for example in both} == set(WORDS) - {"flat"}
    assert all(example.label == (WORDS[example.text.split()[0]] > 0) for example in both)
    assert not {example.text for example in train} & {example.text for example in held_out}
    assert all(sentences.is_held_out(example.text) for example in held_out)
    train, held_out = sentences.examples("topic", data)
    assert len(train) + len(held_out) == 4 * 50
    assert all(sentences.KINDS[example.label] == example.kind for example in [*train, *held_out])


def test_data_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDERLING_DATA", str(tmp_path))
    assert sentences.folder() == tmp_path / "sentiment"
    with pytest.raises(FileNotFoundError, match="SANDERLING_DATA"):
        sentences.examples("topic")
    (tmp_path / "movie_reviews.tsv").write_text("id\ttext\n1\tgood\n", "utf-8")
    with pytest.raises(ValueError, match="line 2: the columns text and valence"):
        sentences.examples("topic", tmp_path)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    tokens, labels = separable()
    whole, parts = small_model(), small_model()
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    assert finetune.train(whole, tokens, labels, SETTINGS, tmp_path / "whole", lambda line: None)
    told: list[str] = []
    for _ in range(20):
        # A new process begins with whatever state its generator has.
        torch.manual_seed(99)
        parts = small_model()
        if finetune.train(parts, tokens, labels, SETTINGS, tmp_path / "parts", told.append, stop_after=7):
            break
    else:
        raise AssertionError("The run did not come to its end.")
    assert any(line.startswith("resumed after step 6") for line in told)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, parts.state_dict()[name]), name
    assert finetune.predict(parts, tokens) == labels
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [steps.STATE_NAME]


def test_a_state_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    tokens, labels = separable()
    told: list[str] = []
    assert not finetune.train(small_model(), tokens, labels, SETTINGS, tmp_path, told.append, stop_after=4)
    assert (tmp_path / steps.STATE_NAME).is_file()
    other = finetune.Settings(epochs=3, batch=4, learning_rate=1e-3, save_every=3)
    finetune.train(small_model(), tokens, labels, other, tmp_path, told.append, stop_after=1)
    finetune.train(small_model(), tokens, labels[::-1], SETTINGS, tmp_path, told.append, stop_after=1)
    part = small_model()
    part.get_input_embeddings().requires_grad_(False)
    finetune.train(part, tokens, labels, SETTINGS, tmp_path, told.append, stop_after=1)
    assert not any(line.startswith("resumed") for line in told)


def test_batches_hold_every_example_once_and_differ_by_epoch() -> None:
    tokens, _ = separable()
    epochs = [finetune._epoch(tokens, SETTINGS, epoch) for epoch in (0, 1, 0)]
    assert all(sorted(index for batch in epoch for index in batch) == list(range(60)) for epoch in epochs)
    assert epochs[0] == epochs[2] != epochs[1]


def test_what_training_leaves(encoder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "checkpoints" / "sentiment"
    assert not script.train("sentiment", output, SETTINGS, encoder=encoder, data=data, stop_after=5)
    assert not output.exists()
    assert script.train("sentiment", output, SETTINGS, encoder=encoder, data=data)
    assert "resumed after step 3" in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == ["sentiment"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(output)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    train, held_out = sentences.examples("sentiment", data)
    rows = [line.split("\t") for line in (output / "held_out.tsv").read_text("utf-8").splitlines()]
    assert rows[0] == ["text", "label", "kind"]
    assert [row[0] for row in rows[1:]] == [example.text for example in held_out]
    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    with torch.inference_mode():
        said = [
            model.config.id2label[int(model(**tokenizer(row[0], return_tensors="pt")).logits.argmax())]
            for row in rows[1:]
        ]
    right = sum(a == row[1] for a, row in zip(said, rows[1:], strict=True)) / len(said)
    text = (output / "README.md").read_text("utf-8")
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert f"| all | {right:.3f} | {len(held_out)} |" in text
    texts = (output / "texts.txt").read_text("utf-8").splitlines()
    assert set(texts) <= {example.text for example in train}
    assert script.train("sentiment", output, SETTINGS, encoder=encoder, data=data)
    assert "trained already" in capsys.readouterr().out


def test_the_card_counts_by_hand() -> None:
    held_out = [sentences.Example("a", 0, "tweets"), sentences.Example("b", 1, "tweets")] * 50
    text = card.write("sentiment", ("negative", "positive"), held_out, held_out, [0] * 100, SETTINGS, 90.0)
    assert "| tweets | 0.500 | 100 | 0.402 to 0.598 |" in text
    assert "in\n1.5 minutes" in text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "sentences"
    folder.mkdir()
    for kind in sentences.KINDS:
        lines = [f"{number}\t{rating}\t{word} {kind} {number}" for number, (word, rating) in enumerate(
            list(WORDS.items()) * 10
        )]  # fmt: skip
        (folder / f"{kind}.tsv").write_text("id\tvalence\ttext\n" + "\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    import tokenizers

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "_", *sentences.KINDS]
    built = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    built.normalizer = tokenizers.normalizers.BertNormalizer()
    built.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    built.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    built.enable_padding(length=24)
    folder = tmp_path / "encoder"
    transformers.BertTokenizerFast(tokenizer_object=built).save_pretrained(folder)
    transformers.BertModel(small_model().config).save_pretrained(folder)
    return folder
