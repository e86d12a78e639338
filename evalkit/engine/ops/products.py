"""Products of rows with a weight, and whether a row's bits are its own in them.

The library has two ways: of plain matrices, where it picks the kernel and with it the order of the
sums by the number of rows, and of matrices packed for it beforehand, where it goes by the weight
alone, or nearly so: measured with torch 2.13 on AVX512, every number of rows from 2 on agrees, for
float32 and bfloat16 and with any number of threads. Packed is also faster: 1.4 times for 16 to 32
rows of float32.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.engine.config import Activation
from evalkit.engine.ops import ref

# MKL cuts sums of more terms differently for different numbers of rows and of threads.
# Measured with torch 2.13 on AVX512: up to 768 terms never, from 1024 on often.
MAX_TERMS = 768
FIXED_ROWS = 64
FEWEST_ROWS = (2, 16)
_ROWS_TO_PROBE = (2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 33, 64, 100, 128, 192, 257, 512)


class Linear(NamedTuple):
    """A weight (n, k), packed or plain, and a bias (n,), if there is one."""

    weight: Tensor
    bias: Tensor | None = None


def pack(weight: Tensor) -> Tensor:
    """A weight (n, k) laid out for ``product``; itself, where the library has no such layout."""
    if not _can_pack(weight.dtype):
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return packed


@cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether the library packs, and its products are right; the operations are not public."""
    eye = torch.eye(64, dtype=dtype)
    x = torch.arange(128, dtype=dtype).view(2, 64)  # whole numbers that bfloat16 has
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(eye, None)
        return torch.equal(product(x, packed), x)
    except (AttributeError, RuntimeError):  # of another build, or not for this dtype here
        return False


def product(x: Tensor, weight: Tensor) -> Tensor:
    """X weightᵀ, (rows, k) and (n, k), packed or plain, to (rows, n), in the dtype of both.

    float32 sums with a plain weight run over at most MAX_TERMS terms at once, the parts added up
    in order.
    """
    if weight.is_mkldnn:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return out
    k = weight.shape[1]
    n_parts = -(-k // MAX_TERMS) if x.dtype is torch.float32 else 1
    if n_parts == 1:
        return F.linear(x, weight)
    width = -(-k // n_parts)
    total = F.linear(x[:, :width], weight[:, :width])
    for at in range(width, k, width):
        total.addmm_(x[:, at : at + width], weight[:, at : at + width].t())
    return total


_FUSED = {"silu": ("swish", ""), "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh")}


def gated(x: Tensor, gate: Linear, up: Linear, activation: Activation) -> Tensor:
    """As ``ref.gated`` of two products with packed weights, in their dtype.

    The activation and the multiplication are done by the library on what it has just computed.
    """
    fused = torch.ops.mkldnn._linear_pointwise
    name, how = _FUSED[activation]
    biases = (None if one.bias is None else one.bias.to(x.dtype) for one in (gate, up))
    opened = fused(x, gate.weight, next(biases), name, [], how)
    out: Tensor = fused.binary(x, opened, up.weight, next(biases), "mul")
    return out


def does_fuse(weight: Tensor, activation: Activation) -> bool:
    """Whether ``gated`` is there for a weight, right, and gives a row its own bits."""
    if not weight.is_mkldnn:
        return False
    linear = Linear(weight)
    x = torch.randn(3 * FIXED_ROWS, weight.shape[1], generator=torch.Generator().manual_seed(0))
    x = x.to(weight.dtype)
    product_of_all = product(x, weight).float()
    expected = ref.gated(torch.cat([product_of_all, product_of_all], -1), activation)
    try:
        got = gated(x, linear, linear, activation)
    except (AttributeError, RuntimeError, IndexError):  # of another build, or not for this dtype
        return False
    bound = 8 * torch.finfo(got.dtype).eps
    if not torch.allclose(got.float(), expected, rtol=bound, atol=bound):
        return False
    some = ((0, 2), (1, 3), (5, 16), (7, 33), (0, FIXED_ROWS), (2, 100))
    return all(
        torch.equal(gated(x[at : at + n].contiguous(), linear, linear, activation), got[at:][:n])
        for at, n in some
    )


def in_tiles(x: Tensor, weight: Tensor) -> Tensor:
    """As ``product``, which is called with exactly FIXED_ROWS rows at a time."""
    padded = F.pad(x, (0, 0, 0, -len(x) % FIXED_ROWS))
    parts = [product(part.contiguous(), weight) for part in torch.split(padded, FIXED_ROWS)]
    return torch.cat(parts)[: len(x)]


def fewest_rows(weight: Tensor) -> int | None:
    """With so many rows or more, products give the bits that FIXED_ROWS rows give.

    One of FEWEST_ROWS; None if not even with the most of them.
    """
    n, k = weight.shape
    n_rows = max(_ROWS_TO_PROBE) if n * k < 8_000_000 else 2 * FIXED_ROWS
    x = torch.randn(n_rows, k, generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    expected = in_tiles(x[: 2 * FIXED_ROWS], weight)
    fewest = FEWEST_ROWS[0]
    for m in _ROWS_TO_PROBE:
        if m > n_rows:
            break
        start = min(5, n_rows - m)
        got = product(x[start : start + m].contiguous(), weight)
        upto = min(len(expected), start + m)
        if not torch.equal(got[: upto - start], expected[start:upto]):
            fewest = m + 1
    return next((f for f in FEWEST_ROWS if f >= fewest), None)


def places_agree(weight: Tensor) -> bool:
    """In a product of FIXED_ROWS rows, a row has the same bits in another place."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(FIXED_ROWS, weight.shape[1], generator=generator).to(weight.dtype)
    return torch.equal(product(x.flip(0), weight), product(x, weight).flip(0))
