"""A decoder's description from a Hugging Face ``config.json``.

Whatever a configuration switches on that is not known here is an error: a model that runs with
a part of it left out gives numbers that look right and are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.engine.config import Activation, Arch
from evalkit.engine.config_values import cap, flag, integer, number, require_neutral
from evalkit.engine.errors import ModelFileError
from evalkit.engine.families import FAMILIES, Family
from evalkit.engine.rope import read_scaling

_READ = frozenset(
    {
        "vocab_size",
        "num_hidden_layers",
        "hidden_size",
        "hidden_act",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "rope_theta",
        "rope_parameters",
        "rope_scaling",
        "max_position_embeddings",
        "tie_word_embeddings",
        "sliding_window",
        "model_type",
        "architectures",
        "layer_types",
    }
)
# Nothing here changes a logit at inference: identity, training, storage, generation defaults.
_INERT = frozenset(
    {
        "attention_dropout",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        "dtype",
        "torch_dtype",
        "initializer_range",
        "pretraining_tp",
        "use_cache",
        "cache_implementation",
        "transformers_version",
        "transformers.js_config",
        "unsloth_version",
        "unsloth_fixed",
        "is_llama_config",
        "return_dict",
        "chunk_size_feed_forward",
        "id2label",
        "label2id",
        "problem_type",
        "output_attentions",
        "output_hidden_states",
        "is_encoder_decoder",
        "tokenizer_class",
        "auto_map",
        "max_sequence_length",
    }
)
_NEUTRAL: Mapping[str, object] = {"partial_rotary_factor": 1.0}
_ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# Null in these switches something off; in any other key it means that the key is absent.
_NULLABLE = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"


def arch_from_config(config: Mapping[str, Any], *, source: str) -> Arch:
    """The decoder that a Hugging Face ``config.json`` describes.

    ``source`` names the file in messages. Another family, or a feature that the engine lacks
    (quantised weights, rope scaling that depends on a text's length, ...), is a ModelFileError.
    """
    name = str(config.get("model_type"))
    if name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ModelFileError(f"{source}: the {name!r} family is not supported; supported: {known}")
    family = FAMILIES[name]
    n_scores = _n_scores(config, family, source=source)
    values = _values(config, family)
    _refuse_unread(values, family, source=source)
    n_heads = integer(values, "num_attention_heads", source=source)
    hidden_size = integer(values, "hidden_size", source=source)
    head_dim = integer(values, "head_dim", source=source, default=hidden_size // n_heads)
    rope = _rope(values, family, head_dim=head_dim, source=source)
    fields: dict[str, Any] = {
        "family": name,
        "vocab_size": integer(values, "vocab_size", source=source),
        "n_layers": integer(values, "num_hidden_layers", source=source),
        "hidden_size": hidden_size,
        "intermediate_size": _intermediate_size(values, family, source=source),
        "n_heads": n_heads,
        "n_kv_heads": integer(values, "num_key_value_heads", source=source, default=n_heads),
        "head_dim": head_dim,
        "norm_eps": number(values, "rms_norm_eps", source=source),
        "tie_embeddings": flag(values, "tie_word_embeddings", source=source),
        "n_scores": n_scores,
        "activation": _activation(values, source=source),
    }
    fields |= {**family.traits, **rope, **_optional(values, family, source=source)}
    fields["windows"] = _windows(values, family, fields, source=source)
    return Arch(**fields)


def _n_scores(config: Mapping[str, Any], family: Family, *, source: str) -> int:
    """How many numbers the head of a sequence classifier gives; 0 for a language model."""
    given = config.get("architectures")
    if given in (None, [family.architecture]):
        return 0
    if given != [family.classifier]:
        raise ModelFileError(
            f"{source}: architectures is {given}, not {family.architecture} or {family.classifier}"
        )
    # Two labels are the default, which a configuration does not write down.
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) else 2


def _values(config: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """The configuration by the names of all families, with this one's defaults."""
    given = {k: v for k, v in config.items() if v is not None or k in _NULLABLE}
    own = {family.renamed[k]: given.pop(k) for k in list(given) if k in family.renamed}
    return {**family.defaults, **given, **own}


def _refuse_unread(values: Mapping[str, Any], family: Family, *, source: str) -> None:
    followed = _READ | _INERT | family.reads | family.inert
    for key, value in values.items():
        if key not in followed and not key.startswith("_"):
            neutral = family.neutral.get(key, _NEUTRAL.get(key))
            require_neutral(key, value, neutral=neutral, source=source)


def _intermediate_size(values: Mapping[str, Any], family: Family, *, source: str) -> int:
    if "moe_intermediate_size" in family.reads:
        return integer(values, "moe_intermediate_size", source=source)
    default = None
    if "n_inner" in family.renamed:
        default = 4 * integer(values, "hidden_size", source=source)
    return integer(values, "intermediate_size", source=source, default=default)


def _activation(values: Mapping[str, Any], *, source: str) -> Activation:
    name = values.get("hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise ModelFileError(f"{source}: hidden_act = {name!r} is not supported")
    return _ACTIVATIONS[name]


def _optional(values: Mapping[str, Any], family: Family, *, source: str) -> dict[str, Any]:
    """Fields of Arch that only some families' configurations speak of."""
    found: dict[str, Any] = {}
    reads = family.reads
    if "attention_bias" in reads:
        found["qkv_bias"] = found["o_bias"] = flag(values, "attention_bias", source=source)
    if "mlp_bias" in reads:
        found["mlp_bias"] = flag(values, "mlp_bias", source=source)
    if "use_parallel_residual" in reads:
        found["is_parallel"] = flag(values, "use_parallel_residual", source=source)
    if "query_pre_attn_scalar" in reads:
        found["query_scale"] = number(values, "query_pre_attn_scalar", source=source) ** -0.5
        found["embed_scale"] = integer(values, "hidden_size", source=source) ** 0.5
        found["attn_softcap"] = cap(values, "attn_logit_softcapping", source=source)
        found["logit_softcap"] = cap(values, "final_logit_softcapping", source=source)
    if "num_local_experts" in reads:
        found["n_experts"] = integer(values, "num_local_experts", source=source)
        found["n_experts_used"] = integer(values, "num_experts_per_tok", source=source)
        found["norm_expert_weights"] = flag(values, "norm_topk_prob", source=source, default=True)
    return found


def _rope(
    values: Mapping[str, Any], family: Family, *, head_dim: int, source: str
) -> dict[str, Any]:
    """The fields of Arch about positions; ``rope_parameters`` (transformers 5) or older keys."""
    max_length = integer(values, "max_position_embeddings", source=source)
    if family.traits.get("positions") == "learned":
        return {"rope_theta": 0.0, "max_length": max_length}
    parameters = _rope_parameters(values, source=source)
    fields: dict[str, Any] = {}
    if "rope_local_base_freq" in family.reads:
        fields["local_rope_theta"] = _local_theta(parameters.pop(_LOCAL, {}), values, source=source)
        parameters |= parameters.pop(_GLOBAL, {})
    merged = {"rope_theta": 10_000.0, **values, **parameters}
    theta = number(merged, "rope_theta", source=source)
    share = number(merged, "partial_rotary_factor", source=source, default=1.0)
    if share != 1 and "partial_rotary_factor" not in family.reads:
        raise ModelFileError(f"{source}: partial_rotary_factor = {share} is not supported")
    for key in ("rope_theta", "partial_rotary_factor"):
        parameters.pop(key, None)
    # Phi-3 says it beside the other sizes, and says it also where nothing is scaled.
    original = values.get("original_max_position_embeddings")
    if original is not None and parameters.keys() & {"short_factor", "long_factor"}:
        parameters["original_max_position_embeddings"] = original
    dim = int(head_dim * share)
    scaling = read_scaling(parameters, theta=theta, dim=dim, max_length=max_length, source=source)
    return fields | {
        "rope_theta": theta,
        "rope_dim": 0 if dim == head_dim else dim,
        "rope_divisors": scaling.divisors,
        "rope_scale": scaling.scale,
        "max_length": min(max_length, scaling.max_length or max_length),
    }


def _rope_parameters(values: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        found = values.get(key, {})
        if not isinstance(found, Mapping):
            raise ModelFileError(f"{source}: {key} = {found!r} is not supported")
        parameters |= found
    return parameters


def _local_theta(parameters: Mapping[str, Any], values: Mapping[str, Any], *, source: str) -> float:
    """The base of the angles in layers with a window, which no scheme stretches."""
    known = {"rope_theta": values.get("rope_local_base_freq"), "rope_type": "default"}
    merged = {**known, **parameters}
    if merged["rope_type"] != "default" or merged.keys() != known.keys():
        raise ModelFileError(f"{source}: rope scaling of layers with a window is not supported")
    return number(merged, "rope_theta", source=source)


def _windows(
    values: Mapping[str, Any], family: Family, fields: Mapping[str, Any], *, source: str
) -> tuple[int, ...]:
    """The window of each layer; empty if none of them is shorter than the longest text."""
    n_layers, max_length = fields["n_layers"], fields["max_length"]
    window = 0
    is_off = family.windows == "upper" and not flag(values, "use_sliding_window", source=source)
    if values.get("sliding_window") is not None and not is_off:
        window = integer(values, "sliding_window", source=source)
    if family.windows == "none" and 0 < window < max_length:
        raise ModelFileError(f"{source}: sliding_window = {window} is not supported")
    usual = [_GLOBAL] * n_layers
    if window:
        usual = _usual_kinds(values, family, n_layers, source=source)
    kinds = values.get("layer_types", usual)
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        raise ModelFileError(f"{source}: layer_types does not say what {n_layers} layers are")
    allowed = {_GLOBAL, _LOCAL} if window and family.windows in ("upper", "pattern") else set()
    for kind, own in zip(kinds, usual, strict=True):
        if kind not in allowed | {own}:
            raise ModelFileError(f"{source}: layer_types has {kind!r}: not supported")
    # Layers with a window may be rotated otherwise, however long it is.
    is_moot = window >= max_length and "local_rope_theta" not in fields
    if is_moot or _LOCAL not in kinds:
        return ()
    return tuple(window if kind == _LOCAL else 0 for kind in kinds)


def _usual_kinds(
    values: Mapping[str, Any], family: Family, n_layers: int, *, source: str
) -> list[str]:
    """The kinds of layers that see a window, where ``layer_types`` does not say."""
    if family.windows == "all":
        return [_LOCAL] * n_layers
    if family.windows == "upper":
        first = values.get("max_window_layers", 28)
        if not isinstance(first, int):
            raise ModelFileError(f"{source}: max_window_layers = {first!r} is not a whole number")
        return [_LOCAL if i >= first else _GLOBAL for i in range(n_layers)]
    if family.windows == "pattern":
        every = integer(
            values, "sliding_window_pattern", source=source, default=family.window_pattern
        )
        return [_LOCAL if (i + 1) % every else _GLOBAL for i in range(n_layers)]
    return [_GLOBAL] * n_layers
