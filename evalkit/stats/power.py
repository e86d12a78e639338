"""How many examples a paired comparison needs, what a number of them can see, and how surely.

Three questions to each design: ``…_n`` examples for a wanted power, ``…_power`` of n examples,
``…_mde`` the smallest difference that n examples see with a wanted power. They invert each other.
Power is the probability of a rejection on the side of the true difference. The formulas are
those of the normal distribution: below some thirty examples, or ten discordant ones, they promise
too much; ``mcnemar_exact_power`` is exact.

n counts independent examples. In clusters, multiply the variance by `variance.design_effect`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

Sided = Literal[1, 2]

_NEGLIGIBLE = 1e-12  # of the distribution of the number of discordant examples, on either side


def paired_variance(
    between: float,
    *,
    within_a: float = 0.0,
    within_b: float = 0.0,
    repeats_a: float = 1,
    repeats_b: float = 1,
) -> float:
    """Variance of one example's difference: omega^2 + sigma_A^2 / K_A + sigma_B^2 / K_B.

    ``between`` is the variance over examples of the difference of expected scores, ``within_a``
    and ``within_b`` the mean variances of a score when the same example is answered again.
    Source: Miller (2024), arXiv:2411.00640, section 5.
    """
    return between + within_a / repeats_a + within_b / repeats_b


def discordant_variance(discordance: float, difference: float = 0.0) -> float:
    """Variance of one example's difference when scores are 0 or 1.

    ``discordance`` is the share of examples that exactly one of the two gets right. ValueError
    unless |difference| <= discordance <= 1.
    """
    _check_discordance(difference, discordance)
    return discordance - difference**2


def difference_n(
    difference: float,
    variance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sided: Sided = 2,
) -> int:
    """Examples with which a true mean ``difference`` is found with probability ``power``.

    ``variance`` is that of one example's difference. ValueError for a difference of 0.
    Source: Miller (2024), section 5.

    >>> difference_n(0.03, 1 / 9)
    969
    """
    if difference == 0:
        raise ValueError("no number of examples finds a difference of 0: ask for another")
    return _whole(_z_sum(alpha / sided, power) ** 2 * _checked(variance) / difference**2)


def difference_power(
    n: float, difference: float, *, variance: float, alpha: float = 0.05, sided: Sided = 2
) -> float:
    """Probability that ``n`` examples show a true mean ``difference``, on its side."""
    stderr = math.sqrt(_checked(variance) / n)
    return float(ndtr(abs(difference) / stderr - _z(alpha / sided)))


def difference_mde(
    n: float, variance: float, *, alpha: float = 0.05, power: float = 0.8, sided: Sided = 2
) -> float:
    """The smallest true mean difference that ``n`` examples show with probability ``power``.

    >>> round(difference_mde(1000, 1 / 9), 6)
    0.029531
    """
    return _z_sum(alpha / sided, power) * math.sqrt(_checked(variance) / n)


def mcnemar_n(
    difference: float,
    discordance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sided: Sided = 2,
) -> int:
    """Examples with which McNemar's test finds a true ``difference`` of two accuracies.

    ValueError for a difference of 0 or beyond the ``discordance``.
    Source: Connor (1987), Biometrics 43:207-211.
    """
    if difference == 0:
        raise ValueError("no number of examples finds a difference of 0: ask for another")
    variance = discordant_variance(discordance, difference)
    _check_levels(alpha / sided, power)
    under_null = _z(alpha / sided) * math.sqrt(discordance)
    return _whole(((under_null + _z(1 - power) * math.sqrt(variance)) / difference) ** 2)


def mcnemar_power(
    n: float, difference: float, *, discordance: float, alpha: float = 0.05, sided: Sided = 2
) -> float:
    """Probability that McNemar's test on ``n`` examples shows a true ``difference``, on its side.

    Source: Connor (1987).
    """
    variance = discordant_variance(discordance, difference)
    excess = abs(difference) * math.sqrt(n) - _z(alpha / sided) * math.sqrt(discordance)
    if variance == 0:
        return float(excess >= 0)
    return float(ndtr(excess / math.sqrt(variance)))


def mcnemar_mde(
    n: float, discordance: float, *, alpha: float = 0.05, power: float = 0.8, sided: Sided = 2
) -> float:
    """The smallest true difference that McNemar's test on ``n`` examples shows.

    nan where even a difference as large as the ``discordance`` is too small to be seen.
    Source: Connor (1987), solved for the difference.
    """
    _check_discordance(0.0, discordance)
    _check_levels(alpha / sided, power)
    z_alpha, z_beta = _z(alpha / sided), _z(1 - power)
    inner = n + z_beta**2 - z_alpha**2
    if inner < 0:
        return math.nan
    top = z_alpha * math.sqrt(n) + z_beta * math.sqrt(inner)
    difference = math.sqrt(discordance) * top / (n + z_beta**2)
    return difference if difference <= discordance else math.nan


def mcnemar_exact_power(
    n: int,
    difference: float,
    *,
    discordance: float,
    alpha: float = 0.05,
    sided: Sided = 2,
    method: Literal["exact", "midp"] = "midp",
) -> float:
    """Power of McNemar's exact test, or of the mid-p test made of it; the power is exact for both.

    Summed over the number of discordant examples, which is binomial, and over how many of them
    each system wins. On the side of the difference, as all powers here. The exact power rises
    with n only roughly: the test's true level jumps.
    Source: Duffy (1984), Biometrics 40:1005-1015; Fagerland, Lydersen and Laake (2013), BMC Med.
    Res. Methodol. 13:91, for the mid-p.
    """
    _check_discordance(difference, discordance)
    if discordance == 0:
        return 0.0
    first = int(stats.binom.ppf(_NEGLIGIBLE, n, discordance))
    last = int(stats.binom.isf(_NEGLIGIBLE, n, discordance))
    n_discordant = np.arange(first, last + 1)
    half = alpha / sided
    # the most wins of the losing side with which the test still rejects; -1: none
    most = stats.binom.ppf(half, n_discordant, 0.5)
    tail = stats.binom.cdf(most, n_discordant, 0.5)
    if method == "midp":
        tail = tail - stats.binom.pmf(most, n_discordant, 0.5) / 2
    most = np.where(tail <= half, most, most - 1)
    losing_share = (discordance - abs(difference)) / (2 * discordance)
    rejects = stats.binom.cdf(most, n_discordant, losing_share)
    return float(stats.binom.pmf(n_discordant, n, discordance) @ rejects)


def non_inferiority_n(
    margin: float,
    variance: float,
    *,
    true_difference: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Examples with which a drop of ``margin`` is excluded when nothing, or so much, has changed.

    One-sided at ``alpha``: it passes if the lower bound is above -margin. ``true_difference`` is
    candidate minus baseline. ValueError unless it is above -margin.
    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657-680, one of the two tests.
    """
    distance = margin + true_difference
    if not distance > 0:
        raise ValueError(f"true_difference must be above -{margin:g}: got {true_difference}")
    return _whole(_z_sum(alpha, power) ** 2 * _checked(variance) / distance**2)


def non_inferiority_power(
    n: float,
    margin: float,
    *,
    variance: float,
    true_difference: float = 0.0,
    alpha: float = 0.05,
) -> float:
    """Probability of passing with ``n`` examples; ``alpha`` at a true difference of -margin."""
    stderr = math.sqrt(_checked(variance) / n)
    return float(ndtr((margin + true_difference) / stderr - _z(alpha)))


def non_inferiority_mde(
    n: float, variance: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest margin that ``n`` examples pass with probability ``power`` if nothing changed.

    With a smaller margin an unchanged candidate is blocked too often: it takes more examples.

    >>> round(non_inferiority_mde(500, discordant_variance(0.1)), 3)
    0.035
    """
    return _z_sum(alpha, power) * math.sqrt(_checked(variance) / n)


def blocked_drop(
    n: float, margin: float, *, variance: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true drop that does not pass with probability ``power``; positive is worse.

    At a drop of ``margin`` that probability is 1 - ``alpha``, so for a power below that it is less
    than the margin, and it may even be negative: then so few examples block an unchanged candidate.
    """
    _check_levels(alpha, power)
    stderr = math.sqrt(_checked(variance) / n)
    return margin - (_z(alpha) - _z(1 - power)) * stderr


def proven_drop(
    n: float, margin: float, *, variance: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true drop called a regression with probability ``power``.

    That is when the upper bound is below 0 and the lower one not above -margin, each of them
    one-sided at ``alpha``.
    """
    _check_levels(alpha, power)
    stderr = math.sqrt(_checked(variance) / n)
    needed = max(_z(alpha) * stderr, margin - _z(alpha) * stderr)
    return needed + _z(1 - power) * stderr


def _z(tail: float) -> float:
    return -float(ndtri(tail))


def _z_sum(alpha: float, power: float) -> float:
    _check_levels(alpha, power)
    return _z(alpha) + _z(1 - power)


def _whole(n: float) -> int:
    """Rounded up, but not for the rounding of the arithmetic."""
    return max(1, math.ceil(n * (1 - 1e-12)))


def _checked(variance: float) -> float:
    if not 0 < variance < math.inf:
        raise ValueError(f"variance must be positive: got {variance}")
    return variance


def _check_levels(alpha: float, power: float) -> None:
    if not 0 < alpha < power < 1:
        raise ValueError(f"power must lie between a side's alpha, {alpha:g}, and 1: got {power}")


def _check_discordance(difference: float, discordance: float) -> None:
    if not abs(difference) <= discordance <= 1:
        raise ValueError(
            f"discordance must lie between the difference, {difference:g}, and 1: got {discordance}"
        )
