from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from evalkit.engine.config import Arch
from evalkit.engine.config_gguf import arch_from_gguf
from evalkit.engine.config_json import arch_from_config
from evalkit.engine.errors import EngineError, ModelFileError
from evalkit.engine.loader import Checkpoint, load_checkpoint
from evalkit.engine.tokenizer import byte_alphabet

SIZES: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,  # not 32 / 4: a head may be wider than its share
    "max_position_embeddings": 96,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5000.0,
    "tie_word_embeddings": False,
}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def tiny(**changes: Any) -> Any:
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**(SIZES | changes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # all ones at birth: then a swap would not show
                parameter.add_(torch.randn_like(parameter) / 10)
    return model


def add_tokenizer(folder: Path) -> None:
    vocab = {character: i for i, character in enumerate(byte_alphabet().values())}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    backend.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def save(model: Any, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    add_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny()


@pytest.fixture(scope="module")
def saved(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(model, tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def expected_weights(model: Any) -> dict[str, Tensor]:
    """The interface's table, read from the modules of transformers."""
    weights: dict[str, Tensor] = {"embed.weight": model.model.embed_tokens.weight}
    for i, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        qkv = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        weights |= {
            f"layers.{i}.attn_norm.weight": layer.input_layernorm.weight,
            f"layers.{i}.qkv.weight": torch.cat(qkv),
            f"layers.{i}.o.weight": attention.o_proj.weight,
            f"layers.{i}.mlp_norm.weight": layer.post_attention_layernorm.weight,
            f"layers.{i}.gate_up.weight": torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
            f"layers.{i}.down.weight": mlp.down_proj.weight,
        }
    weights["norm.weight"] = model.model.norm.weight
    if not model.config.tie_word_embeddings:
        weights["head.weight"] = model.lm_head.weight
    return {name: weight.detach() for name, weight in weights.items()}


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype, name
        assert torch.equal(ours[name], theirs[name]), name


def load(path: Path) -> Checkpoint:
    return load_checkpoint(path, dtype=torch.float32)


TINY_ARCH = Arch(
    family="llama",
    vocab_size=264,
    n_layers=2,
    hidden_size=32,
    intermediate_size=40,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    norm_eps=1e-5,
    rope_theta=5000.0,
    max_length=96,
    tie_embeddings=False,
)


def test_a_folder_gives_the_weights_of_transformers(model: Any, saved: Path) -> None:
    checkpoint = load(saved)
    assert checkpoint.arch == TINY_ARCH
    assert_same(checkpoint.weights, expected_weights(model))
    assert checkpoint.chat_template == TEMPLATE
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("é")) == "é"
    assert checkpoint.tokenizer.eos_id == 257


def test_shards_give_the_same_checkpoint(model: Any, saved: Path, tmp_path: Path) -> None:
    sharded = save(model, tmp_path, max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert_same(load(sharded).weights, load(saved).weights)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_get_the_dtype_asked_for_and_norms_stay_float32(
    tmp_path: Path, stored: torch.dtype
) -> None:
    model = tiny().to(stored)
    checkpoint = load_checkpoint(save(model, tmp_path), dtype=torch.bfloat16)
    expected = {
        name: weight.to(torch.float32 if "norm" in name else torch.bfloat16)
        for name, weight in expected_weights(model).items()
    }
    assert_same(checkpoint.weights, expected)


def test_tied_embeddings_have_no_head(tmp_path: Path) -> None:
    model = tiny(tie_word_embeddings=True)
    checkpoint = load(save(model, tmp_path))
    assert checkpoint.arch.tie_embeddings
    assert_same(checkpoint.weights, expected_weights(model))


def test_mistral_without_a_window_is_accepted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None))
    model.save_pretrained(tmp_path)
    add_tokenizer(tmp_path)
    checkpoint = load(tmp_path)
    assert checkpoint.arch.family == "mistral"
    assert_same(checkpoint.weights, expected_weights(model))


def interleaved(weight: Tensor, n_heads: int) -> Tensor:
    """llama.cpp, convert_hf_to_gguf.py, ``LlamaModel.permute``: the layout that GGUF stores."""
    halves = weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    model: Any,
    path: Path,
    *,
    kind: str = "F32",
    extra: Mapping[str, Tensor] | None = None,
) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*byte_alphabet().values(), "he", *(f"<{i}>" for i in range(7))])
    writer.add_token_types([1] * 257 + [3] * 7)
    writer.add_token_merges(["h e"])
    writer.add_eos_token_id(257)
    writer.add_chat_template(TEMPLATE)
    tensors: dict[str, Tensor] = {
        "token_embd": model.model.embed_tokens.weight,
        "output_norm": model.model.norm.weight,
    }
    if not config.tie_word_embeddings:
        tensors["output"] = model.lm_head.weight
    for i, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        tensors |= {
            f"blk.{i}.attn_norm": layer.input_layernorm.weight,
            f"blk.{i}.attn_q": interleaved(attention.q_proj.weight, 4),
            f"blk.{i}.attn_k": interleaved(attention.k_proj.weight, 2),
            f"blk.{i}.attn_v": attention.v_proj.weight,
            f"blk.{i}.attn_output": attention.o_proj.weight,
            f"blk.{i}.ffn_norm": layer.post_attention_layernorm.weight,
            f"blk.{i}.ffn_gate": mlp.gate_proj.weight,
            f"blk.{i}.ffn_up": mlp.up_proj.weight,
            f"blk.{i}.ffn_down": mlp.down_proj.weight,
        }
    tensors |= extra or {}
    for name, weight in tensors.items():
        values = weight.detach().numpy().astype(np.float32)
        is_packed = values.ndim == 2 and values.shape[1] % 32 == 0
        quantization = gguf.GGMLQuantizationType[kind if is_packed else "F32"]
        packed = gguf.quantize(values, quantization)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_gguf_file_gives_the_weights_of_transformers(tmp_path: Path, is_tied: bool) -> None:
    model = tiny(tie_word_embeddings=is_tied)
    checkpoint = load(write_gguf(model, tmp_path / "tiny.gguf"))
    assert_same(checkpoint.weights, expected_weights(model))
    assert checkpoint.arch.tie_embeddings is is_tied
    assert checkpoint.arch.norm_eps == pytest.approx(1e-5, rel=1e-7)  # GGUF keeps it in float32
    assert (checkpoint.arch.head_dim, checkpoint.arch.rope_theta) == (16, 5000.0)
    assert checkpoint.chat_template == TEMPLATE
    assert checkpoint.tokenizer.eos_ids == {257}


def test_packed_queries_are_put_back_in_order_like_plain_ones(tmp_path: Path) -> None:
    model = tiny(tie_word_embeddings=True)
    with torch.no_grad():
        for layer in model.model.layers:
            weight = layer.self_attn.q_proj.weight
            # Each row holds its number; a block's float16 scale keeps it to 1 part in 2048.
            weight.copy_(torch.arange(64)[:, None].expand(64, 32).float())
    checkpoint = load(write_gguf(model, tmp_path / "tiny.gguf", kind="Q8_0"))
    rows = checkpoint.weights["layers.1.qkv.weight"][:64, 0]
    assert rows.tolist() == pytest.approx(list(range(64)), rel=1e-3)


def test_a_gguf_files_fingerprint_is_its_sha256(tmp_path: Path) -> None:
    path = write_gguf(tiny(), tmp_path / "tiny.gguf")
    assert load(path).fingerprint == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_folders_fingerprint_follows_each_file_that_decides(folder: Path, name: str) -> None:
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before
    path = folder / name
    if name == "model.safetensors":
        tensors = safetensors.torch.load_file(path)
        tensors["model.norm.weight"] += 1
        safetensors.torch.save_file(tensors, path)
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    assert load(folder).fingerprint != before


def test_a_folders_fingerprint_follows_an_added_template_but_no_readme(folder: Path) -> None:
    before = load(folder)
    (folder / "README.md").write_text("x")
    assert load(folder).fingerprint == before.fingerprint
    (folder / "chat_template.jinja").write_text("{{ 1 }}")
    after = load(folder)
    assert after.chat_template == "{{ 1 }}"
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"chat_template": "a"}}, "a"),
        (
            {
                "tokenizer_config.json": {"chat_template": "a"},
                "chat_template.json": {"chat_template": "b"},
            },
            "b",
        ),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [
                        {"name": "tool_use", "template": "t"},
                        {"name": "default", "template": "d"},
                    ]
                }
            },
            "d",
        ),
    ],
)
def test_a_chat_template_is_found_where_models_keep_it(
    folder: Path, files: dict[str, Any], expected: str | None
) -> None:
    (folder / "tokenizer_config.json").unlink()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    assert load(folder).chat_template == expected


def change_tensors(folder: Path, **changes: Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors: dict[str, Tensor | None] = dict(safetensors.torch.load_file(path))
    tensors |= changes
    kept = {name: t.contiguous() for name, t in tensors.items() if t is not None}
    safetensors.torch.save_file(kept, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.norm.weight": None}, "tensor 'model.norm.weight' is missing"),
        (
            {"model.layers.1.mlp.up_proj.weight": torch.zeros(40, 31)},
            r"'model.layers.1.mlp.up_proj.weight' is \[40, 31\]; the configuration says \[40, 32\]",
        ),
        (
            {"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)},
            "'model.layers.0.self_attn.q_proj.bias' is not part of a plain llama model",
        ),
        (
            {"model.layers.2.input_layernorm.weight": torch.zeros(32)},
            "'model.layers.2.input_layernorm.weight' is not part of",
        ),
        (
            {"model.norm.weight": torch.zeros(32, dtype=torch.int8)},
            "'model.norm.weight' is of type I8; only",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    folder: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    change_tensors(folder, **changes)
    with pytest.raises(ModelFileError, match=message):
        load(folder)


def test_stored_rotary_frequencies_are_passed_over(folder: Path) -> None:
    change_tensors(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert "norm.weight" in load(folder).weights


def test_a_stored_head_must_agree_with_tied_embeddings(tmp_path: Path) -> None:
    model = tiny(tie_word_embeddings=True)
    save(model, tmp_path)
    embeddings = model.model.embed_tokens.weight.detach()
    change_tensors(tmp_path, **{"lm_head.weight": embeddings.clone()})
    assert "head.weight" not in load(tmp_path).weights
    change_tensors(tmp_path, **{"lm_head.weight": embeddings + 1})
    with pytest.raises(ModelFileError, match="differs from the embeddings that it is tied to"):
        load(tmp_path)


def test_a_gguf_tensor_without_a_place_is_an_error(tmp_path: Path) -> None:
    path = write_gguf(tiny(), tmp_path / "t.gguf", extra={"rope_factors_long": torch.ones(8)})
    with pytest.raises(ModelFileError, match=r"'rope_factors_long\.weight' is not part of a plain"):
        load(path)


def test_the_rotation_of_llama_3_1_is_in_a_tensor_of_its_gguf_file(tmp_path: Path) -> None:
    factors = torch.arange(1.0, 9.0)
    path = write_gguf(tiny(), tmp_path / "t.gguf", extra={"rope_freqs": factors})
    assert load(path).arch.rope_divisors == tuple(factors.tolist())
    path = write_gguf(tiny(), tmp_path / "u.gguf", extra={"rope_freqs": factors[:5]})
    with pytest.raises(ModelFileError, match=r"rope_freqs\.weight does not go with the metadata"):
        load(path)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = save(tiny(vocab_size=200), tmp_path)
    with pytest.raises(ModelFileError, match="258 tokens, the model only 200"):
        load(folder)


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickled_weights_are_refused_unread(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ModelFileError, match=rf"{name}: pickled weights can run any code"):
            load(path)


def test_a_path_without_a_model_says_what_to_give(folder: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such file or folder"):
        load(folder / "none")
    with pytest.raises(ModelFileError, match="give the folder"):
        load(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"has no model\.safetensors and no"):
        load(folder)
    (folder / "x.gguf").touch()
    with pytest.raises(ModelFileError, match=r"give the file .*x\.gguf"):
        load(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {"a": "../other.safetensors"}}, "is not a safetensors file of this folder"),
        ({"weight_map": {"a": "model.bin"}}, "is not a safetensors file of this folder"),
        ({"weight_map": {"a": "gone.safetensors"}}, r"gone\.safetensors is missing"),
        (
            {"weight_map": {"a": "model.safetensors", "b": "copy.safetensors"}},
            r"tensor '.*' is in copy\.safetensors too",
        ),
    ],
)
def test_an_index_that_cannot_be_followed_is_refused(
    folder: Path, index: dict[str, Any], message: str
) -> None:
    shutil.copy(folder / "model.safetensors", folder / "copy.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFileError, match=message):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_safetensors_file_is_refused(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"model\.safetensors: is damaged") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


CONFIG: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | SIZES


# The keys of SmolLM2-135M-Instruct's config.json.
SMOLLM2_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 49152,
}
SMOLLM2_ARCH = Arch(
    family="llama",
    vocab_size=49152,
    n_layers=30,
    hidden_size=576,
    intermediate_size=1536,
    n_heads=9,
    n_kv_heads=3,
    head_dim=64,
    norm_eps=1e-5,
    rope_theta=100_000.0,
    max_length=8192,
    tie_embeddings=True,
)


def test_a_published_config_is_read_in_full() -> None:
    assert arch_from_config(SMOLLM2_CONFIG, source="config.json") == SMOLLM2_ARCH


@pytest.mark.parametrize("kind", [LlamaConfig, MistralConfig])
def test_what_a_config_leaves_out_is_what_transformers_takes(
    kind: Any,
) -> None:
    sizes = {
        "vocab_size": 10,
        "hidden_size": 64,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 16,
        "max_position_embeddings": 128,
    }
    theirs = kind(**sizes)
    ours = arch_from_config({"model_type": theirs.model_type} | sizes, source="c")
    assert ours.n_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == theirs.head_dim
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.tie_embeddings == theirs.tie_word_embeddings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "the 'bert' family is not supported; supported: gemma2, .*llama"),
        ({"architectures": ["LlamaForTokenClassification"]}, "not LlamaForCausalLM or"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 8.0}}, "type 'dynamic' is not"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is missing"),
        ({"rope_scaling": {"type": "linear"}}, "type 'linear': factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "x": 1}}, "'linear': x is not supp"),
        ({"rope_scaling": {"type": "su", "factor": 2.0}}, "short_factor is not a list of 8"),
        (
            {
                "rope_scaling": {
                    "type": "llama3",
                    "factor": 2.0,
                    "low_freq_factor": 4.0,
                    "high_freq_factor": 1.0,
                }
            },
            "high_freq_factor is not above",
        ),
        ({"rope_scaling": "linear"}, "rope_scaling = 'linear' is not supported"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported"),
        ({"attention_bias": "yes"}, "attention_bias = 'yes' is not true or false"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu' is not supported"),
        ({"sliding_window": 64}, "sliding_window = 64 is not supported"),
        ({"layer_types": ["full_attention"]}, "layer_types does not say what 2 layers are"),
        ({"sliding_window": "64"}, "sliding_window = '64' is not a whole number"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "'sliding_attention'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = .* is not supported"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0 is not supported"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"hidden_size": 0}, "hidden_size = 0 is not a whole number above 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers = True is not"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps = '1e-5' is not a number"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3 key-value heads"),
        ({"head_dim": 15}, "a head of 15 cannot be rotated"),
    ],
)
def test_a_config_that_cannot_be_followed_in_full_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        arch_from_config(CONFIG | changes, source="config.json")


GGUF_KEYS: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.vocab_size": 264,
    "llama.block_count": 2,
    "llama.context_length": 96,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 40,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.key_length": 16,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 5000.0,
}


def test_gguf_metadata_describe_the_same_decoder_as_the_config() -> None:
    from_gguf = arch_from_gguf(GGUF_KEYS, tie_embeddings=False, source="m.gguf")
    assert from_gguf == arch_from_config(CONFIG, source="config.json") == TINY_ARCH


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": "phi3"}, "the 'phi3' family is not supported in GGUF files"),
        ({"llama.rope.scaling.type": "longrope"}, "llama.rope.scaling.type = 'longrope'"),
        ({"llama.rope.scaling.factor": 2.0}, "llama.rope.scaling.type = 'none' with factor 2"),
        ({"llama.rope.scaling.type": "yarn"}, "scaling.original_context_length is missing"),
        ({"llama.expert_count": 8}, "llama.expert_count = 8 is not supported"),
        ({"llama.attention.sliding_window": 4096}, "sliding_window = 4096 is not supported"),
        ({"llama.attention.value_length": 8}, "value_length = 8, but a head has 16"),
        ({"llama.rope.dimension_count": 8}, "dimension_count = 8, but a head has 16"),
        ({"llama.attention.head_count": [4, 2]}, r"head_count = \[4, 2\] is not a whole number"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon is missing"),
    ],
)
def test_gguf_metadata_that_cannot_be_followed_in_full_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        arch_from_gguf(GGUF_KEYS | changes, tie_embeddings=False, source="m.gguf")


def test_the_bundled_model_loads(smollm2_path: Path) -> None:
    checkpoint = load_checkpoint(smollm2_path, dtype=torch.bfloat16)
    # GGUF keeps the epsilon in float32.
    assert replace(checkpoint.arch, norm_eps=1e-5) == SMOLLM2_ARCH
    weights = checkpoint.weights
    assert len(weights) == 2 + 6 * 30
    # 134,515,008 parameters: 135M on the model card, with tied embeddings.
    assert sum(weight.numel() for weight in weights.values()) == 134_515_008
    theirs = next(
        gguf.dequantize(t.data, t.tensor_type)
        for t in gguf.GGUFReader(smollm2_path).tensors
        if t.name == "blk.29.attn_k.weight"
    )
    # llama.cpp's interleaving undone by hand for the last of the 3 heads of 64.
    head = theirs[128:192]
    expected = np.concatenate([head[0::2], head[1::2]])
    ours = weights["layers.29.qkv.weight"][576 + 128 : 576 + 192]
    assert torch.equal(ours, torch.from_numpy(expected).to(torch.bfloat16))
