"""What the families beyond Llama add: norms, activations, windows, capped scores, rotations."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import seen_slots
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from evalkit.engine.config import Activation
from evalkit.engine.kv import SlotPool, Table
from evalkit.engine.ops import attention, cpu, ref
from evalkit.engine.rope import read_scaling
from evalkit.engine.steps import StepBuilder

EPS = float(torch.finfo(torch.float32).eps)
ACTIVATIONS: tuple[Activation, ...] = ("silu", "gelu", "gelu_tanh")


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_is_its_formula_and_that_of_torch(activation: Activation) -> None:
    x = rows(50, 96) * 3
    theirs = {
        "silu": F.silu(x.double()),
        "gelu": F.gelu(x.double()),
        "gelu_tanh": F.gelu(x.double(), approximate="tanh"),
    }[activation]
    torch.testing.assert_close(ref.activate(x.double(), activation), theirs)
    # One minus something close to one, times x: an error of an ulp of 1 is one of x times that.
    bound = 4 * EPS * float(x.abs().max())
    torch.testing.assert_close(cpu.activate(x, activation).double(), theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 3, 17, 555])
def test_a_row_s_activation_does_not_depend_on_its_batch(activation: Activation, n: int) -> None:
    # Of enough elements that threads share them: a share's last elements must be as the others.
    x = rows(700, 203)
    assert torch.equal(
        cpu.activate(x[40 : 40 + n].clone(), activation), cpu.activate(x, activation)[40 : 40 + n]
    )


def test_the_layer_norm_is_its_formula() -> None:
    x, weight, bias = rows(20, 48), rows(48, seed=1), rows(48, seed=2)
    expected = ref.layer_norm(x.double(), weight.double(), bias.double(), eps=1e-5)
    torch.testing.assert_close(
        expected, F.layer_norm(x.double(), (48,), weight.double(), bias.double(), 1e-5)
    )
    got = cpu.layer_norm(x, weight, bias, eps=1e-5)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=48 * EPS)
    assert torch.equal(cpu.layer_norm(x[3:4], weight, bias, eps=1e-5), got[3:4])


def test_a_part_of_a_head_is_rotated_and_the_rest_left() -> None:
    x, angles = rows(20, 3, 16), rows(20, 1, 3)
    turned = cpu.rotate(x, angles.cos(), angles.sin())
    assert torch.equal(turned[..., 6:], x[..., 6:])
    whole = cpu.rotate(x[..., :6], angles.cos(), angles.sin())
    assert torch.equal(turned[..., :6], whole)


BLOCK = 32


def new_builder(window: int) -> StepBuilder:
    return StepBuilder(
        block_size=BLOCK,
        tile_sizes=attention.TILE_SIZES,
        row_multiple=16,
        key_multiple=4,
        windows=(window,) if window else (),
    )


def new_table(n_slots: int) -> Table:
    pool = SlotPool(n_slots)
    pool.reserve(n_slots)
    return Table(pool=pool, quota=n_slots)


def attended(q: Tensor, k: Tensor, v: Tensor, *, window: int, **options: Any) -> Tensor:
    """Attention through the planner, the queries being the last of the keys' positions."""
    n, n_keys = len(q), len(k)
    table = new_table(2 * n_keys)
    new_builder(window).add(table, np.arange(n_keys - n))
    builder = new_builder(window)
    builder.add(table, np.arange(n))
    step = builder.build()
    # Slots that no key of the sequence is in must not matter, so long as they are finite.
    cache = rows(2, 2 * n_keys, k.shape[1] * k.shape[2], seed=9)
    cache[:, torch.from_numpy(table.slots)] = torch.stack([k, v]).flatten(2)
    kv_heads, group = k.shape[1], q.shape[1] // k.shape[1]
    chunks = [
        attention.as_tensors(chunk, group, torch.float32, attention.Calls())
        for chunk in (step.windowed[window] if window else step.chunks)
    ]
    grouped = q.view(len(q), kv_heads, group, -1).transpose(1, 2).contiguous()
    found = attention.attend(grouped, cache, chunks, **options)
    return found.transpose(1, 2).flatten(1, 2)


@pytest.mark.parametrize("n_keys", [1, 15, 32, 33, 100, 300])
def test_attention_over_blocks_is_attention(n_keys: int) -> None:
    n = min(n_keys, 40)
    q, k, v = rows(n, 6, 16), rows(n_keys, 2, 16, seed=1), rows(n_keys, 2, 16, seed=2)
    expected = ref.attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(attended(q, k, v, window=0).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("softcap", [0.0, 1.5])
@pytest.mark.parametrize("window", [0, 1, 5, 31, 32, 33, 64, 90, 200])
def test_attention_in_a_window_with_capped_scores_is_its_formula(
    window: int, softcap: float
) -> None:
    q, k, v = rows(70, 6, 16), rows(100, 2, 16, seed=1), rows(100, 2, 16, seed=2)
    options = {"scale": 0.6, "softcap": softcap}
    got = attended(q, k, v, window=window, **options)
    expected = ref.attention(q.double(), k.double(), v.double(), window=window, **options)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.sampled_from([0, 7, 40]), st.sampled_from([0.0, 2.0]))
def test_a_query_does_not_depend_on_how_many_come_with_it(
    n: int, window: int, softcap: float
) -> None:
    q, k, v = rows(70, 6, 16), rows(100, 2, 16, seed=1), rows(100, 2, 16, seed=2)
    together = attended(q, k, v, window=window, softcap=softcap)
    # The last n of the queries, which the planner puts in smaller or fewer tiles.
    assert torch.equal(attended(q[-n:], k, v, window=window, softcap=softcap), together[-n:])


@given(st.integers(1, 60), st.integers(0, 300), st.integers(1, 320))
def test_each_key_of_a_window_is_seen_once_and_no_other(n: int, n_before: int, window: int) -> None:
    table = new_table(n + n_before)
    new_builder(window).add(table, np.arange(n_before))
    builder = new_builder(window)
    builder.add(table, np.arange(n))
    seen = seen_slots(builder.build().windowed[window], n)
    for row, slots in enumerate(seen):
        position = n_before + row
        assert slots == table.slots[max(0, position - window + 1) : position + 1].tolist()


def test_logits_are_capped_before_they_are_normalised() -> None:
    hidden, head = rows(5, 48) * 2, rows(104, 48, seed=1)
    expected = (3 * torch.tanh(hidden.double() @ head.double().T / 3)).log_softmax(-1)
    each = np.arange(5).repeat(104), np.tile(np.arange(104), 5)
    found = cpu.predict(hidden, [head], cpu.Numerics(), asked=each, softcap=3.0)
    assert found.asked == pytest.approx(expected.flatten().numpy(), abs=1e-5)


SCHEMES: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    "yarn with its own betas": {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 24.0,
        "beta_slow": 2.0,
        "truncate": False,
    },
    "yarn with two scales": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
    },
    "yarn with a scale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 4096,
        "attention_factor": 0.9,
    },
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0 + i / 8 for i in range(32)],
        "long_factor": [2.0 + i for i in range(32)],
        "original_max_position_embeddings": 4096,
    },
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rates_are_those_of_transformers(scheme: str) -> None:
    parameters = SCHEMES[scheme]
    config = LlamaConfig(
        hidden_size=512,
        num_attention_heads=8,
        max_position_embeddings=131_072,
        rope_parameters=parameters | {"rope_theta": 500_000.0},
    )
    rates, scale = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, seq_len=1)
    got = read_scaling(parameters, theta=500_000.0, dim=64, max_length=131_072, source="c")
    plain = 500_000.0 ** -(torch.arange(32, dtype=torch.float64) / 32)
    divisors = torch.tensor(got.divisors, dtype=torch.float64)
    torch.testing.assert_close(plain / divisors, rates.double(), rtol=1e-5, atol=0)
    assert got.scale == pytest.approx(scale, rel=1e-12)
    assert got.max_length == (4096 if scheme == "longrope" else 0)


def test_a_scheme_that_changes_nothing_divides_nothing() -> None:
    parameters = {"rope_type": "linear", "factor": 1.0}
    got = read_scaling(parameters, theta=1e4, dim=64, max_length=100, source="c")
    assert (got.divisors, got.scale) == ((), 1.0)


@given(st.floats(1.0, 64.0), st.integers(64, 65536))
def test_yarn_divides_by_something_between_one_and_the_factor(factor: float, length: int) -> None:
    parameters = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": length,
    }
    got = read_scaling(parameters, theta=1e4, dim=64, max_length=length, source="c")
    assert all(1 - 1e-9 <= d <= factor * (1 + 1e-9) for d in got.divisors)
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(got.divisors))
    assert math.isclose(got.scale, 0.1 * math.log(factor) + 1, rel_tol=1e-12)
