"""The operations of a decoder on a CPU.

A promise, in exact mode: a row of a result has the same bits whatever other rows are computed
with it. Element by element operations keep it by themselves. A matrix product may not: the
library may pick its kernel, and with it the order of its sums, by the number of rows. ``probe``
finds out, for the very shapes of a model, which numbers of rows give the same bits, and
``Numerics`` says what came of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evalkit.engine import plan
from evalkit.engine.config import Activation
from evalkit.engine.ops import products
from evalkit.engine.ops.products import Linear

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

TILE_SIZES = (1, 4, 16, 64)
ROW_MULTIPLE = 16
KEY_MULTIPLE = 16
_NEVER = 1 << 30  # more rows, or keys, than there are
_LOWEST = -1e30  # below every log-sum-exp; minus infinity less itself would not be a number
_TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """How to call the library so that a row's bits are its own.

    ``min_rows``: products are called with at least so many rows. ``fixed``: shapes (n, k) of
    weights for which only calls with exactly so many rows agree. ``tile_sizes``,
    ``row_multiple`` and ``key_multiple``: with what numbers of queries and keys attention may be
    called. ``does_fuse``: gated units may be computed by ``products.gated``. ``is_exact``: a
    row's bits were found to be its own, called like that.
    """

    is_exact: bool = False
    min_rows: int = 1
    fixed: frozenset[tuple[int, int]] = frozenset()
    tile_sizes: tuple[int, ...] = TILE_SIZES
    row_multiple: int = ROW_MULTIPLE
    key_multiple: int = KEY_MULTIPLE
    does_fuse: bool = False


def linear(x: Tensor, weight: Tensor, numerics: Numerics) -> Tensor:
    """As ``products.product``, called as the numerics ask."""
    if tuple(weight.shape) in numerics.fixed:
        return products.in_tiles(x, weight)
    return products.product(x, weight)


def look_up_functions() -> None:
    """Call each elementary function once, on one thread, before any is called on several.

    The library looks up its code for them when they are first called; where two threads do so at
    once, one of them may get the code with half the digits. Measured with torch 2.13 and MKL: in 4
    of 80 fresh processes half of the first ``exp`` was wrong by up to 1.5e-4.
    """
    for function in (torch.exp, torch.log, torch.tanh, torch.erf, torch.cos, torch.sin):
        function(torch.ones(1))


def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """As ``ref.rms_norm``; float32 (rows, d)."""
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True).add_(eps))
    return (x * scale).mul_(weight)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    """As ``ref.layer_norm``; float32 (rows, d), each row by itself."""
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As ``ref.rotate``: x (rows, heads, d), float32 cos and sin (rows, 1, r / 2).

    What a head has beyond the first r dimensions stays as it is.
    """
    half = cos.shape[-1]
    x = x.float()
    a, b = x[..., :half], x[..., half : 2 * half]
    turned = torch.empty(x.shape)
    torch.mul(a, cos, out=turned[..., :half]).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=turned[..., half : 2 * half]).addcmul_(a, sin)
    turned[..., 2 * half :] = x[..., 2 * half :]
    return turned


def gated(x: Tensor, gate: Linear, up: Linear, activation: Activation, how: Numerics) -> Tensor:
    """As ``ref.gated`` of two products with x (rows, k), (rows, n), in the dtype of the weights."""
    if how.does_fuse:
        return products.gated(x, gate, up, activation)
    opened, passed = (
        product if one.bias is None else product + one.bias
        for one in (gate, up)
        for product in [linear(x, one.weight, how).float()]
    )
    return activate(opened, activation).mul_(passed).to(x.dtype)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """As ``ref.activate``; float32, of any shape.

    Of ``exp``, ``tanh`` and ``erf`` and not by ``silu`` and ``gelu``: those treat the last elements
    of a thread's share one by one, with another exponential, and where the shares end depends on
    the number of rows.
    """
    if activation == "silu":
        return x.neg().exp_().add_(1).reciprocal_().mul_(x)
    if activation == "gelu":
        return x.mul(math.sqrt(0.5)).erf_().add_(1).mul_(x).mul_(0.5)
    inner = x.square().mul_(0.044715).add_(1).mul_(x).mul_(math.sqrt(2 / math.pi))
    return inner.tanh_().add_(1).mul_(x).mul_(0.5)


class Shared(NamedTuple):
    """``plan.Shared`` with tensors."""

    place: int
    slots: Tensor  # (w, block_size)
    low: int
    high: int
    begin: int
    end: int


class Tile(NamedTuple):
    """``plan.Tile`` with tensors."""

    place: int
    slots: Tensor  # (w, n_keys)
    rows: Tensor | slice  # (w * size,) where the queries are; a slice where they are neighbours
    targets: Tensor | slice  # where the results go: for no row, one beyond the last
    mask: Tensor  # (w, 1, size * group, n_keys) 0 where seen, else -inf


class Chunk(NamedTuple):
    """``plan.Chunk`` with tensors."""

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
        parts += [_of_tile(q, cache, one, how) for one in chunk.tiles]
        if parts:  # else this is before the window of every row
            found = _together(parts, chunk.n_blocks, (len(q) + 1, *q.shape[1:]))
            state = found if state is None else _fold(*state, *found)
    assert state is not None
    return state[0][: len(q)]


class _Attention(NamedTuple):
    scale: float | None
    softcap: float


def _of_shared(q: Tensor, cache: Tensor, one: Shared, how: _Attention) -> Iterator[_Part]:
    w, (_, group, kv_heads, d) = len(one.slots), q.shape
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


def _of_tile(q: Tensor, cache: Tensor, one: Tile, how: _Attention) -> _Part:
    w, (_, group, kv_heads, d) = len(one.slots), q.shape
    rows = q[one.rows] if isinstance(one.rows, slice) else q.index_select(0, one.rows)
    out, lse = _average(rows.view(w, -1, kv_heads, d), cache, one.slots, one.mask, how)
    return _Part(
        place=one.place,
        rows=one.targets,
        out=out.reshape(-1, group, kv_heads, d),
        lse=lse.reshape(-1, group, kv_heads),
    )


def _average(
    q: Tensor, cache: Tensor, slots: Tensor, mask: Tensor | None, how: _Attention
) -> tuple[Tensor, Tensor]:
    """Outputs (w, n, kv_heads, d) and log-sum-exps (w, n, kv_heads) of q (w, n, kv_heads, d)."""
    heads = q.shape[2:]
    # Not index_select: embedding copies rows 1.5 times as fast.
    k, v = (F.embedding(slots, side).view(*slots.shape, *heads).transpose(1, 2) for side in cache)
    q = q.transpose(1, 2)
    if how.softcap:
        scale = how.scale or q.shape[-1] ** -0.5
        out, lse = _capped(q, k, v, mask, scale=scale, softcap=how.softcap)
    else:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, attn_mask=mask, scale=how.scale
        )
    return out.transpose(1, 2).float(), lse.transpose(1, 2).float()


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
            out[part.rows].addcmul_(part.out, weight[part.rows])
        else:
            sum_so_far = out.index_select(0, part.rows)
            sum_so_far.addcmul_(part.out, weight.index_select(0, part.rows))
            out.index_copy_(0, part.rows, sum_so_far)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What rows predict: logits, and what is to be taken off them for log-probabilities."""

    best: IntArray  # (n,) the likeliest token; of equals the first
    highest: FloatArray  # (n,) its logit
    log_total: FloatArray  # (n,) log of the sum of exp(logit - highest)
    asked: FloatArray  # (m,) the log-probabilities asked for
    kept: Mapping[int, FloatArray]  # row -> logits (vocabulary,)

    def logprob(self, row: int, logit: float) -> float:
        """The log-probability of a token of a row by its logit."""
        return float(np.float32(logit) - self.highest[row] - self.log_total[row])


def predict(
    hidden: Tensor,
    head: Sequence[Tensor],
    numerics: Numerics,
    *,
    asked: tuple[IntArray, IntArray],
    kept: Sequence[int] = (),
    softcap: float = 0.0,
) -> Predicted:
    """What final hidden states (n, d) predict, by a head in parts (vocabulary / parts, d).

    ``asked`` are rows (m,) and tokens (m,) whose log-probabilities are wanted; of the rows in
    ``kept`` all logits are returned. Otherwise the logits of one part of the vocabulary exist at
    a time. All float32. ``softcap`` as in ``attend``.
    """
    n, (rows, tokens) = len(hidden), asked
    padded = F.pad(hidden, (0, 0, 0, max(0, numerics.min_rows - n)))
    logits_asked = np.zeros(len(rows), dtype=np.float32)
    logits_kept: dict[int, list[FloatArray]] = {row: [] for row in kept}
    best, highest, sums = np.zeros(n, dtype=np.int64), torch.full((n,), -math.inf), []
    first = 0
    for part in head:
        logits = linear(padded, part, numerics)[:n]
        if softcap:
            logits = logits.div_(softcap).tanh_().mul_(softcap)
        array = logits.numpy()
        at = array.argmax(-1)
        top = torch.from_numpy(np.take_along_axis(array, at[:, None], -1))[:, 0]
        best[(top > highest).numpy()] = (at + first)[(top > highest).numpy()]
        highest = torch.maximum(highest, top)
        here = np.flatnonzero((tokens >= first) & (tokens < first + len(part)))
        logits_asked[here] = array[rows[here], tokens[here] - first]
        for row, parts in logits_kept.items():
            parts.append(array[row].copy())
        sums.append((top, logits.sub_(top[:, None]).exp_().sum(-1)))
        first += len(part)
    total = torch.zeros(n)
    for top, sum_of_part in sums:
        total += sum_of_part * (top - highest).exp()
    log_total = total.log().numpy()
    return Predicted(
        best=best,
        highest=highest.numpy(),
        log_total=log_total,
        asked=logits_asked - highest.numpy()[rows] - log_total[rows],
        kept={row: np.concatenate(parts) for row, parts in logits_kept.items()},
    )


def probe(
    weights: Iterable[Tensor],
    *,
    gate: Tensor | None = None,
    activation: Activation = "silu",
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    softcap: float = 0.0,
) -> Numerics:
    """How to call the library in exact mode, found by comparing bits on a model's own shapes.

    ``weights`` are one of each shape; ``gate`` is that of a gated unit.
    """
    shapes = {(w.shape[0], w.shape[1]): w for w in weights}
    fewest = {shape: products.fewest_rows(w) for shape, w in shapes.items()}
    fixed = {shape: shapes[shape] for shape, n in fewest.items() if n is None}
    is_exact = all(products.places_agree(w) for w in fixed.values())
    tile_sizes, row_multiple, key_multiple = _probe_attention(
        (n_heads // n_kv_heads, n_kv_heads, head_dim), dtype, softcap
    )
    return Numerics(
        is_exact=is_exact,
        min_rows=max(n or products.FEWEST_ROWS[0] for n in fewest.values()),
        fixed=frozenset(fixed),
        tile_sizes=tile_sizes,
        row_multiple=row_multiple,
        key_multiple=key_multiple,
        does_fuse=gate is not None and not fixed and products.does_fuse(gate, activation),
    )


def _probe_attention(
    heads: tuple[int, int, int], dtype: torch.dtype, softcap: float
) -> tuple[tuple[int, ...], int, int]:
    """The tile sizes and row and key multiples that give the bits of the largest with all keys."""
    n_keys, largest = plan.BLOCK_SIZE, TILE_SIZES[-1]
    n_rows = 8 * largest
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(n_rows, *heads, generator=generator).to(dtype)
    cache = torch.randn(2, n_keys, heads[1] * heads[2], generator=generator).to(dtype)

    def in_tiles(size: int, n_shown: int, n_seen: int = 0) -> Tensor:
        rows = np.arange(n_rows).reshape(-1, size)
        keys = np.arange(n_shown)
        last = rows % n_seen if n_seen else np.full_like(rows, n_keys)
        tile = plan.Tile(
            place=0,
            n_rows=n_rows,
            slots=np.broadcast_to(keys, (len(rows), n_shown)).copy(),
            rows=rows,
            is_seen=keys <= last[:, :, None],
        )
        chunk = plan.Chunk(1, (), (tile,))
        return attend(q, cache, [as_tensors(chunk, heads[0], dtype)], softcap=softcap)

    def shared(n: int) -> Tensor:
        one = plan.Shared(0, np.arange(n_keys)[None], 0, n, 0, n)
        chunk = as_tensors(plan.Chunk(1, (one,), ()), heads[0], dtype)
        return attend(q[:n], cache, [chunk], softcap=softcap)

    seen = (KEY_MULTIPLE, 3 * KEY_MULTIPLE, n_keys)
    expected = {n: in_tiles(largest, n_keys, n) for n in seen}
    do_keys_agree = all(torch.equal(in_tiles(largest, n, n), expected[n]) for n in seen)
    tile_sizes = tuple(
        size
        for size in TILE_SIZES
        if all(
            torch.equal(in_tiles(size, n if do_keys_agree else n_keys, n), expected[n])
            for n in seen
        )
    )
    everything = in_tiles(largest, n_keys)
    counts = (*range(ROW_MULTIPLE, 9 * ROW_MULTIPLE, ROW_MULTIPLE), n_rows)
    do_rows_agree = all(torch.equal(shared(n), everything[:n]) for n in counts)
    return (
        tile_sizes or TILE_SIZES[-1:],
        ROW_MULTIPLE if do_rows_agree else _NEVER,
        KEY_MULTIPLE if do_keys_agree else _NEVER,
    )


def as_tensors(chunk: plan.Chunk, group: int, dtype: torch.dtype) -> Chunk:
    """The plan of a chunk for queries of ``group`` heads to a key-value head."""
    return Chunk(
        n_blocks=chunk.n_blocks,
        shared=tuple(
            Shared(s.place, torch.from_numpy(s.slots), s.low, s.high, s.begin, s.end)
            for s in chunk.shared
        ),
        tiles=tuple(_tile_as_tensors(tile, group, dtype) for tile in chunk.tiles),
    )


def _tile_as_tensors(tile: plan.Tile, group: int, dtype: torch.dtype) -> Tile:
    targets: Tensor | slice
    rows: Tensor | slice
    flat = tile.rows.reshape(-1)
    first, n = int(flat[0]), len(flat)
    if np.array_equal(flat, np.arange(first, first + n)) and first + n <= tile.n_rows:
        rows = targets = slice(first, first + n)
    else:
        targets = torch.from_numpy(flat)
        rows = targets.masked_fill(targets == tile.n_rows, 0)
    is_seen = torch.from_numpy(tile.is_seen)
    mask = torch.zeros(is_seen.shape, dtype=dtype).masked_fill_(~is_seen, float("-inf"))
    return Tile(
        place=tile.place,
        slots=torch.from_numpy(tile.slots),
        rows=rows,
        targets=targets,
        mask=mask.repeat_interleave(group, 1).unsqueeze(1),
    )
