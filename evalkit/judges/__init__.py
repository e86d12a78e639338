"""Judges: models that rate responses by a rubric, and what their ratings are worth."""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence

from evalkit.backends import open_backend
from evalkit.errors import TemplateError, UsageError
from evalkit.judges.asking import Case, question
from evalkit.judges.judge import Judge, JudgeInfo, Verdicts
from evalkit.judges.metric import JudgeMetric, metrics_of_rubric, with_whole
from evalkit.judges.model_judge import ModelJudge, open_model_judge
from evalkit.judges.panel import Panel, Vote
from evalkit.judges.recorded import open_recorded
from evalkit.judges.rubric import Criterion, Rubric, load_rubric, read_rubric, rubric_paths
from evalkit.judges.rubric_spec import RubricSpec
from evalkit.types import Backend

__all__ = [
    "Case",
    "Criterion",
    "Judge",
    "JudgeInfo",
    "JudgeMetric",
    "ModelJudge",
    "Panel",
    "Rubric",
    "RubricSpec",
    "Verdicts",
    "Vote",
    "check_cases",
    "load_rubric",
    "metrics_of_rubric",
    "open_judge",
    "open_model_judge",
    "read_rubric",
    "rubric_paths",
    "with_whole",
]


def open_judge(
    rubric: Rubric,
    spec: str,
    *,
    offered: MutableMapping[str, Backend] | None = None,
    offline: bool = False,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> Judge:
    """The judge of a specification under a rubric.

    A model's specification, ``replay:FILE#NAME`` for verdicts that were recorded, or a panel,
    ``[a, b, c]`` (the mean of their verdicts) or ``majority[a, b, c]``. ``offered`` are backends
    that are open already, by their specification; one that is opened here is put beside them, so
    that a model is loaded once for many rubrics. Raises UsageError or ModelError.
    """
    offered = {} if offered is None else offered
    vote, members = _panel(spec)
    if members:
        judges = tuple(
            open_judge(
                rubric,
                one,
                offered=offered,
                offline=offline,
                seed=seed,
                on_progress=on_progress,
            )
            for one in members
        )
        return Panel(members=judges, vote=vote)
    if spec.startswith("replay:"):
        return open_recorded(rubric, spec)
    if spec not in offered:
        offered[spec] = open_backend(spec, offline=offline, on_progress=on_progress)
    return open_model_judge(rubric, offered[spec], spec=spec, seed=seed)


def check_cases(judge: Judge, cases: Sequence[Case]) -> None:
    """Lay out every case as the judge would see it, and ask nothing.

    Raises TemplateError, naming case and field, where a case has not what the rubric's prompt asks
    for. A judge whose verdicts are recorded is shown nothing.
    """
    if isinstance(judge, Panel):
        for member in judge.members:
            check_cases(member, cases)
    elif isinstance(judge, ModelJudge):
        for case in cases:
            try:
                question(judge.rubric, judge.rubric.criteria[0], case)
            except TemplateError as error:
                raise TemplateError(f"{error} (example {case.key})") from error


def _panel(spec: str) -> tuple[Vote, list[str]]:
    found = re.fullmatch(r"(mean|majority)?\[(.*)\]", spec.strip(), re.DOTALL)
    if found is None:
        return "mean", []
    members = [member.strip() for member in found.group(2).split(",")]
    if len(members) < 2 or not all(members):
        raise UsageError(f"judge {spec!r}: a panel is a list of two or more, [a, b, c]")
    twice = next((one for one in members if members.count(one) > 1), None)
    if twice is not None:
        raise UsageError(f"judge {spec!r}: {twice!r} stands there twice, and would count twice")
    return "majority" if found.group(1) == "majority" else "mean", members
