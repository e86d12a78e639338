"""The file formats that people write: tasks, groups of tasks, dataset maps. Strict."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from evalkit.errors import did_you_mean
from evalkit.yamlfile import Document, Loc, read_yaml

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Row = dict[str, Any]
TaskRequest = Literal["generate", "choice", "classify", "loglikelihood", "rolling"]


class Strict(BaseModel):
    """Unknown keys and wrong types are errors; nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DatasetSpec(Strict):
    """Where the rows come from: a local file or a set on the Hugging Face Hub."""

    path: str | None = Field(
        default=None, description="JSONL, JSON, CSV, TSV or Parquet; relative to this file"
    )
    hub: str | None = Field(default=None, description="a dataset id on the Hugging Face Hub")
    config: str | None = None
    revision: str | None = Field(
        default=None, description="commit hash on the Hub; `main` is not pinned"
    )
    split: str | None = None
    few_shot_split: str | None = Field(default=None, description="default: the same rows")
    where: dict[str, str | int | bool] = Field(
        default_factory=dict, description="keep rows whose fields equal these"
    )
    sha256: Sha256 | None = Field(default=None, description="of the file, checked before use")
    license: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> DatasetSpec:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' and 'hub'")
        if self.hub is not None:
            if self.split is None:
                raise ValueError("a Hub dataset needs 'split'")
            if self.revision is None:
                raise ValueError("a Hub dataset needs 'revision' (a commit hash pins the rows)")
            if self.sha256 is not None:
                raise ValueError("'sha256' is for files; 'revision' pins a Hub dataset")
        elif self.revision is not None or self.config is not None:
            raise ValueError("'revision' and 'config' are for Hub datasets")
        return self


class MessageSpec(Strict):
    """A chat turn; ``content`` is a template."""

    role: Literal["system", "user", "assistant"]
    content: str


class GenerateSpec(Strict):
    """How to draw tokens; the defaults are greedy and neutral."""

    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    stop: list[str] = Field(default_factory=list)


class RegexSpec(Strict):
    """Answer extraction by a regular expression."""

    regex: str
    group: int = Field(default=1, ge=0)
    take: Literal["first", "last"] = "last"
    strip: list[str] = Field(default_factory=list, description="removed from what was found")

    @model_validator(mode="after")
    def _compiles(self) -> RegexSpec:
        try:
            groups = re.compile(self.regex).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if self.group > groups and not (self.group == 1 and groups == 0):
            raise ValueError(f"group {self.group} of a pattern that has {groups}")
        return self


class BestOfSpec(Strict):
    """Draw several answers and keep one."""

    n: int = Field(ge=2)
    by: str = Field(
        "logprob", description="logprob, vote, or a metric of the task (an upper bound)"
    )


def _shape(value: Any) -> str:
    if isinstance(value, str):
        return "name"
    return "list" if isinstance(value, list) else "mapping"


OneExtract = Annotated[
    Annotated[str, Tag("name")] | Annotated[RegexSpec, Tag("mapping")], Discriminator(_shape)
]
ExtractSpec = Annotated[
    Annotated[str, Tag("name")]
    | Annotated[RegexSpec, Tag("mapping")]
    | Annotated[list[OneExtract], Tag("list")],
    Discriminator(_shape),
]


class MetricSpec(BaseModel):
    """A metric by name, with its options beside it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    metric: str
    name: Name | None = Field(
        default=None, description="how the record calls it; default: the metric's name"
    )

    @property
    def options(self) -> dict[str, Any]:
        """What stands beside ``metric`` and ``name``."""
        return dict(self.model_extra or {})


def _named(value: Any) -> Any:
    return {"metric": value} if isinstance(value, str) else value


class RubricUse(Strict):
    """A rubric that a judge rates the responses by."""

    rubric: str = Field(description="a name, or a path relative to this file")
    against: str | None = Field(
        default=None, description="pairwise: the other answer, in place of the rubric's own"
    )


def _used(value: Any) -> Any:
    return {"rubric": value} if isinstance(value, str) else value


class _TaskBody(Strict):
    """A task without its name and version."""

    description: str = ""
    tags: list[str] = Field(default_factory=list)
    dataset: DatasetSpec
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="derived fields: templates over the row; a field that the row has is kept",
    )
    system: str | None = None
    prompt: str | None = None
    messages: list[MessageSpec] | None = None
    chat: bool = Field(
        default=False, description="lay the prompt out with the model's chat template"
    )
    prefill: str = ""
    target: str | list[str] | None = None
    few_shot_target: str | None = None
    choices: str | list[str] | None = None
    continuation: str = "{{ choice }}"
    target_delimiter: str = " "
    few_shot_delimiter: str = "\n\n"
    num_fewshot: int = Field(default=0, ge=0)
    few_shot: Literal["seeded", "first_n"] = "seeded"
    few_shot_examples: list[Row] | None = None
    request: TaskRequest
    generate: GenerateSpec = GenerateSpec()
    best_of: BestOfSpec | None = None
    extract: ExtractSpec | None = None
    pipelines: dict[Name, ExtractSpec] = Field(default_factory=dict)
    metrics: list[Annotated[MetricSpec, BeforeValidator(_named)]] = Field(
        default_factory=list, min_length=1
    )
    rubrics: list[Annotated[RubricUse, BeforeValidator(_used)]] = Field(
        default_factory=list, min_length=1
    )
    cluster: str | None = None
    slices: list[str] = Field(default_factory=list)
    repeats: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> _TaskBody:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterable[str]:
        kind = self.request
        if (self.prompt is None) == (self.messages is None):
            yield "give exactly one of 'prompt' and 'messages'"
        has_choices = kind in ("choice", "classify")
        if has_choices != (self.choices is not None):
            verb = "needs" if has_choices else "has no use for"
            yield f"a task with request: {kind} {verb} 'choices'"
        if kind != "rolling" and self.target is None:
            yield f"a task with request: {kind} needs 'target'"
        if kind != "generate":
            for key in ("extract", "generate", "pipelines", "best_of"):
                if key in self.model_fields_set:
                    yield f"'{key}' is for request: generate, not {kind}"
        if self.rubrics and kind != "generate":
            yield f"'rubrics' rate generated texts, and this is request: {kind}"
        if not self.metrics and not self.rubrics:
            yield "give 'metrics', or 'rubrics', or both"
        if self.extract is not None and self.pipelines:
            yield "give one of 'extract' and 'pipelines'"
        if kind == "rolling" and (self.num_fewshot or self.messages or self.chat or self.prefill):
            yield "a rolling task scores its prompt as it is: no shots, no chat, no prefill"
        if self.best_of is not None and self.generate.temperature == 0:
            yield "best_of needs generate.temperature above 0: greedy draws are all equal"
        if self.best_of is not None and self.best_of.by == "vote" and self.pipelines:
            yield "best_of by vote needs one 'extract', not 'pipelines'"
        if self.messages is not None and self.num_fewshot:
            yield "shots are made from 'prompt' (with chat: true for turns), not from 'messages'"
        n_inline = len(self.few_shot_examples or ())
        if self.few_shot_examples is not None and self.num_fewshot > n_inline:
            yield f"num_fewshot is {self.num_fewshot}, few_shot_examples has {n_inline}"


class TaskSpec(_TaskBody):
    """A task file."""

    task: Name
    version: int = Field(ge=1)


class GroupSpec(Strict):
    """A group file: tasks that are reported together, listed or made from one template."""

    group: Name
    version: int = Field(ge=1)
    description: str = ""
    tags: list[str] = Field(default_factory=list)
    tasks: list[Name] | None = None
    members: list[Name] | None = None
    task: dict[str, Any] | None = Field(
        default=None,
        description="a task without name and version; ${member} stands for the member's name",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> GroupSpec:
        templated = self.members is not None and self.task is not None
        if (self.members is None) != (self.task is None) or templated == (self.tasks is not None):
            raise ValueError("give either 'tasks', or 'members' together with 'task'")
        if not (self.tasks or self.members):
            raise ValueError("the group is empty")
        return self


T = TypeVar("T", bound=BaseModel)


def read_dataset_map(path: Path) -> dict[str, DatasetSpec]:
    """Task or group -> dataset, from a YAML file; relative paths start at that file's folder."""
    document = read_yaml(path)
    if not isinstance(document.value, dict) or not document.value:
        raise document.error((), "expected a mapping from task names to datasets")
    found = {}
    for name, value in document.value.items():
        spec = parse(document, DatasetSpec, value, at=(name,))
        if spec.path is not None:
            spec = spec.model_copy(update={"path": str((path.parent / spec.path).absolute())})
        found[name] = spec
    return found


def parse(document: Document, model: type[T], value: Any = None, *, at: Loc = ()) -> T:
    """Check ``value`` (default: the whole document) against a model.

    Raises SpecError (path:line) for the first problem in the file; ``at`` is where value stands.
    """
    value = document.value if value is None else value
    if not isinstance(value, dict):
        raise document.error(at, f"expected keys and values, found {_kind(value)}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [(_strip_tags(e["loc"]), e) for e in error.errors()]
        # A misspelt key is both unknown and missing: the first says what to mend.
        problems.sort(key=lambda p: (p[1]["type"] == "missing", document.line((*at, *p[0]))))
        loc, first = problems[0]
        raise document.error((*at, *loc), _explain(loc, first, model)) from None


def known_keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """The keys that a mapping at ``loc`` inside a model may have."""
    current: Any = model
    is_entry = False  # the next step is a key of a mapping whose values have a model
    for step in loc:
        if isinstance(step, str) and isinstance(current, type) and issubclass(current, BaseModel):
            info = current.model_fields.get(step)
            current = info.annotation if info else None
            if typing.get_origin(current) is dict:
                is_entry = True
                continue
        if is_entry:
            is_entry = False
            current = typing.get_args(current)[1]
        models = [t for t in _flatten(current) if isinstance(t, type) and issubclass(t, BaseModel)]
        current = models[0] if models else None
    is_model = isinstance(current, type) and issubclass(current, BaseModel)
    return list(current.model_fields) if is_model else []


def _flatten(annotation: Any) -> list[Any]:
    arguments = typing.get_args(annotation)
    return [annotation] if not arguments else [x for a in arguments for x in _flatten(a)]


def _strip_tags(loc: Iterable[str | int]) -> Loc:
    """Without the names of union branches, which are no part of the file."""
    parts = list(loc)
    tags = {"name", "mapping", "list", "str", "list[str]"}
    return tuple(p for i, p in enumerate(parts) if i == 0 or p not in tags)


def _explain(loc: Loc, error: Any, model: type[BaseModel]) -> str:
    name = ".".join(str(part) for part in loc)
    match error["type"]:
        case "extra_forbidden":
            known = known_keys(model, loc[:-1])
            inside = f" in '{'.'.join(map(str, loc[:-1]))}'" if loc[:-1] else ""
            return f"unknown key {loc[-1]!r}{inside}{did_you_mean(str(loc[-1]), known)}"
        case "missing":
            return f"key {name!r} is missing"
        case "value_error":
            problem = str(error["ctx"]["error"])
            return f"{name}: {problem}" if name else problem
        case "string_pattern_mismatch" if loc and loc[-1] in ("task", "group"):
            return f"{name}: {error['input']!r} is not a name (a-z, 0-9 and _ only)"
    return f"{name}: {_lower(error['msg'])}, found {error['input']!r}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", type(None): "nothing"}
    return names.get(type(value), repr(value))
