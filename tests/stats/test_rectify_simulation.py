"""The benchmark's simulated judges, some of them: coverage and width of every estimator."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "corrected_estimates.py"
REPEATS = 300


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_corrected_estimates", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


benchmark = load()


@pytest.mark.parametrize("name", ["normal r=0.0", "normal r=0.6", "binary p=0.5 Se=0.85 Sp=0.75"])
def test_all_estimators_but_the_naive_hold_their_level(name: str) -> None:
    rng = np.random.default_rng(0)
    studies = {s.name: s for s in benchmark.simulated_studies(rng, n_items=50_000)}
    study = studies[name]
    cells = benchmark.measure(study, 50, n_resamples=REPEATS, rng=rng)
    low, high = (float(stats.binom.ppf(p, REPEATS, 0.95)) / REPEATS for p in (0.0005, 0.9995))
    for column in benchmark.COLUMNS[1:]:
        cell = cells[column]
        assert math.isnan(cell.width) or low <= cell.coverage <= high, column
    assert cells["naive judge"].coverage < 0.5
    assert cells["labels only"].width == pytest.approx(1)
    assert cells["ppi++ plug-in"].width <= 1
    if study.correlation > 0.5:
        assert cells["ppi++ cross-fit"].width < 0.9
    assert math.isnan(cells["rogan-gladen"].width) != study.is_binary


def test_the_bar_names_what_it_does_not_reach() -> None:
    study = benchmark.Study(name="set", human=np.arange(4.0), judge=np.arange(4.0))
    good = benchmark.Cell(coverage=0.95, width=0.8, width_error=0.01, n_resamples=9)
    bad = benchmark.Cell(coverage=0.91, width=1.1, width_error=0.01, n_resamples=9)
    assert benchmark.broken(study, 50, dict.fromkeys(benchmark.COLUMNS, good)) == []
    assert benchmark.broken(study, 30, dict.fromkeys(benchmark.COLUMNS, bad)) == ()
    # three columns are held to coverage and width, two also to the gain
    assert len(benchmark.broken(study, 50, dict.fromkeys(benchmark.COLUMNS, bad))) == 8


def test_only_a_judge_that_knows_nothing_may_cost_a_hundredth_of_the_width() -> None:
    cell = benchmark.Cell(coverage=0.95, width=1.005, width_error=0.0005, n_resamples=9)
    cells = dict.fromkeys(benchmark.COLUMNS, cell)
    noise = np.array([1.0, -1, -1, 1])  # uncorrelated with 0, 1, 2, 3
    clueless = benchmark.Study(name="set", human=np.arange(4.0), judge=noise)
    (failure,) = benchmark.broken(clueless, 50, cells)
    assert "plug-in" in failure
    weak = benchmark.Study(name="set", human=np.arange(4.0), judge=noise + 0.3 * np.arange(4))
    assert 0.1 < weak.correlation < 0.5
    assert len(benchmark.broken(weak, 50, cells)) == 3
