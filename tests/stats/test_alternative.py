"""The alternative-annotator test: against the published algorithm, and where it has no answer."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.alternative import (
    AlternativeTest,
    alternative_by_alignment,
    alternative_test,
    similarity_alignments,
)
from evalkit.stats.discrimination import discrimination
from evalkit.stats.intervals import FloatArray, wilson_mean


def marks(*rows: str) -> FloatArray:
    """(n, rows): a digit a mark, - for none."""
    return np.array([[math.nan if c == "-" else float(c) for c in row] for row in rows]).T


JUDGE = marks("1021200010121010212120011120201200202221")[:, 0]
HUMANS = marks(
    "-021112-10121010222121012120201202012221",
    "00--11001-1-0010002121100120201202112-21",
    "00220100201210-02221210-112220120-11102-",
    "00211120-01-1010220101011220222200012221",
)
GRADES = arrays(float, (12, 4), elements=st.sampled_from([1.0, 2, 3, 4, math.nan]))


def p_values(found: AlternativeTest) -> list[float]:
    return [seat.p_value for seat in found.seats]


@pytest.mark.parametrize(
    ("alignment", "p", "advantage"),
    [
        # Calderon et al. (2025), algorithm 1, written out in loops over dictionaries with
        # scipy.stats.ttest_1samp(alternative="less"), as in the authors' notebook
        ("accuracy", [0.102467743, 0.041563557, 0.036715100, 0.039362848], 0.8299498746867169),
        ("rmse", [0.028378716, 0.027245749, 0.009925528, 0.011940552], 0.8500522138680033),
    ],
)
def test_it_agrees_with_the_published_algorithm(
    alignment: Literal["accuracy", "rmse"], p: list[float], advantage: float
) -> None:
    found = alternative_test(JUDGE, HUMANS, epsilon=0.2, alignment=alignment)
    assert p_values(found) == pytest.approx(p, abs=5e-10)
    assert [seat.n for seat in found.seats] == [38, 35, 36, 38]
    assert found.advantage.estimate == pytest.approx(advantage, rel=1e-12)
    assert found.reason == ""


def test_people_are_beaten_by_benjamini_and_yekutieli() -> None:
    found = alternative_test(JUDGE, HUMANS, epsilon=0.2, alignment="rmse")
    # p from the least: .0099, .0119, .0272, .0284; i / 4 * .05 / (1 + 1/2 + 1/3 + 1/4) are .006,
    # .012, .018, .024: the second is the last to be met, and takes the first with it
    assert [seat.is_won for seat in found.seats] == [False, False, True, True]
    assert found.winning_rate == 0.5
    assert found.is_passed
    strict = alternative_test(JUDGE, HUMANS, epsilon=0.2, alignment="rmse", alpha=0.049)
    assert strict.winning_rate == 0.0
    assert not strict.is_passed


@settings(max_examples=40, deadline=None)
@given(GRADES, arrays(float, 12, elements=st.integers(1, 4).map(float)), st.permutations(range(4)))
def test_neither_items_nor_people_have_an_order(
    humans: FloatArray, judge: FloatArray, order: list[int]
) -> None:
    plain = alternative_test(judge, humans, epsilon=0.1, min_items=3)
    turned = alternative_test(judge[::-1], humans[::-1][:, order], epsilon=0.1, min_items=3)
    assert turned.winning_rate == pytest.approx(plain.winning_rate, nan_ok=True)
    assert turned.advantage.low == pytest.approx(plain.advantage.low, nan_ok=True)
    moved = [p_values(plain)[column] for column in order]
    assert p_values(turned) == pytest.approx(moved, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(GRADES, st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_larger_allowance_never_makes_it_harder(
    humans: FloatArray, one: float, other: float
) -> None:
    judge = np.array([1.0, 2, 3] * 4)
    strict, loose = (
        alternative_test(judge, humans, epsilon=e, min_items=3) for e in sorted((one, other))
    )
    for seat, easier in zip(strict.seats, loose.seats, strict=True):
        assert math.isnan(seat.p_value) or easier.p_value <= seat.p_value + 1e-12


@given(arrays(float, (30, 3), elements=st.integers(1, 3).map(float)))
def test_with_all_marks_the_advantage_is_a_mean_over_items(humans: FloatArray) -> None:
    judge = np.array([1.0, 2, 3] * 10)
    found = alternative_test(judge, humans, epsilon=0.1)
    wins = np.zeros((30, 3))
    for person in range(3):
        rest = np.delete(humans, person, axis=1)
        near = (judge[:, None] == rest).mean(axis=1) - (humans[:, [person]] == rest).mean(axis=1)
        wins[:, person] = near >= 0
    expected = wilson_mean(wins.mean(axis=1))
    assert found.advantage.estimate == pytest.approx(expected.estimate)
    assert (found.advantage.low, found.advantage.high) == pytest.approx(
        (expected.low, expected.high)
    )


def test_a_judge_that_copies_the_truth_passes_and_one_that_guesses_does_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 5, 100)
    slips = rng.random((100, 3)) < 0.3
    humans = np.where(slips, rng.integers(1, 5, (100, 3)), truth[:, None])
    assert alternative_test(truth, humans, epsilon=0.1).winning_rate == 1.0
    assert alternative_test(rng.integers(1, 5, 100), humans, epsilon=0.1).winning_rate == 0.0


def test_a_constant_judge_passes_on_a_skewed_scale_and_discrimination_refuses_it() -> None:
    rng = np.random.default_rng(1)
    humans = rng.choice([3.0, 4, 5], size=(200, 3), p=[0.05, 0.1, 0.85])
    constant = np.full(200, 5.0)
    assert alternative_test(constant, humans, epsilon=0.2, alignment="rmse").is_passed
    refused = discrimination(constant, humans.mean(axis=1), threshold=0.0)
    assert not refused.is_passed
    assert "one and the same score" in refused.reason


def test_three_people_with_enough_items_are_needed() -> None:
    few = alternative_test(JUDGE[:20], HUMANS[:20], epsilon=0.2)
    assert "0 of 4 people" in few.reason
    two = alternative_test(JUDGE, HUMANS[:, :2], epsilon=0.2)
    assert "2 of 2 people" in two.reason
    for found in (few, two):
        assert math.isnan(found.winning_rate)
        assert math.isnan(found.advantage.estimate)
        assert not found.is_passed


def test_a_person_with_too_few_items_is_left_out_of_the_rate() -> None:
    rare = np.where(np.arange(40) < 12, HUMANS[:, 0], math.nan)
    found = alternative_test(JUDGE, np.column_stack((HUMANS, rare)), epsilon=0.5)
    assert math.isnan(found.seats[4].p_value)
    assert not found.seats[4].is_won
    assert found.winning_rate == 1.0  # 4 of 4


def test_an_item_without_a_verdict_is_counted_and_a_code_of_its_own_loses_it() -> None:
    silent = np.where(np.arange(40) < 8, math.nan, JUDGE)
    left_out = alternative_test(silent, HUMANS, epsilon=0.2, min_items=20)
    assert (left_out.n_items, left_out.n_unjudged) == (40, 8)
    lost = alternative_test(np.nan_to_num(silent, nan=-1), HUMANS, epsilon=0.2, min_items=20)
    assert lost.n_unjudged == 0
    assert lost.advantage.estimate < left_out.advantage.estimate


def test_where_the_outcome_never_differs_p_is_exact() -> None:
    same = np.zeros((30, 3))
    tied = alternative_by_alignment(same, same, epsilon=0.2)
    assert p_values(tied) == pytest.approx([0.8**30] * 3)  # no one-in-five event in thirty items
    ahead = alternative_by_alignment(same + 1, same, epsilon=0.2)
    assert p_values(ahead) == pytest.approx([0.4**30] * 3)  # at least (1 + .2) / 2 of them
    behind = alternative_by_alignment(same - 1, same, epsilon=0.2)
    assert p_values(behind) == [1.0] * 3
    halved = alternative_by_alignment(same, same, epsilon=0.2, clusters=np.arange(30) // 2)
    assert p_values(halved) == pytest.approx([0.8**15] * 3)


def test_copies_of_items_in_one_cluster_add_no_certainty() -> None:
    whole = np.nan_to_num(HUMANS, nan=0.0)
    plain = alternative_test(JUDGE, whole, epsilon=0.3)
    copied = alternative_test(
        np.tile(JUDGE, 2), np.tile(whole, (2, 1)), epsilon=0.3, clusters=np.tile(np.arange(40), 2)
    )
    assert p_values(copied) == pytest.approx(p_values(plain))
    assert copied.advantage.low == pytest.approx(plain.advantage.low, abs=0.02)


def test_likeness_of_zero_and_one_is_accuracy() -> None:
    whole = np.nan_to_num(HUMANS, nan=2.0)
    judge_likeness = (JUDGE[:, None] == whole).astype(float)
    human_likeness = (whole[:, :, None] == whole[:, None, :]).astype(float)
    by_judge, by_human = similarity_alignments(judge_likeness, human_likeness)
    found = alternative_by_alignment(by_judge, by_human, epsilon=0.2)
    assert p_values(found) == pytest.approx(p_values(alternative_test(JUDGE, whole, epsilon=0.2)))


def test_likenesses_to_people_who_did_not_answer_do_not_count() -> None:
    human_likeness = np.full((1, 3, 3), math.nan)
    human_likeness[0, 0, 1] = human_likeness[0, 1, 0] = 0.5  # the third person gave nothing
    by_judge, by_human = similarity_alignments([[0.2, 0.9, math.nan]], human_likeness)
    assert by_human[0].tolist() == pytest.approx([0.5, 0.5, math.nan], nan_ok=True)
    assert by_judge[0].tolist() == pytest.approx([0.9, 0.2, math.nan], nan_ok=True)


def test_the_test_errs_no_more_often_than_it_says() -> None:
    # the judge is worse than each person by exactly epsilon: gaps of 1 and -1, mean 0.2
    rng = np.random.default_rng(2)
    n_passed = 0
    for _ in range(400):
        gap = np.where(rng.random((50, 3)) < 0.6, 1.0, -1.0)
        n_passed += alternative_by_alignment(-gap, np.zeros((50, 3)), epsilon=0.2).is_passed
    assert n_passed <= stats.binom.ppf(0.999, 400, 0.05)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="judge"):
        alternative_test(JUDGE[1:], HUMANS, epsilon=0.2)
    with pytest.raises(ValueError, match="epsilon"):
        alternative_test(JUDGE, HUMANS, epsilon=1.0)
    with pytest.raises(ValueError, match="alignments"):
        alternative_by_alignment(HUMANS, HUMANS[1:], epsilon=0.2)
    with pytest.raises(ValueError, match="human_similarity"):
        similarity_alignments(np.ones((2, 3)), np.ones((2, 3, 2)))
