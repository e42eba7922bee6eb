"""Runs from host to host, and runs whose data stays where the provider computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundles

import sanderling
from sanderling.bundle import open_bundle
from sanderling.errors import InferenceError, ModelClosedError
from sanderling.session import Bound, Session
from sanderling_bench.inputs import inputs_for
from sanderling_bench.measure import Plan, measure
from sanderling_bench.residence import measure_residence
from sanderling_bench.table import render


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_bound_run_gives_what_a_run_gives(kind: str, text_bundle: Path, image_bundle: Path) -> None:
    bundle, given = (text_bundle, "the sea") if kind == "text" else (image_bundle, tiny_bundles.PICTURE)
    with sanderling.load(bundle) as model:
        engine = model.engine
        assert isinstance(engine, Session)
        feeds, _ = model.front.feeds(model.front.prepare([given], None))
        bound = engine.bind(feeds)
        for _ in range(3):
            bound.run()
        expected = engine.run(feeds)
        found = bound.outputs()
        assert list(found) == list(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    with pytest.raises(ModelClosedError):
        engine.bind(feeds)


def test_what_a_bound_run_fails_on_is_an_inference_error(embedding_bundle: Path) -> None:
    with sanderling.load(embedding_bundle) as model:
        engine: Any = model.engine
        feeds, _ = model.front.feeds(model.front.prepare(["sea"], None))
        far = {name: values + 10**6 for name, values in feeds.items()}
        with pytest.raises(InferenceError, match="failed on bound arrays"):
            engine.bind(far).run()


def test_both_kinds_of_run_are_counted_apart_and_alternate(text_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    bound_run, run = Bound.run, Session.run
    monkeypatch.setattr(Bound, "run", lambda self: (order.append("bound"), bound_run(self))[1])
    monkeypatch.setattr(Session, "run", lambda self, *given: (order.append("host"), run(self, *given))[1])
    with sanderling.load(text_bundle) as model:
        host, resident = measure_residence(model, ["sea", "bird"], rounds=3)
    assert (len(host), len(resident)) == (6, 6)
    assert min(*host, *resident) > 0
    assert order == ["bound", "host", "host", "bound", "bound", "host", "host", "bound"] * 2


def test_the_cpu_has_one_memory_and_others_are_shown_apart(text_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(text_bundle)
    plan = Plan(rounds=2, samples=2, warmup=0, cold_starts=0)
    inputs = inputs_for(bundle, ())
    record = measure(bundle, inputs, plan)
    assert record.samples["fp32"].host_runs == record.samples["fp32"].resident_runs == ()
    assert "its data left" not in "".join(str(part) for part in render(record).renderables)
    monkeypatch.setattr("sanderling_bench.measure.CPU", "no such provider")
    record = measure(bundle, inputs, plan)
    assert len(record.samples["fp32"].resident_runs) == 2 * min(8, len(inputs.items))
    assert "ms with its data left in cpu's memory." in "".join(str(part) for part in render(record).renderables)
