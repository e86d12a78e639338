"""The bias audit: what moves a judge other than quality, each a number with its interval and n.

From the labels and verdicts that a calibration has anyway: position, length and format, the
reference, the judge's own family, leniency to each system, and whether two systems are judged by
the same measure. From asking the judge again: edits that make a response no better, and texts in it
that tell the judge what to say (`evalkit.calibrate.audit_edits`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from evalkit.calibrate.audit_asking import ask_again, edit_figures, injection_figures
from evalkit.calibrate.audit_features import effect_figure, effects, features_of
from evalkit.calibrate.evidence import Evidence, gather
from evalkit.calibrate.figures import Settings, figure
from evalkit.calibrate.items import LabelledItem
from evalkit.calibrate.pairs import orders
from evalkit.judges import Judge, Panel, Rubric, Verdicts
from evalkit.judges.recorded import Recorded
from evalkit.stats.bias import DifferentialBias, differential_bias, leniency
from evalkit.stats.intervals import FloatArray, wilson
from evalkit.stats.multiplicity import holm

OnProgress = Callable[[int, int], None]  # (answered, asked)

MARGIN = 0.05  # of the scale's span: a smaller difference in leniency is negligible
_MOST_SYSTEMS = 20  # that are compared with each other
_FEWEST_ANSWERS = 5  # of a system
_NO_SCALE = "the judge's values and people's labels are not on one scale"


def audit(
    rubric: Rubric,
    items: Sequence[LabelledItem],
    verdicts: Sequence[Verdicts],
    judge: Judge,
    *,
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """The audit of a judge that gave these verdicts on these items, as plain data by criterion.

    A judge that can be asked is asked about edited responses; recorded verdicts have no answer to
    those. What could not be measured is a sentence under ``untested``. Raises NotFoundError or
    DatasetError where the texts to inject cannot be read.
    """
    asked = None
    all_evidence = [gather(rubric, criterion, items, verdicts) for criterion in rubric.criteria]
    if not is_recorded(judge):
        asked = ask_again(rubric, judge, all_evidence, settings, on_progress)
    criteria = {}
    for evidence in all_evidence:
        found = _of_labels(evidence, judge.info.spec, settings)
        if asked is None:
            found["untested"].append("edits and injections: the judge's verdicts are recorded")
        else:
            found["edits"] = edit_figures(asked, evidence, settings)
            found["injections"] = injection_figures(asked, evidence, settings)
        criteria[evidence.criterion.name] = found
    return {"level": settings.level, "seed": settings.seed, "criteria": criteria}


def is_recorded(judge: Judge) -> bool:
    """Whether a judge, or any of a panel's, only looks its verdicts up."""
    if isinstance(judge, Panel):
        return any(is_recorded(member) for member in judge.members)
    return isinstance(judge, Recorded)


def _of_labels(evidence: Evidence, judge: str, settings: Settings) -> dict[str, Any]:
    """What labels and verdicts show by themselves."""
    found: dict[str, Any] = {"position": position(evidence, settings)}
    untested: list[str] = []
    if evidence.kind == "pairwise" and not found["position"]:
        untested.append("position: each pair was judged in one order only")
    found |= {"features": {}, "leniency": {}, "differential": []}
    if evidence.scale.size == 0:
        untested.append(f"length, format, self-preference and leniency: {_NO_SCALE}")
    else:
        features, problems = features_of(evidence, judge)
        untested += problems
        found["features"] = effects(evidence, features, settings)
        found["leniency"] = leniency_of_systems(evidence, settings)
        found["differential"] = differential(evidence, settings)
        if not found["leniency"]:
            untested.append("leniency to systems: the labels do not name two of them")
    return found | {"untested": untested}


def position(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """What the order of a pair does; empty unless pairs were judged in both.

    ``first_of_inconsistent``: of the pairs whose verdict follows the place, the share that goes to
    what is shown first; ``p`` is exact, of that being one half.
    """
    found = orders(evidence, settings)
    if not found:
        return {}
    n_first, n_second = found["n_first_twice"], found["n_second_twice"]
    n = n_first + n_second
    return {
        "consistency": found["consistency"],
        "first_share": found["first_share"],
        "first_of_inconsistent": figure(wilson(n_first, n, level=settings.level), n)
        | {"p": found["p_of_first"]},
    }


def leniency_of_systems(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """By how much the judge is above people on each system's answers; empty for fewer than two.

    Of pairs an answer's score is the chance of it being the better one.
    """
    answers = _answers(evidence)
    systems = [one.system for one in answers]
    if len(set(systems)) < 2:
        return {}
    judge, human, groups = _columns(answers)
    found = leniency(judge, human, systems=systems, clusters=groups, level=settings.level)
    return {one.system: figure(one.residual, one.n) for one in found}


def differential(evidence: Evidence, settings: Settings) -> list[dict[str, Any]]:
    """Of each two systems, how much more lenient the judge is to the second; may be empty.

    A difference that people see is none of it: it is one of residuals. Answers to one prompt (or
    of one cluster) are compared with each other; of pairs only those of these two systems. ``p`` is
    of no difference, ``p_holm`` of all comparisons together, and ``p_negligible`` of one as large
    as the margin, a twentieth of the scale's span.
    """
    answers = _answers(evidence)
    names = sorted({one.system for one in answers})
    margin = MARGIN * float(evidence.scale[-1] - evidence.scale[0])
    found = []
    for baseline, candidate in combinations(names, 2) if len(names) <= _MOST_SYSTEMS else ():
        both = {baseline, candidate}
        own = [a for a in answers if a.system in both and (len(a.systems) < 2 or a.systems == both)]
        is_candidate = np.array([float(a.system == candidate) for a in own])
        if min(is_candidate.sum(), len(own) - is_candidate.sum()) < _FEWEST_ANSWERS:
            continue
        judge, human, groups = _columns(own)
        one = differential_bias(
            judge,
            human,
            is_candidate=is_candidate,
            margin=margin,
            clusters=groups,
            alpha=1 - settings.level,
        )
        found.append({"baseline": baseline, "candidate": candidate, **_differential(one)})
    adjusted = holm([row["p"] for row in found])
    return [row | {"p_holm": float(p)} for row, p in zip(found, adjusted, strict=True)]


def _differential(found: DifferentialBias) -> dict[str, Any]:
    return effect_figure(found.effect) | {
        "margin": found.margin,
        "p_negligible": found.p_negligible,
        "finding": found.finding,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Judge and people on one answer; a pair is two, the scores of which are 1 together."""

    system: str
    systems: frozenset[str]  # of the item
    group: str
    judge: float
    human: float


def _answers(evidence: Evidence) -> list[_Answer]:
    found = []
    columns = zip(
        evidence.items,
        evidence.judge.tolist(),
        evidence.human.tolist(),
        evidence.groups,
        strict=True,
    )
    for item, judge, human, group in columns:
        systems = item.systems if evidence.kind == "pairwise" else item.systems[:1]
        n_wanted = 2 if evidence.kind == "pairwise" else 1
        if len(set(systems)) != n_wanted or not np.isfinite(judge):
            continue
        scores = [(judge, human), (1 - judge, 1 - human)]
        found += [
            _Answer(system=system, systems=frozenset(systems), group=group, judge=j, human=h)
            for system, (j, h) in zip(systems, scores, strict=False)
        ]
    return found


def _columns(answers: Sequence[_Answer]) -> tuple[FloatArray, FloatArray, list[str]]:
    """Judge (n,), people (n,) and groups."""
    judge = np.array([one.judge for one in answers], dtype=np.float64)
    human = np.array([one.human for one in answers], dtype=np.float64)
    return judge, human, [one.group for one in answers]
