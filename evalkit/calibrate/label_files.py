"""Label files: JSON lines, long CSV, or a specification of how to read any other rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from evalkit.calibrate.items import (
    LONE,
    Design,
    LabelledItem,
    LabelSet,
    propensity_of,
    systems_of,
)
from evalkit.calibrate.label_spec import read_spec, read_with_spec
from evalkit.dataset import read_rows
from evalkit.errors import DatasetError, UsageError, did_you_mean
from evalkit.judges import Case
from evalkit.yamlfile import shown

_TEXTS = ("prompt", "response", "opponent", "target", "cluster", "stratum")
_KEYS = ("id", *_TEXTS, "fields", "labels", "system", "propensity", "design", "judges")
_CSV_KEYS = ("id", "annotator", "criterion", "value", *_TEXTS, "system", "propensity", "design")
_DESIGNS: tuple[str, ...] = get_args(Design)


def read_labels(path: Path, *, data: Path | None = None) -> LabelSet:
    """The labels of a file: ``.jsonl``, ``.csv`` or ``.tsv``, or a specification in YAML.

    ``data`` are the rows of a specification in place of those that it names. Raises UsageError,
    SpecError, DatasetError or TemplateError, each in one line with its place.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file of labels")
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        found = read_with_spec(read_spec(path), data=data)
    elif data is not None:
        raise UsageError(f"--data {data}: {path.name} is no specification that could read it")
    elif suffix == ".jsonl":
        found = _of_items(path, [_of_row(row, f"{path}:{n}") for n, row in read_rows(path)])
    elif suffix in (".csv", ".tsv"):
        found = _of_items(path, list(_of_long_rows(path)))
    else:
        raise UsageError(f"{path}: labels stand in a file .jsonl, .csv, .tsv or .yaml")
    if not found.items:
        raise DatasetError(f"{shown(path)}: there is not one item in it")
    _check_unique(found)
    return found


def _check_unique(found: LabelSet) -> None:
    seen: dict[str, str] = {}
    for item in found.items:
        first = seen.setdefault(item.case.key, item.where)
        if first != item.where:
            raise DatasetError(
                f"{item.where}: id {item.case.key!r} stands here twice, first in {first}"
            )


def _of_items(path: Path, rows: list[tuple[LabelledItem, Design | None]]) -> LabelSet:
    designs = [(item.where, design) for item, design in rows if design is not None]
    for where, design in designs:
        if design != designs[0][1]:
            raise DatasetError(f"{where}: design is {design!r}, and {designs[0][1]!r} before")
    return LabelSet(
        name=path.stem,
        path=path,
        data=None,
        files={str(path): hashlib.sha256(path.read_bytes()).hexdigest()},
        items=tuple(item for item, _ in rows),
        design=designs[0][1] or "unknown" if designs else "unknown",
    )


def _of_row(row: Mapping[str, Any], where: str) -> tuple[LabelledItem, Design | None]:
    for key in row:
        if key not in _KEYS:
            raise DatasetError(f"{where}: unknown key {key!r}{did_you_mean(key, _KEYS)}")
    for key in ("id", "labels"):
        if key not in row:
            raise DatasetError(f"{where}: key {key!r} is missing")
    for key in _TEXTS:
        if not isinstance(row.get(key), str | None):
            raise DatasetError(f"{where}: {key} is no text: {row[key]!r}")
    for key in ("labels", "fields", "judges"):
        if not isinstance(row.get(key, {}), dict):
            raise DatasetError(f"{where}: {key} is no mapping: {row[key]!r}")
    return _item(row, where, labels=_labels(row["labels"], where)), _design(row, where)


def _labels(given: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """By criterion and annotator; a flat mapping is from annotators, under a lone criterion."""
    n_nested = sum(isinstance(own, dict) for own in given.values())
    if 0 < n_nested < len(given):
        raise DatasetError(f"{where}: labels name criteria, or annotators alone, and not both")
    nested = given if n_nested else {LONE: given}
    for own in nested.values():
        for annotator, value in own.items():
            if not isinstance(value, str | int | float | None) or value != value:
                raise DatasetError(f"{where}: the label of {annotator!r} is {value!r}")
    found = {
        criterion: {who: value for who, value in own.items() if value is not None}
        for criterion, own in nested.items()
    }
    return {criterion: own for criterion, own in found.items() if own}


def _item(row: Mapping[str, Any], where: str, *, labels: dict[str, dict[str, Any]]) -> LabelledItem:
    case = Case(
        key=str(row["id"]),
        fields=row.get("fields") or {},
        prompt=row.get("prompt") or "",
        target=row.get("target") or "",
        response=row.get("response") or "",
        opponent=row.get("opponent"),
    )
    return LabelledItem(
        case=case,
        where=where,
        labels=labels,
        has_texts=row.get("response") is not None,
        cluster=row.get("cluster"),
        stratum=row.get("stratum"),
        systems=systems_of(row.get("system"), where),
        propensity=propensity_of(row.get("propensity"), where),
        judges=row.get("judges") or {},
    )


def _design(row: Mapping[str, Any], where: str) -> Design | None:
    value = row.get("design") or None
    if value is not None and value not in _DESIGNS:
        raise DatasetError(f"{where}: design is {value!r}, and not one of {', '.join(_DESIGNS)}")
    design: Design | None = value
    return design


def _of_long_rows(path: Path) -> Iterator[tuple[LabelledItem, Design | None]]:
    """Items of a file with a row for each label; what is said twice of an item must agree."""
    rows: dict[str, tuple[dict[str, str], str]] = {}
    labels: dict[str, dict[str, dict[str, Any]]] = {}
    for number, given in read_rows(path):
        where = f"{path}:{number}"
        for column in ("id", "annotator", "value"):
            if column not in given:
                raise DatasetError(f"{path}:1: column {column!r} is missing")
        row = {column: text for column, text in given.items() if text != ""}
        if "id" not in row or ("annotator" not in row and "value" in row):
            raise DatasetError(f"{where}: a label needs an id and an annotator")
        own = {c: t for c, t in row.items() if c not in ("annotator", "criterion", "value")}
        first, at = rows.setdefault(row["id"], (own, where))
        if own != first:
            column = next(c for c in {**first, **own} if first.get(c) != own.get(c))
            raise DatasetError(f"{where}: {column} of {row['id']!r} is not what {at} says")
        of_item = labels.setdefault(row["id"], {})
        if "value" in row:
            of_criterion = of_item.setdefault(row.get("criterion", LONE), {})
            if row["annotator"] in of_criterion:
                raise DatasetError(f"{where}: {row['annotator']!r} has labelled this already")
            of_criterion[row["annotator"]] = row["value"]
    for key, (row, where) in rows.items():
        extra = {c: t for c, t in row.items() if c not in _CSV_KEYS}
        yield _item({**row, "fields": extra}, where, labels=labels[key]), _design(row, where)
