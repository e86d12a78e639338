from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import seen_slots

from evalkit.engine.kv import IntArray, OutOfSlotsError, SlotPool, Table
from evalkit.engine.plan import Node, Start, Walker, build_trie, in_order, require
from evalkit.engine.steps import CHUNK, Step, StepBuilder

BLOCK = 4
# Few ids and short blocks: many shared prefixes, many branchings inside a block.
SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=14), min_size=1, max_size=12)


def arrays(sequences: Sequence[Sequence[int]]) -> list[IntArray]:
    unsorted = [np.array(s, dtype=np.int64) for s in sequences]
    return [unsorted[i] for i in in_order(unsorted)]


def spelled(nodes: Sequence[Node], sequences: Sequence[IntArray], at: int) -> list[int]:
    node = nodes[at]
    before = spelled(nodes, sequences, node.parent) if node.parent >= 0 else []
    return [*before, *(int(i) for i in sequences[node.low][node.start : node.end])]


@given(SEQUENCES)
def test_the_order_is_that_of_python_lists(sequences: list[list[int]]) -> None:
    assert [s.tolist() for s in arrays(sequences)] == sorted(sequences)


@given(SEQUENCES)
def test_the_path_to_a_node_spells_the_sequences_that_end_there(
    sequences: list[list[int]],
) -> None:
    ordered = arrays(sequences)
    nodes = build_trie(ordered)
    ended = [
        (i, spelled(nodes, ordered, at))
        for at, node in enumerate(nodes)
        for i in range(node.low, node.low + node.own)
    ]
    assert sorted(ended) == [(i, s.tolist()) for i, s in enumerate(ordered)]


@given(SEQUENCES)
def test_the_edges_hold_each_distinct_prefix_once(sequences: list[list[int]]) -> None:
    nodes = build_trie(arrays(sequences))
    prefixes = {tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)}
    assert sum(node.end - node.start for node in nodes) == len(prefixes)


@given(SEQUENCES)
def test_a_node_comes_after_its_parent_which_counts_it(sequences: list[list[int]]) -> None:
    nodes = build_trie(arrays(sequences))
    assert all(node.parent < at for at, node in enumerate(nodes))
    counted = Counter(node.parent for node in nodes)
    assert [node.n_children for node in nodes] == [counted[at] for at in range(len(nodes))]


class Simulation:
    """Carries out steps on slots of ids, and checks what each row would attend to."""

    def __init__(self, pool: SlotPool) -> None:
        self.slots = np.full(pool.n_slots, -1)

    def settle(self, table: Table) -> None:
        move = table.settle()
        if move is not None:
            self.slots[move.target] = self.slots[move.source]

    def run(self, step: Step, expected: Sequence[Sequence[int]]) -> None:
        """``expected[row]`` are the ids that the row must see, in order, itself the last."""
        for slots in step.fresh:
            self.slots[slots] = -1
        self.slots[step.slots] = step.tokens
        seen = seen_slots(step.chunks, len(step.tokens))
        assert [self.slots[slots].tolist() for slots in seen] == [list(e) for e in expected]


def new_builder() -> StepBuilder:
    return StepBuilder(block_size=BLOCK, tile_sizes=(1, 2, 8), row_multiple=3, key_multiple=2)


@given(SEQUENCES, st.integers(1, 9), st.integers(0, 8))
def test_each_row_sees_its_own_prefix_and_nothing_else(
    sequences: list[list[int]], n_tokens: int, n_spare: int
) -> None:
    ordered = arrays(sequences)
    pool = SlotPool(14 + n_spare)
    walker = Walker(ordered, pool)
    simulation = Simulation(pool)
    n_planned: Counter[tuple[int, ...]] = Counter()
    while not walker.is_done:
        builder = new_builder()
        spans, _ = walker.fill(builder, n_tokens)
        assert 0 < builder.n_tokens <= n_tokens
        expected = [
            ordered[span.node.low][: position + 1].tolist()
            for span in spans
            for position in range(span.start, span.end)
        ]
        n_planned.update(map(tuple, expected))
        simulation.run(builder.build(), expected)
        walker.retire()
    prefixes = {tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)}
    assert set(n_planned) == prefixes
    assert set(n_planned.values()) == {1}
    assert pool.n_available == pool.n_slots


@given(
    SEQUENCES,
    st.lists(st.integers(1, 9), min_size=12, max_size=12),
    st.integers(1, 12),
    st.sampled_from([14 + 9, 40, 300]),  # too few for pages; for some; enough
)
def test_sequences_that_go_on_see_their_prompt_and_their_own_tokens(
    sequences: list[list[int]], tails: list[int], n_active: int, n_slots: int
) -> None:
    ordered = arrays(sequences)
    pool = SlotPool(n_slots, page_size=BLOCK)
    walker = Walker(ordered, pool, tails=tails[: len(ordered)])
    simulation = Simulation(pool)
    waiting: list[Start] = []
    active: list[tuple[Start, list[int]]] = []
    n_finished = 0
    while waiting or active or not walker.is_done:
        while waiting and len(active) < n_active and has_quota(pool, waiting[0], tails):
            start = waiting.pop(0)
            active.append((start, ordered[start.sequence].tolist()))
        builder = new_builder()
        for start, ids in active:
            ids.append(100 + start.sequence)  # no other sequence has this id
            builder.add(start.table, np.array(ids[-1:]))
        expected = [list(ids) for _, ids in active]
        spans, starts = walker.fill(builder, 5, max_starts=0 if waiting else n_active - len(active))
        require(builder.n_tokens > 0 or bool(starts))
        for span in spans:
            ids = ordered[span.node.low].tolist()
            expected += [ids[: position + 1] for position in range(span.start, span.end)]
        if builder.n_tokens:
            simulation.run(builder.build(), expected)
        ended = [s for s, ids in active if len(ids) == len(ordered[s.sequence]) + tails[s.sequence]]
        for start in ended:
            start.table.free()
        n_finished += len(ended)
        active = [a for a in active if a[0] not in ended]
        walker.retire()
        for start, _ in active:
            simulation.settle(start.table)
        waiting += starts
    assert n_finished == len(ordered)
    assert pool.n_available == pool.n_slots


def has_quota(pool: SlotPool, start: Start, tails: Sequence[int]) -> bool:
    if start.table.quota == 0:
        if not pool.reserve(tails[start.sequence]):
            return False
        start.table.quota = tails[start.sequence]
    return True


def test_a_shared_block_is_read_by_the_rows_of_all_its_sequences_at_once() -> None:
    sequences = arrays([[1, 1, 1, 1, 2], [1, 1, 1, 1, 3], [1, 1, 1, 1, 4]])
    builder = new_builder()
    Walker(sequences, SlotPool(30)).fill(builder, 100)
    step = builder.build()
    [chunk] = step.chunks
    [shared] = chunk.shared
    # The last row of the block sees all of it as well; four rows are widened to six of the seven.
    assert (shared.low, shared.high, shared.begin, shared.end) == (3, 7, 1, 7)
    assert step.tokens.tolist() == [1, 1, 1, 1, 2, 3, 4]


def test_blocks_that_rows_share_are_read_in_one_call_a_chunk() -> None:
    prefix = [1] * (BLOCK * (CHUNK + 2))
    sequences = arrays([[*prefix, i] for i in range(2, 9)])
    pool, builder = SlotPool(100), new_builder()
    walker = Walker(sequences, pool)
    walker.fill(builder, len(prefix))
    builder = new_builder()
    walker.fill(builder, 100)
    chunks = builder.build().chunks
    assert [[one.slots.shape for one in chunk.shared] for chunk in chunks] == [
        [(CHUNK, BLOCK)],
        [(2, BLOCK)],
    ]


def test_a_plan_that_cannot_go_on_says_so() -> None:
    walker = Walker(arrays([[1] * 9]), SlotPool(8))
    builder = new_builder()
    walker.fill(builder, 100)
    with pytest.raises(OutOfSlotsError):
        require(builder.n_tokens > 0)


def test_a_comb_of_prefixes_takes_no_more_slots_than_its_longest() -> None:
    comb = [[0] * n + [1] for n in range(60)]
    ordered = arrays(comb)
    pool = SlotPool(61)
    walker = Walker(ordered, pool)
    simulation = Simulation(pool)
    while not walker.is_done:
        builder = new_builder()
        spans, _ = walker.fill(builder, 7)
        assert builder.n_tokens
        expected = [
            ordered[s.node.low][: p + 1].tolist() for s in spans for p in range(s.start, s.end)
        ]
        simulation.run(builder.build(), expected)
        walker.retire()
    assert pool.n_available == pool.n_slots


def test_a_table_is_extended_in_step_by_its_parent_and_its_fork() -> None:
    pool = SlotPool(3)
    assert pool.reserve(3)
    parent = Table(pool=pool, quota=2)
    builder = new_builder()
    builder.add(parent, np.array([7, 8]))
    child = parent.fork()
    child.quota = 1
    builder.add(child, np.array([9]))
    Simulation(pool).run(builder.build(), [[7], [7, 8], [7, 8, 9]])
