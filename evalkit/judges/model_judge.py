"""A rubric and a model as a judge.

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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from evalkit.collect import collect
from evalkit.errors import ModelError, UsageError
from evalkit.judges.answer import (
    Answer,
    failed_answer,
    read_likelihoods,
    read_text,
    verdict_of,
    verdict_of_reward,
)
from evalkit.judges.asking import (
    Case,
    Method,
    as_json_instruction,
    empty_case,
    first_prompt,
    last_prompt,
    read_json,
)
from evalkit.judges.judge import JudgeInfo, OnProgress, Verdicts
from evalkit.judges.labels import Distribution, continuations, without_bias
from evalkit.judges.rubric import Criterion, Rubric
from evalkit.judges.rubric_spec import CritiqueSpec
from evalkit.record import RunStatus
from evalkit.types import (
    Backend,
    Chat,
    Message,
    Prompt,
    Request,
    RequestKind,
    Response,
    Sampling,
    Status,
    Verdict,
)

_JSON_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """One question to the judge: a case under a criterion, in one order."""

    case: int  # its place
    shown: Case
    criterion: Criterion
    is_swapped: bool = False

    @property
    def labels(self) -> list[str]:
        return list(self.criterion.labels)

    @property
    def leaning(self) -> tuple[str, bool]:
        """What the judge's leaning when there is nothing to judge depends on."""
        return self.criterion.name, self.is_swapped


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJudge:
    """A model that judges by a rubric; make one with ``open_model_judge``."""

    rubric: Rubric
    backend: Backend
    method: Method
    is_chat: bool
    spec: str
    seed: int = 0
    # asked once and kept, so that all that it judges is corrected alike
    _leanings: dict[tuple[str, bool], Distribution] = field(default_factory=dict)
    _ended: list[RunStatus] = field(default_factory=list)  # how calls ended that did not complete

    @property
    def status(self) -> RunStatus:
        """Complete, unless something ended a call of ``judge`` before its time."""
        return self._ended[0] if self._ended else "complete"

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
        """The verdicts on each case. A request that fails costs its own verdict only.

        Raises UsageError for a pair without its second answer, TemplateError for a field that the
        rubric's prompt asks for and a case does not have.
        """
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
        answers = await self._decide(asks, on_progress)
        if self.rubric.spec.content_free:
            answers = await self._without_leaning(asks, answers, on_progress)
        by_case: list[dict[str, Verdict]] = [{} for _ in cases]
        for at in range(0, len(asks), len(orders)):
            ask, own = asks[at], answers[at : at + len(orders)]
            by_case[ask.case][ask.criterion.name] = verdict_of(ask.criterion, own)
        return list(by_case)

    async def _decide(self, asks: Sequence[_Ask], on_progress: OnProgress) -> list[Answer]:
        if self.method == "text":
            return await self._texts(asks, on_progress)
        answers = await self._critiques(asks, on_progress)
        left = [i for i, answer in enumerate(answers) if answer.status is Status.OK]
        requests = [
            self._request(
                asks[i],
                "choice",
                self._last_prompt(asks[i], answers[i].reason),
                labels=continuations(asks[i].labels),
            )
            for i in left
        ]
        responses = await self._respond(requests, on_progress)
        for i, response in zip(left, responses, strict=True):
            answers[i] = read_likelihoods(asks[i].labels, answers[i].reason, response)
        return answers

    async def _critiques(self, asks: Sequence[_Ask], on_progress: OnProgress) -> list[Answer]:
        """What the judge writes before its verdict; nothing where the rubric asks for none."""
        spec = self.rubric.spec.critique
        if spec is None:
            return [Answer()] * len(asks)
        sampling = _sampling(spec, self.rubric.spec.cue)
        requests = [
            self._request(ask, "generate", self._first_prompt(ask), sampling=sampling)
            for ask in asks
        ]
        return [
            failed_answer(response)
            if response.error
            else Answer(reason=(response.text or "").strip())
            for response in await self._respond(requests, on_progress)
        ]

    async def _without_leaning(
        self, asks: Sequence[_Ask], answers: Sequence[Answer], on_progress: OnProgress
    ) -> list[Answer]:
        """The answers divided by what the judge says of nothing; a failure there fails them."""
        failed: dict[tuple[str, bool], Answer] = {}
        nothing = [
            replace(ask, shown=empty_case(ask.shown))
            for ask in asks
            if ask.case == 0 and ask.leaning not in self._leanings
        ]
        for ask, answer in zip(nothing, await self._decide(nothing, on_progress), strict=True):
            if answer.found is None:
                problem = f"the question about an empty answer failed: {answer.problem}"
                failed[ask.leaning] = replace(answer, problem=problem)
            else:
                self._leanings[ask.leaning] = answer.found
        corrected: list[Answer] = []
        for ask, answer in zip(asks, answers, strict=True):
            if answer.found is None:
                corrected.append(answer)
            elif ask.leaning in failed:
                corrected.append(failed[ask.leaning])
            else:
                found = without_bias(answer.found, self._leanings[ask.leaning])
                corrected.append(replace(answer, found=found))
        return corrected

    async def _texts(self, asks: Sequence[_Ask], on_progress: OnProgress) -> list[Answer]:
        """Verdicts out of JSON texts; what cannot be read is asked for once more."""
        critique = self.rubric.spec.critique
        sampling = _sampling(critique) if critique else Sampling(max_tokens=_JSON_TOKENS)
        requests = [
            self._request(ask, "generate", self._first_prompt(ask), sampling=sampling)
            for ask in asks
        ]
        responses = await self._respond(requests, on_progress)
        unread = [
            i
            for i, (ask, response) in enumerate(zip(asks, responses, strict=True))
            if response.error is None and read_json(response.text or "", ask.labels) is None
        ]
        repairs = [
            replace(
                requests[i],
                prompts=(_again(requests[i].prompts[0], responses[i], asks[i].criterion),),
            )
            for i in unread
        ]
        for i, response in zip(unread, await self._respond(repairs, on_progress), strict=True):
            responses[i] = response
        return [
            read_text(ask.labels, response) for ask, response in zip(asks, responses, strict=True)
        ]

    async def _rewards(self, cases: Sequence[Case], on_progress: OnProgress) -> list[Verdicts]:
        [criterion] = self.rubric.criteria
        asks = [_Ask(case=i, shown=case, criterion=criterion) for i, case in enumerate(cases)]
        requests = [self._request(ask, "reward", self._first_prompt(ask)) for ask in asks]
        return [
            {criterion.name: verdict_of_reward(response)}
            for response in await self._respond(requests, on_progress)
        ]

    def _request(
        self,
        ask: _Ask,
        kind: RequestKind,
        prompt: Prompt,
        *,
        labels: tuple[str, ...] = (),
        sampling: Sampling | None = None,
    ) -> Request:
        return Request(
            task=self.rubric.name,
            example_id=ask.shown.key,
            kind=kind,
            prompts=(prompt,),
            continuations=labels,
            sampling=sampling or Sampling(),
            seed=self._seed(ask),
        )

    def _first_prompt(self, ask: _Ask) -> Prompt:
        return first_prompt(
            self.rubric,
            ask.criterion,
            ask.shown,
            method=self.method,
            is_chat=self.is_chat,
            is_swapped=ask.is_swapped,
        )

    def _last_prompt(self, ask: _Ask, reason: str) -> Prompt:
        if self.rubric.spec.critique is None:
            return self._first_prompt(ask)
        return last_prompt(
            self.rubric,
            ask.criterion,
            ask.shown,
            reason=reason,
            is_chat=self.is_chat,
            is_swapped=ask.is_swapped,
        )

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
        responses, status = await collect(
            self.backend, requests, lambda n_done, n_error: on_progress(n_done, n)
        )
        if status != "complete":
            self._ended.append(status)
        return responses


def _sampling(spec: CritiqueSpec, *stops: str) -> Sampling:
    return Sampling(**(spec.model_dump() | {"stop": (*spec.stop, *stops)}))


def _again(prompt: Prompt, response: Response, criterion: Criterion) -> Prompt:
    """The same question with what was said to it, and what was wanted instead."""
    said = response.text or ""
    wanted = f"That was not the JSON object asked for. {as_json_instruction(criterion)}"
    if isinstance(prompt, str):
        return f"{prompt}\n\n{said}\n\n{wanted}"
    turns = (Message(role="assistant", content=said), Message(role="user", content=wanted))
    return Chat(messages=(*prompt.messages, *turns))


def open_model_judge(rubric: Rubric, backend: Backend, *, spec: str, seed: int = 0) -> ModelJudge:
    """A judge whose way of deciding follows from the rubric and from what the backend can do.

    Raises UsageError where the two do not fit.
    """
    for criterion in rubric.criteria:
        if criterion.modality == "image":
            raise UsageError(
                f"rubric {rubric.name!r}: criterion {criterion.name!r} is about an image, and "
                f"judge {spec!r} reads text only"
            )
    return ModelJudge(
        rubric=rubric,
        backend=backend,
        method=_method(rubric, backend, spec),
        is_chat=can_chat(backend),
        spec=spec,
        seed=seed,
    )


def _method(rubric: Rubric, backend: Backend, spec: str) -> Method:
    wanted, kinds = rubric.spec.verdict, backend.kinds
    if rubric.kind == "reward":
        if "reward" not in kinds:
            raise UsageError(f"rubric {rubric.name!r} needs a reward model; {spec!r} is none")
        return "reward"
    if "generate" not in kinds and rubric.spec.critique is not None:
        raise UsageError(f"rubric {rubric.name!r} wants reasons, and judge {spec!r} writes none")
    if "choice" in kinds and wanted != "text":
        return "logits"
    if wanted == "logits" or rubric.spec.content_free:
        raise UsageError(
            f"rubric {rubric.name!r} wants probabilities, and judge {spec!r} gives none"
        )
    if "generate" not in kinds:
        raise UsageError(f"judge {spec!r} neither writes texts nor gives probabilities")
    return "text"


def can_chat(backend: Backend) -> bool:
    """Whether a model can be asked in turns."""
    try:
        backend.render(Chat(messages=(Message(role="user", content="?"),)))
    except ModelError:  # without a chat template
        return False
    return True
