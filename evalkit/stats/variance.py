"""Where the noise of a mean comes from: variance components, and what to buy to be surer.

Components come from the mean squares of an analysis of variance, set equal to what they are
expected to be. A component that comes out negative is 0, and named in ``clipped``: the data see
none of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.intervals import FloatArray

Design = Literal["repeats", "nested", "judges", "seeds"]
"""What the axes of the scores are.

- ``repeats``: (items, repeats). Sources ``item``, ``repeat`` (within an item).
- ``nested``: (items, repeats, draws), the draws being a repeat's own, as a judge asked again.
  Sources ``item``, ``repeat``, ``draw``.
- ``judges``: (items, repeats, judges), the same judges judging all. Sources ``item``, ``repeat``,
  ``judge``, ``item:judge`` and ``draw``, the last being a judge's taste in single responses.
- ``seeds``: (items, repeats, seeds), the same seeds (of training, of few-shot examples) for all
  items and the repeats within. Sources ``item``, ``seed``, ``item:seed``, ``repeat``.
"""

_RELATIVE_EPS = 1e-12  # a component below this share of them all is rounding

# What a source's variance is divided by in the variance of the mean: items, repeats, thirds
_AVERAGED_OVER: Mapping[Design, Mapping[str, tuple[bool, bool, bool]]] = MappingProxyType(
    {
        "repeats": {"item": (True, False, False), "repeat": (True, True, False)},
        "nested": {
            "item": (True, False, False),
            "repeat": (True, True, False),
            "draw": (True, True, True),
        },
        "judges": {
            "item": (True, False, False),
            "repeat": (True, True, False),
            "judge": (False, False, True),
            "item:judge": (True, False, True),
            "draw": (True, True, True),
        },
        "seeds": {
            "item": (True, False, False),
            "seed": (False, False, True),
            "item:seed": (True, False, True),
            "repeat": (True, True, True),
        },
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """The variance of a single score by source, in the data's unit squared."""

    design: Design
    mean: float  # of the items' means
    variances: Mapping[str, float]  # nan where the design cannot tell: fewer than two of something
    clipped: tuple[str, ...]  # sources whose estimate was negative


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How many items and repeats of each to buy, the standard error they give, and their cost."""

    n_items: int
    n_repeats: int
    stderr: float
    cost: float


def repeat_components(values: ArrayLike) -> Components:
    """Components of ``values`` (items, repeats), nan where an item has fewer repeats than others.

    Items without a value do not count. The mean is of the items' means, each weighing as much.
    Source: Searle, Casella and McCulloch (1992), Variance Components, ch. 3, unbalanced data.
    """
    table = _table(values, n_axes=2)
    counts = np.isfinite(table).sum(axis=1)
    table, counts = table[counts > 0], counts[counts > 0]
    n, total = counts.size, int(counts.sum())
    filled = np.where(np.isfinite(table), table, 0.0)
    sums = filled.sum(axis=1)
    means = sums / counts
    residuals = np.where(np.isfinite(table), table - means[:, None], 0.0)
    within = _ratio(float(np.sum(residuals**2)), total - n)
    grand = _ratio(float(sums.sum()), total)
    between = _ratio(float(counts @ (means - grand) ** 2), n - 1)
    typical = _ratio(total - _ratio(float(counts @ counts), total), n - 1)
    return _components(
        "repeats",
        float(means.mean()) if n else math.nan,
        {"item": _ratio(between - within, typical), "repeat": within},
    )


def three_way_components(
    values: ArrayLike, *, design: Literal["nested", "judges", "seeds"]
) -> Components:
    """Components of complete ``values`` (items, repeats, draws, judges or seeds): see `Design`.

    nan where an axis that a source needs is shorter than two. ValueError if a value is missing.
    Source: Brennan (2001), Generalizability Theory, ch. 3: designs d:r:i, j x (r:i), r:(i x s).
    """
    table = _table(values, n_axes=3)
    if not np.isfinite(table).all():
        raise ValueError("three-way components need every value: leave incomplete items out")
    if table.size == 0:
        nothing = dict.fromkeys(_AVERAGED_OVER[design], math.nan)
        return _components(design, math.nan, nothing)
    i, r, t = table.shape
    squares = _sums_of_squares(table)
    if design == "nested":
        draw = _ratio(squares["third"] + squares["item:third"] + squares["rest"], i * r * (t - 1))
        repeat = _ratio(squares["repeat"], i * (r - 1))
        item = _ratio(squares["item"], i - 1)
        found = {"item": (item - repeat) / (r * t), "repeat": (repeat - draw) / t, "draw": draw}
        return _components(design, float(table.mean()), found)
    item, third = _ratio(squares["item"], i - 1), _ratio(squares["third"], t - 1)
    cross = _ratio(squares["item:third"], (i - 1) * (t - 1))
    if design == "judges":
        repeat = _ratio(squares["repeat"], i * (r - 1))
        rest = _ratio(squares["rest"], i * (r - 1) * (t - 1))
        found = {
            "item": (item - cross - repeat + rest) / (r * t),
            "repeat": (repeat - rest) / t,
            "judge": (third - cross) / (i * r),
            "item:judge": (cross - rest) / r,
            "draw": rest,
        }
        return _components(design, float(table.mean()), found)
    within = _ratio(squares["repeat"] + squares["rest"], i * t * (r - 1))
    found = {
        "item": (item - cross) / (r * t),
        "seed": (third - cross) / (i * r),
        "item:seed": (cross - within) / r,
        "repeat": within,
    }
    return _components(design, float(table.mean()), found)


def planned_stderr(
    components: Components, *, n_items: int, n_repeats: int = 1, n_thirds: int = 1
) -> float:
    """Standard error of the mean of a study of such a size: ``n_thirds`` draws, judges or seeds.

    What more items cannot average away, as a judge's own severity, stays. ValueError below 1.
    Source: Miller (2024), arXiv:2411.00640, sec. 3; Brennan (2001), Generalizability Theory, ch. 4.
    """
    sizes = (n_items, n_repeats, n_thirds)
    if min(sizes) < 1:
        raise ValueError(f"a study needs at least one of everything: got {sizes}")
    variance = 0.0
    for source, is_averaged in _AVERAGED_OVER[components.design].items():
        divisor = math.prod(size for size, is_in in zip(sizes, is_averaged, strict=True) if is_in)
        variance += components.variances[source] / divisor
    return math.sqrt(variance)


def best_allocation(
    components: Components, *, cost_per_item: float, cost_per_repeat: float, budget: float
) -> Allocation:
    """The items and repeats of the least standard error that ``budget`` buys, of two-way scores.

    An item costs ``cost_per_item`` once and ``cost_per_repeat`` for each of its repeats. Without
    rounding the repeats are sqrt(item cost / repeat cost * repeat variance / item variance); all
    whole numbers that could do better than those next to it are tried. At least two items.
    ValueError if the budget does not buy two items, a cost is out of range or a component is nan.
    Source: Cochran (1977), Sampling Techniques, sec. 10.6.
    """
    item, repeat = components.variances["item"], components.variances["repeat"]
    if components.design != "repeats" or not (math.isfinite(item) and math.isfinite(repeat)):
        raise ValueError("an allocation needs both components of (items, repeats) scores")
    if not (cost_per_item >= 0 and cost_per_repeat > 0 and math.isfinite(budget)):
        raise ValueError("costs must be positive (an item's may be 0) and the budget finite")
    most = math.floor((budget / 2 - cost_per_item) / cost_per_repeat * (1 + _RELATIVE_EPS))
    if most < 1:
        raise ValueError(f"a budget of {budget:g} does not buy two items with a repeat each")

    def n_bought(repeats: FloatArray) -> FloatArray:
        # six at 0.1 for 0.6, whatever their quotient in binary is
        whole = budget * (1 + _RELATIVE_EPS) / (cost_per_item + repeats * cost_per_repeat)
        return np.asarray(np.floor(whole))

    def variance(repeats: FloatArray) -> FloatArray:
        return np.asarray((item + repeat / repeats) / n_bought(repeats))

    inverse, slope = cost_per_item * repeat, cost_per_repeat * item
    ideal = math.sqrt(inverse / slope) if slope > 0 else math.inf if inverse > 0 else 1.0
    near = np.array([math.floor(min(max(1.0, ideal), most))], dtype=float)
    bar = float(variance(near)[0])
    lowest, highest = _contenders(item, repeat, cost_per_item, cost_per_repeat, bar * budget)
    first, last = math.floor(max(1.0, lowest)), math.ceil(min(highest, most))
    repeats = np.arange(first, last + 1, dtype=float)
    best = repeats[[np.argmin(variance(repeats))]]
    n_repeats, n_items = int(best[0]), int(n_bought(best)[0])
    return Allocation(
        n_items=n_items,
        n_repeats=n_repeats,
        stderr=planned_stderr(components, n_items=n_items, n_repeats=n_repeats),
        cost=n_items * (cost_per_item + n_repeats * cost_per_repeat),
    )


def icc(components: Components) -> float:
    """Share of a single score's variance that is the item's own: ICC(1) of (items, repeats).

    nan where there is no variance at all.
    Source: Shrout and Fleiss (1979), Psychol. Bull. 86:420-428.
    """
    return _ratio(components.variances["item"], sum(components.variances.values()))


def design_effect(cluster_sizes: ArrayLike, *, icc: float) -> float:
    """By how much clusters multiply the variance of a mean; nan without a unit.

    ``cluster_sizes`` (g,) may differ: what counts is the mean size of the cluster that a unit
    finds itself in.
    Source: Kish (1965), Survey Sampling, sec. 5.4.

    >>> round(design_effect([10, 10, 10], icc=0.05), 4)
    1.45
    """
    sizes = np.asarray(cluster_sizes, dtype=np.float64)
    return 1 + (_ratio(float(sizes @ sizes), float(sizes.sum())) - 1) * icc


def _contenders(
    item: float, repeat: float, cost_per_item: float, cost_per_repeat: float, bar: float
) -> tuple[float, float]:
    """Between which repeats the variance times the budget, items not being whole, is <= ``bar``."""
    slope, inverse = item * cost_per_repeat, repeat * cost_per_item
    middle = bar * (1 + 1e-9) - item * cost_per_item - repeat * cost_per_repeat
    if slope == 0:
        # items that do not differ: as few as can be, or, where they cost nothing, one repeat each
        return (inverse / middle, math.inf) if inverse > 0 else (1.0, 1.0)
    root = math.sqrt(max(0.0, middle * middle - 4 * slope * inverse))
    return (middle - root) / (2 * slope), (middle + root) / (2 * slope)


def _sums_of_squares(table: FloatArray) -> dict[str, float]:
    """Sums of squares of (items, repeats, thirds), the repeats being within their item."""
    i, r, t = table.shape
    grand = table.mean()
    items, thirds = table.mean(axis=(1, 2)), table.mean(axis=(0, 1))
    by_repeat, by_third = table.mean(axis=2), table.mean(axis=1)
    crossed = by_third - items[:, None] - thirds[None, :] + grand
    rest = table - by_repeat[:, :, None] - by_third[:, None, :] + items[:, None, None]
    return {
        "item": float(r * t * np.sum((items - grand) ** 2)),
        "repeat": float(t * np.sum((by_repeat - items[:, None]) ** 2)),
        "third": float(i * r * np.sum((thirds - grand) ** 2)),
        "item:third": float(r * np.sum(crossed**2)),
        "rest": float(np.sum(rest**2)),
    }


def _components(design: Design, mean: float, found: Mapping[str, float]) -> Components:
    scale = sum(abs(v) for v in found.values() if math.isfinite(v))
    clipped = tuple(source for source, v in found.items() if v < -_RELATIVE_EPS * scale)
    variances = {k: 0.0 if v <= _RELATIVE_EPS * scale else v for k, v in found.items()}
    return Components(
        design=design, mean=mean, variances=MappingProxyType(variances), clipped=clipped
    )


def _table(values: ArrayLike, *, n_axes: int) -> FloatArray:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != n_axes:
        raise ValueError(f"scores must have {n_axes} axes: got {table.shape}")
    if np.isinf(table).any():
        raise ValueError("scores must be finite, or nan where one is missing")
    return table


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else math.nan
