"""The policy file: what must not drop, by how much, and what else stops a candidate. Strict."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from evalkit.gate.verdict import Check
from evalkit.schema import Strict, parse
from evalkit.yamlfile import read_yaml

OnInconclusive = Literal["fail", "pass", "warn"]
Adjust = Literal["holm", "none"]
Rate = Annotated[float, Field(ge=0, le=1)]


def _date(value: Any) -> Any:
    """YAML here has no dates: they come as texts."""
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no date; write it as 2026-12-31") from None
    return value


class CheckSpec(Strict):
    """One number that must not drop."""

    task: str
    metric: str
    margin: float = Field(
        gt=0, allow_inf_nan=False, description="a drop so large must be excluded; metric's unit"
    )
    reason: str = Field(default="", description="why this margin")
    slice: str | None = Field(
        default=None,
        pattern=r"^[^=]+=.+$",
        description="field=value: only the examples of this slice",
    )
    max_error_rate: Rate | None = Field(default=None, description="default: that of the policy")
    requires: Literal["calibrated"] | None = Field(
        default=None, description="calibrated: a judge must have been held against people"
    )


class QuarantineSpec(Strict):
    """An example that is left out of the verdicts until a day."""

    id: str | None = None
    sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{8,64}$", description="the first digits are enough"
    )
    task: str | None = Field(default=None, description="default: any task that has the example")
    until: Annotated[date, BeforeValidator(_date)] = Field(description="the last day")
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one_name(self) -> QuarantineSpec:
        if (self.id is None) == (self.sha256 is None):
            raise ValueError("give exactly one of 'id' and 'sha256'")
        return self


class Policy(Strict):
    """A gate."""

    gate: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="chance that a drop of the margin passes"
    )
    power: float = Field(
        default=0.8, gt=0, lt=1, description="chance that an unchanged candidate shall pass with"
    )
    checks: list[CheckSpec] = Field(min_length=1)
    max_error_rate: Rate = Field(
        default=0.02, description="share of the candidate's answers that may be errors"
    )
    on_inconclusive: OnInconclusive = "fail"
    adjust: Adjust = Field(default="holm", description="for having several checks")
    quarantine: list[QuarantineSpec] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        if self.power <= self.alpha:
            raise ValueError(f"power must be above alpha, {self.alpha:g}")
        seen = set()
        for check in self.checks:
            key = (check.task, check.metric, check.slice)
            if key in seen:
                raise ValueError(f"{check.task}, {check.metric} is checked twice")
            seen.add(key)
        return self

    def resolved(self) -> list[Check]:
        """The checks with the policy's defaults."""
        return [self._resolved(spec) for spec in self.checks]

    def _resolved(self, spec: CheckSpec) -> Check:
        part: tuple[str, str] | None = None
        if spec.slice is not None:
            field, _, value = spec.slice.partition("=")
            part = field.strip(), value.strip()
        return Check(
            task=spec.task,
            metric=spec.metric,
            margin=spec.margin,
            reason=spec.reason,
            slice=part,
            max_error_rate=(
                self.max_error_rate if spec.max_error_rate is None else spec.max_error_rate
            ),
            is_calibration_required=spec.requires == "calibrated",
        )


def read_policy(path: Path) -> Policy:
    """A policy file.

    Raises UsageError if it cannot be read, SpecError (path:line) for the first thing wrong in it.
    """
    return parse(read_yaml(path), Policy)
