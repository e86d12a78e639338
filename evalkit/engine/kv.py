"""Keys and values of past tokens, in slots that sequences share.

A slot holds the key and the value of one token, for every layer. A sequence is a table of slots.
A fork goes on from the slots of its parent with slots of its own, so a branch copies nothing,
wherever it is, and memory is counted in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
IdArray = NDArray[np.integer[Any]]  # of tokens; int32 where many wait


class OutOfSlotsError(RuntimeError):
    """A slot was asked for that nobody had reserved; a defect of the planner, not of the input."""


class SlotPool:
    """Counts which slots are free. Knows nothing of what is in them.

    ``n_available`` slots are neither held nor promised to a table by ``reserve``.
    """

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots
        self._free = np.arange(n_slots - 1, -1, -1)  # a stack: what was freed last is taken first
        self._n_free = n_slots
        self._n_reserved = 0

    @property
    def n_available(self) -> int:
        return self._n_free - self._n_reserved

    def reserve(self, n: int) -> bool:
        """Promise ``n`` slots to the caller; False, and nothing done, if there are not so many."""
        if n > self.n_available:
            return False
        self._n_reserved += n
        return True

    def unreserve(self, n: int) -> None:
        self._n_reserved -= n

    def allocate(self, n: int) -> IntArray:
        """Take ``n`` slots out of what was reserved."""
        if self._n_reserved < n:
            raise OutOfSlotsError("slots were taken that were not reserved")
        self._n_reserved -= n
        self._n_free -= n
        return self._free[self._n_free : self._n_free + n][::-1].copy()

    def release(self, slots: IntArray) -> None:
        self._free[self._n_free : self._n_free + len(slots)] = slots[::-1]
        self._n_free += len(slots)


@dataclass(slots=True, eq=False)
class Table:
    """The slots of one sequence, in order; those up to where it was forked are its parent's.

    ``quota`` slots are reserved for it in the pool.
    """

    pool: SlotPool
    slots: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    quota: int = 0
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
        self.slots = np.concatenate([self.slots, self.pool.allocate(n)])

    def free(self) -> None:
        """Give back what is left of the quota, and the slots when no fork needs them any more."""
        self.pool.unreserve(self.quota)
        self.quota = 0
        table: Table | None = self
        while table is not None:
            table._n_holders -= 1
            if table._n_holders:
                return
            self.pool.release(table.slots[table._n_inherited :])
            table = table._parent


class KVCache:
    """The contents of the slots: ``layers`` (n_layers, 2, n_slots, width).

    Of the two, the first are keys and the second values; ``width`` is n_kv_heads * head_dim. A
    slot takes memory from the system only when it is first written.
    """

    def __init__(self, n_layers: int, width: int, n_slots: int, *, dtype: torch.dtype) -> None:
        self.n_slots = n_slots
        self.layers = _lazy_zeros((n_layers, 2, n_slots, width), dtype)


def _lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeros that take no memory until written: calloc by numpy, where torch would fill them.

    Zeros, not garbage: a masked key weighs 0, and 0 times a NaN would still be a NaN.
    """
    raw = np.zeros(shape, dtype={2: np.int16, 4: np.int32, 8: np.int64}[dtype.itemsize])
    return torch.from_numpy(raw).view(dtype)
