"""A specification that reads labels out of any rows: templates say what stands where."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from evalkit.calibrate.items import (
    Design,
    LabelledItem,
    LabelSet,
    People,
    propensity_of,
    systems_of,
)
from evalkit.dataset import read_rows
from evalkit.errors import DatasetError, TemplateError
from evalkit.judges import Case
from evalkit.prompt import Template
from evalkit.schema import Name, Strict, parse
from evalkit.yamlfile import Document, Loc, read_yaml, shown

Source = Annotated[str, Field(min_length=1)]  # a template over the row's fields, and ``row``


class JoinSpec(Strict):
    """Rows of a second file that belong to those of the first."""

    path: str = Field(description="beside the rows")
    on: str = Field(description="the field that both have; one row of the second file for each")


class LabelSpec(Strict):
    """A file that says how labels are read; texts are templates over a row's fields."""

    labels: Name
    description: str = ""
    path: str = Field(description="JSONL, JSON, CSV, TSV or Parquet; relative to this file")
    join: JoinSpec | None = None
    each: Source | None = Field(
        default=None, description="a list: a row is as many items, with ``each`` as one of it"
    )
    id: Source
    prompt: Source | None = None
    response: Source | None = Field(
        default=None, description="without it only recorded judges can judge"
    )
    opponent: Source | None = None
    target: Source | None = None
    fields: dict[str, Source] = Field(default_factory=dict, description="more that rubrics may use")
    human: dict[Name, Source] = Field(
        min_length=1,
        description="criterion -> a value, a list (annotators in order), or a mapping of them",
    )
    lower_is_better: list[Name] = Field(
        default_factory=list, description="criteria whose values change their sign: penalties"
    )
    judges: Source | dict[str, Source | dict[Name, Source]] | None = Field(
        default=None, description="what judges said: a mapping, or a template for each"
    )
    cluster: Source | None = None
    stratum: Source | None = None
    system: Source | None = Field(default=None, description="a name, or a list of a pair's two")
    propensity: Source | None = None
    design: Design = "unknown"
    people: People = Field(
        default="skilled", description="who labelled: decides what a judge may lack beside them"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFile:
    """A specification with its templates compiled, by where they stand."""

    spec: LabelSpec
    document: Document
    templates: Mapping[Loc, Template]

    @property
    def path(self) -> Path:
        """Of the specification itself."""
        return self.document.path


_ONE = ("each", "id", "prompt", "response", "opponent", "target")
_MORE = ("cluster", "stratum", "system", "propensity")


def read_spec(path: Path) -> SpecFile:
    """A specification. Raises SpecError or TemplateError (path:line)."""
    document = read_yaml(path)
    spec = parse(document, LabelSpec)
    for index, name in enumerate(spec.lower_is_better):
        if name not in spec.human:
            raise document.error(("lower_is_better", index), f"{name!r} is not under 'human'")
    found: dict[Loc, Template] = {}
    for loc, source in _sources(spec):
        where = f"{shown(path)}:{document.line(loc)}: {'.'.join(map(str, loc))}"
        found[loc] = Template(source, where=where)
    return SpecFile(spec=spec, document=document, templates=found)


def _sources(spec: LabelSpec) -> Iterator[tuple[Loc, str]]:
    for key in (*_ONE, *_MORE):
        source = getattr(spec, key)
        if source is not None:
            yield (key,), source
    for key in ("fields", "human"):
        for name, source in getattr(spec, key).items():
            yield (key, name), source
    if isinstance(spec.judges, str):
        yield ("judges",), spec.judges
    for name, given in spec.judges.items() if isinstance(spec.judges, dict) else ():
        if isinstance(given, str):
            yield ("judges", name), given
        else:
            yield from ((("judges", name, criterion), s) for criterion, s in given.items())


def read_with_spec(file: SpecFile, *, data: Path | None = None) -> LabelSet:
    """The labels that a specification finds in its rows, or in those of ``data``.

    Raises DatasetError (path:line of the row) for a row that is not as the templates expect.
    """
    path = data or file.path.parent / file.spec.path
    join = file.spec.join
    second = path.parent / join.path if join else None
    joined = _joined(second, join.on) if join and second else {}
    items: list[LabelledItem] = []
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        fields: Mapping[str, Any] = row
        if join is not None:
            key = row.get(join.on)
            if key not in joined:
                raise DatasetError(f"{where}: {second} has no row with {join.on} {key!r}")
            fields = {**joined[key], **row}
        try:
            items += _items(file, fields, where)
        except TemplateError as error:
            raise DatasetError(f"{where}: {error}") from error
    read = [file.path, path, *([second] if second else [])]
    return LabelSet(
        name=file.spec.labels,
        path=file.path,
        data=data,
        files={str(one): hashlib.sha256(one.read_bytes()).hexdigest() for one in read},
        items=tuple(items),
        design=file.spec.design,
        people=file.spec.people,
    )


def _joined(path: Path, on: str) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    for number, row in read_rows(path):
        if on not in row or row[on] in found:
            problem = "stands here twice" if on in row else "is missing"
            raise DatasetError(f"{path}:{number}: {on} {row.get(on, '')!r} {problem}")
        found[row[on]] = row
    return found


def _items(file: SpecFile, row: Mapping[str, Any], where: str) -> Iterator[LabelledItem]:
    context = {**row, "row": row}
    if file.spec.each is None:
        yield _item(file, context, where)
        return
    listed = file.templates["each",].value(context)
    if not isinstance(listed, list | tuple):
        raise DatasetError(f"{where}: each is no list: {listed!r}")
    for one in listed:
        yield _item(file, {**context, "each": one}, where)


def _item(file: SpecFile, context: Mapping[str, Any], where: str) -> LabelledItem:
    def value(*loc: str) -> Any:
        template = file.templates.get(loc)
        return None if template is None else template.value(context)

    def text(key: str) -> str | None:
        found = value(key)
        return None if found is None else str(found)

    response = text("response")
    spec = file.spec
    return LabelledItem(
        case=Case(
            key=text("id") or "",
            fields={name: value("fields", name) for name in spec.fields},
            prompt=text("prompt") or "",
            target=text("target") or "",
            response=response or "",
            opponent=text("opponent"),
        ),
        where=where,
        labels=_labels({name: value("human", name) for name in spec.human}, spec, where),
        has_texts=response is not None,
        cluster=text("cluster"),
        stratum=text("stratum"),
        systems=systems_of(value("system"), where),
        propensity=propensity_of(value("propensity"), where),
        judges=_judges(file, context, where),
    )


def _labels(given: Mapping[str, Any], spec: LabelSpec, where: str) -> dict[str, dict[str, Any]]:
    found = {}
    for criterion, value in given.items():
        if isinstance(value, Mapping):
            own = {str(who): mark for who, mark in value.items()}
        else:
            marks = value if isinstance(value, list | tuple) else [value]
            own = {str(i): mark for i, mark in enumerate(marks, 1)}
        own = {who: mark for who, mark in own.items() if mark is not None and mark != ""}
        for mark in own.values():
            if not isinstance(mark, str | int | float) or mark != mark:
                raise DatasetError(f"{where}: human.{criterion}: {mark!r} is no label")
        if criterion in spec.lower_is_better:
            own = {who: _negated(mark, f"{where}: human.{criterion}") for who, mark in own.items()}
        if own:
            found[criterion] = own
    return found


def _negated(mark: Any, where: str) -> float:
    number = _number(mark)
    if not isinstance(number, int | float):
        raise DatasetError(f"{where}: {mark!r} is no number")
    return 0.0 - number  # never -0.0


def _judges(file: SpecFile, context: Mapping[str, Any], where: str) -> dict[str, Any]:
    given = file.spec.judges
    if given is None:
        return {}
    if isinstance(given, str):
        found = file.templates["judges",].value(context)
        if not isinstance(found, Mapping):
            raise DatasetError(f"{where}: judges is no mapping: {found!r}")
        return {str(name): said for name, said in found.items()}
    return {
        name: _number(file.templates["judges", name].value(context))
        if isinstance(own, str)
        else {c: _number(file.templates["judges", name, c].value(context)) for c in own}
        for name, own in given.items()
    }


def _number(value: Any) -> Any:
    """A number that a text spells out, as it stands in a CSV; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value
