"""The judges of a run: the rubrics that tasks name, and verdicts on every response."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.catalogue import TaskFile
from evalkit.errors import EvalkitError, UsageError
from evalkit.judges import (
    Case,
    Judge,
    JudgeMetric,
    Rubric,
    check_cases,
    load_rubric,
    metrics_of_rubric,
    open_judge,
    with_whole,
)
from evalkit.judges.calibration import Calibration, item_key
from evalkit.judges.correction import Correction, Standing, correction_of, finished, standing_of
from evalkit.judges.metric import criteria_of
from evalkit.metrics.extract import build_extractor
from evalkit.prompt import Template
from evalkit.scoring import NamedMetric
from evalkit.types import Backend, Chat, Item, Prompt, Response, Verdict

ItemVerdicts = Sequence[Mapping[str, Verdict]]  # of one item: by metric, for each repeat
OnJudged = Callable[[int, int], None]  # (answered, asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskJudge:
    """A rubric of a task with the judge that was opened for it."""

    rubric: Rubric
    against: Template | None  # the other answer of a pair
    judge: Judge
    standing: Standing
    corrections: Mapping[str, Correction]  # by metric; empty without a calibration that holds
    seed: int

    @property
    def metrics(self) -> list[NamedMetric]:
        """What its verdicts are called in a record."""
        return [self._named(m) for m in metrics_of_rubric(self.rubric, self.judge.info)]

    def human(self, metric: str, key: str) -> float:
        """What people said of a response; nan where the calibration does not know it."""
        correction = self.corrections.get(metric)
        return math.nan if correction is None else correction.human(key)

    def _named(self, metric: JudgeMetric) -> NamedMetric:
        correction = self.corrections.get(metric.name)
        if correction is not None:
            by = f"{metric.signature}|calibrated:{correction.calibration.sha256()[:12]}"
            metric = replace(metric, correction=correction, signature=by)
        finish = partial(
            finished, metric, standing=self.standing, correction=correction, seed=self.seed
        )
        return NamedMetric(
            name=metric.name,
            metric=metric,
            extract=build_extractor("text"),
            extract_signature="",
            finish=finish,
        )

    @property
    def described(self) -> dict[str, Any]:
        """What a record says of it: who judged by what, and what is known of that judge."""
        info, standing = self.judge.info, self.standing
        found: dict[str, Any] = {
            "spec": info.spec,
            "identity": dict(info.identity),
            "standing": standing.status,
            "note": standing.note,
        }
        if standing.found is not None:
            found["calibration"] = standing.found.summary()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRubric:
    """A rubric as a task uses it."""

    rubric: Rubric
    against: Template | None


def rubrics_of(file: TaskFile) -> list[TaskRubric]:
    """The rubrics that a task names, read.

    Raises SpecError (path:line) for a rubric that is not there, is wrong, or does not fit the task.
    """
    found: list[TaskRubric] = []
    for index, use in enumerate(file.spec.rubrics):
        at = (*file.at, "rubrics", index)
        try:
            rubric = load_rubric(use.rubric, folder=file.document.path.parent)
        except UsageError as error:
            raise file.document.error(at, str(error)) from error
        against = rubric.against
        if use.against is not None:
            against = Template(use.against, where=file.where("rubrics", index, "against"))
        if rubric.kind == "pairwise" and against is None:
            raise file.document.error(
                at, f"rubric {rubric.name!r} compares two answers: give 'against', the other one"
            )
        if rubric.kind != "pairwise" and use.against is not None:
            raise file.document.error(at, f"rubric {rubric.name!r} compares nothing: no 'against'")
        if any(one.rubric.name == rubric.name for one in found):
            raise file.document.error(at, f"rubric {rubric.name!r} stands here twice")
        if any(rubric.name == (m.name or m.metric) for m in file.spec.metrics):
            problem = f"rubric {rubric.name!r} and a metric have one name; give the metric a 'name'"
            raise file.document.error(at, problem)
        found.append(TaskRubric(rubric=rubric, against=against))
    return found


def open_judges(
    rubrics: Sequence[TaskRubric],
    spec: str,
    *,
    offered: MutableMapping[str, Backend],
    offline: bool,
    seed: int,
    calibrations: Sequence[Path],
    on_progress: Callable[[str], None],
) -> list[TaskJudge]:
    """The judge of each rubric, with what is known of it. Raises UsageError or ModelError."""
    found = []
    for one in rubrics:
        judge = open_judge(
            one.rubric,
            spec,
            offered=offered,
            offline=offline,
            seed=seed,
            on_progress=on_progress,
        )
        standing = standing_of(one.rubric, judge.info, calibrations)
        holding = standing.calibration
        found.append(
            TaskJudge(
                rubric=one.rubric,
                against=one.against,
                judge=judge,
                standing=standing,
                corrections={} if holding is None else corrections_of(one.rubric, judge, holding),
                seed=seed,
            )
        )
    return found


def check_judgeable(judges: Sequence[TaskJudge], items: Sequence[Item]) -> None:
    """Show every item with an empty response, so that what cannot be judged is found before asking.

    Raises TemplateError, naming the rubric's file, the field and the example.
    """
    for one in judges:
        cases = [case_of(item, Response(text=""), one.against) for item in items]
        check_cases(one.judge, cases)


def corrections_of(rubric: Rubric, judge: Judge, calibration: Calibration) -> dict[str, Correction]:
    """A calibration at work on each metric of a rubric that it knows all criteria of."""
    found = {}
    for metric in metrics_of_rubric(rubric, judge.info):
        criteria = criteria_of(rubric, metric.name)
        if all(c.name in calibration.criteria for c in criteria):
            found[metric.name] = correction_of(criteria, calibration)
    return found


async def judge_responses(
    judges: Sequence[TaskJudge],
    items: Sequence[Item],
    responses: Sequence[Sequence[Response]],
    on_judged: OnJudged,
) -> list[ItemVerdicts]:
    """Verdicts on all responses, those of each item a repeat each; none on a failed response."""
    verdicts: list[list[dict[str, Verdict]]] = [[{} for _ in repeats] for repeats in responses]
    places = [
        (i, repeat)
        for i, repeats in enumerate(responses)
        for repeat, response in enumerate(repeats)
        if response.error is None
    ]
    for one in judges:
        cases = [case_of(items[i], responses[i][repeat], one.against) for i, repeat in places]
        judged = await one.judge.judge(cases, on_judged)
        for (i, repeat), case, found in zip(places, cases, judged, strict=True):
            key = item_key(case)
            for name, verdict in with_whole(one.rubric, found).items():
                human = one.human(name, key)
                verdicts[i][repeat][name] = replace(verdict, key=key, human=human)
    return list(verdicts)


def case_of(item: Item, response: Response, against: Template | None) -> Case:
    """What a judge sees of an answered item. Raises TemplateError, naming the example."""
    fields = item.example.fields
    try:
        opponent = None if against is None else against.render(fields)
    except EvalkitError as error:
        raise type(error)(f"{error} (example {item.example.id})") from error
    return Case(
        key=item.example.id,
        fields=fields,
        prompt=_as_text(item.prompts[0]),
        target=item.targets[0] if item.targets else "",
        response=response.text or "",
        opponent=opponent,
    )


def _as_text(prompt: Prompt) -> str:
    """What was asked: of a conversation the last turn of the user."""
    if isinstance(prompt, Chat):
        return next((m.content for m in reversed(prompt.messages) if m.role == "user"), "")
    return prompt
