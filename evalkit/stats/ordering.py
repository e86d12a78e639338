"""Pairwise judgments made in both orders: how right they are, and how much the order decides.

A verdict is about the systems, not about places: 1 if the first system is better, 2 if the second,
0 for a tie, None or nan where no verdict could be read. In the original order the first system is
shown first, in the swapped order second. A tie is a tie: a judge that rates systems one by one and
gives both the same has no preference, and ties broken by the order look like a position bias that
the judge does not have.

No verdict is an outcome of its own: it is never right, two of them are the same outcome, and it is
a fourth label for kappa. So that a judge which answers nothing does not pass for a consistent one,
agreement is also given among the pairs that have a verdict in both orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evalkit.stats.agreement import Ratings, cohen_kappa, label_codes
from evalkit.stats.intervals import (
    Interval,
    cluster_t_interval,
    t_interval,
    wilson,
    wilson_mean,
)
from evalkit.stats.ratio import ratio_interval

_VERDICTS = (0, 1, 2)
_NO_VERDICT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConsistency:
    """How far a judge's verdicts on n pairs of outputs are the same in both orders."""

    n: int
    n_without_verdict: int  # in one order at least
    agreement: Interval  # share of pairs with the same outcome in both orders
    agreement_of_verdicts: Interval  # the same, of the pairs with a verdict in both
    n_first_twice: int  # picks what is shown first in either order, whichever system it is
    n_second_twice: int
    first_p_value: float  # exact, two-sided: the one as often as the other; 1 where there are none
    first_share: Interval  # of all verdicts that are no ties, those for what is shown first


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAccuracy:
    """How far a judge's verdicts in both orders are those of the labels."""

    accuracy: Interval  # mean of both orders; Student's t over pairs
    both_right: Interval  # share of pairs that are right in both
    kappa: Interval  # Cohen's, of the labels and the verdicts in the original order


def order_consistency(
    original: Ratings,
    swapped: Ratings,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> OrderConsistency:
    """What the order changes in verdicts (n,) of the original and of the swapped order.

    Shares have Wilson's interval, or with ``clusters`` (n,) `wilson_mean`'s. ``first_share`` has
    that of ``ratio_interval``, a pair's two verdicts not being independent. ValueError for a
    verdict that is none of 0, 1, 2, None and nan.
    Source: Zheng et al. (2023), arXiv:2306.05685 (consistency, biased toward first);
    the exact sign test of the pairs that follow their place.
    """
    first, second = _verdicts(original), _verdicts(swapped)
    _check_rows(first, second)
    is_same, is_complete = first == second, (first >= 0) & (second >= 0)
    n_first = int(np.sum((first == 1) & (second == 2)))
    n_second = int(np.sum((first == 2) & (second == 1)))
    labels = None if clusters is None else np.asarray(clusters)
    kept = None if labels is None else labels[is_complete]
    return OrderConsistency(
        n=first.size,
        n_without_verdict=int(np.sum(~is_complete)),
        agreement=_share(is_same, labels, level=level),
        agreement_of_verdicts=_share(is_same[is_complete], kept, level=level),
        n_first_twice=n_first,
        n_second_twice=n_second,
        first_p_value=_sign_test(n_first, n_second),
        first_share=ratio_interval(
            (first == 1).astype(np.float64) + (second == 2),
            (first > 0).astype(np.float64) + (second > 0),
            clusters=labels,
            level=level,
        ),
    )


def order_accuracy(
    labels: Ratings,
    original: Ratings,
    swapped: Ratings,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> OrderAccuracy:
    """How right verdicts (n,) of either order are, each pair having one of ``labels`` (n,) 0, 1, 2.

    A verdict is right if it is the label: a tie where the label is none is wrong, as is no verdict.
    Both orders of a pair are one observation, of 0, one half or 1. Intervals are Student's for the
    accuracy (or with ``clusters`` (n,) ``cluster_t_interval``'s), Wilson's (`wilson_mean`'s) for
    the share, `cohen_kappa`'s for kappa. ValueError for a pair without a label and as in
    ``order_consistency``.
    """
    truth, first, second = _verdicts(labels), _verdicts(original), _verdicts(swapped)
    _check_rows(truth, first, second)
    if (truth == _NO_VERDICT).any():
        raise ValueError("a pair has no label")
    right = ((first == truth).astype(np.float64) + (second == truth)) / 2
    if clusters is None:
        accuracy = t_interval(right, level=level, bounds=(0.0, 1.0))
    else:
        accuracy = cluster_t_interval(right, clusters, level=level, bounds=(0.0, 1.0))
    kept = None if clusters is None else np.asarray(clusters)
    return OrderAccuracy(
        accuracy=accuracy,
        both_right=_share(right == 1, kept, level=level),
        kappa=cohen_kappa(
            truth, first, labels=(_NO_VERDICT, *_VERDICTS), clusters=clusters, level=level
        ),
    )


def _verdicts(values: Ratings) -> NDArray[np.intp]:
    """Verdicts as 0, 1, 2 and -1: positions of the labels are the labels."""
    return label_codes(values, labels=_VERDICTS)


def _check_rows(*verdicts: NDArray[np.intp]) -> None:
    shapes = {v.shape for v in verdicts}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"verdicts of shapes {sorted(shapes)} are not of the same pairs")


def _share(is_so: NDArray[np.bool_], clusters: NDArray[Any] | None, *, level: float) -> Interval:
    if clusters is None:
        return wilson(int(is_so.sum()), is_so.size, level=level)
    return wilson_mean(is_so.astype(np.float64), clusters, level=level)


def _sign_test(n_one: int, n_other: int) -> float:
    """Two-sided p of ``n_one`` among both being half; 1 where there are none."""
    if n_one + n_other == 0:
        return 1.0
    return float(stats.binomtest(n_one, n_one + n_other).pvalue)
