"""What each format and family calls the parts of a decoder, and how it stores them.

``{i}`` is a layer, ``{e}`` an expert. A bias has its weight's name, with ``bias`` for ``weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightNames:
    """A table of names, ours to the format's.

    ``ignored`` are endings of tensors that carry nothing new. ``prefix`` is what some files leave
    out before every name. ``is_transposed``: the layers' matrices are stored (inputs, outputs).
    ``is_qkv_by_head``: a fused projection holds query, key and value of a head together.
    ``norm_offset`` is what the stored weights of norms lack. ``is_interleaved``: the two rotary
    halves of a head in the projections of queries and keys alternate.
    """

    names: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    prefix: str = ""
    is_transposed: bool = False
    is_qkv_by_head: bool = False
    norm_offset: float = 0.0
    is_interleaved: bool = False


_LLAMA = {
    "score": "score.weight",
    "embed": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "head": "lm_head.weight",
    "attn_norm": "model.layers.{i}.input_layernorm.weight",
    "q": "model.layers.{i}.self_attn.q_proj.weight",
    "k": "model.layers.{i}.self_attn.k_proj.weight",
    "v": "model.layers.{i}.self_attn.v_proj.weight",
    "q_norm": "model.layers.{i}.self_attn.q_norm.weight",
    "k_norm": "model.layers.{i}.self_attn.k_norm.weight",
    "o": "model.layers.{i}.self_attn.o_proj.weight",
    "mlp_norm": "model.layers.{i}.post_attention_layernorm.weight",
    "gate": "model.layers.{i}.mlp.gate_proj.weight",
    "up": "model.layers.{i}.mlp.up_proj.weight",
    "down": "model.layers.{i}.mlp.down_proj.weight",
}
_GEMMA = _LLAMA | {
    "attn_post_norm": "model.layers.{i}.post_attention_layernorm.weight",
    "mlp_norm": "model.layers.{i}.pre_feedforward_layernorm.weight",
    "mlp_post_norm": "model.layers.{i}.post_feedforward_layernorm.weight",
}
_PHI3 = {k: v for k, v in _LLAMA.items() if k not in ("q", "k", "v", "gate", "up")} | {
    "qkv": "model.layers.{i}.self_attn.qkv_proj.weight",
    "gate_up": "model.layers.{i}.mlp.gate_up_proj.weight",
}
_MIXTRAL = _LLAMA | {
    "router": "model.layers.{i}.block_sparse_moe.gate.weight",
    "gate": "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
    "up": "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
    "down": "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",
}
_QWEN3_MOE = _LLAMA | {
    "router": "model.layers.{i}.mlp.gate.weight",
    "gate": "model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
    "up": "model.layers.{i}.mlp.experts.{e}.up_proj.weight",
    "down": "model.layers.{i}.mlp.experts.{e}.down_proj.weight",
}
_GPT2 = {
    "score": "score.weight",
    "embed": "transformer.wte.weight",
    "positions": "transformer.wpe.weight",
    "norm": "transformer.ln_f.weight",
    "head": "lm_head.weight",
    "attn_norm": "transformer.h.{i}.ln_1.weight",
    "qkv": "transformer.h.{i}.attn.c_attn.weight",
    "o": "transformer.h.{i}.attn.c_proj.weight",
    "mlp_norm": "transformer.h.{i}.ln_2.weight",
    "up": "transformer.h.{i}.mlp.c_fc.weight",
    "down": "transformer.h.{i}.mlp.c_proj.weight",
}
_GPT_NEOX = {
    "score": "score.weight",
    "embed": "gpt_neox.embed_in.weight",
    "norm": "gpt_neox.final_layer_norm.weight",
    "head": "embed_out.weight",
    "attn_norm": "gpt_neox.layers.{i}.input_layernorm.weight",
    "qkv": "gpt_neox.layers.{i}.attention.query_key_value.weight",
    "o": "gpt_neox.layers.{i}.attention.dense.weight",
    "mlp_norm": "gpt_neox.layers.{i}.post_attention_layernorm.weight",
    "up": "gpt_neox.layers.{i}.mlp.dense_h_to_4h.weight",
    "down": "gpt_neox.layers.{i}.mlp.dense_4h_to_h.weight",
}
# Old checkpoints store the rotary frequencies and the causal mask, which the sizes already say.
_FREQUENCIES = ".rotary_emb.inv_freq"
_PLAIN = WeightNames(names=_LLAMA, ignored=(_FREQUENCIES,))

FOLDER_NAMES: Mapping[str, WeightNames] = MappingProxyType(
    {
        "llama": _PLAIN,
        "mistral": _PLAIN,
        "qwen2": _PLAIN,
        "qwen3": _PLAIN,
        "mixtral": WeightNames(names=_MIXTRAL, ignored=(_FREQUENCIES,)),
        "qwen3_moe": WeightNames(names=_QWEN3_MOE),
        "gemma2": WeightNames(names=_GEMMA, norm_offset=1.0),
        "gemma3_text": WeightNames(names=_GEMMA, norm_offset=1.0),
        "phi3": WeightNames(names=_PHI3, ignored=(_FREQUENCIES,)),
        "gpt2": WeightNames(
            names=_GPT2,
            ignored=(".attn.bias", ".attn.masked_bias"),
            prefix="transformer.",
            is_transposed=True,
        ),
        "gpt_neox": WeightNames(
            names=_GPT_NEOX,
            ignored=(_FREQUENCIES, ".attention.bias", ".attention.masked_bias"),
            is_qkv_by_head=True,
        ),
    }
)

# Source: llama.cpp, gguf-py/gguf/constants.py, ``TENSOR_NAMES``, and convert_hf_to_gguf.py for the
# layout: only the llama architecture's queries and keys are interleaved, and Gemma's norms are
# stored with the 1 that its formula adds.
_GGUF = {
    "embed": "token_embd.weight",
    "norm": "output_norm.weight",
    "head": "output.weight",
    "attn_norm": "blk.{i}.attn_norm.weight",
    "q": "blk.{i}.attn_q.weight",
    "k": "blk.{i}.attn_k.weight",
    "v": "blk.{i}.attn_v.weight",
    "q_norm": "blk.{i}.attn_q_norm.weight",
    "k_norm": "blk.{i}.attn_k_norm.weight",
    "o": "blk.{i}.attn_output.weight",
    "attn_post_norm": "blk.{i}.post_attention_norm.weight",
    "mlp_norm": "blk.{i}.ffn_norm.weight",
    "gate": "blk.{i}.ffn_gate.weight",
    "up": "blk.{i}.ffn_up.weight",
    "down": "blk.{i}.ffn_down.weight",
    "mlp_post_norm": "blk.{i}.post_ffw_norm.weight",
}
_GGUF_GPT2 = {k: v for k, v in _GGUF.items() if k not in ("q", "k", "v", "gate")} | {
    "positions": "position_embd.weight",
    "qkv": "blk.{i}.attn_qkv.weight",
}
_GGUF_PLAIN = WeightNames(names=_GGUF)

GGUF_NAMES: Mapping[str, WeightNames] = MappingProxyType(
    {
        "llama": WeightNames(names=_GGUF, ignored=("rope_freqs.weight",), is_interleaved=True),
        "qwen2": _GGUF_PLAIN,
        "qwen3": _GGUF_PLAIN,
        "gemma2": _GGUF_PLAIN,
        "gemma3_text": _GGUF_PLAIN,
        "gpt2": WeightNames(names=_GGUF_GPT2),
    }
)
