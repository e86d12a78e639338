"""What came of a question to a judge, and the verdict that it makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.judges.asking import read_json
from evalkit.judges.labels import (
    Distribution,
    certain,
    continuations,
    distribution,
    mean_of,
    swapped,
)
from evalkit.judges.rubric import Criterion
from evalkit.types import Response, Status, Verdict

_OTHER_NAME = {"A": "B", "B": "A"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How likely the judge finds each label, and why it says so; or why there is neither."""

    found: Distribution | None = None
    reason: str = ""
    status: Status = Status.OK
    problem: str = ""


def failed_answer(response: Response) -> Answer:
    """That of a request that failed."""
    assert response.error is not None
    return Answer(status=Status.ERROR, problem=response.error.message)


def read_likelihoods(labels: Sequence[str], reason: str, response: Response) -> Answer:
    """From the log-probabilities of ``continuations(labels)``; ``reason`` came before them."""
    if response.error is not None:
        return failed_answer(response)
    logprobs = [c.logprob for c in response.continuations]
    n = len(continuations(labels))
    if len(logprobs) != n or any(map(math.isnan, logprobs)):
        problem = f"the judge gave {len(logprobs)} log-probabilities, not {n}, or some are nan"
        return Answer(status=Status.ERROR, problem=problem, reason=reason)
    found = distribution(labels, logprobs)
    if found is None:
        problem = "no label has any probability"
        return Answer(status=Status.ABSTAINED, problem=problem, reason=reason)
    return Answer(found=found, reason=reason)


def read_text(labels: Sequence[str], response: Response) -> Answer:
    """From a JSON object that the judge wrote."""
    if response.error is not None:
        return failed_answer(response)
    read = read_json(response.text or "", labels)
    if read is None:
        return Answer(
            status=Status.ABSTAINED,
            problem="no verdict could be read from the judge's answer, nor from a second one",
            reason=response.text or "",
        )
    label, reason = read
    return Answer(found=certain(label, labels), reason=reason)


def verdict_of(criterion: Criterion, answers: Sequence[Answer]) -> Verdict:
    """One verdict of the answers in each order, the second about the swapped pair."""
    for answer in answers:
        if answer.found is None:
            return _no_verdict(answer)
    first, *rest = (answer.found for answer in answers if answer.found is not None)
    found, orders = first, tuple[float, ...]()
    choice = found.choice(criterion.labels)
    if rest:
        other = swapped(rest[0], _OTHER_NAME)
        orders = (choice, other.choice(criterion.labels))
        # a pair that is judged one way and then the other is a tie
        choice = orders[0] if orders[0] == orders[1] else 0.5
        found = mean_of(first, other)
    return Verdict(
        value=found.expectation(criterion.labels),
        choice=choice,
        probabilities=dict(found.probabilities),
        missing_mass=found.missing_mass,
        orders=orders,
        reason="\n\n".join(answer.reason for answer in answers if answer.reason),
    )


def _no_verdict(answer: Answer) -> Verdict:
    return Verdict(
        value=math.nan, status=answer.status, problem=answer.problem, reason=answer.reason
    )


def verdict_of_reward(response: Response) -> Verdict:
    """The verdict of a reward model: its number, on no common scale."""
    if response.error is not None:
        return _no_verdict(failed_answer(response))
    if not math.isfinite(response.reward):
        problem = f"the reward model gave no number: {response.reward}"
        return _no_verdict(Answer(status=Status.ERROR, problem=problem))
    return Verdict(value=response.reward, choice=response.reward)
