"""Labelled rows of a table to cases, checked as the model will read them before it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sanderling.bundle import Bundle
from sanderling.errors import EvalError, TableError
from sanderling.preprocess.tabular import TableEncoder
from sanderling.schema.answers import ClassificationOutput, RegressionOutput
from sanderling_bench.datasets import Row, columns, names_of, number, pick, rows
from sanderling_bench.labelled import Case, LabelNumbers, sample

# Where a column of the model already has the name of the role.
_OTHERWISE = "truth"


class LabelledTable:
    """A file of rows with what is true of each, for one bundle. Columns in `given` (role to name) go before the usual
    names: a model's column has its own name, the truth is `label`, or `target` or the name of what is predicted.

    `target` is the place of the number that is evaluated, of a model that predicts several.
    """

    def __init__(self, bundle: Bundle, path: Path, given: Mapping[str, str]) -> None:
        settings, head = bundle.manifest.preprocessing.tabular, bundle.manifest.postprocessing
        assert settings is not None  # decode() refuses the task without it
        self.path = path
        self.target = 0
        self._name = bundle.manifest.name
        self._encoder = TableEncoder(settings)
        self._absent = settings.missing_values[0] if settings.missing_values else ""
        self._labels = LabelNumbers(head.labels) if isinstance(head, ClassificationOutput) else None
        role = "label" if self._labels else "target"
        self._truth = role if role not in self._encoder.names else _OTHERWISE
        usual: tuple[str, ...] = (self._truth,)
        if isinstance(head, RegressionOutput):
            names = [target.name for target in head.targets]
            self.target = self._place(names, given.get(self._truth))
            usual = (self._truth, names[self.target])
        self._roles = names_of({**{name: (name,) for name in self._encoder.names}, self._truth: usual}, given)

    def columns(self) -> dict[str, str]:
        """The column of each role, as the first row has them."""
        return columns(self.path, self._roles)

    def check(self) -> int:
        """Read every row and count them. Raises EvalError: a row that the model does not take, or no row at all."""
        first = next(rows(self.path), None)
        if first is None:
            raise EvalError(f"{self.path} has no rows. {self._wanted()}")
        # A null in JSON lines is a missing value, and may stand in the first row.
        header = self.path.suffix.lower() in (".csv", ".tsv")
        needed = self._roles if header else {self._truth: self._roles[self._truth]}
        missing = [role for role, names in needed.items() if not any(name in first.cells for name in names)]
        if missing:
            met = ", ".join(list(first.cells)[:12]) or "none"
            raise EvalError(
                f"{self.path} has no column for {', '.join(missing[:8])}; it has {met[:300]}. {self._wanted()} "
                f"Tell other names with: --column {missing[0]}=NAME"
            )
        count = 0
        for count, case in enumerate(self._cases(), 1):
            try:
                self._encoder.encode(case.inputs[0], count)
            except TableError as error:
                raise EvalError(f"{self.path}, line {case.line}: {error}") from error
        return count

    def cases(self, count: int, limit: int | None, seed: int) -> Iterator[Case]:
        """The cases of all `count` rows, or of `limit` of them drawn with the seed, in the order of the file."""
        chosen = sample(count, limit, seed)
        return (case for index, case in enumerate(self._cases()) if chosen is None or index in chosen)

    def _place(self, names: list[str], asked: str | None) -> int:
        if len(names) == 1:
            return 0
        if asked in names:
            return names.index(asked)
        raise EvalError(
            f"{self._name} predicts {len(names)} numbers ({', '.join(names[:8])}), one of which is evaluated: "
            f"--column {self._truth}={names[0]}"
        )

    def _wanted(self) -> str:
        columns = ", ".join(" or ".join(names) for names in self._roles.values())
        return f"For {self._name} the columns are: {columns}."

    def _cases(self) -> Iterator[Case]:
        for count, row in enumerate(rows(self.path), 1):
            found = [next((n for n in self._roles[name] if n in row.cells), None) for name in self._encoder.names]
            texts = [self._absent if name is None else row.cells[name] for name in found]
            try:
                values: list[Any] = self._encoder.cells(texts, count)
            except TableError as error:
                raise EvalError(f"{self.path}, line {row.line}: {error}") from error
            yield Case(row.line, (values,), self._truth_of(row))

    def _truth_of(self, row: Row) -> float:
        if self._labels is None:
            return number(self.path, row, self._truth, self._roles[self._truth])
        cell = pick(self.path, row, self._truth, self._roles[self._truth])
        return self._labels.of(self.path, row, cell)
