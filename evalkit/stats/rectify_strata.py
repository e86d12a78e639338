"""A corrected mean from labels drawn at random within strata, by a judge's score or given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.influence import (
    IntArray,
    Linear,
    Sample,
    Tuning,
    combined,
    corrected,
    equal_weights,
    joint_units,
    mean_of,
    unknown,
)
from evalkit.stats.intervals import FloatArray
from evalkit.stats.rectify import Rectified, judged, rectified, silent_judge, too_little


def rectify_strata(
    human: FloatArray,
    judge: FloatArray,
    *,
    unlabelled: FloatArray,
    strata: tuple[ArrayLike, ArrayLike],
    clusters: tuple[ArrayLike, ArrayLike] | None = None,
    lam: Tuning | float = "cross-fit",
    level: float = 0.95,
) -> Rectified:
    """The corrected mean where labels were drawn at random within each stratum, not over all.

    ``strata`` are those of the labelled (n,) and of the other items (N,); a stratum counts for its
    share of all n + N items, however many labels it got, and has a lam of its own. The variance
    has a part for the shares, which are themselves a sample's. ``labels_only`` is stratified too;
    ``lam`` in the result is the mean over the strata. Else as `rectify`. A stratum with fewer than
    two labelled units gives nan and a reason that names it.
    Source: Fisch et al. (2024), arXiv:2406.04291; for the shares Cochran (1977), ch. 12.
    """
    n, n_other = human.size, unlabelled.size
    units, other_units, n_units = joint_units(n, n_other, clusters=clusters)
    labels_in, others_in = (np.asarray(s) for s in strata)
    if judge.shape != (n,) or labels_in.shape != (n,) or others_in.shape != (n_other,):
        raise ValueError(f"shapes do not fit: {n} labels, {n_other} others, strata, judge")
    everything = np.concatenate((judge, unlabelled))
    stratum_of = np.concatenate((labels_in, others_in))
    pool = judged(everything, np.concatenate((units, other_units)))
    reason = too_little(human, everything, units=units)
    reason = reason or _thin_stratum(labels_in, stratum_of, units)
    names = stratum_of[:0] if reason else np.unique(stratum_of)
    plain, tuned = [], []
    for name in names:
        here, there = labels_in == name, others_in == name
        labelled = _part(human[here], judge[here], units[here])
        rest = judged(unlabelled[there], other_units[there])
        used = 0.0 if silent_judge(labelled.human, labelled.judge) else lam
        plain.append(corrected(labelled, rest, n_units=n_units, lam=0.0))
        tuned.append(corrected(labelled, rest, n_units=n_units, lam=used))
    found = _over_strata(tuned, names, stratum_of, pool.units) if tuned else unknown()
    labels = _over_strata(plain, names, stratum_of, pool.units) if plain else unknown()
    method = "stratified-ppi++" if isinstance(lam, str) else "stratified-ppi"
    return rectified(
        found,
        labels,
        naive=mean_of(everything, pool.weights, units=pool.units, n_units=n_units),
        counts=(n, n_other),
        level=level,
        method=method if clusters is None else f"cluster-{method}",
        reason=reason,
    )


def _part(human: FloatArray, judge: FloatArray, units: IntArray) -> Sample:
    return Sample(human=human, judge=judge, weights=equal_weights(human.size), units=units)


def _over_strata(
    parts: list[Linear], names: NDArray[Any], stratum_of: NDArray[Any], units: IntArray
) -> Linear:
    codes = np.searchsorted(names, stratum_of)
    shares = np.bincount(codes) / codes.size
    values = np.array([p.value for p in parts])
    between = (values[codes] - shares @ values) / codes.size
    n_units = parts[0].influences.size
    sums = np.asarray(np.bincount(units, weights=between, minlength=n_units), dtype=np.float64)
    return combined(parts, shares, between=sums)


def _thin_stratum(labels_in: NDArray[Any], stratum_of: NDArray[Any], units: IntArray) -> str:
    for name in np.unique(stratum_of):
        n_units = np.unique(units[labels_in == name]).size
        if n_units < 2:
            return f"stratum {name} has {n_units} independent labelled units: at least 2 are needed"
    return ""
