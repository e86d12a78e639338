"""A plan's requests, tokens, time and cost, held to the run itself and to counts by hand."""

from __future__ import annotations

import doctest
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, say
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import LENGTH, write_tiny_model

import evalkit
from evalkit.backends import open_local_model
from evalkit.backends.local import Local
from evalkit.errors import EvalkitError, NotFoundError, SpecError, UsageError
from evalkit.plan import RunPlan, TaskPlan, plan, read_price
from evalkit.plan.tokens import count
from evalkit.prepare import RunSpec
from evalkit.types import Chat, Message, Prompt, Request, Sampling

DOCS = Path(__file__).parent.parent / "docs"
HEAD = "version: 1\ndataset: {path: rows.jsonl}\n"
TASKS = {
    "sums": "prompt: '{{ q }}'\ntarget: '{{ a }}'\nrequest: generate\nnum_fewshot: 2\n"
    "generate: {max_tokens: 5}\nmetrics: [exact_match]\n",
    "pick": "prompt: '{{ q }} '\nchoices: ['{{ a }}', no, 'no way']\ntarget: '0'\n"
    "request: choice\nmetrics: [accuracy]\n",
    "label": "prompt: '{{ q }}'\nchoices: [yes, no]\ntarget: '0'\ntarget_delimiter: ''\n"
    "request: classify\nmetrics: [accuracy]\n",
    "alike": "prompt: '{{ q }}'\nchoices: [up, under]\ntarget: '0'\n"
    "request: classify\nmetrics: [accuracy]\n",
    "likely": "prompt: '{{ q }}'\ntarget: '{{ a }}'\nrequest: loglikelihood\n"
    "metrics: [greedy_match]\n",
    "text": "prompt: '{{ q }} {{ a }}'\nrequest: rolling\nmetrics: [perplexity]\n",
}
ROWS = [
    {"id": f"r{i}", "q": f"How many is {i} and {i % 3}?", "a": str(i + i % 3)} for i in range(9)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_tiny_model(tmp_path_factory.mktemp("plan") / "model")
    return f"local:{folder}?dtype=float32"


@pytest.fixture(scope="module")
def backend(model: str) -> Local:
    return open_local_model(model)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task of each kind over the same rows; the current one."""
    (tmp_path / "tasks").mkdir()
    for name, body in TASKS.items():
        text = f"task: {name}\n{HEAD}{body}"
        (tmp_path / "tasks" / f"{name}.yaml").write_text(text, encoding="utf-8")
    write_rows(tmp_path, ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_rows(project: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (project / "tasks" / "rows.jsonl").write_text(text, encoding="utf-8")


def planned(model: str, *tasks: str, **options: Any) -> RunPlan:
    """A plan; without a ``clock`` every reading of the time is a second after the last."""
    clock = options.pop("clock", itertools.count().__next__)
    prices = options.pop("prices", None)
    return plan(RunSpec(tasks=tasks, model=model, **options), prices=prices, clock=clock)


def steps(*seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much at each reading, and by nothing afterwards."""
    return itertools.accumulate(itertools.chain(seconds, itertools.repeat(0.0))).__next__


# The readings of a plan's clock: its own, three for each of two ceilings, two for each work.
CEILINGS = (0, 0, 1, 0, 0, 1)


def stepping(*, prefill_s: float, first_s: float = 0, all_s: float = 0) -> Callable[[], float]:
    return steps(0, *CEILINGS, 0, prefill_s, 0, first_s, 0, all_s)


def prefixes(texts: list[bytes]) -> set[bytes]:
    return {text[:n] for text in texts for n in range(1, len(text) + 1)}


def prompts(task: str, **options: Any) -> list[str]:
    """What a run of the task asks, read from the record of one."""
    return [str(p) for p in evalkit.evaluate(task, **options).to_frame()["prompt"]]


def test_generated_texts_share_what_their_prompts_begin_with_alike(model: str) -> None:
    [task] = planned(model, "sums").tasks
    asked = [prompt.encode() for prompt in prompts("sums", model=model)]  # a token is a byte
    assert (task.n_rows, task.n_examples, task.n_requests) == (9, 9, 9)
    assert task.tokens.n_prompt == sum(map(len, asked))
    # the last token of a prompt is computed with the first of its text
    assert task.tokens.n_distinct == len(prefixes([text[:-1] for text in asked])) + 9
    assert (task.tokens.n_texts, task.tokens.n_new) == (9, 45)


@pytest.mark.parametrize(
    ("task", "endings"),
    [
        ("pick", lambda row: [f" {row['a']}", " no", " no way"]),
        ("likely", lambda row: [f" {row['a']}"]),
    ],
)
def test_scored_texts_share_their_prompt(
    model: str, task: str, endings: Callable[[dict[str, Any]], list[str]]
) -> None:
    [found] = planned(model, task).tasks
    space = " " if task == "pick" else ""  # of the prompt: it goes to the text that is scored
    texts = [(row["q"] + space + end).encode() for row in ROWS for end in endings(row)]
    inputs = [text[:-1] for text in texts]
    assert found.tokens.n_prompt == sum(map(len, inputs))
    assert found.tokens.n_distinct == len(prefixes(inputs))
    scored = [len((space + end).encode()) for row in ROWS for end in endings(row)]
    assert found.tokens.n_scored == sum(scored)
    assert found.tokens.n_new == 0


def test_a_label_is_one_token_after_one_prompt(model: str) -> None:
    [found] = planned(model, "label").tasks
    questions = [row["q"].encode() for row in ROWS]
    assert found.tokens.n_prompt == 2 * sum(map(len, questions))
    assert found.tokens.n_distinct == len(prefixes(questions))
    assert found.tokens.n_scored == 18


def test_a_rolling_text_is_scored_from_its_first_token(model: str) -> None:
    [found] = planned(model, "text").tasks
    texts = [f"{row['q']} {row['a']}".encode() for row in ROWS]
    assert found.tokens.n_scored == found.tokens.n_prompt == sum(map(len, texts))
    # all begin with the token that begins a text, and none computes its last
    assert found.tokens.n_distinct == len(prefixes([b"\0" + text[:-1] for text in texts]))


def test_the_run_takes_what_was_planned(model: str, project: Path) -> None:
    write_rows(project, [*ROWS, {"id": "long", "q": "x" * LENGTH, "a": "no sum"}])
    for name in TASKS:
        [task] = planned(model, name, repeats=2).tasks
        record = evalkit.evaluate(name, model, repeats=2)
        assert task.n_requests == record.usage["n_requests"]
        assert task.tokens.n_refused == record.usage["n_errors"]
        rows = [row for row in record.read_rows() if row.status != "error"]
        assert sum(row.n_completion_tokens for row in rows) <= task.tokens.n_new
        if name == "sums":
            assert sum(row.n_prompt_tokens for row in rows) == task.tokens.n_prompt
    assert planned(model, "alike").tasks[0].tokens.n_refused == 10  # labels begin alike
    assert planned(model, "pick").warnings == (
        "task pick: 1 of 10 requests will get no answer: they do not fit the model, or cannot be "
        "encoded",
    )


def test_repeats_cost_prompts_but_share_them(model: str) -> None:
    once, thrice = (planned(model, "sums", repeats=n).tasks[0].tokens for n in (1, 3))
    assert thrice.n_prompt == 3 * once.n_prompt
    assert once.n_distinct is not None
    assert thrice.n_distinct == once.n_distinct + 2 * 9
    assert thrice.n_new == 3 * once.n_new


def test_chosen_examples_are_those_of_the_run(model: str) -> None:
    [task] = planned(model, "pick", limit=4, seed=3).tasks
    assert (task.n_rows, task.n_examples, task.n_requests) == (9, 4, 4)
    run = evalkit.evaluate("pick", model, limit=4, seed=3)
    questions = [prompt.rstrip() for prompt in run.to_frame()["prompt"]]
    lengths = {row["q"]: len(row["q"]) + len(row["a"]) for row in ROWS}
    # after each question and its space " <a>", " no" and " no way", each without its last byte
    expected = sum(lengths[q] + 1 + 2 * len(q) + 3 + 7 for q in questions)
    assert task.tokens.n_prompt == expected


def test_equal_requests_are_counted(model: str, project: Path) -> None:
    write_rows(project, [{"id": f"{i}", "q": f"{i % 4}?", "a": "1"} for i in range(10)])
    greedy = {"num_fewshot": 0}
    [task] = planned(model, "sums", **greedy).tasks
    assert task.n_duplicates == 6
    # drawn texts have seeds of their own, and a repeat is asked in order to be answered again
    drawn = planned(model, "sums", settings={"generate.temperature": "0.7"}, **greedy)
    assert drawn.tasks[0].n_duplicates == 0
    assert planned(model, "sums", repeats=2, **greedy).tasks[0].n_duplicates == 12


def test_time_is_tokens_over_measured_rates(model: str) -> None:
    clock = stepping(prefill_s=2, first_s=1, all_s=3)
    found = planned(model, "sums", "label", clock=clock)
    assert found.rates is not None
    # 256 tokens of one prompt in 2 s; 9 texts of 4 more tokens each in 3 s - 1 s
    assert found.rates.prefill_tokens_per_s == 256 / 2
    assert found.rates.decode_tokens_per_s == 9 * 4 / 2
    assert (found.rates.n_at_a_time, found.rates.probe_s) == (9, sum(CEILINGS) + 2 + 1 + 3)
    sums, label = found.tasks
    assert sums.tokens.n_distinct is not None
    assert label.tokens.n_distinct is not None
    prompt_s, label_s = sums.tokens.n_distinct / 128, label.tokens.n_distinct / 128
    assert sums.seconds is not None
    assert (sums.seconds.low, sums.seconds.high) == (prompt_s + 9 / 18, prompt_s + 45 / 18)
    assert label.seconds is not None
    assert label.seconds.low == label.seconds.high == label_s
    assert found.total.seconds is not None
    assert found.total.seconds.high == pytest.approx(sums.seconds.high + label_s)
    assert found.total.usd is None


def test_where_nothing_is_generated_decoding_is_not_measured(model: str) -> None:
    found = planned(model, "pick", clock=stepping(prefill_s=4))
    assert found.rates is not None
    assert found.rates.probe_s == sum(CEILINGS) + 4
    assert math.isnan(found.rates.decode_tokens_per_s)
    assert found.tasks[0].seconds is not None
    assert found.tasks[0].seconds.high == found.tasks[0].tokens.n_distinct / 64  # type: ignore[operator]


def test_a_time_that_could_not_be_measured_is_nan(model: str) -> None:
    found = planned(model, "sums", clock=stepping(prefill_s=1, first_s=1, all_s=1))
    assert found.total.seconds is not None
    assert math.isnan(found.total.seconds.high)


PRICES = (
    "models:\n  example-small: {input_usd_per_million: 0.5, output_usd_per_million: 2, "
    "date: 2026-01-31, source: x}\n"
)


def test_a_cost_is_tokens_times_price(project: Path) -> None:
    file = project / "prices.yaml"
    file.write_text(PRICES, encoding="utf-8")
    for spec in ("openai:example-small", "http://localhost:8000/v1#example-small"):
        found = planned(spec, "sums", "pick", num_fewshot=0, prices=file)
        sums, pick = found.tasks
        # a token for every 4 characters begun; a choice is sent with its prompt
        sent = [math.ceil(len(row["q"]) / 4) for row in ROWS]
        assert sums.tokens.n_prompt == sum(sent)
        endings = [[len(row["a"]) + 1, 3, 7] for row in ROWS]
        asked = [math.ceil((len(row["q"]) + 1) / 4) for row in ROWS]
        texts = sum(math.ceil(n / 4) for ends in endings for n in ends)
        assert pick.tokens.n_prompt == 3 * sum(asked) + texts
        assert (pick.tokens.n_distinct, pick.tokens.n_scored) == (None, None)
        assert pick.tokens.is_estimate
        assert sums.usd is not None
        assert sums.usd.low == pytest.approx((sum(sent) * 0.5 + 9 * 2) / 1e6)
        assert sums.usd.high == pytest.approx((sum(sent) * 0.5 + 45 * 2) / 1e6)
        assert (found.rates, sums.seconds) == (None, None)
    assert planned("openai:other", "sums").total.usd is None


def test_a_chat_is_estimated_by_all_its_turns() -> None:
    turns = tuple(
        Message(role=role, content="12345") for role in ("system", "user", "assistant", "user")
    )
    request = Request(
        task="t",
        example_id="1",
        kind="generate",
        prompts=(Chat(messages=turns, prefill="6789"),),
        sampling=Sampling(max_tokens=7),
    )
    found = count([request], None)
    assert (found.n_prompt, found.n_new) == (6, 7)  # 24 characters


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("models: {}", NotFoundError, "example-small"),
        (PRICES.replace("small", "smal"), NotFoundError, "did you mean 'example-smal'?"),
        (PRICES.replace("0.5", "-1"), SpecError, "prices.yaml:2: .*greater than or equal to 0"),
        (PRICES.replace("0.5", ".inf"), SpecError, "prices.yaml:2"),
        (PRICES.replace("2026-01-31", "yesterday"), SpecError, "prices.yaml:2: .*date"),
        (PRICES.replace(", source: x", ""), SpecError, "source' is missing"),
        (PRICES.replace("date", "sauce: 1, date"), SpecError, "unknown key 'sauce'"),
        ("3", SpecError, "expected keys and values"),
    ],
)
def test_a_wrong_price_is_one_line(
    project: Path, text: str, error: type[EvalkitError], message: str
) -> None:
    file = project / "prices.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message) as raised:
        planned("openai:example-small", "sums", prices=file)
    assert len(str(raised.value).splitlines()) == 1


def test_the_example_of_a_file_of_prices_can_be_read() -> None:
    price = read_price(DOCS / "prices.example.yaml", "example-small")
    assert "made up" in price.source
    assert price.usd(n_input=10**6, n_output=0) == price.input_usd_per_million


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("opneai:x", {}, "unknown scheme 'opneai:'.*did you mean 'openai'"),
        ("smollm2-135m", {}, "has no scheme.*did you mean 'local:smollm2-135m'"),
        ("openai:", {}, "names nothing after 'openai:'"),
        ("http://localhost/v1", {}, "write http://localhost/v1#NAME"),
        ("openai:x?top=1", {}, "settings of an endpoint do not change its plan.*top"),
        ("openai:x", {"settings": {"dtype": "float32"}}, "leave out dtype"),
        ("openai:x", {"limit": 0}, "--limit 0: must be 1 or more"),
        ("openai:x", {"tasks": ()}, "no task named"),
        ("openai:x", {"tasks": ("summs",)}, "did you mean 'sums'"),
        ("openai:x", {"datasets": {"sumz": Path("x")}}, "did you mean 'sums'"),
        ("openai:x", {"settings": {"generate.max_tokens": "0"}}, "greater than or equal to 1"),
        ("local:gone", {}, "no such model"),
    ],
)
def test_what_a_run_would_refuse_is_refused(
    model: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvalkitError, match=message):
        plan(RunSpec(**({"tasks": ("sums",), "model": model} | options)))


def test_prices_are_not_for_a_model_that_runs_here(model: str, project: Path) -> None:
    (project / "prices.yaml").write_text(PRICES, encoding="utf-8")
    with pytest.raises(UsageError, match="runs here, and costs no tokens"):
        planned(model, "sums", prices=project / "prices.yaml")


def test_other_rows_can_be_planned(project: Path) -> None:
    (project / "mine.jsonl").write_text('{"q": "1234", "a": "1"}\n', encoding="utf-8")
    [task] = planned("openai:x", "sums", num_fewshot=0, datasets={"sums": Path("mine.jsonl")}).tasks
    assert (task.n_examples, task.tokens.n_prompt) == (1, 1)


def requests(texts: list[str]) -> Iterator[Request]:
    for index, text in enumerate(texts):
        yield Request(
            task="t",
            example_id=str(index),
            kind=("generate", "loglikelihood", "rolling")[index % 3],
            prompts=(text,),
            continuations=("ab",) if index % 3 == 1 else (),
            sampling=Sampling(max_tokens=3),
        )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.text("ab", min_size=1, max_size=6), max_size=9))
def test_sharing_saves_tokens_and_the_order_does_not_matter(
    backend: Local, texts: list[str]
) -> None:
    asked = list(requests(texts))
    found = count(asked, backend)
    assert found == count(asked[::-1], backend)
    assert found.n_distinct is not None
    assert found.n_distinct <= found.n_prompt
    more = count([*asked, *asked], backend)
    assert more.n_prompt == 2 * found.n_prompt
    assert more.n_distinct == found.n_distinct + found.n_texts


def test_a_total_adds_up(model: str) -> None:
    found = planned(model, "sums", "pick", "text")

    def added(get: Callable[[TaskPlan], int]) -> bool:
        return get(found.total) == sum(get(task) for task in found.tasks)

    assert added(lambda task: task.n_requests)
    assert added(lambda task: task.tokens.n_prompt)
    assert added(lambda task: task.tokens.n_distinct or 0)
    assert added(lambda task: task.tokens.n_scored or 0)


class Counting(Answering):
    """A backend that knows how its model cuts prompts: a token a word."""

    def count_tokens(self, prompt: Prompt) -> int:
        return len(str(prompt).split())


def test_a_backend_that_counts_tokens_is_asked() -> None:
    asked = Request(task="t", example_id="1", kind="generate", prompts=("one two three",))
    found = count([asked], Counting(lambda request: say("")))
    assert (found.n_prompt, found.is_estimate) == (3, False)
    unknown = count([asked], Answering(lambda request: say("")))
    assert (unknown.n_prompt, unknown.is_estimate) == (4, True)  # 13 characters


def test_the_page_about_plans_runs() -> None:
    result = doctest.testfile(str(DOCS / "plan.md"), module_relative=False)
    assert result.attempted == 5
    assert result.failed == 0
