"""Agreement beyond a constant's: values from other tools, and the judges that must be refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evalkit.stats.discrimination import Measure, discrimination
from evalkit.stats.intervals import FloatArray

MEASURES: tuple[Measure, ...] = ("correlation", "concordance", "kappa")
HUMAN = np.array([1.0, 2, 2, 3, 4, 5, 5, 3, 1, 4, 2, 3])
JUDGE = np.array([1.0, 1, 2, 3, 5, 4, 5, 2, 2, 4, 3, 3])
SCORES = arrays(float, 24, elements=st.integers(1, 5).map(float))


def table(cells: list[list[int]]) -> tuple[FloatArray, FloatArray]:
    rows = [(i, j) for i, row in enumerate(cells) for j, n in enumerate(row) for _ in range(n)]
    found = np.array(rows, dtype=float)
    return found[:, 0], found[:, 1]


def test_the_correlation_is_pearsons() -> None:
    found = discrimination(JUDGE, HUMAN, threshold=0.0)
    assert found.estimate == pytest.approx(stats.pearsonr(JUDGE, HUMAN).statistic)


def test_the_concordance_is_somers_d() -> None:
    found = discrimination(JUDGE, HUMAN, threshold=0.0, measure="concordance")
    # scipy.stats.somersd(human, judge), the judge being the dependent one
    assert found.estimate == pytest.approx(0.7543859649122807)


@pytest.mark.parametrize(
    ("cells", "kappa", "stderr"),
    [
        # statsmodels 0.15 cohens_kappa, after Fleiss, Cohen and Everitt (1969): .4 is Wikipedia's,
        # the other table is SexualFun of the R package vcd
        ([[20, 5], [10, 15]], 0.4, 0.12699606293110033),
        ([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]], 0.129330254, 0.068598532),
    ],
)
def test_kappa_and_its_error_are_those_of_fleiss(
    cells: list[list[int]], kappa: float, stderr: float
) -> None:
    judge, human = table(cells)
    found = discrimination(judge, human, threshold=0.0, measure="kappa")
    n = judge.size
    assert found.estimate == pytest.approx(kappa)
    assert found.stderr == pytest.approx(stderr * math.sqrt(n / (n - 1)))


def test_the_bound_of_a_correlation_is_fishers_in_large_samples() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    y = 0.5 * x + math.sqrt(0.75) * rng.normal(size=4000)
    found = discrimination(x, y, threshold=0.4)
    z = math.atanh(found.estimate) - 1.6448536 / math.sqrt(4000 - 3)
    assert found.low == pytest.approx(math.tanh(z), abs=0.002)
    assert found.is_passed
    assert not discrimination(x, y, threshold=0.5).is_passed


@pytest.mark.parametrize("measure", MEASURES)
def test_what_only_strata_explain_is_no_discrimination(measure: Measure) -> None:
    # every stratum has its level, which judge and people share, and nothing else in common
    rng = np.random.default_rng(1)
    stratum = np.repeat(np.arange(4), 50)
    judge, human = (3 * stratum + rng.integers(0, 3, 200) for _ in range(2))
    assert discrimination(judge, human, threshold=0.2, measure=measure).is_passed
    within = discrimination(judge, human, threshold=0.0, measure=measure, strata=stratum)
    assert within.estimate == pytest.approx(0, abs=0.2)
    assert not within.is_passed
    assert within.n_strata == 4


@pytest.mark.parametrize("measure", MEASURES)
def test_a_constant_judge_is_refused(measure: Measure) -> None:
    found = discrimination(np.full(12, 5.0), HUMAN, threshold=0.0, measure=measure)
    assert math.isnan(found.low)
    assert "judge gave one and the same" in found.reason
    assert not found.is_passed
    flat = discrimination(HUMAN, np.full(12, 5.0), threshold=0.0, measure=measure)
    assert "people gave one and the same" in flat.reason


@pytest.mark.parametrize("measure", MEASURES)
def test_a_judge_that_goes_by_position_is_refused_where_position_is_nearly_always_right(
    measure: Measure,
) -> None:
    # nine times in ten the better answer is shown first; verdicts are 1 and 2 in original labels
    rng = np.random.default_rng(2)
    shown_first = rng.integers(1, 3, 400)
    label = np.where(rng.random(400) < 0.9, shown_first, 3 - shown_first)
    judge = shown_first.astype(float)
    assert np.mean(judge == label) > 0.85
    assert discrimination(judge, label, threshold=0.5, measure=measure).is_passed
    found = discrimination(judge, label, threshold=0.0, measure=measure, strata=shown_first)
    assert not found.is_passed
    assert found.n_flat == 2
    honest = np.where(rng.random(400) < 0.9, label, 3 - label)
    seen = discrimination(honest, label, threshold=0.2, measure=measure, strata=shown_first)
    assert seen.is_passed


@pytest.mark.parametrize("measure", MEASURES)
def test_a_handful_of_departures_tells_nothing(measure: Measure) -> None:
    human = np.tile([1.0, 2, 3, 4, 5], 20)
    judge = np.full(100, 5.0)
    judge[[0, 5, 10, 15]] = 1.0  # four lucky hits
    found = discrimination(judge, human, threshold=0.0, measure=measure)
    assert not found.is_passed
    assert "4 units" in found.reason
    judge[20] = 1.0
    assert discrimination(judge, human, threshold=0.0, measure=measure).reason == ""


@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=25, deadline=None)
@given(judge=SCORES, human=SCORES, order=st.permutations(range(24)))
def test_rows_have_no_order_and_scales_no_unit(
    measure: Measure, judge: FloatArray, human: FloatArray, order: list[int]
) -> None:
    strata = np.arange(24) // 8
    plain = discrimination(judge, human, threshold=0.0, measure=measure, strata=strata)
    moved = discrimination(
        3 * judge[order] + 1,
        3 * human[order] + 1,
        threshold=0.0,
        measure=measure,
        strata=strata[order],
    )
    assert moved.estimate == pytest.approx(plain.estimate, nan_ok=True, abs=1e-12)
    assert moved.low == pytest.approx(plain.low, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_copies_in_a_cluster_add_no_certainty(measure: Measure) -> None:
    rng = np.random.default_rng(3)
    human = rng.integers(1, 4, 60).astype(float)
    judge = np.where(rng.random(60) < 0.6, human, rng.integers(1, 4, 60))
    alone = discrimination(judge, human, threshold=0.0, measure=measure, clusters=np.arange(60))
    copied = discrimination(
        np.tile(judge, 3),
        np.tile(human, 3),
        threshold=0.0,
        measure=measure,
        clusters=np.tile(np.arange(60), 3),
    )
    assert copied.stderr == pytest.approx(alone.stderr, rel=0.02)
    assert (copied.n, copied.n_units) == (180, 60)


def test_rows_that_lack_a_score_are_left_out() -> None:
    judge = np.append(JUDGE, [math.nan, 3.0])
    human = np.append(HUMAN, [4.0, math.nan])
    found = discrimination(judge, human, threshold=0.0)
    assert found.n == 12
    assert found.estimate == pytest.approx(stats.pearsonr(JUDGE, HUMAN).statistic)


def test_full_agreement_has_no_error_to_go_by() -> None:
    found = discrimination(HUMAN, HUMAN, threshold=0.0)
    assert found.estimate == pytest.approx(1.0)
    assert math.isnan(found.low)
    assert "complete" in found.reason


@pytest.mark.parametrize("measure", MEASURES)
def test_a_judge_without_sense_passes_no_more_often_than_is_said(measure: Measure) -> None:
    rng = np.random.default_rng(4)
    skewed = [0.05, 0.05, 0.2, 0.7]
    n_passed = sum(
        discrimination(
            rng.choice(4, 60, p=skewed), rng.choice(4, 60, p=skewed), threshold=0.0, measure=measure
        ).is_passed
        for _ in range(400)
    )
    assert n_passed <= stats.binom.ppf(0.999, 400, 0.05)


def test_prompts_as_strata_do_not_make_rows_count_twice() -> None:
    # two answers a prompt: their deviations are one number, once with either sign. Counted as two
    # it would pass in 12 %, P(Z > 1.645 / sqrt 2); of 6000 such data sets 6.3 % passed
    rng = np.random.default_rng(5)
    prompt = np.repeat(np.arange(40), 2)
    n_passed = 0
    for _ in range(400):
        judge, human = (rng.normal(size=40)[prompt] + rng.normal(size=80) for _ in range(2))
        n_passed += discrimination(judge, human, threshold=0.0, strata=prompt).is_passed
    low, high = stats.binom.interval(0.999, 400, 0.063)
    assert low <= n_passed <= high


def test_shapes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="judge and human"):
        discrimination(JUDGE, HUMAN[1:], threshold=0.0)
    with pytest.raises(ValueError, match="strata and clusters"):
        discrimination(JUDGE, HUMAN, threshold=0.0, strata=np.zeros(3))
