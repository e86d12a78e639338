"""Figures of a calibration as tables: plain nested data of any names, each number with its range.

A figure is a mapping with ``value`` and, as far as known, ``low``, ``high``, ``n`` and ``method``.
What has another form is shown too: counts as a grid, rows of a list as a table, single values as
facts. Names are those of the data, as words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.report.facts import Fact
from evalkit.report.figures import (
    OF_A_FIGURE,
    FigureRow,
    axis_of,
    cell_text,
    figure_row,
    is_figure,
    is_many,
    words,
)
from evalkit.report.grids import (
    Grid,
    alike,
    confusion,
    grid,
    grid_of_mappings,
    is_list,
    is_lists,
    is_mappings,
    square_table,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureTable:
    """What belongs together: numbers on a common axis where they fit one, grids, single values."""

    title: str
    rows: tuple[FigureRow, ...]
    axis: tuple[float, float] | None  # None: each row has its own
    grids: tuple[Grid, ...]
    facts: tuple[Fact, ...]


def figure_tables(figures: Mapping[str, Any], *, title: str = "") -> tuple[FigureTable, ...]:
    """A table for each entry that is itself made of entries; the single ones lead, as ``title``."""
    first = _Found()
    tables: list[FigureTable] = []
    for key, value in figures.items():
        if _is_nested(value):
            found = _Found()
            found.add((), value, names=())
            title_of = words(str(key))
            tables.append(found.table(title_of[:1].upper() + title_of[1:]))
        else:
            first.add((str(key),), value, names=())
    lead = first.table(title)
    found_any = lead.rows or lead.grids or lead.facts
    shown = [t for t in tables if t.rows or t.grids or t.facts]
    return (lead, *shown) if found_any else tuple(shown)


@dataclass(slots=True)
class _Found:
    """What a walk through one entry has found so far."""

    rows: list[FigureRow] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def add(self, path: tuple[str, ...], value: Any, *, names: Sequence[str]) -> None:
        """Take in a value; ``names`` are those of the entries of lists beside and below it."""
        if is_figure(value):
            self._add_figure(path, value, names)
        elif isinstance(value, Mapping):
            self._add_mapping(path, value, names)
        elif _is_figures(value):
            for name, one in zip(_named(value, names), value, strict=True):
                self.add((*path, name), one, names=())
        elif is_lists(value) or is_mappings(value):
            self.grids.append(grid(_title(path), value, names))
        elif value not in (None, "", [], ()):
            self.facts.append(Fact(name=_title(path), text=cell_text(value)))

    def _add_figure(
        self, path: tuple[str, ...], value: Mapping[str, Any], names: Sequence[str]
    ) -> None:
        *before, last = path or ("",)
        self.rows.append(figure_row(words(last), value, group=_title(before)))
        for key, part in value.items():
            if key not in OF_A_FIGURE and is_many(part):
                self.add((*path, str(key)), part, names=names)

    def _add_mapping(
        self, path: tuple[str, ...], value: Mapping[str, Any], names: Sequence[str]
    ) -> None:
        known = _list_names(value) or names
        left = dict(value)
        counts = square_table(value)
        if counts is not None:
            heads, table = counts
            self.grids.append(confusion(_title(path), left.pop(heads), left.pop(table)))
        same = alike(left)
        if same:
            self.grids.append(grid_of_mappings(_title(path), {k: left.pop(k) for k in same}))
        for key, part in left.items():
            self.add((*path, str(key)), part, names=known)

    def table(self, title: str) -> FigureTable:
        return FigureTable(
            title=title,
            rows=tuple(self.rows),
            axis=axis_of(self.rows),
            grids=tuple(self.grids),
            facts=tuple(self.facts),
        )


def _title(path: Sequence[str]) -> str:
    return ", ".join(words(key) for key in path)


def _is_nested(value: Any) -> bool:
    if is_figure(value):
        return False
    return isinstance(value, Mapping) or is_lists(value) or is_mappings(value)


def _is_figures(value: Any) -> bool:
    return is_list(value) and all(is_figure(one) for one in value)


def _is_texts(value: Any) -> bool:
    return is_list(value) and all(isinstance(one, str) for one in value)


def _list_names(value: Mapping[str, Any]) -> tuple[str, ...]:
    """The first list of texts in a mapping: it names the entries of the lists beside it."""
    return next((tuple(part) for part in value.values() if _is_texts(part)), ())


def _named(values: Sequence[Any], names: Sequence[str]) -> Iterator[str]:
    if len(names) == len(values):
        yield from names
    else:
        yield from (str(i) for i in range(1, len(values) + 1))
