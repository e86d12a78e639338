"""What the engine is asked and what it answers. Data only; frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How likely the model finds given tokens after what precedes them."""

    logprobs: tuple[float, ...]  # natural log, one for each scored token
    is_greedy: bool  # each token was the model's first choice; true of no tokens at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens. The defaults are neutral: greedy, nothing cut, nothing penalised."""

    max_tokens: int
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """The model's first choice is taken as it is."""
        return self.temperature == 0 and self.repetition_penalty == 1

    def __post_init__(self) -> None:
        problems = {
            "max_tokens": self.max_tokens < 0,
            "temperature": not 0 <= self.temperature < float("inf"),
            "top_k": self.top_k < 0,
            "top_p": not 0 < self.top_p <= 1,
            "min_p": not 0 <= self.min_p <= 1,
            "repetition_penalty": not 0 < self.repetition_penalty < float("inf"),
            "stop": "" in self.stop,
        }
        for name, is_wrong in problems.items():
            if is_wrong:
                raise ValueError(f"sampling: {name}={getattr(self, name)!r} is out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Tokens that the model went on with.

    A stop string ends the text before it; a token that starts at or after it is dropped, and so
    is an end-of-text token. ``logprobs`` are the model's own (natural log, before temperature,
    cuts and penalty), one for each of ``token_ids``.
    """

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a call may use. In exact mode answers do not depend on it; memory and speed do."""

    step_tokens: int = 512  # rows of one forward
    n_active: int = 64  # sequences generated at a time
    cache_bytes: int = 1 << 30  # keys and values; more if a single sequence needs more
