"""A judge's metric compared where people labelled some of the answers of both sides.

The judge's error on those is known, for both sides at once: what the judge does alike to both
cancels, what it does to one of them alone does not go unseen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FEWEST_LABELS = 30  # of both sides, on the same examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of the examples that have one on both sides, beside the judge's values; (m,)."""

    human_a: FloatArray
    human_b: FloatArray
    judge_a: FloatArray
    judge_b: FloatArray


def corrected(
    a: FloatArray, b: FloatArray, human_a: FloatArray, human_b: FloatArray, *, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Values (n,) of both sides whose paired mean difference is the PPI++ estimate of people's.

    ``a`` and ``b`` are the judge's, the labels nan where there are none. With n labels and N other
    examples, T = n + N, a labelled example becomes its side's estimate plus T/n times the deviation
    of human - lambda·judge, another one plus T/N times that of lambda·judge: so the mean and the
    standard error of the differences are those of PPI++. As the labels are fewer than the examples,
    deviations are stretched by the quotient of their t quantiles. Where fewer than
    ``FEWEST_LABELS`` examples have labels on both sides the values come back as they are.
    Source: Angelopoulos et al. (2023), arXiv:2311.01453, proposition 1, applied to differences.
    """
    is_labelled = np.isfinite(human_a) & np.isfinite(human_b)
    n, n_others = int(is_labelled.sum()), int((~is_labelled).sum())
    if n < FEWEST_LABELS:
        return a, b
    if not n_others:
        return human_a, human_b
    lam = _lam((human_b - human_a)[is_labelled], (b - a)[is_labelled], b - a, n / n_others)
    total = n + n_others
    quantile = 0.5 + level / 2
    stretch = float(stats.t.ppf(quantile, n - 1) / stats.t.ppf(quantile, total - 1))
    first, second = (
        _pseudo_values(judge, human, is_labelled, lam, stretch)
        for judge, human in ((a, human_a), (b, human_b))
    )
    return first, second


def _lam(human: FloatArray, judge: FloatArray, all_judged: FloatArray, ratio: float) -> float:
    spread = float(np.var(all_judged, ddof=1))
    if spread == 0:
        return 0.0
    covariance = float(np.cov(human, judge, ddof=1)[0, 1])
    return min(1.0, max(0.0, covariance / ((1 + ratio) * spread)))


def _pseudo_values(
    judge: FloatArray, human: FloatArray, is_labelled: BoolArray, lam: float, stretch: float
) -> FloatArray:
    n = int(is_labelled.sum())
    total = judge.size
    gaps = human[is_labelled] - lam * judge[is_labelled]
    others = lam * judge[~is_labelled]
    estimate = gaps.mean() + others.mean()
    values = np.empty(total)
    values[is_labelled] = estimate + stretch * total / n * (gaps - gaps.mean())
    values[~is_labelled] = estimate + stretch * total / (total - n) * (others - others.mean())
    return values
