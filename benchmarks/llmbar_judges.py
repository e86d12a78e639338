"""Recorded judges held against expert labels, in both orders of each pair (LLMBar).

    python benchmarks/llmbar_judges.py --data FILE [--judges NAME ...] [--expected FILE]

FILE is JSONL, a pair a line: ``label`` (1 or 2) and ``judges``, a verdict of each in the original
(``orig``) and the swapped order (``swap``), about the outputs and not their places, null where
none could be read; judges that rate outputs one by one also have ``score_1`` and ``score_2``.

A judge that rates has its ties broken by the order in the recorded verdicts. It is listed twice:
as recorded, and (``=``) with equal scores as the ties that they are.

``--expected`` takes JSON of the same figures by judge, under ``llmbar_natural``; the script then
prints the largest difference and exits 1 if one is above 1e-6.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.stats.intervals import Interval
from evalkit.stats.ordering import (
    OrderAccuracy,
    OrderConsistency,
    order_accuracy,
    order_consistency,
)

TOLERANCE = 1e-6
Rows = Sequence[Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judges", nargs="+", default=None)
    parser.add_argument("--expected", type=Path, default=None)
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.data.read_text("utf-8").splitlines()]
    names = arguments.judges or sorted(rows[0]["judges"])
    print(
        f"| judge (n={len(rows)}) | accuracy [95 % CI] | both orders right | agreement of orders "
        "| first/second twice | p | kappa |\n|---|---|---|---|---|---|---|"
    )
    for name in names:
        verdicts = [row["judges"][name] for row in rows]
        print(line(name, *figures(rows, verdicts)))
        if "score_1" in verdicts[0]:
            print(line(f"{name} =", *figures(rows, [with_ties(v) for v in verdicts])))
    if arguments.expected is not None:
        check(rows, names, json.loads(arguments.expected.read_text("utf-8"))["llmbar_natural"])


def figures(
    rows: Rows, verdicts: Sequence[Mapping[str, Any]]
) -> tuple[OrderAccuracy, OrderConsistency]:
    original, swapped = ([v[order] for v in verdicts] for order in ("orig", "swap"))
    labels = [row["label"] for row in rows]
    return order_accuracy(labels, original, swapped), order_consistency(original, swapped)


def with_ties(verdict: Mapping[str, Any]) -> Mapping[str, Any]:
    is_tie = float(verdict["score_1"]) == float(verdict["score_2"])
    return {"orig": 0, "swap": 0} if is_tie else verdict


def line(name: str, right: OrderAccuracy, same: OrderConsistency) -> str:
    cells = [
        name,
        percent(right.accuracy, decimals=1),
        f"{100 * right.both_right.estimate:.1f}",
        percent(same.agreement, decimals=1),
        f"{same.n_first_twice}/{same.n_second_twice}",
        f"{same.first_p_value:.2g}",
        f"{right.kappa.estimate:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"


def percent(interval: Interval, *, decimals: int) -> str:
    value, low, high = (
        f"{100 * number:.{decimals}f}"
        for number in (interval.estimate, interval.low, interval.high)
    )
    return f"{value} [{low},{high}]"


def check(rows: Rows, names: Sequence[str], expected: Mapping[str, Any]) -> None:
    """Compare all figures that ``expected`` has; exit 1 if one differs."""
    largest, n_compared = 0.0, 0
    for name in names:
        right, same = figures(rows, [row["judges"][name] for row in rows])
        known = expected[name]
        pairs = {
            "accuracy": (right.accuracy.estimate, known["accuracy"]),
            "stderr": (right.accuracy.stderr, known["accuracy_ci"]["se"]),
            "accuracy low": (right.accuracy.low, known["accuracy_ci"]["ci_t"][0]),
            # clipped at 1 here
            "accuracy high": (right.accuracy.high, min(1.0, known["accuracy_ci"]["ci_t"][1])),
            "both right": (right.both_right.estimate * same.n, known["both_correct"]),
            "both right low": (right.both_right.low, known["both_wilson"][0]),
            "both right high": (right.both_right.high, known["both_wilson"][1]),
            "agreement": (same.agreement.estimate * same.n, known["agree"]),
            "agreement low": (same.agreement.low, known["agree_wilson"][0]),
            "agreement high": (same.agreement.high, known["agree_wilson"][1]),
            "kappa": (right.kappa.estimate, known["kappa_orig"]),
            "first twice": (same.n_first_twice, known["position_bias"]["always_first"]),
            "second twice": (same.n_second_twice, known["position_bias"]["always_second"]),
            "p": (same.first_p_value, known["position_bias"]["exact_p"]),
            "first share": (same.first_share.estimate, known["p_first_position"]),
        }
        for figure, (ours, theirs) in pairs.items():
            difference = abs(ours - theirs)
            largest, n_compared = max(largest, difference), n_compared + 1
            if not difference <= TOLERANCE:
                print(f"{name}: {figure} is {ours}, expected {theirs}", file=sys.stderr)
                sys.exit(1)
    print(f"\n{n_compared} figures compared, largest difference {largest:.1e}")


if __name__ == "__main__":
    main()
