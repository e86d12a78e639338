"""The decoder: plain functions over a dictionary of weights.

The residual stream, the norms, the rotation and the head are float32; matrix products and the
cache are in the dtype of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.engine.config import Arch
from evalkit.engine.kv import IntArray, KVCache, SlotPool
from evalkit.engine.ops import attention, cpu, products
from evalkit.engine.steps import Step, StepBuilder
from evalkit.engine.types import Budget

_HEAD_ROWS = 128  # and so many tokens of the vocabulary: logits that exist at a time, 4 MB
_HEAD_TOKENS = 8192
# Rows are looked up in them, or so few are there that no product is worth the name.
_NOT_PACKED = ("embed.weight", "positions.weight", "score.weight")
_PRODUCTS = ("qkv", "o", "up", "down", "router", "experts.0.up", "experts.0.down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights by name, matrices packed, and what follows from them once and for all."""

    arch: Arch
    weights: Mapping[str, Tensor]
    head: tuple[Tensor, ...]  # in parts, (vocabulary / parts, d) float32, packed; or empty
    # Cosines and sines (max_length, rotated_dim / 2) float32: of layers that see all, and of those
    # with a window where they differ; empty where positions are learned.
    rotations: tuple[tuple[Tensor, Tensor], ...]
    numerics: cpu.Numerics
    spare_caches: list[KVCache] = field(default_factory=list)  # memory of finished calls

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products and the cache."""
        return self.weights["layers.0.qkv.weight"].dtype


def prepare(arch: Arch, given: dict[str, Tensor], *, exact: bool) -> Model:
    """A model of the weights; in exact mode the library's numerics are probed first.

    ``given`` is emptied on the way, since memory may not hold all weights in two layouts.
    """
    cpu.look_up_functions()
    _order_heads(arch, given)
    head = _head(arch, given)
    weights: dict[str, Tensor] = {}
    for name in list(given):
        for part, weight in _parts(arch, name, given.pop(name)):
            is_packed = weight.dim() == 2 and part not in _NOT_PACKED
            weights[part] = products.pack(weight) if is_packed else weight
    numerics = cpu.Numerics()
    if exact:
        first = {name: weights.get(f"layers.0.{name}.weight") for name in _PRODUCTS}
        up = first["up"] if first["up"] is not None else first["experts.0.up"]
        numerics = cpu.probe(
            [*head[:1], *head[-1:], *(weight for weight in first.values() if weight is not None)],
            gate=up if arch.is_gated else None,
            activation=arch.activation,
            n_heads=arch.n_heads,
            n_kv_heads=arch.n_kv_heads,
            head_dim=arch.head_dim,
            dtype=weights["layers.0.qkv.weight"].dtype,
            softcap=arch.attn_softcap,
        )
    return Model(
        arch=arch, weights=weights, head=head, rotations=_rotations(arch), numerics=numerics
    )


def _head(arch: Arch, weights: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The vocabulary's head in parts; none where a model gives scores instead."""
    if arch.n_scores:
        return ()
    whole = weights["embed.weight" if arch.tie_embeddings else "head.weight"]
    return tuple(products.pack(part.float()) for part in torch.split(whole, _HEAD_TOKENS))


def _parts(arch: Arch, name: str, weight: Tensor) -> list[tuple[str, Tensor]]:
    """What the model keeps of a weight: all but the head, and the halves of a gated unit apart."""
    if name == "head.weight":
        return []
    if ".gate_up." not in name:
        return [(name, weight)]
    names = ("gate", "up") if arch.is_gated else ("up",)
    halves = weight.chunk(len(names))
    return [(name.replace("gate_up", part), half) for part, half in zip(names, halves, strict=True)]


def _order_heads(arch: Arch, weights: dict[str, Tensor]) -> None:
    """Put the query heads in the order (group, key-value head), in place of the opposite.

    So the rows and groups of a query lie as the keys do, and attention copies neither.
    """
    n, d = arch.n_kv_heads, arch.head_dim
    order = torch.arange(arch.n_heads * d).view(n, -1, d).transpose(0, 1).flatten()
    for name in list(weights):
        if name.endswith(("qkv.weight", "qkv.bias")):
            queries, others = weights[name].tensor_split([len(order)])
            weights[name] = torch.cat([queries[order], others])
        elif name.endswith(".o.weight"):
            weights[name] = weights[name][:, order]


def _rotations(arch: Arch) -> tuple[tuple[Tensor, Tensor], ...]:
    if arch.positions == "learned":
        return ()
    half = arch.rotated_dim // 2
    # The angles in float32, as the models were trained with them.
    places = torch.arange(half, dtype=torch.float32) / half
    positions = torch.arange(arch.max_length, dtype=torch.float32)
    rates = 1.0 / arch.rope_theta**places
    if arch.rope_divisors:
        rates /= torch.tensor(arch.rope_divisors, dtype=torch.float32)
    angles = [torch.outer(positions, rates)]
    if arch.local_rope_theta:
        angles.append(torch.outer(positions, 1.0 / arch.local_rope_theta**places))
    scales = (arch.rope_scale, 1.0)
    return tuple((a.cos() * s, a.sin() * s) for a, s in zip(angles, scales, strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What a step is to every layer."""

    cache: Tensor  # (n_layers, 2, n_slots, width)
    slots: Tensor  # of the tokens, which are the first rows
    turns: tuple[tuple[Tensor, Tensor], ...]  # cosines and sines of the rows, as in ``Model``
    chunks: Mapping[int, Sequence[attention.Chunk]]  # by window; 0 is all


@torch.inference_mode()
def forward(model: Model, step: Step, cache: KVCache, rows: IntArray) -> Tensor:
    """Compute a step, leaving its keys and values in the cache.

    Returns the final, normed hidden states (len(rows), d), float32, of the rows asked for.
    """
    arch, weights = model.arch, model.weights
    n_padding = max(0, model.numerics.min_rows - len(step.tokens))
    tokens, positions = (
        F.pad(torch.from_numpy(ids), (0, n_padding)) for ids in (step.tokens, step.positions)
    )
    group = arch.n_heads // arch.n_kv_heads
    for slots in step.fresh:
        cache.clear(slots)
    call = _Call(
        cache=cache.layers,
        slots=torch.from_numpy(step.slots),
        turns=tuple(
            (cos[positions].unsqueeze(1), sin[positions].unsqueeze(1))
            for cos, sin in model.rotations
        ),
        chunks={
            window: [
                attention.as_tensors(chunk, group, model.dtype, model.numerics.attention)
                for chunk in (step.windowed[window] if window else step.chunks)
            ]
            for window in {arch.window(i) for i in range(arch.n_layers)}
        },
    )
    x = F.embedding(tokens, weights["embed.weight"]).float()
    if arch.embed_scale != 1:
        x *= arch.embed_scale
    if arch.positions == "learned":
        x += F.embedding(positions, weights["positions.weight"])
    wanted = F.pad(torch.from_numpy(rows), (0, max(0, model.numerics.min_rows - len(rows))))
    for i in range(arch.n_layers):
        x = _layer(model, i, x, call, wanted if i == arch.n_layers - 1 else None)
    return _norm(model, "norm", x)[: len(rows)]


_NOTHING = np.empty(0, dtype=np.int64)


@torch.inference_mode()
def predict(
    model: Model,
    hidden: Tensor,
    *,
    asked: tuple[IntArray, IntArray] = (_NOTHING, _NOTHING),
    kept: Sequence[int] = (),
) -> Iterator[tuple[range, cpu.Predicted]]:
    """What final hidden states predict, as ``cpu.predict``, for some rows at a time.

    Yields the rows with what they predict; rows in it count from the first of them.
    """
    rows, tokens = asked
    for low in range(0, len(hidden), _HEAD_ROWS):
        part = range(low, min(low + _HEAD_ROWS, len(hidden)))
        here = (rows >= low) & (rows < part.stop)
        yield (
            part,
            cpu.predict(
                hidden[low : part.stop],
                model.head,
                model.numerics,
                asked=(rows[here] - low, tokens[here]),
                kept=[row - low for row in kept if row in part],
                softcap=model.arch.logit_softcap,
            ),
        )


@contextmanager
def lent_cache(model: Model, longest: int, budget: Budget) -> Iterator[tuple[SlotPool, KVCache]]:
    """A pool of slots within the budget, or as large as a sequence of ``longest`` needs.

    The memory is kept for the next call; calls at the same time get one each.
    """
    width = model.arch.n_kv_heads * model.arch.head_dim
    slot_bytes = 2 * model.arch.n_layers * width * model.dtype.itemsize
    n_slots = max(longest, budget.cache_bytes // slot_bytes)
    try:
        cache = model.spare_caches.pop()
    except IndexError:
        cache = None
    if cache is None or cache.n_slots != n_slots:
        cache = KVCache(model.arch.n_layers, width, n_slots, dtype=model.dtype)
    try:
        yield SlotPool(n_slots), cache
    finally:
        if not model.spare_caches:
            model.spare_caches.append(cache)


def new_step(model: Model) -> StepBuilder:
    """An empty step, to be cut as the model's numerics ask."""
    calls = model.numerics.attention
    return StepBuilder(
        tile_sizes=calls.tile_sizes,
        row_multiple=calls.row_multiple,
        key_multiple=calls.key_multiple,
        windows=tuple(sorted(set(model.arch.windows) - {0})),
    )


def _layer(model: Model, layer: int, x: Tensor, call: _Call, wanted: Tensor | None) -> Tensor:
    """The residual stream (rows, d) after a layer; of the rows that are wanted, or of all."""
    arch, at = model.arch, f"layers.{layer}."
    h = _norm(model, f"{at}attn_norm", x)
    attended = _attention(model, layer, h, call)
    if wanted is not None:
        x, attended = x[wanted], attended[wanted]
    attended = _linear(model, f"{at}o", attended)
    if arch.post_norms:
        attended = _norm(model, f"{at}attn_post_norm", attended)
    if not arch.is_parallel:
        x += attended
    h = _norm(model, f"{at}mlp_norm", x)
    made = _mixture(model, at, h) if arch.n_experts else _unit(model, at, h)
    if arch.post_norms:
        made = _norm(model, f"{at}mlp_post_norm", made)
    if arch.is_parallel:
        x += attended
    return x.add_(made)


def _attention(model: Model, layer: int, h: Tensor, call: _Call) -> Tensor:
    """Attention of the rows (rows, heads * d), whose keys and values go to the cache first."""
    arch = model.arch
    window = arch.window(layer)
    q, k, v = _project(model, layer, h, call.turns[-1 if window else 0] if call.turns else None)
    cache, n = call.cache[layer], len(call.slots)
    for side, new in zip(cache, (k, v), strict=True):
        side.index_copy_(0, call.slots, new[:n])
    attended = attention.attend(
        q.view(len(q), -1, arch.n_kv_heads, arch.head_dim),
        cache,
        call.chunks[window],
        scale=arch.query_scale or None,
        softcap=arch.attn_softcap,
    )
    return attended.flatten(1)


def _project(
    model: Model, layer: int, h: Tensor, turns: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (rows, heads, d), normed and rotated, and keys and values (rows, kv_heads * d)."""
    arch, at = model.arch, f"layers.{layer}."
    heads = _linear(model, f"{at}qkv", h).view(len(h), -1, arch.head_dim)
    q, k, v = heads.tensor_split([arch.n_heads, arch.n_heads + arch.n_kv_heads], dim=1)
    if arch.qk_norm:
        q, k = _norm(model, f"{at}q_norm", q), _norm(model, f"{at}k_norm", k)
    if turns is not None:
        q, k = cpu.rotate(q, *turns), cpu.rotate(k, *turns)
    q, k, v = (part.to(model.dtype) for part in (q, k, v))
    return q.contiguous(), k.flatten(1), v.flatten(1)


def _unit(model: Model, at: str, h: Tensor) -> Tensor:
    """The feed-forward unit whose weights' names begin with ``at``, (rows, d) to (rows, d)."""
    activation = model.arch.activation
    if model.arch.is_gated:
        gate, up = (
            products.Linear(
                model.weights[f"{at}{name}.weight"], model.weights.get(f"{at}{name}.bias")
            )
            for name in ("gate", "up")
        )
        inner = cpu.gated(h.to(model.dtype), gate, up, activation, model.numerics)
    else:
        inner = cpu.activate(_linear(model, f"{at}up", h).float(), activation)
    return _linear(model, f"{at}down", inner)


def _mixture(model: Model, at: str, h: Tensor) -> Tensor:
    """The experts that the router gives each row to, weighted; always added in their order.

    Source: Jiang et al. (2024), arXiv:2401.04088, section 2.1.
    """
    arch = model.arch
    shares = cpu.linear(h, model.weights[f"{at}router.weight"], model.numerics).softmax(-1)
    shares, chosen = shares.topk(arch.n_experts_used, dim=-1)
    if arch.norm_expert_weights:
        shares = shares / shares.sum(-1, keepdim=True)
    out = torch.zeros_like(h)
    for e in range(arch.n_experts):
        rows, place = (chosen == e).nonzero(as_tuple=True)
        if len(rows):
            padded = F.pad(rows, (0, max(0, model.numerics.min_rows - len(rows))))
            made = _unit(model, f"{at}experts.{e}.", h[padded])[: len(rows)]
            out.index_add_(0, rows, made.float() * shares[rows, place, None])
    return out


def _norm(model: Model, name: str, x: Tensor) -> Tensor:
    weight, eps = model.weights[f"{name}.weight"], model.arch.norm_eps
    if model.arch.norm == "layer":
        return cpu.layer_norm(x, weight, model.weights[f"{name}.bias"], eps=eps)
    return cpu.rms_norm(x.float(), weight, eps=eps)


def _linear(model: Model, name: str, x: Tensor) -> Tensor:
    """In the dtype of the products; float32 where there is a bias."""
    product = cpu.linear(x.to(model.dtype), model.weights[f"{name}.weight"], model.numerics)
    bias = model.weights.get(f"{name}.bias")
    return product if bias is None else product + bias
