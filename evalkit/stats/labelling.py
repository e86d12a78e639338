"""Which items people should label next, and which of them twice.

Chance decides, with probabilities that are returned to be kept beside the labels: without them no
estimate can be corrected. The chance of an item follows from its name and the seed, so the order
of the rows changes nothing. The way to go: 30 to 50 labels at random (``propose_by_strata`` with
one stratum), then by strata with ``residual_spreads`` of those, or ``propose_active``; when to
stop says `label_sequence`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.crossfit import content_order
from evalkit.stats.intervals import FloatArray, cluster_codes

IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

_PRIOR_DEGREES = 4.0  # labels' worth of the common spread that a stratum's own starts from


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Items to label, in the order in which to label them: any beginning is a sample too."""

    chosen: IntArray  # (k,) rows of the items
    propensities: FloatArray  # (k,) the chance each had to be labelled: keep it with the label
    is_twice: BoolArray  # (k,) two people label it, to learn how far people agree
    method: str


def score_strata(scores: FloatArray, n_strata: int) -> IntArray:
    """(n,): strata 0.. of about equal sizes by rising score; equal scores stay together.

    There are fewer than ``n_strata`` where scores repeat.
    """
    edges = np.quantile(scores, np.arange(1, n_strata) / n_strata)
    codes = np.searchsorted(np.unique(edges), scores, side="right")
    return np.unique(codes, return_inverse=True)[1].reshape(-1)


def residual_spreads(residuals: FloatArray, strata: IntArray, *, n_strata: int) -> FloatArray:
    """(n_strata,): the standard deviation of human - lam judge in each stratum, from a pilot.

    Both are (n,), strata coded 0..n_strata - 1. Few labels tell little of a stratum's own spread:
    each starts from the common one, which counts as four labels. nan below two labels in all.
    """
    if residuals.size < 2:
        return np.full(n_strata, np.nan)
    sizes = np.bincount(strata, minlength=n_strata)
    means = np.bincount(strata, weights=residuals, minlength=n_strata) / np.maximum(sizes, 1)
    squares = (residuals - means[strata]) ** 2
    sums = np.bincount(strata, weights=squares, minlength=n_strata)
    degrees = np.maximum(sizes - 1, 0)
    pooled = float(sums.sum()) / max(1, int(degrees.sum()))
    return np.asarray(np.sqrt((_PRIOR_DEGREES * pooled + sums) / (_PRIOR_DEGREES + degrees)))


def neyman_allocation(
    sizes: IntArray, spreads: FloatArray, *, n: int, at_least: IntArray
) -> IntArray:
    """(k,): how many of ``n`` labels each stratum gets, in proportion to size times spread.

    ``sizes`` and ``at_least`` bound each stratum's number; ValueError where ``n`` fits not between
    their sums. Strata without any spread share alike by size. What a full stratum cannot take goes
    to the others; fractions go to the largest.
    Source: Neyman (1934), J. R. Stat. Soc. 97:558-625.
    """
    floors = np.minimum(at_least, sizes)
    if not floors.sum() <= n <= sizes.sum():
        raise ValueError(f"{n} labels, but the strata take {floors.sum()} to {sizes.sum()}")
    wanted = sizes * spreads if np.any(sizes * spreads > 0) else sizes.astype(np.float64)
    shares = _shared(wanted + 1e-9 * sizes, float(n), floors.astype(np.float64), sizes)
    counts = np.floor(shares + 1e-9).astype(np.intp)
    order = np.argsort(counts - shares, kind="stable")
    counts[order[: n - int(counts.sum())]] += 1
    return counts


def propose_by_strata(
    names: Sequence[str],
    strata: ArrayLike,
    *,
    n: int,
    spreads: FloatArray | None = None,
    is_labelled: BoolArray | None = None,
    share_twice: float = 0.2,
    seed: int = 0,
) -> Proposal:
    """``n`` items drawn at random within strata, as many in each as Neyman's allocation says.

    ``names`` (m,) are unique, ``strata`` (m,) labels, ``spreads`` (k,) in the order of the sorted
    labels (None: in proportion to size). ``is_labelled`` (m,) have labels already, drawn at random
    within these strata; they count towards the allocation. A propensity is the share of its
    stratum that then has labels; it is right for the earlier labels of the stratum too. Each
    stratum gets two labels at least, where it has two items. `rectify_strata` takes such labels.
    ValueError as ``neyman_allocation``, or for names that repeat.
    """
    _check_names(names)
    codes, k = cluster_codes(strata)
    done = np.zeros(len(names), dtype=np.bool_) if is_labelled is None else is_labelled
    sizes, before = np.bincount(codes, minlength=k), np.bincount(codes[done], minlength=k)
    counts = neyman_allocation(
        sizes,
        np.ones(k) if spreads is None else spreads,
        n=n + int(before.sum()),
        at_least=np.maximum(before, 2),
    )
    order = content_order(names, seed=seed, purpose="label")
    drawn = []
    for stratum in range(k):
        free = np.flatnonzero((codes == stratum) & ~done)
        first = free[np.argsort(order[free], kind="stable")]
        drawn.append(first[: counts[stratum] - before[stratum]])
    chosen = np.concatenate(drawn)
    rates = counts / sizes
    return _proposal(names, chosen, rates[codes[chosen]], "strata", share_twice, seed)


def propose_active(
    names: Sequence[str],
    uncertainties: FloatArray,
    *,
    n: int,
    share_uniform: float = 0.1,
    share_twice: float = 0.2,
    seed: int = 0,
) -> Proposal:
    """``n`` items, each with a chance in proportion to how unsure the judge is of it.

    ``uncertainties`` (m,) are not negative: best, the expected size of human - lam judge. A
    ``share_uniform`` of the chance is spread evenly, so that a judge that is sure and wrong is
    found out. Exactly ``n`` are drawn, with exactly these chances: systematically, along the
    names in random order. `rectify` takes such labels with ``propensities``. Uncertainties that
    are the reverse of the truth cost coverage: 95 % intervals of 50 labels then hold 90 %.
    ValueError for repeated names, negative or missing uncertainties, and ``n`` beyond m.
    Source: Zrnic and Candes (2024), arXiv:2403.03208 (rule and mixture); Madow (1949),
    Ann. Math. Stat. 20:333-354 (systematic sampling).
    """
    _check_names(names)
    if not (uncertainties >= 0).all() or not 0 <= n <= len(names):
        raise ValueError(f"{n} of {len(names)} items, uncertainties at least 0 and not nan")
    m = len(names)
    total = float(uncertainties.sum())
    sure = uncertainties / total if total > 0 else np.full(m, 1 / m)
    mixed = (1 - share_uniform) * sure + share_uniform / m
    chances = _shared(mixed, float(n), np.zeros(m), np.ones(m))
    walk = np.argsort(content_order(names, seed=seed, purpose="walk"), kind="stable")
    start = float(content_order(["start"], seed=seed, purpose="start")[0])
    # the last sum is n but for rounding: as a whole number of steps it draws exactly n
    ends = np.cumsum(chances[walk])
    ends[-1] = n
    hits = np.ceil(ends - start) - np.ceil(np.concatenate(([0.0], ends[:-1])) - start)
    chosen = walk[hits > 0]
    return _proposal(names, chosen, chances[chosen], "active", share_twice, seed)


def _shared(wanted: FloatArray, n: float, floors: FloatArray, caps: ArrayLike) -> FloatArray:
    """``n`` in proportion to ``wanted``, each within its floor and cap: the scale by bisection."""
    limits = np.asarray(caps, dtype=np.float64)
    low, high = 0.0, 1.0
    positive = wanted[wanted > 0]
    if positive.size:
        high = float(limits.max()) / float(positive.min()) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if float(np.clip(middle * wanted, floors, limits).sum()) < n:
            low = middle
        else:
            high = middle
    return np.asarray(np.clip(high * wanted, floors, limits))


def _proposal(
    names: Sequence[str],
    chosen: IntArray,
    propensities: FloatArray,
    method: str,
    share_twice: float,
    seed: int,
) -> Proposal:
    picked = [names[i] for i in chosen.tolist()]
    order = np.argsort(content_order(picked, seed=seed, purpose="turn"), kind="stable")
    twice = np.argsort(content_order(picked, seed=seed, purpose="twice"), kind="stable")
    is_twice = np.zeros(chosen.size, dtype=np.bool_)
    is_twice[twice[: math.ceil(share_twice * chosen.size - 1e-9)]] = True
    return Proposal(
        chosen=chosen[order],
        propensities=propensities[order],
        is_twice=is_twice[order],
        method=method,
    )


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError("names repeat: an item's chance follows from its name")
