from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.stats.intervals import FloatArray
from evalkit.stats.variance import (
    Components,
    best_allocation,
    design_effect,
    icc,
    planned_stderr,
    repeat_components,
    three_way_components,
)

# Davies (1947): yield of dyestuff, 6 batches of 5
DYESTUFF = np.array(
    [
        [1545, 1440, 1440, 1520, 1580],
        [1540, 1555, 1490, 1560, 1495],
        [1595, 1550, 1605, 1510, 1560],
        [1445, 1440, 1595, 1465, 1545],
        [1595, 1630, 1515, 1635, 1625],
        [1520, 1455, 1450, 1480, 1445],
    ]
)
# Davies and Goldsmith (1972), p. 136: strength of paste, 10 batches of 3 casks of 2 analyses
PASTES = np.array(
    [
        *(62.8, 62.6, 60.1, 62.3, 62.7, 63.1, 60.0, 61.4, 57.5, 56.9, 61.1, 58.9, 58.7, 57.5, 63.9),
        *(63.1, 65.4, 63.7, 57.1, 56.4, 56.9, 58.6, 64.7, 64.5, 55.1, 55.1, 54.7, 54.2, 58.8, 57.5),
        *(63.4, 64.9, 59.3, 58.1, 60.5, 60.0, 62.5, 62.6, 61.0, 58.7, 56.9, 57.7, 59.2, 59.4, 65.2),
        *(66.0, 64.8, 64.1, 54.8, 54.8, 64.0, 64.0, 57.7, 56.8, 58.3, 59.3, 59.2, 59.2, 58.9, 56.6),
    ]
).reshape(10, 3, 2)
# Shrout and Fleiss (1979), Table 2: 6 targets by 4 judges
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
)
# Drawn for the comparison with statsmodels, (6, 3, 4)
CROSSED = np.array(
    [
        [[2.3, 2.4, -0.6, 0.9], [2.1, 2.0, -0.9, -0.2], [-0.4, -1.1, -1.2, -2.0]],
        [[-0.7, -1.3, -1.3, -1.6], [0.2, -1.7, -1.5, -1.2], [1.2, 0.0, 0.4, -1.6]],
        [[-1.8, -1.3, -1.9, -0.4], [1.2, 0.3, 0.4, 0.3], [-0.9, -0.2, -0.3, 0.5]],
        [[-1.3, 1.6, -0.6, -0.1], [-0.9, 0.4, 0.0, -0.2], [-0.2, 0.7, -0.7, -1.4]],
        [[1.1, 0.1, 0.0, -0.3], [2.1, -0.5, 0.4, 1.5], [-1.2, -0.9, -0.9, -0.2]],
        [[4.5, 3.4, 2.1, -0.2], [2.9, 1.3, -0.2, -1.4], [3.8, 2.6, 0.6, -1.8]],
    ]
)
TABLES = arrays(float, (5, 3), elements=st.integers(0, 10).map(float))


def two_way(item: float, repeat: float) -> Components:
    return Components(
        design="repeats", mean=0.0, variances={"item": item, "repeat": repeat}, clipped=()
    )


def test_the_dyestuff_agrees_with_lme4() -> None:
    found = repeat_components(DYESTUFF)
    # R package lme4, lmer(Yield ~ 1 + (1 | Batch)): REML is the moments' estimate when balanced
    assert dict(found.variances) == pytest.approx({"item": 1764.05, "repeat": 2451.25})
    assert found.mean == pytest.approx(1527.5)
    # lme4's standard error of the intercept
    assert planned_stderr(found, n_items=6, n_repeats=5) == pytest.approx(19.3834, abs=5e-5)


def test_the_pastes_agree_with_lme4() -> None:
    found = three_way_components(PASTES, design="nested")
    # R package lme4, lmer(strength ~ 1 + (1 | batch / cask))
    assert found.variances["item"] == pytest.approx(1.657, abs=5e-4)
    assert found.variances["repeat"] == pytest.approx(8.434, abs=5e-4)
    assert found.variances["draw"] == pytest.approx(0.678, abs=5e-4)
    assert found.clipped == ()


# statsmodels 0.15 MixedLM, REML, whose optimum is good to four digits
@pytest.mark.parametrize(
    ("design", "expected"),
    [
        ("nested", {"item": 0.33361, "repeat": 0.39785, "draw": 1.44807}),
        (
            "judges",
            {
                "item": 0.12787,
                "repeat": 0.65999,
                "judge": 0.22536,
                "item:judge": 0.82304,
                "draw": 0.39959,
            },
        ),
        (
            "seeds",
            {"item": 0.34788, "seed": 0.22543, "item:seed": 0.60304, "repeat": 1.05958},
        ),
    ],
)
def test_three_way_components_agree_with_a_mixed_model(
    design: Literal["nested", "judges", "seeds"], expected: dict[str, float]
) -> None:
    found = three_way_components(CROSSED, design=design)
    assert dict(found.variances) == pytest.approx(expected, abs=1e-4)
    assert found.mean == pytest.approx(float(CROSSED.mean()))


def test_intraclass_correlations_agree_with_shrout_and_fleiss() -> None:
    # Table 4: ICC(1) = .17, ICC(2) = .29; to six digits by pingouin 0.7
    assert icc(repeat_components(SHROUT_FLEISS)) == pytest.approx(0.165742, abs=5e-7)
    # each cell twice over leaves no variance within it
    twice = np.repeat(SHROUT_FLEISS[:, None, :], 2, axis=1)
    seeds = three_way_components(twice, design="seeds").variances
    assert seeds["repeat"] == 0.0
    assert seeds["item"] / sum(seeds.values()) == pytest.approx(0.289764, abs=5e-7)
    judges = three_way_components(twice, design="judges")
    assert judges.variances["item"] == pytest.approx(seeds["item"])
    assert judges.variances["item:judge"] == pytest.approx(seeds["item:seed"])
    assert judges.clipped == ()


@settings(deadline=None)
@given(TABLES, st.permutations(range(5)), st.floats(0.1, 10))
def test_order_shift_and_scale_do_what_they_should(
    table: FloatArray, order: list[int], scale: float
) -> None:
    plain = repeat_components(table)
    moved = repeat_components(table[order][:, ::-1] * scale + 3)
    for source, variance in plain.variances.items():
        assert moved.variances[source] == pytest.approx(variance * scale**2, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(TABLES)
def test_the_mean_squares_add_up_to_the_total(table: FloatArray) -> None:
    found = repeat_components(table)
    between = 3 * table.mean(axis=1).var(ddof=1)
    if found.clipped:
        assert between < found.variances["repeat"]
        assert found.variances["item"] == 0.0
    else:
        item = found.variances["repeat"] + 3 * found.variances["item"]
        assert item == pytest.approx(between, abs=1e-9)
        # what was measured is what planning the same study says
        assert planned_stderr(found, n_items=5, n_repeats=3) == pytest.approx(
            float(table.mean(axis=1).std(ddof=1)) / math.sqrt(5), abs=1e-9
        )


def test_missing_repeats_leave_the_estimates_unbiased() -> None:
    rng = np.random.default_rng(1)
    counts = np.array([1, 1, 1, 1, 1, 2, 16, 16])
    is_missing = np.arange(16) >= counts[:, None]
    items, repeats = [], []
    for _ in range(3000):
        table = rng.normal(0, 4, size=(8, 1)) + rng.normal(size=(8, 16))
        found = repeat_components(np.where(is_missing, math.nan, table))
        items.append(found.variances["item"])
        repeats.append(found.variances["repeat"])
    assert np.mean(repeats) == pytest.approx(1.0, abs=4 * float(np.std(repeats)) / math.sqrt(3000))
    assert np.mean(items) == pytest.approx(16.0, abs=4 * float(np.std(items)) / math.sqrt(3000))


def test_items_without_a_value_do_not_count() -> None:
    holed = np.insert(DYESTUFF.astype(float), 2, math.nan, axis=0)
    assert repeat_components(holed) == repeat_components(DYESTUFF)


def test_the_mean_is_of_items_however_often_each_was_repeated() -> None:
    found = repeat_components([[0.0, 0.0, 0.0, 0.0], [1.0, math.nan, math.nan, math.nan]])
    assert found.mean == 0.5


def test_a_negative_component_is_zero_and_says_so() -> None:
    found = repeat_components([[0, 10], [10, 0], [1, 9]])
    assert found.variances["item"] == 0.0
    assert found.clipped == ("item",)
    assert icc(found) == 0.0


@pytest.mark.parametrize("values", [np.empty((0, 3)), [[1.0], [2.0]], [[1.0, 2.0]]])
def test_too_little_to_tell_gives_nan(values: FloatArray) -> None:
    found = repeat_components(values)
    assert math.isnan(found.variances["item"])
    assert math.isnan(planned_stderr(found, n_items=2))


def test_a_single_repeat_cannot_tell_repeats_from_judges() -> None:
    found = three_way_components(CROSSED[:, :1], design="judges")
    assert math.isnan(found.variances["repeat"])
    assert found.variances["judge"] >= 0
    nothing = three_way_components(np.empty((0, 2, 2)), design="judges")
    assert all(map(math.isnan, nothing.variances.values()))


def test_scores_that_do_not_fit_the_design_are_refused() -> None:
    with pytest.raises(ValueError, match="2 axes"):
        repeat_components(CROSSED)
    with pytest.raises(ValueError, match="finite"):
        repeat_components([[math.inf, 0.0]])
    holed = CROSSED.copy()
    holed[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="every value"):
        three_way_components(holed, design="seeds")


def test_a_judges_severity_stays_however_many_items_there_are() -> None:
    found = three_way_components(CROSSED, design="judges")
    plan = planned_stderr(found, n_items=10**9, n_repeats=1, n_thirds=4)
    assert plan == pytest.approx(math.sqrt(found.variances["judge"] / 4), rel=1e-6)


def test_a_planned_study_follows_millers_formula() -> None:
    # Miller (2024): Var = omega^2 / n + sigma^2 / (n K); omega^2 = 1/9, sigma^2 = 1/6
    found = planned_stderr(two_way(1 / 9, 1 / 6), n_items=1000, n_repeats=10)
    assert found == pytest.approx(math.sqrt((1 / 9 + 1 / 60) / 1000))
    with pytest.raises(ValueError, match="at least one"):
        planned_stderr(two_way(1, 1), n_items=0)


def test_a_planned_study_spreads_as_simulated_ones_do() -> None:
    rng = np.random.default_rng(2)
    item, seed, cross = rng.normal(size=(3, 4000, 8, 3))
    noise = rng.normal(size=(4000, 8, 2, 3))
    scores = (
        item[:, :, :1, None] + 0.5 * seed[:, :1, None, :] + 0.7 * cross[:, :, None, :] + 0.9 * noise
    )
    variances = {"item": 1.0, "seed": 0.25, "item:seed": 0.49, "repeat": 0.81}
    components = Components(design="seeds", mean=0.0, variances=variances, clipped=())
    planned = planned_stderr(components, n_items=8, n_repeats=2, n_thirds=3)
    # 4000 means know their spread to 1.1 %
    assert float(scores.mean(axis=(1, 2, 3)).std()) == pytest.approx(planned, rel=0.045)


def test_the_best_allocation_is_the_square_root_rule_when_it_comes_out_whole() -> None:
    # sqrt(16 / 1 * 1 / 4) = 2 repeats; 1800 / (16 + 2) = 100 items
    found = best_allocation(two_way(4.0, 1.0), cost_per_item=16, cost_per_repeat=1, budget=1800)
    assert (found.n_items, found.n_repeats, found.cost) == (100, 2, 1800)
    assert found.stderr == pytest.approx(math.sqrt((4 + 1 / 2) / 100))


COSTS = st.sampled_from([0.0, 0.1, 1.0, 7.5])
VARIANCES = st.sampled_from([0.0, 0.01, 0.3, 5.0])


@settings(max_examples=200, deadline=None)
@given(VARIANCES, VARIANCES, COSTS, st.sampled_from([0.1, 0.7, 2.0]), st.integers(20, 120))
def test_no_other_whole_numbers_are_better(
    item: float, repeat: float, cost_per_item: float, cost_per_repeat: float, budget: float
) -> None:
    found = best_allocation(
        two_way(item, repeat),
        cost_per_item=cost_per_item,
        cost_per_repeat=cost_per_repeat,
        budget=budget,
    )
    assert found.n_items >= 2
    assert found.cost <= budget * (1 + 1e-9)
    best = min(
        math.sqrt((item + repeat / repeats) / n)
        for repeats in range(1, 1 + int(budget / 2 / cost_per_repeat))
        if (n := math.floor(budget / (cost_per_item + repeats * cost_per_repeat) + 1e-9)) >= 2
    )
    assert found.stderr == pytest.approx(best, abs=1e-12)


def test_items_without_variance_ask_for_repeats_and_repeats_without_ask_for_items() -> None:
    few = best_allocation(two_way(0.0, 1.0), cost_per_item=10, cost_per_repeat=1, budget=100)
    assert (few.n_items, few.n_repeats) == (2, 40)
    many = best_allocation(two_way(1.0, 0.0), cost_per_item=10, cost_per_repeat=1, budget=110)
    assert (many.n_items, many.n_repeats) == (10, 1)
    big = best_allocation(two_way(0.0, 0.0), cost_per_item=1, cost_per_repeat=1, budget=1e9)
    assert big.n_repeats == 1


def test_an_allocation_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="does not buy two items"):
        best_allocation(two_way(1, 1), cost_per_item=5, cost_per_repeat=1, budget=11)
    with pytest.raises(ValueError, match="costs"):
        best_allocation(two_way(1, 1), cost_per_item=5, cost_per_repeat=0, budget=11)
    with pytest.raises(ValueError, match="both components"):
        best_allocation(two_way(math.nan, 1), cost_per_item=5, cost_per_repeat=1, budget=11)


def test_the_design_effect_is_kishs_for_equal_clusters() -> None:
    assert design_effect([20] * 7, icc=0.1) == pytest.approx(1 + 19 * 0.1)
    assert math.isnan(design_effect([], icc=0.1))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.floats(0, 1))
def test_the_design_effect_is_the_variance_of_a_sum_of_correlated_values(
    sizes: list[int], correlation: float
) -> None:
    n = sum(sizes)
    # variance of the mean of n values of variance 1: pairs within a cluster share the correlation
    variance = (n + correlation * sum(m * (m - 1) for m in sizes)) / n**2
    assert design_effect(sizes, icc=correlation) == pytest.approx(variance * n)
