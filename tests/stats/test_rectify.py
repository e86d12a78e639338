"""Means corrected by a judge: agreement with other tools, invariants, coverage, refusals."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.influence import Tuning
from evalkit.stats.intervals import FloatArray, cluster_t_interval, t_interval
from evalkit.stats.rectify import Rectified, rectify, rectify_difference

HUMAN = np.array([1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1.0])
JUDGE = np.array([0.9, 0.6, 0.8, 0.3, 0.4, 0.7, 0.5, 0.3, 0.5, 0.9, 0.1, 0.2])
OTHERS = np.array(
    [
        *(0.9, 0.8, 0.3, 0.2, 0.6, 0.7, 0.7, 0.1, 0.5, 0.4),
        *(0.95, 0.85, 0.05, 0.65, 0.75, 0.45, 0.55, 0.35, 0.25, 0.15),
    ]
)


def tuned_by_hand(human: FloatArray, judge: FloatArray, others: FloatArray) -> float:
    """lam of PPI++ with the variance of all scores (Angelopoulos et al. 2023b)."""
    covariance = float(np.mean((human - human.mean()) * (judge - judge.mean())))
    variance = float(np.concatenate((judge, others)).var(ddof=1))
    return covariance / ((1 + human.size / others.size) * variance)


# ppi_py 0.2.3: ppi_mean_pointestimate and ppi_mean_ci, alpha 0.1, with lam 1, None and 0
@pytest.mark.parametrize(
    ("lam", "value", "low", "high"),
    [
        (1.0, 0.5766666666666667, 0.344318085965605, 0.8090152473677283),
        (None, 0.5800787651589643, 0.36055659025981784, 0.7996009400581108),
        (0.0, 0.5833333333333334, 0.34923980371414154, 0.8174268629525252),
    ],
)
def test_rectify_agrees_with_ppi_py(
    lam: float | None, value: float, low: float, high: float
) -> None:
    used = tuned_by_hand(HUMAN, JUDGE, OTHERS) if lam is None else lam
    found = rectify(HUMAN, JUDGE, unlabelled=OTHERS, lam=used, level=0.9)
    assert found.value == pytest.approx(value, abs=1e-12)
    # ppi_py divides variances by n and takes the normal quantile; with the data k times over,
    # n - 1 is n but for 1/(12 k)
    k = 2000
    often = rectify(np.tile(HUMAN, k), np.tile(JUDGE, k), unlabelled=np.tile(OTHERS, k), lam=used)
    margin = stats.norm.ppf(0.95) * often.stderr * math.sqrt(k)
    assert (value - margin, value + margin) == pytest.approx((low, high), abs=2e-5)


def test_the_plug_in_lam_minimises_the_variance_that_the_interval_has() -> None:
    found = rectify(HUMAN, JUDGE, unlabelled=OTHERS, lam="plug-in")
    covariance = float(np.cov(HUMAN, JUDGE)[0, 1])
    lam = covariance / (JUDGE.var(ddof=1) + 12 / 20 * OTHERS.var(ddof=1))
    variance = (HUMAN - lam * JUDGE).var(ddof=1) / 12 + lam**2 * OTHERS.var(ddof=1) / 20
    assert found.lam == pytest.approx(lam)
    assert found.stderr == pytest.approx(math.sqrt(variance))
    margin = stats.t.ppf(0.975, 11) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((found.value - margin, found.value + margin))


def by_hand(human: FloatArray, judge: FloatArray, others: FloatArray) -> tuple[float, float]:
    """Cross-fitted value and standard error, one left-out label at a time."""
    n, n_others = human.size, others.size
    lams = []
    for i in range(n):
        y, f = np.delete(human, i), np.delete(judge, i)
        below = f.var(ddof=0) / (n - 1) + others.var(ddof=1) / n_others * (n_others - 1) / n_others
        lams.append(min(1.0, max(0.0, float(np.cov(y, f, ddof=0)[0, 1]) / (n - 1) / below)))
    kept = human - np.array(lams) * (judge - others.mean())
    lam = float(np.mean(lams))
    variance = kept.var(ddof=1) / n + lam**2 * others.var(ddof=1) / n_others
    return float(kept.mean()), math.sqrt(variance)


def test_each_label_is_corrected_with_the_lam_of_the_others() -> None:
    found = rectify(HUMAN, JUDGE, unlabelled=OTHERS)
    value, stderr = by_hand(HUMAN, JUDGE, OTHERS)
    # the hand's unlabelled variance has (N-1)/N where CR2 has none: 1 part in 20 of a small part
    assert (found.value, found.stderr) == pytest.approx((value, stderr), rel=2e-3)
    many = np.tile(OTHERS, 500)
    found, expected = rectify(HUMAN, JUDGE, unlabelled=many), by_hand(HUMAN, JUDGE, many)
    assert (found.value, found.stderr) == pytest.approx(expected, rel=1e-6)


def test_clusters_are_left_out_whole() -> None:
    rng = np.random.default_rng(4)
    clusters, elsewhere = (
        np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6]),
        np.repeat(np.arange(4, 30), 3),
    )
    human, others = rng.normal(size=21), rng.normal(size=78)
    judge = 0.6 * human + rng.normal(size=21)
    lams = np.empty(21)
    for g in range(6):
        keep = clusters != g
        y, f = human[keep] - human[keep].mean(), judge[keep] - judge[keep].mean()
        ids = clusters[keep]
        u = np.bincount(ids, weights=y, minlength=30) / y.size
        v = np.bincount(ids, weights=f, minlength=30) / y.size
        q = np.bincount(elsewhere, weights=others - others.mean(), minlength=30) / 78
        # as in the sums of CR2, a cluster of the others weighs 1 / sqrt(1 - its share)
        q /= np.sqrt(1 - np.bincount(elsewhere, minlength=30) / 78)
        gap = np.delete(v - q, g)
        lams[clusters == g] = np.clip(np.delete(u, g) @ gap / (gap @ gap), 0, 1)
    kept = human - lams * (judge - others.mean())
    found = rectify(human, judge, unlabelled=others, clusters=(clusters, elsewhere))
    assert (found.value, found.lam) == pytest.approx((kept.mean(), lams.mean()))


def test_labels_alone_are_the_plain_and_the_clustered_t_interval() -> None:
    rng = np.random.default_rng(0)
    human, judge, others = rng.normal(size=30), rng.normal(size=30), rng.normal(size=90)
    plain, alone = rectify(human, judge, unlabelled=others).labels_only, t_interval(human)
    assert (plain.low, plain.high) == pytest.approx((alone.low, alone.high))
    clusters = np.repeat(np.arange(8), [1, 2, 3, 4, 5, 5, 5, 5])
    found = rectify(human, judge, unlabelled=others, clusters=(clusters, np.arange(90) + 100))
    alone = cluster_t_interval(human, clusters, correction="cr2")
    assert (found.labels_only.low, found.labels_only.high) == pytest.approx((alone.low, alone.high))
    assert found.method == "cluster-ppi++"


@pytest.mark.parametrize("lam", ["plug-in", "cross-fit", 1.0])
def test_clusters_of_one_change_nothing(lam: Tuning | float) -> None:
    plain = rectify(HUMAN, JUDGE, unlabelled=OTHERS, lam=lam)
    alone = rectify(
        HUMAN, JUDGE, unlabelled=OTHERS, lam=lam, clusters=(np.arange(12), np.arange(12, 32))
    )
    assert (plain.value, plain.low, plain.high) == pytest.approx(
        (alone.value, alone.low, alone.high)
    )


def test_equal_propensities_are_the_plain_estimate_with_another_reference() -> None:
    chances = np.full(12, 0.3)
    weighted = rectify(HUMAN, JUDGE, unlabelled=OTHERS, propensities=chances, lam=0.8)
    plain = rectify(HUMAN, JUDGE, unlabelled=OTHERS, lam=0.8 * 20 / 32)
    assert weighted.value == pytest.approx(plain.value)
    assert weighted.stderr == pytest.approx(plain.stderr, rel=0.05)


def test_without_a_judge_weighted_labels_give_hajek_mean() -> None:
    chances = np.linspace(0.1, 1, 12)
    found = rectify(HUMAN, JUDGE, unlabelled=OTHERS, propensities=chances, lam=0.0)
    assert found.value == pytest.approx(float((HUMAN / chances).sum() / (1 / chances).sum()))


FLOATS = st.floats(-5, 5, width=32)


@settings(deadline=None, max_examples=60)
@given(arrays(float, (15, 2), elements=FLOATS), arrays(float, 40, elements=FLOATS))
def test_the_plug_in_lam_is_never_wider_than_the_labels(
    pairs: FloatArray, others: FloatArray
) -> None:
    found = rectify(pairs[:, 0], pairs[:, 1], unlabelled=others, lam="plug-in")
    assert not found.is_wider
    if math.isfinite(found.stderr) and math.isfinite(found.labels_only.stderr):
        assert found.stderr <= found.labels_only.stderr * (1 + 1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.floats(-100, 100), st.sampled_from(["plug-in", "cross-fit"]))
def test_neither_order_nor_a_shift_of_the_judge_changes_the_estimate(
    seed: int, shift: float, lam: Tuning
) -> None:
    rng = np.random.default_rng(seed)
    human, others = rng.normal(size=20), rng.normal(size=50)
    judge = human + rng.normal(size=20)
    order = rng.permutation(20)
    plain = rectify(human, judge, unlabelled=others, lam=lam)
    moved = rectify(human[order], judge[order] + shift, unlabelled=others[::-1] + shift, lam=lam)
    assert (plain.value, plain.stderr) == pytest.approx((moved.value, moved.stderr), abs=1e-9)


def test_is_wider_says_so() -> None:
    rng = np.random.default_rng(1)
    human, judge, others = rng.normal(size=60), rng.normal(size=60), rng.normal(size=500)
    trusting = rectify(human, judge, unlabelled=others, lam=1.0)
    assert trusting.is_wider
    assert trusting.high - trusting.low > trusting.labels_only.high - trusting.labels_only.low
    assert trusting.n_effective < 60


def test_swapping_two_systems_negates_their_difference() -> None:
    rng = np.random.default_rng(2)
    human, others = rng.normal(size=(30, 2)), rng.normal(size=(90, 2))
    judge = human + rng.normal(size=(30, 2))
    ab = rectify_difference(human, judge, unlabelled=others)
    ba = rectify_difference(human[:, ::-1], judge[:, ::-1], unlabelled=others[:, ::-1])
    assert (ab.value, ab.low, ab.high) == pytest.approx((-ba.value, -ba.high, -ba.low))


def test_what_two_systems_share_cancels_in_their_difference() -> None:
    rng = np.random.default_rng(3)
    shared, apart = rng.normal(scale=5, size=(130, 1)), rng.normal(size=(130, 2))
    human = shared + apart
    judge = human + rng.normal(scale=0.5, size=(130, 2))
    joint = rectify_difference(human[:40], judge[:40], unlabelled=judge[40:])
    single = [rectify(human[:40, i], judge[:40, i], unlabelled=judge[40:, i]) for i in (0, 1)]
    assert joint.stderr < 0.3 * math.hypot(*(s.stderr for s in single))


@pytest.mark.parametrize(
    ("human", "judge", "others", "words"),
    [
        ([], [], [1, 2], "0 independent labelled units"),
        ([1], [2], [1, 2], "1 independent labelled units"),
        ([1, math.nan], [2, 1], [1, 2], "missing"),
        ([1, 2], [2, 1], [1, math.nan], "missing"),
        ([1, 1, 1], [1, 2, 3], [1, 2], "no spread"),
    ],
)
def test_too_little_gives_nan_and_a_reason(
    human: list[float], judge: list[float], others: list[float], words: str
) -> None:
    found = rectify(
        np.array(human, dtype=float), np.array(judge, dtype=float), unlabelled=np.array(others)
    )
    assert math.isnan(found.low)
    assert math.isnan(found.stderr)
    assert words in found.reason


def test_a_judge_that_agrees_with_every_label_is_left_out() -> None:
    found = rectify(HUMAN, HUMAN + 2, unlabelled=OTHERS)
    alone = t_interval(HUMAN)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert found.lam == 0
    assert "judge left out" in found.reason


def test_no_unlabelled_items_leave_the_labels() -> None:
    found = rectify(HUMAN, JUDGE, unlabelled=np.empty(0))
    assert (found.value, found.lam, found.n_effective) == pytest.approx((HUMAN.mean(), 0, 12))


def test_a_constant_judge_changes_nothing() -> None:
    found = rectify(HUMAN, np.full(12, 0.1), unlabelled=np.full(20, 0.1))
    assert (found.value, found.lam) == pytest.approx((HUMAN.mean(), 0))
    assert math.isnan(found.naive.stderr)


def test_lengths_and_propensities_are_checked() -> None:
    with pytest.raises(ValueError, match="12 labels but 11"):
        rectify(HUMAN, JUDGE[:-1], unlabelled=OTHERS)
    with pytest.raises(ValueError, match="above 0"):
        rectify(HUMAN, JUDGE, unlabelled=OTHERS, propensities=np.zeros(12))
    with pytest.raises(ValueError, match="clusters of shape"):
        rectify(HUMAN, JUDGE, unlabelled=OTHERS, clusters=(np.arange(3), np.arange(20)))


REPEATS = 1000
# within which 999 studies in 1000 fall
LIMITS = (stats.binom.ppf(0.0005, REPEATS, 0.95), stats.binom.ppf(0.9995, REPEATS, 0.95))


def n_held(found: Iterable[Rectified], truth: float) -> int:
    return sum(f.low <= truth <= f.high for f in found)


@pytest.mark.parametrize(("n", "lam"), [(12, "cross-fit"), (30, "cross-fit"), (50, "plug-in")])
@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_a_biased_judge_leaves_the_level_as_it_is(n: int, lam: Tuning, correlation: float) -> None:
    rng = np.random.default_rng(n)

    def draw(size: int) -> tuple[FloatArray, FloatArray]:
        human, noise = rng.normal(size=(2, size))
        return human, 1.2 * (correlation * human + math.sqrt(1 - correlation**2) * noise) - 1

    found = [rectify(*draw(n), unlabelled=draw(500)[1], lam=lam) for _ in range(REPEATS)]
    assert LIMITS[0] <= n_held(found, 0.0) <= LIMITS[1]
    assert sum(f.naive.low <= 0 <= f.naive.high for f in found) == 0
    width, alone = (
        np.mean([i.high - i.low for i in intervals])
        for intervals in (found, [f.labels_only for f in found])
    )
    assert width < (1.04 if correlation == 0 else 0.9) * alone


def test_the_plug_in_lam_is_too_sure_from_eight_labels() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(REPEATS):
        human, judge = rng.normal(size=(2, 8))
        judge = 0.6 * human + 0.8 * judge
        found.append(rectify(human, judge, unlabelled=rng.normal(size=500), lam="plug-in"))
    assert n_held(found, 0.0) < LIMITS[0]


@pytest.mark.parametrize("prevalence", [0.3, 0.6])
def test_the_level_holds_for_verdicts_of_known_sensitivity(prevalence: float) -> None:
    rng = np.random.default_rng(7)

    def draw(size: int) -> tuple[FloatArray, FloatArray]:
        human = rng.random(size) < prevalence
        judge = rng.random(size) < np.where(human, 0.9, 0.35)
        return human.astype(float), judge.astype(float)

    found = [rectify(*draw(60), unlabelled=draw(500)[1]) for _ in range(REPEATS)]
    assert LIMITS[0] <= n_held(found, prevalence) <= LIMITS[1]


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_level_holds_in_clusters_where_the_plain_interval_loses_it(is_shared: bool) -> None:
    rng = np.random.default_rng(8)
    clusters = np.repeat(np.arange(12), 6)
    elsewhere = np.repeat(np.arange(0 if is_shared else 12, 60), 5)
    found, plain = [], []
    for _ in range(REPEATS):
        levels = rng.normal(size=(2, 60)) * math.sqrt(0.4)

        def draw(ids: np.ndarray, levels: FloatArray = levels) -> tuple[FloatArray, FloatArray]:
            human, noise = levels[:, ids] + rng.normal(size=(2, ids.size)) * math.sqrt(0.6)
            return human, 0.6 * human + 0.8 * noise + 1

        human, judge = draw(clusters)
        others = draw(elsewhere)[1]
        found.append(rectify(human, judge, unlabelled=others, clusters=(clusters, elsewhere)))
        plain.append(rectify(human, judge, unlabelled=others))
    assert LIMITS[0] <= n_held(found, 0.0) <= LIMITS[1]
    assert n_held(plain, 0.0) < 0.85 * REPEATS
