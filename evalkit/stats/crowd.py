"""Several judges made into one, and whether that is any better than the best of them.

Votes are counts (n, j, k): how often judge j put item i into class k, so that a judge may be asked
several times and may miss an item.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.intervals import FloatArray, cluster_codes
from evalkit.stats.paired import Difference, mean_difference

_TIE = 1e-9  # posteriors closer than this are equal
_TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class DawidSkene:
    """What each item is, and how each judge errs, both estimated from the votes alone."""

    posteriors: FloatArray  # (n, k)
    labels: FloatArray  # (n,) the likeliest class; nan where two are equally likely
    class_rates: FloatArray  # (k,)
    confusion: FloatArray  # (j, k, k): judge, true class, class given; rows add up to 1
    log_likelihood: float
    n_steps: int
    is_converged: bool


def vote_counts(votes: ArrayLike, *, n_classes: int, judges: ArrayLike | None = None) -> FloatArray:
    """Counts (n, j, k) of ``votes`` (n, v), which are classes 0 to k - 1 or nan for none.

    ``judges`` (v,) says whose votes a column holds; without it each column is a judge.
    """
    cast = np.asarray(votes, dtype=np.float64)
    if cast.ndim != 2:
        raise ValueError(f"votes must be (n, v): got {cast.shape}")
    codes, n_judges = cluster_codes(np.arange(cast.shape[1]) if judges is None else judges)
    is_cast = ~np.isnan(cast)
    classes = np.where(is_cast, cast, 0)
    if ((classes < 0) | (classes >= n_classes) | (classes != np.floor(classes))).any():
        raise ValueError(f"votes must be whole numbers from 0 to {n_classes - 1}, or nan")
    items, columns = np.nonzero(is_cast)
    counts = np.zeros((len(cast), n_judges, n_classes))
    np.add.at(counts, (items, codes[columns], classes[is_cast].astype(np.intp)), 1.0)
    return counts


def majority(counts: FloatArray) -> FloatArray:
    """(n,): the class with the most votes; nan where there are none or several have as many."""
    return _winners(counts.sum(axis=1))


def panel_mean(scores: ArrayLike) -> FloatArray:
    """(n,): the mean of the ``scores`` (n, j) that are not nan; nan where all are."""
    given = np.asarray(scores, dtype=np.float64)
    is_given = ~np.isnan(given)
    n = is_given.sum(axis=1)
    total = np.where(is_given, given, 0.0).sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), math.nan)


def dawid_skene(
    counts: FloatArray, *, smoothing: float = 0.01, max_steps: int = 1000, tolerance: float = 1e-8
) -> DawidSkene:
    """Estimate classes and judges' errors from ``counts`` (n, j, k) by the EM algorithm.

    It starts from the shares of votes, and so takes the judges to be right more often than not.
    ``smoothing`` votes are added to every cell of a judge's confusion matrix and to every class:
    0 is maximum likelihood, where a judge that never gave a class is taken to be unable to.
    An item without votes gets the class rates. Judges' errors must be independent given the class:
    judges that copy each other are believed too much.
    Source: Dawid and Skene (1979), Appl. Statist. 28:20-28, eq. 2.3-2.5 and 3.1. Own, since
    crowd-kit has no smoothing and brings a large tree of libraries.
    """
    if counts.ndim != 3 or not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("counts must be (n, j, k), finite and not negative")
    votes = counts.sum(axis=1)
    if not votes.any():
        raise ValueError("there are no votes")
    shares = votes / np.maximum(votes.sum(axis=1, keepdims=True), _TINY)
    posteriors = np.where(votes.any(axis=1, keepdims=True), shares, 1 / counts.shape[2])
    n_steps, is_converged, likelihood = 0, False, math.nan
    while n_steps < max_steps and not is_converged:
        rates = posteriors.sum(axis=0) + smoothing
        rates = rates / rates.sum()
        confusion = np.einsum("ik,ijl->jkl", posteriors, counts) + smoothing
        totals = confusion.sum(axis=2, keepdims=True)
        confusion = np.where(totals > 0, confusion / np.maximum(totals, _TINY), 1 / len(rates))
        logs = np.einsum("ijl,jkl->ik", counts, np.log(np.maximum(confusion, _TINY)))
        logs += np.log(np.maximum(rates, _TINY))
        norms = np.logaddexp.reduce(logs, axis=1, keepdims=True)
        moved = np.exp(logs - norms)
        likelihood = float(norms.sum())
        is_converged = float(np.abs(moved - posteriors).max()) < tolerance
        posteriors, n_steps = moved, n_steps + 1
    return DawidSkene(
        posteriors=posteriors,
        labels=_winners(posteriors),
        class_rates=rates,
        confusion=confusion,
        log_likelihood=likelihood,
        n_steps=n_steps,
        is_converged=is_converged,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelLift:
    """How much better a panel is than its best member, on items with labels."""

    lift: Difference  # panel less the member that was best on the other folds
    chosen: tuple[int, ...]  # that member, a fold each
    against: tuple[Difference, ...]  # panel less each member
    low: float  # lower bound of the lift over the best, whichever that is: the least of all lows
    is_accepted: bool  # the lift's low and this low both lie above 0
    n: int


def panel_lift(
    panel: ArrayLike,
    members: ArrayLike,
    *,
    folds: ArrayLike,
    is_binary: bool,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> PanelLift:
    """Compare ``panel`` (n,) with ``members`` (n, j) by how well each did on the same items.

    All are higher where better: 1 and 0 for right and wrong (``is_binary``), or minus the error. A
    panel that was fitted to labels must have been fitted without the item's own fold. ``folds``
    (n,) are labels that keep clusters whole; the best member of a fold is the one with the highest
    mean outside of it, the first of equals, so that the lift is not flattered by having been
    chosen. That member may not be the best, so the panel must also beat each one: the bound holds
    for the best without a choice.
    Source: Verga et al. (2024), arXiv:2404.18796 (panels); Berger (1982), Technometrics 24:295-300
    (a claim against all holds at the level of each).
    """
    whole, parts = np.asarray(panel, dtype=np.float64), np.asarray(members, dtype=np.float64)
    if whole.ndim != 1 or parts.ndim != 2 or len(parts) != whole.size or parts.shape[1] == 0:
        raise ValueError(f"panel must be (n,), members (n, j): got {whole.shape}, {parts.shape}")
    codes, n_folds = cluster_codes(folds)
    if codes.size != whole.size or n_folds < 2:
        raise ValueError("folds must have a label for each item, and two or more of them")
    if clusters is not None:
        check_folds(codes, clusters)
    chosen = [int(parts[codes != fold].mean(axis=0).argmax()) for fold in range(n_folds)]
    best = parts[np.arange(whole.size), np.array(chosen)[codes]]

    def above(other: FloatArray) -> Difference:
        return mean_difference(other, whole, is_binary=is_binary, clusters=clusters, level=level)

    lift, against = above(best), tuple(above(column) for column in parts.T)
    low = float(np.min([found.low for found in against]))  # nan if any is
    return PanelLift(
        lift=lift,
        chosen=tuple(chosen),
        against=against,
        low=low,
        is_accepted=lift.low > 0 and low > 0,
        n=whole.size,
    )


def check_folds(folds: NDArray[np.intp], clusters: ArrayLike) -> None:
    """ValueError where a cluster lies in several folds."""
    codes, n_clusters = cluster_codes(clusters)
    if codes.size != folds.size:
        raise ValueError(f"clusters must have {folds.size} labels: got {codes.size}")
    if len(np.unique(np.column_stack((codes, folds)), axis=0)) != n_clusters:
        raise ValueError("a cluster lies in several folds")


def _winners(weights: FloatArray) -> FloatArray:
    """(n,): the place of the largest of ``weights`` (n, k); nan where it is not the only one."""
    top = weights.max(axis=1, keepdims=True)
    is_alone = np.count_nonzero(weights >= top - _TIE, axis=1) == 1
    return np.where(is_alone, weights.argmax(axis=1).astype(np.float64), math.nan)
