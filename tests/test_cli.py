"""The command line: what it prints where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Run
from tiny_model import write_tiny_model

from evalkit.record import RunRecord

TASK = (
    "task: sky\nversion: 1\ndescription: The sky.\ndataset: {path: sky.jsonl}\n"
    "prompt: 'The sky is'\nchoices: '{{ choices }}'\ntarget: '{{ answer }}'\n"
    "request: choice\nmetrics: [accuracy]\n"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that loads in no time."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with one task; the current folder."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "sky.yaml").write_text(TASK, encoding="utf-8")
    rows = [{"id": str(i), "choices": ["blue", f"red{i}"], "answer": i % 2} for i in range(6)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "tasks" / "sky.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_prints_the_table_and_where_record_and_report_lie(
    evalkit: Run, tiny_model: Path, project: Path
) -> None:
    result = evalkit("run", "sky", "--model", f"local:{tiny_model}")
    assert result.code == 0
    assert "accuracy" in result.out
    assert "95 % interval" in result.out
    [folder] = (project / "runs").iterdir()
    assert sorted(p.name for p in folder.iterdir()) == [
        "examples.parquet",
        "report.html",
        "run.json",
    ]
    assert f"report: runs/{folder.name}/report.html" in result.err


def test_json_is_the_only_thing_on_stdout(evalkit: Run, tiny_model: Path) -> None:
    result = evalkit("run", "sky", "--model", f"local:{tiny_model}", "--json", "--limit", 4)
    found = json.loads(result.out)
    assert found["tasks"]["sky"]["metrics"]["accuracy"]["n_total"] == 4


def test_a_run_with_errors_never_exits_0(evalkit: Run, tiny_model: Path, project: Path) -> None:
    row = {"id": "long", "choices": ["blue", "x" * 2000], "answer": 0}
    with (project / "tasks" / "sky.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    result = evalkit("run", "sky", "--model", f"local:{tiny_model}")
    assert result.code == 5
    assert "1 of 7 requests failed; first: sky, example long: " in result.err
    [folder] = (project / "runs").iterdir()
    found = RunRecord.load(folder).tasks["sky"].metrics["accuracy"].estimate
    assert (found.n_total, found.n_error) == (7, 1)


MODEL = "local:smollm2-135m"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "skyy"], "no such task: 'skyy'; did you mean 'sky'?"),
        (["run", "sky", "--limit", "-3"], "--limit -3: must be 1 or more"),
        (["run", "sky", "--model", "smollm2-135m"], "did you mean 'local:smollm2-135m'?"),
        (["run", "sky", "--model", "local:smollm2-135"], "did you mean 'smollm2-135m'?"),
        (["run", "sky", "--model", "local:broken.gguf"], "broken.gguf"),
        (["run", "sky", "--model", "local:cut.gguf"], "cut.gguf"),
        (["run", "sky", "--model", f"{MODEL}?dtyp=float32"], "did you mean 'dtype'?"),
        (["run", "sky", "--model", f"{MODEL}?dtype=int3"], "give one of auto, float32, bfloat16"),
        (["run", "sky", "--set", "generate.max_tokens"], "expected KEY=VALUE"),
        (["run", "sky", "--out", "tasks/sky.yaml"], "tasks/sky.yaml: cannot write runs here"),
        (["run", "sky", "--dataset", "sky=gone.jsonl"], "gone.jsonl: no such file"),
        (["run", "sky", "--dataset", "sky=bad.jsonl"], "bad.jsonl:2: not valid JSON"),
        (["run", "sky", "--dataset", "sky=none.jsonl"], "the dataset is empty"),
        (["run", "sky", "--dataset", "sky=label.jsonl"], "7 is none of the 2 choices"),
        (["run", "sky", "--dataset", "sky=column.jsonl"], "there is no field 'choices'"),
        (["run", "typo.yaml"], "typo.yaml:4: unknown key 'promt'; did you mean 'prompt'?"),
        (["run", "metric.yaml"], "metric.yaml:9: no such metric: 'acuracy'; did you mean"),
        (["report", "tasks"], "no run record here"),
        (["show", "sky", "--n", "-1"], "--n -1: must be 0 or more"),
        (["models", "path", "smollm3"], "did you mean 'smollm2-135m'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    evalkit: Run, project: Path, words: list[str], message: str
) -> None:
    for name, text in {
        "broken.gguf": "not a model",
        "cut.gguf": "GGUF\x03\x00\x00\x00",
        "bad.jsonl": '{"choices": ["a", "b"], "answer": 0}\n{"choices"\n',
        "none.jsonl": "",
        "label.jsonl": '{"choices": ["a", "b"], "answer": 7}\n',
        "column.jsonl": '{"chioces": ["a", "b"], "answer": 0}\n',
        "typo.yaml": TASK.replace("task: sky\n", "task: typo\n")
        .replace("description: The sky.\ndataset", "dataset")
        .replace("prompt:", "promt:"),
        "metric.yaml": TASK.replace("task: sky", "task: metric")
        .replace("{path: ", "{path: tasks/")
        .replace("[accu", "[acu"),
    }.items():
        (project / name).write_text(text, encoding="utf-8")
    result = evalkit(*words)
    last = result.err.strip().split("\n")[-1]
    assert (result.code, result.out) == (2, "")
    assert last.startswith("evalkit: ")
    assert message in last
    assert "Traceback" not in result.err
    assert not list(project.glob("runs/*"))


def test_a_truncated_copy_of_the_bundled_model_is_one_line(
    evalkit: Run, project: Path, smollm2_path: Path
) -> None:
    with smollm2_path.open("rb") as whole, (project / "part.gguf").open("wb") as part:
        part.write(whole.read(5_000_000))
    result = evalkit("run", "sky", "--model", "local:part.gguf")
    assert result.code == 2
    assert "part.gguf" in result.err.strip().split("\n")[-1]


def test_show_prints_the_exact_prompt_and_its_tokens(evalkit: Run, tiny_model: Path) -> None:
    result = evalkit("show", "sky", "--n", "1", "--model", f"local:{tiny_model}")
    assert result.code == 0
    # one token a byte: len("The sky is") == 10
    assert "example 0, 10 tokens\nThe sky is\n" in result.out
    assert "✓ scored ' blue'" in result.out


def test_the_lists_name_what_there_is(evalkit: Run) -> None:
    tasks = {t["name"]: t for t in json.loads(evalkit("list", "--json").out)}
    assert tasks["sky"]["description"] == "The sky."
    assert tasks["mmlu"]["kind"] == "group of 57"
    assert "exact_match" in evalkit("list", "metrics").out
    assert "local:smollm2-135m" in evalkit("list", "models").out
    assert "summary_quality" in evalkit("list", "rubrics").out


def test_the_schema_of_a_task_accepts_a_task(evalkit: Run) -> None:
    schema = json.loads(evalkit("schema", "task").out)
    assert {"task", "version", "dataset", "request"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


def test_a_report_is_rendered_again_from_the_record(
    evalkit: Run, tiny_model: Path, project: Path
) -> None:
    evalkit("run", "sky", "--model", f"local:{tiny_model}")
    [folder] = (project / "runs").iterdir()
    assert evalkit("report", folder, "-o", "page.html").out == "page.html\n"
    assert (project / "page.html").read_bytes() == (folder / "report.html").read_bytes()
    assert "| accuracy" in evalkit("report", folder, "--format", "md").out
    assert json.loads(evalkit("report", folder, "--format", "json").out)["tasks"]["sky"]


def test_two_runs_of_the_same_thing_differ_in_time_and_id_alone(
    evalkit: Run, tiny_model: Path, project: Path
) -> None:
    for _ in range(2):
        assert evalkit("run", "sky", "--model", f"local:{tiny_model}").code == 0
    one, other = sorted((project / "runs").iterdir())
    records = [json.loads((f / "run.json").read_text()) for f in (one, other)]
    for record in records:
        for name in ("id", "created", "timing"):
            del record[name]
    assert records[0] == records[1]
    rows = [(f / "examples.parquet").read_bytes() for f in (one, other)]
    assert rows[0] == rows[1]


def test_the_version_and_the_help_are_there(evalkit: Run) -> None:
    assert evalkit("--version").out.startswith("evalkit 0.")
    listed = evalkit("--help").out
    assert all(verb in listed for verb in ("run", "report", "list", "show", "schema", "models"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_a_partial_record_that_says_so(project: Path, tiny_model: Path) -> None:
    rows = [{"id": str(i), "q": f"{i}" * 20, "a": "x"} for i in range(3000)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (project / "tasks" / "sky.jsonl").write_text(text, encoding="utf-8")
    (project / "tasks" / "sky.yaml").write_text(
        "task: sky\nversion: 1\ndataset: {path: sky.jsonl}\nprompt: '{{ q }}'\ntarget: '{{ a }}'\n"
        "request: generate\ngenerate: {max_tokens: 64}\nmetrics: [exact_match]\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "evalkit", "run", "sky", "--model", f"local:{tiny_model}"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "/3000 requests" in line and not line.startswith("0/"):
                break
            if line.startswith("0/3000"):
                break
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        rest = process.stderr.read()
    assert process.returncode == 5
    assert "the run is interrupted" in rest
    [folder] = (project / "runs").iterdir()
    record = RunRecord.load(folder)
    found = record.tasks["sky"].metrics["exact_match"].estimate
    assert record.status == "interrupted"
    assert found.n_total == 3000
    assert found.n_error > 0
