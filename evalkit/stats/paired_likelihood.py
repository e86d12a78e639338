"""What paired scores tell of their mean difference, as ``likelihood`` takes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.intervals import FloatArray, spread_is_zero
from evalkit.stats.likelihood import Sample, sample_of
from evalkit.stats.paired_replicates import differences_of


def paired_sample(
    a: FloatArray, b: FloatArray, clusters: ArrayLike | None, *, reach: float
) -> Sample | None:
    """The differences b - a of scores (n,), which are within -``reach`` and ``reach``.

    Differences that differ by the rounding of the scores alone are equal. None where there is no
    pair, or a score that is not finite.
    """
    differences = differences_of(a, b)
    if differences.size == 0 or not np.isfinite(differences).all():
        return None
    if spread_is_zero(float(np.ptp(differences)), np.maximum(np.abs(a), np.abs(b))):
        differences = np.full(differences.size, differences[0])
    return sample_of(differences, clusters, limits=(-reach, reach))
