"""The judges of a run: the rubrics that tasks name, and verdicts on every response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.catalogue import TaskFile
from evalkit.errors import EvalkitError, UsageError
from evalkit.judges import (
    Case,
    Judge,
    Rubric,
    load_rubric,
    metrics_of_rubric,
    open_judge,
    with_whole,
)
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

    @property
    def metrics(self) -> list[NamedMetric]:
        """What its verdicts are called in a record."""
        return [
            NamedMetric(
                name=metric.name,
                metric=metric,
                extract=build_extractor("text"),
                extract_signature="",
            )
            for metric in metrics_of_rubric(self.rubric, self.judge.info)
        ]

    @property
    def identity(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"spec": self.judge.info.spec, **self.judge.info.identity}


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
        found.append(TaskRubric(rubric=rubric, against=against))
    return found


def open_judges(
    rubrics: Sequence[TaskRubric],
    spec: str,
    *,
    offered: Mapping[str, Backend],
    offline: bool,
    seed: int,
    on_progress: Callable[[str], None],
) -> list[TaskJudge]:
    """The judge of each rubric. Raises UsageError or ModelError."""
    return [
        TaskJudge(
            rubric=one.rubric,
            against=one.against,
            judge=open_judge(
                one.rubric,
                spec,
                offered=offered,
                offline=offline,
                seed=seed,
                on_progress=on_progress,
            ),
        )
        for one in rubrics
    ]


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
        for (i, repeat), found in zip(places, judged, strict=True):
            verdicts[i][repeat].update(with_whole(one.rubric, found))
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
