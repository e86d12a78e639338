"""A judge's metric on two runs, where people labelled some of the answers of both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.compare.labelled import FEWEST_LABELS, corrected
from evalkit.stats.paired import compare_means
from evalkit.stats.rectify import rectify_difference


def study(
    seed: int, *, n: int = 400, n_labels: int = 60, favour: float = 0.0
) -> tuple[np.ndarray, ...]:
    """Judge and labels of two systems, the second 0.3 better; the judge's noise is shared."""
    rng = np.random.default_rng(seed)
    item = rng.normal(3, 0.7, n)
    human_a, human_b = item + rng.normal(0, 0.5, n), item + 0.3 + rng.normal(0, 0.5, n)
    shared = rng.normal(0.8, 0.4, n)
    judge_a = human_a + shared + rng.normal(0, 0.3, n)
    judge_b = human_b + shared + favour + rng.normal(0, 0.3, n)
    known = np.zeros(n, dtype=bool)
    known[rng.choice(n, n_labels, replace=False)] = True
    return judge_a, judge_b, np.where(known, human_a, np.nan), np.where(known, human_b, np.nan)


def test_the_difference_is_that_of_ppi_done_jointly() -> None:
    a, b, human_a, human_b = study(0)
    first, second = corrected(a, b, human_a, human_b)
    known = np.isfinite(human_a)
    expected = rectify_difference(
        np.column_stack((human_b, human_a))[known],
        np.column_stack((b, a))[known],
        unlabelled=np.column_stack((b, a))[~known],
        lam="plug-in",
    )
    # lambda is clipped and estimated by the spread of all judged pairs here, of the others there
    assert (second - first).mean() == pytest.approx(expected.value, abs=0.01)
    stderr = (second - first).std(ddof=1) / np.sqrt(a.size)
    assert stderr == pytest.approx(expected.stderr, rel=0.06)


def test_a_judge_that_favours_one_side_is_put_right() -> None:
    a, b, human_a, human_b = study(1, favour=0.5)
    assert (b - a).mean() > 0.7
    first, second = corrected(a, b, human_a, human_b)
    assert (second - first).mean() == pytest.approx(0.3, abs=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(400):
        a, b, human_a, human_b = study(seed, n=200, n_labels=40, favour=0.2)
        found = compare_means(*corrected(a, b, human_a, human_b), is_binary=False, rng=rng)
        held += found.low <= 0.3 <= found.high
    # 99.9 % limits of a binomial with n = 400, p = .95
    assert 365 <= held <= 393


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, FEWEST_LABELS - 1))
def test_with_too_few_labels_nothing_is_changed(seed: int, n_labels: int) -> None:
    a, b, human_a, human_b = study(seed, n=60, n_labels=n_labels)
    first, second = corrected(a, b, human_a, human_b)
    assert first is a
    assert second is b


def test_where_all_is_labelled_the_labels_speak_alone() -> None:
    a, b, human_a, human_b = study(2, n=50, n_labels=50)
    first, second = corrected(a, b, human_a, human_b)
    assert np.array_equal(first, human_a)
    assert np.array_equal(second, human_b)
