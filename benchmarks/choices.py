"""Multiple-choice questions through lm-eval's Hugging Face backend and through evalkit.

    python benchmarks/choices.py --peer-python peer/bin/python [--data FILE] [--letters] ...

The same questions, the same prompts (compared, text by text), the same weights, the same dtype, on
the same machine: one process a side and a repeat, the sides by turns, medians of the repeats. The
time of a side is that of its evaluation with the model loaded: for lm-eval the call of
``lm_eval.evaluate`` with its data set loaded too, for evalkit the whole of ``evalkit.evaluate``,
reading the rows included. Loading is shown apart.

What both answered is held against a reference: transformers in float32, one request at a time.

The peer's Python needs ``pip install 'lm-eval[hf]==0.4.13'``; it may be the one that runs this.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from peer_weights import peer_folder
from processes import Json, describe_machine, n_cores, run_side

from evalkit import models

FACTS = Path(__file__).parent.parent / "tasks" / "data" / "facts.jsonl"
LETTERS = "ABCDEFGHIJ"
TASK = "bench_choices"


def main() -> None:
    arguments = parse()
    print(describe_machine(), flush=True)
    rows = read_rows(arguments.data, letters=arguments.letters)
    n_shots, n_all = arguments.num_fewshot, arguments.num_fewshot + arguments.limit
    shots, questions = rows[:n_shots], rows[n_shots:n_all]
    model = models.resolve(arguments.model.removeprefix("local:"), offline=False)
    with tempfile.TemporaryDirectory(prefix="evalkit-bench-") as name:
        work = Path(name)
        folder = peer_folder(model, arguments.peer_weights or work / "weights")
        write_tasks(work, shots, questions)
        jobs = Jobs(
            python=arguments.peer_python,
            threads=arguments.threads,
            peer={
                "model": str(folder),
                "dtype": arguments.peer_dtype or arguments.dtype,
                "batch_size": arguments.peer_batch_size,
                "tasks": str(work / "peer"),
                "task": TASK,
            },
            evalkit={
                "model": f"local:{model}",
                "settings": {"dtype": arguments.dtype},
                "task": str(work / f"{TASK}.yaml"),
            },
        )
        peers, ours = run_by_turns(jobs, arguments.repeats)
        reference = run_reference(jobs, peers[0], limit=arguments.reference)
    report(peers, ours, reference)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--model", default="local:smollm2-135m", help="local:NAME or local:PATH")
    parser.add_argument("--data", type=Path, default=FACTS, help="JSONL: question, choices, answer")
    parser.add_argument("--limit", type=int, default=250, help="questions, after the shots")
    parser.add_argument("--num-fewshot", type=int, default=5, help="the first rows of the data")
    parser.add_argument("--letters", action="store_true", help="options in the prompt, A B C D")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--peer-dtype", choices=("float32", "bfloat16"), help="if another")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=n_cores(), help="of each side; default: all")
    parser.add_argument("--reference", type=int, default=sys.maxsize, help="questions to check")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-batch-size", type=int, default=8)
    parser.add_argument("--peer-weights", type=Path, help="keep the converted weights here")
    return parser.parse_args()


def read_rows(path: Path, *, letters: bool) -> list[Json]:
    """The rows as both sides get them: the question's text laid out, choices, answer."""
    with path.open(encoding="utf-8") as lines:
        return [_row(json.loads(line), letters=letters) for line in lines if line.strip()]


def _row(row: Json, *, letters: bool) -> Json:
    choices, text = row["choices"], f"Question: {row['question']}\n"
    if letters:
        options = zip(LETTERS, choices, strict=False)
        text += "".join(f"{letter}. {choice}\n" for letter, choice in options)
        choices = list(LETTERS[: len(choices)])
    return {"text": f"{text}Answer:", "choices": choices, "answer": row["answer"]}


def write_tasks(folder: Path, shots: Sequence[Json], questions: Sequence[Json]) -> None:
    """The same rows as a task of evalkit and as a task of lm-eval."""
    _write_rows(folder / "rows.jsonl", [{**r, "split": "shots"} for r in shots])
    with (folder / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({**r, "split": "questions"}) + "\n" for r in questions)
    dataset = {"path": "rows.jsonl", "split": "questions"}
    ours: dict[str, Any] = {
        "task": TASK,
        "version": 1,
        "dataset": dataset,
        "prompt": "{{ text }}",
        "choices": "{{ choices }}",
        "target": "{{ answer }}",
        "request": "choice",
        "metrics": ["accuracy"],
    }
    if shots:
        dataset["few_shot_split"] = "shots"
        ours |= {"few_shot": "first_n", "num_fewshot": len(shots)}
    (folder / f"{TASK}.yaml").write_text(json.dumps(ours), encoding="utf-8")  # JSON is YAML
    peer = folder / "peer"
    peer.mkdir()
    files = {"questions": str(peer / "questions.jsonl")}
    _write_rows(peer / "questions.jsonl", questions)
    theirs: dict[str, Any] = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "questions",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "num_fewshot": len(shots),
        "metric_list": [{"metric": "acc"}],
    }
    if shots:
        _write_rows(peer / "shots.jsonl", shots)
        files["shots"] = str(peer / "shots.jsonl")
        theirs |= {"fewshot_split": "shots", "fewshot_config": {"sampler": "first_n"}}
    (peer / f"{TASK}.yaml").write_text(json.dumps(theirs), encoding="utf-8")


def _write_rows(path: Path, rows: Sequence[Json]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """What each side is asked to do."""

    python: str  # the peer's
    threads: int
    peer: Json
    evalkit: Json


def run_by_turns(jobs: Jobs, repeats: int) -> tuple[list[Json], list[Json]]:
    """Both sides, ``repeats`` times; exits if they were not asked the same."""
    peers: list[Json] = []
    ours: list[Json] = []
    for _ in range(repeats):
        peers.append(run_side(jobs.python, "side_lm_eval.py", jobs.peer, threads=jobs.threads))
        ours.append(run_side(sys.executable, "side_evalkit.py", jobs.evalkit, threads=jobs.threads))
        print(f"lm-eval {peers[-1]['run_s']:.2f} s, evalkit {ours[-1]['run_s']:.2f} s", flush=True)
    for what in ("prompts", "continuations"):
        pairs = zip(peers[0][what], ours[0][what], strict=True)
        different = [at for at, (theirs, own) in enumerate(pairs) if theirs != own]
        if different:
            sys.exit(f"the sides had other {what}: questions {different[:5]} and so on")
    return peers, ours


def run_reference(jobs: Jobs, peer: Json, *, limit: int) -> Json:
    job = {
        "model": jobs.peer["model"],
        "prompts": peer["prompts"],
        "continuations": peer["continuations"],
        "limit": min(limit, len(peer["prompts"])),
    }
    return run_side(jobs.python, "side_reference.py", job, threads=jobs.threads)


def report(peers: Sequence[Json], ours: Sequence[Json], reference: Json) -> None:
    requests = sum(map(len, peers[0]["continuations"]))
    print(f"\n{peers[0]['version']}; {ours[0]['version']}; {ours[0]['dtype']}")
    print(
        f"{len(peers[0]['prompts'])} questions, {requests} requests; tokens: "
        f"{reference['naive']:,} request by request, {reference['distinct']:,} distinct "
        f"({reference['naive'] / reference['distinct']:.1f} times fewer)\n"
    )
    print(f"| median of {len(ours)} | lm-eval | evalkit |\n|---|---:|---:|")
    rows = {"loading, s": "load_s", "evaluation, s": "run_s", "processor, s": "run_cpu_s"}
    for title, key in rows.items():
        print(f"| {title} | {middle(peers, key):.2f} | {middle(ours, key):.2f} |")
    for title, key in (("times faster", "run_s"), ("times less processor", "run_cpu_s")):
        times = [peer[key] / own[key] for peer, own in zip(peers, ours, strict=True)]
        print(f"| {title} | | {median(times):.1f} ({min(times):.1f} to {max(times):.1f}) |")
    gib = [f"{middle(side, 'peak_bytes') / 2**30:.2f}" for side in (peers, ours)]
    print(f"| peak memory, GiB | {gib[0]} | {gib[1]} |")
    checks = [against(side[0]["logprobs"], reference) for side in (peers, ours)]
    if not reference["logprobs"]:
        return
    print(f"| picks as the reference | {checks[0].picks} | {checks[1].picks} |")
    print(f"| mean abs. difference, nat/token | {checks[0].mean:.1e} | {checks[1].mean:.1e} |")
    print(f"| largest, nat/token | {checks[0].largest:.1e} | {checks[1].largest:.1e} |")


def middle(sides: Sequence[Json], key: str) -> float:
    return float(median(side[key] for side in sides))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a side's answers compare with the reference's."""

    picks: str
    mean: float  # |difference of log-probabilities| over all continuations, per token
    largest: float


def against(logprobs: Sequence[Sequence[float]], reference: Json) -> Check:
    expected: list[list[float]] = reference["logprobs"]
    n = len(expected)
    same = sum(best(a) == best(b) for a, b in zip(logprobs[:n], expected, strict=True))
    per_token = [
        abs(a - b) / tokens
        for a, b, tokens in zip(
            chain.from_iterable(logprobs[:n]),
            chain.from_iterable(expected),
            chain.from_iterable(reference["n_tokens"][:n]),
            strict=True,
        )
    ]
    mean = sum(per_token) / max(1, len(per_token))
    return Check(picks=f"{same} of {n}", mean=mean, largest=max(per_token, default=0.0))


def best(logprobs: Sequence[float]) -> int:
    return max(range(len(logprobs)), key=logprobs.__getitem__)


if __name__ == "__main__":
    main()
