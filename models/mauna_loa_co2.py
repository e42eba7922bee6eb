"""A forecasting bundle from a real series: weekly carbon dioxide at Mauna Loa, 1958 to 2001, with its gaps.

The series comes with statsmodels (`statsmodels.datasets.co2`; Keeling and Whorf, in the public domain). Run it with
`python models/mauna_loa_co2.py`; the bundle is `models/bundles/mauna-loa-co2`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.datasets import co2

from sanderling_export import export_forecaster

BUNDLE = Path(__file__).resolve().parent / "bundles" / "mauna-loa-co2"
# Two years of weeks to look back over, half a year ahead.
LAGS, HORIZON = range(1, 105), 26


def build(target: Path = BUNDLE) -> Path:
    """Fit and export; the bundle's folder."""
    series = co2.load_pandas().data["co2"].to_numpy()
    return export_forecaster(
        make_pipeline(StandardScaler(), Ridge(alpha=1.0)),
        target,
        series,
        lags=LAGS,
        horizon=HORIZON,
        levels=(0.9, 0.5),
        name="co2",
        unit="ppm",
        step="week",
        origin="Mauna Loa weekly CO2 (statsmodels.datasets.co2)",
        license="public domain",
    )


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
