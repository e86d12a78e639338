"""One check: its bounds against other tools and closed forms, and what must hold of any scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from planted import Scores, record_of, sides
from scipy import stats

from evalkit.compare import paired
from evalkit.errors import UsageError
from evalkit.gate import Check, CheckResult, Reason, Verdict, decide, holm_levels
from evalkit.record import RunRecord
from evalkit.stats.multiplicity import holm

Z = 1.6448536269514722  # of .05, scipy.stats.norm.isf


def decided(
    a: RunRecord, b: RunRecord, *, margin: float = 0.05, alpha: float = 0.05, **check: Any
) -> CheckResult:
    pairs = paired(*sides(a, b), "t", "m")
    rule = Check(task="t", metric="m", margin=margin, **check)
    return decide(pairs, rule, alpha=alpha, power=0.8, rng_seed=0)


def binary(a: Scores, b: Scores, **options: Any) -> CheckResult:
    return decided(record_of(a), record_of(b), **options)


def graded(a: Sequence[Any], b: Sequence[Any], **options: Any) -> CheckResult:
    check = {name: options.pop(name) for name in ("margin", "alpha") if name in options}
    made = [record_of(list(scores), interval="mean", **options) for scores in (a, b)]
    return decided(made[0], made[1], **check)


def test_equal_answers_pass_from_as_many_examples_as_the_score_bound_needs() -> None:
    # Tango's bound without a discordant pair is -z^2 / (n + z^2): above -.05 from n = 52 on
    for n, verdict in ((51, Verdict.INCONCLUSIVE), (52, Verdict.PASS)):
        found = binary([1.0] * n, [1.0] * n)
        assert found.verdict is verdict
        assert found.low == pytest.approx(-(Z**2) / (n + Z**2))
        assert found.n_needed == 52
    assert (
        "cannot see a drop of 0.05 with 51 examples; needs 52"
        in binary([1.0] * 51, [1.0] * 51).detail
    )


@pytest.mark.parametrize("shift", [-0.2, -0.03, 0.0, 0.1])
def test_graded_scores_are_bounded_much_as_scipy_bounds_them(shift: float) -> None:
    rng = np.random.default_rng(0)
    a = rng.random(60)
    b = a + rng.normal(shift, 0.1, 60)
    found = graded(a.tolist(), b.tolist())
    low, high = stats.ttest_rel(b, a).confidence_interval(0.90)  # both one-sided at .05
    # the differences are nearly normal: a tenth of a standard error
    tenth = float(stats.sem(b - a)) / 10
    assert (found.low, found.high) == pytest.approx((low, high), abs=tenth)
    assert found.method == "paired-likelihood"
    excluded = stats.ttest_1samp(b - a, -0.05, alternative="greater")
    if shift > -0.1:  # below it both are 1 to the last digit
        z, expected = (float(stats.norm.isf(p)) for p in (found.p_value, excluded.pvalue))
        assert z == pytest.approx(expected, rel=0.1)
    assert (found.p_value < 0.05) == (found.low > -0.05)
    wanted = "pass" if low > -0.05 else "regression" if high < 0 else "inconclusive"
    assert found.verdict == wanted


def test_clusters_are_the_units_of_the_bounds() -> None:
    rng = np.random.default_rng(1)
    a = rng.random(120)
    d = np.repeat(rng.normal(0, 0.1, 30), 4) + rng.normal(0, 0.02, 120)
    labels = [f"c{i // 4}" for i in range(120)]
    found = graded(a.tolist(), (a + d).tolist(), clusters=labels)
    # equal clusters: about the t interval of their means
    means = d.reshape(30, 4).mean(axis=1)
    low, high = stats.ttest_1samp(means, 0).confidence_interval(0.90)
    tenth = float(stats.sem(means)) / 10
    assert (found.low, found.high) == pytest.approx((low, high), abs=1.5 * tenth)
    assert found.method == "paired-cluster-likelihood"
    assert found.n == 120


# one-sided .05, power .8, one pair in ten discordant
@pytest.mark.parametrize(("n", "points"), [(100, 7.9), (200, 5.6), (500, 3.5), (1000, 2.5)])
def test_what_n_examples_see_is_the_textbook_number(n: int, points: float) -> None:
    k = n // 20  # (1.6449 + .8416) sqrt(.1 / n)
    a, b = [0.0] * k + [1.0] * (n - k), [1.0] * (n - k) + [0.0] * k
    found = binary(a, b, margin=0.02)
    assert round(100 * found.mde, 1) == points
    # (1.6449 + .8416)^2 .1 / .02^2 = 1545.6, the variance here being n / (n - 1) larger
    assert found.n_needed == math.ceil(1545.6 * n / (n - 1) - 0.05)
    assert found.is_blind


def test_identical_graded_scores_pass_whatever_their_number() -> None:
    found = graded([0.25, 0.5, 0.75] * 4, [0.25, 0.5, 0.75] * 4)
    assert (found.verdict, found.reason, found.difference) == ("pass", "identical", 0.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.detail.startswith("identical")


def test_a_skewed_drop_of_the_margin_is_bounded_further_down_than_up() -> None:
    # 190 of 200 gain a little, 10 lose much: -.05 in all
    a = [0.9] * 200
    b = [0.905] * 190 + [0.9 - 0.9] * 5 + [0.9 - 0.95 * 0.9] * 5
    found = graded(a, b, margin=0.06)
    assert found.difference - found.low > 1.2 * (found.high - found.difference) > 0


def test_three_scores_that_differ_alike_say_little() -> None:
    # Without spread Student's t has no bound; the scale of the scores gives one, and it is wide.
    found = graded([0.5, 0.25, 0.75], [0.25, 0.0, 0.5])
    assert (found.verdict, found.reason) == ("inconclusive", "too_few")
    assert found.low < -0.25 < 0 < found.high


def test_no_example_in_common_says_nothing() -> None:
    found = binary([None] * 3, [1.0] * 3, max_error_rate=1.0)
    assert (found.n, found.n_missing, found.verdict) == (0, 3, Verdict.INCONCLUSIVE)
    assert math.isnan(found.difference)


def test_a_metric_of_which_less_is_better_is_turned_round() -> None:
    rng = np.random.default_rng(2)
    a = rng.random(80)
    b = a + rng.normal(0.3, 0.1, 80)
    worse = graded(a.tolist(), b.tolist(), higher_is_better=False, missing=(1.0, 0.0))
    assert (worse.verdict, worse.difference < 0) == (Verdict.REGRESSION, True)
    assert worse.value_b > worse.value_a
    better = graded(b.tolist(), a.tolist(), higher_is_better=False, missing=(1.0, 0.0))
    assert better.verdict is Verdict.PASS
    assert (better.low, better.high) == pytest.approx((-worse.high, -worse.low))


def test_a_verdict_that_hangs_on_what_is_missing_is_none() -> None:
    a = [1.0] * 200
    found = binary(a, [1.0] * 170 + ["abstained"] * 30)
    assert (found.verdict, found.reason, found.n_missing) == ("inconclusive", "missing", 30)
    # at worst all 30 are lost, at best none is: the bounds span both
    assert found.low == binary(a, [1.0] * 170 + [0.0] * 30).low
    assert found.high == binary(a, a).high
    # what the baseline did not answer could have been right
    found = binary([1.0] * 170 + ["abstained"] * 30, [1.0] * 170 + [0.0] * 30)
    assert found.reason is Reason.MISSING


def test_what_is_missing_has_no_ends_where_the_metric_has_none() -> None:
    rng = np.random.default_rng(3)
    a = rng.random(50)
    b: list[Any] = [None, *(a + rng.normal(0, 0.01, 50))[1:].tolist()]
    found = graded(a.tolist(), b, missing=(math.nan, math.nan))
    assert (found.verdict, found.reason) == ("inconclusive", "missing")


def test_a_repeat_that_is_missing_counts() -> None:
    a: list[Any] = [[1.0, 1.0]] * 40
    b: list[Any] = [[1.0, "abstained"]] * 20 + [[1.0, 1.0]] * 20
    found = decided(record_of(a, repeats=2), record_of(b, repeats=2))
    # at worst a quarter of the answers is lost, at best none
    assert (found.n, found.difference, found.verdict) == (40, 0.0, Verdict.INCONCLUSIVE)
    assert found.low < -0.25 < found.high == 0


def test_more_errors_than_allowed_never_pass() -> None:
    a: Scores = [0.0] * 100
    improved = [None] * 5 + [1.0] * 95
    found = binary(a, improved)
    assert (found.verdict, found.reason, found.error_rate) == ("regression", "errors", 0.05)
    assert binary(a, improved, max_error_rate=0.05).verdict is Verdict.PASS


def test_a_share_has_no_margin_of_one_or_more() -> None:
    with pytest.raises(UsageError, match=r"task t: metric m: margin 2 of a share.* is 0\.02"):
        binary([1.0], [1.0], margin=2.0)


unit = st.sampled_from([0.0, 1.0])
answer = st.one_of(unit, st.just("abstained"))


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=80), st.floats(0.01, 0.5))
def test_what_passes_passes_with_a_wider_margin(
    scores: list[tuple[float, float]], margin: float
) -> None:
    a, b = [x for x, _ in scores], [y for _, y in scores]
    narrow, wide = binary(a, b, margin=margin), binary(a, b, margin=margin * 1.5)
    assert narrow.verdict is not Verdict.PASS or wide.verdict is Verdict.PASS
    assert (narrow.low, narrow.high) == (wide.low, wide.high)


@given(st.lists(st.tuples(unit, answer), min_size=1, max_size=60))
def test_a_verdict_despite_missing_answers_holds_at_both_ends(
    scores: list[tuple[float, float | str]],
) -> None:
    a, b = [x for x, _ in scores], [y for _, y in scores]
    found = binary(a, b, margin=0.2)
    if found.verdict is not Verdict.INCONCLUSIVE:
        for end in (0.0, 1.0):
            filled = [end if y == "abstained" else y for y in b]
            assert binary(a, filled, margin=0.2).verdict is found.verdict


@given(st.permutations(range(30)), st.integers(0, 10))
def test_the_order_of_the_examples_does_not_matter(order: list[int], n_lost: int) -> None:
    a, b = [1.0] * 30, [0.0] * n_lost + [1.0] * (30 - n_lost)
    ids = [f"e{i}" for i in order]
    shuffled = decided(record_of(a), record_of([b[i] for i in order], ids=ids))
    plain = binary(a, b)
    assert (shuffled.low, shuffled.high, shuffled.verdict) == (
        plain.low,
        plain.high,
        plain.verdict,
    )


def test_holms_levels_of_the_textbook() -> None:
    # Holm (1979), sec. 3, m = 4: .005 and .01 are rejected, .03 is not, so .04 is not either
    p, levels = [0.01, 0.04, 0.03, 0.005], [0.05 / 3, 0.025, 0.025, 0.0125]
    assert holm_levels(p, 0.05) == pytest.approx(levels)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_levels_reject_what_holms_adjusted_values_reject(p: list[float]) -> None:
    adjusted = holm(p)
    assume(all(abs(value - 0.05) > 1e-9 for value in adjusted))
    levels = holm_levels(p, 0.05)
    rejected = [value < level for value, level in zip(p, levels, strict=True)]
    assert rejected == [bool(value < 0.05) for value in adjusted]


def test_a_p_that_is_unknown_takes_its_part_of_alpha() -> None:
    assert holm_levels([math.nan, 0.001], 0.05) == pytest.approx([0.05, 0.025])
