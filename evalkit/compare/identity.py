"""Whether two runs of a task ask the same question, and if not, what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from evalkit.compare.pairing import Match, match
from evalkit.compare.side import Side, SideInfo, TaskInfo
from evalkit.errors import NotComparableError
from evalkit.schema import TaskSpec

# Parts of a task's file that no score depends on, or that are compared otherwise: the rows by
# their hashes, and what a metric reads (extract, pipelines) with that metric's signature.
_ELSEWHERE = (
    *("task", "version", "description", "tags", "dataset", "slices"),
    *("metrics", "extract", "pipelines"),
)
_ABSENT = object()
_SHOWN = 60  # characters of a value in a message


def differences(
    task: str,
    a: tuple[SideInfo, TaskInfo],
    b: tuple[SideInfo, TaskInfo],
    *,
    metrics: Iterable[str],
) -> list[str]:
    """What keeps two runs of a task from being compared, a line for each field; empty if nothing.

    That is the version, each part of the task's file that can change an answer, the seed where it
    draws the shots, judges and rubrics, and the signatures of ``metrics``. The model is what one
    wants to compare, and the rows are compared one by one when they are paired.
    """
    (info_a, task_a), (info_b, task_b) = a, b
    of_a = _identity(info_a, task_a) | _signatures(task_a, metrics)
    of_b = _identity(info_b, task_b) | _signatures(task_b, metrics)
    return [
        f"task {task}: {name}: {in_a} in A, {in_b} in B"
        for name in dict.fromkeys([*of_a, *of_b])
        if _is_different(of_a.get(name, _ABSENT), of_b.get(name, _ABSENT))
        for in_a, in_b in [_shown(of_a.get(name, _ABSENT), of_b.get(name, _ABSENT))]
    ]


def refuse_unless_comparable(
    a: Side,
    b: Side,
    *,
    metrics: Mapping[str, Sequence[str]],
    intersection: bool = False,
) -> dict[str, Match]:
    """The matched examples of each task of ``metrics`` (task -> names), if they can be compared.

    Raises NotComparableError with a line for each field that differs, and, but for
    ``intersection``, one for each task of which a run lacks examples.
    """
    problems: list[str] = []
    matches: dict[str, Match] = {}
    for task, names in metrics.items():
        of_a, of_b = (a.info, a.tasks[task]), (b.info, b.tasks[task])
        problems += differences(task, of_a, of_b, metrics=names)
        found = matches[task] = match(a.examples(task), b.examples(task))
        if found.ids.size == 0:
            problems.append(f"task {task}: A and B have no example in common")
        elif (found.only_a or found.only_b) and not intersection:
            problems.append(
                f"task {task}: examples: {_count(found.only_a)} only in A, "
                f"{_count(found.only_b)} only in B, {found.ids.size} in both; "
                "--intersection compares these"
            )
    if problems:
        raise NotComparableError(problems, runs=f"A is {a.info.id}, B is {b.info.id}")
    return matches


def _count(ids: Sequence[str]) -> str:
    """How many, and the first of them."""
    first = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
    return f"{len(ids)} ({first})" if ids else "0"


def with_defaults(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A task's file with what it leaves at its default."""
    full: dict[str, Any] = {}
    for name, field in TaskSpec.model_fields.items():
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            full[name] = default.model_dump() if isinstance(default, BaseModel) else default
    for name, value in spec.items():
        own = full.get(name)
        full[name] = own | value if isinstance(own, dict) and isinstance(value, dict) else value
    return full


def _identity(info: SideInfo, task: TaskInfo) -> dict[str, Any]:
    spec = with_defaults(task.spec)
    parts: dict[str, Any] = {"version": task.version}
    parts |= _flat({key: value for key, value in spec.items() if key not in _ELSEWHERE})
    if spec["num_fewshot"] and spec["few_shot_examples"] is None:
        dataset = spec.get("dataset") or {}
        parts["dataset.few_shot_split"] = dataset.get("few_shot_split")
        if spec["few_shot"] == "seeded":
            parts["seed of the few-shot examples"] = info.seed
    return parts | _flat({"judges": task.judges})


def _signatures(task: TaskInfo, metrics: Iterable[str]) -> dict[str, str]:
    """What each metric computes, and apart from it what it reads of the answer."""
    parts: dict[str, str] = {}
    for name in metrics:
        computes, _, reads = task.metrics[name].signature.partition("|extract:")
        parts |= {f"metric {name}": computes, f"metric {name}: extract": reads}
    return parts


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    parts: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            parts |= _flat(value, f"{prefix}{key}.")
        else:
            parts[f"{prefix}{key}"] = value
    return parts


def _is_different(a: object, b: object) -> bool:
    """What is absent is as good as what is empty."""
    empty: tuple[object, ...] = (_ABSENT, None)
    return not (a in empty and b in empty) and a != b


def _shown(a: object, b: object) -> Iterator[str]:
    """Both values, of long ones the part where they begin to differ."""
    texts = [_text(a), _text(b)]
    start = next((i for i, (x, y) in enumerate(zip(*texts, strict=False)) if x != y), 0)
    start = max(0, start - _SHOWN // 3)
    for text in texts:
        if len(text) <= _SHOWN:
            yield text
            continue
        end = start + _SHOWN
        yield ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _text(value: object) -> str:
    if value is _ABSENT or value is None:
        return "not set"
    return json.dumps(value, ensure_ascii=False, default=str)
