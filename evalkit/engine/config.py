"""What a decoder is made of: one description for all families, read by one model.

``config_json`` and ``config_gguf`` fill it in from a model's files; ``families`` has what the
models of a family have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalkit.engine.errors import ModelFileError

Activation = Literal["silu", "gelu", "gelu_tanh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arch:
    """A decoder of pre-normed layers, attention and then a feed-forward unit.

    The defaults are Llama's: RMSNorm, rotary embedding of whole heads, grouped-query attention to
    all that came before, SwiGLU, no biases.
    """

    family: str  # a row of ``families.FAMILIES``
    vocab_size: int
    n_layers: int
    hidden_size: int
    intermediate_size: int  # of one expert, if there are experts
    n_heads: int
    n_kv_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    max_length: int  # tokens, prompt and continuation together
    tie_embeddings: bool
    n_scores: int = 0  # that a scalar head gives a text; 0: a language model

    norm: Literal["rms", "layer"] = "rms"
    qk_norm: bool = False  # each head's query and key is normed before it is rotated
    post_norms: bool = False  # what a layer's two parts give is normed before it is added
    is_parallel: bool = False  # both parts of a layer see what came into the layer
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    activation: Activation = "silu"
    is_gated: bool = True
    n_experts: int = 0  # 0: one feed-forward unit for all tokens
    n_experts_used: int = 0  # by each token
    norm_expert_weights: bool = True  # the weights of the experts used add up to 1

    positions: Literal["rotary", "learned"] = "rotary"
    rope_dim: int = 0  # the first dimensions of a head that are rotated; 0: all
    rope_divisors: tuple[float, ...] = ()  # of each pair's rate; empty: none is divided
    rope_scale: float = 1.0  # of the cosines and sines
    local_rope_theta: float = 0.0  # of layers with a window, undivided; 0: as the others

    windows: tuple[int, ...] = ()  # of each layer: the last tokens it sees, 0 for all; empty: all
    query_scale: float = 0.0  # what scores are multiplied by; 0: one over the root of head_dim
    attn_softcap: float = 0.0  # c: a score s becomes c·tanh(s / c); 0: no cap
    logit_softcap: float = 0.0
    embed_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.n_heads % self.n_kv_heads:
            raise ModelFileError(
                f"{self.n_heads} heads cannot share {self.n_kv_heads} key-value heads evenly"
            )
        if self.positions == "rotary" and self.rotated_dim % 2:
            raise ModelFileError(f"a head of {self.rotated_dim} cannot be rotated: it must be even")

        if self.n_experts_used > self.n_experts:
            raise ModelFileError(
                f"a token cannot use {self.n_experts_used} of {self.n_experts} experts"
            )

    @property
    def rotated_dim(self) -> int:
        """How many dimensions of a head are rotated."""
        return self.rope_dim or self.head_dim

    @property
    def attention_scale(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return self.query_scale or self.head_dim**-0.5

    def window(self, layer: int) -> int:
        """How many tokens a layer sees, the last of them its own; 0 for all."""
        return self.windows[layer] if self.windows else 0
