"""The core types: what flows from a task to a record. Data only; frozen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

RequestKind = Literal["generate", "choice", "classify", "loglikelihood", "rolling", "reward"]
FinishReason = Literal["stop", "length"]


class ErrorKind(StrEnum):
    """Why a request got no answer: a closed set."""

    CONTEXT_LENGTH = "context_length"  # the prompt does not fit the model
    INVALID_REQUEST = "invalid_request"  # the backend cannot serve such a request
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    SERVER = "server"
    REFUSED = "refused"  # a content filter, not the model, declined
    INVALID_RESPONSE = "invalid_response"
    JUDGE = "judge"  # the response is there, and no judge could be asked about it
    INTERRUPTED = "interrupted"  # the run ended before the request was answered
    INTERNAL = "internal"  # a defect of ours; the message has the details


class Status(StrEnum):
    """How an example ended for a metric, or for a run."""

    OK = "ok"
    ERROR = "error"  # no answer to score
    ABSTAINED = "abstained"  # an answer, but the metric or the judge could not decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A row of a dataset, and where it stands in the design of the study."""

    id: str
    fields: Mapping[str, Any]
    sha256: str  # of all fields, canonical JSON
    cluster: str | None = None  # examples that share it are not independent
    slices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation that the backend lays out with the model's own chat template.

    ``prefill`` opens the assistant's turn; the model goes on from there.
    """

    messages: tuple[Message, ...]
    prefill: str = ""


Prompt = str | Chat


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens. The defaults are neutral: greedy, nothing cut, nothing penalised."""

    max_tokens: int = 256
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a backend: about one example, once.

    ``prompts`` has one entry, or, for a ``choice`` whose context differs by choice, one for each of
    ``continuations``. ``continuations`` are the texts to be scored after the prompt (``choice``,
    ``classify``, ``loglikelihood``), delimiter included; a ``rolling`` request scores its prompt. A
    ``reward`` request has a Chat that ends with the assistant's turn rated, by a scalar head.
    """

    task: str
    example_id: str
    repeat: int = 0
    kind: RequestKind
    prompts: tuple[Prompt, ...]
    continuations: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0

    def key(self, fingerprint: str) -> str:
        """Hash of all that can change the answer: content, sampling, seed, model; hex sha256."""
        content: dict[str, Any] = {
            "kind": self.kind,
            "prompts": [prompt_to_json(p) for p in self.prompts],
            "continuations": self.continuations,
            "model": fingerprint,
        }
        if self.kind == "generate":
            sampling = {name: getattr(self.sampling, name) for name in Sampling.__slots__}
            content |= {"sampling": sampling, "repeat": self.repeat}
            if self.sampling.temperature > 0:
                content["seed"] = self.seed
        return sha256_of(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An example with everything rendered: what is asked and what is right.

    ``targets``, ``choices`` and ``gold`` are as in Outcome, ``prompts`` and ``continuations`` as in
    Request.
    """

    example: Example
    prompts: tuple[Prompt, ...]
    continuations: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How likely a model finds one text after its prompt."""

    logprob: float  # natural log, summed over tokens
    n_tokens: int
    is_greedy: bool  # each token was the model's first choice


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseError:
    kind: ErrorKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a backend answered: a text, or log-probabilities, or why there is neither."""

    text: str | None = None
    logprobs: tuple[float, ...] = ()  # of the generated tokens, raw: before temperature and cuts
    continuations: tuple[Continuation, ...] = ()  # as in the request; one for ``rolling``
    candidates: tuple[str, ...] = ()  # best-of-n: the texts that this one was chosen from
    reward: float = math.nan  # of a reward request: the model's scalar, on no common scale
    finish_reason: FinishReason | None = None
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    latency_s: float = math.nan
    cached: bool = False
    error: ResponseError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge says of a response under one criterion.

    ``value`` is on the criterion's scale: the mean over its labels by their probabilities. For a
    pair it is the chance that the response is the better one, ties counting half, over both orders.
    """

    value: float  # nan without a verdict
    choice: float = math.nan  # the value of the likeliest label
    probabilities: Mapping[str, float] = field(default_factory=dict)  # of the labels; add up to 1
    missing_mass: float = math.nan  # what the judge gave to other texts than labels, 0..1
    orders: tuple[float, ...] = ()  # pairs: the choice with the response shown first, and second
    reason: str = ""
    members: tuple[Verdict, ...] = ()  # of a panel
    key: str = ""  # of what was judged: equal for equal prompt, response and opponent
    human: float = math.nan  # what people said of it, where a calibration knows
    status: Status = Status.OK
    problem: str = ""  # why there is no verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An answered request as a metric sees it.

    ``choices`` are the bare texts, without the delimiter; ``gold`` indexes the right ones.
    ``prediction`` is the answer extracted from the response; None when none was found.
    ``verdicts`` are those of judges, by the name of their metric.
    """

    example: Example
    response: Response
    targets: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()
    prediction: str | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A metric on one outcome: its value and statistics, or why there is none.

    ``value`` is what a person reads for this example (nan: it only has a meaning in sum);
    ``stats`` (k,) are the sufficient statistics that the metric adds up.
    """

    value: float
    stats: tuple[float, ...]
    status: Status = Status.OK
    reason: str = ""


def abstained(reason: str) -> Score:
    """The score of an outcome that the metric cannot decide."""
    return Score(value=math.nan, stats=(), status=Status.ABSTAINED, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A metric over a dataset, and how far to trust it."""

    value: float  # in the metric's unit: accuracy 0..1, BLEU 0..100
    stderr: float  # nan when there is too little to say
    low: float
    high: float
    level: float = 0.95
    method: str  # of the interval
    n_total: int  # = n_scored + n_error + n_abstained, checked on construction
    n_scored: int
    n_error: int  # requests that got no answer: never scored, never dropped unseen
    n_abstained: int
    worst: float  # the value if everything missing were wrong
    best: float

    def __post_init__(self) -> None:
        counts = (self.n_scored, self.n_error, self.n_abstained)
        if min(counts) < 0 or sum(counts) != self.n_total:
            raise ValueError(
                f"n_total={self.n_total} is not n_scored + n_error + n_abstained = {counts}"
            )


IntervalKind = Literal["proportion", "mean", "bootstrap"]


class Metric(Protocol):
    """A measure that adds up: per-outcome statistics, and a function of their (weighted) sum.

    So that a bootstrap is ``weights (B, n) @ statistics (n, k)`` and never scores again.
    """

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def kinds(self) -> frozenset[RequestKind]:
        """The kinds of request whose outcomes it can score."""
        ...

    @property
    def signature(self) -> str:
        """Everything that decides its value, in one line; equal signatures are comparable."""
        ...

    @property
    def interval(self) -> IntervalKind:
        """What the value is: a proportion of 0/1, a mean, or any other function of the sums."""
        ...

    def score(self, outcome: Outcome) -> Score: ...

    def missing(self, outcome: Outcome) -> tuple[Score, Score]:
        """What an example without a score would give at worst and at best."""
        ...

    def statistics(self, scores: Sequence[Score]) -> FloatArray:
        """(n, k): the additive statistics of all scores of a task."""
        ...

    def combine(self, sums: FloatArray) -> FloatArray:
        """(..., k) sums to (...) values; nan where undefined."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What answered: enough to know whether two runs asked the same thing."""

    spec: str
    fingerprint: str  # "sha256:..." of weights, tokenizer, template and numerics
    dtype: str = ""
    exact: bool = False  # results do not depend on batch, order or cache
    settings: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Something that answers requests; it owns its batching, retries and concurrency."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def kinds(self) -> frozenset[RequestKind]:
        """The kinds of request that it can answer."""
        ...

    def count_tokens(self, prompt: Prompt) -> int | None:
        """Tokens of a rendered prompt; None where the backend cannot know."""
        ...

    def render(self, prompt: Prompt) -> str:
        """The text that the model sees; a Chat is laid out with the model's template."""
        ...

    def respond(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Response]]:
        """Yield (index of the request, its response) in any order, each index once."""
        ...


def prompt_to_json(prompt: Prompt) -> Any:
    """A prompt as plain data."""
    if isinstance(prompt, str):
        return prompt
    turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
    return {"messages": turns, "prefill": prompt.prefill}


def sha256_of(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON: sorted keys, no spaces, UTF-8.

    >>> sha256_of({"b": 1, "a": [2]}) == sha256_of({"a": [2], "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
