"""A model's files as one checkpoint: dimensions, fused weights, tokenizer, template, fingerprint.

Two kinds of files: one GGUF file, or a folder of safetensors with ``config.json`` and
``tokenizer.json``. Either way the weights get the same names, shapes and layout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from evalkit.engine.config import Arch
from evalkit.engine.config_gguf import arch_from_gguf
from evalkit.engine.config_json import arch_from_config
from evalkit.engine.errors import ModelFileError
from evalkit.engine.folder import read_chat_template, read_json
from evalkit.engine.gguf import open_gguf
from evalkit.engine.layout import assemble
from evalkit.engine.safetensors_folder import open_safetensors
from evalkit.engine.tokenizer import Tokenizer
from evalkit.engine.tokenizer_source import tokenizer_from_folder, tokenizer_from_gguf
from evalkit.engine.weight_files import FolderWeights, GgufWeights

_ROPE_DIVISORS = "rope_freqs.weight"  # a tensor that only says how to rotate
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything that a decoder needs, and a name for it.

    ``weights`` holds, for V tokens of vocabulary, a hidden size d, an intermediate size I, H heads
    and K key-value heads of size D, and rows that are outputs: ``embed.weight`` (V, d) and, where
    positions are learned, ``positions.weight``; ``norm.weight`` (d,); ``head.weight`` (V, d) unless
    the embeddings are tied, or ``score.weight`` (scores, d) of a classifier; and for each layer,
    after ``layers.{i}.``:

    - ``attn_norm.weight`` (d,), ``qkv.weight`` ((H + 2 K) D, d) in the order q, k, v, ``o.weight``
      (d, H D); where they are normed, ``q_norm.weight`` and ``k_norm.weight`` (D,);
    - ``mlp_norm.weight`` (d,), ``gate_up.weight`` (2 I, d), gate first, or (I, d) without a gate,
      ``down.weight`` (d, I); where there are experts, these two for each after ``experts.{e}.``,
      and ``router.weight`` (experts, d);
    - where what a part gives is normed, ``attn_post_norm.weight`` and ``mlp_post_norm.weight``.

    A bias is beside its weight, ending in ``bias``. The two rotary halves of a head follow each
    other, as in transformers. Vectors and routers are float32, the rest of the dtype that was asked
    for. Norms are complete: what a family's formula adds to them has been added.
    """

    arch: Arch
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    chat_template: str | None
    fingerprint: str  # "sha256:..." of the files that decide an answer


def load_checkpoint(path: Path, *, dtype: torch.dtype) -> Checkpoint:
    """Load a GGUF file, or a folder of safetensors.

    Raises ModelFileError or TokenizerError, in one line, for files that are missing, damaged,
    incomplete, pickled (they can run code), or of a model that is not supported in full.
    """
    if path.is_dir():
        return _load_folder(path, dtype=dtype)
    if not path.exists():
        raise ModelFileError(f"{path}: there is no such file or folder")
    if path.suffix in _PICKLES:
        raise _pickled(path)
    if path.suffix == ".safetensors":
        raise ModelFileError(f"{path}: give the folder, with its config.json and tokenizer.json")
    return _load_gguf(path, dtype=dtype)


def _load_gguf(path: Path, *, dtype: torch.dtype) -> Checkpoint:
    file = open_gguf(path)
    is_tied = "output.weight" not in file.tensors
    divisors = file.read(_ROPE_DIVISORS).tolist() if _ROPE_DIVISORS in file.tensors else ()
    arch = arch_from_gguf(
        file.metadata, tie_embeddings=is_tied, rope_divisors=tuple(divisors), source=str(path)
    )
    tokenizer = tokenizer_from_gguf(file.metadata, source=str(path))
    template = file.metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise ModelFileError(f"{path}: tokenizer.chat_template is not a text")
    _check_vocabulary(tokenizer, arch, source=path)
    return Checkpoint(
        arch=arch,
        weights=assemble(GgufWeights(file, arch), arch, dtype=dtype),
        tokenizer=tokenizer,
        chat_template=template,
        fingerprint=f"sha256:{_sha256(path)}",
    )


def _load_folder(folder: Path, *, dtype: torch.dtype) -> Checkpoint:
    weights = open_safetensors(folder)
    if weights is None:
        raise _without_safetensors(folder)
    arch = arch_from_config(read_json(folder / "config.json"), source=str(folder / "config.json"))
    tokenizer = tokenizer_from_folder(folder)
    _check_vocabulary(tokenizer, arch, source=folder)
    return Checkpoint(
        arch=arch,
        weights=assemble(FolderWeights(weights, arch), arch, dtype=dtype),
        tokenizer=tokenizer,
        chat_template=read_chat_template(folder),
        fingerprint=_folder_fingerprint(folder, weights.files),
    )


def _pickled(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path}: pickled weights can run any code when read, so they are refused; "
        "use a safetensors or GGUF version of the model"
    )


def _without_safetensors(folder: Path) -> ModelFileError:
    names = sorted(file.name for file in folder.iterdir())
    for name in names:
        if name.endswith(".gguf"):
            return ModelFileError(f"{folder}: has no safetensors; give the file {folder / name}")
    for name in names:
        if name.endswith(_PICKLES):
            return _pickled(folder / name)
    return ModelFileError(f"{folder}: has no model.safetensors and no model.safetensors.index.json")


def _check_vocabulary(tokenizer: Tokenizer, arch: Arch, *, source: Path) -> None:
    if tokenizer.vocab_size > arch.vocab_size:
        raise ModelFileError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, the model only "
            f"{arch.vocab_size}: these files do not belong together"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Besides the weights: what a folder holds that decides ids, prompts, ends and dimensions.
_DECIDING_FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def _folder_fingerprint(folder: Path, weight_files: Sequence[Path]) -> str:
    """sha256 over a line "name sha256" for each file that decides an answer, in name order."""
    others = (folder / name for name in _DECIDING_FILES)
    files = {file.name: file for file in (*weight_files, *others) if file.exists()}
    lines = "".join(f"{name} {_sha256(files[name])}\n" for name in sorted(files))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
