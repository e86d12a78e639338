"""Confidence sequences and e-values: valid at every look, so one may look after every example.

A confidence sequence holds its parameter at all looks at once, with probability at least
1 - ``alpha``, whenever one looks and for whatever reason one stops. With ``sided`` = 2 the two
bounds hold together; with ``sided`` = 1 each of them holds alone. Bounds never widen: what was
excluded once stays excluded.

They ask that each value has the same mean given those before it. Independent examples in random
order have that; examples sorted in any way do not, and a cluster counts as one value. The mean
is that of the population the examples were drawn from, not of the data set at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.optimize import brentq

from evalkit.stats.intervals import FloatArray

Sided = Literal[1, 2]
Alternative = Literal["two-sided", "greater", "less"]

_TRUNCATION = 0.5  # of the largest bet that cannot bankrupt; also the largest Bernstein rate
_CHUNK_CELLS = 1 << 18  # capitals computed at a time: 2 MiB of float64, whatever n and n_grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Where a sequence stands after ``n`` values, in their unit."""

    n: int
    mean: float  # of the values so far; nan before the first
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Where a sequence stands after each of k values; all (k,), in the values' unit.

    nan bounds: every mean is excluded. Either the values are not what a sequence asks for (they
    drift, or they are sorted), or this is the one time in 1/alpha.
    """

    n: NDArray[np.intp]
    mean: FloatArray
    low: FloatArray
    high: FloatArray

    def last(self) -> Look:
        """The latest look; IndexError where there is none."""
        return Look(
            n=int(self.n[-1]),
            mean=float(self.mean[-1]),
            low=float(self.low[-1]),
            high=float(self.high[-1]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What is known of the values in [0, 1] seen so far, shrunk towards mean 1/2, variance 1/4."""

    n: int = 0
    total: float = 0.0
    spread: float = 0.0  # sum of squares about the running mean

    def before_each(self, values: FloatArray) -> tuple[FloatArray, FloatArray, Moments]:
        """The mean and the variance (k,) as known before each of ``values``, and the new state.

        Source: Waudby-Smith and Ramdas (2024), theorem 2 (mu-hat and sigma-hat squared).
        """
        counts = self.n + np.arange(values.size + 1)
        # the state goes first into the running sums: the bits do not depend on the batches
        totals = np.cumsum(np.concatenate(([self.total], values)))
        means = (0.5 + totals) / (counts + 1)
        squares = np.concatenate(([self.spread], (values - means[1:]) ** 2))
        spreads = np.cumsum(squares)
        variances = (0.25 + spreads) / (counts + 1)
        state = Moments(n=int(counts[-1]), total=float(totals[-1]), spread=float(spreads[-1]))
        return means[:-1], variances[:-1], state


def bernoulli_log_e(
    n_successes: ArrayLike,
    n: ArrayLike,
    p: ArrayLike,
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    alternative: Alternative = "two-sided",
) -> FloatArray:
    """Natural log of the e-value against success probability ``p`` in (0, 1); broadcasts.

    The likelihood averaged over a Beta(``prior``) of probabilities, over the likelihood of ``p``.
    "greater" averages over those above ``p`` alone, and is then an e-value against all that are
    not above it; "less" the reverse. Reaching log(1/alpha) rejects at ``alpha``, at any look.
    Source: Robbins (1970), Ann. Math. Stat. 41:1397-1409; Ville (1939).
    """
    s, total, p0 = (np.asarray(values, dtype=np.float64) for values in (n_successes, n, p))
    a, b = prior
    f = total - s
    log_e = special.betaln(a + s, b + f) - special.betaln(a, b)
    log_e = log_e - special.xlogy(s, p0) - special.xlog1py(f, -p0)
    if alternative == "two-sided":
        return np.asarray(log_e)
    tail = special.betaincc if alternative == "greater" else special.betainc
    with np.errstate(divide="ignore"):  # no probability left beyond p: log e is -inf
        log_share = np.log(tail(a + s, b + f, p0)) - np.log(tail(a, b, p0))
    return np.asarray(log_e + log_share)


def bernoulli_sequence(
    n_successes: int,
    n: int,
    *,
    alpha: float,
    prior: tuple[float, float] = (1.0, 1.0),
    sided: Sided = 2,
) -> Look:
    """Where the confidence sequence of a success probability stands after ``n`` trials.

    All probabilities whose e-value is below 1/``alpha``. A look for itself: to keep what earlier
    looks excluded, take the largest low and the smallest high. One-sided bounds need a prior
    between Jeffreys' (1/2, 1/2) and the uniform and ``alpha`` below 1/e, else ValueError: there
    the set is proved to be an interval.

    >>> look = bernoulli_sequence(15, 20, alpha=0.05)
    >>> round(look.low, 6), round(look.high, 6)
    (0.421742, 0.949294)
    """
    _check_alpha(alpha)
    if not 0 <= n_successes <= n:
        raise ValueError(f"{n_successes} successes in {n} trials")
    if min(prior) <= 0:
        raise ValueError(f"the parameters of a Beta prior must be positive: got {prior}")
    if sided == 1 and not (0.5 <= min(prior) <= max(prior) <= 1 and alpha < math.exp(-1)):
        raise ValueError(
            "one-sided bounds need a prior from (0.5, 0.5) to (1, 1) and alpha below 0.367: "
            f"got {prior} and {alpha}"
        )
    if n == 0:
        return Look(n=0, mean=math.nan, low=0.0, high=1.0)
    lower: Alternative = "two-sided" if sided == 2 else "greater"
    low = _lowest(n_successes, n, alpha=alpha, prior=prior, alternative=lower)
    # the upper bound is the lower bound of the failures
    failures = _lowest(n - n_successes, n, alpha=alpha, prior=prior[::-1], alternative=lower)
    return Look(n=n, mean=n_successes / n, low=low, high=1 - failures)


def _lowest(
    n_successes: int,
    n: int,
    *,
    alpha: float,
    prior: tuple[float, float],
    alternative: Alternative,
) -> float:
    """The smallest probability that is not rejected.

    Two-sided, log e is convex in p. For the one-sided one, with hazard h of the Beta(a, b) prior,
    d(log e)/dp = h (1 - 1/e) - (s - n p) / (p (1 - p)), where h p (1 - p) <= b p^a for a <= 1; that
    is negative until s - n p < b p^a, and from there on e <= exp(n KL(s/n, p)) < 2.72.
    """
    if n_successes == 0:
        return 0.0

    def excess(log_p: float) -> float:
        log_e = bernoulli_log_e(
            n_successes, n, math.exp(log_p), prior=prior, alternative=alternative
        )
        return float(log_e) + math.log(alpha)

    # below 1e-300 nothing is rejected any more that doubles can tell from 0; at the estimate
    # itself e is at most 1; in logs, so that a bound near 0 keeps its digits
    top = math.log(n_successes / n) if n_successes < n else -1e-15
    return math.exp(float(brentq(excess, math.log(1e-300), top, xtol=1e-13)))


def discordant_e_value(n_only_a: int, n_only_b: int, *, sided: Sided = 2) -> float:
    """E-value that A and B differ, from the examples that only one of them got right.

    It is against "each discordant example is as likely A's as B's"; with ``sided`` = 1 against
    "A wins no more of them than B". At 1/alpha or more that is rejected at alpha, at any look;
    min(1, 1/e) is a p-value that may be looked at as often as one likes.
    Source: Robbins (1970), with the uniform prior; McNemar (1947) for the conditioning.

    >>> round(discordant_e_value(25, 5), 3)
    243.055
    """
    alternative: Alternative = "two-sided" if sided == 2 else "greater"
    log_e = float(bernoulli_log_e(n_only_a, n_only_a + n_only_b, 0.5, alternative=alternative))
    return math.exp(log_e) if log_e < math.log(np.finfo(np.float64).max) else math.inf


def predictable_bets(variances: ArrayLike, n_before: ArrayLike, *, alpha: float) -> FloatArray:
    """How much to bet on each value, from what was known before it; untruncated, broadcasts.

    Source: Waudby-Smith and Ramdas (2024), J. R. Stat. Soc. B 86:1-27, the predictable plug-in of
    section 4, for one side at ``alpha`` (their alpha/2 for two).
    """
    t = np.asarray(n_before, dtype=np.float64) + 1
    scale = np.asarray(variances, dtype=np.float64) * t * np.log1p(t)
    return np.asarray(np.sqrt(2 * math.log(1 / alpha) / scale))


def log_growth(values: FloatArray, bets: FloatArray, means: FloatArray) -> FloatArray:
    """(n, k): by how much each value multiplies the capital bet against each mean, in logs.

    ``values`` and ``bets`` are (n,), ``means`` (k,) in [0, 1]. The capital grows if the true mean
    is larger; it falls as the mean bet against rises, so that what it rejects is a lower end.
    Bets against a mean m stop at 1/(2 m): no value can take more than half of the capital.
    Source: Waudby-Smith and Ramdas (2024), theorem 3, with c = 1/2.
    """
    caps = _TRUNCATION / np.maximum(means, np.finfo(np.float64).tiny)
    growth = np.minimum(bets[:, None], caps)
    growth *= values[:, None] - means
    return np.asarray(np.log1p(growth, out=growth))


class BettingSequence:
    """Confidence sequence of the mean of values in a known range, fed value by value or in batches.

    How the values are split into batches changes nothing. Bounds are rounded outwards to one of
    ``n_grid`` + 1 means; the work a value costs falls as the bounds close in.
    Source: Waudby-Smith and Ramdas (2024), theorem 3 (hedged capital, predictable plug-in).

    >>> sequence = BettingSequence(alpha=0.05)
    >>> look = sequence.extend([1, 0, 1, 1, 1]).last()
    >>> round(look.low, 3), look.high
    (0.196, 1.0)
    """

    def __init__(
        self,
        *,
        alpha: float,
        value_range: tuple[float, float] = (0.0, 1.0),
        sided: Sided = 2,
        n_grid: int = 10_000,
    ) -> None:
        _check_alpha(alpha)
        self._range = _checked_range(value_range)
        self._alpha = alpha / sided
        self._n_grid = n_grid
        self._moments = Moments()
        self._low, self._high = 0, n_grid  # grid indices of the bounds
        self._is_empty = False
        # log capitals at the means from low to high: against "at most", against "at least"
        self._up = np.zeros(n_grid + 1)
        self._down = np.zeros(n_grid + 1)

    def extend(self, values: ArrayLike) -> Looks:
        """The looks (k,) after each of the next ``values`` (k,).

        A value outside the range, or nan, raises ValueError and leaves the sequence as it was.
        """
        unit = _to_unit(values, self._range)
        before = self._moments
        _, variances, self._moments = before.before_each(unit)
        bets = predictable_bets(variances, before.n + np.arange(unit.size), alpha=self._alpha)
        lows, highs = np.empty(unit.size), np.empty(unit.size)
        start = 0
        while start < unit.size:
            stop = start + max(1, _CHUNK_CELLS // self._up.size)
            part = slice(start, min(stop, unit.size))
            lows[part], highs[part] = self._advance(unit[part], bets[part])
            start = stop
        return _looks(unit, before, lows, highs, self._range)

    def _advance(self, values: FloatArray, bets: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The bounds in [0, 1] after each value; drops the means that are excluded by then."""
        if self._is_empty:
            return np.full(values.size, np.nan), np.full(values.size, np.nan)
        means = np.arange(self._low, self._high + 1) / self._n_grid
        up = _accumulated(self._up, log_growth(values, bets, means))
        down = _accumulated(self._down, log_growth(1 - values, bets, 1 - means))
        limit = math.log(1 / self._alpha)
        # the rejected are the first of the means by one capital and the last by the other; -1
        # for the bound that was there before
        n_first = np.maximum.accumulate((up >= limit).sum(axis=1))
        n_last = np.maximum.accumulate((down >= limit).sum(axis=1))
        lows = self._low + np.maximum(n_first - 1, 0)
        highs = self._high - np.maximum(n_last - 1, 0)
        is_empty = lows >= highs
        self._is_empty = bool(is_empty[-1])
        if not self._is_empty:
            kept = slice(int(lows[-1]) - self._low, int(highs[-1]) - self._low + 1)
            self._low, self._high = int(lows[-1]), int(highs[-1])
            self._up, self._down = up[-1, kept].copy(), down[-1, kept].copy()
        return (
            np.where(is_empty, np.nan, lows / self._n_grid),
            np.where(is_empty, np.nan, highs / self._n_grid),
        )


def difference_sequence(
    *,
    alpha: float,
    score_range: tuple[float, float] = (0.0, 1.0),
    sided: Sided = 1,
    n_grid: int = 10_000,
) -> BettingSequence:
    """Confidence sequence of a mean paired difference, of scores that lie in ``score_range``.

    Feed it candidate minus baseline of one example after another.
    """
    lo, hi = _checked_range(score_range)
    return BettingSequence(alpha=alpha, value_range=(lo - hi, hi - lo), sided=sided, n_grid=n_grid)


def bernstein_sequence(
    values: ArrayLike,
    *,
    alpha: float,
    value_range: tuple[float, float] = (0.0, 1.0),
    sided: Sided = 2,
) -> Looks:
    """Confidence sequence of the mean of ``values`` (n,) in a known range, in closed form.

    Wider than BettingSequence, and many times cheaper. ValueError as there.
    Source: Waudby-Smith and Ramdas (2024), theorem 2 (predictable plug-in empirical Bernstein).
    """
    _check_alpha(alpha)
    limits = _checked_range(value_range)
    unit = _to_unit(values, limits)
    means, variances, _ = Moments().before_each(unit)
    rates = np.minimum(
        predictable_bets(variances, np.arange(unit.size), alpha=alpha / sided), _TRUNCATION
    )
    penalties = -np.log1p(-rates) - rates  # 4 psi_E; the 4 of v_i cancels
    weights = np.cumsum(rates)
    centres = np.cumsum(rates * unit) / weights
    radius = (math.log(sided / alpha) + np.cumsum((unit - means) ** 2 * penalties)) / weights
    lows = np.maximum.accumulate(np.maximum(centres - radius, 0))
    highs = np.minimum.accumulate(np.minimum(centres + radius, 1))
    is_empty = lows > highs
    lows[is_empty], highs[is_empty] = np.nan, np.nan
    return _looks(unit, Moments(), lows, highs, limits)


def sequential_verdict(
    low: float, high: float, *, margin: float
) -> Literal["pass", "regression", "continue"]:
    """Non-inferiority at a look; the bounds are of candidate minus baseline, higher is better.

    "pass" once a drop of ``margin`` is excluded, "regression" once a drop is proved and one of
    ``margin`` cannot be excluded, else "continue"; nan bounds continue. With bounds from one-sided
    sequences at alpha, a candidate that is worse by ``margin`` or more ever passes with
    probability at most alpha, and one that is no worse is ever called a regression with at most
    alpha. A budget that ends on "continue" has shown neither.
    """
    if low > -margin:
        return "pass"
    return "regression" if high < 0 and low <= -margin else "continue"


def _accumulated(start: FloatArray, growth: FloatArray) -> FloatArray:
    growth[0] += start
    return np.asarray(np.cumsum(growth, axis=0, out=growth))


def _looks(
    unit: FloatArray,
    before: Moments,
    lows: FloatArray,
    highs: FloatArray,
    limits: tuple[float, float],
) -> Looks:
    lo, hi = limits
    n = before.n + np.arange(1, unit.size + 1)
    totals = np.cumsum(np.concatenate(([before.total], unit)))[1:]
    width = hi - lo
    return Looks(n=n, mean=lo + width * totals / n, low=lo + width * lows, high=lo + width * highs)


def _to_unit(values: ArrayLike, limits: tuple[float, float]) -> FloatArray:
    found = np.asarray(values, dtype=np.float64).reshape(-1)
    lo, hi = limits
    outside = ~((found >= lo) & (found <= hi))
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(f"value {first} is {found[first]}, outside [{lo}, {hi}]")
    return np.asarray(np.clip((found - lo) / (hi - lo), 0, 1))


def _checked_range(limits: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(limits[0]) and math.isfinite(limits[1]) and limits[0] < limits[1]):
        raise ValueError(f"a range must run from a finite number up to a larger one: got {limits}")
    return limits


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1: got {alpha}")
