"""When enough items are labelled: an interval for every look, and a forecast of the labels needed.

Labels are bought one after another until the interval is narrow enough. An interval made for one
look is then too sure; this one holds at all looks at once, at the price of some width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evalkit.stats.intervals import FloatArray
from evalkit.stats.sequential import Looks

_SHARE_OF_JUDGE = 0.1  # of alpha, for the judge's mean over the unlabelled: known once, and well


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelForecast:
    """How many labels a half-width takes; nan where all items' labels would not do."""

    half_width: float
    level: float
    n_labels: float  # for one look, when all labels are there
    n_labels_anytime: float  # looking after each, with ``label_sequence``
    n_labels_only: float  # for one look, without the judge


def label_sequence(
    human: FloatArray,
    judge: FloatArray,
    *,
    unlabelled: FloatArray,
    n_planned: int,
    alpha: float = 0.05,
    n_first: int = 30,
) -> Looks:
    """Where the corrected mean stands after each label, from ``n_first`` on, valid at all looks.

    ``human`` and ``judge`` (n,) are in the order of labelling, drawn at random from the items;
    ``unlabelled`` (N,) are the judge's scores of items that are not to be labelled meanwhile. Each
    label is corrected with the lam of those before it. Tightest about ``n_planned`` labels. The
    interval is asymptotic: ``n_first`` labels must make their mean about normal. The Looks begin
    at ``n_first``; bounds never widen, and are nan once they contradict each other. ValueError
    where lengths differ or ``n_first`` is below 3.
    Source: Waudby-Smith et al. (2024), Ann. Statist. 52:2613-2640 (asymptotic); the
    judge's mean has a tenth of ``alpha`` by a normal interval, added (Bonferroni).
    """
    if human.shape != judge.shape or n_first < 3:
        raise ValueError(f"{human.size} labels, {judge.size} scores, first look at {n_first}")
    lams = _lams_before(human, judge, unlabelled)
    residuals = human - lams * (judge - unlabelled.mean())
    n = np.arange(1.0, human.size + 1)
    means = np.cumsum(residuals) / n
    spread = np.sqrt(np.maximum(_running_variance(residuals, means, n), 0.0))
    own = alpha * (1 - _SHARE_OF_JUDGE)
    radius = spread * sequence_radius(n, alpha=own, n_planned=n_planned)
    z = float(stats.norm.isf(alpha * _SHARE_OF_JUDGE / 2))
    of_judge = z * float(unlabelled.std(ddof=1)) / math.sqrt(unlabelled.size)
    radius = radius + of_judge * np.cumsum(lams) / n
    kept = slice(n_first - 1, None)
    lows = np.maximum.accumulate((means - radius)[kept])
    highs = np.minimum.accumulate((means + radius)[kept])
    is_empty = lows > highs
    return Looks(
        n=n[kept].astype(np.intp),
        mean=means[kept],
        low=np.where(is_empty, np.nan, lows),
        high=np.where(is_empty, np.nan, highs),
    )


def labels_until(looks: Looks, half_width: float) -> int | None:
    """The number of labels at which the interval was first so narrow; None where it was not."""
    is_narrow = (looks.high - looks.low) / 2 <= half_width
    return int(looks.n[int(np.argmax(is_narrow))]) if is_narrow.any() else None


def sequence_radius(n: FloatArray | float, *, alpha: float, n_planned: int) -> FloatArray:
    """The half-width after ``n`` values of unit variance, of all looks at once; tight at a plan.

    Source: Waudby-Smith et al. (2024), Ann. Statist. 52:2613-2640: the radius, and the rho that
    makes it about least at ``n_planned``.
    """
    log = math.log(1 / alpha)
    rho_squared = (2 * log + math.log(2 * log + 1)) / n_planned
    t = np.asarray(n, dtype=np.float64)
    grown = t * rho_squared + 1
    return np.asarray(
        np.sqrt(2 * grown / (t**2 * rho_squared) * (np.log(grown) / 2 - math.log(alpha)))
    )


def effective_labels(n: float, n_unlabelled: float, *, correlation: float) -> float:
    """Labels that would be as precise without a judge of that correlation with people.

    Source: Angelopoulos et al. (2023), arXiv:2311.01453: n (n + N) / (n + N (1 - r^2)).

    >>> round(effective_labels(605, 3345, correlation=0.9))
    1926
    """
    return n * (n + n_unlabelled) / (n + n_unlabelled * (1 - correlation**2))


def forecast_labels(
    human: FloatArray,
    judge: FloatArray,
    *,
    n_items: int,
    half_width: float,
    level: float = 0.95,
) -> LabelForecast:
    """How many of ``n_items`` must be labelled for a half-width, judged from a pilot's (n,) labels.

    The pilot tells the labels' spread and the judge's correlation with them; the forecast is as
    good as those. A correlation below 0 counts as 0. Fewer than three labels give nan.
    """
    if human.size < 3 or np.ptp(human) == 0:
        deviation = correlation = math.nan
    else:
        deviation = float(human.std(ddof=1))
        is_flat = np.ptp(judge) == 0
        correlation = 0.0 if is_flat else max(0.0, float(np.corrcoef(human, judge)[0, 1]))
    n = np.arange(2, n_items + 1, dtype=np.float64)
    left = 1 - correlation**2 * (n_items - n) / n_items  # of the variance, with the judge
    t = stats.t.ppf(0.5 + level / 2, n - 1)
    # with the plan at n itself the radius times sqrt(n) is the same for every n
    anytime = float(sequence_radius(1.0, alpha=1 - level, n_planned=1))
    alone = deviation / np.sqrt(n)
    return LabelForecast(
        half_width=half_width,
        level=level,
        n_labels=_first(n, t * alone * np.sqrt(left), half_width),
        n_labels_anytime=_first(n, anytime * alone * np.sqrt(left), half_width),
        n_labels_only=_first(n, t * alone, half_width),
    )


def _first(n: FloatArray, widths: FloatArray, half_width: float) -> float:
    is_enough = widths <= half_width
    return float(n[int(np.argmax(is_enough))]) if is_enough.any() else math.nan


def _lams_before(human: FloatArray, judge: FloatArray, unlabelled: FloatArray) -> FloatArray:
    """(n,): the lam in [0, 1] of the labels before each; 0 before the third."""
    n = np.arange(1, human.size + 1, dtype=np.float64)
    # sums about fixed points: the first label, and the judge's mean elsewhere
    y, f = human - human[:1], judge - unlabelled.mean()
    covariance = np.cumsum(y * f) - np.cumsum(y) * np.cumsum(f) / n
    variance = np.cumsum(f * f) - np.cumsum(f) ** 2 / n
    below = (1 + n / unlabelled.size) * variance
    is_spread = below > n * (1e-12 * float(np.abs(judge).max(initial=0.0))) ** 2
    lams = np.where(is_spread, np.clip(covariance / np.where(is_spread, below, 1.0), 0, 1), 0.0)
    lams[:2] = 0.0
    return np.concatenate(([0.0], lams[:-1])) if human.size else lams


def _running_variance(values: FloatArray, means: FloatArray, n: FloatArray) -> FloatArray:
    first = values[:1]
    squares = np.cumsum((values - first) ** 2) / n - (means - first) ** 2
    return np.asarray(squares * n / np.maximum(n - 1, 1))
