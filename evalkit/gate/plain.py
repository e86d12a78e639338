"""A gate's report as plain data, for a program to read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evalkit.gate.evaluate import GateReport
from evalkit.gate.verdict import CheckResult
from evalkit.record import json_safe


def to_json(report: GateReport) -> dict[str, Any]:
    """The report as JSON has it; undefined numbers are None.

    ``verdict`` and ``exit_code`` are those of the whole, ``checks[i]`` has those of one check.
    """
    data = {
        "gate": report.gate,
        "verdict": report.verdict.value,
        "exit_code": report.exit_code,
        "baseline": asdict(report.baseline),
        "candidate": asdict(report.candidate),
        "alpha": report.alpha,
        "power": report.power,
        "adjust": report.adjust,
        "on_inconclusive": report.on_inconclusive,
        "checks": [_check(found) for found in report.checks],
        "quarantine": [asdict(one) | {"until": one.until.isoformat()} for one in report.quarantine],
        "notes": list(report.notes),
    }
    result: dict[str, Any] = json_safe(data)
    return result


def _check(found: CheckResult) -> dict[str, Any]:
    values: dict[str, Any] = asdict(found)
    check: dict[str, Any] = values.pop("check")
    field_and_value = check.pop("slice")
    check["slice"] = None if field_and_value is None else list(field_and_value)
    check["why_margin"] = check.pop("reason")
    values |= {"verdict": found.verdict.value, "reason": found.reason.value}
    return check | values | {"is_blind": found.is_blind}
