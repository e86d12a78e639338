"""May a judge stand in for people: as near to the others as a person, and no constant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import Evidence
from evalkit.calibrate.items import People
from evalkit.stats.alternative import AlternativeTest, alternative_test
from evalkit.stats.discrimination import Discrimination, discrimination
from evalkit.stats.intervals import FloatArray

# What a judge may lack beside a person, being cheaper. Source: Calderon, Reichart and Dror (2025),
# arXiv:2501.10970, section 3.
EPSILONS: Mapping[People, float] = {"experts": 0.2, "skilled": 0.15, "crowd": 0.1}
LEAST_DISCRIMINATION = 0.2
_MOST_VALUES = 20  # of a scale that people use; beyond it labels are numbers, not grades


def tell_apart(evidence: Evidence, *, alpha: float) -> Discrimination:
    """The discrimination test: of classes without an order by kappa, else by correlation."""
    is_nominal = evidence.kind == "classify" and evidence.scale.size > 2
    return discrimination(
        evidence.choices if is_nominal else evidence.judge,
        evidence.consensus if is_nominal else evidence.human,
        threshold=LEAST_DISCRIMINATION,
        measure="kappa" if is_nominal else "correlation",
        strata=evidence.strata,
        clusters=evidence.clusters,
        alpha=alpha,
    )


def replacements(
    evidence: Evidence, predicted: FloatArray, people: People, *, alpha: float, level: float
) -> dict[str, AlternativeTest]:
    """The alternative-annotator test of the judge as it is, and of grades after the map.

    Scores are rounded to the values that people use, since a tie counts for the judge. An item on
    which it gave no verdict is lost; one that it could not be asked about does not count.
    """
    raw = evidence.judge if evidence.scale.size == 0 else evidence.choices
    scores = {"raw": _or_lost(raw, evidence)}
    if evidence.is_graded and np.isfinite(predicted).any():
        scores["mapped"] = _or_lost(_as_people_say(predicted, evidence.marks), evidence)
    return {
        name: alternative_test(
            values,
            evidence.marks,
            epsilon=EPSILONS[people],
            alignment="rmse" if evidence.is_graded else "accuracy",
            clusters=evidence.clusters,
            alpha=alpha,
            level=level,
        )
        for name, values in scores.items()
    }


def p_of_replacement(found: AlternativeTest) -> float:
    """The smallest level at which the judge beats half of the people; nan without an answer.

    It beats a person where the adjusted p is below, so this is that p of the person in the middle.
    """
    if found.reason:
        return math.nan
    adjusted = sorted(s.p_adjusted for s in found.seats if math.isfinite(s.p_adjusted))
    return adjusted[math.ceil(len(adjusted) / 2) - 1]


def p_of_discrimination(found: Discrimination, evidence: Evidence) -> float:
    """One-sided p of an agreement beyond chance that is no more than the threshold.

    Student's on the scale of the test's bound. Where the agreement is complete it has no error;
    then p is that of as many right answers in a row, each with the chance that the threshold
    leaves to a judge that knows people's label frequencies. 1 where the test has no answer.
    """
    if found.estimate == 1.0:
        _, n_each = np.unique(evidence.human[evidence.is_judged], return_counts=True)
        by_chance = float(n_each.max() / n_each.sum())
        chance = by_chance + found.threshold * (1 - by_chance)
        return float(chance**found.n_units)
    if not math.isfinite(found.low):
        return 1.0
    from scipy import stats

    degrees = found.n_units - (found.n_strata if evidence.clusters is None else 1)
    spread = found.stderr / (1 - found.estimate**2)
    gap = math.atanh(found.estimate) - math.atanh(found.threshold)
    return float(stats.t.sf(gap / spread, degrees))


def replacement_json(found: AlternativeTest, evidence: Evidence) -> dict[str, Any]:
    """The test as plain data."""
    return {
        "epsilon": found.epsilon,
        "winning_rate": found.winning_rate,
        "advantage": {
            "value": found.advantage.estimate,
            "low": found.advantage.low,
            "high": found.advantage.high,
            "n": found.n_items,
            "method": found.advantage.method,
        },
        "n_unjudged": found.n_unjudged,
        "is_passed": found.is_passed,
        "reason": found.reason,
        "people": [
            {
                "annotator": evidence.annotators[seat.human],
                "n": seat.n,
                "judge_wins": seat.judge_wins,
                "human_wins": seat.human_wins,
                "p": seat.p_adjusted,
            }
            for seat in found.seats
        ],
    }


def discrimination_json(found: Discrimination) -> dict[str, Any]:
    """The test as plain data; ``low`` is one-sided, so there is no upper bound."""
    return {
        "value": found.estimate,
        "low": found.low,
        "high": math.nan,
        "n": found.n,
        "method": f"{found.measure}, one-sided",
        "n_units": found.n_units,
        "n_strata": found.n_strata,
        "threshold": found.threshold,
        "is_passed": found.is_passed,
        "reason": found.reason,
    }


def _as_people_say(values: FloatArray, marks: FloatArray) -> FloatArray:
    """Values (n,) as the nearest that people use; as they are where people use any number."""
    used = np.unique(marks[np.isfinite(marks)])
    if used.size > _MOST_VALUES:
        return values
    known = np.where(np.isfinite(values), values, used[0])
    places = np.searchsorted((used[1:] + used[:-1]) / 2, known, side="right")
    return np.where(np.isfinite(values), used[places], math.nan)


def _or_lost(values: FloatArray, evidence: Evidence) -> FloatArray:
    """Values (n,), with one that is far from everybody's where the judge gave none."""
    given = evidence.marks[np.isfinite(evidence.marks)]
    far = float(given.max()) + 10 * (float(np.ptp(given)) + 1)
    return np.where(evidence.is_judged | evidence.is_error, values, far)
