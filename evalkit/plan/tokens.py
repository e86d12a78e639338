"""How many tokens requests take: counted by the engine's tokenizer, or estimated by length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.backends.local import Local
from evalkit.types import Backend, Prompt, Request

CHARACTERS_PER_TOKEN = 4  # of English; other scripts and code have more tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What requests take, in tokens."""

    n_prompt: int  # of prompts and scored texts, request by request, choice by choice
    n_distinct: int | None  # of these, those computed: shared beginnings once; None: unknown
    n_scored: int | None  # whose log-probability is asked for; None: unknown
    n_texts: int  # texts to be generated
    n_new: int  # the most tokens that these can have, together
    n_refused: int  # requests that will get no answer, as far as can be known
    is_estimate: bool  # some were not counted but taken from the length of the text


def count(requests: Sequence[Request], backend: Backend | None) -> Tokens:
    """The tokens of requests; ``backend`` None is an endpoint, of which no tokenizer is here."""
    if isinstance(backend, Local):
        found = backend.count(requests)
        return Tokens(
            n_prompt=found.n_tokens,
            n_distinct=found.n_distinct,
            n_scored=found.n_scored,
            n_texts=found.n_texts,
            n_new=found.max_new_tokens,
            n_refused=found.n_refused,
            is_estimate=False,
        )
    generated = [request for request in requests if request.kind == "generate"]
    lengths = _Lengths(backend)
    return Tokens(
        n_prompt=sum(map(lengths.of_request, requests)),
        n_distinct=None,
        n_scored=None,
        n_texts=len(generated),
        n_new=sum(request.sampling.max_tokens for request in generated),
        n_refused=0,
        is_estimate=lengths.is_estimate,
    )


def total(parts: Sequence[Tokens]) -> Tokens:
    """Several tasks together; what prompts of two tasks begin with alike counts for both."""
    return Tokens(
        n_prompt=sum(part.n_prompt for part in parts),
        n_distinct=_sum([part.n_distinct for part in parts]),
        n_scored=_sum([part.n_scored for part in parts]),
        n_texts=sum(part.n_texts for part in parts),
        n_new=sum(part.n_new for part in parts),
        n_refused=sum(part.n_refused for part in parts),
        is_estimate=any(part.is_estimate for part in parts),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [n for n in counts if n is not None]
    return sum(known) if len(known) == len(counts) else None


class _Lengths:
    """Tokens of texts, and whether any of them were estimated."""

    def __init__(self, backend: Backend | None) -> None:
        self._backend = backend
        self.is_estimate = False

    def of_request(self, request: Request) -> int:
        """All that is sent: the prompt once for each text to be scored after it."""
        if not request.continuations:
            return self._of_prompt(request.prompts[0])
        n_each = len(request.continuations) // len(request.prompts)
        prompts = n_each * sum(map(self._of_prompt, request.prompts))
        return prompts + sum(map(self._of_length, map(len, request.continuations)))

    def _of_prompt(self, prompt: Prompt) -> int:
        counted = None if self._backend is None else self._backend.count_tokens(prompt)
        if counted is not None:
            return counted
        if isinstance(prompt, str):
            return self._of_length(len(prompt))
        n_characters = sum(len(message.content) for message in prompt.messages)
        return self._of_length(n_characters + len(prompt.prefill))

    def _of_length(self, n_characters: int) -> int:
        self.is_estimate = True
        return math.ceil(n_characters / CHARACTERS_PER_TOKEN)
