"""Sequences looked at after every value: how often they are ever wrong, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evalkit.stats.sequential import (
    Alternative,
    BettingSequence,
    bernoulli_log_e,
    bernstein_sequence,
    difference_sequence,
    sequential_verdict,
)


def most(n_repeats: int, alpha: float) -> int:
    """No more failures than that in 999 of 1000 studies, if each fails with probability alpha."""
    return int(stats.binom.isf(0.001, n_repeats, alpha))


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_the_truth_is_rejected_at_no_look_but_with_probability_alpha(
    p: float, alternative: Alternative
) -> None:
    rng = np.random.default_rng(11)
    successes = np.cumsum(rng.random((1000, 600)) < p, axis=1)
    log_e = bernoulli_log_e(successes, np.arange(1, 601), p, alternative=alternative)
    n_rejected = int((log_e.max(axis=1) >= math.log(10)).sum())
    assert 0 < n_rejected <= most(1000, 0.1)


@pytest.mark.parametrize("p", [0.5, 0.98])
def test_a_fixed_interval_looked_at_each_time_rejects_the_truth_far_more_often(p: float) -> None:
    rng = np.random.default_rng(11)
    n = np.arange(1, 801)
    means = np.cumsum(rng.random((2000, 800)) < p, axis=1) / n
    z = np.abs(means - p) / np.sqrt(p * (1 - p) / n)
    is_rejected = (z[:, 30:] > stats.norm.isf(0.05)).any(axis=1)
    assert is_rejected.mean() > 0.3  # against the 0.1 that a single look has


@pytest.mark.parametrize("draw", ["coin", "rare", "graded"])
def test_betting_and_bernstein_cover_at_all_looks(draw: str) -> None:
    rng = np.random.default_rng(3)
    n_repeats, n, mean = 300, 250, {"coin": 0.5, "rare": 0.98, "graded": 0.25}[draw]
    n_missed = dict.fromkeys(("betting", "bernstein"), 0)
    for _ in range(n_repeats):
        drawn = rng.beta(0.5, 1.5, n) if draw == "graded" else rng.random(n) < mean
        values = np.asarray(drawn, dtype=np.float64)
        for name, looks in (
            ("betting", BettingSequence(alpha=0.2, n_grid=200).extend(values)),
            ("bernstein", bernstein_sequence(values, alpha=0.2)),
        ):
            last = looks.last()
            n_missed[name] += not last.low <= mean <= last.high  # nan misses too
    assert max(n_missed.values()) <= most(n_repeats, 0.2)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.03, "pass"),
        (-0.015, -0.001, "pass"),  # a drop is proved, and that it is a small one
        (-0.05, -0.001, "regression"),
        (-0.02, -0.001, "regression"),  # the margin itself is not excluded
        (-0.05, 0.0, "continue"),
        (-0.05, 0.04, "continue"),
        (math.nan, math.nan, "continue"),
        (math.nan, -0.1, "continue"),
    ],
)
def test_the_verdict_at_a_look(low: float, high: float, verdict: str) -> None:
    assert sequential_verdict(low, high, margin=0.02) == verdict


def test_a_candidate_worse_by_the_margin_rarely_ever_passes() -> None:
    rng = np.random.default_rng(8)
    n_passed = 0
    for _ in range(200):
        # 10 % of the examples change for the worse, 5 % for the better: a drop of 0.05
        differences = rng.choice([-1.0, 0.0, 1.0], size=600, p=[0.1, 0.85, 0.05])
        looks = difference_sequence(alpha=0.2, n_grid=400).extend(differences)
        verdicts = {
            sequential_verdict(low, high, margin=0.05)
            for low, high in zip(looks.low, looks.high, strict=True)
        }
        n_passed += "pass" in verdicts
    assert n_passed <= most(200, 0.2)


def test_a_clear_regression_is_called_early() -> None:
    rng = np.random.default_rng(9)
    differences = rng.choice([-1.0, 0.0, 1.0], size=2000, p=[0.3, 0.68, 0.02])
    looks = difference_sequence(alpha=0.05).extend(differences)
    verdicts = [
        sequential_verdict(low, high, margin=0.02)
        for low, high in zip(looks.low, looks.high, strict=True)
    ]
    assert 20 < verdicts.index("regression") < 300
