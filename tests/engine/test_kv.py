from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalkit.engine.kv import KVCache, OutOfSlotsError, SlotPool, Table

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["new", "fork", "extend", "free"]), st.integers(0, 5)), max_size=40
)


class Written:
    """Tables over a real cache, beside what a list per sequence would hold."""

    def __init__(self) -> None:
        self.pool = SlotPool(2000)
        self.cache = KVCache(2, 3, 2000, dtype=torch.float32)
        self.tables: list[Table] = []
        self.lists: list[list[float]] = []
        self.n_written = 0

    def extend(self, at: int, n: int) -> None:
        table = self.tables[at]
        if not self.pool.reserve(n + 1):
            return
        table.quota += n + 1
        start = table.length
        table.extend(n)
        for slot in table.slots[start:].tolist():
            self.n_written += 1
            self.cache.layers[:, :, slot] = self.n_written
            self.lists[at].append(self.n_written)

    def read(self, at: int) -> list[float]:
        return self.cache.layers[1, 1, torch.from_numpy(self.tables[at].slots), 2].tolist()


@given(OPERATIONS)
def test_a_sequence_holds_what_a_list_of_its_own_would_hold(
    operations: list[tuple[str, int]],
) -> None:
    state = Written()
    for name, at in operations:
        if name == "new" or at >= len(state.tables):
            state.tables.append(Table(pool=state.pool))
            state.lists.append([])
            state.extend(len(state.tables) - 1, 1 + 50 * at)
        elif name == "fork":
            state.tables.append(state.tables[at].fork())
            state.lists.append(list(state.lists[at]))
        elif name == "extend":
            state.extend(at, 30 * at + 1)
        else:
            state.tables.pop(at).free()
            state.lists.pop(at)
        assert [state.read(i) for i in range(len(state.tables))] == state.lists
    for table in state.tables:
        table.free()
    assert state.pool.n_available == 2000


def test_a_fork_shares_every_slot_and_copies_none() -> None:
    pool = SlotPool(20)
    assert pool.reserve(12)
    table = Table(pool=pool, quota=12)
    table.extend(12)
    fork = table.fork()
    assert (fork.slots.tolist(), pool.n_available) == (table.slots.tolist(), 8)
    assert pool.reserve(1)
    fork.quota = 1
    fork.extend(1)
    assert (fork.length, table.length, pool.n_available) == (13, 12, 7)


def test_slots_are_given_back_when_the_last_fork_is_freed() -> None:
    pool = SlotPool(10)
    assert pool.reserve(7)
    table = Table(pool=pool, quota=5)
    table.extend(5)
    fork = table.fork()
    fork.quota = 2
    fork.extend(1)
    table.free()
    assert pool.n_available == 3
    fork.free()
    assert pool.n_available == 10


def test_more_slots_than_are_available_are_not_reserved() -> None:
    pool = SlotPool(3)
    assert pool.reserve(2)
    assert not pool.reserve(2)
    assert pool.n_available == 1


def test_a_slot_beyond_the_quota_is_refused() -> None:
    pool = SlotPool(30)
    assert pool.reserve(8)
    with pytest.raises(OutOfSlotsError):
        Table(pool=pool, quota=8).extend(9)


def test_a_slot_that_nobody_reserved_is_refused() -> None:
    with pytest.raises(OutOfSlotsError):
        SlotPool(3).allocate(1)


def test_slots_are_handed_out_from_the_lowest_so_that_memory_grows_with_use() -> None:
    pool = SlotPool(1000)
    assert pool.reserve(5)
    assert pool.allocate(5).tolist() == [0, 1, 2, 3, 4]
    pool.release(np.array([2, 3]))
    assert pool.reserve(2)
    assert sorted(pool.allocate(2).tolist()) == [2, 3]
