"""Scalar heads: reward models and classifiers, against transformers in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_families import FAMILIES, SIZES
from tiny_llama import open_tiny, write_folder
from transformers import AutoModelForSequenceClassification

from evalkit.engine import LLM, ContextLengthError, ModelFileError

# Every table of weight names, and the ways of norming and rotating behind them.
KINDS = ("llama with biases", "qwen3", "gemma2", "gpt2", "gpt_neox", "mixtral")


def classifier(kind: str, n_scores: int) -> Any:
    config_class, _, changes = FAMILIES[kind]
    sizes = {k: v for k, v in (SIZES | changes).items() if v is not None}
    config = config_class(**sizes, num_labels=n_scores)
    config.pad_token_id = 101  # transformers looks for the last token that is none
    torch.manual_seed(5)
    build: Any = AutoModelForSequenceClassification.from_config
    model = build(config)
    return model.eval()


def expected(model: Any, ids: list[int]) -> list[float]:
    with torch.no_grad():
        scores: list[float] = model(torch.tensor([ids])).logits[0].float().tolist()
    return scores


def texts() -> list[list[int]]:
    """Some that share what they begin with, one that is the beginning of another, two alike."""
    rng = np.random.default_rng(3)
    start = rng.integers(0, 100, 40).tolist()
    rests = [rng.integers(0, 100, n).tolist() for n in (1, 30, 200)]
    return [start, *(start + rest for rest in rests), rests[2], rests[2]]


def rated(llm: LLM, items: list[list[int]]) -> list[Any]:
    found = dict(llm.rate(items))
    return [found[i] for i in range(len(items))]


@pytest.mark.parametrize("kind", [k for k in FAMILIES if k.split(" ")[0] in KINDS or k in KINDS])
def test_a_reward_is_that_of_transformers(kind: str, tmp_path: Path) -> None:
    model = classifier(kind, 1)
    llm = open_tiny(write_folder(model, tmp_path))
    for ids, found in zip(texts(), rated(llm, texts()), strict=True):
        assert found == pytest.approx(expected(model, ids), abs=1e-4)


def test_a_classifier_gives_a_score_for_each_label(tmp_path: Path) -> None:
    for n in (2, 3):  # two are the default, which the configuration does not write down
        model = classifier("llama with biases", n)
        folder = write_folder(model, tmp_path / str(n))
        [ids, *_] = texts()
        assert rated(open_tiny(folder), [ids])[0] == pytest.approx(expected(model, ids), abs=1e-4)


def test_a_reward_has_the_same_bits_alone_in_a_batch_and_in_small_steps(tmp_path: Path) -> None:
    folder = write_folder(classifier("llama with biases", 1), tmp_path)
    llm, items = open_tiny(folder), texts()
    together = rated(llm, items)
    assert [rated(llm, [item])[0] for item in items] == together
    assert rated(llm, items[::-1])[::-1] == together
    assert rated(open_tiny(folder, step_tokens=7), items) == together


def test_a_text_that_is_too_long_gets_its_error_and_the_others_their_scores(tmp_path: Path) -> None:
    llm = open_tiny(write_folder(classifier("llama with biases", 1), tmp_path))
    long, short = rated(llm, [[1] * (llm.max_length + 1), [1, 2]])
    assert isinstance(long, ContextLengthError)
    assert len(short) == 1


def test_a_head_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = write_folder(classifier("llama with biases", 1), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["LlamaForTokenClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match="not LlamaForCausalLM or LlamaForSequenceClass"):
        open_tiny(folder)
