"""A fitted pipeline step by step into a graph; a step that cannot be converted is told by its name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sanderling.errors import ExportError
from sanderling.reasons import first_line
from sanderling_export import graphs
from sanderling_export.tabular import lookups, steps
from sanderling_export.tabular.columns import Column, take
from sanderling_export.tabular.lookups import Categories, dense
from sanderling_export.tabular.nodes import INPUT, OPSETS, Nodes
from sanderling_export.tabular.trees import Unsupported


@dataclass(frozen=True, slots=True)
class Raw:
    """Columns of the table that no step has changed yet, and imputers that wait for what comes after them."""

    places: tuple[int, ...]
    waiting: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Tap:
    """What one step gave for the samples: to be compared where the whole differs."""

    path: str
    tensor: str
    expected: NDArray[np.float64]


@dataclass
class Walk:
    """The conversion of one pipeline. `kinds` says of each column what the steps that read it take it for."""

    columns: Sequence[Column]
    named: bool
    nodes: Nodes = field(default_factory=Nodes)
    kinds: dict[int, Categories | None] = field(default_factory=dict)
    taps: list[Tap] = field(default_factory=list)

    def predictor(self, model: Any, table: Any) -> str:
        """The whole pipeline; the tensor of its answers, (n, targets) or (n, labels)."""
        return self._estimator(model, Raw(tuple(range(len(self.columns)))), table, "")

    def _estimator(self, step: Any, state: Raw | str, data: Any, path: str) -> str:
        name = type(step).__name__
        if name == "Pipeline":
            *before, (last_name, last) = step.steps
            for step_name, one in before:
                state, data = self._transform(one, state, data, _below(path, step_name))
            return self._estimator(last, state, data, _below(path, last_name))
        where = path or name
        if name == "TransformedTargetRegressor":
            inner = self._estimator(step.regressor_, state, data, _below(path, "regressor"))
            return self._guarded(where, step, lambda: self._untransform(inner, step.transformer_))
        if name in ("VotingRegressor", "VotingClassifier"):
            return self._guarded(where, step, lambda: self._vote(step, state, data, path))
        if name == "MultiOutputRegressor":
            parts = [self._estimator(one, state, data, where) for one in step.estimators_]
            return self.nodes.concat(parts)
        rows = self._materialize(state, where)
        return self._guarded(where, step, lambda: self._convert(step, rows, dense_width(data)))

    def _transform(self, step: Any, state: Raw | str, data: Any, path: str) -> tuple[Raw | str, Any]:
        name = type(step).__name__
        if step is None or (isinstance(step, str) and step == "passthrough"):
            return state, data
        if name == "FunctionTransformer" and step.func is None:
            return state, step.transform(data)
        if name == "Pipeline":
            for step_name, one in step.steps:
                state, data = self._transform(one, state, data, _below(path, step_name))
            return state, data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            after = step.transform(data)
        if name == "SimpleImputer" and isinstance(state, Raw) and not step.add_indicator:
            return Raw(state.places, (*state.waiting, step)), after
        tensor = self._guarded(path, step, lambda: self._changed(step, state, data, path))
        self.taps.append(Tap(f"{path} ({name})", tensor, dense(after)))
        return tensor, after

    def _changed(self, step: Any, state: Raw | str, data: Any, path: str) -> str:
        name = type(step).__name__
        if name == "ColumnTransformer":
            return self._column_transformer(step, state, data, path)
        if name == "FeatureUnion":
            parts = [
                self._materialize(self._transform(one, state, data, _below(path, part))[0], _below(path, part))
                for part, one in step.transformer_list
                if one != "drop"
            ]
            return self.nodes.concat(parts)
        if name in lookups.ENCODERS and isinstance(state, Raw):
            return self._look_up(step, state)
        rows = self._materialize(state, path)
        return self._convert(step, rows, dense_width(data))

    def _look_up(self, step: Any, state: Raw) -> str:
        columns = [self.columns[place] for place in state.places]
        made, described, order = lookups.tables((*state.waiting, step), columns, self.named)
        for place, categories in zip(state.places, described, strict=True):
            known = self.kinds.setdefault(place, categories)
            if known is None or known.values != categories.values:
                raise Unsupported(
                    f"the column {self.columns[place].name!r} is taken for a category here and for something else "
                    "elsewhere; give it to the pipeline twice, under two names"
                )
            self.kinds[place] = Categories(
                categories.values,
                "error" if "error" in (known.unseen, categories.unseen) else "pass",
                "error" if "error" in (known.missing, categories.missing) else "pass",
            )
        return lookups.lookup(self.nodes, INPUT, state.places, made, order)

    def _column_transformer(self, step: Any, state: Raw | str, data: Any, path: str) -> str:
        outputs: list[tuple[int, str]] = []
        for name, transformer, columns in step.transformers_:
            if isinstance(transformer, str) and transformer == "drop":
                continue
            places = _places(step, name, columns, data)
            if not places:
                continue
            inside: Raw | str
            if isinstance(state, Raw):
                inside = Raw(tuple(state.places[place] for place in places), state.waiting)
                if state.waiting:
                    raise Unsupported("an imputer of all columns stands before it; put imputers inside it")
            else:
                inside = self.nodes.columns(state, places)
            part, _ = self._transform(transformer, inside, take(data, places), _below(path, name))
            begin = step.output_indices_[name].start
            outputs.append((begin, self._materialize(part, _below(path, name))))
        if not outputs:
            raise Unsupported("it keeps no column")
        return self.nodes.concat([tensor for _, tensor in sorted(outputs)])

    def _materialize(self, state: Raw | str, path: str) -> str:
        """The state as a tensor: columns of the table are numbers from here on, and the imputers do their work."""
        if isinstance(state, str):
            return state
        for place in state.places:
            column = self.columns[place]
            if column.dtype == "string":
                raise _refused(path, f"the column {column.name!r} is text, and no encoder stands before this step")
            if self.kinds.setdefault(place, None) is not None:
                raise _refused(path, f"the column {column.name!r} is taken for a category elsewhere")
        every = state.places == tuple(range(len(self.columns)))
        rows = INPUT if every else self.nodes.columns(INPUT, list(state.places))
        for step in state.waiting:
            rows = self._guarded(path, step, lambda step=step, rows=rows: steps.imputer(self.nodes, rows, step))
        return rows

    def _convert(self, step: Any, rows: str, width: int) -> str:
        own = steps.CONVERSIONS.get(type(step).__name__)
        return own(self.nodes, rows, step) if own is not None else self._by_library(step, rows, width)

    def _by_library(self, step: Any, rows: str, width: int) -> str:
        import skl2onnx
        from skl2onnx.common.data_types import DoubleTensorType

        probable = hasattr(step, "classes_") and hasattr(step, "predict_proba")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: onnx.ModelProto = skl2onnx.convert_sklearn(
                step,
                initial_types=[("rows_in", DoubleTensorType([None, width]))],
                options={id(step): {"zipmap": False}} if probable else None,
                target_opset=OPSETS,
            )
        try:
            graphs.session(model)
        except Exception as error:
            why = first_line(error, 200)
            raise Unsupported(f"ONNX Runtime cannot run what skl2onnx makes of it in float64 ({why})") from error
        return self.nodes.inline(model, rows)

    def _untransform(self, rows: str, transformer: Any) -> str:
        name = type(transformer).__name__
        if name == "FunctionTransformer":
            return steps.apply(self.nodes, rows, transformer.inverse_func)
        if name == "StandardScaler":
            if transformer.scale_ is not None:
                rows = self.nodes.add("Mul", rows, self.nodes.constant(transformer.scale_[None]))
            return (
                rows
                if not transformer.with_mean
                else self.nodes.add("Add", rows, self.nodes.constant(transformer.mean_[None]))
            )
        raise Unsupported(f"its target goes through {name}; StandardScaler and functions of numpy are known")

    def _vote(self, step: Any, state: Raw | str, data: Any, path: str) -> str:
        if getattr(step, "voting", "soft") != "soft":
            raise Unsupported("it counts votes (voting='hard'), which are no scores; use voting='soft'")
        names = [name for name, one in step.estimators if one != "drop"]
        parts = [
            self._estimator(one, state, data, _below(path, name))
            for name, one in zip(names, step.estimators_, strict=True)
        ]
        weights = np.ones(len(parts)) if step.weights is None else np.asarray(step.weights, np.float64)
        total = self.nodes.add("Mul", parts[0], self.nodes.constant(weights[0]))
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total = self.nodes.add("Add", total, self.nodes.add("Mul", part, self.nodes.constant(weight)))
        return self.nodes.add("Div", total, self.nodes.constant(weights.sum()))

    def _guarded(self, path: str, step: Any, convert: Any) -> str:
        try:
            tensor: str = convert()
        except ExportError:
            raise
        except Unsupported as reason:
            raise _refused(f"{path} ({type(step).__name__})", str(reason)) from reason
        except Exception as error:
            words = f"{type(error).__name__}: {first_line(error, 200)}"
            raise _refused(
                f"{path} ({type(step).__name__})", f"skl2onnx has no exact conversion of it: {words}"
            ) from error
        return tensor


def dense_width(data: Any) -> int:
    """Columns of what a step is given."""
    return int(data.shape[1])


def _places(step: Any, name: str, columns: Any, data: Any) -> list[int]:
    """Which columns of its input a part of a ColumnTransformer reads."""
    known = getattr(step, "_transformer_to_input_indices", {})
    if name in known:
        return [int(place) for place in known[name]]
    width = dense_width(data)
    if isinstance(columns, slice):
        return list(range(width))[columns]
    listed = np.atleast_1d(np.asarray(columns))
    if listed.dtype == bool:
        return [int(place) for place in np.flatnonzero(listed)]
    if listed.dtype.kind in "iu":
        return [int(place) % width for place in listed]
    return [list(data.columns).index(column) for column in listed]


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refused(path: str, why: str) -> ExportError:
    return ExportError(f"The step {path} cannot be converted exactly: {why}. Nothing was written.")
