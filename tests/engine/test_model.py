from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import expected_logprobs, open_tiny, tiny_llama, write_folder
from torch import Tensor

from evalkit.engine.config import Activation
from evalkit.engine.ops import cpu, ref
from evalkit.engine.ops.products import Linear, pack

EXACT = cpu.Numerics(min_rows=16)
EPS = float(torch.finfo(torch.float32).eps)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_log_probabilities_are_those_of_transformers(
    tmp_path_factory: pytest.TempPathFactory, tied: bool, kv_heads: int
) -> None:
    model: Any = tiny_llama(tie_word_embeddings=tied, num_key_value_heads=kv_heads)
    llm = open_tiny(write_folder(model, tmp_path_factory.mktemp("tiny")))
    ids = torch.randint(0, 100, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    [(_, scored)] = llm.score([(ids[:3], ids[3:])])
    assert not isinstance(scored, Exception)
    expected, is_greedy = expected_logprobs(model, ids[:3], ids[3:])
    assert scored.logprobs == pytest.approx(expected, abs=1e-4)
    assert scored.is_greedy == is_greedy


def test_the_norm_is_its_formula() -> None:
    x, weight = rows(20, 48), rows(48, seed=1)
    expected = ref.rms_norm(x.double(), weight.double(), eps=1e-5)
    torch.testing.assert_close(
        cpu.rms_norm(x, weight, eps=1e-5).double(), expected, rtol=48 * EPS, atol=0
    )


def test_the_rotation_is_its_formula() -> None:
    x, positions = rows(20, 3, 16), torch.arange(7, 27)
    angles = torch.outer(positions.double(), 5000.0 ** (-torch.arange(8).double() / 8))
    cos, sin = angles.cos().float().unsqueeze(1), angles.sin().float().unsqueeze(1)
    torch.testing.assert_close(
        cpu.rotate(x, cos, sin).double(),
        ref.rotate(x.double(), positions, theta=5000.0),
        rtol=0,
        atol=8 * EPS * float(x.abs().max()),
    )


def test_a_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    q, k = rows(1, 1, 16).double(), rows(1, 1, 16, seed=1).double()

    def product(at: int, distance: int) -> float:
        a = ref.rotate(q, torch.tensor([at + distance]), theta=100.0)
        b = ref.rotate(k, torch.tensor([at]), theta=100.0)
        return float((a * b).sum())

    assert product(0, 5) == pytest.approx(product(40, 5), abs=1e-12)
    assert product(9, 0) == pytest.approx(float((q * k).sum()), abs=1e-12)


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("does_fuse", [False, True])
def test_the_gated_unit_is_its_formula(
    activation: Activation, has_bias: bool, does_fuse: bool
) -> None:
    x, gate, up = rows(20, 48), rows(96, 48, seed=1), rows(96, 48, seed=2)
    biases = [rows(96, seed=seed) if has_bias else None for seed in (3, 4)]
    both = [x.double() @ weight.double().T for weight in (gate, up)]
    expected = ref.gated(
        torch.cat([b if o is None else b + o for b, o in zip(both, biases, strict=True)], 1),
        activation,
    )
    packed = [Linear(pack(w), b) for w, b in zip((gate, up), biases, strict=True)]
    if does_fuse and not packed[0].weight.is_mkldnn:
        pytest.skip("this library does not pack")
    got = cpu.gated(x, packed[0], packed[1], activation, cpu.Numerics(does_fuse=does_fuse))
    bound = 48 * EPS * 8 * float(expected.abs().max())
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("n_parts", [1, 3])
def test_log_probabilities_are_their_formula(n_parts: int) -> None:
    hidden, head = rows(5, 48), rows(104, 48, seed=1)
    expected = ref.log_probs(hidden.double(), head.double()).numpy()
    asked = (np.array([0, 4, 4, 2]), np.array([103, 0, 50, 77]))
    found = cpu.predict(hidden, head.chunk(n_parts), EXACT, asked=asked, kept=[1, 3])
    bound = 48 * 8 * EPS * 8
    assert found.asked == pytest.approx(expected[asked], abs=bound)
    assert found.best.tolist() == expected.argmax(-1).tolist()
    assert sorted(found.kept) == [1, 3]
    for row, logits in found.kept.items():
        got = [found.logprob(row, logit) for logit in logits.tolist()]
        assert got == pytest.approx(expected[row].tolist(), abs=bound)


def test_of_equal_logits_the_first_token_is_the_best() -> None:
    head = torch.ones(6, 4)
    nothing = np.empty(0, dtype=np.int64)
    found = cpu.predict(torch.ones(2, 4), head.chunk(3), EXACT, asked=(nothing, nothing))
    assert found.best.tolist() == [0, 0]
    assert found.logprob(0, 4.0) == pytest.approx(-math.log(6))


@pytest.mark.parametrize("k", [48, 768, 769, 2000])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_product_is_the_sum_of_its_parts(k: int, fixed: bool) -> None:
    x, weight = rows(70, k), rows(24, k, seed=1)
    numerics = cpu.Numerics(min_rows=16, fixed=frozenset({(24, k)} if fixed else ()))
    expected = x.double() @ weight.double().T
    bound = k * EPS * float((x.double().abs() @ weight.double().abs().T).max())
    assert float((cpu.linear(x, weight, numerics).double() - expected).abs().max()) <= bound


@given(st.integers(1, 200), st.integers(0, 199))
def test_in_fixed_tiles_a_row_does_not_depend_on_the_number_of_rows(n: int, row: int) -> None:
    x, weight = rows(200, 96), rows(24, 96, seed=1)
    numerics = cpu.Numerics(fixed=frozenset({(24, 96)}))
    start = max(0, min(row, 200 - n))
    alone = cpu.linear(x[start : start + n], weight, numerics)
    assert torch.equal(alone, cpu.linear(x, weight, numerics)[start : start + n])


def test_the_reference_attention_is_that_of_torch() -> None:
    q, k, v = rows(5, 6, 8), rows(5, 2, 8, seed=1), rows(5, 2, 8, seed=2)
    heads_first = [x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)]
    attention: Any = torch.nn.functional.scaled_dot_product_attention
    expected = attention(*heads_first, is_causal=True, enable_gqa=True)[0].transpose(0, 1)
    torch.testing.assert_close(ref.attention(q, k, v), expected)


def test_probing_finds_numbers_of_rows_that_agree() -> None:
    weight = rows(96, 48)
    numerics = cpu.probe([weight], n_heads=6, n_kv_heads=2, head_dim=16, dtype=torch.float32)
    x = rows(90, 48, seed=3)
    whole = cpu.linear(x, weight, numerics)
    for n in range(numerics.min_rows, 90, 7):
        assert torch.equal(cpu.linear(x[:n].clone(), weight, numerics), whole[:n])


def test_bfloat16_products_come_near_float32(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_folder(tiny_llama(), tmp_path_factory.mktemp("tiny"))
    ids = np.random.default_rng(0).integers(0, 100, 120).tolist()
    a, b = (
        dict(open_tiny(folder, dtype=dtype).score([(ids[:20], ids[20:])]))[0]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert not isinstance(a, Exception)
    assert not isinstance(b, Exception)
    # Two layers of random weights, 2⁻⁹ relative error a rounding, logits of a few units.
    assert 0 < np.abs(np.subtract(a.logprobs, b.logprobs)).mean() < 0.05
