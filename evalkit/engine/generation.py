"""The generation loop: continuous batching over prompts that share what they begin with alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from evalkit.engine.kv import IdArray, KVCache, SlotPool, Table
from evalkit.engine.model import Model, forward, lent_cache, new_step, predict
from evalkit.engine.plan import Walker, in_order, require
from evalkit.engine.sampler import Transcript, draw
from evalkit.engine.types import Budget, Generated, Sampling


@dataclass(slots=True, kw_only=True)
class Generation:
    """A prompt being gone on from, by at most ``room`` tokens."""

    index: int
    prompt: IdArray
    room: int
    sampling: Sampling
    seed: int
    transcript: Transcript
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    table: Table = field(init=False)  # holds all ids but the last

    @property
    def last(self) -> int:
        return self.ids[-1] if self.ids else int(self.prompt[-1])

    def reserve(self, pool: SlotPool) -> bool:
        """Whether all slots that it can still need are reserved for it, now if not before."""
        if self.table.quota == 0:
            if not pool.reserve(self.room):
                return False
            self.table.quota = self.room
        return True

    def take(self, token: int, logprob: float, ends: Collection[int]) -> Generated | None:
        """Append a token; the result, if it was the last."""
        is_end = token in ends
        if not is_end:
            self.ids.append(token)
            self.logprobs.append(logprob)
            is_end = self.transcript.push(token)
        if not is_end and len(self.ids) < self.room:
            return None
        text, n_kept = self.transcript.close()
        is_end |= self.transcript.is_stopped
        return Generated(
            token_ids=tuple(self.ids[:n_kept]),
            text=text,
            logprobs=tuple(self.logprobs[:n_kept]),
            finish_reason="stop" if is_end else "length",
        )


def generate(
    model: Model, items: Sequence[Generation], ends: Collection[int], budget: Budget
) -> Iterator[tuple[int, Generated]]:
    """Run generations to their ends; ``ends`` are the ids that end a text.

    A finished sequence leaves its place to the next in the same step of the loop; prompts are
    computed beside the next tokens of sequences under way. Yields (index, result).
    """
    if not items:
        return
    order = in_order([item.prompt[:-1] for item in items])
    items = [items[i] for i in order]
    longest = max(len(item.prompt) + item.room for item in items)
    with lent_cache(model, longest, budget) as (pool, cache):
        inputs = [item.prompt[:-1] for item in items]
        walker = Walker(inputs, pool, tails=[item.room for item in items])
        waiting: deque[Generation] = deque()
        active: list[Generation] = []
        while active or waiting or not walker.is_done:
            builder = new_step(model)
            rows = [builder.add(item.table, np.array([item.last])) for item in active]
            if not waiting:
                n_tokens = max(1, budget.step_tokens - len(active))
                n_free = budget.n_active - len(active)
                _, starts = walker.fill(builder, n_tokens, max_starts=n_free)
                for start in starts:
                    items[start.sequence].table = start.table
                    waiting.append(items[start.sequence])
            while waiting and len(active) < budget.n_active and waiting[0].reserve(pool):
                item = waiting.popleft()
                active.append(item)
                rows.append(builder.add(item.table, np.array([item.last])))
            require(builder.n_tokens > 0)
            hidden = forward(model, builder.build(), cache, np.array(rows, dtype=np.int64))
            walker.retire()
            for item, result in _advance(model, hidden, active, ends):
                item.table.free()
                active.remove(item)
                yield item.index, result
            for item in active:
                _settle(item.table, cache)


def _settle(table: Table, cache: KVCache) -> None:
    """Put a sequence that has just been started where its next steps read it best."""
    move = table.settle() if table.paged_from is None else None
    if move is not None:
        cache.copy(move)
        cache.clear(table.spare)


def _advance(
    model: Model, hidden: Tensor, active: Sequence[Generation], ends: Collection[int]
) -> list[tuple[Generation, Generated]]:
    """Give each active sequence its next token; those that ended, with their results."""
    ended: list[tuple[Generation, Generated]] = []
    drawn = [row for row, item in enumerate(active) if not item.sampling.is_plain]
    for rows, predicted in predict(model, hidden, kept=drawn):
        for row, item in enumerate(active[rows.start : rows.stop]):  # as ``predicted`` counts
            token, logit = int(predicted.best[row]), float(predicted.highest[row])
            if row in predicted.kept:
                logits = predicted.kept[row]
                seen = np.concatenate([item.prompt, np.array(item.ids, dtype=np.int64)])
                token = draw(
                    logits.astype(np.float64),
                    item.sampling,
                    seen=seen,
                    seed=item.seed,
                    step=len(item.ids),
                )
                logit = float(logits[token])
            result = item.take(token, predicted.logprob(row, logit), ends)
            if result is not None:
                ended.append((item, result))
    return ended
