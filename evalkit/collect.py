"""Asks a backend everything, and has an answer to everything at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from evalkit.errors import EvalkitError
from evalkit.record import RunStatus
from evalkit.types import Backend, ErrorKind, Request, Response, ResponseError

OnAnswers = Callable[[int, int], None]  # (answered, of these failed)


async def collect(
    backend: Backend, requests: Sequence[Request], on_answers: OnAnswers
) -> tuple[list[Response], RunStatus]:
    """A response for each request, whatever happens; and whether all went to the end."""
    missing = Response(
        error=ResponseError(kind=ErrorKind.INTERRUPTED, message="the run ended before this request")
    )
    responses = [missing] * len(requests)
    n_done = n_error = 0
    status: RunStatus = "complete"
    on_answers(0, 0)
    try:
        async for index, response in backend.respond(requests):
            responses[index] = response
            n_done += 1
            n_error += response.error is not None
            on_answers(n_done, n_error)
    except asyncio.CancelledError:  # Ctrl-C: keep what was answered
        status = "interrupted"
    except (EvalkitError, RuntimeError, MemoryError, OSError) as error:
        status = "failed"
        message = f"the backend failed: {type(error).__name__}: {error}"
        failed = Response(error=ResponseError(kind=ErrorKind.INTERNAL, message=message))
        responses = [failed if response is missing else response for response in responses]
    return responses, status
