"""A decoder's tensors as the model wants them: named, stacked, each of its dtype."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evalkit.engine.config import Arch
from evalkit.engine.errors import ModelFileError
from evalkit.engine.weight_files import WeightFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fused:
    """A tensor of ours: the parts that it stacks, each with its rows; one column count, or none."""

    name: str
    parts: tuple[tuple[str, int], ...]  # (the format's name, rows)
    n_columns: int | None  # None: a vector
    is_float32: bool  # whatever dtype is asked for


def assemble(files: WeightFiles, arch: Arch, *, dtype: torch.dtype) -> dict[str, Tensor]:
    """Our tensors out of a format's, named as ``loader.Checkpoint`` says.

    Each of the format's is used, or the model is not ours: ModelFileError if one is missing, left
    over, or of another shape than the configuration says.
    """
    layout = list(_layout(arch, files.names))
    _check_shapes(files, layout)
    weights = {tensor.name: _stack(files, tensor, dtype=dtype) for tensor in layout}
    _check_leftovers(files, arch, layout, weights)
    return weights


def _layout(arch: Arch, names: Mapping[str, str]) -> Iterator[_Fused]:
    """All tensors of a decoder, in the order in which it uses them."""
    yield _matrix("embed", [("embed", arch.vocab_size)], arch.hidden_size, names)
    if arch.positions == "learned":
        yield _matrix("positions", [("positions", arch.max_length)], arch.hidden_size, names)
    for i in range(arch.n_layers):
        own = {part: name.replace("{i}", str(i)) for part, name in names.items()}
        yield from _attention(arch, f"layers.{i}.", own)
        yield from _feed_forward(arch, f"layers.{i}.", own)
    yield from _norm("norm", arch, names)
    if arch.n_scores:
        yield _matrix("score", [("score", arch.n_scores)], arch.hidden_size, names, is_float32=True)
    elif not arch.tie_embeddings:
        yield _matrix("head", [("head", arch.vocab_size)], arch.hidden_size, names)


def _attention(arch: Arch, at: str, names: Mapping[str, str]) -> Iterator[_Fused]:
    query, key = arch.n_heads * arch.head_dim, arch.n_kv_heads * arch.head_dim
    yield from _norm(f"{at}attn_norm", arch, names)
    parts = [("q", query), ("k", key), ("v", key)]
    if "qkv" in names:
        parts = [("qkv", query + 2 * key)]
    yield from _linear(f"{at}qkv", parts, arch.hidden_size, names, has_bias=arch.qkv_bias)
    if arch.qk_norm:
        yield _vector(f"{at}q_norm.weight", [("q_norm", arch.head_dim)], names)
        yield _vector(f"{at}k_norm.weight", [("k_norm", arch.head_dim)], names)
    yield from _linear(f"{at}o", [("o", arch.hidden_size)], query, names, has_bias=arch.o_bias)
    if arch.post_norms:
        yield from _norm(f"{at}attn_post_norm", arch, names)


def _feed_forward(arch: Arch, at: str, names: Mapping[str, str]) -> Iterator[_Fused]:
    yield from _norm(f"{at}mlp_norm", arch, names)
    if arch.n_experts:
        yield _matrix(
            f"{at}router", [("router", arch.n_experts)], arch.hidden_size, names, is_float32=True
        )
    for e in range(arch.n_experts):
        own = {part: name.replace("{e}", str(e)) for part, name in names.items()}
        yield from _unit(arch, f"{at}experts.{e}.", own)
    if not arch.n_experts:
        yield from _unit(arch, at, names)
    if arch.post_norms:
        yield from _norm(f"{at}mlp_post_norm", arch, names)


def _unit(arch: Arch, at: str, names: Mapping[str, str]) -> Iterator[_Fused]:
    hidden, inner = arch.hidden_size, arch.intermediate_size
    parts = [("gate", inner), ("up", inner)] if arch.is_gated else [("up", inner)]
    if "gate_up" in names:
        parts = [("gate_up", 2 * inner)]
    yield from _linear(f"{at}gate_up", parts, hidden, names, has_bias=arch.mlp_bias)
    yield from _linear(f"{at}down", [("down", hidden)], inner, names, has_bias=arch.mlp_bias)


_Parts = Sequence[tuple[str, int]]


def _linear(
    name: str, parts: _Parts, n_columns: int, names: Mapping[str, str], *, has_bias: bool
) -> Iterator[_Fused]:
    yield _matrix(name, parts, n_columns, names)
    if has_bias:
        yield _vector(f"{name}.bias", parts, _biases(names))


def _norm(name: str, arch: Arch, names: Mapping[str, str]) -> Iterator[_Fused]:
    parts = [(name.rpartition(".")[2], arch.hidden_size)]
    yield _vector(f"{name}.weight", parts, names)
    if arch.norm == "layer":
        yield _vector(f"{name}.bias", parts, _biases(names))


def _biases(names: Mapping[str, str]) -> dict[str, str]:
    return {part: f"{name.removesuffix('weight')}bias" for part, name in names.items()}


def _matrix(
    name: str,
    parts: _Parts,
    n_columns: int,
    names: Mapping[str, str],
    *,
    is_float32: bool = False,
) -> _Fused:
    sources = tuple((names[part], rows) for part, rows in parts)
    return _Fused(name=f"{name}.weight", parts=sources, n_columns=n_columns, is_float32=is_float32)


def _vector(name: str, parts: _Parts, names: Mapping[str, str]) -> _Fused:
    sources = tuple((names[part], rows) for part, rows in parts)
    return _Fused(name=name, parts=sources, n_columns=None, is_float32=True)


def _check_shapes(files: WeightFiles, layout: Sequence[_Fused]) -> None:
    shapes = files.shapes()
    for tensor in layout:
        for name, rows in tensor.parts:
            want = (rows,) if tensor.n_columns is None else (rows, tensor.n_columns)
            if name not in shapes:
                raise ModelFileError(f"{files.source}: tensor {name!r} is missing")
            if shapes[name] != want:
                raise ModelFileError(
                    f"{files.source}: tensor {name!r} is {list(shapes[name])}; "
                    f"the configuration says {list(want)}"
                )


def _stack(files: WeightFiles, tensor: _Fused, *, dtype: torch.dtype) -> Tensor:
    n_rows = sum(rows for _, rows in tensor.parts)
    shape = (n_rows,) if tensor.n_columns is None else (n_rows, tensor.n_columns)
    out = torch.empty(shape, dtype=torch.float32 if tensor.is_float32 else dtype)
    start = 0
    for name, rows in tensor.parts:
        files.copy(name, out[start : start + rows])
        start += rows
    return out


def _check_leftovers(
    files: WeightFiles, arch: Arch, layout: Sequence[_Fused], weights: Mapping[str, Tensor]
) -> None:
    used = {name for tensor in layout for name, _ in tensor.parts}
    head = files.names["head"]
    for name in sorted(files.shapes().keys() - used):
        if name.endswith(files.ignored or ("\0",)):
            continue
        if name == head and arch.tie_embeddings:
            _check_tied(files, head, weights["embed.weight"])
            continue
        raise ModelFileError(
            f"{files.source}: tensor {name!r} is not part of a plain {arch.family} model; "
            "what it does is not supported"
        )


def _check_tied(files: WeightFiles, head: str, embed: Tensor) -> None:
    """A stored head beside tied embeddings is fine as long as it says the same."""
    is_same = files.shapes()[head] == tuple(embed.shape)
    if is_same:
        stored = torch.empty_like(embed)
        files.copy(head, stored)
        is_same = torch.equal(stored, embed)
    if not is_same:
        raise ModelFileError(
            f"{files.source}: tensor {head!r} differs from the embeddings that it is tied to; "
            "set tie_word_embeddings to what the model was trained with"
        )
