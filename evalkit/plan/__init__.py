"""A run before it is one: its requests and tokens, its time or cost, and what it could show."""

from evalkit.plan.forecast import Rates, RunPlan, Span, TaskPlan, plan, to_json
from evalkit.plan.prices import Price, read_price
from evalkit.plan.sensitivity import Question, Sensitivity
from evalkit.plan.tokens import Tokens

__all__ = [
    "Price",
    "Question",
    "Rates",
    "RunPlan",
    "Sensitivity",
    "Span",
    "TaskPlan",
    "Tokens",
    "plan",
    "read_price",
    "to_json",
]
