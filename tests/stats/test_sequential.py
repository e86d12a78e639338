from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.sequential import (
    Alternative,
    BettingSequence,
    Looks,
    bernoulli_log_e,
    bernoulli_sequence,
    bernstein_sequence,
    difference_sequence,
    discordant_e_value,
    log_growth,
    predictable_bets,
)
from evalkit.stats.sequential import Moments as Past

BITS = np.array([1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1.0])
# graded scores without a random generator: mean 0.3, standard deviation 0.115
GRADED = 0.1 + 0.4 * np.mod(np.arange(1, 2001) * (math.sqrt(5) - 1) / 2, 1)
AFTER = [19, 199, 1999]

unit_values = arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1, width=32))


def betting(values: FloatArray, *, alpha: float = 0.05, n_grid: int = 1000) -> Looks:
    return BettingSequence(alpha=alpha, n_grid=n_grid).extend(values)


# ---- Bernoulli mixture


def test_the_bernoulli_sequence_agrees_with_an_independent_root_finding() -> None:
    # {p: B(1+15, 1+5) / (p^15 (1-p)^5) < 20}, roots found once by hand with scipy's brentq
    look = bernoulli_sequence(15, 20, alpha=0.05)
    assert (look.low, look.high) == pytest.approx((0.42174164951797455, 0.949294023621757))
    assert (look.n, look.mean) == (20, 0.75)


@pytest.mark.parametrize("n", [1, 7, 300])
def test_all_successes_have_the_closed_form(n: int) -> None:
    # B(1+n, 1) = 1/(n+1), so that 1 / ((n+1) p^n) = 1/alpha
    low = (0.05 / (n + 1)) ** (1 / n)
    look = bernoulli_sequence(n, n, alpha=0.05)
    assert [look.low, look.high] == pytest.approx([low, 1], rel=1e-9)
    mirrored = bernoulli_sequence(0, n, alpha=0.05)
    assert [mirrored.low, mirrored.high] == pytest.approx([0, 1 - low], rel=1e-9)


def test_a_one_sided_bound_has_the_closed_form_where_all_are_successes() -> None:
    # the mean of q^n over q in (p, 1), over p^n, is (1 - p^(n+1)) / ((n+1) (1-p) p^n) = 1/alpha
    p = bernoulli_sequence(12, 12, alpha=0.05, sided=1).low
    assert (1 - p**13) / (13 * (1 - p) * p**12) == pytest.approx(20, rel=1e-8)


@pytest.mark.parametrize(("s", "n", "p"), [(3, 10, 0.6), (9, 10, 0.6), (40, 50, 0.7)])
@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.5, 0.5), (2.0, 3.0)])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_e_value_is_the_mean_likelihood_ratio_over_the_prior(
    s: int, n: int, p: float, prior: tuple[float, float], alternative: Alternative
) -> None:
    start, stop = {"two-sided": (0.0, 1.0), "greater": (p, 1.0), "less": (0.0, p)}[alternative]
    density = stats.beta(*prior).pdf

    def weighted(q: float) -> float:
        ratio = (q / p) ** s * ((1 - q) / (1 - p)) ** (n - s)
        return float(ratio * density(q))

    expected, _ = integrate.quad(weighted, start, stop, epsabs=1e-12, epsrel=1e-10)
    share = stats.beta(*prior).cdf(stop) - stats.beta(*prior).cdf(start)
    found = bernoulli_log_e(s, n, p, prior=prior, alternative=alternative)
    assert math.exp(found) == pytest.approx(expected / share, rel=1e-6)


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.sampled_from(["two-sided", "greater", "less"]))
def test_the_expected_e_value_is_one_if_the_null_is_true(
    n: int, p: float, alternative: Alternative
) -> None:
    s = np.arange(n + 1)
    e = np.exp(bernoulli_log_e(s, n, p, alternative=alternative))
    assert stats.binom.pmf(s, n, p) @ e == pytest.approx(1, abs=1e-8)


@given(st.integers(1, 60), st.floats(0.05, 0.95), st.floats(0.05, 1))
def test_a_one_sided_e_value_expects_at_most_one_below_its_null(
    n: int, p: float, share: float
) -> None:
    s = np.arange(n + 1)
    e = np.exp(bernoulli_log_e(s, n, p, alternative="greater"))
    assert stats.binom.pmf(s, n, share * p) @ e <= 1 + 1e-8


@given(
    st.integers(1, 2000),
    st.floats(0, 1),
    st.sampled_from([0.01, 0.05, 0.2]),
    st.sampled_from([(1.0, 1.0), (0.5, 0.5), (0.5, 1.0)]),
)
def test_one_sided_bounds_accept_exactly_what_their_e_value_does_not_reject(
    n: int, share: float, alpha: float, prior: tuple[float, float]
) -> None:
    s = round(share * n)
    look = bernoulli_sequence(s, n, alpha=alpha, prior=prior, sided=1)
    below = look.low * np.linspace(0.001, 0.999, 50)
    between = look.low + (s / n - look.low) * np.linspace(0.001, 0.999, 50)
    if s > 0:
        e = bernoulli_log_e(s, n, below, prior=prior, alternative="greater")
        assert (e >= math.log(1 / alpha) - 1e-6).all()
        e = bernoulli_log_e(s, n, between, prior=prior, alternative="greater")
        assert (e <= math.log(1 / alpha) + 1e-6).all()


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.001, 0.3))
def test_one_side_alone_is_closer_than_two_and_both_contain_the_mean(
    n: int, share: float, alpha: float
) -> None:
    s = round(share * n)
    one = bernoulli_sequence(s, n, alpha=alpha, sided=1)
    two = bernoulli_sequence(s, n, alpha=alpha)
    assert two.low - 1e-9 <= one.low <= s / n <= one.high <= two.high + 1e-9


def test_before_the_first_trial_anything_is_possible() -> None:
    look = bernoulli_sequence(0, 0, alpha=0.05)
    assert (look.low, look.high) == (0.0, 1.0)
    assert math.isnan(look.mean)


@pytest.mark.parametrize(
    ("s", "n", "alpha", "prior", "says"),
    [
        (3, 2, 0.05, (1.0, 1.0), "3 successes in 2 trials"),
        (-1, 2, 0.05, (1.0, 1.0), "-1 successes"),
        (1, 2, 0.0, (1.0, 1.0), "alpha must lie between 0 and 1"),
        (1, 2, 0.05, (0.0, 1.0), "positive"),
        (1, 2, 0.05, (9.0, 1.0), "one-sided bounds need a prior"),
        (1, 2, 0.5, (1.0, 1.0), "one-sided bounds need a prior"),
    ],
)
def test_what_has_no_bernoulli_sequence_is_refused(
    s: int, n: int, alpha: float, prior: tuple[float, float], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        bernoulli_sequence(s, n, alpha=alpha, prior=prior, sided=1)


# ---- discordant pairs


def test_the_discordant_e_value_is_the_beta_mixture() -> None:
    # B(26, 6) 2^30 by factorials: 25! 5! / 31! * 2^30
    exact = math.factorial(25) * math.factorial(5) * 2**30 / math.factorial(31)
    assert exact == pytest.approx(243.05526105748564)
    assert discordant_e_value(25, 5) == pytest.approx(exact, rel=1e-9)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_discordant_e_value_does_not_care_which_is_a(a: int, b: int) -> None:
    assert discordant_e_value(a, b) == pytest.approx(discordant_e_value(b, a), rel=1e-9)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_two_sided_e_value_is_the_mean_of_the_one_sided_ones(a: int, b: int) -> None:
    one_sided = discordant_e_value(a, b, sided=1), discordant_e_value(b, a, sided=1)
    assert sum(one_sided) / 2 == pytest.approx(discordant_e_value(a, b), rel=1e-9)


def test_evidence_beyond_a_double_is_infinite() -> None:
    assert discordant_e_value(9000, 0) == math.inf


# ---- betting


def test_betting_agrees_with_confseq() -> None:
    # confseq 0.0.11, betting_cs(breaks=1000): 5 and 10 bits; 20, 200 and 2000 graded scores
    bits = betting(BITS)
    assert bits.low[[4, 9]] == pytest.approx([0.196, 0.273], abs=0.002)
    assert bits.high[[4, 9]] == pytest.approx([1.0, 0.996], abs=0.002)
    graded = betting(GRADED)
    assert graded.low[AFTER] == pytest.approx([0.2, 0.276, 0.291], abs=0.002)
    assert graded.high[AFTER] == pytest.approx([0.503, 0.331, 0.309], abs=0.002)


def test_the_capital_of_the_last_bit_agrees_with_confseq_too() -> None:
    # confseq does not keep what earlier looks excluded: (0.443, 0.955) after all 20
    _, variances, _ = Past().before_each(BITS)
    bets = predictable_bets(variances, np.arange(20), alpha=0.025)
    means = np.linspace(0, 1, 1001)
    up = log_growth(BITS, bets, means).sum(axis=0)
    down = log_growth(1 - BITS, bets, 1 - means).sum(axis=0)
    kept = means[np.maximum(up, down) < math.log(40)]
    assert (kept[0], kept[-1]) == pytest.approx((0.443, 0.955), abs=0.002)
    look = betting(BITS).last()
    assert look.low >= 0.443
    assert look.high <= 0.955


def by_hand(values: FloatArray, m: float, *, alpha: float) -> float:
    """The largest capital so far against "the mean is at most m", value by value."""
    capital = best = 1.0
    for t in range(1, values.size + 1):
        seen = values[: t - 1]
        means = [(0.5 + seen[:i].sum()) / (i + 1) for i in range(1, t)]
        variance = (0.25 + sum((seen - means) ** 2)) / t
        bet = min(math.sqrt(2 * math.log(1 / alpha) / (variance * t * math.log(1 + t))), 0.5 / m)
        capital *= 1 + bet * (values[t - 1] - m)
        best = max(best, capital)
    return best


@settings(max_examples=25, deadline=None)
@given(unit_values)
def test_the_lower_bound_is_where_the_capital_of_the_definition_reaches_its_limit(
    values: FloatArray,
) -> None:
    sequence = BettingSequence(alpha=0.1, sided=1, n_grid=100)
    low = sequence.extend(values).low[-1]
    if math.isnan(low):
        return
    if low > 0:
        assert by_hand(values, low, alpha=0.1) >= 10 - 1e-6
    if low < 0.99:
        assert by_hand(values, low + 0.01, alpha=0.1) <= 10 + 1e-6


@given(unit_values, st.data())
def test_batches_change_nothing(values: FloatArray, data: st.DataObject) -> None:
    at_once = betting(values, alpha=0.3, n_grid=200)
    sequence = BettingSequence(alpha=0.3, n_grid=200)
    cuts = sorted(data.draw(st.sets(st.integers(1, values.size), max_size=5)))
    parts = [sequence.extend(part) for part in np.split(values, cuts)]
    for name in ("n", "mean", "low", "high"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(at_once, name))


@given(unit_values)
def test_the_mirror_image_has_mirrored_bounds(values: FloatArray) -> None:
    there, back = betting(values), betting(1 - values)
    np.testing.assert_allclose(there.low, 1 - back.high, atol=1.0011e-3)
    np.testing.assert_allclose(there.high, 1 - back.low, atol=1.0011e-3)


@given(unit_values)
def test_bounds_never_widen(values: FloatArray) -> None:
    for looks in (betting(values, alpha=0.2), bernstein_sequence(values, alpha=0.2)):
        defined = ~np.isnan(looks.low)
        assert (np.diff(looks.low[defined]) >= 0).all()
        assert (np.diff(looks.high[defined]) <= 0).all()
        assert (np.diff(defined.astype(int)) <= 0).all()  # once empty, always empty


@given(unit_values)
def test_a_coarse_grid_rounds_outwards(values: FloatArray) -> None:
    fine, coarse = betting(values, n_grid=1000), betting(values, n_grid=50)
    defined = ~(np.isnan(fine.low) | np.isnan(coarse.low))
    assert (coarse.low[defined] <= fine.low[defined] + 1e-9).all()
    assert (coarse.high[defined] >= fine.high[defined] - 1e-9).all()
    assert (fine.low[defined] - coarse.low[defined] <= 0.02).all()


@given(unit_values)
def test_differences_of_scores_are_in_the_unit_of_the_scores(values: FloatArray) -> None:
    # scores from 1 to 5 differ by -4 to 4
    found = difference_sequence(alpha=0.1, score_range=(1, 5), n_grid=500).extend(8 * values - 4)
    unit = BettingSequence(alpha=0.1, sided=1, n_grid=500).extend(values)
    np.testing.assert_allclose(found.low, 8 * unit.low - 4, atol=0.0161)
    np.testing.assert_allclose(found.high, 8 * unit.high - 4, atol=0.0161)
    np.testing.assert_allclose(found.mean, 8 * unit.mean - 4, atol=1e-6)


def test_one_side_alone_is_closer_than_two() -> None:
    one = BettingSequence(alpha=0.05, sided=1).extend(GRADED).last()
    two = BettingSequence(alpha=0.05).extend(GRADED).last()
    assert two.low < one.low < 0.3 < one.high < two.high
    # one side at alpha is one side of two at twice alpha
    assert one == BettingSequence(alpha=0.1).extend(GRADED).last()


def test_a_drift_leaves_nothing() -> None:
    drifting = np.concatenate((np.zeros(300), np.ones(1700)))
    for looks in (betting(drifting), bernstein_sequence(drifting, alpha=0.05)):
        assert math.isnan(looks.last().low)
        assert math.isnan(looks.last().high)
        assert looks.last().mean == pytest.approx(0.85)
        assert looks.low[100] == 0


def test_what_left_nothing_at_once_stays_so() -> None:
    # one batch, in which the lower bound jumps past the upper one
    sequence = BettingSequence(alpha=0.05, n_grid=100)
    at_once = sequence.extend(np.concatenate((np.zeros(300), np.ones(1700))))
    assert np.isnan(at_once.last().low)
    assert np.isnan(sequence.extend(BITS).low).all()


def test_nothing_new_is_no_look() -> None:
    sequence = BettingSequence(alpha=0.05)
    sequence.extend(BITS)
    assert sequence.extend([]).n.size == 0
    assert bernstein_sequence([], alpha=0.05).low.size == 0


@pytest.mark.parametrize("bad", [1.5, -0.1, math.nan])
def test_a_value_outside_its_range_is_refused_and_forgotten(bad: float) -> None:
    sequence = BettingSequence(alpha=0.05)
    sequence.extend(BITS[:10])
    with pytest.raises(ValueError, match=r"value 1 is .* outside \[0.0, 1.0\]"):
        sequence.extend([0.5, bad])
    with pytest.raises(ValueError, match="outside"):
        bernstein_sequence([0.5, bad], alpha=0.05)
    assert sequence.extend(BITS[10:]).last() == BettingSequence(alpha=0.05).extend(BITS).last()


@pytest.mark.parametrize("limits", [(1.0, 0.0), (0.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_a_range_without_a_width_is_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a range must run"):
        BettingSequence(alpha=0.05, value_range=limits)
    with pytest.raises(ValueError, match="a range must run"):
        difference_sequence(alpha=0.05, score_range=limits)


def test_a_hundred_thousand_values_take_seconds() -> None:
    values = np.random.default_rng(5).random(100_000)
    sequence = BettingSequence(alpha=0.05)
    start = time.process_time()
    look = sequence.extend(values).last()
    assert time.process_time() - start < 20  # about 0.4; quadratic it would be an hour
    assert look.low < 0.5 < look.high
    assert look.high - look.low < 0.02


# ---- empirical Bernstein


def test_the_bernstein_sequence_agrees_with_confseq() -> None:
    # confseq 0.0.11, predmix_empbern_cs, which starts its running mean at 0 and not at 1/2
    looks = bernstein_sequence(GRADED, alpha=0.05)
    assert looks.low[AFTER] == pytest.approx([0, 0.25857, 0.29090], abs=2e-4)
    assert looks.high[AFTER[1:]] == pytest.approx([0.34312, 0.30925], abs=1e-3)


def test_the_bernstein_sequence_follows_its_definition() -> None:
    weights = centre = penalty = 0.0
    low, high = 0.0, 1.0
    values = GRADED[:60]
    past: list[float] = []  # squares about the running mean
    for t, x in enumerate(values, start=1):
        before = (0.5 + values[: t - 1].sum()) / t
        rate = min(
            math.sqrt(2 * math.log(40) / ((0.25 + sum(past)) / t * t * math.log(1 + t))), 0.5
        )
        weights += rate
        centre += rate * x
        penalty += 4 * (x - before) ** 2 * (-math.log(1 - rate) - rate) / 4
        radius = (math.log(40) + penalty) / weights
        low, high = max(low, centre / weights - radius), min(high, centre / weights + radius)
        past.append((x - (0.5 + values[:t].sum()) / (t + 1)) ** 2)
    look = bernstein_sequence(values, alpha=0.05).last()
    assert (look.low, look.high) == pytest.approx((low, high), abs=1e-12)


@given(unit_values)
def test_the_bernstein_sequence_scales_with_its_range(values: FloatArray) -> None:
    unit = bernstein_sequence(values, alpha=0.05)
    scaled = bernstein_sequence(10 * values - 3, alpha=0.05, value_range=(-3, 7))
    np.testing.assert_allclose(scaled.low, 10 * unit.low - 3, atol=1e-6)
    np.testing.assert_allclose(scaled.high, 10 * unit.high - 3, atol=1e-6)
