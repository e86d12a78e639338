"""The metrics by name. Listing them imports none of them; building one imports its module."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from evalkit import plugins
from evalkit.errors import MetricError, NotFoundError
from evalkit.metrics.options import checked_options
from evalkit.types import Metric, RequestKind

GROUP = "evalkit.metrics"
"""The entry point group in which a package registers metric classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry:
    """A metric as a list shows it; a plugin's kinds are unknown until it is built."""

    name: str
    description: str
    kinds: frozenset[RequestKind]


_Row = tuple[str, str, tuple[RequestKind, ...]]
_TEXT: tuple[RequestKind, ...] = ("generate",)
_PICK: tuple[RequestKind, ...] = ("choice", "classify")
_PAIR: tuple[RequestKind, ...] = ("choice",)
_LABEL: tuple[RequestKind, ...] = ("generate", "choice", "classify")
_TARGET: tuple[RequestKind, ...] = ("loglikelihood",)
_WHOLE: tuple[RequestKind, ...] = ("rolling",)

_TABLE: Mapping[str, _Row] = {
    "exact_match": ("exact_match:ExactMatch", "the answer equals a target", _TEXT),
    "contains": ("exact_match:Contains", "the answer contains a target", _TEXT),
    "token_f1": ("token_f1:TokenF1", "F1 over words, SQuAD's, best target", _TEXT),
    "f1": ("classification:F1", "F1 over labels, macro or micro", _LABEL),
    "mcc": ("classification:Mcc", "Matthews correlation of labels", _LABEL),
    "bleu": ("bleu:Bleu", "corpus BLEU, sacrebleu's, 0..100", _TEXT),
    "chrf": ("bleu:Chrf", "corpus chrF or chrF++, sacrebleu's, 0..100", _TEXT),
    "ter": ("bleu:Ter", "translation edit rate, sacrebleu's, in percent; lower is better", _TEXT),
    "rouge1": ("rouge:Rouge1", "F of unigrams, best target", _TEXT),
    "rouge2": ("rouge:Rouge2", "F of bigrams, best target", _TEXT),
    "rougeL": ("rouge:RougeL", "F of the longest common subsequence, best target", _TEXT),
    "rougeLsum": ("rouge:RougeLsum", "rougeL over sentences, one a line", _TEXT),
    "instructions_followed": (
        "instructions:InstructionsFollowed",
        "every constraint of the example holds",
        _TEXT,
    ),
    "instruction_accuracy": (
        "instructions:InstructionAccuracy",
        "share of the constraints that hold",
        _TEXT,
    ),
    "unit_tests": ("unit_tests:UnitTests", "the program passes its tests, in a jail", _TEXT),
    "accuracy": ("choice:Accuracy", "the likeliest choice is right", _PICK),
    "accuracy_per_byte": ("choice:AccuracyPerByte", "the likeliest per byte is right", _PICK),
    "accuracy_per_token": ("choice:AccuracyPerToken", "the likeliest per token is right", _PICK),
    "probability_mass": ("choice:ProbabilityMass", "probability on the right choices", _PICK),
    "brier": ("choice:Brier", "squared error of the probabilities; lower is better", _PICK),
    "ece": ("choice:Ece", "expected calibration error; lower is better", _PICK),
    "pair_accuracy": ("pairs:PairAccuracy", "a judge of pairs is right, over both orders", _PAIR),
    "both_orders_right": ("pairs:BothOrdersRight", "a judge is right in both orders", _PAIR),
    "order_consistency": ("pairs:OrderConsistency", "both orders, the same outcome", _PAIR),
    "first_twice": ("pairs:FirstTwice", "what is shown first, twice; lower is better", _PAIR),
    "second_twice": ("pairs:SecondTwice", "what is shown second, twice; lower is better", _PAIR),
    "position_bias": (
        "pairs:PositionBias",
        "how far picks of the first are from half; lower is better",
        _PAIR,
    ),
    "loglikelihood": ("perplexity:LogLikelihood", "log-probability of the target", _TARGET),
    "greedy_match": ("perplexity:GreedyMatch", "greedy decoding gives the target", _TARGET),
    "perplexity": ("perplexity:Perplexity", "per token; lower is better", _TARGET + _WHOLE),
    "byte_perplexity": ("perplexity:BytePerplexity", "per UTF-8 byte; lower is better", _WHOLE),
    "word_perplexity": ("perplexity:WordPerplexity", "per word; lower is better", _WHOLE),
    "bits_per_byte": ("perplexity:BitsPerByte", "bits per UTF-8 byte; lower is better", _WHOLE),
}


def describe_metrics() -> list[MetricEntry]:
    """Every metric, the bundled ones first; imports none of them."""
    bundled = [
        MetricEntry(name=name, description=description, kinds=frozenset(kinds))
        for name, (_, description, kinds) in _TABLE.items()
    ]
    added = [
        MetricEntry(name=name, description="from an installed plugin", kinds=frozenset())
        for name in plugins.names(GROUP)
        if name not in _TABLE
    ]
    return bundled + added


def build_metric(name: str, options: Mapping[str, object]) -> Metric:
    """The metric of this name with these options; a bundled name wins over a plugin's.

    Raises NotFoundError for an unknown name, MetricError for an option that the metric does not
    have or a value that it does not take, UsageError for a plugin that cannot be loaded.
    """
    factory = _load(name)
    metric = factory(**checked_options(f"metric {name!r}", factory, options=options))
    return cast(Metric, metric)


def _load(name: str) -> Callable[..., Any]:
    if name in _TABLE:
        module, _, attribute = _TABLE[name][0].partition(":")
        factory = getattr(importlib.import_module(f"evalkit.metrics.{module}"), attribute)
        return cast(Callable[..., Any], factory)
    added = plugins.names(GROUP)
    if name not in added:
        raise NotFoundError("metric", name, [*_TABLE, *added])
    factory = plugins.load(GROUP, name)
    if not callable(factory):
        raise MetricError(f"plugin {name!r} of {GROUP} is not a class that makes a metric")
    return factory
