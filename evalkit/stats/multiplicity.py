"""Many p-values at once: adjusted so that each can be compared with alpha as it stands.

All take p (m,) and give (m,) in the same order. nan stays nan and does not count as a test.
ValueError for a p outside 0..1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalkit.stats.intervals import FloatArray

IndexArray = NDArray[np.intp]


def holm(p: ArrayLike) -> FloatArray:
    """Family-wise error under any dependence: the choice for a gate's declared checks.

    Source: Holm (1979), Scand. J. Statist. 6:65-70.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values, order = _ordered(p)
    factors = np.arange(order.size, 0, -1)
    return _put_back(values, order, np.maximum.accumulate(factors * values[order]))


def hochberg(p: ArrayLike) -> FloatArray:
    """Family-wise error, never above `holm`; valid for independent or positively dependent tests.

    Source: Hochberg (1988), Biometrika 75:800-802.
    """
    values, order = _ordered(p)
    return _step_up(values, order, np.arange(order.size, 0, -1.0))


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """False discovery rate; valid for independent or positively dependent tests.

    Source: Benjamini and Hochberg (1995), J. R. Statist. Soc. B 57:289-300.
    """
    values, order = _ordered(p)
    return _step_up(values, order, order.size / np.arange(1, order.size + 1))


def benjamini_yekutieli(p: ArrayLike) -> FloatArray:
    """False discovery rate under any dependence.

    Source: Benjamini and Yekutieli (2001), Ann. Statist. 29:1165-1188, theorem 1.3.
    """
    values, order = _ordered(p)
    ranks = np.arange(1, order.size + 1)
    return _step_up(values, order, order.size * float(np.sum(1 / ranks)) / ranks)


def _ordered(p: ArrayLike) -> tuple[FloatArray, IndexArray]:
    """The p-values, and where those that count are, from the smallest up."""
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"p-values must be (m,): got {values.shape}")
    if ((values < 0) | (values > 1)).any():
        raise ValueError("p-values must lie within 0 and 1")
    order = np.argsort(values, kind="stable")  # nan sorts last
    return values, order[: values.size - np.count_nonzero(np.isnan(values))]


def _step_up(values: FloatArray, order: IndexArray, factors: FloatArray) -> FloatArray:
    scaled = factors * values[order]
    return _put_back(values, order, np.minimum.accumulate(scaled[::-1])[::-1])


def _put_back(values: FloatArray, order: IndexArray, adjusted: FloatArray) -> FloatArray:
    found = np.full(values.shape, np.nan)
    found[order] = np.minimum(adjusted, 1.0)
    return found
