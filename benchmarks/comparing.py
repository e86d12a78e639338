"""The time and the memory of comparing two runs.

    python benchmarks/comparing.py [--examples 1000 10000 100000] [--repeats N]

The runs are made here from a seed: one task, a prompt of 400 characters, one answer an example,
and the metrics exact_match (right or wrong), token_f1 (graded) and bleu (by its statistics). A
comparison is a process of its own, ``evalkit compare`` as one types it. Its times, elapsed and of
the processor (which other work on the machine changes less), are medians of ``--repeats``; its
memory is the most that was ever resident, Python and libraries included. The last columns are the
baseline file of the first run with exact_match alone, and the times to compare it with the second.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from processes import describe_machine

from evalkit.compare import baseline_text, open_side
from evalkit.metrics import build_metric
from evalkit.record import ExampleRow, MetricResult, RunRecord, TaskResult
from evalkit.types import Estimate, IntervalKind, ModelInfo

METRICS: dict[str, IntervalKind] = {
    "exact_match": "proportion",
    "token_f1": "mean",
    "bleu": "bootstrap",
}
PEAK = """
import sys, time
sys.path.insert(0, {here!r})
from processes import peak_bytes
from evalkit.cli import main
sys.argv = {words!r}
try:
    main()
finally:
    print(time.process_time(), peak_bytes(), file=sys.stderr)
"""


def main() -> None:
    arguments = parse()
    print(describe_machine(), flush=True)
    print(
        "\nSeconds are elapsed / processor.\n\n"
        "| examples | exact_match, s | MiB | with token_f1 and bleu, s | MiB "
        "| baseline file, kB | from it, s |\n|---:|---:|---:|---:|---:|---:|---:|"
    )
    for n in arguments.examples:
        with tempfile.TemporaryDirectory(prefix="evalkit-bench-") as folder:
            print(measure(Path(folder), n, repeats=arguments.repeats), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--examples", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def measure(folder: Path, n: int, *, repeats: int) -> str:
    """A row of the table."""
    a, _ = (make_run(folder / name, n, seed=seed) for seed, name in enumerate("ab"))
    task = a.tasks["bench"]
    small = replace(task, metrics={"exact_match": task.metrics["exact_match"]})
    file = folder / "baseline.json"
    file.write_text(baseline_text(open_side(replace(a, tasks={"bench": small}))), "utf-8")
    one = ["--metric", "exact_match"]
    cells = [f"{n:,}"]
    for words in ([folder / "a", folder / "b", *one], [folder / "a", folder / "b"]):
        seconds, peak = timed(words, repeats=repeats)
        cells += [seconds, f"{peak / 2**20:.0f}"]
    seconds, _ = timed([file, folder / "b", *one], repeats=repeats)
    cells += [f"{file.stat().st_size / 1000:.0f}", seconds]
    return "| " + " | ".join(cells) + " |"


def timed(words: Sequence[Path | str], *, repeats: int) -> tuple[str, int]:
    """Median seconds, elapsed and of the processor, and the largest memory of a comparison."""
    line = ["evalkit", "compare", *map(str, words), "--json"]
    code = PEAK.format(here=str(Path(__file__).parent), words=line)
    elapsed, processor, peaks = [], [], []
    for _ in range(repeats):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        elapsed.append(time.perf_counter() - started)
        if done.returncode != 0:
            sys.exit(done.stderr)
        assert json.loads(done.stdout)["candidates"]
        *_, spent, peak = done.stderr.split()
        processor.append(float(spent))
        peaks.append(int(peak))
    return f"{median(elapsed):.2f} / {median(processor):.2f}", max(peaks)


def make_run(folder: Path, n: int, *, seed: int) -> RunRecord:
    """A written run of ``n`` examples."""
    rng = np.random.default_rng(seed)
    right, overlap = rng.random(n) < 0.5 + 0.02 * seed, rng.random(n)
    rows = [
        ExampleRow(
            task="bench",
            example_id=str(i),
            example_sha256=hashlib.sha256(str(i).encode()).hexdigest(),
            repeat=0,
            status="ok",
            prompt=f"{i}: {'What is the answer? ' * 20}",
            scores={"exact_match": float(right[i]), "token_f1": float(overlap[i])},
            stats={"bleu": (9.0, 10.0, 5.0 + right[i], 3.0, 2.0, 1.0, 9.0, 8.0, 7.0, 6.0)},
        )
        for i in range(n)
    ]
    spec = {"task": "bench", "version": 1, "prompt": "x", "target": "y", "request": "generate"}
    task = TaskResult(
        version=1,
        description="",
        spec=spec | {"metrics": [{"metric": name} for name in METRICS]},
        spec_sha256="",
        dataset={},
        dataset_sha256="",
        n_examples=n,
        num_fewshot=0,
        repeats=1,
        metrics={name: metric_result(name, n) for name in METRICS},
        slices={},
    )
    model = ModelInfo(spec=f"bench:{seed}", fingerprint="")
    record = RunRecord(
        id=folder.name,
        status="complete",
        evalkit="",
        created="",
        seed=0,
        command="",
        model=model,
        tasks={"bench": task},
        rows=rows,
    )
    return record.write(folder)


def metric_result(name: str, n: int) -> MetricResult:
    """A metric of which the comparison reads what it is, not what it gave."""
    nothing = dict.fromkeys(("value", "stderr", "low", "high", "worst", "best"), math.nan)
    estimate = Estimate(**nothing, method="", n_total=n, n_scored=n, n_error=0, n_abstained=0)
    is_sum = METRICS[name] == "bootstrap"
    return MetricResult(
        estimate=estimate,
        higher_is_better=True,
        signature=build_metric(name, {}).signature,
        interval=METRICS[name],
        missing=(math.nan, math.nan) if is_sum else (0.0, 1.0),
    )


if __name__ == "__main__":
    main()
