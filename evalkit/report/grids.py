"""Tables of texts out of plain data: counts, rows of a list, entries that are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.report.facts import as_text
from evalkit.report.figures import cell_text, is_figure, is_many, is_range, words
from evalkit.report.numerals import format_count, number_or_nan

_GRID_KEYS = ("rows", "counts", "table", "matrix")


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """A line of a grid."""

    name: str  # may be empty
    cells: tuple[str, ...]
    shades: tuple[int, ...] = ()  # 0..5: of counts, how large a part of the line each is


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of texts."""

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]
    texts: tuple[bool, ...] = ()  # of each column, whether it is of words; numbers where not said

    @property
    def is_named(self) -> bool:
        """Whether any row has a name."""
        return any(row.name for row in self.rows)


def square_table(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of the heads and of the counts, where a mapping has a square table with heads."""
    for table in (key for key in _GRID_KEYS if is_lists(value.get(key))):
        n = len(value[table])
        if all(len(row) == n for row in value[table]):
            for heads, part in value.items():
                if heads != table and is_list(part) and len(part) == n and not is_lists(part):
                    return heads, table
    return None


def confusion(title: str, heads: Sequence[Any], table: Sequence[Sequence[Any]]) -> Grid:
    """Counts of what the judge said (columns) where people said what (rows)."""
    shown = tuple(as_text(head) for head in heads)
    return Grid(
        title=title,
        corner="people ↓ judge →",
        columns=shown,
        rows=tuple(
            GridRow(name=name, cells=tuple(map(cell_text, row)), shades=_shades(row))
            for name, row in zip(shown, table, strict=True)
        ),
    )


def _shades(row: Sequence[Any]) -> tuple[int, ...]:
    counts = [max(0.0, n) if math.isfinite(n := number_or_nan(v)) else 0.0 for v in row]
    total = math.fsum(counts)
    return tuple(math.ceil(5 * n / total) if total else 0 for n in counts)


def alike(value: Mapping[str, Any]) -> list[str]:
    """The keys of entries that have the same parts, of which some are no figures, none is large."""
    parts = {k: p for k, p in value.items() if isinstance(p, Mapping) and p and not is_figure(p)}
    if len(parts) < 2:
        return []
    first = next(iter(parts.values()))
    cells = [cell for part in parts.values() for cell in part.values()]
    is_alike = all(set(part) == set(first) for part in parts.values())
    is_small = all(is_figure(cell) or not is_many(cell) for cell in cells)
    return list(parts) if is_alike and is_small and not all(map(is_figure, cells)) else []


def grid_of_mappings(title: str, value: Mapping[str, Any]) -> Grid:
    """Entries that are alike, a row each."""
    parts = list(value.values())
    keys = list(parts[0])
    return Grid(
        title=title,
        corner="",
        columns=tuple(words(key) for key in keys),
        rows=tuple(
            GridRow(name=words(name), cells=tuple(cell_text(part[key]) for key in keys))
            for name, part in value.items()
        ),
    )


def grid(title: str, rows: Sequence[Any], names: Sequence[str]) -> Grid:
    """A list of rows, mappings or lists, as a table."""
    if all(isinstance(row, Mapping) for row in rows):
        return _grid_of_rows(title, rows, names)
    cells: list[tuple[str, ...]]
    is_named = len(names) == len(rows)
    named = names if is_named else [""] * len(rows)
    if is_named and all(map(is_range, rows)):
        cells, columns = [(cell_text(row),) for row in rows], [title.rpartition(", ")[2]]
    else:
        width = max(map(len, rows))
        cells = [(*map(cell_text, row), *[""] * (width - len(row))) for row in rows]
        columns = [format_count(i) for i in range(1, width + 1)]
    return Grid(title=title, corner="", columns=tuple(columns), rows=_grid_rows(named, cells))


def _grid_of_rows(title: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Grid:
    """Rows by their names, or by their first entry where that is a text in each."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    corner, named = "", names if len(names) == len(rows) else [""] * len(rows)
    if not any(named) and keys and all(isinstance(row.get(keys[0]), str) for row in rows):
        corner, named = words(keys[0]), [row[keys[0]] for row in rows]
        keys = keys[1:]
    return Grid(
        title=title,
        corner=corner,
        columns=tuple(map(words, keys)),
        rows=_grid_rows(named, [tuple(cell_text(row.get(key)) for key in keys) for row in rows]),
        texts=tuple(any(isinstance(row.get(key), str) for row in rows) for key in keys),
    )


def _grid_rows(names: Sequence[str], cells: Sequence[tuple[str, ...]]) -> tuple[GridRow, ...]:
    pairs = zip(names, cells, strict=True)
    return tuple(GridRow(name=name, cells=own) for name, own in pairs)


def is_mappings(value: Any) -> bool:
    """Whether it is a list of mappings."""
    return is_list(value) and all(isinstance(one, Mapping) for one in value)


def is_lists(value: Any) -> bool:
    """Whether it is a list of lists."""
    return is_list(value) and all(isinstance(one, list | tuple) for one in value)


def is_list(value: Any) -> bool:
    """Whether it is a list with anything in it."""
    return isinstance(value, list | tuple) and len(value) > 0
