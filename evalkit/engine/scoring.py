"""The scoring loop: items in, log-probabilities of their continuations out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from evalkit.engine.kv import IdArray, IntArray
from evalkit.engine.model import Model, forward, lent_cache, new_step, predict
from evalkit.engine.plan import Span, Walker, in_order, require
from evalkit.engine.types import Budget, Scored


@dataclass(slots=True, kw_only=True)
class Pending:
    """An item being scored: the ``ids`` from ``n_given`` on, each after all before it.

    At least one id is given and at least one is to be scored.
    """

    index: int
    ids: IdArray
    n_given: int
    logprobs: list[float] = field(default_factory=list)  # those known so far, in order
    is_greedy: bool = True

    @property
    def is_complete(self) -> bool:
        return len(self.logprobs) == len(self.ids) - self.n_given


_Target = tuple[int, Pending, int]  # a row of the step, and the item and id that it predicts


def score(model: Model, items: Sequence[Pending], budget: Budget) -> Iterator[tuple[int, Scored]]:
    """Score items; what several begin with alike is computed once.

    The last id of an item is never computed, and only rows that predict a scored id reach the
    head. Yields (index, result), an item as soon as it is complete.
    """
    if not items:
        return
    order = in_order([item.ids[:-1] for item in items])
    items = [items[i] for i in order]
    n_given = np.array([item.n_given for item in items])
    with lent_cache(model, max(len(item.ids) for item in items), budget) as (pool, cache):
        walker = Walker([item.ids[:-1] for item in items], pool)
        while not walker.is_done:
            builder = new_step(model)
            spans, _ = walker.fill(builder, budget.step_tokens)
            require(builder.n_tokens > 0)
            targets = [t for span in spans for t in _targets(span, items, n_given)]
            rows, at = np.unique(
                np.array([t[0] for t in targets], dtype=np.int64), return_inverse=True
            )
            hidden = forward(model, builder.build(), cache, rows)
            walker.retire()
            yield from _read(model, hidden, targets, at)


def _read(
    model: Model, hidden: Tensor, targets: Sequence[_Target], at: IntArray
) -> Iterator[tuple[int, Scored]]:
    """Give the items their log-probabilities; target ``i`` is predicted by ``hidden[at[i]]``."""
    tokens = np.array([token for _, _, token in targets], dtype=np.int64)
    for rows, predicted in predict(model, hidden, asked=(at, tokens)):
        here = np.flatnonzero((at >= rows.start) & (at < rows.stop))
        for i, logprob in zip(here.tolist(), predicted.asked.tolist(), strict=True):
            _, item, token = targets[i]
            item.logprobs.append(logprob)
            item.is_greedy &= bool(predicted.best[at[i] - rows.start] == token)
            if item.is_complete:
                yield item.index, Scored(logprobs=tuple(item.logprobs), is_greedy=item.is_greedy)


def _targets(span: Span, items: Sequence[Pending], n_given: IntArray) -> Iterator[_Target]:
    """What the rows of a span predict; positions ascend."""
    node = span.node
    # Position p predicts id p + 1, and all items of a node pass through its positions.
    for i in np.flatnonzero(n_given[node.low : node.high] <= span.end).tolist():
        item = items[node.low + i]
        for position in range(max(span.start, item.n_given - 1), span.end):
            yield span.row + position - span.start, item, int(item.ids[position + 1])
