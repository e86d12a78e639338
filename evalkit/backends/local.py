"""The bundled engine as a backend."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from evalkit.errors import ModelError, UsageError, did_you_mean
from evalkit.types import (
    Continuation,
    ErrorKind,
    ModelInfo,
    Prompt,
    Request,
    RequestKind,
    Response,
    ResponseError,
    sha256_of,
)

if TYPE_CHECKING:
    from evalkit.engine import LLM, Finding

SETTINGS = {
    "dtype": "auto | float32 | bfloat16",
    "threads": "of the CPU; default: all cores",
    "max_length": "tokens, at most what the model was made for",
    "exact": "true | false: results that do not depend on batch or order",
}
_HANDOVER_S = 0.05  # how long answers are gathered before they are handed to the event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What answering some requests takes."""

    n_tokens: int  # of all prompts and scored texts, each computed on its own
    n_distinct: int  # of these, the ones that are computed: what texts begin with alike, once
    n_scored: int  # tokens whose log-probability is asked for
    n_texts: int  # texts to be generated
    max_new_tokens: int  # the most tokens that these can have, together
    n_refused: int  # requests that will get no answer: too long, or impossible to encode


def open_local(path: Path, *, spec: str, settings: Mapping[str, str]) -> Local:
    """Load a model from its file or folder. Raises UsageError or ModelError in one line."""
    for name in settings:
        if name not in SETTINGS:
            known = ", ".join(SETTINGS)
            hint = did_you_mean(name, SETTINGS)
            raise UsageError(f"model {spec!r}: no such setting: {name!r}{hint} (known: {known})")
    threads, max_length = (_count(settings, name, spec) for name in ("threads", "max_length"))
    exact = _one_of(settings, "exact", ("true", "false"), spec)
    dtype = _one_of(settings, "dtype", ("auto", "float32", "bfloat16"), spec)
    try:
        from evalkit.engine import LLM, EngineError
    except ModuleNotFoundError as error:
        raise ModelError(
            f"model {spec!r} needs {error.name}, which is not installed; "
            "run: pip install 'evalkit[local]'"
        ) from error
    thread = ThreadPoolExecutor(1, thread_name_prefix="evalkit-engine")
    loading = thread.submit(
        LLM.load,
        path,
        dtype=dtype,
        n_threads=threads,
        exact=exact == "true",
        max_length=max_length,
    )
    try:
        return Local(loading.result(), spec=spec, thread=thread)
    except EngineError as error:
        raise ModelError(str(error)) from error


def _one_of(settings: Mapping[str, str], name: str, values: tuple[str, ...], spec: str) -> str:
    value = settings.get(name, values[0])
    if value not in values:
        raise UsageError(f"model {spec!r}: {name}={value!r}: give one of {', '.join(values)}")
    return value


def _count(settings: Mapping[str, str], name: str, spec: str) -> int | None:
    text = settings.get(name)
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"model {spec!r}: {name}={text!r}: give a whole number above 0")
    return int(text)


class Local:
    """Requests answered by the engine in this process, all of them planned together.

    All that the engine does is done by ``thread``, from loading on: torch keeps helpers for each
    thread that computes, and puts them to sleep between two operations when there are more of
    them than processors. With two such threads a run took 1.5 times as long.
    """

    def __init__(self, llm: LLM, *, spec: str, thread: ThreadPoolExecutor) -> None:
        self._llm = llm
        self._thread = thread
        content = {
            "files": llm.fingerprint,
            "dtype": llm.dtype,
            "max_length": llm.max_length,
            "template": llm.chat_template,
        }
        self._info = ModelInfo(
            spec=spec,
            fingerprint="sha256:" + sha256_of(content),
            dtype=llm.dtype,
            exact=llm.exact,
            settings={"max_length": llm.max_length},
        )

    @property
    def info(self) -> ModelInfo:
        """What answers, with its numerics."""
        return self._info

    @property
    def kinds(self) -> frozenset[RequestKind]:
        """Rewards from a model with a scalar head, all else from a language model."""
        if self._llm.arch.n_scores:
            return frozenset({"reward"})
        return frozenset(get_args(RequestKind)) - {"reward"}

    @property
    def llm(self) -> LLM:
        """The engine's model, to be measured."""
        return self._llm

    def check(self) -> list[Finding]:
        """Whether answers depend on batch, order, step size or threads, measured here and now."""
        from evalkit.engine import check

        return self._thread.submit(check, self._llm).result()

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt as the model sees it."""
        return len(self._encode(prompt))

    def render(self, prompt: Prompt) -> str:
        """The text that the model sees. Raises ModelError where a chat needs a missing template."""
        if isinstance(prompt, str):
            return prompt
        from evalkit.engine import EngineError, render_chat

        template = self._llm.chat_template
        if not template:
            raise ModelError(
                f"{self._info.spec} has no chat template, and the task asks for a chat; "
                "use an instruction-tuned model, or a task without chat"
            )
        tokenizer = self._llm.tokenizer
        try:
            return render_chat(
                template,
                [{"role": m.role, "content": m.content} for m in prompt.messages],
                bos=tokenizer.bos_token,
                eos=tokenizer.eos_token,
                prefill=prompt.prefill,
                add_generation_prompt=prompt.messages[-1].role != "assistant",
            )
        except EngineError as error:
            raise ModelError(f"{self._info.spec}: chat template: {error}") from error

    async def respond(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Response]]:
        """Yield every request's response, log-probabilities before generations."""
        answers = itertools.chain(
            self._respond_scored(requests),
            self._respond_rolling(requests),
            self._respond_generated(requests),
            self._respond_rated(requests),
        )
        loop = asyncio.get_running_loop()
        while batch := await loop.run_in_executor(self._thread, _gather, answers):
            for answer in batch:
                yield answer

    def count(self, requests: Sequence[Request]) -> Counted:
        """What ``respond`` would have to do: the tokenizer runs, the model does not."""
        refused: set[int] = set()
        pairs: list[tuple[list[int], list[int]]] = []
        prompts: list[tuple[list[int], int]] = []
        rolled: list[list[int]] = []
        asked_by: list[int] = []  # the request of each pair
        made_for: list[int] = []  # and of each prompt
        for index, (request, encoded) in enumerate(self._encoded(requests)):
            if encoded is None:
                refused.add(index)
            elif request.kind == "generate":
                prompts.append((encoded[0][0], request.sampling.max_tokens))
                made_for.append(index)
            elif request.kind == "rolling":
                rolled.append(encoded[0][0])
            else:
                pairs += encoded
                asked_by += [index] * len(encoded)
        scored, made = self._llm.count_scored(pairs), self._llm.count_generated(prompts)
        loads = (scored, self._llm.count_rolling(rolled), made)
        refused |= {asked_by[at] for at in scored.too_long} | {made_for[at] for at in made.too_long}
        return Counted(
            n_tokens=sum(load.n_tokens for load in loads),
            n_distinct=sum(load.n_distinct for load in loads),
            n_scored=sum(load.n_scored for load in loads),
            n_texts=made.n_texts,
            max_new_tokens=made.n_new,
            n_refused=len(refused),
        )

    def _encoded(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[Request, list[tuple[list[int], list[int]]] | None]]:
        """Each request with the ids of what it gives and of what is scored; None: no ids.

        Repeats of a request stand together, and are encoded once.
        """
        from evalkit.engine import EngineError

        asked: tuple[object, ...] = ()
        encoded: list[tuple[list[int], list[int]]] | None = None
        for request in requests:
            same = (request.kind, request.prompts, request.continuations)
            if same != asked:
                asked = same
                try:
                    encoded = self._encode_request(request)
                except EngineError:
                    encoded = None
            yield request, encoded

    def _encode_request(self, request: Request) -> list[tuple[list[int], list[int]]] | None:
        if request.kind == "generate":
            return [(self._encode(request.prompts[0]), [])]
        if request.kind == "rolling":
            text = self.render(request.prompts[0])
            return [(self._llm.tokenizer.encode(text, bos=False), [])]
        pairs = self._pairs(request)
        if request.kind != "classify":
            return pairs
        is_ambiguous = len({label[0] for _, label in pairs}) < len(pairs)
        return None if is_ambiguous else [(context, label[:1]) for context, label in pairs]

    def _encode(self, prompt: Prompt) -> list[int]:
        tokenizer = self._llm.tokenizer
        if isinstance(prompt, str):
            return tokenizer.encode(prompt)
        return tokenizer.encode(self.render(prompt), parse_special=True)

    def _respond_scored(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """``choice``, ``classify`` and ``loglikelihood``: texts scored after their prompts."""
        from evalkit.engine import EngineError

        owners: list[tuple[int, int]] = []  # (request, continuation) of each pair
        waiting: dict[int, list[Continuation | None]] = {}
        n_tokens: dict[int, int] = {}
        refused: list[tuple[int, Response]] = []

        def pairs() -> Iterator[tuple[list[int], list[int]]]:
            for index, request in enumerate(requests):
                if request.kind not in ("choice", "classify", "loglikelihood"):
                    continue
                try:
                    own = self._pairs(request)
                except EngineError as error:
                    refused.append((index, _failed(ErrorKind.INVALID_REQUEST, str(error))))
                    continue
                if request.kind == "classify" and len({c[0] for _, c in own}) < len(own):
                    refused.append((index, _same_first_token(request)))
                    continue
                if request.kind == "classify":
                    own = [(context, continuation[:1]) for context, continuation in own]
                waiting[index] = [None] * len(own)
                n_tokens[index] = len(own[0][0])
                owners.extend((index, at) for at in range(len(own)))
                yield from own

        for at, scored in self._llm.score(pairs()):
            index, choice = owners[at]
            if index not in waiting:
                continue  # an earlier continuation of this request did not fit
            if isinstance(scored, Exception):
                del waiting[index]
                yield index, _failed(ErrorKind.CONTEXT_LENGTH, str(scored))
                continue
            slots = waiting[index]
            slots[choice] = _continuation(scored.logprobs, is_greedy=scored.is_greedy)
            done = [slot for slot in slots if slot is not None]
            if len(done) == len(slots):
                del waiting[index]
                yield index, Response(continuations=tuple(done), n_prompt_tokens=n_tokens[index])
        yield from refused

    def _pairs(self, request: Request) -> list[tuple[list[int], list[int]]]:
        texts = request.continuations
        if len(request.prompts) == 1:
            return self._encode_pairs(request.prompts[0], texts)
        each = zip(request.prompts, texts, strict=True)
        return [pair for prompt, text in each for pair in self._encode_pairs(prompt, [text])]

    def _encode_pairs(
        self, prompt: Prompt, continuations: Sequence[str]
    ) -> list[tuple[list[int], list[int]]]:
        tokenizer = self._llm.tokenizer
        if isinstance(prompt, str):
            return tokenizer.encode_pairs(prompt, continuations)
        return tokenizer.encode_pairs(self.render(prompt), continuations, parse_special=True)

    def _respond_rolling(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """``rolling``: whole texts, each token scored once."""
        from evalkit.engine import EngineError

        indices: list[int] = []
        tokens: list[list[int]] = []
        for index, request in enumerate(requests):
            if request.kind != "rolling":
                continue
            try:
                text = self.render(request.prompts[0])
                tokens.append(self._llm.tokenizer.encode(text, bos=False))
                indices.append(index)
            except EngineError as error:
                yield index, _failed(ErrorKind.INVALID_REQUEST, str(error))
        for at, scored in self._llm.rolling(tokens):
            answer = _continuation(scored.logprobs, is_greedy=scored.is_greedy)
            n = len(tokens[at])
            yield indices[at], Response(continuations=(answer,), n_prompt_tokens=n)

    def _respond_rated(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """``reward``: whole conversations, by the scalar head."""
        from evalkit.engine import EngineError

        owners: list[tuple[int, int]] = []  # (request, tokens) of each text
        texts: list[list[int]] = []
        for index, request in enumerate(requests):
            if request.kind != "reward":
                continue
            try:
                ids = self._encode(request.prompts[0])
            except EngineError as error:
                yield index, _failed(ErrorKind.INVALID_REQUEST, str(error))
                continue
            owners.append((index, len(ids)))
            texts.append(ids)
        for at, found in self._llm.rate(texts) if texts else ():
            index, n_tokens = owners[at]
            if isinstance(found, Exception):
                yield index, _failed(ErrorKind.CONTEXT_LENGTH, str(found))
            elif len(found) > 1:
                message = f"the model gives {len(found)} scores, and a reward is one number"
                yield index, _failed(ErrorKind.INVALID_REQUEST, message)
            else:
                yield index, Response(reward=found[0], n_prompt_tokens=n_tokens)

    def _respond_generated(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        from evalkit.engine import EngineError, Sampling

        owners: list[tuple[int, int]] = []  # (request, tokens of its prompt) of each item
        refused: list[tuple[int, Response]] = []

        def items() -> Iterator[tuple[list[int], Sampling, int]]:
            for index, request in enumerate(requests):
                if request.kind != "generate":
                    continue
                wanted = request.sampling
                sampling = Sampling(**{name: getattr(wanted, name) for name in wanted.__slots__})
                try:
                    ids = self._encode(request.prompts[0])
                except EngineError as error:
                    refused.append((index, _failed(ErrorKind.INVALID_REQUEST, str(error))))
                    continue
                owners.append((index, len(ids)))
                yield ids, sampling, request.seed

        for at, made in self._llm.generate(items()):
            index, n_prompt_tokens = owners[at]
            if isinstance(made, Exception):
                yield index, _failed(ErrorKind.CONTEXT_LENGTH, str(made))
                continue
            yield (
                index,
                Response(
                    text=made.text,
                    logprobs=made.logprobs,
                    finish_reason=made.finish_reason,
                    n_prompt_tokens=n_prompt_tokens,
                    n_completion_tokens=len(made.token_ids),
                ),
            )
        yield from refused


def _gather(answers: Iterator[tuple[int, Response]]) -> list[tuple[int, Response]]:
    """The next answers: at least one, and what comes within a moment; empty at the end."""
    batch: list[tuple[int, Response]] = []
    until = time.monotonic() + _HANDOVER_S
    for answer in answers:
        batch.append(answer)
        if time.monotonic() >= until:
            break
    return batch


def _continuation(logprobs: Sequence[float], *, is_greedy: bool) -> Continuation:
    return Continuation(logprob=sum(logprobs), n_tokens=len(logprobs), is_greedy=is_greedy)


def _failed(kind: ErrorKind, message: str) -> Response:
    return Response(error=ResponseError(kind=kind, message=message))


def _same_first_token(request: Request) -> Response:
    labels = list(request.continuations)
    return _failed(
        ErrorKind.INVALID_REQUEST,
        f"labels {labels!r} share their first token, so one position cannot tell them apart; "
        "use request: choice",
    )
