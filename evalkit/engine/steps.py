"""One call of the model: which tokens, and which keys each of them attends to.

A ``Step`` is runs of tokens from any place in a trie, and next tokens of sequences that are being
generated. Its attention is planned in calls of equal shape, few and large.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.engine.kv import BLOCK_SIZE, IdArray, IntArray, Table

BoolArray = NDArray[np.bool_]

# In keys read where they are, by a row; measured with torch 2.13 on AVX512.
_COST_OF_CALL = 512
_COST_OF_GATHERING = 2.5

CHUNK = 8  # blocks that are put together at once; with their size it decides the bits of a result


class Shared(NamedTuple):
    """Attention of rows ``low`` to ``high`` of a step to every key of the same few blocks.

    It is computed for rows ``begin`` to ``end``, a convenient number, which may go past the last.
    """

    place: int  # of the first block, in its chunk
    slots: IntArray  # (w, block_size) of the keys
    low: int
    high: int
    begin: int
    end: int


class Tile(NamedTuple):
    """Attention of ``w`` groups of ``size`` rows, each group to keys of its own in one block."""

    places: IntArray  # (w,) of the blocks, in their chunk
    n_rows: int  # of the step
    slots: IntArray  # (w, n_keys)
    rows: IntArray  # (w, size) rows of the step; n_rows stands for no row
    is_seen: BoolArray  # (w, size, n_keys) the key is not after the row, and in its window


class Chunk(NamedTuple):
    """The attention to ``n_blocks`` consecutive blocks of positions."""

    n_blocks: int
    shared: tuple[Shared, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of the model. Row ``i`` is the token ``tokens[i]`` at ``positions[i]``.

    Positions are cut into blocks, the same for all sequences, and blocks into chunks. A row takes
    part in the attention to each block that it sees of, up to its own, once.
    """

    tokens: IdArray  # (n,)
    positions: IntArray  # (n,)
    slots: IntArray  # (n,) where the keys and values of the rows go
    fresh: tuple[IntArray, ...]  # neighbouring slots that are read before they are written
    chunks: tuple[Chunk, ...]
    windowed: Mapping[int, tuple[Chunk, ...]]  # of rows that see so many tokens


class _Run(NamedTuple):
    """Rows ``row`` on, at positions ``start`` to ``end`` of the sequence in ``slots``."""

    row: int
    start: int
    end: int
    slots: IntArray
    paged_from: int  # the position from which on only this sequence reads, and from pages


class _Seen(NamedTuple):
    """Rows ``low`` to ``high`` that see of the keys in ``slots``, a block's first."""

    low: int
    high: int
    slots: IntArray


class _Page(NamedTuple):
    """A row that sees the keys ``first`` to ``end`` of the page that begins with ``slot``."""

    slot: int
    row: int
    at: int  # the block
    first: int
    end: int


class _Stretch(NamedTuple):
    """Pages to be read in one call with all that lie between them, so many keys of each."""

    pages: Sequence[_Page]
    n_keys: int
    cost: int


@dataclass(slots=True, kw_only=True)
class StepBuilder:
    """Collects runs of tokens into a step.

    ``tile_sizes`` are the numbers of rows in a group of a tile, ascending, and a tile has a
    multiple of ``key_multiple`` keys. Of rows that share blocks a multiple of ``row_multiple``
    is computed at a time, others among them to no avail; fewer than that are put into tiles. For
    each of ``windows`` the attention of rows that see only so many of the last tokens is planned
    too.
    """

    tile_sizes: tuple[int, ...]
    key_multiple: int
    row_multiple: int
    block_size: int = BLOCK_SIZE
    windows: tuple[int, ...] = ()
    n_tokens: int = 0
    _ids: list[IdArray] = field(default_factory=list)
    _runs: list[_Run] = field(default_factory=list)
    _fresh: list[IntArray] = field(default_factory=list)

    def add(self, table: Table, ids: IdArray) -> int:
        """Append tokens to a sequence; returns the row of the first."""
        row, start, n_spare = self.n_tokens, table.length, len(table.spare)
        table.extend(len(ids))
        if len(table.spare) > n_spare:
            self._fresh.append(table.spare)
        self._ids.append(ids)
        paged_from = table.length
        if table.paged_from is not None and len(ids) == 1:
            paged_from = table.paged_from
        self._runs.append(_Run(row, start, table.length, table.slots, paged_from))
        self.n_tokens += len(ids)
        return row

    def build(self) -> Step:
        """The step of all that was added; at least one token."""
        positions = np.concatenate([np.arange(r.start, r.end) for r in self._runs])
        return Step(
            tokens=np.concatenate(self._ids),
            positions=positions,
            slots=np.concatenate([r.slots[r.start : r.end] for r in self._runs]),
            fresh=tuple(self._fresh),
            chunks=self._chunks(positions),
            windowed={window: self._chunks(positions, window) for window in self.windows},
        )

    def _chunks(self, positions: IntArray, window: int = 0) -> tuple[Chunk, ...]:
        whole, partial = self._blocks(window)
        shared: dict[int, list[Shared]] = defaultdict(list)
        for (low, high), blocks in _by_rows(whole).items():
            if wide := self._widened(low, high):
                for first, slots in _runs_of_blocks(blocks):
                    shared[first // CHUNK].append(Shared(first % CHUNK, slots, low, high, *wide))
            else:
                for at, slots in blocks:
                    partial[at].append(_Seen(low, high, slots))
        pages = self._pages(window)
        n_blocks = int(positions.max()) // self.block_size + 1
        chunks: list[Chunk] = []
        for first in range(0, n_blocks, CHUNK):
            end = min(first + CHUNK, n_blocks)
            tiles = list(self._page_tiles([p for at in range(first, end) for p in pages[at]]))
            for at in range(first, end):
                tiles += self._tiles(at, partial[at], positions, window)
            chunks.append(Chunk(end - first, tuple(shared[first // CHUNK]), tuple(tiles)))
        return tuple(chunks)

    def _pages(self, window: int) -> dict[int, list[_Page]]:
        """What single rows see of pages of their own, by place."""
        size = self.block_size
        pages: dict[int, list[_Page]] = defaultdict(list)
        for run in self._runs:
            begin = max(0, run.end - window) if window else 0
            for first in range(max(run.paged_from, begin // size * size), run.end, size):
                low, high = max(0, begin - first), min(size, run.end - first)
                at = first // size
                pages[at].append(_Page(int(run.slots[first]), run.row, at, low, high))
        return pages

    def _page_tiles(self, pages: list[_Page]) -> Iterator[Tile]:
        """Tiles that read pages side by side, where that is no waste, and one for the others."""
        pages.sort(key=itemgetter(0))
        is_whole = [self._n_keys(page.end) == self.block_size for page in pages]
        whole, partial = (
            [page for page, is_it in zip(pages, is_whole, strict=True) if is_it == wanted]
            for wanted in (True, False)
        )
        ways = self._stretches(pages), self._stretches(whole) + self._stretches(partial)
        others: list[_Page] = []
        for one in min(ways, key=lambda way: sum(stretch.cost for stretch in way)):
            if one.cost <= _COST_OF_GATHERING * len(one.pages) * one.n_keys:
                firsts = np.arange(one.pages[0].slot, one.pages[-1].slot + 1, self.block_size)
                yield self._page_tile(one.pages, firsts, one.n_keys)
            else:
                others += one.pages
        if others:
            others.sort(key=itemgetter(0))
            n_keys = max(self._n_keys(page.end) for page in others)
            yield self._page_tile(others, np.array([page.slot for page in others]), n_keys)

    def _stretches(self, pages: Sequence[_Page]) -> list[_Stretch]:
        """Pages by their slots, those put together whose reading costs less than another call."""
        found: list[tuple[int, int, int]] = []  # the first page, keys of each, cost
        for i, page in enumerate(pages):
            low, n_keys = i, self._n_keys(page.end)
            cost = _COST_OF_CALL + n_keys
            while found:
                first, n_keys_before, cost_before = found[-1]
                most = max(n_keys_before, n_keys)
                n_pages = (page.slot - pages[first].slot) // self.block_size + 1
                if _COST_OF_CALL + n_pages * most > cost_before + cost:
                    break
                found.pop()
                low, n_keys, cost = first, most, _COST_OF_CALL + n_pages * most
            found.append((low, n_keys, cost))
        ends = [*(first for first, _, _ in found[1:]), len(pages)]
        return [
            _Stretch(pages[first:end], n_keys, cost)
            for (first, n_keys, cost), end in zip(found, ends, strict=False)
        ]

    def _page_tile(self, pages: Sequence[_Page], firsts: IntArray, n_keys: int) -> Tile:
        """A tile that reads the pages with these first slots, ``pages`` among them; both ascend.

        The others are given to the row that stands for none, which sees every key.
        """
        here = np.searchsorted(firsts, [page.slot for page in pages])
        assert (np.diff(here) > 0).all()  # a page has one reader
        places = np.zeros(len(firsts), dtype=np.int64)
        places[here] = [page.at % CHUNK for page in pages]
        rows = np.full((len(firsts), self.tile_sizes[0]), self.n_tokens)
        rows[here, 0] = [page.row for page in pages]
        keys = np.arange(n_keys)
        is_seen = np.ones((*rows.shape, n_keys), dtype=np.bool_)
        ends = np.array([[page.end] for page in pages])
        is_seen[here, 0] = (keys < ends) & (keys >= np.array([[page.first] for page in pages]))
        return Tile(places, self.n_tokens, firsts[:, None] + keys, rows, is_seen)

    def _n_keys(self, n: int) -> int:
        """How many keys a tile has of which the first ``n`` are seen."""
        return min(self.block_size, -(-n // self.key_multiple) * self.key_multiple)

    def _blocks(
        self, window: int
    ) -> tuple[dict[tuple[int, int], list[_Seen]], dict[int, list[_Seen]]]:
        """What rows see: of whole blocks, by place and last slot; and of parts of one, by place."""
        size = self.block_size
        whole: dict[tuple[int, int], list[_Seen]] = defaultdict(list)
        partial: dict[int, list[_Seen]] = defaultdict(list)
        for run in self._runs:
            shift = run.row - run.start
            begin = max(0, run.start - window + 1) if window else 0
            for at in range(begin // size, -(-min(run.end, run.paged_from) // size)):
                first, last = at * size, at * size + size - 1
                low, high = max(run.start, first), run.end
                all_low, all_high = max(low, last), high
                if window:
                    # The last position whose window reaches the block's last key, and its first.
                    high = min(high, last + window)
                    all_high = min(high, first + window)
                slots = run.slots[first : last + 1]
                if all_low < all_high:
                    seen = _Seen(all_low + shift, all_high + shift, slots)
                    whole[at, int(slots[-1])].append(seen)
                    parts = ((low, all_low), (all_high, high))
                else:
                    parts = ((low, high), (high, high))
                partial[at] += [_Seen(a + shift, b + shift, slots) for a, b in parts if a < b]
        return whole, partial

    def _widened(self, low: int, high: int) -> tuple[int, int] | None:
        """Rows ``low`` to ``high`` and some beside, a multiple as asked; None if too few."""
        if high - low < self.row_multiple:
            return None
        n = -(-(high - low) // self.row_multiple) * self.row_multiple
        begin = max(0, min(low, self.n_tokens - n))
        return begin, begin + n

    def _tiles(
        self, at: int, seen: list[_Seen], positions: IntArray, window: int
    ) -> Iterator[Tile]:
        """The tiles of one block, the smallest first; what a tile's groups see is a mask."""
        largest = self.tile_sizes[-1]
        groups: dict[int, list[_Seen]] = defaultdict(list)
        for one in seen:
            for low in range(one.low, one.high, largest):
                high = min(low + largest, one.high)
                size = next(s for s in self.tile_sizes if s >= high - low)
                groups[size].append(_Seen(low, high, one.slots))
        # The row that stands for none sees every key: a softmax over nothing would be a NaN.
        reach = np.append(positions - at * self.block_size, self.block_size)
        hidden = np.append(reach[:-1] - window if window else positions * 0 - 1, -1)
        for size in sorted(groups):
            yield self._tile(at % CHUNK, size, groups[size], reach, hidden)

    def _tile(
        self, place: int, size: int, groups: list[_Seen], reach: IntArray, hidden: IntArray
    ) -> Tile:
        """A tile of rows that see the keys after ``hidden`` and up to ``reach``."""
        rows = np.full((len(groups), size), self.n_tokens)
        for i, group in enumerate(groups):
            rows[i, : group.high - group.low] = np.arange(group.low, group.high)
        last = max(int(reach[group.low : group.high].max()) for group in groups)
        n_keys = self._n_keys(last + 1)
        slots = np.empty((len(groups), n_keys), dtype=np.int64)
        for i, group in enumerate(groups):
            n = min(n_keys, len(group.slots))
            slots[i, :n], slots[i, n:] = group.slots[:n], group.slots[0]
        keys = np.arange(n_keys)
        is_seen = (keys <= reach[rows][:, :, None]) & (keys > hidden[rows][:, :, None])
        places = np.full(len(groups), place)
        return Tile(places, self.n_tokens, slots, rows, is_seen)


def _by_rows(
    whole: Mapping[tuple[int, int], Sequence[_Seen]],
) -> dict[tuple[int, int], list[tuple[int, IntArray]]]:
    """The blocks that runs of consecutive rows see all of, (place, slots), by the first and last.

    The tokens of a trie are walked depth first: rows that share a block are mostly neighbours.
    """
    found: dict[tuple[int, int], list[tuple[int, IntArray]]] = defaultdict(list)
    for (at, _), seen in whole.items():
        low, high = seen[0].low, seen[0].high
        for one in seen[1:]:
            if one.low != high:
                found[low, high].append((at, seen[0].slots))
                low = one.low
            high = one.high
        found[low, high].append((at, seen[0].slots))
    return found


def _runs_of_blocks(
    blocks: Sequence[tuple[int, IntArray]],
) -> Iterator[tuple[int, IntArray]]:
    """Blocks that follow on each other in a chunk, put together: the first place and (w, size)."""
    together: list[IntArray] = []
    first = 0
    for at, slots in sorted(blocks, key=itemgetter(0)):
        if together and (at != first + len(together) or at % CHUNK == 0):
            yield first, np.stack(together)
            together = []
        if not together:
            first = at
        together.append(slots)
    yield first, np.stack(together)
