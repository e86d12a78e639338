"""The gate: a candidate run beside a baseline, a policy, and whether the candidate may pass.

``evaluate`` gives the verdicts of a policy's checks; ``decide`` is the verdict of one, pure.
"""

from evalkit.gate.evaluate import GateReport, evaluate
from evalkit.gate.policy import CheckSpec, Policy, QuarantineSpec, read_policy
from evalkit.gate.quarantine import Quarantined
from evalkit.gate.verdict import Check, CheckResult, Reason, Verdict, decide, holm_levels

__all__ = [
    "Check",
    "CheckResult",
    "CheckSpec",
    "GateReport",
    "Policy",
    "QuarantineSpec",
    "Quarantined",
    "Reason",
    "Verdict",
    "decide",
    "evaluate",
    "holm_levels",
    "read_policy",
]
