"""What a rubric will ask of a judge, exactly, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.backends import open_backend
from evalkit.dataset import read_rows
from evalkit.errors import DatasetError, UsageError
from evalkit.judges.asking import Case, Method, first_prompt
from evalkit.judges.model_judge import open_model_judge
from evalkit.judges.rubric import Rubric
from evalkit.types import Backend, Chat, Prompt

_OF_A_CASE = ("id", "prompt", "target", "response", "opponent", "fields")


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePreview:
    """The first thing that is asked about one case under the first criterion."""

    id: str
    prompt: str
    n_tokens: int | None  # None without a model


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricPreview:
    """A rubric in short, and what it asks."""

    rubric: str
    version: int
    description: str
    kind: str
    method: str  # how the verdict is made: logits | text | reward
    has_critique: bool
    criteria: Mapping[str, Mapping[str, float]]  # the labels of each, with their values
    cases: Sequence[CasePreview]


class _Anything(str):
    """Stands for the value of a field: a text that says which, and a list of one such text."""

    def __iter__(self) -> Iterator[str]:
        return iter((str(self),))


def preview_rubric(
    rubric: Rubric,
    *,
    n: int = 2,
    model: str | None = None,
    rows: Path | None = None,
    offline: bool = False,
) -> RubricPreview:
    """What a judge is asked about the first ``n`` rows of a file, or about a case that is made up.

    A row has ``response``, and what else there is of ``id``, ``prompt``, ``target``, ``opponent``
    and of the fields that the rubric's prompt asks for, plain or in ``fields``. Raises UsageError,
    DatasetError (path:line) or TemplateError.
    """
    if n < 0:
        raise UsageError(f"--n {n}: must be 0 or more")
    cases = [_made_up(rubric)] if rows is None else _cases(rubric, rows, n)
    backend = None if model is None else open_backend(model, offline=offline)
    method: Method = "reward" if rubric.kind == "reward" else rubric.spec.verdict or "logits"
    is_chat = False
    if backend is not None:
        judge = open_model_judge(rubric, backend, spec=backend.info.spec)
        method, is_chat = judge.method, judge.is_chat
    prompts = [
        first_prompt(rubric, rubric.criteria[0], case, method=method, is_chat=is_chat)
        for case in cases
    ]
    return RubricPreview(
        rubric=rubric.name,
        version=rubric.spec.version,
        description=rubric.spec.description,
        kind=rubric.kind,
        method=method,
        has_critique=rubric.spec.critique is not None,
        criteria={c.name: c.labels for c in rubric.criteria},
        cases=[
            CasePreview(
                id=case.key,
                prompt=_text(prompt, backend),
                n_tokens=None if backend is None else backend.count_tokens(prompt),
            )
            for case, prompt in zip(cases, prompts, strict=True)
        ],
    )


def _made_up(rubric: Rubric) -> Case:
    templates = (rubric.prompt, rubric.system)
    names = {name for t in templates if t is not None for name in t.variables}
    return Case(
        key="made up",
        fields={name: _Anything(f"[{name}]") for name in sorted(names)},
        prompt="[prompt]",
        target="[target]",
        response="[response]",
        opponent="[the other response]",
    )


def _cases(rubric: Rubric, path: Path, n: int) -> list[Case]:
    found: list[Case] = []
    for number, (line, row) in enumerate(read_rows(path)):
        if number == n:
            break
        where = f"{path}:{line}"
        fields: dict[str, Any] = {k: v for k, v in row.items() if k not in _OF_A_CASE}
        inner = row.get("fields") or {}
        if "response" not in row or not isinstance(inner, Mapping):
            raise DatasetError(f"{where}: a row needs 'response'; its 'fields' are a mapping")
        fields |= inner
        opponent = row.get("opponent")
        if rubric.kind == "pairwise" and opponent is None:
            if rubric.against is None:
                raise DatasetError(f"{where}: a pair needs 'opponent', the other answer")
            opponent = rubric.against.render(fields)
        found.append(
            Case(
                key=str(row.get("id", number)),
                fields=fields,
                prompt=str(row.get("prompt", "")),
                target=str(row.get("target", "")),
                response=str(row["response"]),
                opponent=None if opponent is None else str(opponent),
            )
        )
    return found


def _text(prompt: Prompt, backend: Backend | None) -> str:
    """The prompt as the model sees it; without a model, a chat with its turns marked."""
    if backend is not None:
        return backend.render(prompt)
    if isinstance(prompt, Chat):
        return "\n".join(f"[{message.role}]\n{message.content}" for message in prompt.messages)
    return prompt
