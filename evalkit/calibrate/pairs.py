"""Pairs: what the order decides, how often the judge is right, and how it ranks systems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import TIE, Evidence
from evalkit.calibrate.figures import Settings, figure, mean_of
from evalkit.stats.bradley_terry import contrast, rank_ranges, robust_fit
from evalkit.stats.intervals import FloatArray, cluster_codes
from evalkit.stats.ordering import order_accuracy, order_consistency

_MOST_SYSTEMS = 100  # of a ranking: counts are kept for each unit and pair of systems


def orders(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """What the order in which a pair is shown does to the verdict; empty without both orders.

    Pairs on which the judge could not be asked are left out; one without a verdict in either order
    is neither consistent by that nor right.
    """
    both = evidence.orders()
    if both is None:
        return {}
    asked = np.flatnonzero(~evidence.is_error).tolist()
    first, second = ([order[i] for i in asked] for order in both)
    truth = [_as_recorded(float(evidence.consensus[i])) for i in asked]
    clusters = None if evidence.clusters is None else evidence.clusters[asked]
    same = order_consistency(first, second, clusters=clusters, level=settings.level)
    right = order_accuracy(truth, first, second, clusters=clusters, level=settings.level)
    n = same.n - same.n_without_verdict
    return {
        "consistency": figure(same.agreement_of_verdicts, n),
        "accuracy": figure(right.accuracy, same.n),
        "both_right": figure(right.both_right, same.n),
        "kappa_shown_first": figure(right.kappa, same.n),
        "first_share": figure(same.first_share, n),
        "n_first_twice": same.n_first_twice,
        "n_second_twice": same.n_second_twice,
        "p_of_first": same.first_p_value,
    }


def accuracy(evidence: Evidence, settings: Settings) -> dict[str, Any] | None:
    """The share of pairs, or of classes, that the judge has right; no verdict is not right.

    Of pairs in both orders the mean over the orders; None for grades.
    """
    if evidence.is_graded:
        return None
    found = orders(evidence, settings)
    if found:
        accurate: dict[str, Any] = found["accuracy"]
        return accurate
    known = np.isfinite(evidence.consensus) & ~evidence.is_error
    is_right = (evidence.choices == evidence.consensus).astype(np.float64)
    return mean_of(np.where(known, is_right, math.nan), evidence, settings)


def ranking(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """Systems by strength as people and as the judge have them, side by side; may be empty.

    Bradley and Terry's log odds with Davidson's ties against the first system by name; best and
    worst rank hold together. Where one side's strengths have no finite estimate, the reason.
    """
    rows = [i for i, item in enumerate(evidence.items) if len(set(item.systems)) == 2]
    rows = [i for i in rows if evidence.is_judged[i]]
    names = sorted({name for i in rows for name in evidence.items[i].systems})
    if not 2 <= len(names) <= _MOST_SYSTEMS:
        return {}
    found: dict[str, Any] = {"systems": names, "n": len(rows)}
    for who, verdicts in (("people", evidence.consensus), ("judge", evidence.choices)):
        found[who] = _strengths(evidence, rows, names, verdicts, settings)
    return found


def _strengths(
    evidence: Evidence,
    rows: Sequence[int],
    names: Sequence[str],
    verdicts: FloatArray,
    settings: Settings,
) -> dict[str, Any]:
    units, n_units = cluster_codes([evidence.groups[i] for i in rows])
    places = {name: k for k, name in enumerate(names)}
    wins = np.zeros((n_units, len(names), len(names)))
    ties = np.zeros_like(wins)
    for unit, i in zip(units.tolist(), rows, strict=True):
        a, b = (places[name] for name in evidence.items[i].systems)
        if verdicts[i] == TIE:
            ties[unit, a, b] += 1
            ties[unit, b, a] += 1
        elif verdicts[i] > TIE:
            wins[unit, a, b] += 1
        else:
            wins[unit, b, a] += 1
    try:
        model = robust_fit(wins, ties=ties)
    except ValueError as error:
        return {"reason": str(error)}
    ranks = rank_ranges(model, level=settings.level)
    played = (wins + np.swapaxes(wins, 1, 2) + ties).sum(axis=(0, 2))
    return {
        "strengths": [
            figure(contrast(model, k, level=settings.level), int(played[k]))
            for k in range(len(names))
        ],
        "ranks": ranks.tolist(),
    }


def _as_recorded(value: float) -> float:
    return 0.0 if value == TIE else 1.0 if value > TIE else 2.0
