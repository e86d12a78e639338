from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.spending import (
    SpendingFunction,
    boundaries,
    exit_probabilities,
    obrien_fleming,
    pocock,
    power_family,
)

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]
FUNCTIONS = {"O'Brien-Fleming": obrien_fleming, "Pocock": pocock, "rho 2": power_family(2)}

fractions_of_looks = st.lists(st.integers(2, 49), max_size=5, unique=True).map(
    lambda found: [k / 50 for k in sorted(found)] + [1.0]
)


def box(bounds: list[float], fractions: list[float]) -> float:
    """P(|z_k| < bound_k at all looks), by scipy's integration of the normal distribution."""
    t, b = np.array(fractions), np.array(bounds)
    cov = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    inside = stats.multivariate_normal(  # type: ignore[call-overload]  # the stubs lack abseps
        mean=np.zeros(t.size), cov=cov, abseps=1e-7, releps=1e-7, seed=1
    )
    return float(inside.cdf(b, lower_limit=-b))


@pytest.mark.parametrize(
    ("spending", "expected"),
    [
        # Reboussin, DeMets, Kim and Lan (2000), Control. Clin. Trials 21:190-207, and R ldbounds
        (obrien_fleming, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        (pocock, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_bounds_of_lan_and_demets_agree_with_ldbounds(
    spending: SpendingFunction, expected: list[float]
) -> None:
    found = boundaries(FIVE, alpha=0.05, spending=spending)
    assert found == pytest.approx(expected, abs=2e-4)
    # symmetric bounds at 0.05 are those of one side at 0.025: no path is likely to cross both
    one_sided = boundaries(FIVE, alpha=0.025, spending=spending, sided=1)
    assert one_sided == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("n_looks", "pocock_constant", "obrien_fleming_constant"),
    # Jennison and Turnbull (2000), tables 2.1 and 2.3, two-sided alpha 0.05
    [
        (1, 1.960, 1.960),
        (2, 2.178, 1.977),
        (3, 2.289, 2.004),
        (5, 2.413, 2.040),
        (10, 2.555, 2.087),
    ],
)
def test_classical_bounds_have_their_error_rate(
    n_looks: int, pocock_constant: float, obrien_fleming_constant: float
) -> None:
    looks = np.arange(1, n_looks + 1)
    fractions = list(looks / n_looks)
    flat = exit_probabilities(np.full(n_looks, pocock_constant), fractions)
    assert flat.above.sum() + flat.below.sum() == pytest.approx(0.05, abs=1e-4)
    falling = exit_probabilities(obrien_fleming_constant * np.sqrt(n_looks / looks), fractions)
    assert falling.above.sum() + falling.below.sum() == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    ("bounds", "inflation"),
    # Jennison and Turnbull (2000), tables 2.2 and 2.4, 5 looks, power 0.8
    [(np.full(5, 2.413), 1.229), (2.040 * np.sqrt(5 / np.arange(1, 6)), 1.028)],
)
def test_power_agrees_with_the_inflation_factors_of_jennison_and_turnbull(
    bounds: FloatArray, inflation: float
) -> None:
    drift = math.sqrt(inflation) * (stats.norm.isf(0.025) + stats.norm.isf(0.2))
    exits = exit_probabilities(bounds, FIVE, drift=drift)
    assert exits.above.sum() == pytest.approx(0.8, abs=5e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("fractions", [[0.5, 1.0], [0.3, 0.55, 1.0], [0.1, 0.2, 0.7, 0.9]])
def test_what_is_spent_agrees_with_the_multivariate_normal(
    name: str, fractions: list[float]
) -> None:
    bounds = boundaries(fractions, alpha=0.1, spending=FUNCTIONS[name])
    for k in range(1, len(fractions) + 1):
        spent = 1 - box(list(bounds[:k]), fractions[:k])
        assert spent == pytest.approx(2 * FUNCTIONS[name](fractions[k - 1], 0.05), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    fractions_of_looks,
    st.sampled_from([0.01, 0.05, 0.2]),
    st.sampled_from(list(FUNCTIONS)),
    st.sampled_from([1, 2]),
)
def test_all_of_alpha_is_spent_and_no_more(
    fractions: list[float], alpha: float, name: str, sided: Literal[1, 2]
) -> None:
    bounds = boundaries(fractions, alpha=alpha, spending=FUNCTIONS[name], sided=sided)
    exits = exit_probabilities(bounds, fractions, sided=sided)
    assert exits.above.sum() + exits.below.sum() == pytest.approx(alpha, abs=1e-9)
    by_then = [FUNCTIONS[name](t, alpha / sided) for t in fractions]
    assert np.cumsum(exits.above) == pytest.approx(by_then, abs=1e-9)
    assert (bounds >= stats.norm.isf(alpha / sided) - 1e-9).all()


@given(fractions_of_looks, st.data())
@settings(max_examples=25, deadline=None)
def test_a_bound_does_not_depend_on_the_looks_to_come(
    fractions: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(fractions)))
    early = boundaries(fractions[:k], alpha=0.05)
    assert boundaries(fractions, alpha=0.05)[:k] == pytest.approx(early, abs=1e-9)


def test_a_single_look_is_the_ordinary_test() -> None:
    assert boundaries([1.0], alpha=0.05) == pytest.approx([1.959964], abs=1e-6)
    assert boundaries([1.0], alpha=0.05, sided=1) == pytest.approx([1.644854], abs=1e-6)
    exits = exit_probabilities([1.96], [1.0], drift=2.8, sided=1)
    assert exits.above == pytest.approx([stats.norm.sf(1.96 - 2.8)], abs=1e-12)
    assert exits.below == [0.0]


def test_a_look_with_nothing_to_spend_has_no_bound() -> None:
    found = boundaries([0.01, 0.05, 1.0], alpha=0.05)
    assert np.isinf(found[:2]).all()
    assert found[2] == pytest.approx(1.959964, abs=1e-6)


@given(st.floats(0.1, 3), st.floats(0.01, 1))
def test_power_rises_with_the_drift(drift: float, more: float) -> None:
    bounds = boundaries([0.5, 1.0], alpha=0.05)
    less = exit_probabilities(bounds, [0.5, 1.0], drift=drift).above
    assert (exit_probabilities(bounds, [0.5, 1.0], drift=drift + more).above.sum()) > less.sum()


def test_exits_mirror_with_the_drift() -> None:
    up = exit_probabilities([2.2, 2.0], [0.4, 1.0], drift=1.5)
    down = exit_probabilities([2.2, 2.0], [0.4, 1.0], drift=-1.5)
    assert up.above == pytest.approx(down.below, abs=1e-12)
    assert up.below == pytest.approx(down.above, abs=1e-12)


@pytest.mark.parametrize("drift", [0.0, 2.5])
def test_exits_agree_with_a_simulation(drift: float) -> None:
    rng = np.random.default_rng(4)
    fractions = np.array([0.15, 0.4, 0.75, 1.0])
    bounds = boundaries(list(fractions), alpha=0.1, spending=pocock)
    steps = np.diff(fractions, prepend=0.0)
    scores = np.cumsum(rng.normal(steps * drift, np.sqrt(steps), size=(40_000, 4)), axis=1)
    z = scores / np.sqrt(fractions)
    is_out = np.abs(z) >= bounds
    is_first = is_out & (np.cumsum(is_out, axis=1) == 1)
    exits = exit_probabilities(bounds, list(fractions), drift=drift)
    for side, expected in (((z > 0), exits.above), ((z < 0), exits.below)):
        assert (is_first & side).mean(axis=0) == pytest.approx(expected, abs=0.008)


def test_paired_examples_at_four_looks_keep_their_error_rate() -> None:
    rng = np.random.default_rng(6)
    looks = np.array([100, 200, 300, 400])
    bounds = boundaries(list(looks / 400), alpha=0.05)
    d = rng.choice([-1.0, 0.0, 1.0], size=(4000, 400), p=[0.15, 0.7, 0.15])
    sums, squares = np.cumsum(d, axis=1)[:, looks - 1], np.cumsum(d**2, axis=1)[:, looks - 1]
    z = sums / np.sqrt(squares)
    rate = (np.abs(z) >= bounds).any(axis=1).mean()
    assert rate == pytest.approx(0.05, abs=0.012)
    assert (np.abs(z) >= 1.96).any(axis=1).mean() > 0.1  # without the spending


@pytest.mark.parametrize("spending", [obrien_fleming, pocock, power_family(0.5), power_family(3)])
def test_a_spending_function_rises_to_alpha(spending: SpendingFunction) -> None:
    spent = [spending(t, 0.05) for t in np.linspace(0.05, 1, 20)]
    assert (np.diff(spent) > 0).all()
    assert spent[-1] == pytest.approx(0.05, abs=1e-15)


@pytest.mark.parametrize(
    "fractions", [[], [0.5, 0.4], [0.0, 1.0], [0.5, 1.2], [0.5, 0.5], [0.5, 0.5001], [math.nan]]
)
def test_fractions_that_do_not_rise_to_one_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="information fractions must rise"):
        boundaries(fractions, alpha=0.05)
    with pytest.raises(ValueError, match="information fractions must rise"):
        exit_probabilities([2.0] * len(fractions), fractions)


def test_what_makes_no_design_is_refused() -> None:
    with pytest.raises(ValueError, match="1 bounds for 2 looks"):
        exit_probabilities([2.0], [0.5, 1.0])
    with pytest.raises(ValueError, match="rho must be positive"):
        power_family(0)
    for alpha in (0.0, 0.5):
        with pytest.raises(ValueError, match="alpha must lie between"):
            boundaries([1.0], alpha=alpha)
