"""What to compute, in which order: a radix trie of token ids, walked into ragged steps.

All sequences are known before the first is computed. Sorted, they form a trie whose edges are
the runs of tokens that a set of sequences shares; walked depth first, each edge is computed once
and its slots are given back after its last descendant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from evalkit.engine.kv import IdArray, OutOfSlotsError, SlotPool, Table
from evalkit.engine.steps import StepBuilder


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
