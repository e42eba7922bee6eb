"""Single steps that are written down here, since their own conversion is inexact, or knows float32 alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from sanderling_export.tabular import trees
from sanderling_export.tabular.nodes import Nodes
from sanderling_export.tabular.trees import Unsupported

Convert = Callable[[Nodes, str, Any], str]


def imputer(nodes: Nodes, rows: str, step: Any) -> str:
    """SimpleImputer on numbers: the statistic in a gap's place, and the columns that say where gaps were."""
    fill = np.asarray(step.statistics_, np.float64)
    kept = np.arange(len(fill)) if step.keep_empty_features else np.flatnonzero(~np.isnan(fill))
    gaps = _gaps(nodes, rows, step.missing_values)
    filled = nodes.add("Where", gaps, nodes.constant(np.nan_to_num(fill)[None]), rows)
    found = [filled if len(kept) == len(fill) else nodes.columns(filled, kept)]
    if step.add_indicator and len(step.indicator_.features_):
        marks = nodes.cast(_gaps(nodes, rows, step.indicator_.missing_values), TensorProto.DOUBLE)
        found.append(nodes.columns(marks, step.indicator_.features_))
    return nodes.concat(found)


def polynomial(nodes: Nodes, rows: str, step: Any) -> str:
    """PolynomialFeatures: each feature is a product of columns, of which one stands beside the others for 1."""
    powers = np.asarray(step.powers_)
    width = powers.shape[1]
    degree = max(1, int(powers.sum(axis=1).max()))
    factors = np.full((len(powers), degree), width)
    for place, exponents in enumerate(powers):
        chosen = np.repeat(np.arange(width), exponents)
        factors[place, : len(chosen)] = chosen
    ones = nodes.add("Add", nodes.add("Mul", nodes.columns(rows, [0]), nodes.constant(0.0)), nodes.constant(1.0))
    extended = nodes.concat([rows, ones])
    product = nodes.columns(extended, factors[:, 0])
    for slot in range(1, degree):
        product = nodes.add("Mul", product, nodes.columns(extended, factors[:, slot]))
    return product


def scaler(nodes: Nodes, rows: str, step: Any) -> str:
    """StandardScaler, RobustScaler, MaxAbsScaler and MinMaxScaler, in the order in which each computes."""
    if hasattr(step, "min_"):  # MinMaxScaler multiplies, then adds
        scaled = nodes.add("Mul", rows, nodes.constant(step.scale_[None]))
        moved = nodes.add("Add", scaled, nodes.constant(step.min_[None]))
        if not step.clip:
            return moved
        low, high = step.feature_range
        return nodes.add("Clip", moved, nodes.constant(low), nodes.constant(high))
    means = {"StandardScaler": "mean_", "RobustScaler": "center_"}
    mean = getattr(step, means.get(type(step).__name__, ""), None)
    if not getattr(step, "with_mean", True):
        mean = None
    if mean is not None:
        rows = nodes.add("Sub", rows, nodes.constant(mean[None]))
    if step.scale_ is not None:
        rows = nodes.add("Div", rows, nodes.constant(step.scale_[None]))
    return rows


def linear(nodes: Nodes, rows: str, step: Any) -> str:
    """Linear regressors, and those whose answer is the exponential of a linear one."""
    weights = np.atleast_2d(np.asarray(step.coef_, np.float64))
    bias = np.broadcast_to(np.asarray(step.intercept_, np.float64).ravel(), (weights.shape[0],))
    answer = nodes.add("Gemm", rows, nodes.constant(weights.T), nodes.constant(bias))
    if type(step).__name__ in ("PoissonRegressor", "GammaRegressor"):
        return nodes.add("Exp", answer)
    return answer


def linear_decision(nodes: Nodes, rows: str, step: Any) -> str:
    """Linear classifiers without probabilities: a decision for each class, and for each of two its opposite."""
    answer = linear(nodes, rows, step)
    return nodes.concat([nodes.add("Neg", answer), answer]) if len(step.classes_) == 2 else answer


def support_vectors(nodes: Nodes, rows: str, step: Any) -> str:
    """SVR, NuSVR, SVC and NuSVC: kernel values times dual coefficients; classes by one against one."""
    if getattr(step, "probability", False) is True:
        raise Unsupported(
            "it has probability=True, whose label may be another than the most probable one; leave it out"
        )
    kernel = _kernel(nodes, rows, step)
    if not hasattr(step, "classes_"):
        answer = nodes.add("MatMul", kernel, nodes.constant(np.asarray(step.dual_coef_).T))
        return nodes.add("Add", answer, nodes.constant(np.asarray(step.intercept_)[None]))
    count = len(step.classes_)
    if count == 2:
        answer = nodes.add("MatMul", kernel, nodes.constant(np.asarray(step.dual_coef_).T))
        answer = nodes.add("Add", answer, nodes.constant(np.asarray(step.intercept_)[None]))
        return nodes.concat([nodes.add("Neg", answer), answer])
    if step.decision_function_shape != "ovr":
        raise Unsupported("its decisions are of pairs of classes (decision_function_shape='ovo'); use 'ovr'")
    if not step.break_ties:
        raise Unsupported(
            "of three classes and more its label may be another than the one of the highest decision; set "
            "break_ties=True, which needs no new fit"
        )
    return _one_against_one(nodes, kernel, step, count)


def _one_against_one(nodes: Nodes, kernel: str, step: Any, count: int) -> str:
    """The decision of every pair, and of these the votes with the sums of confidences, as scikit-learn joins them."""
    ends = np.cumsum([0, *step.n_support_])
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    dual = np.asarray(step.dual_coef_, np.float64)
    weights = np.zeros((dual.shape[1], len(pairs)))
    first, second = np.zeros((len(pairs), count)), np.zeros((len(pairs), count))
    for pair, (i, j) in enumerate(pairs):
        weights[ends[i] : ends[i + 1], pair] = dual[j - 1, ends[i] : ends[i + 1]]
        weights[ends[j] : ends[j + 1], pair] = dual[i, ends[j] : ends[j + 1]]
        first[pair, i] = second[pair, j] = 1.0
    decisions = nodes.add("MatMul", kernel, nodes.constant(weights))
    decisions = nodes.add("Add", decisions, nodes.constant(np.asarray(step.intercept_)[None]))
    lost = nodes.cast(nodes.add("Less", decisions, nodes.constant(0.0)), TensorProto.DOUBLE)
    won = nodes.add("Sub", nodes.constant(1.0), lost)
    votes = nodes.add(
        "Add",
        nodes.add("MatMul", won, nodes.constant(first)),
        nodes.add("MatMul", lost, nodes.constant(second)),
    )
    sums = nodes.add("MatMul", decisions, nodes.constant(first - second))
    size = nodes.add("Add", nodes.add("Abs", sums), nodes.constant(1.0))
    share = nodes.add("Div", sums, nodes.add("Mul", size, nodes.constant(3.0)))
    return nodes.add("Add", votes, share)


def _kernel(nodes: Nodes, rows: str, step: Any) -> str:
    vectors = np.asarray(step.support_vectors_, np.float64)
    products = nodes.add("MatMul", rows, nodes.constant(vectors.T))
    gamma = nodes.constant(float(step._gamma))
    if step.kernel == "linear":
        return products
    if step.kernel == "rbf":
        # The difference itself: the sum of squares less twice the product would lose digits of near vectors.
        apart = nodes.add(
            "Sub", nodes.add("Unsqueeze", rows, nodes.constant([1], np.int64)), nodes.constant(vectors[None])
        )
        squared = nodes.add("ReduceSumSquare", apart, nodes.constant([2], np.int64), keepdims=0)
        return nodes.add("Exp", nodes.add("Neg", nodes.add("Mul", gamma, squared)))
    if step.kernel not in ("poly", "sigmoid"):
        raise Unsupported(f"its kernel is {step.kernel!r}; linear, rbf, poly and sigmoid are known")
    moved = nodes.add("Add", nodes.add("Mul", gamma, products), nodes.constant(float(step.coef0)))
    if step.kernel == "sigmoid":
        return nodes.add("Tanh", moved)
    return nodes.add("Pow", moved, nodes.constant(float(step.degree)))


def function(nodes: Nodes, rows: str, step: Any) -> str:
    """FunctionTransformer of one of numpy's functions that ONNX has too."""
    return apply(nodes, rows, step.func)


def apply(nodes: Nodes, rows: str, func: Any) -> str:
    """One of numpy's functions, or None for none."""
    if func is None:
        return rows
    one = nodes.constant(1.0)
    known: dict[Any, Callable[[], str]] = {
        np.exp: lambda: nodes.add("Exp", rows),
        np.log: lambda: nodes.add("Log", rows),
        np.sqrt: lambda: nodes.add("Sqrt", rows),
        np.abs: lambda: nodes.add("Abs", rows),
        np.square: lambda: nodes.add("Mul", rows, rows),
        np.log1p: lambda: nodes.add("Log", nodes.add("Add", rows, one)),
        np.expm1: lambda: nodes.add("Sub", nodes.add("Exp", rows), one),
    }
    if func not in known:
        names = ", ".join(sorted(f"numpy.{known_one.__name__}" for known_one in known))
        raise Unsupported(f"its function is {getattr(func, '__name__', func)!r}; known are {names}")
    return known[func]()


def _gaps(nodes: Nodes, rows: str, marker: Any) -> str:
    if marker is None or marker != marker:
        return nodes.add("IsNaN", rows)
    return nodes.add("Equal", rows, nodes.constant(float(marker)))


CONVERSIONS: dict[str, Convert] = {
    "SimpleImputer": imputer,
    "PolynomialFeatures": polynomial,
    "FunctionTransformer": function,
    **dict.fromkeys(("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"), scaler),
    **dict.fromkeys(
        (
            "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars",
            "LassoLars", "BayesianRidge", "ARDRegression", "HuberRegressor", "SGDRegressor", "LinearSVR",
            "TheilSenRegressor", "QuantileRegressor", "PoissonRegressor", "GammaRegressor",
        ),
        linear,
    ),
    **dict.fromkeys(("LinearSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron"), linear_decision),
    **dict.fromkeys(("SVR", "NuSVR", "SVC", "NuSVC"), support_vectors),
    **dict.fromkeys(
        (
            "DecisionTreeRegressor", "DecisionTreeClassifier", "ExtraTreeRegressor", "ExtraTreeClassifier",
            "RandomForestRegressor", "RandomForestClassifier", "ExtraTreesRegressor", "ExtraTreesClassifier",
        ),
        trees.forest,
    ),
    **dict.fromkeys(("GradientBoostingRegressor", "GradientBoostingClassifier"), trees.gradient_boosting),
    **dict.fromkeys(("HistGradientBoostingRegressor", "HistGradientBoostingClassifier"), trees.histogram_boosting),
}  # fmt: skip
