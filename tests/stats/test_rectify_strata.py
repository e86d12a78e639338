"""Corrected means of stratified labels: by hand, against the plain estimate, and their level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evalkit.stats.labelling import propose_by_strata, score_strata
from evalkit.stats.rectify import rectify
from evalkit.stats.rectify_strata import rectify_strata


def test_a_stratum_counts_for_its_share_of_the_items_not_of_the_labels() -> None:
    human = np.array([1.0, 2, 3, 10, 14])
    strata = np.array(["a", "a", "a", "b", "b"]), np.array(["a"] * 5 + ["b"] * 10)
    found = rectify_strata(human, human * 0, unlabelled=np.zeros(15), strata=strata)
    # 8 of 20 items in a, 12 in b: .4 * 2 + .6 * 12; within: .16 * 1/3 + .36 * 8/2, and Cochran's
    # part for the shares: (.4 * 6^2 + .6 * 4^2) / 20
    assert found.value == pytest.approx(8.0)
    assert found.stderr == pytest.approx(math.sqrt(0.16 / 3 + 0.36 * 4 + 24 / 20))


def test_one_stratum_is_the_plain_estimate() -> None:
    rng = np.random.default_rng(0)
    human, others = rng.normal(size=20), rng.normal(size=70)
    judge = human + rng.normal(size=20)
    plain = rectify(human, judge, unlabelled=others)
    found = rectify_strata(human, judge, unlabelled=others, strata=(["x"] * 20, ["x"] * 70))
    assert (found.value, found.low, found.high) == pytest.approx(
        (plain.value, plain.low, plain.high)
    )


def test_a_stratum_without_two_labels_is_named() -> None:
    found = rectify_strata(
        np.array([1.0, 2, 3]),
        np.array([1.0, 3, 2]),
        unlabelled=np.ones(4),
        strata=(["a", "a", "b"], ["a", "a", "b", "b"]),
    )
    assert math.isnan(found.value)
    assert "stratum b has 1" in found.reason


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="shapes do not fit"):
        rectify_strata(np.ones(3), np.ones(3), unlabelled=np.ones(2), strata=([0] * 3, [0] * 3))


@pytest.mark.parametrize("is_clustered", [False, True])
def test_the_level_holds_though_hard_strata_get_more_labels(is_clustered: bool) -> None:
    rng, n_held, n_plain, repeats = np.random.default_rng(1), 0, 0, 500
    names = [str(i) for i in range(600)]
    clusters = np.arange(600) // 2 if is_clustered else np.arange(600)
    for seed in range(repeats):
        human = rng.normal(size=300 if is_clustered else 600)[clusters]
        judge = 0.6 * human + 0.8 * rng.normal(size=600) - 2
        strata = score_strata(judge, 4)
        chosen = propose_by_strata(
            names, strata, n=60, spreads=np.array([1.0, 1, 2, 4]), seed=seed
        ).chosen
        rest = np.setdiff1d(np.arange(600), chosen)
        found = rectify_strata(
            human[chosen],
            judge[chosen],
            unlabelled=judge[rest],
            strata=(strata[chosen], strata[rest]),
            clusters=(clusters[chosen], clusters[rest]) if is_clustered else None,
        )
        n_held += found.low <= 0 <= found.high
        plain = rectify(human[chosen], judge[chosen], unlabelled=judge[rest])
        n_plain += plain.labels_only.low <= 0 <= plain.labels_only.high
    assert (
        stats.binom.ppf(0.0005, repeats, 0.95) <= n_held <= stats.binom.ppf(0.9995, repeats, 0.95)
    )
    assert n_plain < 0.8 * repeats  # such labels are no random sample
