"""Work counted before it is done: what the trie shares, and what does not fit."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import LENGTH, write_tiny_model

from evalkit.engine import LLM
from evalkit.engine.counting import generated_workload, n_distinct, scored_workload
from evalkit.engine.kv import IdArray

# Few ids: many shared prefixes, many equal sequences, and empty ones.
SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=9), max_size=12)


def arrays(sequences: list[list[int]]) -> list[IdArray]:
    return [np.array(ids, dtype=np.int32) for ids in sequences]


def prefixes(sequences: list[list[int]]) -> set[tuple[int, ...]]:
    return {tuple(ids[:n]) for ids in sequences for n in range(1, len(ids) + 1)}


@given(SEQUENCES)
def test_distinct_tokens_are_the_distinct_prefixes(sequences: list[list[int]]) -> None:
    assert n_distinct(arrays(sequences)) == len(prefixes(sequences))


@given(SEQUENCES, st.randoms(use_true_random=False))
def test_the_order_of_the_items_does_not_matter(
    sequences: list[list[int]], rng: random.Random
) -> None:
    found = [(ids, 1) for ids in arrays([[9, *ids] for ids in sequences])]
    shuffled = rng.sample(found, len(found))
    assert scored_workload(found) == scored_workload(shuffled)
    assert generated_workload(found) == generated_workload(shuffled)


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=2, max_size=9), st.integers(1, 8))))
def test_the_last_id_of_a_scored_item_is_never_computed(items: list[tuple[list[int], int]]) -> None:
    given_ids = [(ids, min(n, len(ids) - 1)) for ids, n in items]
    found = scored_workload([(np.array(ids), n) for ids, n in given_ids])
    inputs = [ids[:-1] for ids, _ in given_ids]
    assert found.n_tokens == sum(map(len, inputs))
    assert found.n_distinct == len(prefixes(inputs))
    assert found.n_scored == sum(len(ids) - n for ids, n in given_ids)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), max_size=9))
def test_the_last_token_of_a_prompt_is_computed_for_each_text(prompts: list[list[int]]) -> None:
    found = generated_workload([(np.array(ids), 3) for ids in prompts])
    assert found.n_distinct == len(prefixes([ids[:-1] for ids in prompts])) + len(prompts)
    assert (found.n_texts, found.n_new) == (len(prompts), 3 * len(prompts))
    assert found.n_distinct <= found.n_tokens


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM.load(write_tiny_model(tmp_path_factory.mktemp("count") / "model"), dtype="float32")


def test_items_that_do_not_fit_are_those_that_scoring_refuses(llm: LLM) -> None:
    items = [([1] * n, [2, 3]) for n in (0, 5, LENGTH - 1, LENGTH)] + [([1] * LENGTH, [])]
    refused = {i for i, scored in llm.score(items) if isinstance(scored, Exception)}
    found = llm.count_scored(items)
    assert set(found.too_long) == refused == {3}
    # the model's own beginning of a text stands for an empty context; the empty text costs nothing
    assert found.n_tokens == (1 + 1) + (5 + 1) + LENGTH
    assert found.n_scored == 6


def test_prompts_leave_room_for_what_is_counted(llm: LLM) -> None:
    found = llm.count_generated([([1] * n, 10) for n in (LENGTH - 3, LENGTH, LENGTH + 1)])
    assert found.too_long == (2,)
    assert found.n_new == 4 + 1  # the last token that is drawn is not computed any more
    assert llm.count_generated([([1, 2], 0)]).n_texts == 0


def test_a_long_text_is_counted_in_windows(llm: LLM) -> None:
    text = [5] + [7] * (LENGTH + 475)
    found = llm.count_rolling([text])
    # two windows of LENGTH inputs: the last reaches back as far as the length allows
    assert (found.n_tokens, found.n_scored) == (2 * LENGTH, len(text))
    assert llm.count_rolling([]).n_tokens == 0
