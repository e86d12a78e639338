from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from steps import seen_slots
from torch import Tensor

from evalkit.engine.kv import BLOCK_SIZE, KVCache, SlotPool, Table
from evalkit.engine.ops import attention, ref
from evalkit.engine.steps import Step, StepBuilder

KV_HEADS, GROUP, HEAD = 3, 3, 64
WIDTH = KV_HEADS * HEAD


def new_builder(window: int = 0) -> StepBuilder:
    return StepBuilder(
        tile_sizes=attention.TILE_SIZES,
        row_multiple=attention.ROW_MULTIPLE,
        key_multiple=attention.KEY_MULTIPLE,
        windows=(window,) if window else (),
    )


class Sequences:
    """Sequences that go on from a shared prefix, each by a token of its own at a time."""

    def __init__(self, lengths: Sequence[int], *, n_shared: int, does_settle: bool) -> None:
        self.pool = SlotPool(200 * BLOCK_SIZE)
        self.cache = KVCache(1, WIDTH, self.pool.n_slots, dtype=torch.float32)
        self.cache.layers[:] = torch.nan  # what was there before is no business of anybody
        self.tables: list[Table] = []
        root = self.extended(Table(pool=self.pool), n_shared, seed=0)
        for i, length in enumerate(lengths):
            table = self.extended(root.fork(), length, seed=1 + i)
            self.pool.reserve(300)
            table.quota = 300
            self.tables.append(table)
        root.free()
        for table in self.tables if does_settle else ():
            move = table.settle()
            assert move is not None
            self.cache.copy(move)
            self.cache.clear(table.spare)

    def extended(self, table: Table, n: int, *, seed: int) -> Table:
        """The table with ``n`` more tokens."""
        if table.quota < n:
            self.pool.reserve(n)
            table.quota = n
        table.extend(n)
        self.cache.clear(table.spare)
        self.write(table.slots[table.length - n :], seed)
        return table

    def write(self, slots: Any, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        new = torch.randn(2, len(slots), WIDTH, generator=generator)
        self.cache.layers[0][:, torch.from_numpy(slots)] = new

    def go_on(self, seed: int, *, window: int = 0) -> Step:
        builder = new_builder(window)
        for table in self.tables:
            builder.add(table, np.array([7]))
        step = builder.build()
        for slots in step.fresh:
            self.cache.clear(slots)
        self.write(step.slots, seed)
        return step

    def attended(self, q: Tensor, step: Step, calls: attention.Calls, *, window: int = 0) -> Tensor:
        """Attention of the last tokens, (rows, kv_heads * group, d)."""
        planned = step.windowed[window] if window else step.chunks
        chunks = [attention.as_tensors(chunk, GROUP, torch.float32, calls) for chunk in planned]
        found = attention.attend(q, self.cache.layers[0], chunks)
        return found.transpose(1, 2).flatten(1, 2)

    def expected(self, q: Tensor, row: int, *, window: int = 0) -> Tensor:
        slots = torch.from_numpy(self.tables[row].slots)
        k, v = self.cache.layers[0][:, slots].view(2, -1, KV_HEADS, HEAD).double()
        queries = q[row : row + 1].transpose(1, 2).flatten(1, 2).double()
        return ref.attention(queries, k, v, window=window)[0]


def queries(n: int) -> Tensor:
    return torch.randn(n, GROUP, KV_HEADS, HEAD, generator=torch.Generator().manual_seed(99))


LENGTHS = {
    "alike": [100] * 24,
    "of all lengths": [3 + 37 * i % 400 for i in range(24)],
    "few and long": [1100, 40, 1300],
}


@pytest.mark.parametrize(("n_shared", "window"), [(0, 0), (70, 0), (300, 150)])
@pytest.mark.parametrize("name", LENGTHS)
def test_a_settled_sequence_gets_the_bits_that_it_gets_where_it_was(
    name: str, n_shared: int, window: int
) -> None:
    settled, other = (
        Sequences(LENGTHS[name], n_shared=n_shared, does_settle=does) for does in (True, False)
    )
    q = queries(len(LENGTHS[name]))
    for sequences in (settled, other):
        for i, table in enumerate(sequences.tables):  # over the end of a page for some
            sequences.extended(table, 50, seed=1000 + i)
    steps = [one.go_on(2000, window=window) for one in (settled, other)]
    calls = attention.Calls()
    got, gathered, expected = (
        settled.attended(q, steps[0], calls, window=window),
        settled.attended(q, steps[0], attention.Calls(does_view=False), window=window),
        other.attended(q, steps[1], calls, window=window),
    )
    assert torch.equal(got, gathered)
    assert torch.equal(got, expected)
    for row in (0, 1, 2, len(q) - 1):
        exact = settled.expected(q, row, window=window)
        torch.testing.assert_close(got[row].double(), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LENGTHS)
def test_a_settled_sequence_sees_each_of_its_own_keys_once(name: str) -> None:
    settled = Sequences(LENGTHS[name], n_shared=200, does_settle=True)
    step = settled.go_on(1)
    expected = [table.slots.tolist() for table in settled.tables]
    assert seen_slots(step.chunks, len(expected)) == expected


def test_pages_side_by_side_are_read_in_one_call_where_they_are() -> None:
    settled = Sequences([100] * 24, n_shared=0, does_settle=True)
    [chunk] = settled.go_on(1).chunks
    tensors = attention.as_tensors(chunk, GROUP, torch.float32, attention.Calls())
    [tile] = tensors.tiles
    first, *_, last = sorted(table.slots[0] for table in settled.tables)
    n_pages = (last - first) // BLOCK_SIZE + 1
    assert tile.slots == attention.View(first, BLOCK_SIZE, n_pages, 112)


def test_whole_pages_and_begun_ones_are_read_apart_where_they_lie_apart() -> None:
    settled = Sequences([128] * 24, n_shared=0, does_settle=True)
    [chunk] = settled.go_on(1).chunks
    partial, whole = sorted(chunk.tiles, key=lambda tile: tile.slots.shape[1])
    assert (partial.slots.shape[1], whole.slots.shape[1]) == (16, 128)
    assert partial.slots.size + whole.slots.size < 1.1 * 24 * (16 + 128)


def test_pages_of_sequences_that_have_ended_are_read_with_the_others_in_vain() -> None:
    settled = Sequences([100] * 24, n_shared=0, does_settle=True)
    for gone in (3, 9, 15):
        settled.tables.pop(gone).free()
    step = settled.go_on(1)
    [tile] = step.chunks[0].tiles
    assert (np.diff(tile.slots[:, 0]) == BLOCK_SIZE).all()
    assert (tile.rows == len(settled.tables)).sum() >= 3  # the rows that stand for none
    q = queries(21)
    got = settled.attended(q, step, attention.Calls())
    for row in range(21):
        torch.testing.assert_close(got[row].double(), settled.expected(q, row), rtol=0, atol=1e-5)


def test_a_page_far_from_the_others_is_gathered() -> None:
    settled = Sequences([100] * 40, n_shared=0, does_settle=True)
    for table in settled.tables[1:39]:
        table.free()
    del settled.tables[1:39]
    [chunk] = settled.go_on(1).chunks
    [tile] = chunk.tiles
    assert tile.slots.shape == (2, 112)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [(3, 3, 64), (1, 4, 20), (7, 2, 128)])
def test_keys_may_be_read_where_they_are(heads: tuple[int, int, int], dtype: torch.dtype) -> None:
    assert attention.probe(heads, dtype, 0.0).does_view
