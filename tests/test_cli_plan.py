"""The verb plan: what it prints where, and with which exit code."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from answering import Answering, say
from command_line import Run
from rich.console import Console
from tiny_model import write_tiny_model

import evalkit
from evalkit.plan import plan
from evalkit.plan.tables import tables
from evalkit.prepare import RunSpec

SUMS = (
    "task: sums\nversion: 1\ndataset: {path: rows.jsonl}\nprompt: '{{ q }}'\ntarget: '{{ a }}'\n"
    "request: generate\ngenerate: {max_tokens: 8}\nmetrics: [exact_match, token_f1, bleu]\n"
)
PICK = (
    "task: pick\nversion: 1\ndataset: {path: rows.jsonl}\nprompt: '{{ q }}'\n"
    "choices: ['1', '22']\ntarget: '0'\nrequest: choice\nmetrics: [accuracy]\nslices: [part]\n"
)
POLICY = (
    "gate: nightly\nchecks:\n  - {task: sums, metric: exact_match, margin: 0.05}\n"
    "  - {task: pick, metric: accuracy, margin: 0.4, slice: part=0}\n"
    "  - {task: sums, metric: bleu, margin: 2.5}\n"
)
PRICES = (
    "models:\n  example-large: {input_usd_per_million: 5, output_usd_per_million: 20, "
    "date: 2026-01-31, source: 'made up'}\n"
)
N = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_tiny_model(tmp_path_factory.mktemp("cli") / "model")
    return f"local:{folder}?dtype=float32"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two tasks, a policy, prices and a baseline; the current one."""
    (tmp_path / "tasks").mkdir()
    rows = [
        {"id": f"r{i}", "q": f"{i % 20}+1=", "a": f"it is no less than {i + 1}", "part": i % 2}
        for i in range(N)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for name, content in (
        ("tasks/sums.yaml", SUMS),
        ("tasks/pick.yaml", PICK),
        ("tasks/rows.jsonl", text),
        ("policy.yaml", POLICY),
        ("prices.yaml", PRICES),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    some_right = Answering(
        lambda r: say(f"it is no less than {min(int(r.example_id[1:]), 16) + 1}")
    )
    evalkit.evaluate("sums", some_right).write(tmp_path / "runs" / "monday")
    return tmp_path


def test_the_tables_of_a_plan(model: str, golden: Callable[[str, str], None]) -> None:
    # a second for each reading of the clock, and three for the longest work: see bench
    clock = itertools.accumulate([0, 0, 0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 4] + [0] * 9).__next__
    tasks, policy = ("sums", "pick"), Path("policy.yaml")
    Path("model").symlink_to(model.removeprefix("local:").partition("?")[0])
    near = RunSpec(tasks=tasks, model="local:model?dtype=float32")
    here = plan(near, baseline=Path("runs/monday"), policy=policy, clock=clock)
    there = plan(
        RunSpec(tasks=tasks, model="openai:example-large"),
        policy=policy,
        prices=Path("prices.yaml"),
    )
    alone = plan(RunSpec(tasks=("sums",), model="openai:x"), baseline=Path("runs/monday"))
    console = Console(width=140)
    with console.capture() as captured:
        for found in (here, there, alone):
            for table in tables(found):
                console.print(table)
                console.print()
    text = "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    golden("plan_table.txt", text)


def test_the_plan_is_on_stdout_and_the_story_on_stderr(evalkit: Run, model: str) -> None:
    result = evalkit("plan", "pick", "-m", model, "--policy", "policy.yaml")
    assert result.code == 0
    first, *_ = result.out.splitlines()
    assert first.split()[:3] == ["Task", "Examples", "Requests"]
    assert "pick: accuracy, part: 0: cannot see a drop of 0.4 with 12 examples" not in result.err
    assert result.err.splitlines() == [
        "loading tasks",
        "loading the model",
        "counting tokens",
        "measuring the model's speed",
        "warning: task sums is checked by the policy, and not in this run",
    ]


def test_an_underpowered_check_is_a_warning_and_no_failure(evalkit: Run) -> None:
    result = evalkit("plan", "sums", "-m", "openai:x", "--policy", "policy.yaml")
    assert result.code == 0
    assert "warning: task sums: exact_match: cannot see a drop of 0.05 with 24 ex" in result.err
    assert "warning: task sums: bleu: nothing is known of its spread" in result.err
    assert "too few" in result.out


def test_json_has_the_numbers(evalkit: Run) -> None:
    words = ("plan", "sums", "pick", "-m", "openai:example-large", "--limit", 20, "--json")
    options = ("--policy", "policy.yaml", "--baseline", "runs/monday", "--prices", "prices.yaml")
    result = evalkit(*words, *options)
    found = json.loads(result.out)
    assert result.code == 0
    sums, pick = found["tasks"]
    assert (sums["n_examples"], sums["n_requests"], sums["tokens"]["n_new"]) == (20, 20, 160)
    assert (pick["tokens"]["n_distinct"], pick["seconds"]) == (None, None)
    assert found["total"]["tokens"]["is_estimate"] is True
    assert found["price"]["output_usd_per_million"] == 20
    sent = sums["tokens"]["n_prompt"]
    assert sums["usd"]["high"] == pytest.approx((sent * 5 + 160 * 20) / 1e6)
    first, second, third = found["sensitivities"]
    assert first["question"] | {"alpha": None} == {
        "task": "sums",
        "metric": "exact_match",
        "slice": None,
        "margin": 0.05,
        "alpha": None,
        "power": 0.8,
    }
    assert (first["basis"], first["n"], first["is_blind"]) == ("baseline", 20, True)
    assert (second["question"]["metric"], second["basis"]) == ("bleu", "baseline")
    assert (third["question"]["slice"], third["basis"]) == (["part", "0"], "discordance")
    assert third["detectable_low"] is None  # not a number
    assert "task pick: the baseline does not have it: nothing to compare with" in found["warnings"]


def test_what_a_run_takes_a_plan_takes(evalkit: Run) -> None:
    Path("mine.jsonl").write_text('{"q": "12345678", "a": "1"}\n' * 3, encoding="utf-8")
    words = ("plan", "sums", "-m", "openai:x", "--json", "--offline", "--seed", 5)
    options = ("--repeats", 2, "--set", "generate.max_tokens=3", "--set", "generate.temperature=1")
    rows = ("--dataset", "sums=mine.jsonl", "--num-fewshot", 0)
    [task] = json.loads(evalkit(*words, *options, *rows).out)["tasks"]
    assert (task["n_requests"], task["tokens"]["n_prompt"], task["tokens"]["n_new"]) == (6, 12, 18)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sums", "-m", "opneai:x"], "did you mean 'openai'"),
        (["summs", "-m", "openai:x"], "did you mean 'sums'"),
        (["sums", "-m", "openai:x", "--policy", "gone.yaml"], "gone.yaml: cannot be read"),
        (["sums", "-m", "openai:x", "--baseline", "gone"], "gone: no such run or baseline file"),
        (["sums", "-m", "openai:x", "--prices", "gone.yaml"], "gone.yaml: cannot be read"),
        (["sums", "-m", "openai:x", "--prices", "prices.yaml"], "no such model in prices.yaml"),
        (["sums", "-m", "openai:x", "--set", "generate"], "--set 'generate': expected KEY=VALUE"),
        (["sums", "-m", "openai:x", "--limit", "0"], "--limit 0: must be 1 or more"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(evalkit: Run, words: list[str], message: str) -> None:
    result = evalkit("plan", *words)
    assert (result.code, result.out) == (2, "")
    line = next(line for line in result.err.splitlines() if line != "loading tasks")
    assert line.startswith("evalkit: ")
    assert message in line


def test_a_price_for_a_local_model_is_refused_before_it_is_loaded(evalkit: Run, model: str) -> None:
    result = evalkit("plan", "sums", "-m", model, "--prices", "prices.yaml")
    assert result.code == 2
    assert result.err.startswith("evalkit: --prices: model 'local:")


def test_hostile_names_do_not_reach_the_terminal(evalkit: Run) -> None:
    prices = PRICES.replace("'made up'", '"made\\e[31m up\\u202e"')
    Path("prices.yaml").write_text(prices, encoding="utf-8")
    words = ("plan", "sums", "-m", "openai:example-large", "--prices", "prices.yaml")
    result = evalkit(*words)
    assert result.code == 0
    assert not set("\x1b\u202e") & set(result.out + result.err)
