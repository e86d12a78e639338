"""A backend that answers by a plain function: the Protocol without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import get_args

from evalkit.types import (
    Continuation,
    ErrorKind,
    ModelInfo,
    Prompt,
    Request,
    RequestKind,
    Response,
    ResponseError,
    prompt_to_json,
)


@dataclass
class Answering:
    """Answers each request with ``answer(request)``, last request first: order must not matter."""

    answer: Callable[[Request], Response]
    stop_after: int | None = None  # then behave as on Ctrl-C
    fail_after: int | None = None  # then raise, as a lost device does
    can: frozenset[RequestKind] = frozenset(get_args(RequestKind))

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(spec="test:function", fingerprint="sha256:0", exact=True)

    @property
    def kinds(self) -> frozenset[RequestKind]:
        return self.can

    def count_tokens(self, prompt: Prompt) -> int | None:
        return None

    def render(self, prompt: Prompt) -> str:
        return prompt if isinstance(prompt, str) else str(prompt_to_json(prompt))

    async def respond(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Response]]:
        for n_done, index in enumerate(reversed(range(len(requests)))):
            if n_done == self.stop_after:
                raise asyncio.CancelledError
            if n_done == self.fail_after:
                raise RuntimeError("the device is gone")
            yield index, self.answer(requests[index])


def say(text: str) -> Response:
    """A generated text."""
    return Response(text=text, finish_reason="stop", n_prompt_tokens=3, n_completion_tokens=1)


def likelihoods(*logprobs: float) -> Response:
    """Log-probabilities of choices."""
    found = tuple(Continuation(logprob=x, n_tokens=1, is_greedy=False) for x in logprobs)
    return Response(continuations=found, n_prompt_tokens=3)


def fail(kind: ErrorKind = ErrorKind.CONTEXT_LENGTH) -> Response:
    """No answer."""
    return Response(error=ResponseError(kind=kind, message="it does not fit"))
