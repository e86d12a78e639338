"""What to compute, in which order: a radix trie of token ids, walked into ragged steps.

All sequences are known before the first is computed. Sorted, they form a trie whose edges are
the runs of tokens that a set of sequences shares; walked depth first, each edge is computed once
and its slots are given back after its last descendant. A ``Step`` is one call of the model: runs
of tokens from any place in the trie, and next tokens of sequences that are being generated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.engine.kv import IdArray, IntArray, OutOfSlotsError, SlotPool, Table

BoolArray = NDArray[np.bool_]

# Attention to so many positions at a time is one softmax, and so many of those are put together
# at once: both decide the bits of a result.
BLOCK_SIZE = 128
CHUNK = 8


@dataclass(slots=True)
class Node:
    """An edge of the trie: positions ``start`` to ``end`` of the sequences ``low`` to ``high``.

    The sequences are those of the sorted list; the first ``own`` of them end with this edge.
    """

    parent: int  # index of the node that it goes on from; -1 for none
    start: int
    end: int
    low: int
    high: int
    own: int
    n_children: int = 0


def build_trie(sequences: Sequence[IdArray]) -> list[Node]:
    """The trie of lexicographically sorted sequences, each node before its children.

    The first node is the root; its edge is empty if the sequences do not all start alike.
    """
    shared = np.array([_n_common(a, b) for a, b in pairwise(sequences)], dtype=np.int64)
    lengths = np.array([len(s) for s in sequences], dtype=np.int64)
    nodes: list[Node] = []
    todo = [(-1, 0, 0, len(sequences))] if sequences else []
    while todo:
        parent, start, low, high = todo.pop()
        end = int(shared[low : high - 1].min(initial=lengths[low]))
        own = int((lengths[low:high] == end).sum())
        index = len(nodes)
        nodes.append(Node(parent=parent, start=start, end=end, low=low, high=high, own=own))
        if own == high - low:
            continue
        is_cut = shared[low + own : high - 1] == end
        cuts = [low + own, *(np.flatnonzero(is_cut) + low + own + 1).tolist(), high]
        nodes[index].n_children = len(cuts) - 1
        todo += reversed([(index, end, a, b) for a, b in pairwise(cuts)])
    return nodes


def in_order(sequences: Sequence[IdArray]) -> list[int]:
    """The indices of the sequences in lexicographic order; of equals the first first."""
    keys = [s.astype(">u4").tobytes() for s in sequences]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _n_common(a: IdArray, b: IdArray) -> int:
    """The length of the longest common prefix."""
    n = min(len(a), len(b))
    differs = a[:n] != b[:n]
    return int(differs.argmax()) if differs.any() else n


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

    place: int  # of the block, in its chunk
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
    chunks: tuple[Chunk, ...]
    windowed: Mapping[int, tuple[Chunk, ...]]  # of rows that see so many tokens


class _Run(NamedTuple):
    """Rows ``row`` on, at positions ``start`` to ``end`` of the sequence in ``slots``."""

    row: int
    start: int
    end: int
    slots: IntArray


class _Seen(NamedTuple):
    """Rows ``low`` to ``high`` that see of the keys in ``slots``, a block's first."""

    low: int
    high: int
    slots: IntArray


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

    def add(self, table: Table, ids: IdArray) -> int:
        """Append tokens to a sequence; returns the row of the first."""
        row, start = self.n_tokens, table.length
        table.extend(len(ids))
        self._ids.append(ids)
        self._runs.append(_Run(row, start, table.length, table.slots))
        self.n_tokens += len(ids)
        return row

    def build(self) -> Step:
        """The step of all that was added; at least one token."""
        positions = np.concatenate([np.arange(r.start, r.end) for r in self._runs])
        return Step(
            tokens=np.concatenate(self._ids),
            positions=positions,
            slots=np.concatenate([r.slots[r.start : r.end] for r in self._runs]),
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
        n_blocks = int(positions.max()) // self.block_size + 1
        return tuple(
            Chunk(
                min(CHUNK, n_blocks - first),
                tuple(shared[first // CHUNK]),
                tuple(
                    tile
                    for at in range(first, min(first + CHUNK, n_blocks))
                    for tile in self._tiles(at, partial[at], positions, window)
                ),
            )
            for first in range(0, n_blocks, CHUNK)
        )

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
            for at in range(begin // size, (run.end - 1) // size + 1):
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
        n_keys = min(self.block_size, (last // self.key_multiple + 1) * self.key_multiple)
        slots = np.empty((len(groups), n_keys), dtype=np.int64)
        for i, group in enumerate(groups):
            n = min(n_keys, len(group.slots))
            slots[i, :n], slots[i, n:] = group.slots[:n], group.slots[0]
        keys = np.arange(n_keys)
        is_seen = (keys <= reach[rows][:, :, None]) & (keys > hidden[rows][:, :, None])
        return Tile(place, self.n_tokens, slots, rows, is_seen)


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


class Span(NamedTuple):
    """Rows ``row`` on of a step are positions ``start`` to ``end`` of the trie's ``node``."""

    node: Node
    start: int
    end: int
    row: int


class Start(NamedTuple):
    """A sequence whose tokens are all computed, or planned, and which goes on from ``table``."""

    sequence: int  # its place in the sorted list
    table: Table


class Walker:
    """Walks a trie depth first, handing its tokens to steps as the pool allows.

    ``tails[i]`` is how many positions sequence ``i`` may go on for after its end; one that goes
    on at all is handed over as a ``Start``, and the first that ends with a node has its slots
    reserved. All slots that a node can need are reserved before its first token is planned.
    """

    def __init__(
        self,
        sequences: Sequence[IdArray],
        pool: SlotPool,
        *,
        tails: Sequence[int] | None = None,
    ) -> None:
        self._sequences = sequences
        self._pool = pool
        self._tails = tails or [0] * len(sequences)
        self._nodes = build_trie(sequences)
        self._next = 0
        self._table: Table | None = None  # of the node being walked; None between nodes
        self._at = 0
        self._open_tables: dict[int, tuple[Table, int]] = {}  # and children still to come
        self._retired: list[Table] = []

    @property
    def is_done(self) -> bool:
        """Every token has been planned."""
        return self._next == len(self._nodes)

    def fill(
        self, builder: StepBuilder, n_tokens: int, *, max_starts: int = 1
    ) -> tuple[list[Span], list[Start]]:
        """Plan up to ``n_tokens`` tokens; stop early when out of slots or of starts wanted."""
        spans: list[Span] = []
        starts: list[Start] = []
        while n_tokens > 0 and not self.is_done and len(starts) < max_starts:
            node = self._nodes[self._next]
            table = self._table or self._enter(node)
            if table is None:
                break
            self._table = table
            n = min(n_tokens, node.end - self._at)
            if n:
                ids = self._sequences[node.low][self._at : self._at + n]
                spans.append(Span(node, self._at, self._at + n, builder.add(table, ids)))
            n_tokens -= n
            self._at += n
            if self._at == node.end:
                starts += self._leave(node, table)
        return spans, starts

    def retire(self) -> None:
        """Give back the slots of finished leaves; to be called when the step has been computed."""
        for table in self._retired:
            table.free()
        self._retired.clear()

    def _enter(self, node: Node) -> Table | None:
        tail = self._tails[node.low] if node.own else 0
        need = node.end - node.start + tail
        if not self._pool.reserve(need):
            return None
        if node.parent < 0:
            table = Table(pool=self._pool)
        else:
            parent, n_left = self._open_tables.pop(node.parent)
            table = parent.fork()
            if n_left > 1:
                self._open_tables[node.parent] = (parent, n_left - 1)
            else:
                parent.free()
        table.quota = need
        self._at = node.start
        return table

    def _leave(self, node: Node, table: Table) -> list[Start]:
        starts = [
            Start(i, table.fork()) for i in range(node.low, node.low + node.own) if self._tails[i]
        ]
        if starts:
            starts[0].table.quota = table.quota
        else:
            self._pool.unreserve(table.quota)
        table.quota = 0
        if node.n_children:
            self._open_tables[self._next] = (table, node.n_children)
        else:
            self._retired.append(table)
        self._next += 1
        self._table = None
        return starts


def require(is_moving: bool) -> None:
    """Raise where a plan has stopped although there is work; never, if slots were counted right."""
    if not is_moving:
        raise OutOfSlotsError("no slot is left for the next token and none will come free")
