"""The families of models that the engine runs: what each has, and how its files say the rest.

A family is a row: a decoder is one set of functions, and ``config.Arch`` its switches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Which layers of a family see only a window of the last tokens.
WindowRule = Literal["none", "all", "upper", "pattern"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A ``model_type`` of ``config.json``.

    ``renamed``: its own names of keys that others have too. ``defaults``: what it means by leaving
    a key out, by the names of the others. ``reads``: keys that it follows beside those of all
    families. ``traits``: fields of Arch that are the same for all its models. ``inert``: keys of
    its own that change no logit; ``neutral``: values of keys that it does not follow.
    """

    architecture: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()
    traits: Mapping[str, Any] = field(default_factory=dict)
    inert: frozenset[str] = frozenset()
    neutral: Mapping[str, object] = field(default_factory=dict)
    windows: WindowRule = "none"
    window_pattern: int = 0  # by default, the last of so many layers sees all

    @property
    def classifier(self) -> str:
        """The architecture with a scalar head in place of the vocabulary's."""
        stem = self.architecture.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
        return f"{stem}ForSequenceClassification"


_GEMMA: Mapping[str, Any] = {"post_norms": True}
_LAYER_NORMS: Mapping[str, Any] = {"norm": "layer", "is_gated": False, "mlp_bias": True}
_EXPERT_INERT = frozenset({"output_router_logits", "router_aux_loss_coef", "router_jitter_noise"})

FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        architecture="LlamaForCausalLM",
        defaults={"rms_norm_eps": 1e-6},
        reads=frozenset({"attention_bias", "mlp_bias"}),
    ),
    "mistral": Family(
        architecture="MistralForCausalLM",
        defaults={"rms_norm_eps": 1e-6, "num_key_value_heads": 8, "sliding_window": 4096},
        windows="all",
    ),
    "mixtral": Family(
        architecture="MixtralForCausalLM",
        defaults={
            "rms_norm_eps": 1e-5,
            "num_key_value_heads": 8,
            "rope_theta": 1e6,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        reads=frozenset({"num_local_experts", "num_experts_per_tok"}),
        inert=_EXPERT_INERT,
        windows="all",
    ),
    "qwen2": Family(
        architecture="Qwen2ForCausalLM",
        defaults={"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "sliding_window": 4096},
        reads=frozenset({"use_sliding_window", "max_window_layers"}),
        traits={"qkv_bias": True},
        windows="upper",
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        defaults={
            "rms_norm_eps": 1e-6,
            "num_key_value_heads": 32,
            "head_dim": 128,
            "sliding_window": 4096,
        },
        reads=frozenset({"attention_bias", "use_sliding_window", "max_window_layers"}),
        traits={"qk_norm": True},
        windows="upper",
    ),
    "qwen3_moe": Family(
        architecture="Qwen3MoeForCausalLM",
        defaults={
            "rms_norm_eps": 1e-6,
            "num_key_value_heads": 4,
            "num_local_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "norm_topk_prob": False,
        },
        renamed={"num_experts": "num_local_experts"},
        reads=frozenset(
            {
                "attention_bias",
                "num_local_experts",
                "num_experts_per_tok",
                "moe_intermediate_size",
                "norm_topk_prob",
            }
        ),
        traits={"qk_norm": True},
        inert=_EXPERT_INERT | {"max_window_layers"},
        neutral={"decoder_sparse_step": 1},
        windows="upper",
    ),
    "gemma2": Family(
        architecture="Gemma2ForCausalLM",
        defaults={
            "rms_norm_eps": 1e-6,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "sliding_window": 4096,
            "tie_word_embeddings": True,
        },
        renamed={"hidden_activation": "hidden_act"},
        reads=frozenset(
            {
                "attention_bias",
                "query_pre_attn_scalar",
                "attn_logit_softcapping",
                "final_logit_softcapping",
            }
        ),
        traits=_GEMMA,
        windows="pattern",
        window_pattern=2,
    ),
    "gemma3_text": Family(
        architecture="Gemma3ForCausalLM",
        defaults={
            "rms_norm_eps": 1e-6,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
            "rope_theta": 1e6,
            "rope_local_base_freq": 10_000.0,
            "tie_word_embeddings": True,
        },
        renamed={"hidden_activation": "hidden_act"},
        reads=frozenset(
            {
                "attention_bias",
                "query_pre_attn_scalar",
                "attn_logit_softcapping",
                "final_logit_softcapping",
                "rope_local_base_freq",
                "sliding_window_pattern",
            }
        ),
        traits={**_GEMMA, "qk_norm": True},
        windows="pattern",
        window_pattern=6,
    ),
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        defaults={"rms_norm_eps": 1e-5},
        reads=frozenset({"partial_rotary_factor", "original_max_position_embeddings"}),
        inert=frozenset({"embd_pdrop", "resid_pdrop"}),
        neutral={"full_attn_mod": 1, "interpolate_factor": 1},
        windows="all",
    ),
    "gpt2": Family(
        architecture="GPT2LMHeadModel",
        defaults={
            "rms_norm_eps": 1e-5,
            "hidden_act": "gelu_new",
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
        },
        renamed={
            "n_embd": "hidden_size",
            "n_layer": "num_hidden_layers",
            "n_head": "num_attention_heads",
            "n_positions": "max_position_embeddings",
            "n_inner": "intermediate_size",
            "activation_function": "hidden_act",
            "layer_norm_epsilon": "rms_norm_eps",
        },
        traits={**_LAYER_NORMS, "positions": "learned", "qkv_bias": True, "o_bias": True},
        inert=frozenset(
            {
                "attn_pdrop",
                "embd_pdrop",
                "resid_pdrop",
                "n_ctx",
                "reorder_and_upcast_attn",
                "summary_activation",
                "summary_first_dropout",
                "summary_proj_to_labels",
                "summary_type",
                "summary_use_proj",
                "task_specific_params",
            }
        ),
        neutral={"scale_attn_weights": True},
    ),
    "gpt_neox": Family(
        architecture="GPTNeoXForCausalLM",
        defaults={
            "rms_norm_eps": 1e-5,
            "hidden_act": "gelu",
            "partial_rotary_factor": 0.25,
            "use_parallel_residual": True,
            "attention_bias": True,
        },
        renamed={
            "layer_norm_eps": "rms_norm_eps",
            "rotary_pct": "partial_rotary_factor",
            "rotary_emb_base": "rope_theta",
        },
        reads=frozenset({"attention_bias", "partial_rotary_factor", "use_parallel_residual"}),
        traits=_LAYER_NORMS,
        inert=frozenset({"classifier_dropout", "hidden_dropout", "is_decoder"}),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFamily:
    """A ``general.architecture`` of GGUF: which family it is, and what its files do not say."""

    family: str
    traits: Mapping[str, Any] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()
    norm_key: str = "attention.layer_norm_rms_epsilon"
    window_pattern: int = 0  # the last of so many layers sees all, the others a window
    n_layers_by_width: int = 0  # models of so many layers scale scores by hidden_size / n_heads


_SOFT_CAPS = frozenset({"attn_logit_softcapping", "final_logit_softcapping"})

# Source: llama.cpp, src/llama-model.cpp, ``load_hparams``, and convert_hf_to_gguf.py.
GGUF_FAMILIES: Mapping[str, GgufFamily] = {
    "llama": GgufFamily(family="llama"),
    "qwen2": GgufFamily(family="qwen2"),
    "qwen3": GgufFamily(family="qwen3"),
    "gemma2": GgufFamily(
        family="gemma2",
        traits={"activation": "gelu_tanh"},
        reads=_SOFT_CAPS | {"attention.sliding_window"},
        window_pattern=2,
        n_layers_by_width=46,
    ),
    "gemma3": GgufFamily(
        family="gemma3_text",
        traits={"activation": "gelu_tanh", "local_rope_theta": 10_000.0},
        reads=_SOFT_CAPS | {"attention.sliding_window"},
        window_pattern=6,
        n_layers_by_width=62,
    ),
    "gpt2": GgufFamily(
        family="gpt2",
        traits={"activation": "gelu_tanh"},
        norm_key="attention.layer_norm_epsilon",
    ),
}
