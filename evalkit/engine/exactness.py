"""Measures, on the machine at hand, whether a model's answers depend on what is asked beside them.

``LLM.exact`` is a promise made from a probe of a few products; this is the whole engine, asked the
same things in several ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from evalkit.engine.engine import LLM
from evalkit.engine.types import Budget, Generated, Sampling, Scored

_N_SHOTS = 140  # tokens that all prompts share: more than a block of attention
_N_ITEMS = 12
_N_NEW = 6

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One way of asking, compared bit by bit with asking for each thing alone."""

    name: str
    n_compared: int  # log-probabilities
    n_different: int
    largest: float  # |difference| of two log-probabilities, in nats


def check(llm: LLM, *, seed: int = 0) -> list[Finding]:
    """Ask the same things alone, together, shuffled, in small steps, on one thread.

    The prompts are random ids that share a beginning; they are scored, and continued greedily and
    by sampling. Takes some seconds for a small model.
    """
    pairs, prompts = _questions(llm, seed)
    order = np.random.default_rng(seed).permutation(_N_ITEMS).tolist()
    small = Budget(step_tokens=48, n_active=3)

    def score(indices: Sequence[int]) -> dict[int, Scored | Exception]:
        return {indices[i]: r for i, r in llm.score([pairs[i] for i in indices])}

    def go_on(indices: Sequence[int]) -> dict[int, Generated | Exception]:
        return {indices[i]: r for i, r in llm.generate([prompts[i] for i in indices])}

    scored = _alone(score, range(_N_ITEMS))
    drawn = _alone(go_on, range(0, _N_ITEMS, 3))
    some = list(drawn)
    findings = [
        _compare("scored together", scored, score(range(_N_ITEMS))),
        _compare("scored in another order", scored, score(order)),
        _compare("generated together", drawn, go_on(some)),
        _compare("generated in another order", drawn, go_on(some[::-1])),
    ]
    with llm.budgeted(small):
        findings.append(_compare("scored in small steps", scored, score(order)))
        findings.append(_compare("generated a few at a time", drawn, go_on(some)))
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if n_threads > 1 else 2)
        name = f"scored with {torch.get_num_threads()} thread(s), not {n_threads}"
        findings.append(_compare(name, scored, score(range(_N_ITEMS))))
    finally:
        torch.set_num_threads(n_threads)
    return findings


def _questions(
    llm: LLM, seed: int
) -> tuple[list[tuple[list[int], list[int]]], list[tuple[list[int], Sampling, int]]]:
    rng = np.random.default_rng(seed)
    n_shots = min(_N_SHOTS, llm.max_length // 3)

    def ids(n: int) -> list[int]:
        return [int(i) for i in rng.integers(0, llm.tokenizer.vocab_size, n)]

    shots = ids(n_shots)
    pairs, prompts = [], []
    for i in range(_N_ITEMS):
        own = ids(int(rng.integers(1, n_shots // 6)))
        context = own if i % 6 == 0 else shots + own
        pairs.append((context, ids(1 + i % 5)))
        sampling = Sampling(max_tokens=_N_NEW, temperature=(i % 2) * 0.8, top_p=0.95)
        prompts.append((context, sampling, i))
    return pairs, prompts


def _alone(ask: Callable[[Sequence[int]], dict[int, T]], indices: Sequence[int]) -> dict[int, T]:
    return {i: ask([i])[i] for i in indices}


def _compare(
    name: str,
    expected: dict[int, Scored | Exception] | dict[int, Generated | Exception],
    found: dict[int, Scored | Exception] | dict[int, Generated | Exception],
) -> Finding:
    n_compared = n_different = 0
    largest = 0.0
    for index, one in expected.items():
        a, b = _logprobs(one), _logprobs(found[index])
        if len(a) != len(b):
            n_different += 1
        for x, y in zip(a, b, strict=False):
            n_compared += 1
            n_different += x != y
            largest = max(largest, abs(x - y))
    return Finding(name=name, n_compared=n_compared, n_different=n_different, largest=largest)


def _logprobs(result: Scored | Generated | Exception) -> tuple[float, ...]:
    if isinstance(result, Exception):
        raise result
    return result.logprobs
