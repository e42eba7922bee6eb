"""Issue 6: twenty questions of newcomers, asked of an index of this project's own documentation and source.

The questions and the files that answer them were written down before the index was first asked.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

from checks import ROOT, Context, Row, at_least, built, registry, true
from command_line import must

_QUESTIONS = Path(__file__).with_name("index_questions.tsv")
_INDEXED = ("README.md", "docs", "runtime", "export", "bench")
_FIRST, _LEAST = 3, 16


@registry.check(6, "index-questions")
def questions(context: Context) -> list[Row]:
    folder, index = context.folder / "project", context.folder / "project.index"
    _copy(folder)
    bundle = built("all-minilm-l6-v2")
    context.say("indexing the documentation and the source")
    made = json.loads(must("index", folder, "-m", bundle, "--json"))
    again = json.loads(must("index", folder, "--json"))
    context.say("asking")
    with _QUESTIONS.open(encoding="utf-8", newline="") as file:
        asked = list(csv.DictReader(file, delimiter="\t"))
    missed = []
    for row in asked:
        answer = must("search", index, row["question"], "-k", _FIRST, "--json")
        paths = [json.loads(line)["path"] for line in answer.splitlines()]
        if row["file"] not in paths:
            missed.append(f"{row['question']} {row['file']} not in {', '.join(paths)}")
    return [
        at_least(
            f"questions whose file is among the first {_FIRST}",
            len(asked) - len(missed),
            _LEAST,
            digits=0,
            spread=f"of {len(asked)}; {made['embedded']} files in {made['pieces']} pieces; missed: "
            + ("; ".join(missed) or "none"),
        ),
        true(
            "files embedded again when nothing changed",
            again["embedded"] == 0 and again["unchanged"] == made["embedded"],
            str(again["embedded"]),
            "0",
            spread=f"{again['unchanged']} as before",
        ),
    ]


def _copy(folder: Path) -> None:
    folder.mkdir()
    for name in _INDEXED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
