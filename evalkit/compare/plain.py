"""A comparison as plain data, for a program to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from evalkit.compare.difference import CandidateComparison, Comparison, Flip, MetricDifference
from evalkit.record import json_safe

_COUNTS = ("n_pairs", "n_error_a", "n_error_b", "n_abstained_a", "n_abstained_b")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it; undefined numbers are None.

    ``candidates[i].tasks.<task>.metrics.<metric>`` has the numbers of one candidate, and
    ``….slices.<field>.<value>.<metric>`` those of its slices, with differences B - A.
    """
    data = {
        "baseline": asdict(comparison.baseline),
        "level": comparison.level,
        "seed": comparison.seed,
        "candidates": [_candidate(candidate) for candidate in comparison.candidates],
    }
    result: dict[str, Any] = json_safe(data)
    return result


def _candidate(candidate: CandidateComparison) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for pairing in candidate.pairings:
        examples = {
            "n_common": pairing.n_common,
            "only_a": list(pairing.only_a),
            "only_b": list(pairing.only_b),
        }
        tasks[pairing.task] = {"examples": examples, "metrics": {}, "slices": {}}
    for one in candidate.metrics:
        flips = {"gained": _flips(one.gained), "lost": _flips(one.lost)}
        tasks[one.task]["metrics"][one.metric] = _numbers(one) | flips
    for one in candidate.slices:
        assert one.slice is not None
        field, value = one.slice
        values = tasks[one.task]["slices"].setdefault(field, {})
        values.setdefault(value, {})[one.metric] = _numbers(one)
    return asdict(candidate.side) | {"tasks": tasks, "notes": list(candidate.notes)}


def _numbers(one: MetricDifference) -> dict[str, Any]:
    found = one.difference
    numbers: dict[str, Any] = {
        "higher_is_better": one.higher_is_better,
        "value_a": one.value_a,
        "value_b": one.value_b,
        "difference": found.estimate,
        "stderr": found.stderr,
        "low": found.low,
        "high": found.high,
        "level": found.level,
        "p_value": found.p_value,
        "p_adjusted": one.p_adjusted,
        "adjustment": one.adjustment,
        "method": found.method,
        "is_better": one.is_better,
        "worst": one.worst,
        "best": one.best,
        "n_units": found.n,
    }
    numbers |= {name: getattr(one, name) for name in _COUNTS}
    return numbers | {"discordance": one.discordance and asdict(one.discordance)}


def _flips(flips: Iterable[Flip]) -> list[dict[str, str]]:
    return [asdict(flip) for flip in flips]
