"""The local inference engine: exact log-probabilities and text of models on this machine.

It imports nothing else of evalkit.
"""

from evalkit.engine.chat import render_chat
from evalkit.engine.config import Arch
from evalkit.engine.counting import Workload
from evalkit.engine.engine import LLM
from evalkit.engine.errors import (
    ChatTemplateError,
    ContextLengthError,
    EngineError,
    ModelFileError,
    TokenizerError,
)
from evalkit.engine.exactness import Finding, check
from evalkit.engine.tokenizer import Detokenizer, Tokenizer
from evalkit.engine.types import Budget, Generated, Sampling, Scored

__all__ = [
    "LLM",
    "Arch",
    "Budget",
    "ChatTemplateError",
    "ContextLengthError",
    "Detokenizer",
    "EngineError",
    "Finding",
    "Generated",
    "ModelFileError",
    "Sampling",
    "Scored",
    "Tokenizer",
    "TokenizerError",
    "Workload",
    "check",
    "render_chat",
]
