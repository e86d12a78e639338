"""How well one person agrees with the others: what a judge can at most be expected to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from evalkit.stats.intervals import FloatArray, Interval
from evalkit.stats.reweighting import Statistic, reweighted_bootstrap
from evalkit.stats.weighted_correlation import Kind, weighted_correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanCeiling:
    """Correlations with the mean of all other people, averaged over the one who is left out."""

    ceiling: Interval  # of the person left out
    judge: Interval  # of the judge, with the same targets on the same items
    ratio: Interval  # judge / ceiling; nan where the ceiling is not above 0
    n_items: int  # that count for one person at least


def human_ceiling(
    humans: ArrayLike,
    judge: ArrayLike,
    *,
    kind: Kind,
    rng: np.random.Generator,
    n_resamples: int = 2000,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> HumanCeiling:
    """Each of ``humans`` (items, people) against the mean of the rest, and the ``judge`` likewise.

    nan is a missing rating; an item counts for a person if that person, at least one other and the
    ``judge`` (items,) rated it. The bounds are BCa's over items, or ``clusters`` (items,) of them,
    from the same resamples for all three. The judge can be above the ceiling: it may be less noisy
    than one person, since it is held against the mean of several. nan where the ratings of a
    person, of the rest or of the judge do not vary. ValueError for fewer than two people.
    Source: Nili et al. (2014), PLoS Comput. Biol. 10:e1003553, the lower bound of their noise
    ceiling; the judge's part is ours.
    """
    table, scores = np.asarray(humans, dtype=np.float64), np.asarray(judge, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2 or scores.shape != table.shape[:1]:
        raise ValueError(
            f"humans {table.shape} are not (items, two or more people) beside judge {scores.shape}"
        )
    used = np.isfinite(scores) & (np.isfinite(table).sum(axis=1) >= 2)
    kept = None if clusters is None else np.asarray(clusters)[used]
    statistic = _left_out(table[used], scores[used], kind)
    ceiling, of_judge, ratio = reweighted_bootstrap(
        statistic,
        int(used.sum()),
        rng=rng,
        n_resamples=n_resamples,
        clusters=kept,
        level=level,
    )
    return HumanCeiling(ceiling=ceiling, judge=of_judge, ratio=ratio, n_items=int(used.sum()))


def _left_out(table: FloatArray, scores: FloatArray, kind: Kind) -> Statistic:
    """Weights (b, items) to (b, 3): the ceiling, the judge's correlation, and their ratio."""
    is_given = np.isfinite(table)
    filled = np.where(is_given, table, 0.0)
    totals, sizes = filled.sum(axis=1), is_given.sum(axis=1)
    parts = []
    for person in range(table.shape[1]):
        rows = np.flatnonzero(is_given[:, person])
        rest = (totals[rows] - filled[rows, person]) / (sizes[rows] - 1)
        parts.append(
            (
                rows,
                weighted_correlation(table[rows, person], rest, kind=kind),
                weighted_correlation(scores[rows], rest, kind=kind),
            )
        )

    def value(weights: FloatArray) -> FloatArray:
        people = np.mean([human(weights[:, rows]) for rows, human, _ in parts], axis=0)
        judges = np.mean([judge(weights[:, rows]) for rows, _, judge in parts], axis=0)
        ratios = judges / np.where(people > 0, people, np.nan)
        return np.concatenate((people, judges, ratios), axis=1)

    return value
