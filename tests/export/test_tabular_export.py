"""Fitted pipelines to bundles: what scikit-learn answers, row by row, and steps that are refused by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sanderling import TableError, load, verify
from sanderling.errors import ExportError
from sanderling.schema.answers import Target

pandas = pytest.importorskip("pandas")
pytest.importorskip("skl2onnx")

from sklearn.compose import ColumnTransformer, TransformedTargetRegressor  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    AdaBoostRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import FeatureUnion, make_pipeline  # noqa: E402
from sklearn.preprocessing import (  # noqa: E402
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC  # noqa: E402
from sklearn.tree import DecisionTreeRegressor  # noqa: E402

from sanderling_export import Column, export_tabular  # noqa: E402
from sanderling_export.tabular.comparison import answers, relative  # noqa: E402

FITTED, CHECKED = 400, 300
NUMBERS, WORDS = ["area", "age"], ["city", "floor"]


def table(missing: float = 0.0) -> Any:
    random = np.random.default_rng(7)
    count = FITTED + CHECKED
    frame = pandas.DataFrame(
        {
            "area": random.gamma(3.0, 30.0, count),
            "age": random.integers(0, 90, count),
            "city": pandas.Series(random.choice(["Oslo", "Porto", "Ghent"], count), dtype=object),
            "floor": random.integers(0, 4, count),
            "lift": random.random(count) < 0.5,
        }
    )
    for name in ("area", "city"):
        frame.loc[random.random(count) < missing, name] = np.nan
    return frame


def price(frame: Any) -> Any:
    city = frame["city"].map({"Oslo": 90.0, "Porto": 20.0, "Ghent": 1.0}).fillna(0.0)
    return 100 + frame["area"].fillna(50.0) * 2 - frame["age"] + city + 5 * frame["floor"]


def encoded(numbers: Any = None, words: Any = None) -> Any:
    return ColumnTransformer(
        [
            ("numbers", numbers or StandardScaler(), NUMBERS),
            ("words", words or OneHotEncoder(handle_unknown="ignore"), WORDS),
        ],
        remainder="passthrough",
    )


def mended() -> Any:
    return encoded(
        make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", drop="first")),
    )


REGRESSORS: dict[str, tuple[Any, float]] = {
    "a linear model": (make_pipeline(encoded(), Ridge()), 0.0),
    "missing values": (make_pipeline(mended(), Ridge()), 0.1),
    "a forest": (make_pipeline(encoded(), RandomForestRegressor(30, random_state=0)), 0.0),
    "one tree": (make_pipeline(encoded(RobustScaler()), DecisionTreeRegressor(random_state=0)), 0.0),
    "gradient boosting": (make_pipeline(encoded(), GradientBoostingRegressor(random_state=0)), 0.0),
    "histogram boosting with gaps": (
        make_pipeline(
            encoded("passthrough", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
            HistGradientBoostingRegressor(max_iter=30),
        ),
        0.1,
    ),
    "histogram boosting with a link": (
        make_pipeline(encoded(), HistGradientBoostingRegressor(max_iter=20, loss="poisson")),
        0.0,
    ),
    "support vectors": (make_pipeline(encoded(), SVR(C=10.0)), 0.0),
    "a perceptron": (
        make_pipeline(encoded(MinMaxScaler()), MLPRegressor(hidden_layer_sizes=(16,), max_iter=60, random_state=0)),
        0.0,
    ),
    "polynomials": (make_pipeline(encoded(make_pipeline(PolynomialFeatures(3), StandardScaler())), Ridge()), 0.0),
    "means of the target": (make_pipeline(encoded(words=TargetEncoder(random_state=0)), LinearRegression()), 0.0),
    "rare categories": (
        make_pipeline(encoded(words=OneHotEncoder(min_frequency=150, handle_unknown="infrequent_if_exist")), Ridge()),
        0.0,
    ),
    "a logarithm of the target": (
        TransformedTargetRegressor(make_pipeline(encoded(), Ridge()), func=np.log1p, inverse_func=np.expm1),
        0.0,
    ),
    "a vote": (
        VotingRegressor(
            [("a", make_pipeline(encoded(), Ridge())), ("b", make_pipeline(mended(), Ridge()))], weights=[1, 3]
        ),
        0.0,
    ),
    "a union": (
        make_pipeline(encoded(), FeatureUnion([("same", "passthrough"), ("scaled", MinMaxScaler())]), Ridge()),
        0.0,
    ),
    "a function": (make_pipeline(encoded(FunctionTransformer(np.log1p)), Ridge()), 0.0),
}
CLASSIFIERS: dict[str, Any] = {
    "logistic": LogisticRegression(),
    "forest": RandomForestClassifier(20, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=15, random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=15),
    "support vectors": SVC(break_ties=True),
    "polynomial support vectors": SVC(kernel="poly", break_ties=True),
    "linear support vectors": LinearSVC(),
    "perceptron": MLPClassifier(hidden_layer_sizes=(8,), max_iter=50, random_state=0),
    "naive Bayes": GaussianNB(),
}


def fitted(model: Any, frame: Any, truth: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(frame.iloc[:FITTED], truth[:FITTED])


def worst(model: Any, bundle: Path, frame: Any) -> float:
    """The largest relative difference of the bundle's answers from scikit-learn's."""
    with load(bundle) as opened:
        return float(relative(opened.answer(opened.front.items(frame)[0]).rows, answers(model, frame)).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_answer_as_scikit_learn(name: str, tmp_path: Path) -> None:
    model, missing = REGRESSORS[name]
    frame = table(missing)
    fitted(model, frame, price(frame))
    bundle = export_tabular(model, tmp_path / "b", frame.iloc[FITTED : FITTED + 50], targets=[Target("price", "EUR")])
    assert worst(model, bundle, frame.iloc[FITTED:]) <= 1e-5
    assert verify(bundle).held


@pytest.mark.slow
@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_answer_as_scikit_learn(name: str, labels: int, tmp_path: Path) -> None:
    frame = table()
    truth = pandas.qcut(price(frame), labels, labels=["low", "mid", "high"][:labels]).astype(object)
    dense = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    model = fitted(make_pipeline(encoded(words=dense), CLASSIFIERS[name]), frame, truth)
    bundle = export_tabular(model, tmp_path / "b", frame.iloc[FITTED : FITTED + 60])
    assert worst(model, bundle, frame.iloc[FITTED:]) <= 1e-5
    with load(bundle) as opened:
        found = [item.label for item in opened(frame.iloc[FITTED:])]
    assert found == model.predict(frame.iloc[FITTED:]).tolist()


def test_thresholds_are_not_rounded(tmp_path: Path) -> None:
    """Values at and around each threshold: rounded to float32 they would go to the other leaf."""
    random = np.random.default_rng(0)
    values = random.random((300, 2))
    for model in (DecisionTreeRegressor(), HistGradientBoostingRegressor(max_iter=5)):
        model.fit(values, np.sin(values[:, 0] * 9) + values[:, 1])
        if hasattr(model, "tree_"):
            at = model.tree_.threshold[model.tree_.feature == 0]
        else:
            nodes = model._predictors[0][0].nodes
            at = nodes["num_threshold"][(nodes["feature_idx"] == 0) & (nodes["is_leaf"] == 0)]
        near = np.concatenate([at, np.nextafter(at, 2), np.nextafter(at, -2), at.astype(np.float32).astype(float)])
        rows = np.stack([near, np.full(len(near), 0.5)], axis=1)
        bundle = export_tabular(model, tmp_path / type(model).__name__, rows)
        with load(bundle) as opened:
            assert relative(opened(rows).values, model.predict(rows)[:, None]).max() <= 1e-6


def test_what_the_bundle_says_of_columns(tmp_path: Path) -> None:
    frame = table(0.1)
    model = fitted(make_pipeline(mended(), Ridge()), frame, price(frame))
    described = [Column("area", unit="m²"), "age", Column("city", missing="fill", fill="Porto"), "floor", "lift"]
    bundle = export_tabular(model, tmp_path / "b", frame.iloc[FITTED:], columns=described, targets=["price"])
    with load(bundle) as opened:
        area, age, city, floor, lift = opened.columns
        assert (area.kind, area.dtype, area.unit, area.missing) == ("number", "float64", "m²", "pass")
        assert (age.dtype, age.missing, lift.dtype) == ("int64", "pass", "bool")
        assert (city.kind, city.categories, city.missing, city.fill) == (
            "category",
            ("Ghent", "Oslo", "Porto"),
            "fill",
            "Porto",
        )
        assert (floor.kind, floor.categories, floor.unseen) == ("category", (0, 1, 2, 3), "pass")
        row = {"area": None, "age": 5, "city": None, "floor": 9, "lift": True}
        found = opened(row)
        assert (found.report.missing, found.report.unseen) == (("area", "city"), ("floor",))
        same = frame.iloc[:1].assign(area=np.nan, age=5, city="Porto", floor=9, lift=True)
        assert found.value == pytest.approx(float(model.predict(same)[0]), rel=1e-9)
        drift = opened.bundle.manifest.components["model"].variants["fp64"].drift
        assert drift is not None
        assert drift.max_relative is not None
        assert drift.max_relative <= 1e-5
        with pytest.raises(TableError, match="column 'lift': the value is 'yes'"):
            opened({**row, "lift": "yes"})


def test_what_the_pipeline_refuses_the_bundle_refuses(tmp_path: Path) -> None:
    frame = table()
    model = fitted(make_pipeline(encoded(words=OneHotEncoder()), Ridge()), frame, price(frame))
    row = dict(frame.iloc[0])
    with load(export_tabular(model, tmp_path / "b", frame.iloc[FITTED:])) as opened:
        for changed, words in (
            ({"city": "Rome"}, "never saw"),
            ({"city": None}, "is missing"),
            ({"area": None}, "is missing"),
        ):
            with pytest.raises(TableError, match=words):
                opened({**row, **changed})


def test_arrays_and_plain_names(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((80, 3))
    model = LinearRegression().fit(values, np.stack([values.sum(axis=1), values[:, 0]], axis=1))
    bundle = export_tabular(model, tmp_path / "b", values, columns=["x", "y", "z"], targets=["sum", "first"])
    with load(bundle) as opened:
        assert opened({"x": 1.0, "y": 2.0, "z": 3.0}).values == pytest.approx((6.0, 1.0))
        assert opened.targets == ("sum", "first")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (AdaBoostRegressor(n_estimators=3), "AdaBoostRegressor"),
        (SVR(kernel=lambda a, b: a @ b.T), r"The step svr \(SVR\) cannot be converted exactly"),
        (HistGradientBoostingRegressor(categorical_features=[0]), "it splits by categories itself"),
    ],
)
def test_a_step_that_cannot_be_converted_is_refused_by_name(step: Any, words: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 5, (60, 2)).astype(float)
    model = make_pipeline(StandardScaler(with_mean=False, with_std=False), step).fit(values, values.sum(axis=1))
    with pytest.raises(ExportError, match=words):
        export_tabular(model, tmp_path / "b", values)
    assert not (tmp_path / "b").exists()


def test_votes_that_are_no_scores_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((60, 2))
    model = SVC().fit(values, np.arange(60) % 3)
    with pytest.raises(ExportError, match="set break_ties=True, which needs no new fit"):
        export_tabular(model, tmp_path / "b", values)
    assert export_tabular(model.set_params(break_ties=True), tmp_path / "b", values).exists()


def test_a_function_of_ones_own_is_refused_inside_its_branch(tmp_path: Path) -> None:
    frame = table()
    model = fitted(make_pipeline(encoded(FunctionTransformer(lambda x: x * 2)), Ridge()), frame, price(frame))
    with pytest.raises(ExportError, match=r"columntransformer\.numbers \(FunctionTransformer\) cannot be converted"):
        export_tabular(model, tmp_path / "b", frame.iloc[FITTED:])


def test_text_without_an_encoder_and_wrong_descriptions_are_refused(tmp_path: Path) -> None:
    frame = table()
    model = fitted(make_pipeline(encoded(), Ridge()), frame, price(frame))
    rows = frame.iloc[FITTED:]
    for arguments, words in (
        ({"columns": ["area"]}, "was fitted on the columns area, age"),
        ({"targets": ["a", "b"]}, "predicts 1 numbers; 2 targets"),
        ({"columns": [Column("area", missing="fill"), *list(frame.columns)[1:]]}, "a value to fill"),
    ):
        with pytest.raises(ExportError, match=words):
            export_tabular(model, tmp_path / "b", rows, **arguments)
    with pytest.raises(ExportError, match="lack the columns city"):
        export_tabular(model, tmp_path / "b", rows.drop(columns="city"))
    with pytest.raises(ExportError, match="no sample rows"):
        export_tabular(model, tmp_path / "b", rows.iloc[:0])
    with pytest.raises(ExportError, match="was not fitted"):
        export_tabular(Ridge(), tmp_path / "b", rows)
    with pytest.raises(ExportError, match="has no predict"):
        export_tabular(StandardScaler(), tmp_path / "b", rows)
