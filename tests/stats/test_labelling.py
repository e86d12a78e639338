"""Which items to label: chances that hold, budgets that are kept, and when to stop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.label_sequence import (
    effective_labels,
    forecast_labels,
    label_sequence,
    labels_until,
    sequence_radius,
)
from evalkit.stats.labelling import (
    neyman_allocation,
    propose_active,
    propose_by_strata,
    residual_spreads,
    score_strata,
)
from evalkit.stats.rectify import rectify

NAMES = [f"item {i}" for i in range(200)]


def test_neyman_gives_labels_in_proportion_to_size_times_spread() -> None:
    # 100 x 1, 200 x 2, 100 x 5: shares .1, .4, .5
    found = neyman_allocation(
        np.array([100, 200, 100]), np.array([1.0, 2, 5]), n=50, at_least=np.array([2, 2, 2])
    )
    assert found.tolist() == [5, 20, 25]


def test_a_full_stratum_leaves_its_labels_to_the_others() -> None:
    found = neyman_allocation(
        np.array([10, 100, 100]), np.array([100.0, 1, 1]), n=50, at_least=np.array([0, 0, 0])
    )
    assert found.tolist() == [10, 20, 20]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 9)), min_size=1, max_size=6), st.data())
def test_an_allocation_spends_the_budget_within_its_bounds(
    strata: list[tuple[int, float]], data: st.DataObject
) -> None:
    sizes = np.array([s for s, _ in strata])
    floors = np.minimum(sizes, 2)
    n = data.draw(st.integers(int(floors.sum()), int(sizes.sum())))
    found = neyman_allocation(sizes, np.array([d for _, d in strata]), n=n, at_least=floors)
    assert found.sum() == n
    assert ((found >= floors) & (found <= sizes)).all()


def test_a_budget_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 labels, but the strata take 4 to 20"):
        neyman_allocation(np.array([10, 10]), np.ones(2), n=3, at_least=np.array([2, 2]))


def test_score_strata_are_of_about_equal_sizes_and_keep_ties_together() -> None:
    assert np.bincount(score_strata(np.arange(100.0), 4)).tolist() == [25, 25, 25, 25]
    found = score_strata(np.repeat([1.0, 2, 3], [50, 30, 20]), 5)
    assert np.unique(found[:50]).size == np.unique(found[50:80]).size == 1
    assert score_strata(np.ones(9), 3).tolist() == [0] * 9


def test_a_thin_stratum_borrows_the_common_spread() -> None:
    residuals = np.array([-1.0, 1, -1, 1, -1, 1, 30])
    strata = np.array([0, 0, 0, 0, 0, 0, 1])
    # common variance 6/5; own: (4 x 6/5 + 6) / (4 + 5), and for a single label or none 6/5
    expected = np.sqrt([(4 * 1.2 + 6) / 9, 1.2, 1.2])
    assert residual_spreads(residuals, strata, n_strata=3) == pytest.approx(expected)
    assert np.isnan(residual_spreads(residuals[:1], strata[:1], n_strata=1)).all()


def test_a_stratified_proposal_says_the_share_of_each_stratum() -> None:
    strata = np.repeat(["easy", "hard"], [150, 50])
    found = propose_by_strata(NAMES, strata, n=30, spreads=np.array([1.0, 3.0]), seed=1)
    is_hard = found.chosen >= 150
    assert is_hard.sum() == 15
    assert found.propensities[is_hard] == pytest.approx(np.full(15, 15 / 50))
    assert found.propensities[~is_hard] == pytest.approx(np.full(15, 15 / 150))


def test_labels_at_hand_count_towards_the_allocation() -> None:
    strata = np.repeat([0, 1], 100)
    done = np.zeros(200, dtype=np.bool_)
    pilot = propose_by_strata(NAMES, np.zeros(200), n=20, seed=2)
    done[pilot.chosen] = True
    found = propose_by_strata(
        NAMES, strata, n=80, spreads=np.array([1.0, 4.0]), is_labelled=done, seed=2
    )
    assert not done[found.chosen].any()
    totals = np.bincount(strata[done], minlength=2) + np.bincount(strata[found.chosen], minlength=2)
    assert totals.tolist() == [20, 80]
    assert found.propensities == pytest.approx(totals[strata[found.chosen]] / 100)


def test_items_are_chosen_as_often_as_their_propensity_says() -> None:
    uncertainties = np.concatenate((np.zeros(20), np.linspace(0.1, 5, 60)))
    names, repeats = NAMES[:80], 3000
    counts, chances = np.zeros(80), np.full(80, np.nan)
    for seed in range(repeats):
        found = propose_active(names, uncertainties, n=12, seed=seed)
        counts[found.chosen] += 1
        chances[found.chosen] = found.propensities
    # a tenth of the chance is spread evenly, also over items the judge is sure of
    assert chances[:20] == pytest.approx(np.full(20, 0.1 * 12 / 80))
    assert np.sum(chances) == pytest.approx(12)
    errors = (counts / repeats - chances) / np.sqrt(chances * (1 - chances) / repeats)
    assert np.abs(errors).max() < stats.norm.isf(0.0005 / 80)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1000), min_size=1, max_size=40), st.integers(0, 999), st.data())
def test_exactly_the_budget_is_drawn_whatever_the_uncertainties(
    uncertainties: list[float], seed: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, len(uncertainties)))
    names = NAMES[: len(uncertainties)]
    found = propose_active(names, np.array(uncertainties), n=n, seed=seed)
    assert np.unique(found.chosen).size == n
    assert ((found.propensities > 0) & (found.propensities <= 1)).all()


def test_weighted_labels_recover_the_mean_that_unweighted_ones_miss() -> None:
    rng = np.random.default_rng(3)
    names = [str(i) for i in range(500)]
    n_held = n_plain = 0
    for seed in range(400):
        unsure = rng.gamma(1.0, size=500)
        judge = rng.normal(size=500) + unsure
        human = judge + unsure * rng.normal(size=500) - 1  # of mean 0
        found = propose_active(names, unsure + 0.05, n=60, seed=seed)
        rest = np.setdiff1d(np.arange(500), found.chosen)
        labels, scores = human[found.chosen], judge[found.chosen]
        weighted = rectify(labels, scores, unlabelled=judge[rest], propensities=found.propensities)
        plain = rectify(labels, scores, unlabelled=judge[rest])
        n_held += weighted.low <= 0 <= weighted.high
        n_plain += plain.labels_only.low <= 0 <= plain.labels_only.high
    assert n_held >= stats.binom.ppf(0.0005, 400, 0.95)
    assert n_plain < 200


@pytest.mark.parametrize("n", [10, 31])
def test_a_fifth_at_least_is_labelled_twice(n: int) -> None:
    found = propose_active(NAMES, np.ones(200), n=n)
    assert found.is_twice.sum() == math.ceil(n / 5)
    by_strata = propose_by_strata(NAMES, np.zeros(200), n=n, share_twice=0.5)
    assert by_strata.is_twice.sum() == math.ceil(n / 2)


def test_the_order_of_the_rows_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    order = rng.permutation(200)
    unsure, strata = rng.random(200), rng.integers(0, 3, 200)
    moved_names = [NAMES[i] for i in order]
    active = propose_active(NAMES, unsure, n=25)
    moved = propose_active(moved_names, unsure[order], n=25)
    assert [NAMES[i] for i in active.chosen] == [moved_names[i] for i in moved.chosen]
    assert active.is_twice.tolist() == moved.is_twice.tolist()
    assert active.propensities == pytest.approx(moved.propensities)
    drawn = propose_by_strata(NAMES, strata, n=25)
    moved = propose_by_strata(moved_names, strata[order], n=25)
    assert [NAMES[i] for i in drawn.chosen] == [moved_names[i] for i in moved.chosen]
    assert propose_active(NAMES, unsure, n=25, seed=1).chosen.tolist() != active.chosen.tolist()


def test_names_must_be_unique_and_uncertainties_numbers() -> None:
    with pytest.raises(ValueError, match="names repeat"):
        propose_by_strata(["a", "a"], [0, 0], n=1)
    with pytest.raises(ValueError, match="uncertainties"):
        propose_active(["a", "b"], np.array([1, math.nan]), n=1)
    with pytest.raises(ValueError, match="3 of 2 items"):
        propose_active(["a", "b"], np.ones(2), n=3)


def test_the_radius_is_that_of_the_paper_and_tightest_about_the_plan() -> None:
    # Waudby-Smith et al. (2024), by hand at n 100, rho 1/2, alpha .05
    def radius(n: float, rho: float) -> float:
        inner = n * rho**2 + 1
        return math.sqrt(2 * inner / (n**2 * rho**2) * math.log(math.sqrt(inner) / 0.05))

    plan = 200
    log = -2 * math.log(0.05)
    rho = math.sqrt((log + math.log(log + 1)) / plan)
    assert sequence_radius(100.0, alpha=0.05, n_planned=plan) == pytest.approx(radius(100, rho))
    best = optimize.minimize_scalar(lambda r: radius(plan, r), bounds=(1e-3, 2), method="bounded")
    assert float(sequence_radius(200.0, alpha=0.05, n_planned=plan)) < 1.005 * best.fun


def test_a_sequence_holds_the_mean_at_every_look_and_a_fixed_interval_does_not() -> None:
    rng, repeats = np.random.default_rng(5), 400
    n_missed = n_fixed = 0
    for _ in range(repeats):
        human, noise = rng.normal(size=(2, 250))
        judge = 0.6 * human + 0.8 * noise + 2
        others = rng.normal(size=400) + 2
        looks = label_sequence(human, judge, unlabelled=others, n_planned=150, alpha=0.1)
        n_missed += bool((~((looks.low <= 0) & (looks.high >= 0))).any())
        n = looks.n
        means = np.cumsum(human)[29:] / n
        n_fixed += bool((np.abs(means) > stats.norm.isf(0.05) / np.sqrt(n)).any())
    assert n_missed <= stats.binom.isf(0.001, repeats, 0.1)
    assert n_fixed > 0.25 * repeats


def test_a_good_judge_stops_the_labelling_earlier() -> None:
    rng = np.random.default_rng(6)
    human, noise = rng.normal(size=(2, 1500))
    others = rng.normal(size=5000)
    good, useless = human[:] * 0.9 + math.sqrt(0.19) * noise, noise
    stops = [
        labels_until(label_sequence(human, judge, unlabelled=others, n_planned=400), 0.15)
        for judge in (good, useless)
    ]
    assert stops[0] is not None
    assert stops[1] is not None
    # 1 - r^2 = .19 of the labels, but of .15 the judge's mean takes 2.81 x .9 / sqrt(5000) = .036:
    # .19 x (.15 / .114)^2 = .33, and what a sequence pays far from its plan
    assert 0.33 * stops[1] < stops[0] < 0.5 * stops[1]
    looks = label_sequence(human, good, unlabelled=others, n_planned=400)
    assert labels_until(looks, 0.001) is None


def test_bounds_never_widen() -> None:
    rng = np.random.default_rng(7)
    looks = label_sequence(
        rng.normal(size=90), rng.normal(size=90), unlabelled=rng.normal(size=90), n_planned=50
    )
    assert looks.n.tolist() == list(range(30, 91))
    assert (np.diff(looks.low) >= 0).all()
    assert (np.diff(looks.high) <= 0).all()


def test_a_sequence_checks_its_input() -> None:
    with pytest.raises(ValueError, match="first look at 2"):
        label_sequence(np.ones(5), np.ones(5), unlabelled=np.ones(5), n_planned=9, n_first=2)


# ppi_py, examples/power_analysis.ipynb
def test_effective_labels_agree_with_ppi_py() -> None:
    assert round(effective_labels(605, 3345, correlation=0.9)) == 1926
    assert round(effective_labels(942, 5210, correlation=0.9), -1) == 3000


def pilot(correlation: float) -> tuple[FloatArray, FloatArray]:
    """Labels of unit variance with exactly this correlation."""
    rng = np.random.default_rng(8)
    raw = rng.normal(size=(40, 2))
    raw -= raw.mean(axis=0)
    basis = np.linalg.qr(raw)[0] * math.sqrt(39)
    human = basis[:, 0]
    return human, correlation * human + math.sqrt(1 - correlation**2) * basis[:, 1]


def test_a_forecast_meets_the_half_width_that_it_promises() -> None:
    human, judge = pilot(0.7)
    found = forecast_labels(human, judge, n_items=2000, half_width=0.1)

    def half_width(n: float) -> float:
        effective = effective_labels(n, 2000 - n, correlation=0.7)
        return float(stats.t.ppf(0.975, n - 1)) / math.sqrt(effective)

    n = found.n_labels
    assert half_width(n) <= 0.1 < half_width(n - 1)
    # without the judge: the usual sample size, 1.96^2 / .1^2 = 384 and a little for t
    assert found.n_labels_only == pytest.approx(386, abs=2)
    assert n < found.n_labels_anytime < found.n_labels_only * 2


def test_a_width_beyond_all_labels_is_nan() -> None:
    human, judge = pilot(0.7)
    found = forecast_labels(human, judge, n_items=100, half_width=0.1)
    assert math.isnan(found.n_labels)
    assert math.isnan(found.n_labels_only)
    assert math.isnan(forecast_labels(human[:2], judge[:2], n_items=100, half_width=1.0).n_labels)


def test_an_opposed_or_constant_judge_is_forecast_to_save_nothing() -> None:
    human, judge = pilot(0.7)
    for useless in (-judge, np.ones(40)):
        found = forecast_labels(human, useless, n_items=2000, half_width=0.1)
        assert found.n_labels == found.n_labels_only
