"""The gate on simulated runs with a known true change: how often it errs, and what looks save.

The limits follow from the design, not from a run: a share that should be p may lie three standard
errors of the simulation, 3 sqrt(p (1 - p) / k), off. ``benchmarks/gate.py`` does it 10,000 times.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from evalkit.gate import Verdict
from evalkit.gate.sequential import look_sizes

ALPHA, POWER, MARGIN = 0.05, 0.8, 0.05
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gate.py"
NAMES = ("right or wrong", "right or wrong, clusters", "graded", "graded, clusters")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_gate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


simulation = load()


def shares(name: str, change: float, *, k: int = 400) -> dict[Verdict, float]:
    """Shares of the verdicts at the planned number of examples, at a change of so many margins."""
    (population,) = (p for p in simulation.populations() if p.name == name)
    margin = MARGIN if population.is_binary else 0.02
    found = simulation.verdicts(
        population,
        change * margin,
        n=population.planned_n(margin, alpha=ALPHA, power=POWER),
        margin=margin,
        alpha=ALPHA,
        power=POWER,
        n_repeats=k,
        seed=1,
    )
    return {verdict: found[verdict] / k for verdict in Verdict}


def errors(p: float, *, k: int = 400) -> float:
    """Three standard errors of a share that should be ``p``, simulated ``k`` times."""
    return float(3 * np.sqrt(p * (1 - p) / k))


@pytest.mark.parametrize("name", NAMES)
def test_an_unchanged_candidate_is_red_no_more_often_than_alpha(name: str) -> None:
    assert shares(name, 0)[Verdict.REGRESSION] <= ALPHA + errors(ALPHA)


@pytest.mark.parametrize("name", NAMES)
def test_an_unchanged_candidate_passes_about_as_often_as_was_planned(name: str) -> None:
    # the plan is by the normal distribution; bounds lean the way the scores do: up to 5 % for that
    assert shares(name, 0)[Verdict.PASS] == pytest.approx(POWER, abs=errors(POWER) + 0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_drop_of_the_margin_is_blocked_but_for_alpha(name: str) -> None:
    blocked = 1 - shares(name, -1)[Verdict.PASS]
    assert blocked >= POWER  # what was declared; by its design it is 1 - alpha
    assert blocked >= 1 - ALPHA - errors(ALPHA)


@pytest.mark.parametrize("name", NAMES)
def test_a_drop_of_two_margins_is_a_proven_regression(name: str) -> None:
    assert shares(name, -2, k=100)[Verdict.REGRESSION] > 0.95


def test_the_simulated_clusters_are_as_correlated_as_they_are_said_to_be() -> None:
    rng = np.random.default_rng(0)
    for population in simulation.populations():
        a, b = population.draw(rng, (200, 1000), 0.0)
        d = (b - a).reshape(200, -1, simulation.CLUSTER)
        # variance of a cluster's sum: size * variance * (1 + (size - 1) icc)
        effect = d.sum(axis=2).var() / (simulation.CLUSTER * d.var())
        assert d.var() == pytest.approx(population.variance, rel=0.05)
        assert effect == pytest.approx(1 + (simulation.CLUSTER - 1) * population.icc, abs=0.05)


@pytest.mark.parametrize(("change", "decided"), [(0.1, "passed"), (-0.15, "regression")])
def test_looks_save_most_of_the_examples_where_the_case_is_clear(
    change: float, decided: str
) -> None:
    found = stopped(change)
    (population, *_) = simulation.populations()
    fixed = population.planned_n(MARGIN, alpha=ALPHA, power=POWER)
    assert getattr(found, decided) == 1.0
    assert found.n_used <= 0.6 * fixed < 0.6 * 1000
    assert found.n_most <= 1000


def test_looking_five_times_passes_no_more_real_drops_than_alpha() -> None:
    assert stopped(-MARGIN, k=200).passed <= ALPHA + errors(ALPHA, k=200)


def test_looking_five_times_is_red_no_more_often_than_alpha() -> None:
    assert stopped(0.0, k=200).regression <= ALPHA + errors(ALPHA, k=200)


def stopped(change: float, *, k: int = 60) -> Any:
    rng = np.random.default_rng(2)
    a, b = simulation.populations()[0].draw(rng, (k, 1000), change)
    return simulation.stopping(b - a, margin=MARGIN, alpha=ALPHA, looks=look_sizes(1000))
