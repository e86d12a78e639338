"""The operations of a decoder on a CPU.

A promise, in exact mode: a row of a result has the same bits whatever other rows are computed
with it. Element by element operations keep it by themselves. A matrix product may not: the
library may pick its kernel, and with it the order of its sums, by the number of rows. ``probe``
finds out, for the very shapes of a model, which numbers of rows give the same bits, and
``Numerics`` says what came of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evalkit.engine.config import Activation
from evalkit.engine.ops import attention, products
from evalkit.engine.ops.attention import Calls
from evalkit.engine.ops.products import Linear

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """How to call the library so that a row's bits are its own.

    ``min_rows``: products are called with at least so many rows. ``fixed``: shapes (n, k) of
    weights for which only calls with exactly so many rows agree. ``attention``: how that may be
    called. ``does_fuse``: gated units may be computed by ``products.gated``. ``is_exact``: a
    row's bits were found to be its own, called like that.
    """

    is_exact: bool = False
    min_rows: int = 1
    fixed: frozenset[tuple[int, int]] = frozenset()
    attention: Calls = field(default_factory=Calls)
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
    return Numerics(
        is_exact=is_exact,
        min_rows=max(n or products.FEWEST_ROWS[0] for n in fewest.values()),
        fixed=frozenset(fixed),
        attention=attention.probe((n_heads // n_kv_heads, n_kv_heads, head_dim), dtype, softcap),
        does_fuse=gate is not None and not fixed and products.does_fuse(gate, activation),
    )
