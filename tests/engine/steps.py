"""Reads a plan of attention: which slots each row sees, block by block."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.engine.steps import CHUNK, Chunk


def seen_slots(chunks: Sequence[Chunk], n_rows: int) -> list[list[int]]:
    """For each row the slots that it sees, in the order of the blocks.

    A row must not take part in a block twice, nor in a tile in which it sees nothing.
    """
    seen: list[dict[int, list[int]]] = [{} for _ in range(n_rows)]

    def note(row: int, at: int, slots: list[int]) -> None:
        assert at not in seen[row]
        assert slots
        seen[row][at] = slots

    for index, chunk in enumerate(chunks):
        for one in chunk.shared:
            assert one.begin <= one.low < one.high <= min(one.end, n_rows)
            for i, slots in enumerate(one.slots.tolist()):
                for row in range(one.low, one.high):
                    note(row, index * CHUNK + one.place + i, slots)
        for tile in chunk.tiles:
            groups = zip(tile.places.tolist(), tile.slots, tile.rows, tile.is_seen, strict=True)
            for place, slots, rows, masks in groups:
                for row, is_seen in zip(rows.tolist(), masks, strict=True):
                    if row < tile.n_rows:
                        note(row, index * CHUNK + place, slots[is_seen].tolist())
                    assert is_seen.any()  # a softmax over nothing would be a NaN
    return [[slot for at in sorted(blocks) for slot in blocks[at]] for blocks in seen]
