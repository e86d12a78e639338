"""Attention on a CPU: blocks of keys in few fused calls, and a row's blocks put together.

A row's bits do not depend on the rows beside it: a block is always one softmax, blocks are put
together in the order of positions, and the fused call is made only with numbers of rows and keys
for which ``probe`` found that it gives a row the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.engine import steps
from evalkit.engine.kv import BLOCK_SIZE, IntArray

TILE_SIZES = (1, 4, 16, 64)
ROW_MULTIPLE = 16
KEY_MULTIPLE = 16
_NEVER = 1 << 30  # more rows, or keys, than there are
_LOWEST = -1e30  # below every log-sum-exp; minus infinity less itself would not be a number
_TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """With what numbers of queries and keys the fused call may be made, as ``StepBuilder`` has it.

    ``does_view``: keys that lie at even distances may be read where they are.
    """

    tile_sizes: tuple[int, ...] = TILE_SIZES
    row_multiple: int = ROW_MULTIPLE
    key_multiple: int = KEY_MULTIPLE
    does_view: bool = True


class View(NamedTuple):
    """Slots (w, n_keys) at even distances: ``first + i * distance + j``."""

    first: int
    distance: int
    w: int
    n_keys: int


class Shared(NamedTuple):
    """``steps.Shared`` with tensors."""

    place: int
    slots: Tensor | View  # (w, block_size)
    low: int
    high: int
    begin: int
    end: int


class Tile(NamedTuple):
    """``steps.Tile`` with tensors."""

    slots: Tensor | View  # (w, n_keys)
    rows: Tensor | slice  # (w * size,) where the queries are; a slice where they are neighbours
    mask: Tensor  # (w, 1, size * group, n_keys) 0 where seen, else -inf
    order: Tensor | None  # (w,) of the groups by their blocks, if they come in another
    targets: tuple[tuple[int, Tensor | slice], ...]  # by block, where the results of its groups go


class Chunk(NamedTuple):
    """``steps.Chunk`` with tensors."""

    n_blocks: int
    shared: tuple[Shared, ...]
    tiles: tuple[Tile, ...]


class _Part(NamedTuple):
    """What some rows found in one block: averages (n, group, kv_heads, d) and log-sum-exps."""

    place: int
    rows: Tensor | slice
    out: Tensor
    lse: Tensor


def attend(
    q: Tensor,
    cache: Tensor,
    chunks: Sequence[Chunk],
    *,
    scale: float | None = None,
    softcap: float = 0.0,
) -> Tensor:
    """Attention of q (rows, group, kv_heads, d) to cache (2, n_slots, kv_heads * d).

    Each block of keys gives an average and its log-sum-exp, in one fused call for many; a row puts
    those of its blocks together in the order of positions, always the same blocks whatever else
    is computed, so that shared and private keys, long and short steps give the same bits. float32
    (rows, group, kv_heads, d). ``scale`` is what scores are multiplied by, one over the root of d
    by default; then, with a ``softcap`` c, a score s becomes c·tanh(s / c).
    """
    how = _Attention(scale=scale, softcap=softcap)
    state: tuple[Tensor, Tensor] | None = None
    for chunk in chunks:
        parts = [part for one in chunk.shared for part in _of_shared(q, cache, one, how)]
        parts += [part for one in chunk.tiles for part in _of_tile(q, cache, one, how)]
        if parts:  # else this is before the window of every row
            found = _together(parts, chunk.n_blocks, (len(q) + 1, *q.shape[1:]))
            state = found if state is None else _fold(*state, *found)
    assert state is not None
    return state[0][: len(q)]


class _Attention(NamedTuple):
    scale: float | None
    softcap: float


def _of_shared(q: Tensor, cache: Tensor, one: Shared, how: _Attention) -> Iterator[_Part]:
    w, (_, group, kv_heads, d) = _n_groups(one.slots), q.shape
    rows = q[one.begin : one.end]
    if len(q) < one.end:
        rows = F.pad(rows, (0, 0, 0, 0, 0, 0, 0, one.end - len(q)))
    queries = rows.view(1, -1, kv_heads, d).expand(w, -1, -1, -1)
    out, lse = _average(queries, cache, one.slots, None, how)
    inner = slice((one.low - one.begin) * group, (one.high - one.begin) * group)
    for i in range(w):
        yield _Part(
            place=one.place + i,
            rows=slice(one.low, one.high),
            out=out[i, inner].view(-1, group, kv_heads, d),
            lse=lse[i, inner].view(-1, group, kv_heads),
        )


def _of_tile(q: Tensor, cache: Tensor, one: Tile, how: _Attention) -> Iterator[_Part]:
    w, (_, group, kv_heads, d) = _n_groups(one.slots), q.shape
    rows = q[one.rows] if isinstance(one.rows, slice) else q.index_select(0, one.rows)
    out, lse = _average(rows.view(w, -1, kv_heads, d), cache, one.slots, one.mask, how)
    if one.order is not None:
        out, lse = out.index_select(0, one.order), lse.index_select(0, one.order)
    out, lse = out.reshape(-1, group, kv_heads, d), lse.reshape(-1, group, kv_heads)
    low = 0
    for place, rows_of_place in one.targets:
        high = low + _n_rows(rows_of_place)
        yield _Part(place=place, rows=rows_of_place, out=out[low:high], lse=lse[low:high])
        low = high


def _n_groups(slots: Tensor | View) -> int:
    return slots.w if isinstance(slots, View) else len(slots)


def _n_rows(rows: Tensor | slice) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _average(
    q: Tensor, cache: Tensor, slots: Tensor | View, mask: Tensor | None, how: _Attention
) -> tuple[Tensor, Tensor]:
    """Outputs (w, n, kv_heads, d) and log-sum-exps (w, n, kv_heads) of q (w, n, kv_heads, d)."""
    k, v = (_read(side, slots, q.shape[2:]).transpose(1, 2) for side in cache)
    q = q.transpose(1, 2)
    if how.softcap:
        scale = how.scale or q.shape[-1] ** -0.5
        out, lse = _capped(q, k, v, mask, scale=scale, softcap=how.softcap)
    else:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=mask, scale=how.scale
        )
    return out.transpose(1, 2).float(), lse.transpose(1, 2).float()


def _read(side: Tensor, slots: Tensor | View, heads: tuple[int, ...]) -> Tensor:
    """Keys or values (w, n_keys, *heads) out of a side of the cache (n_slots, kv_heads * d)."""
    if isinstance(slots, View):
        width = side.shape[1]
        return side.as_strided(
            (slots.w, slots.n_keys, *heads),
            (slots.distance * width, width, heads[1], 1),
            side.storage_offset() + slots.first * width,
        )
    # Not index_select: embedding copies rows 1.5 times as fast.
    return F.embedding(slots, side).view(*slots.shape, *heads)


def _together(
    parts: Sequence[_Part], n_blocks: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The parts of each row as one average and its log-sum-exp; ``shape`` is that of the averages.

    Rows without a part get an average of 0 and a log-sum-exp below all others.
    """
    lse = torch.full((n_blocks, *shape[:-1]), -math.inf)
    for part in parts:
        lse[part.place][part.rows] = part.lse
    highest = lse.amax(0).clamp_min_(_LOWEST)
    weights = lse.sub_(highest).exp_()
    total = weights[0].clone()
    for weight in weights[1:]:  # one after the other: a sum may be cut by how many there are
        total += weight
    weights /= total.clamp_min_(_TINY)
    out = torch.zeros(shape)
    for part in sorted(parts, key=attrgetter("place")):
        weight = weights[part.place].unsqueeze(-1)
        if isinstance(part.rows, slice):
            out[part.rows] += part.out.mul_(weight[part.rows])
        else:
            out.index_add_(0, part.rows, part.out.mul_(weight.index_select(0, part.rows)))
    return out, total.log_().add_(highest)


def _fold(out: Tensor, lse: Tensor, o: Tensor, lse_o: Tensor) -> tuple[Tensor, Tensor]:
    """Two softmax averages, each with the log of its weight, as one.

    By ``exp`` and ``log`` and not ``logaddexp``, for the reason that ``activate`` gives.
    """
    highest = torch.maximum(lse, lse_o)
    a, b = (lse - highest).exp_(), (lse_o - highest).exp_()
    total = a + b
    a, b = (a / total).unsqueeze(-1), (b / total).unsqueeze(-1)
    return out * a + o * b, total.log_().add_(highest)


def _capped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scale: float, softcap: float
) -> tuple[Tensor, Tensor]:
    """Attention with capped scores, which the library's fused call cannot; all in float32."""
    scores = torch.matmul(q.float(), k.float().transpose(-1, -2)).mul_(scale / softcap)
    scores = scores.tanh_().mul_(softcap)
    if mask is not None:
        scores += mask
    highest = scores.amax(-1, keepdim=True)
    weights = scores.sub_(highest).exp_()
    total = weights.sum(-1, keepdim=True)
    o = torch.matmul(weights, v.float()).div_(total)
    return o, total.log_().add_(highest).squeeze(-1)


def probe(heads: tuple[int, int, int], dtype: torch.dtype, softcap: float) -> Calls:
    """The calls that give queries the bits of the largest tile with all keys, gathered.

    ``heads`` are groups, key-value heads, and the size of a head.
    """
    n_keys, largest, n_places = BLOCK_SIZE, TILE_SIZES[-1], 8
    n_rows = n_places * largest
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(n_rows, *heads, generator=generator).to(dtype)
    cache = torch.randn(2, n_keys, heads[1] * heads[2], generator=generator).to(dtype)
    cache = cache.repeat(1, n_places, 1)  # the same keys for all, in several places

    def attended(chunk: steps.Chunk, *, does_view: bool = False) -> Tensor:
        tensors = as_tensors(chunk, heads[0], dtype, Calls(does_view=does_view))
        return attend(q, cache, [tensors], softcap=softcap)

    def is_same(size: int, n_shown: int, n_seen: int, *, does_view: bool = False) -> bool:
        n = size * (n_places if does_view else n_rows // size)
        got = attended(_tile_to_probe(n, size, n_shown, n_seen), does_view=does_view)
        return torch.equal(got[:n], expected[n_seen][:n])

    def is_same_shared(n: int) -> bool:
        one = steps.Shared(0, np.arange(n_keys)[None], 0, n, 0, n)
        return torch.equal(attended(steps.Chunk(1, (one,), ()))[:n], expected[_ALL][:n])

    seen = (KEY_MULTIPLE, 3 * KEY_MULTIPLE, n_keys)
    expected = {n: attended(_tile_to_probe(n_rows, largest, n_keys, n)) for n in (*seen, _ALL)}
    do_keys_agree = all(is_same(largest, n, n) for n in seen)
    shown = {n: n if do_keys_agree else n_keys for n in seen}
    tile_sizes = tuple(size for size in TILE_SIZES if all(is_same(size, shown[n], n) for n in seen))
    counts = (*range(ROW_MULTIPLE, 9 * ROW_MULTIPLE, ROW_MULTIPLE), n_rows)
    return Calls(
        tile_sizes=tile_sizes or TILE_SIZES[-1:],
        row_multiple=ROW_MULTIPLE if all(is_same_shared(n) for n in counts) else _NEVER,
        key_multiple=KEY_MULTIPLE if do_keys_agree else _NEVER,
        does_view=all(is_same(size, n_keys, n_keys, does_view=True) for size in tile_sizes),
    )


_ALL = 0  # the keys that a row of a probe sees, where it sees all


def _tile_to_probe(n_rows: int, size: int, n_shown: int, n_seen: int) -> steps.Chunk:
    """Row ``i`` sees 1 + i mod ``n_seen`` of ``n_shown`` keys of a block, or all of them."""
    rows = np.arange(n_rows).reshape(-1, size)
    keys = np.arange(n_shown)
    last = np.full_like(rows, n_shown) if n_seen == _ALL else rows % n_seen
    firsts = np.arange(len(rows)) % 8 * BLOCK_SIZE
    tile = steps.Tile(
        places=np.zeros(len(rows), dtype=np.int64),
        n_rows=n_rows,
        slots=firsts[:, None] + keys,
        rows=rows,
        is_seen=keys <= last[:, :, None],
    )
    return steps.Chunk(1, (), (tile,))


def as_tensors(chunk: steps.Chunk, group: int, dtype: torch.dtype, calls: Calls) -> Chunk:
    """The plan of a chunk for queries of ``group`` heads to a key-value head."""
    return Chunk(
        n_blocks=chunk.n_blocks,
        shared=tuple(
            Shared(s.place, _slots(s.slots, calls), s.low, s.high, s.begin, s.end)
            for s in chunk.shared
        ),
        tiles=tuple(_tile_as_tensors(tile, group, dtype, calls) for tile in chunk.tiles),
    )


def _slots(slots: IntArray, calls: Calls) -> Tensor | View:
    w, n_keys = slots.shape
    first = int(slots[0, 0])
    distance = int(slots[1, 0]) - first if w > 1 else n_keys
    if calls.does_view and distance >= 0:
        even = np.arange(first, first + w * distance, distance) if distance else first
        if np.array_equal(slots, np.reshape(even, (-1, 1)) + np.arange(n_keys)):
            return View(first, distance, w, n_keys)
    return torch.from_numpy(slots)


def _tile_as_tensors(tile: steps.Tile, group: int, dtype: torch.dtype, calls: Calls) -> Tile:
    order = np.argsort(tile.places, kind="stable")
    is_ordered = bool((tile.places[1:] >= tile.places[:-1]).all())
    places, cuts = np.unique(tile.places[order], return_index=True)
    targets = [_rows(rows, tile.n_rows) for rows in np.split(tile.rows[order], cuts[1:])]
    rows = _rows(tile.rows, tile.n_rows)
    if isinstance(rows, Tensor):
        rows = rows.masked_fill(rows == tile.n_rows, 0)
    mask = torch.zeros(tile.is_seen.shape, dtype=dtype)
    mask.masked_fill_(torch.from_numpy(~tile.is_seen), float("-inf"))
    return Tile(
        slots=_slots(tile.slots, calls),
        rows=rows,
        mask=mask.repeat_interleave(group, 1).unsqueeze(1),
        order=None if is_ordered else torch.from_numpy(order),
        targets=tuple(zip(places.tolist(), targets, strict=True)),
    )


def _rows(rows: IntArray, n_rows: int) -> Tensor | slice:
    """Rows as a slice, where they are neighbours."""
    flat = rows.reshape(-1)
    first, n = int(flat[0]), len(flat)
    if first + n <= n_rows and np.array_equal(flat, np.arange(first, first + n)):
        return slice(first, first + n)
    return torch.from_numpy(flat)
