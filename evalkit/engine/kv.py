"""Keys and values of past tokens, in slots that sequences share.

A slot holds the key and the value of one token, for every layer. A sequence is a table of slots.
A fork goes on from the slots of its parent with slots of its own, so a branch copies nothing,
wherever it is, and memory is counted in tokens. A sequence that will be read again for each of
many tokens settles: what it shares with no other moves to pages, a block of positions to each,
which attention reads where they are instead of gathering them first.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
IdArray = NDArray[np.integer[Any]]  # of tokens; int32 where many wait

BLOCK_SIZE = 128  # attention to so many positions is one softmax; a page has as many slots


class OutOfSlotsError(RuntimeError):
    """A slot was asked for that nobody had reserved; a defect of the planner, not of the input."""


class SlotPool:
    """Counts which slots are free. Knows nothing of what is in them.

    The slots are cut into pages, after a first few that fill none. A page is free while all its
    slots are; other free slots are loose, and handed out before another page is broken up. What
    is reserved, in slots or in pages, is promised to a table and still free.
    """

    def __init__(self, n_slots: int, *, page_size: int = BLOCK_SIZE) -> None:
        self.n_slots = n_slots
        self.page_size = page_size
        n_pages, self._n_first = divmod(n_slots, page_size)
        self._is_free = np.arange(n_pages + 1) > 0  # by page; the first slots are page 0
        self._n_held = np.zeros(n_pages + 1, dtype=np.int64)  # by page: slots
        self._loose = np.arange(self._n_first - 1, -1, -1)  # a stack
        self._n_free_pages = n_pages
        self._n_reserved = 0
        self._n_reserved_pages = 0

    @property
    def n_available(self) -> int:
        """How many slots are neither held nor reserved."""
        n_pages = self._n_free_pages - self._n_reserved_pages
        return n_pages * self.page_size + len(self._loose) - self._n_reserved

    def reserve(self, n: int) -> bool:
        """Promise ``n`` slots to the caller; False, and nothing done, if there are not so many."""
        if n > self.n_available:
            return False
        self._n_reserved += n
        return True

    def reserve_pages(self, n: int) -> bool:
        """As ``reserve``, of whole pages."""
        n_to_break = _n_pages(max(0, self._n_reserved - len(self._loose)), self.page_size)
        if n > self._n_free_pages - self._n_reserved_pages - n_to_break:
            return False
        self._n_reserved_pages += n
        return True

    def unreserve(self, n: int) -> None:
        self._n_reserved -= n

    def unreserve_pages(self, n: int) -> None:
        self._n_reserved_pages -= n

    def allocate(self, n: int) -> IntArray:
        """Take ``n`` slots out of what was reserved."""
        if self._n_reserved < n:
            raise OutOfSlotsError("slots were taken that were not reserved")
        self._n_reserved -= n
        while len(self._loose) < n:
            self._loose = np.concatenate([self._take_page()[::-1], self._loose])
        n_left = len(self._loose) - n
        slots = self._loose[n_left:][::-1].copy()
        self._loose = self._loose[:n_left]
        self._n_held += self._by_page(slots)
        return slots

    def allocate_page(self) -> IntArray:
        """Take the slots of a page out of what was reserved in pages."""
        if self._n_reserved_pages < 1:
            raise OutOfSlotsError("a page was taken that was not reserved")
        self._n_reserved_pages -= 1
        slots = self._take_page()
        self._n_held += self._by_page(slots)
        return slots

    def release(self, slots: IntArray) -> None:
        self._n_held -= self._by_page(slots)
        self._loose = np.concatenate([self._loose, slots[::-1]])
        is_whole = ~self._is_free & (self._n_held == 0)
        is_whole[0] = False
        if is_whole.any():
            self._is_free |= is_whole
            self._n_free_pages += int(is_whole.sum())
            self._loose = self._loose[~is_whole[self._page_of(self._loose)]]

    def _take_page(self) -> IntArray:
        """The lowest free page: pages in use lie side by side, and memory grows with use."""
        page = int(self._is_free.argmax())
        self._is_free[page] = False
        self._n_free_pages -= 1
        return self._n_first + np.arange((page - 1) * self.page_size, page * self.page_size)

    def _page_of(self, slots: IntArray) -> IntArray:
        return (slots - self._n_first) // self.page_size + 1

    def _by_page(self, slots: IntArray) -> IntArray:
        return np.bincount(self._page_of(slots), minlength=len(self._n_held))


def _n_pages(n_slots: int, page_size: int) -> int:
    return -(-n_slots // page_size)


class Move(NamedTuple):
    """Slots whose contents are to be copied, and where to."""

    source: IntArray
    target: IntArray


@dataclass(slots=True, eq=False)
class Table:
    """The slots of one sequence, in order; those up to where it was forked are its parent's.

    ``quota`` more tokens have slots reserved in the pool: pages if it is settled. From
    ``paged_from`` on, a multiple of the size of a page, its positions lie in pages; of the last
    one it holds the ``spare`` slots too.
    """

    pool: SlotPool
    slots: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    quota: int = 0
    paged_from: int | None = None
    spare: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _parent: Table | None = None
    _n_inherited: int = 0
    _n_holders: int = 1  # itself, and its forks

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.slots)

    def fork(self) -> Table:
        """A sequence that starts with the same tokens and has no quota."""
        self._n_holders += 1
        return Table(pool=self.pool, slots=self.slots, _parent=self, _n_inherited=self.length)

    def extend(self, n: int) -> None:
        """Make room for ``n`` more tokens, out of the quota."""
        if self.quota < n:
            raise OutOfSlotsError("a sequence has used up its reserved slots")
        self.quota -= n
        if self.paged_from is None:
            self.slots = np.concatenate([self.slots, self.pool.allocate(n)])
            return
        while len(self.spare) < n:
            self.spare = np.concatenate([self.spare, self.pool.allocate_page()])
        self.slots = np.concatenate([self.slots, self.spare[:n]])
        self.spare = self.spare[n:]

    def settle(self) -> Move | None:
        """Move to pages from the block on in which begins what no other sequence holds.

        The contents must be copied as the result says before anything else is written. None, and
        nothing done, where there are no pages for it and its quota, or forks hold its slots.
        """
        if self._n_holders > 1 or self.paged_from is not None:
            return None
        parent, n_shared = self._parent, self._n_inherited
        while parent is not None and parent._n_holders == 1 and parent.paged_from is None:
            n_shared, parent = parent._n_inherited, parent._parent
        size = self.pool.page_size
        begin = n_shared // size * size
        self.pool.unreserve(self.quota)
        if not self.pool.reserve_pages(_n_pages(self.length + self.quota - begin, size)):
            self.pool.reserve(self.quota)  # which can be had again
            return None
        old, n_moved = self.slots, self.length - begin
        self._parent, self._n_inherited = parent, begin
        self.slots, self.paged_from = old[:begin], begin
        self.quota += n_moved
        self.extend(n_moved)
        self.pool.release(old[n_shared:])
        return Move(old[begin:], self.slots[begin:])

    def free(self) -> None:
        """Give back what is left of the quota, and the slots when no fork needs them any more."""
        if self.paged_from is None:
            self.pool.unreserve(self.quota)
        else:
            n_left = max(0, self.quota - len(self.spare))
            self.pool.unreserve_pages(_n_pages(n_left, self.pool.page_size))
        self.quota = 0
        table: Table | None = self
        while table is not None:
            table._n_holders -= 1
            if table._n_holders:
                return
            table.pool.release(np.concatenate([table.slots[table._n_inherited :], table.spare]))
            table = table._parent


class KVCache:
    """The contents of the slots: ``layers`` (n_layers, 2, n_slots, width).

    Of the two, the first are keys and the second values; ``width`` is n_kv_heads * head_dim. A
    slot takes memory from the system only when it is first written.
    """

    def __init__(self, n_layers: int, width: int, n_slots: int, *, dtype: torch.dtype) -> None:
        self.n_slots = n_slots
        self.layers = _lazy_zeros((n_layers, 2, n_slots, width), dtype)

    def copy(self, move: Move) -> None:
        """Copy the contents of slots, of all layers."""
        source, target = (torch.from_numpy(slots) for slots in move)
        self.layers.index_copy_(2, target, self.layers.index_select(2, source))

    def clear(self, slots: IntArray) -> None:
        """Fill neighbouring slots with zeros: a mask hides what is in them, but not a NaN."""
        if len(slots):
            self.layers[:, :, int(slots[0]) : int(slots[-1]) + 1] = 0


def _lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeros that take no memory until written, and then no more than was written, nearly.

    Of a mapping and not of numpy or torch: numpy has the system give memory in pages of 2 MB,
    which a few slots of each layer fill with zeros for a third of a second. Keys begin at a
    multiple of 64 bytes, as in what is gathered, so that both are read in the same way.
    """
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, access=mmap.ACCESS_COPY)
    return torch.frombuffer(memory, dtype=dtype).view(shape)
