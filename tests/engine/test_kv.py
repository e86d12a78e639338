from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalkit.engine.kv import KVCache, OutOfSlotsError, SlotPool, Table

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["new", "fork", "extend", "settle", "free"]), st.integers(0, 5)),
    max_size=40,
)

PAGE = 32


class Written:
    """Tables over a real cache, beside what a list per sequence would hold."""

    def __init__(self) -> None:
        self.pool = SlotPool(2000, page_size=PAGE)
        self.cache = KVCache(2, 3, 2000, dtype=torch.float32)
        self.tables: list[Table] = []
        self.lists: list[list[float]] = []
        self.n_written = 0

    def extend(self, at: int, n: int) -> None:
        table = self.tables[at]
        if table.paged_from is None and self.pool.reserve(n + 1):
            table.quota += n + 1
        n = min(n, table.quota)
        start = table.length
        table.extend(n)
        for slot in table.slots[start:].tolist():
            self.n_written += 1
            self.cache.layers[:, :, slot] = self.n_written
            self.lists[at].append(self.n_written)

    def settle(self, at: int) -> None:
        """If a table is settled, what it shares with no other lies in whole pages after it."""
        table = self.tables[at]
        move = table.settle()
        if move is not None:
            self.cache.copy(move)
            self.cache.clear(table.spare)
            assert table.paged_from is not None
            own = np.concatenate([table.slots[table.paged_from :], table.spare])
            pages = own.reshape(-1, PAGE)
            assert (pages == pages[:, :1] + np.arange(PAGE)).all()

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
        elif name == "settle":
            state.settle(at)
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


def forked(pool: SlotPool, n_shared: int, n_own: int, n_more: int) -> tuple[Table, Table]:
    """A table of ``n_shared`` tokens, and a fork of it that has more and may go on."""
    assert pool.reserve(n_shared + n_own + n_more)
    parent = Table(pool=pool, quota=n_shared)
    parent.extend(n_shared)
    fork = parent.fork()
    fork.quota = n_own + n_more
    fork.extend(n_own)
    return parent, fork


def test_what_is_shared_stays_where_it_is_and_the_block_in_which_the_rest_begins_is_copied() -> (
    None
):
    pool = SlotPool(80, page_size=8)
    parent, fork = forked(pool, 20, 3, 6)
    move = fork.settle()
    assert move is not None
    assert fork.paged_from == 16
    assert fork.slots[:16].tolist() == parent.slots[:16].tolist()
    assert move.source[:4].tolist() == parent.slots[16:].tolist()
    assert move.target.tolist() == fork.slots[16:].tolist()
    fork.extend(6)
    assert (np.diff(fork.slots[16:24]) == 1).all()
    fork.free()
    parent.free()
    assert pool.n_available == 80


def test_what_was_shared_with_a_sequence_that_has_ended_moves_too() -> None:
    pool = SlotPool(80, page_size=8)
    parent, fork = forked(pool, 20, 3, 1)
    parent.free()
    assert fork.settle() is not None
    assert (fork.paged_from, pool.n_available) == (0, 80 - 3 * 8)
    fork.free()
    assert pool.n_available == 80


def test_a_sequence_whose_slots_a_fork_needs_does_not_move() -> None:
    pool = SlotPool(80, page_size=8)
    parent, fork = forked(pool, 20, 3, 1)
    assert parent.settle() is None
    assert fork.settle() is not None
    assert fork.settle() is None  # it has moved


def test_a_sequence_stays_where_it_is_when_no_page_can_be_had() -> None:
    pool = SlotPool(24, page_size=8)
    _, fork = forked(pool, 9, 2, 6)
    assert fork.settle() is None
    assert pool.n_available == 24 - 9 - 2 - 6
    fork.extend(6)
    assert (fork.length, fork.paged_from) == (17, None)


def test_a_page_of_which_slots_are_promised_is_not_given_away() -> None:
    pool = SlotPool(20, page_size=8)  # two pages, and four slots that fill none
    assert pool.reserve(5)
    assert not pool.reserve_pages(2)
    assert pool.reserve_pages(1)
    assert pool.n_available == 20 - 5 - 8
    assert not pool.reserve(8)
    pool.allocate(5)
    pool.allocate_page()
    assert pool.n_available == 7


def test_slots_that_come_back_make_a_page_again() -> None:
    pool = SlotPool(16, page_size=8)
    assert pool.reserve(16)
    slots = pool.allocate(16)
    pool.release(slots[[1, 3, 5, 7, 9, 11]])
    pool.release(slots[[0, 2, 4, 6]])
    assert pool.reserve_pages(1)
    assert not pool.reserve_pages(1)
    assert pool.allocate_page().tolist() == list(range(8))


def test_a_page_that_nobody_reserved_is_refused() -> None:
    with pytest.raises(OutOfSlotsError):
        SlotPool(30, page_size=8).allocate_page()


def test_a_cleared_slot_holds_zeros_in_every_layer_and_its_neighbours_do_not() -> None:
    cache = KVCache(3, 4, 10, dtype=torch.bfloat16)
    cache.layers[:] = math.nan
    cache.clear(np.array([4, 5, 6]))
    cache.clear(np.array([], dtype=np.int64))
    assert (cache.layers[:, :, 4:7] == 0).all()
    assert cache.layers[:, :, [3, 7]].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slots_begin_as_zeros_at_a_multiple_of_64_bytes(dtype: torch.dtype) -> None:
    cache = KVCache(2, 6, 50, dtype=dtype)
    assert cache.layers.dtype is dtype
    assert (cache.layers == 0).all()
    assert cache.layers.data_ptr() % 64 == 0
