"""evalkit's side of choices.py and of memory.py: a run, as ``evalkit run`` does it."""

from __future__ import annotations

from processes import Json, Stopwatch, side_main


def work(job: Json) -> Json:
    """Load the model, then time a whole run: reading the task, asking, scoring, the record."""
    loading = Stopwatch()
    import evalkit
    import evalkit.runner  # what a run imports: the peer's imports are not timed either
    from evalkit.backends import open_backend

    backend = open_backend(job["model"], settings=job["settings"], offline=True)
    loaded = loading.read("load")
    running = Stopwatch()
    record = evalkit.evaluate(job["task"], backend)
    ran = running.read("run")
    rows = record.read_rows()
    if record.usage["n_errors"]:
        raise SystemExit(next(row.error_message for row in rows if row.error_message))
    return {
        **loaded,
        **ran,
        "prompts": [row.prompt for row in rows],
        "continuations": [[f" {choice}" for choice in row.choices] for row in rows],
        "logprobs": [list(row.choice_logprobs) for row in rows],
        "dtype": record.model.dtype,
        "version": f"evalkit {evalkit.__version__}",
    }


if __name__ == "__main__":
    side_main(work)
