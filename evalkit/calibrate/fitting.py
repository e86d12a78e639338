"""The map from the judge's scale to people's, and what it does to labels it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import Evidence
from evalkit.calibrate.figures import Settings, mean_of
from evalkit.stats.crossfit import Loss, MapChoice, choose_map, fold_of
from evalkit.stats.intervals import FloatArray
from evalkit.stats.maps import IdentityMap, MapKind, ScoreMap

_PROBABILITY: tuple[MapKind, ...] = ("identity", "temperature", "affine", "beta", "isotonic")
_GRADES: tuple[MapKind, ...] = ("identity", "affine", "ordinal", "isotonic")
_MOST_LEVELS = 20  # of an ordinal scale
_N_FOLDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The map that was chosen; ``reason`` says why there is none but the identity."""

    map: ScoreMap
    predicted: FloatArray  # (n,) out of fold; nan without a verdict, or a map
    choice: MapChoice | None
    reason: str = ""


def fit(evidence: Evidence) -> Fitted:
    """The map of an evidence's verdicts, chosen by its error on labels it has not seen.

    Folds are those of the items' clusters, or of the items, and follow from their names alone.
    """
    judged = evidence.is_judged
    predicted = np.full(judged.size, math.nan)
    human, judge = evidence.human[judged], evidence.judge[judged]
    groups = [g for g, is_judged in zip(evidence.groups, judged.tolist(), strict=True) if is_judged]
    loss: Loss = "log" if evidence.is_probability else "squared"
    try:
        choice = choose_map(
            human,
            judge,
            groups=groups,
            candidates=_candidates(evidence, human, groups),
            loss=loss,
            n_folds=_N_FOLDS,
        )
    except ValueError as error:
        return Fitted(map=IdentityMap(), predicted=predicted, choice=None, reason=str(error))
    predicted[judged] = choice.crossfit.predicted
    return Fitted(map=choice.map, predicted=predicted, choice=choice)


def _candidates(
    evidence: Evidence, human: FloatArray, groups: Sequence[str]
) -> tuple[MapKind, ...]:
    if evidence.is_probability:
        return _PROBABILITY
    folds = fold_of(groups, n_folds=_N_FOLDS) if groups else np.empty(0, dtype=np.intp)
    # an ordinal map needs two levels among the labels that each fold leaves
    left = [np.unique(human[folds != fold]).size for fold in np.unique(folds)]
    is_ordinal = bool(left) and min(left) >= 2 and np.unique(human).size <= _MOST_LEVELS
    return _GRADES if is_ordinal else tuple(k for k in _GRADES if k != "ordinal")


def errors(evidence: Evidence, fitted: Fitted, settings: Settings) -> dict[str, Any]:
    """How far off the judge is as it is, after the map, and a constant: each out of fold.

    With the losses by which the map was chosen. Empty where none could be.
    """
    choice = fitted.choice
    if choice is None:
        return {"reason": fitted.reason}
    constant = np.full(evidence.human.size, math.nan)
    constant[evidence.is_judged] = _others_mean(evidence.human[evidence.is_judged], choice)
    scores = {"raw": evidence.judge, "mapped": fitted.predicted, "constant": constant}
    summaries = {"raw": choice.raw, "mapped": choice.mapped, "constant": choice.constant}
    found = {}
    for name, values in scores.items():
        gaps = values - evidence.human
        found[name] = {
            "mae": mean_of(np.abs(gaps), evidence, settings),
            "mse": mean_of(gaps**2, evidence, settings),
            "pearson": summaries[name].pearson,
            "bias": summaries[name].bias,
        }
    return {
        "map": fitted.map.to_json()["kind"],
        "chosen_by": "log" if evidence.is_probability else "squared",
        **found,
        "losses": [
            {"map": row.kind, "loss": row.loss, "excess": row.excess, "stderr": row.excess_stderr}
            for row in choice.losses
        ],
    }


def _others_mean(human: FloatArray, choice: MapChoice) -> FloatArray:
    """(n,): the mean label of the other folds."""
    folds = choice.crossfit.folds
    sums, sizes = np.bincount(folds, weights=human), np.bincount(folds)
    return np.asarray(((human.sum() - sums) / (human.size - sizes))[folds])
