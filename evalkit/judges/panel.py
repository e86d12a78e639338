"""Several judges as one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evalkit.judges.asking import Case
from evalkit.judges.judge import Judge, JudgeInfo, OnProgress, Verdicts
from evalkit.record import RunStatus
from evalkit.types import Status, Verdict

Vote = Literal["mean", "majority"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Judges of one rubric whose verdicts are put together: their mean, or what most say.

    A case on which a member has no verdict has none: a mean over whoever answered would be on
    another scale for some cases.
    """

    members: tuple[Judge, ...]
    vote: Vote = "mean"

    @property
    def status(self) -> RunStatus:
        """Complete, if that is every member's."""
        ended: list[RunStatus] = [m.status for m in self.members if m.status != "complete"]
        return ended[0] if ended else "complete"

    @property
    def info(self) -> JudgeInfo:
        """All members', in their order."""
        infos = [member.info for member in self.members]
        vote = "" if self.vote == "mean" else self.vote
        return JudgeInfo(
            spec=f"{vote}[{', '.join(info.spec for info in infos)}]",
            rubric=infos[0].rubric,
            identity={
                "rubric_sha256": infos[0].identity["rubric_sha256"],
                "vote": self.vote,
                "members": [dict(info.identity) for info in infos],
            },
        )

    async def judge(self, cases: Sequence[Case], on_progress: OnProgress) -> list[Verdicts]:
        """The panel's verdicts; ``members`` of each are the single ones."""
        all_found = [await member.judge(cases, on_progress) for member in self.members]
        return [
            {name: self._together([own[name] for own in by_member]) for name in by_member[0]}
            for by_member in zip(*all_found, strict=True)
        ]

    def _together(self, verdicts: Sequence[Verdict]) -> Verdict:
        members = tuple(verdicts)
        for status in (Status.ERROR, Status.ABSTAINED):
            missing = next((v for v in members if v.status is status), None)
            if missing is not None:
                return Verdict(
                    value=math.nan, status=status, problem=missing.problem, members=members
                )
        n = len(members)
        choices = Counter(v.choice for v in members).most_common()
        tied = [value for value, count in choices if count == choices[0][1]]
        majority = math.fsum(tied) / len(tied)
        mean = math.fsum(v.value for v in members) / n
        return Verdict(
            value=mean if self.vote == "mean" else majority,
            choice=majority,
            orders=_orders(members),
            members=members,
        )


def _orders(members: Sequence[Verdict]) -> tuple[float, ...]:
    """For pairs: the panel's mean choice in each order."""
    if any(len(member.orders) != 2 for member in members):
        return ()
    return tuple(math.fsum(m.orders[k] for m in members) / len(members) for k in (0, 1))
