"""The rating loop: texts in, what a scalar head says of each out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from evalkit.engine.kv import IdArray
from evalkit.engine.model import Model, forward, lent_cache, new_step
from evalkit.engine.plan import Walker, in_order, require
from evalkit.engine.types import Budget


def rate(
    model: Model, items: Sequence[tuple[int, IdArray]], budget: Budget
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Rate texts (index, ids) by the hidden state of their last token; what they share, once.

    Each score is a sum of its own, so it has the same bits in any batch.
    """
    if not items:
        return
    items = [items[i] for i in in_order([ids for _, ids in items])]
    head = model.weights["score.weight"]
    with lent_cache(model, max(len(ids) for _, ids in items), budget) as (pool, cache):
        walker = Walker([ids for _, ids in items], pool)
        while not walker.is_done:
            builder = new_step(model)
            spans, _ = walker.fill(builder, budget.step_tokens)
            require(builder.n_tokens > 0)
            # Those that end with a node come first in it, and end with its last position.
            ended = [
                (span.row + span.end - 1 - span.start, place)
                for span in spans
                if span.end == span.node.end
                for place in range(span.node.low, span.node.low + span.node.own)
            ]
            rows = np.array([row for row, _ in ended], dtype=np.int64)
            hidden = forward(model, builder.build(), cache, rows)
            walker.retire()
            for state, (_, place) in zip(hidden, ended, strict=True):
                scores = tuple(float((state * weight).sum()) for weight in head)
                yield items[place][0], scores
