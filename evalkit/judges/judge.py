"""A rubric and a model as a judge: cases in, verdicts out.

A verdict is made in one of three ways, the same for all cases of a run:

- ``logits``: the probabilities of the labels at one place (discriminative), after the judge's own
  reasons where the rubric asks for a critique (generative);
- ``text``: a JSON object that the judge writes; one that cannot be read is asked for once more, and
  then the judge abstains;
- ``reward``: the scalar of a model made for that.

Pairs are shown in both orders, each a request of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from evalkit.collect import collect
from evalkit.errors import ModelError, UsageError
from evalkit.judges.asking import (
    Case,
    as_json_instruction,
    empty_case,
    lay_out,
    question,
    read_json,
)
from evalkit.judges.labels import (
    Distribution,
    certain,
    continuations,
    distribution,
    mean_of,
    swapped,
    without_bias,
)
from evalkit.judges.rubric import Criterion, CritiqueSpec, Rubric
from evalkit.types import (
    Backend,
    Chat,
    Message,
    Prompt,
    Request,
    Response,
    Sampling,
    Status,
    Verdict,
)

Method = Literal["logits", "text", "reward", "replay"]
OnProgress = Callable[[int, int], None]  # (answered, asked) of one stage
Verdicts = Mapping[str, Verdict]  # by criterion

_OTHER_NAME = {"A": "B", "B": "A"}
_THINK_FIRST = "First write down your reasons in a few sentences; the verdict comes after them."
_JSON_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInfo:
    """Who judges by what: two judges of equal ``identity`` give equal verdicts."""

    spec: str
    rubric: str
    identity: Mapping[str, Any]  # rubric_sha256, model, method, layout, sampling


class Judge(Protocol):
    """Something that gives verdicts under a rubric."""

    @property
    def info(self) -> JudgeInfo: ...

    async def judge(self, cases: Sequence[Case], on_progress: OnProgress) -> list[Verdicts]:
        """The verdicts on each case, one for each criterion of the rubric."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """One question to the judge: a case under a criterion, in one order."""

    case: int  # its place; -1 for the empty case
    shown: Case
    criterion: Criterion
    is_swapped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What came of a question."""

    found: Distribution | None = None
    reason: str = ""
    status: Status = Status.OK
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJudge:
    """A model that judges by a rubric; make one with ``open_model_judge``."""

    rubric: Rubric
    backend: Backend
    method: Method
    is_chat: bool
    spec: str
    seed: int = 0
    _no_bias: dict[tuple[str, bool], Distribution] = field(default_factory=dict)

    @property
    def info(self) -> JudgeInfo:
        """Who judges, and by what."""
        critique = self.rubric.spec.critique
        return JudgeInfo(
            spec=self.spec,
            rubric=self.rubric.name,
            identity={
                "rubric_sha256": self.rubric.sha256,
                "model": self.backend.info.fingerprint,
                "method": self.method,
                "layout": "chat" if self.is_chat else "plain",
                "sampling": None if critique is None else critique.model_dump(mode="json"),
            },
        )

    async def judge(self, cases: Sequence[Case], on_progress: OnProgress) -> list[Verdicts]:
        """The verdicts on each case. A request that fails costs its own verdict only."""
        for case in cases:
            if self.rubric.kind == "pairwise" and case.opponent is None:
                raise UsageError(f"{case.key}: a pairwise rubric needs another answer to compare")
        if self.method == "reward":
            return await self._rewards(cases, on_progress)
        orders = (False, True) if self.rubric.kind == "pairwise" else (False,)
        asks = [
            _Ask(case=i, shown=case, criterion=criterion, is_swapped=is_swapped)
            for i, case in enumerate(cases)
            for criterion in self.rubric.criteria
            for is_swapped in orders
        ]
        if self.rubric.spec.content_free and not self._no_bias and cases:
            nothing = [
                replace(ask, case=-1, shown=empty_case(ask.shown)) for ask in asks if ask.case == 0
            ]
            for ask, answer in zip(nothing, await self._decide(nothing, on_progress), strict=True):
                if answer.found is not None:
                    self._no_bias[ask.criterion.name, ask.is_swapped] = answer.found
        answers = await self._decide(asks, on_progress)
        by_case: list[dict[str, Verdict]] = [{} for _ in cases]
        for at in range(0, len(asks), len(orders)):
            ask, own = asks[at], answers[at : at + len(orders)]
            by_case[ask.case][ask.criterion.name] = self._verdict(ask.criterion, own)
        return list(by_case)

    async def _decide(self, asks: Sequence[_Ask], on_progress: OnProgress) -> list[_Answer]:
        reasons = await self._critiques(asks, on_progress)
        if self.method == "text":
            return await self._texts(asks, reasons, on_progress)
        requests = [
            Request(
                task=self.rubric.name,
                example_id=ask.shown.key,
                kind="choice",
                prompts=(self._prompt(ask, said=self._cue(reason)),),
                continuations=continuations(list(ask.criterion.labels)),
            )
            for ask, reason in zip(asks, reasons, strict=True)
        ]
        responses = await self._respond(requests, on_progress)
        return [
            self._read_likelihoods(ask, reason, response)
            for ask, reason, response in zip(asks, reasons, responses, strict=True)
        ]

    def _read_likelihoods(self, ask: _Ask, reason: str | None, response: Response) -> _Answer:
        if reason is None or response.error is not None:
            return _failed(response)
        logprobs = [c.logprob for c in response.continuations]
        found = distribution(list(ask.criterion.labels), logprobs)
        if found is None:
            return _Answer(status=Status.ABSTAINED, problem="no label has any probability")
        no_bias = self._no_bias.get((ask.criterion.name, ask.is_swapped))
        if no_bias is not None and ask.case >= 0:
            found = without_bias(found, no_bias)
        return _Answer(found=found, reason=reason)

    async def _critiques(self, asks: Sequence[_Ask], on_progress: OnProgress) -> list[str | None]:
        """What the judge writes before its verdict; empty without a critique, None if it failed."""
        spec = self.rubric.spec.critique
        if spec is None or self.method == "text" or any(ask.case < 0 for ask in asks):
            return [""] * len(asks)
        sampling = _sampling(spec, self.rubric.spec.cue)
        requests = [
            Request(
                task=self.rubric.name,
                example_id=ask.shown.key,
                kind="generate",
                prompts=(self._prompt(ask, said="", more=_THINK_FIRST),),
                sampling=sampling,
                seed=self._seed(ask),
            )
            for ask in asks
        ]
        responses = await self._respond(requests, on_progress)
        return [None if r.error is not None else (r.text or "").strip() for r in responses]

    async def _texts(
        self, asks: Sequence[_Ask], reasons: Sequence[str | None], on_progress: OnProgress
    ) -> list[_Answer]:
        """Verdicts out of JSON texts; what cannot be read is asked for once more."""
        prompts = [
            self._prompt(ask, said="", more=as_json_instruction(ask.criterion)) for ask in asks
        ]
        responses = await self._respond(self._generating(asks, prompts), on_progress)
        unread = [
            i
            for i, (ask, response) in enumerate(zip(asks, responses, strict=True))
            if response.error is None and read_json(response.text or "", _labels(ask)) is None
        ]
        repairs = [
            _again(prompts[i], responses[i].text or "", as_json_instruction(asks[i].criterion))
            for i in unread
        ]
        again = await self._respond(
            self._generating([asks[i] for i in unread], repairs), on_progress
        )
        for i, response in zip(unread, again, strict=True):
            responses[i] = response
        return [
            self._read_text(ask, response) for ask, response in zip(asks, responses, strict=True)
        ]

    def _generating(self, asks: Sequence[_Ask], prompts: Sequence[Prompt]) -> list[Request]:
        critique = self.rubric.spec.critique
        sampling = _sampling(critique) if critique else Sampling(max_tokens=_JSON_TOKENS)
        return [
            Request(
                task=self.rubric.name,
                example_id=ask.shown.key,
                kind="generate",
                prompts=(prompt,),
                sampling=sampling,
                seed=self._seed(ask),
            )
            for ask, prompt in zip(asks, prompts, strict=True)
        ]

    def _read_text(self, ask: _Ask, response: Response) -> _Answer:
        if response.error is not None:
            return _failed(response)
        read = read_json(response.text or "", _labels(ask))
        if read is None:
            return _Answer(
                status=Status.ABSTAINED,
                problem="no verdict could be read from the judge's answer, nor from a second one",
                reason=response.text or "",
            )
        label, reason = read
        return _Answer(found=certain(label, _labels(ask)), reason=reason)

    async def _rewards(self, cases: Sequence[Case], on_progress: OnProgress) -> list[Verdicts]:
        [criterion] = self.rubric.criteria
        requests = []
        for case in cases:
            system, user = question(self.rubric, criterion, case)
            first = [Message(role="system", content=system)] if system else []
            turns = (
                *first,
                Message(role="user", content=user),
                Message(role="assistant", content=case.response),
            )
            requests.append(
                Request(
                    task=self.rubric.name,
                    example_id=case.key,
                    kind="reward",
                    prompts=(Chat(messages=turns),),
                )
            )
        return [
            {criterion.name: _of_reward(response)}
            for response in await self._respond(requests, on_progress)
        ]

    def _verdict(self, criterion: Criterion, answers: Sequence[_Answer]) -> Verdict:
        """One verdict of the answers in each order, the second about the swapped pair."""
        for answer in answers:
            if answer.found is None:
                return _none(answer)
        first, *rest = answers
        found = first.found
        orders: tuple[float, ...] = ()
        assert found is not None
        if rest and rest[0].found is not None:
            other = swapped(rest[0].found, _OTHER_NAME)
            orders = (criterion.labels[found.likeliest()], criterion.labels[other.likeliest()])
            found = mean_of(found, other)
        reason = "\n\n".join(answer.reason for answer in answers if answer.reason)
        choice = criterion.labels[found.likeliest()]
        if orders:  # a pair that is judged one way and the other is a tie
            choice = orders[0] if orders[0] == orders[1] else 0.5
        return Verdict(
            value=found.expectation(criterion.labels),
            choice=choice,
            probabilities=dict(found.probabilities),
            missing_mass=found.missing_mass,
            orders=orders,
            reason=reason,
        )

    def _prompt(self, ask: _Ask, *, said: str, more: str = "") -> Prompt:
        system, user = question(self.rubric, ask.criterion, ask.shown, is_swapped=ask.is_swapped)
        user = f"{user}\n\n{more}" if more else user
        return lay_out((system, user), said=said, is_chat=self.is_chat)

    def _cue(self, reason: str | None) -> str:
        return f"{reason}\n\n{self.rubric.spec.cue}" if reason else self.rubric.spec.cue

    def _seed(self, ask: _Ask) -> int:
        parts = (self.seed, ask.shown.key, ask.criterion.name, ask.is_swapped)
        text = "\x1f".join(map(str, parts))
        return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")

    async def _respond(
        self, requests: Sequence[Request], on_progress: OnProgress
    ) -> list[Response]:
        if not requests:
            return []
        n = len(requests)
        responses, _ = await collect(
            self.backend, requests, lambda n_done, n_error: on_progress(n_done, n)
        )
        return responses


def _sampling(spec: CritiqueSpec, *stops: str) -> Sampling:
    return Sampling(**(spec.model_dump() | {"stop": (*spec.stop, *stops)}))


def _labels(ask: _Ask) -> list[str]:
    return list(ask.criterion.labels)


def _failed(response: Response) -> _Answer:
    message = response.error.message if response.error else "the judge's critique failed"
    return _Answer(status=Status.ERROR, problem=message)


def _none(answer: _Answer) -> Verdict:
    return Verdict(
        value=float("nan"), status=answer.status, problem=answer.problem, reason=answer.reason
    )


def _of_reward(response: Response) -> Verdict:
    if response.error is not None:
        return _none(_failed(response))
    return Verdict(value=response.reward, choice=response.reward)


def _again(prompt: Prompt, said: str, instruction: str) -> Prompt:
    """The same question with what was said to it, and what was wanted instead."""
    wanted = f"That was not the JSON object asked for. {instruction}"
    if isinstance(prompt, str):
        return f"{prompt}\n\n{said}\n\n{wanted}"
    turns = (Message(role="assistant", content=said), Message(role="user", content=wanted))
    return Chat(messages=(*prompt.messages, *turns))


def open_model_judge(rubric: Rubric, backend: Backend, *, spec: str, seed: int = 0) -> ModelJudge:
    """A judge whose way of deciding follows from the rubric and from what the backend can do.

    Raises UsageError where the two do not fit.
    """
    wanted, kinds = rubric.spec.verdict, backend.kinds
    method: Method
    for criterion in rubric.criteria:
        if criterion.modality == "image":
            raise UsageError(
                f"rubric {rubric.name!r}: criterion {criterion.name!r} is about an image, and "
                f"judge {spec!r} reads text only"
            )
    if rubric.kind == "reward":
        if "reward" not in kinds:
            raise UsageError(f"rubric {rubric.name!r} needs a reward model; {spec!r} is none")
        method = "reward"
    elif "choice" in kinds and wanted != "text":
        method = "logits"
    elif wanted == "logits":
        raise UsageError(
            f"rubric {rubric.name!r} wants probabilities, and judge {spec!r} gives none"
        )
    elif "generate" not in kinds:
        raise UsageError(f"judge {spec!r} neither writes texts nor gives probabilities")
    else:
        method = "text"
    if method != "logits" and rubric.spec.content_free:
        raise UsageError(
            f"rubric {rubric.name!r}: content_free corrects probabilities; {spec!r} gives none"
        )
    return ModelJudge(
        rubric=rubric,
        backend=backend,
        method=method,
        is_chat=_can_chat(backend),
        spec=spec,
        seed=seed,
    )


def _can_chat(backend: Backend) -> bool:
    try:
        backend.render(Chat(messages=(Message(role="user", content="?"),)))
    except ModelError:  # without a chat template
        return False
    return True
