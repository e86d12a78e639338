"""Judges: models that rate responses by a rubric, and what their ratings are worth."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from evalkit.backends import open_backend
from evalkit.errors import UsageError
from evalkit.judges.asking import Case
from evalkit.judges.judge import Judge, JudgeInfo, ModelJudge, Verdicts, open_model_judge
from evalkit.judges.metric import JudgeMetric, metrics_of_rubric, with_whole
from evalkit.judges.panel import Panel, Vote
from evalkit.judges.recorded import open_recorded
from evalkit.judges.rubric import Criterion, Rubric, RubricSpec, load_rubric
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
    "load_rubric",
    "metrics_of_rubric",
    "open_judge",
    "open_model_judge",
    "with_whole",
]


def open_judge(
    rubric: Rubric,
    spec: str,
    *,
    offered: Mapping[str, Backend] | None = None,
    offline: bool = False,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> Judge:
    """The judge of a specification under a rubric.

    A model's specification, ``replay:FILE#NAME`` for verdicts that were recorded, or a panel,
    ``[a, b, c]`` (the mean of their verdicts) or ``majority[a, b, c]``. ``offered`` are backends
    that are open already, by their specification. Raises UsageError or ModelError.
    """
    vote, members = _panel(spec)
    if members:
        judges = tuple(
            open_judge(rubric, one, offered=offered, offline=offline, seed=seed) for one in members
        )
        return Panel(members=judges, vote=vote)
    if spec.startswith("replay:"):
        return open_recorded(rubric, spec)
    backend = (offered or {}).get(spec)
    if backend is None:
        backend = open_backend(spec, offline=offline, on_progress=on_progress)
    return open_model_judge(rubric, backend, spec=spec, seed=seed)


def _panel(spec: str) -> tuple[Vote, list[str]]:
    found = re.fullmatch(r"(mean|majority)?\[(.*)\]", spec.strip(), re.DOTALL)
    if found is None:
        return "mean", []
    members = [member.strip() for member in found.group(2).split(",")]
    if len(members) < 2 or not all(members):
        raise UsageError(f"judge {spec!r}: a panel is a list of two or more, [a, b, c]")
    return "majority" if found.group(1) == "majority" else "mean", members
