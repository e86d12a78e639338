"""A language model on this machine: scores and generates, many requests at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from evalkit.engine.config import Arch
from evalkit.engine.counting import Workload, generated_workload, scored_workload
from evalkit.engine.errors import ContextLengthError
from evalkit.engine.generation import Generation, generate
from evalkit.engine.kv import IdArray
from evalkit.engine.loader import Checkpoint, load_checkpoint
from evalkit.engine.model import Model, prepare
from evalkit.engine.rating import rate
from evalkit.engine.sampler import Transcript
from evalkit.engine.scoring import Pending, score
from evalkit.engine.tokenizer import Detokenizer, Tokenizer
from evalkit.engine.types import Budget, Generated, Sampling, Scored

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class LLM:
    """A model with its tokenizer. Load it with ``LLM.load``.

    ``exact``: a request's answer has the same bits alone, in any batch and in any order, and
    with any budget; False if that was not asked for, or if this CPU's library does not allow it.
    ``max_length`` counts tokens: a prompt and all that follows it but the last.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        exact: bool = True,
        max_length: int | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.tokenizer: Tokenizer = checkpoint.tokenizer
        self.arch: Arch = checkpoint.arch
        self.fingerprint: str = checkpoint.fingerprint
        self.chat_template: str | None = checkpoint.chat_template
        limit = checkpoint.arch.max_length
        if max_length is not None and not 0 < max_length <= limit:
            raise ValueError(f"max_length={max_length} is not between 1 and the model's {limit}")
        self.max_length: int = max_length or limit
        self._budget = budget or Budget()
        self._model: Model = prepare(checkpoint.arch, checkpoint.weights, exact=exact)
        self.exact: bool = self._model.numerics.is_exact
        self.dtype: str = str(self._model.dtype).removeprefix("torch.")

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        dtype: str = "auto",
        n_threads: int | None = None,
        exact: bool = True,
        max_length: int | None = None,
    ) -> LLM:
        """Read a GGUF file or a folder of safetensors.

        ``dtype`` is auto, float32 or bfloat16; auto is bfloat16 where the CPU multiplies it in
        hardware tiles (AMX), else float32: elsewhere bfloat16 is slower as well as coarser.
        ``n_threads`` sets the number of threads of the whole process. Raises ModelFileError or
        TokenizerError.
        """
        if dtype not in ("auto", *DTYPES):
            raise ValueError(f"dtype={dtype!r} is not one of auto, {', '.join(DTYPES)}")
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        name = dtype if dtype != "auto" else "bfloat16" if _has_amx() else "float32"
        checkpoint = load_checkpoint(path, dtype=DTYPES[name])
        return cls(checkpoint, exact=exact, max_length=max_length)

    @contextmanager
    def budgeted(self, budget: Budget) -> Iterator[None]:
        """Use another budget for a while."""
        kept, self._budget = self._budget, budget
        try:
            yield
        finally:
            self._budget = kept

    def score(
        self, items: Iterable[tuple[Sequence[int], Sequence[int]]]
    ) -> Iterator[tuple[int, Scored | ContextLengthError]]:
        """How likely the second ids of each item are after the first.

        Yields (index of the item, result) in any order, each index once. All items are taken
        before any work; a waiting one holds 4 bytes a token. An item that does not fit yields its
        error, and these come first. An empty context stands for the
        model's own beginning of a text.
        """
        fitting: list[Pending] = []
        for i, (context, continuation) in enumerate(items):
            given = list(context) or [self.tokenizer.prefix_id]
            error = self._does_not_fit(len(given), len(continuation) - 1, "to be scored")
            if error is not None:
                yield i, error
            elif not continuation:
                yield i, Scored(logprobs=(), is_greedy=True)
            else:
                fitting.append(_pending(i, given, continuation))
        yield from score(self._model, fitting, self._budget)

    def rolling(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, Scored]]:
        """How likely whole sequences are, each token scored once.

        The first is conditioned on the token that begins a text (BOS, else EOS). What is longer
        than ``max_length`` is cut into windows of which none scores a token of another; a token
        is conditioned on those before it in its window, and the last window reaches back as far
        as the length allows. Yields (index, result) in any order.
        """
        pieces = [_windows(s, self.tokenizer.prefix_id, self.max_length) for s in sequences]
        owners = [(i, k) for i, windows in enumerate(pieces) for k in range(len(windows))]
        parts: list[dict[int, Scored]] = [{} for _ in sequences]
        for i, windows in enumerate(pieces):
            if not windows:
                yield i, Scored(logprobs=(), is_greedy=True)
        fitting = [_pending(at, *pieces[i][k]) for at, (i, k) in enumerate(owners)]
        for at, scored in score(self._model, fitting, self._budget):
            i, k = owners[at]
            parts[i][k] = scored
            if len(parts[i]) == len(pieces[i]):
                whole = [parts[i][k] for k in range(len(pieces[i]))]
                parts[i].clear()
                logprobs = tuple(p for part in whole for p in part.logprobs)
                is_greedy = all(part.is_greedy for part in whole)
                yield i, Scored(logprobs=logprobs, is_greedy=is_greedy)

    def generate(
        self, items: Iterable[tuple[Sequence[int], Sampling, int]]
    ) -> Iterator[tuple[int, Generated | ContextLengthError]]:
        """Go on from each item's prompt ids, as its sampling says, drawing with its seed.

        Yields (index, result) in any order, each index once. A prompt that leaves no room for a
        token yields its error, and these come before any work. Where ``max_tokens`` goes past
        ``max_length`` the text ends there, and says "length".
        """
        fitting: list[Generation] = []
        for i, (prompt, sampling, seed) in enumerate(items):
            ids = list(prompt) or [self.tokenizer.prefix_id]
            error = self._does_not_fit(len(ids), 0, "to go on from")
            room = min(sampling.max_tokens, self.max_length - len(ids) + 1)
            if error is not None:
                yield i, error
            elif room == 0:
                yield i, Generated(token_ids=(), text="", logprobs=(), finish_reason="length")
            else:
                decoder = Detokenizer(self.tokenizer)
                transcript = Transcript(decoder, sampling.stop)
                fitting.append(
                    Generation(
                        index=i,
                        prompt=np.array(ids, dtype=np.int32),
                        room=room,
                        sampling=sampling,
                        seed=seed,
                        transcript=transcript,
                    )
                )
        yield from generate(self._model, fitting, self.tokenizer.eos_ids, self._budget)

    def rate(
        self, sequences: Iterable[Sequence[int]]
    ) -> Iterator[tuple[int, tuple[float, ...] | ContextLengthError]]:
        """The scores that a scalar head gives whole texts, as (index, scores) in any order.

        A reward model gives one, a classifier one for each label (before a softmax). ValueError for
        a language model, which has no such head.
        """
        if not self.arch.n_scores:
            raise ValueError("this is a language model: it has no head that gives scores")
        fitting: list[tuple[int, IdArray]] = []
        for i, ids in enumerate(sequences):
            error = self._does_not_fit(len(ids), 0, "to be rated")
            if error is not None:
                yield i, error
            else:
                fitting.append((i, np.array(ids, dtype=np.int32)))
        yield from rate(self._model, fitting, self._budget)

    def count_scored(self, items: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Workload:
        """What ``score`` would have to do for such items; nothing is computed."""
        fitting: list[Pending] = []
        too_long: list[int] = []
        for i, (context, continuation) in enumerate(items):
            given = list(context) or [self.tokenizer.prefix_id]
            if self._does_not_fit(len(given), len(continuation) - 1, "to be scored"):
                too_long.append(i)
            elif continuation:
                fitting.append(_pending(i, given, continuation))
        return scored_workload([(item.ids, item.n_given) for item in fitting], too_long=too_long)

    def count_rolling(self, sequences: Sequence[Sequence[int]]) -> Workload:
        """What ``rolling`` would have to do for such sequences; nothing is computed."""
        windows = [_windows(s, self.tokenizer.prefix_id, self.max_length) for s in sequences]
        pieces = [_pending(0, *window) for of_one in windows for window in of_one]
        return scored_workload([(piece.ids, piece.n_given) for piece in pieces])

    def count_generated(self, items: Iterable[tuple[Sequence[int], int]]) -> Workload:
        """What ``generate`` would have to do for prompts and their ``max_tokens``."""
        fitting: list[tuple[IdArray, int]] = []
        too_long: list[int] = []
        for i, (prompt, max_tokens) in enumerate(items):
            ids = np.array(list(prompt) or [self.tokenizer.prefix_id], dtype=np.int32)
            room = min(max_tokens, self.max_length - len(ids) + 1)
            if self._does_not_fit(len(ids), 0, "to go on from"):
                too_long.append(i)
            elif room > 0:
                fitting.append((ids, room))
        return generated_workload(fitting, too_long=too_long)

    def _does_not_fit(self, n: int, n_more: int, what: str) -> ContextLengthError | None:
        total = n + max(0, n_more)
        if total <= self.max_length:
            return None
        return ContextLengthError(
            f"{total} tokens {what} do not fit the model's {self.max_length}; shorten the prompt"
        )


def _has_amx() -> bool:
    """Whether the CPU multiplies bfloat16 in tiles."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)  # torch has no public name for it
    return bool(probe and probe())


def _windows(
    ids: Sequence[int], prefix: int, max_length: int
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Disjoint (context, continuation) windows; together at most ``max_length + 1`` tokens."""
    text = [prefix, *ids]
    cuts = [*range(1, len(text), max_length), len(text)]
    return [
        (text[max(0, end - max_length - 1) : start], text[start:end])
        for start, end in pairwise(cuts)
    ]


def _pending(index: int, context: Sequence[int], continuation: Sequence[int]) -> Pending:
    ids = np.array([*context, *continuation], dtype=np.int32)
    return Pending(index=index, ids=ids, n_given=len(context))
