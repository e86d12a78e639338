"""The tensors of a model's files, by the files' own names and in our layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from evalkit.engine.config import Arch
from evalkit.engine.gguf import GgufFile, unpack_rows
from evalkit.engine.safetensors_folder import SafetensorsFolder
from evalkit.engine.weight_names import FOLDER_NAMES, GGUF_NAMES


class WeightFiles(Protocol):
    """A format's tensors; shapes are as in our layout, (outputs, inputs)."""

    names: Mapping[str, str]  # our part -> the format's name
    ignored: tuple[str, ...]  # endings of tensors that carry nothing new

    @property
    def source(self) -> Path: ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def copy(self, name: str, out: Tensor) -> None:
        """Write a tensor into ``out``, of its shape and of any float dtype."""
        ...


class GgufWeights:
    """The tensors of a GGUF file."""

    def __init__(self, file: GgufFile, arch: Arch) -> None:
        table = GGUF_NAMES[arch.family]
        self.names = table.names
        self.ignored = table.ignored
        self._file = file
        self._head_dim = arch.head_dim
        self._is_interleaved = table.is_interleaved

    @property
    def source(self) -> Path:
        return self._file.path

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: info.shape for name, info in self._file.tensors.items()}

    def copy(self, name: str, out: Tensor) -> None:
        rows = self._file.blocks(name)
        if self._is_interleaved and name.endswith((".attn_q.weight", ".attn_k.weight")):
            # llama.cpp's converter interleaves the rotary halves of each head; the rows, still
            # packed, go back to (half, pair) from (pair, half).
            pairs = rows.view(-1, self._head_dim // 2, 2, rows.shape[1])
            rows = pairs.transpose(1, 2).reshape(rows.shape)
        block_type = self._file.tensors[name].type
        unpack_rows(rows, block_type, out=out.view(-1, out.shape[-1]))


class FolderWeights:
    """The tensors of a folder of safetensors."""

    def __init__(self, tensors: SafetensorsFolder, arch: Arch) -> None:
        table = FOLDER_NAMES[arch.family]
        names = dict(table.names)
        bare = names["embed"].removeprefix(table.prefix)
        if names["embed"] not in tensors.shapes and bare in tensors.shapes:
            names = {ours: name.removeprefix(table.prefix) for ours, name in names.items()}
        self.names: Mapping[str, str] = names
        self.ignored = table.ignored
        self._tensors = tensors
        self._arch = arch
        self._table = table
        self._not_turned = {names[k] for k in ("embed", "positions", "head", "score") if k in names}

    @property
    def source(self) -> Path:
        return self._tensors.folder

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        stored = self._tensors.shapes
        return {n: s[::-1] if self._is_turned(n) else s for n, s in stored.items()}

    def copy(self, name: str, out: Tensor) -> None:
        tensor = self._tensors.read(name)
        if self._is_turned(name):
            tensor = tensor.t()
        if self._table.is_qkv_by_head and ".query_key_value." in name:
            by_head = tensor.view(self._arch.n_heads, 3, self._arch.head_dim, *tensor.shape[1:])
            tensor = by_head.transpose(0, 1).flatten(0, 2)
        out.copy_(tensor)
        if self._table.norm_offset and name.endswith("norm.weight"):
            out.add_(self._table.norm_offset)

    def _is_turned(self, name: str) -> bool:
        """Whether a matrix is stored (inputs, outputs); a vector is the same turned."""
        return self._table.is_transposed and name not in self._not_turned
