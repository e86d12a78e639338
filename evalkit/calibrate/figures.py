"""Figures as plain data: a number beside its interval, its n and how it was come by."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalkit.calibrate.evidence import Evidence
from evalkit.stats.intervals import (
    FloatArray,
    Interval,
    cluster_t_interval,
    t_interval,
    undefined,
    wilson,
    wilson_mean,
)

Figure = dict[str, Any]  # value, low, high, n, method


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How figures are computed."""

    level: float = 0.95
    n_resamples: int = 2000
    seed: int = 0

    def rng(self, *names: str) -> np.random.Generator:
        """Random numbers of a figure's own: they do not depend on which others are computed."""
        text = "\x1f".join((str(self.seed), *names))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def figure(found: Interval, n: int) -> Figure:
    """An interval as plain data, of ``n`` items or labels."""
    return {
        "value": found.estimate,
        "low": found.low,
        "high": found.high,
        "n": n,
        "method": found.method,
    }


def counts(evidence: Evidence) -> dict[str, int]:
    """How many items, labels, people and verdicts there are."""
    is_given = np.isfinite(evidence.marks)
    return {
        "n_items": len(evidence.items),
        "n_labels": int(is_given.sum()),
        "n_annotators": len(evidence.annotators),
        "n_units": len(set(evidence.groups)),
        "n_labelled_twice": int((is_given.sum(axis=1) >= 2).sum()),
        "n_judged": int(evidence.is_judged.sum()),
        "n_abstained": len(evidence.items) - int(evidence.is_judged.sum()) - evidence.n_errors,
        "n_errors": evidence.n_errors,
    }


def abstentions(evidence: Evidence, settings: Settings) -> Figure:
    """The share of the items that could be asked about on which the judge gave no verdict."""
    n = len(evidence.items) - evidence.n_errors
    n_none = n - int(evidence.is_judged.sum())
    return figure(wilson(n_none, n, level=settings.level), n)


def mean_of(values: FloatArray, evidence: Evidence, settings: Settings) -> Figure:
    """The mean of one number an item (n,), nan ones left out, with Student's interval."""
    known = np.isfinite(values)
    own = values[known]
    if evidence.clusters is None:
        return figure(t_interval(own, level=settings.level), own.size)
    found = cluster_t_interval(
        own, evidence.clusters[known], level=settings.level, correction="cr2"
    )
    return figure(found, own.size)


def share_of(is_so: FloatArray, evidence: Evidence, settings: Settings) -> Figure:
    """The share of items (n,) with a 1; nan ones are left out; Wilson's interval."""
    known = np.isfinite(is_so)
    own = is_so[known]
    if own.size == 0:
        return figure(undefined(math.nan, level=settings.level, method="wilson"), 0)
    if evidence.clusters is None:
        return figure(wilson(int(own.sum()), own.size, level=settings.level), own.size)
    return figure(wilson_mean(own, evidence.clusters[known], level=settings.level), own.size)


def bias(evidence: Evidence, predicted: FloatArray, settings: Settings) -> dict[str, Figure]:
    """By how much the judge's mean is above people's, as it is and after the map (out of fold)."""
    return {
        "raw": mean_of(evidence.judge - evidence.human, evidence, settings),
        "mapped": mean_of(predicted - evidence.human, evidence, settings),
    }


def by_stratum(evidence: Evidence, settings: Settings) -> dict[str, dict[str, Figure]]:
    """The judge's mean and absolute distance from people in each stratum, if labels have any."""
    if evidence.strata is None:
        return {}
    gaps = evidence.judge - evidence.human
    found = {}
    for name in np.unique(evidence.strata).tolist():
        own = np.where(evidence.strata == name, gaps, math.nan)
        found[name or "none"] = {
            "bias": mean_of(own, evidence, settings),
            "mae": mean_of(np.abs(own), evidence, settings),
        }
    return found


def confusion(evidence: Evidence) -> dict[str, Any] | None:
    """How often the judge gave which value (columns) where people gave which (rows)."""
    from evalkit.stats.agreement import confusion_matrix

    if evidence.scale.size == 0:
        return None
    values = evidence.scale.tolist()
    table = confusion_matrix(evidence.consensus, evidence.choices, labels=values)
    return {"values": values, "rows": table.tolist()}
