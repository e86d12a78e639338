"""What a judge is: cases in, verdicts out, and who gave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evalkit.judges.asking import Case
from evalkit.record import RunStatus
from evalkit.types import Verdict

OnProgress = Callable[[int, int], None]  # (answered, asked) of one stage
Verdicts = Mapping[str, Verdict]  # by criterion


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInfo:
    """Who judges by what: judges of equal ``identity`` give equal verdicts (to equal draws)."""

    spec: str
    rubric: str
    identity: Mapping[str, Any]  # rubric_sha256, model, method, layout, sampling


class Judge(Protocol):
    """Something that gives verdicts under a rubric."""

    @property
    def info(self) -> JudgeInfo: ...

    @property
    def status(self) -> RunStatus:
        """Complete, unless something ended a call of ``judge`` before its time."""
        ...

    async def judge(self, cases: Sequence[Case], on_progress: OnProgress) -> list[Verdicts]:
        """The verdicts on each case, one for each criterion of the rubric."""
        ...
