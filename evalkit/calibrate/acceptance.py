"""May the judge stand in for people? Several tests under Holm, and a plain sentence for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from evalkit.calibrate.evidence import BoolArray, Evidence
from evalkit.calibrate.panels import p_of_lift
from evalkit.calibrate.standing_in import (
    p_of_discrimination,
    p_of_replacement,
)
from evalkit.report.numerals import (
    Unit,
    format_count,
    format_number,
    format_range,
    format_value,
)
from evalkit.stats.alternative import AlternativeTest
from evalkit.stats.discrimination import Discrimination
from evalkit.stats.multiplicity import holm
from evalkit.stats.regression import ols_effects

ALPHA = 0.05  # of all tests together
MOST_ABSTAINED = 0.1
LEAST_CONSISTENCY = 0.6
FEWEST_UNITS = 30
FEWEST_PEOPLE = 3
LOW_ALPHA = 0.4  # people who agree less than this do not agree on what is good


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is asked of a judge."""

    name: str
    p: float  # of the judge being no better than is allowed; nan: not a matter of chance
    is_passed: bool
    good: str  # what is said if it passed
    bad: str
    p_holm: float = math.nan

    @property
    def sentence(self) -> str:
        """What was found."""
        return self.good if self.is_passed else self.bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The verdict on a judge under one criterion."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...]  # what could not be tested, and what makes the labels weak

    @property
    def is_accepted(self) -> bool:
        """Whether all checks passed."""
        return all(check.is_passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against the judge; for it, if it is accepted."""
        wanted = self.is_accepted
        return tuple(check.sentence for check in self.checks if check.is_passed == wanted)

    def to_json(self) -> list[dict[str, Any]]:
        """The checks as plain data."""
        return [
            {
                "check": check.name,
                "is_passed": check.is_passed,
                "p": check.p,
                "p_holm": check.p_holm,
                "sentence": check.sentence,
            }
            for check in self.checks
        ]


def accept(
    evidence: Evidence,
    figures: Mapping[str, Any],
    discriminated: Discrimination,
    replaced: AlternativeTest,
) -> Acceptance:
    """The verdict: enough items, verdicts on them, the same in both orders, apart, and as people.

    ``figures`` are those of the criterion, of which ``orders`` and ``accuracy`` are used. The tests
    pass where Holm's p is at most 0.05; enough items is a condition beside them.
    """
    notes = []
    checks = [_discrimination(evidence, figures, discriminated)]
    if figures["orders"]:
        checks.append(_orders(evidence, figures["orders"]))
    elif evidence.kind == "pairwise":
        notes.append(
            "whether the order of a pair decides was not tested: each was judged in one order only"
        )
    if replaced.reason:
        why = replaced.reason
        if len(evidence.annotators) < FEWEST_PEOPLE:
            n = len(evidence.annotators)
            why = f"the labels are by {people(n)}, and {FEWEST_PEOPLE} are needed"
        notes.append(f"whether it can replace a person was not tested: {why}")
    else:
        checks.append(_replacement(replaced))
    alpha = figures["people"].get("alpha")
    if alpha is not None and alpha["value"] < LOW_ALPHA:
        value = format_number(alpha["value"], "number")
        notes.append(
            f"people agree little with each other (Krippendorff's alpha {value}): agreement with "
            "their mean says as much of the labels as of the judge"
        )
    if "panel" in figures:
        checks.append(_panel(figures["panel"]))
    checks.append(_answers(evidence))
    return Acceptance(checks=(_size(evidence), *_under_holm(checks)), notes=tuple(notes))


def people(n: int) -> str:
    """A number of people in words.

    >>> people(1), people(3)
    ('1 person', '3 people')
    """
    return "1 person" if n == 1 else f"{format_count(n)} people"


def _under_holm(checks: Sequence[Check]) -> list[Check]:
    adjusted = holm([check.p for check in checks])
    return [
        replace(check, p_holm=float(p), is_passed=bool(p <= ALPHA))
        for check, p in zip(checks, adjusted, strict=True)
    ]


def _size(evidence: Evidence) -> Check:
    n, what = evidence.n_units, "items" if evidence.clusters is None else "clusters of items"
    return Check(
        name="enough items",
        p=math.nan,
        is_passed=n >= FEWEST_UNITS,
        good=f"{format_count(n)} {what} were labelled and judged",
        bad=f"only {n} {what} were labelled and judged: {FEWEST_UNITS} are needed",
    )


def _answers(evidence: Evidence) -> Check:
    n = len(evidence.items) - evidence.n_errors
    n_none = n - int(evidence.is_judged.sum())
    p = _p_of_share(evidence.is_judged, evidence, ~evidence.is_error, limit=1 - MOST_ABSTAINED)
    said = f"gave no verdict on {n_none} of {format_count(n)} items"
    more = n and n_none / n > MOST_ABSTAINED
    limit = format_value(MOST_ABSTAINED, "fraction").replace(".0", "")
    return Check(
        name="gives verdicts",
        p=p,
        is_passed=False,
        good=f"it {said}",
        bad=f"it {said}: "
        + (f"more than {limit}" if more else f"too few items to say that it is below {limit}"),
    )


def _orders(evidence: Evidence, orders: Mapping[str, Any]) -> Check:
    same = orders["consistency"]
    n = int(same["n"])
    n_same = round(same["value"] * n) if n else 0
    first, second = (np.array(order, dtype=np.float64) for order in evidence.orders() or ([], []))
    used = np.isfinite(first) & np.isfinite(second)
    p = _p_of_share(first == second, evidence, used, limit=LEAST_CONSISTENCY)
    said = f"it says the same in both orders of {format_count(n_same)} in {format_count(n)} pairs"
    n_first, n_second = orders["n_first_twice"], orders["n_second_twice"]
    picks = f"it chose what was shown first {n_first} times, what was shown second {n_second} times"
    return Check(
        name="same in both orders",
        p=p,
        is_passed=False,
        good=f"{said}{_span(same)}",
        bad=f"{said}{_span(same)}, else {picks}: the order decides too often",
    )


def _p_of_share(is_so: BoolArray, evidence: Evidence, used: BoolArray, *, limit: float) -> float:
    """One-sided p of a share of the ``used`` items that is no more than ``limit``.

    Exact, or of clusters Student's with CR2; where nothing in them differs that of as many
    successes in a row. 1 without items.
    """
    values, n = is_so[used].astype(np.float64), int(used.sum())
    if n == 0:
        return 1.0
    if evidence.clusters is None:
        return float(stats.binom.sf(int(values.sum()) - 1, n, limit))
    [found] = ols_effects(values, np.ones((n, 1)), clusters=evidence.clusters[used])
    if found.stderr > 0:
        return float(stats.t.sf((found.estimate - limit) / found.stderr, found.degrees))
    return float(limit**found.n_clusters) if values.all() else 1.0


def _discrimination(evidence: Evidence, figures: Mapping[str, Any], found: Discrimination) -> Check:
    n, name = format_count(found.n), "kappa" if found.measure == "kappa" else "correlation"
    value = format_number(found.estimate, "number")
    least = format_number(found.threshold, "number")
    bound = format_number(found.low, "number")
    at_least = f", at least {bound}" if math.isfinite(found.low) else ""
    good = f"it tells good from bad as people do: {name} {value}{at_least}, over {n} items"
    return Check(
        name="tells good from bad",
        p=p_of_discrimination(found, evidence),
        is_passed=False,
        good=good,
        bad=_no_better(evidence, figures)
        or (
            f"it does not tell good from bad: {found.reason}"
            if found.reason
            else f"it agrees too little with people: {name} {value}{at_least}, over {n} items; "
            f"more than {least} is asked for"
        ),
    )


def _no_better(evidence: Evidence, figures: Mapping[str, Any]) -> str:
    """That a judge of pairs is right as often as a coin, if that cannot be excluded; else empty."""
    right = figures["accuracy"]
    if evidence.kind != "pairwise" or right is None or not right["low"] <= 0.5:
        is_flat = evidence.kind == "pairwise" and right is not None and right["value"] == 0.5
        if not is_flat:
            return ""
    value, n = format_value(right["value"], "fraction"), format_count(right["n"])
    return f"no better than chance: right in {value} of {n} pairs{_span(right)}"


def _replacement(found: AlternativeTest) -> Check:
    n_people = sum(math.isfinite(seat.p_adjusted) for seat in found.seats)
    n_won = sum(seat.is_won for seat in found.seats)
    advantage = format_value(found.advantage.estimate, "fraction")
    place = f"it can take the place of {n_won} in {n_people} people"
    near = f"it is no further from the others than a person on {advantage} of the items"
    return Check(
        name="can replace a person",
        p=p_of_replacement(found),
        is_passed=False,
        good=f"{place}: {near}",
        bad=f"{place}, and half of them are asked for: {near}",
    )


def _panel(found: Mapping[str, Any]) -> Check:
    if "reason" in found:
        said = f"whether it is better than its best member is not known: {found['reason']}"
    else:
        lift = found["lift"]
        unit: Unit = "fraction" if found["is_share"] else "number"
        value = format_value(lift["value"], unit)
        span = format_range(lift["low"], lift["high"], unit)
        said = f"against its best member, {found['best']}, it gains {value} [{span}]"
    return Check(
        name="better than its best member",
        p=p_of_lift(found),
        is_passed=False,
        good=said,
        bad=f"{said}: no gain is proven, and the member alone costs less",
    )


def _span(shown: Mapping[str, Any]) -> str:
    """Bounds of a share, in brackets; empty where they are not known."""
    if math.isnan(shown["low"]):
        return ""
    return f" [{format_range(shown['low'], shown['high'], 'fraction')} %]"
