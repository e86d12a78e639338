"""What moves a judge other than quality: planted biases are found, and others are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalkit.stats.bias import differential_bias, edit_effect, leniency, residual_bias
from evalkit.stats.intervals import FloatArray, t_interval, wilson, wilson_mean
from evalkit.stats.paired import mean_difference, paired_t

HUMAN = np.array([3.0, 4, 2, 5, 3, 1, 4, 4, 2, 5, 3, 2])
JUDGE = np.array([3.5, 4, 3, 5, 4, 1, 3, 4.5, 2, 4, 3.5, 3])
LENGTH = np.array([0.2, -0.5, 1.1, 0.4, 0.9, -1.3, -0.8, 1.2, -0.4, 0.1, 0.6, -1.5])
IS_B = np.tile([0.0, 1], 6)
ITEM = np.repeat(np.arange(6), 2)


def planted(n: int, *, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Judge, human and features: length (related to quality), lists, own family."""
    human = rng.normal(3, 1, n)
    length = 0.6 * (human - 3) + 0.8 * rng.normal(size=n)
    lists = (rng.random(n) < 0.4).astype(float)
    own = (rng.random(n) < 0.3).astype(float)
    judge = 1 + 0.5 * human + 0.2 * length + 0.4 * own + rng.normal(0, 0.5, n)
    return judge, human, np.column_stack((length, lists, own))


def test_effects_at_equal_human_scores_are_those_of_ordinary_least_squares() -> None:
    [found] = residual_bias(JUDGE, HUMAN, features=LENGTH[:, None])
    # statsmodels 0.15: OLS(judge - human, [length, 1, human]).fit(cov_type="HC2")
    assert found.estimate == pytest.approx(0.42600392815731586)
    assert found.stderr == pytest.approx(0.2225781170835809)


def test_planted_biases_are_found_and_others_are_not() -> None:
    judge, human, features = planted(3000, rng=np.random.default_rng(0))
    length, lists, own = residual_bias(judge, human, features=features)
    assert length.low < 0.2 < length.high
    assert length.low > 0
    assert lists.low < 0 < lists.high
    assert own.low < 0.4 < own.high
    assert own.low > 0


def test_without_the_human_score_a_narrow_judge_seems_to_dislike_length() -> None:
    judge, human, features = planted(3000, rng=np.random.default_rng(1))
    length, *_ = residual_bias(judge, human, features=features, control_human=False)
    # the residual falls by half a point for each point of quality, which longer answers have
    assert length.high < 0.2


def test_planted_biases_are_covered() -> None:
    rng = np.random.default_rng(2)
    n_inside = 0
    for _ in range(300):
        judge, human, features = planted(60, rng=rng)
        own = residual_bias(judge, human, features=features)[2]
        n_inside += own.low <= 0.4 <= own.high
    low, high = stats.binom.interval(0.999, 300, 0.95)
    assert low <= n_inside <= high


@given(st.permutations(range(12)), st.floats(-5, 5))
def test_rows_have_no_order_and_leniency_no_part_in_an_effect(
    order: list[int], shift: float
) -> None:
    [plain] = residual_bias(JUDGE, HUMAN, features=LENGTH[:, None], clusters=ITEM)
    [moved] = residual_bias(
        JUDGE[order] + shift, HUMAN[order], features=LENGTH[order, None], clusters=ITEM[order]
    )
    assert (moved.estimate, moved.stderr) == pytest.approx((plain.estimate, plain.stderr))


def test_leniency_is_the_mean_residual_of_each_system() -> None:
    names = np.where(IS_B == 1, "b", "a")
    first, second = leniency(JUDGE, HUMAN, systems=names)
    assert (first.system, second.system, first.n) == ("a", "b", 6)
    assert first.residual == t_interval((JUDGE - HUMAN)[IS_B == 0])
    assert second.residual == t_interval((JUDGE - HUMAN)[IS_B == 1])
    clustered, _ = leniency(JUDGE, HUMAN, systems=names, clusters=ITEM // 2)
    assert clustered.residual.method == "cluster-t-cr2"


def test_differential_bias_on_shared_items_is_a_paired_t_test_of_residuals() -> None:
    found = differential_bias(JUDGE, HUMAN, is_candidate=IS_B, margin=0.5, clusters=ITEM)
    residual = JUDGE - HUMAN
    paired = paired_t(residual[IS_B == 0], residual[IS_B == 1])
    assert found.effect.estimate == pytest.approx(paired.estimate)
    assert (found.effect.low, found.effect.high) == pytest.approx((paired.low, paired.high))
    assert found.effect.p_value == pytest.approx(paired.p_value)
    gaps = residual[1::2] - residual[::2]
    above = stats.ttest_1samp(gaps, -0.5, alternative="greater").pvalue
    below = stats.ttest_1samp(gaps, 0.5, alternative="less").pvalue
    assert found.p_negligible == pytest.approx(max(above, below))


@given(st.floats(0.01, 3))
def test_swapping_the_systems_negates_the_bias(margin: float) -> None:
    one = differential_bias(JUDGE, HUMAN, is_candidate=IS_B, margin=margin, clusters=ITEM)
    other = differential_bias(JUDGE, HUMAN, is_candidate=1 - IS_B, margin=margin, clusters=ITEM)
    assert other.effect.estimate == pytest.approx(-one.effect.estimate)
    assert (other.effect.low, other.effect.high) == pytest.approx(
        (-one.effect.high, -one.effect.low)
    )
    assert other.p_negligible == pytest.approx(one.p_negligible)
    assert other.finding == one.finding


@pytest.mark.parametrize(
    ("bias", "n", "finding"),
    [(0.0, 400, "negligible"), (0.6, 400, "biased"), (0.6, 6, "unclear"), (0.0, 6, "unclear")],
)
def test_a_finding_is_negligible_biased_or_unclear(bias: float, n: int, finding: str) -> None:
    rng = np.random.default_rng(3)
    human = rng.normal(3, 1, 2 * n)
    is_ours = np.tile([0.0, 1], n)
    judge = human + bias * is_ours + rng.normal(0, 0.8, 2 * n)
    found = differential_bias(
        judge, human, is_candidate=is_ours, margin=0.2, clusters=np.repeat(np.arange(n), 2)
    )
    assert found.finding == finding


def test_a_bias_that_is_real_but_small_is_negligible() -> None:
    rng = np.random.default_rng(4)
    judge = 0.1 * IS_B.repeat(500) + rng.normal(0, 0.5, 6000)
    found = differential_bias(judge, np.zeros(6000), is_candidate=IS_B.repeat(500), margin=0.3)
    assert found.effect.low > 0
    assert found.finding == "negligible"


def test_an_edit_that_moves_the_judge_is_counted_and_measured() -> None:
    before = np.array([3.0, 3, 4, 2, 5, 1, 3, 4, 2, 3])
    after = np.array([4.0, 3, 4, 3, 5, 1, 2, 5, 3, 3])
    found = edit_effect(before, after)
    assert (found.n_raised, found.n_lowered, found.n) == (4, 1, 10)
    assert found.change == mean_difference(before, after, is_binary=False)
    assert found.change.estimate == pytest.approx(0.3)
    assert found.flips == wilson(5, 10)
    clusters = np.arange(10) // 2
    assert edit_effect(before, after, clusters=clusters).flips == wilson_mean(
        (before != after).astype(float), clusters
    )


def test_a_judge_that_an_edit_never_moves_has_a_bound_on_its_flips() -> None:
    found = edit_effect(np.ones(100), np.ones(100))
    assert found.change.estimate == 0.0
    # the upper end of Wilson's interval of none in n is z² / (n + z²)
    assert found.flips.high == pytest.approx(3.8414588 / 103.8414588)


def test_verdicts_of_yes_and_no_have_a_score_interval() -> None:
    found = edit_effect(np.repeat([0.0, 1], 50), np.ones(100), is_binary=True)
    assert found.change.method.startswith("tango")
    assert found.change.estimate == pytest.approx(0.5)
    assert found.flips == wilson(50, 100)


def test_what_is_missing_is_nan() -> None:
    hole = np.where(np.arange(12) == 3, math.nan, JUDGE)
    [found] = residual_bias(hole, HUMAN, features=LENGTH[:, None])
    assert "not finite" in found.reason
    blocked = differential_bias(hole, HUMAN, is_candidate=IS_B, margin=0.5)
    assert blocked.finding == "unclear"
    edited = edit_effect(hole, JUDGE)
    assert math.isnan(edited.flips.estimate)
    assert math.isnan(edited.change.estimate)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="features"):
        residual_bias(JUDGE, HUMAN, features=LENGTH)
    with pytest.raises(ValueError, match="two"):
        residual_bias(JUDGE, HUMAN[1:], features=LENGTH[:, None])
    with pytest.raises(ValueError, match="systems"):
        leniency(JUDGE, HUMAN, systems=["a"])
    with pytest.raises(ValueError, match="margin"):
        differential_bias(JUDGE, HUMAN, is_candidate=IS_B, margin=0.0)
    with pytest.raises(ValueError, match="0 and 1"):
        differential_bias(JUDGE, HUMAN, is_candidate=HUMAN, margin=0.1)
