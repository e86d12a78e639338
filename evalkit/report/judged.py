"""What a judge said of one response, as it is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalkit.report.facts import Fact
from evalkit.report.numerals import DASH, format_number, format_value
from evalkit.report.standing import Standing
from evalkit.types import Status, Verdict

_WINNERS: Mapping[float, str] = {1.0: "this response", 0.0: "the other answer", 0.5: "a tie"}
_PAIR_LABELS: Mapping[str, str] = {
    "A": "A: this response",
    "B": "B: the other answer",
    "C": "C: a tie",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelBar:
    """A label that the judge could give, and how likely it found it."""

    label: str
    share: float  # 0..1; nan when undefined
    percent: str
    is_picked: bool  # the likeliest, and no other is as likely


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedView:
    """A judge's verdict on a response, under one metric or of one member of a panel."""

    name: str
    doubt: str  # the mark of a judge that does not speak for people; "" of one that does
    value: str
    problem: str  # why there is no verdict; "" where there is one
    labels: tuple[LabelBar, ...]
    facts: tuple[Fact, ...]
    reason: str  # what the judge wrote
    members: tuple[JudgedView, ...]


def judged_view(
    name: str, verdict: Verdict, *, standing: Standing, members: Sequence[str] = ()
) -> JudgedView:
    """A verdict under the metric ``name``; ``members`` are the names of a panel's judges."""
    n = len(verdict.members)
    names = members if len(members) == n else [f"judge {i} of {n}" for i in range(1, n + 1)]
    return JudgedView(
        name=name,
        doubt=standing.mark if standing.is_doubtful else "",
        value=format_number(verdict.value, "number"),
        problem=_problem(verdict),
        labels=_labels(verdict),
        facts=tuple(_facts(verdict)),
        reason=verdict.reason,
        members=tuple(
            judged_view(own, one, standing=Standing())
            for own, one in zip(names, verdict.members, strict=True)
        ),
    )


def members_of(spec: str) -> tuple[str, ...]:
    """The judges in the specification of a panel; none where it is of a single judge.

    >>> members_of("[local:a, local:b]"), members_of("local:a")
    (('local:a', 'local:b'), ())
    """
    is_panel = spec.startswith("[") and spec.endswith("]")
    return tuple(spec[1:-1].split(", ")) if is_panel else ()


def size_of(view: JudgedView) -> int:
    """Characters of text in it."""
    own = len(view.problem) + len(view.reason)
    return own + sum(map(size_of, view.members))


def _problem(verdict: Verdict) -> str:
    if verdict.status is Status.OK:
        return ""
    return f"{verdict.status}: {verdict.problem}" if verdict.problem else str(verdict.status)


def _labels(verdict: Verdict) -> tuple[LabelBar, ...]:
    found = verdict.probabilities
    shares = [share for share in found.values() if not math.isnan(share)]
    most = max(shares, default=math.nan)
    is_tied = shares.count(most) > 1
    texts = _PAIR_LABELS if _is_pair(verdict) else {}
    return tuple(
        LabelBar(
            label=texts.get(label, label),
            share=share,
            percent=format_value(share, "fraction"),
            is_picked=share == most and not is_tied,
        )
        for label, share in found.items()
    )


def _facts(verdict: Verdict) -> list[Fact]:
    facts = []
    if _is_pair(verdict):
        first, second = verdict.orders
        verdict_of_both = "agree" if first == second else "disagree: the order matters"
        facts = [
            Fact(name="better when shown first", text=_winner(first)),
            Fact(name="better when shown second", text=_winner(second)),
            Fact(name="the two orders", text=verdict_of_both),
        ]
    if not math.isnan(verdict.missing_mass):
        percent = format_value(verdict.missing_mass, "fraction")
        facts.append(Fact(name="other texts than labels", text=percent))
    return facts


def _is_pair(verdict: Verdict) -> bool:
    return len(verdict.orders) == 2


def _winner(choice: float) -> str:
    if math.isnan(choice):
        return DASH
    return _WINNERS.get(choice) or f"this response by {format_value(choice, 'fraction')}"
