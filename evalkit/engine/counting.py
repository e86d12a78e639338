"""How much work items are, known from their ids before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.engine.kv import IdArray
from evalkit.engine.plan import build_trie, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What answering some items takes. What does not fit the model is in ``too_long`` alone."""

    n_tokens: int  # of all inputs, each item on its own
    n_distinct: int  # of these, the ones that are computed: what inputs begin with alike, once
    n_scored: int = 0  # tokens whose log-probability is asked for
    n_texts: int = 0  # items to be gone on from
    n_new: int = 0  # the most tokens that these can get, together
    too_long: tuple[int, ...] = ()  # indices of the items that do not fit


def n_distinct(sequences: Sequence[IdArray]) -> int:
    """The number of different prefixes of some sequences: the tokens on the edges of their trie.

    >>> import numpy as np
    >>> n_distinct([np.array([1, 2, 3]), np.array([1, 2, 4]), np.array([1, 2])])
    4
    """
    nodes = build_trie([sequences[index] for index in in_order(sequences)])
    return sum(node.end - node.start for node in nodes)


def scored_workload(
    items: Sequence[tuple[IdArray, int]], *, too_long: Sequence[int] = ()
) -> Workload:
    """Of items to be scored: their ids, and how many of these are given.

    The last id of an item is never an input.
    """
    inputs = [ids[:-1] for ids, _ in items]
    return Workload(
        n_tokens=sum(map(len, inputs)),
        n_distinct=n_distinct(inputs),
        n_scored=sum(len(ids) - n_given for ids, n_given in items),
        too_long=tuple(too_long),
    )


def generated_workload(
    items: Sequence[tuple[IdArray, int]], *, too_long: Sequence[int] = ()
) -> Workload:
    """Of prompts to be gone on from, and the most tokens that each can get.

    The last token of a prompt is computed for each item, with the first token that it gets.
    """
    return Workload(
        n_tokens=sum(len(prompt) for prompt, _ in items),
        n_distinct=n_distinct([prompt[:-1] for prompt, _ in items]) + len(items),
        n_texts=len(items),
        n_new=sum(room for _, room in items),
        too_long=tuple(too_long),
    )
