"""Decision trees and their ensembles, with thresholds and sums in float64.

scikit-learn compares float32 values with thresholds of float64 (but in histogram boosting, where values are float64
too). A threshold rounded to float32 sends rows that are close to it the other way, so that a whole leaf's value is
off: here thresholds stay as they are, and values are rounded to float32 where scikit-learn does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sanderling_export.tabular.nodes import Nodes


class Unsupported(Exception):  # noqa: N818 - caught where the step's name is known, and told with it
    """A step cannot be converted exactly; the message says what about it, and what to do."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree as arrays over its nodes; `values` (nodes, targets) count at leaves alone, `left` of which is -1."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.int64]
    values: NDArray[np.float64]


def forest(nodes: Nodes, rows: str, model: Any) -> str:
    """Decision trees, random forests and extra trees: the mean of the trees' values or probabilities."""
    if getattr(model, "n_outputs_", 1) != 1 and hasattr(model, "classes_"):
        raise Unsupported("it has several outputs of labels; export one classifier for each")
    members = getattr(model, "estimators_", [model])
    trees = [_tree(member.tree_, 1.0 / len(members), hasattr(model, "classes_")) for member in members]
    return ensemble(nodes, _as_float32(nodes, rows), trees)


def gradient_boosting(nodes: Nodes, rows: str, model: Any) -> str:
    """Gradient boosting: a constant and the trees' values, through the inverse of the loss's link."""
    if model.init_ != "zero" and not type(model.init_).__name__.startswith("Dummy"):
        raise Unsupported(f"it begins from a model of its own (init={type(model.init_).__name__})")
    stages, outputs = model.estimators_.shape
    trees = []
    for stage in range(stages):
        for output in range(outputs):
            one = _tree(model.estimators_[stage, output].tree_, model.learning_rate, False)
            trees.append(_placed(one, output, outputs))
    base = np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))).ravel()
    raw = ensemble(nodes, _as_float32(nodes, rows), trees, base)
    if not hasattr(model, "classes_"):
        return raw
    return _probabilities(nodes, raw, outputs, 2.0 if model.loss == "exponential" else 1.0)


def histogram_boosting(nodes: Nodes, rows: str, model: Any) -> str:
    """Histogram gradient boosting on numbers, missing ones included."""
    if model.is_categorical_ is not None and np.any(model.is_categorical_):
        raise Unsupported(
            "it splits by categories itself; encode them in a step before it (OrdinalEncoder) and leave out "
            "categorical_features"
        )
    trees = []
    outputs = len(model._predictors[0])
    for stage in model._predictors:
        for output, predictor in enumerate(stage):
            found = predictor.nodes
            leaf = found["is_leaf"].astype(bool)
            tree = Tree(
                found["feature_idx"].astype(np.int64),
                found["num_threshold"].astype(np.float64),
                np.where(leaf, -1, found["left"].astype(np.int64)),
                found["right"].astype(np.int64),
                found["missing_go_to_left"].astype(np.int64),
                found["value"].astype(np.float64)[:, None],
            )
            trees.append(_placed(tree, output, outputs))
    raw = ensemble(nodes, rows, trees, np.asarray(model._baseline_prediction, np.float64).ravel())
    if hasattr(model, "classes_"):
        return _probabilities(nodes, raw, outputs)
    link = type(model._loss.link).__name__
    if link not in ("IdentityLink", "LogLink"):
        raise Unsupported(f"its loss has the link {link}")
    return nodes.add("Exp", raw) if link == "LogLink" else raw


def ensemble(nodes: Nodes, rows: str, trees: Sequence[Tree], base: NDArray[np.float64] | None = None) -> str:
    """`base` and the sum of the trees' values, (n, targets) float64.

    Thresholds and sums are float64; the whole is rounded to float32 once, which is all that the operator gives out.
    So the base is summed with the trees: added after that rounding, it could cancel the digits that are left.
    """
    targets = trees[0].values.shape[1]
    counts = [len(tree.feature) for tree in trees]
    leaf = np.concatenate([tree.left < 0 for tree in trees])
    tree_ids = np.repeat(np.arange(len(trees)), counts)
    node_ids = np.concatenate([np.arange(count) for count in counts])
    values = np.concatenate([tree.values for tree in trees])

    def joined(name: str) -> NDArray[Any]:
        return np.where(leaf, 0, np.concatenate([getattr(tree, name) for tree in trees]))

    places = np.flatnonzero(leaf)
    # Most leaves of a boosted tree of one class add nothing to the others.
    owner, target = np.nonzero(values[places]) if targets > 1 else (np.arange(len(places)), np.zeros(len(places), int))
    started = {} if base is None else {"base_values_as_tensor": _doubles("base", base)}
    summed = nodes.add(
        "TreeEnsembleRegressor",
        rows,
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_featureids=joined("feature").tolist(),
        nodes_modes=["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf],
        nodes_values_as_tensor=_doubles("thresholds", joined("threshold")),
        nodes_truenodeids=joined("left").tolist(),
        nodes_falsenodeids=joined("right").tolist(),
        nodes_missing_value_tracks_true=joined("missing_left").tolist(),
        target_treeids=tree_ids[places][owner].tolist(),
        target_nodeids=node_ids[places][owner].tolist(),
        target_ids=target.tolist(),
        target_weights_as_tensor=_doubles("leaves", values[places][owner, target]),
        **started,
    )
    return nodes.cast(summed, TensorProto.DOUBLE)


def _tree(tree: Any, scale: float, labels: bool) -> Tree:
    """A tree of scikit-learn's `tree_`, its values times `scale`; of `labels` they are shares that sum to 1."""
    values = tree.value[:, 0, :] if labels else tree.value[:, :, 0]
    if labels:
        values = values / values.sum(axis=1, keepdims=True)
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
    return Tree(
        tree.feature.astype(np.int64),
        tree.threshold.astype(np.float64),
        tree.children_left.astype(np.int64),
        tree.children_right.astype(np.int64),
        missing.astype(np.int64),
        values.astype(np.float64) * scale,
    )


def _placed(tree: Tree, output: int, outputs: int) -> Tree:
    """A tree of one value as one of several outputs."""
    values = np.zeros((len(tree.feature), outputs))
    values[:, output] = tree.values[:, 0]
    return Tree(tree.feature, tree.threshold, tree.left, tree.right, tree.missing_left, values)


def _probabilities(nodes: Nodes, raw: str, outputs: int, scale: float = 1.0) -> str:
    if outputs > 1:
        return nodes.add("Softmax", raw, axis=1)
    # Each side by itself: 1 - p would lose the digits of a small probability.
    sides = nodes.concat([nodes.add("Neg", raw), raw])
    return nodes.add("Sigmoid", sides if scale == 1.0 else nodes.add("Mul", sides, nodes.constant(scale)))


def _as_float32(nodes: Nodes, rows: str) -> str:
    return nodes.cast(nodes.cast(rows, TensorProto.FLOAT), TensorProto.DOUBLE)


def _doubles(name: str, values: NDArray[Any]) -> Any:
    return helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], values.astype(np.float64).tolist())
