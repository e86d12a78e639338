"""A/A: repeated runs of the same thing, gated against each other, and where their noise comes from.

Nothing has changed between them, so each verdict that is not a pass is the gate's own doing: noise
that it takes for a drop, or too few examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations, permutations

import numpy as np

from evalkit.compare import Answers, Side, SideInfo, match
from evalkit.errors import NotComparableError, RunError, UsageError
from evalkit.gate.evaluate import evaluate
from evalkit.gate.policy import Policy
from evalkit.gate.quarantine import Quarantined, find_quarantined, is_quarantined
from evalkit.gate.verdict import Check, Verdict
from evalkit.stats.intervals import FloatArray, Interval, wilson
from evalkit.stats.power import paired_variance
from evalkit.stats.variance import (
    Allocation,
    Components,
    best_allocation,
    planned_stderr,
    repeat_components,
    three_way_components,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Where the variance of a metric that is a mean comes from, in its unit squared.

    ``answers`` has the sources ``item`` and ``repeat``, a repeat being any further answer, of the
    same run or of another. ``runs``, where each run has several answers to each example, parts the
    latter: ``seed`` is what all examples of a run have in common, ``item:seed`` what an example's
    answers in a run have, ``repeat`` the rest.
    """

    n_examples: int
    n_repeats: int  # answers of a run to each example
    answers: Components
    runs: Components | None
    stderr: float  # of one run's mean, examples being drawn at random and independent
    gate_stderr: float  # of the difference between two such runs, on the same examples
    best: Allocation | None  # what twice the cost of a run buys at best; None: no variance
    break_even: float  # cost of a new example, in answers, from which a second answer pays


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAgain:
    """A check on all ordered pairs of runs."""

    check: Check
    n_pairs: int
    n_regression: int
    n_inconclusive: int
    not_pass: Interval  # share of the pairs; they share runs, so it promises too much
    false_red: Interval  # likewise, of regressions alone
    is_deterministic: bool  # every run has the same scores
    noise: Noise | None  # None of a metric that is no mean


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainReport:
    """What repeated runs of the same thing say about a gate."""

    gate: str
    alpha: float
    runs: tuple[SideInfo, ...]
    example_cost: float  # of an example, in answers, as ``Noise.best`` takes it
    checks: tuple[CheckAgain, ...]

    @property
    def is_deterministic(self) -> bool:
        """Whether nothing varies but the examples."""
        return all(found.is_deterministic for found in self.checks)


def again(
    sides: Sequence[Side], policy: Policy, *, today: date, seed: int = 0, example_cost: float = 1.0
) -> AgainReport:
    """Gate every ordered pair of runs of the same thing, and part the variance of their scores.

    ``example_cost`` is what an example costs beyond its answers, in answers. Quarantined examples
    are left out. Raises UsageError for fewer than two different runs, RunError for one that is not
    complete, NotComparableError where the runs are of different models or did not ask the same.
    """
    _check_runs(sides)
    checks = policy.resolved()
    verdicts: list[list[Verdict]] = [[] for _ in checks]
    for a, b in permutations(sides, 2):
        report = evaluate(a, b, policy, today=today, seed=seed)
        lines = [line for found in report.checks for line in found.differences]
        if lines:
            raise NotComparableError(
                list(dict.fromkeys(lines)), runs=f"A is {a.info.id}, B is {b.info.id}"
            )
        for found, own in zip(report.checks, verdicts, strict=True):
            own.append(found.verdict)
    quarantine = find_quarantined(policy.quarantine, sides[0], sides[1], checks, today=today)
    return AgainReport(
        gate=policy.gate,
        alpha=policy.alpha,
        runs=tuple(side.info for side in sides),
        example_cost=example_cost,
        checks=tuple(
            _check_again(sides, check, own, quarantine, example_cost=example_cost)
            for check, own in zip(checks, verdicts, strict=True)
        ),
    )


def noise_of(scores: FloatArray, *, example_cost: float = 1.0) -> Noise:
    """The noise in ``scores`` (examples, runs, repeats), nan where an answer has none.

    ``break_even`` equates (item + repeat) (cost + 1), the variance of one answer an example times
    what it costs, with (item + repeat / 2) (cost + 2), that of two.
    Source: Cochran (1977), Sampling Techniques, sec. 10.6.
    """
    n, n_runs, n_repeats = scores.shape
    answers = repeat_components(scores.reshape(n, n_runs * n_repeats))
    complete = scores[np.isfinite(scores).all(axis=(1, 2))]
    runs = None
    if n_repeats > 1:
        runs = three_way_components(complete.transpose(0, 2, 1), design="seeds")
    item, repeat = answers.variances["item"], answers.variances["repeat"]
    is_known = math.isfinite(item) and math.isfinite(repeat)
    best = None
    if is_known and item + repeat > 0:
        budget = 2 * n * (example_cost + n_repeats)
        best = best_allocation(
            answers, cost_per_item=example_cost, cost_per_repeat=1.0, budget=budget
        )
    within = paired_variance(
        0.0, within_a=repeat, within_b=repeat, repeats_a=n_repeats, repeats_b=n_repeats
    )
    return Noise(
        n_examples=n,
        n_repeats=n_repeats,
        answers=answers,
        runs=runs,
        stderr=planned_stderr(answers, n_items=n, n_repeats=n_repeats) if n else math.nan,
        gate_stderr=math.sqrt(within / n) if n else math.nan,
        best=best,
        break_even=2 * item / repeat if repeat > 0 else math.inf,
    )


def _check_runs(sides: Sequence[Side]) -> None:
    if len(sides) < 2:
        raise UsageError("A/A needs two runs or more of the same thing")
    for a, b in combinations(sides, 2):
        if a.info.id == b.info.id:
            raise UsageError(f"{a.info.id} is given twice: A/A needs repeated runs, not copies")
        if a.info.fingerprint != b.info.fingerprint:
            raise NotComparableError(
                [
                    f"model: {a.info.model} ({a.info.fingerprint}) in A, "
                    f"{b.info.model} ({b.info.fingerprint}) in B"
                ],
                runs=f"A is {a.info.id}, B is {b.info.id}",
            )
    for side in sides:
        if side.info.status != "complete":
            raise RunError(f"{side.info.id} is {side.info.status}: A/A needs complete runs")


def _check_again(
    sides: Sequence[Side],
    check: Check,
    verdicts: Sequence[Verdict],
    quarantine: Iterable[Quarantined],
    *,
    example_cost: float,
) -> CheckAgain:
    n = len(verdicts)
    n_regression = verdicts.count(Verdict.REGRESSION)
    n_pass = verdicts.count(Verdict.PASS)
    values, is_same = _scores(sides, check, tuple(quarantine))
    return CheckAgain(
        check=check,
        n_pairs=n,
        n_regression=n_regression,
        n_inconclusive=n - n_regression - n_pass,
        not_pass=wilson(n - n_pass, n),
        false_red=wilson(n_regression, n),
        is_deterministic=is_same,
        noise=None if values is None else noise_of(values, example_cost=example_cost),
    )


def _scores(
    sides: Sequence[Side], check: Check, quarantine: Sequence[Quarantined]
) -> tuple[FloatArray | None, bool]:
    """(examples, runs, repeats) of a metric that is a mean; and whether all runs agree."""
    first = sides[0].examples(check.task)
    columns: list[FloatArray] = []
    stats: list[FloatArray] = []
    for side in sides:
        examples = side.examples(check.task)
        found = match(first, examples)
        mask = ~is_quarantined(quarantine, check.task, ids=found.ids, sha256=found.sha256)
        if check.slice is not None:
            field, value = check.slice
            mask &= np.asarray(found.slices[field] == value, dtype=np.bool_)
        answers = side.answers(check.task, check.metric)
        index = found.index_b[mask]
        columns.append(_by_repeat(answers, answers.values[:, None], examples.ids.size)[index])
        if answers.stats is not None:
            stats.append(_by_repeat(answers, answers.stats, examples.ids.size)[index])
    is_sum = sides[0].tasks[check.task].metrics[check.metric].interval == "bootstrap"
    compared = stats if is_sum else columns
    is_same = all(np.array_equal(compared[0], one, equal_nan=True) for one in compared[1:])
    if is_sum:
        return None, is_same
    return np.stack([column[:, :, 0] for column in columns], axis=1), is_same


def _by_repeat(answers: Answers, rows: FloatArray, n: int) -> FloatArray:
    """``rows`` (m, k), one for each answer, as (n, repeats, k): nan where an answer has none."""
    counts = np.bincount(answers.example, minlength=n)
    order = np.argsort(answers.example, kind="stable")
    starts = np.cumsum(counts) - counts
    table = np.full((n, int(counts.max(initial=1)), rows.shape[1]), np.nan)
    codes = answers.example[order]
    table[codes, np.arange(codes.size) - starts[codes]] = rows[order]
    return table
