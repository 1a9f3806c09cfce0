"""How long help and errors take, and what lies around the trials of a search: medians over fresh interpreters.

    python tests/benchmarks/bench_startup.py

The limits are the promise on an idle machine: 0.3 s for help and usage errors, 1 s for configuration errors; 4 s until
the first trial starts, and 2 s (of 1,000 trials 3 s) from the end of the last one until the program has ended and its
pipes are closed.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from search.storage.url import default_url  # noqa: E402
from tests.benchmarks import many_trials  # noqa: E402

PROGRAM = ROOT / "run_study.py"
WHAT = ["--task", "gb1_three_vs_rest", "--model", "cnn"]
N_RUNS = 10
N_SEARCHES = 5
QUICK = ["trainer.threads=1", "trainer.max_epochs=1"]
CASES = [
    ("--help", ["--help"], 0, 0.3),
    ("unknown task", ["--task", "gb1_three_vs_ret", "--model", "cnn"], 2, 0.3),
    ("unknown model", ["--task", "gb1_three_vs_rest", "--model", "cn"], 2, 0.3),
    ("unknown flag", [*WHAT, "--n-trails", "3"], 2, 0.3),
    ("model.kernel_size=abc", [*WHAT, "model.kernel_size=abc"], 2, 1.0),
    ("sampler=rnadom", [*WHAT, "sampler=rnadom"], 2, 1.0),
    ("space.model.dropout.high=1.5", [*WHAT, "space.model.dropout.high=1.5"], 2, 1.0),
]


def seconds(words: list[str], status: int) -> float:
    """Wall-clock time of one start."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True)
    assert done.returncode == status, done.stderr
    return time.perf_counter() - started


def around(words: list[str], url: str, name: str, folder: Path) -> tuple[float, float]:
    """Seconds of a search before its first trial starts, and after its last one has ended."""
    is_new = not (folder / "runs").exists()
    known = 0 if is_new else len(optuna.load_study(study_name=name, storage=url).get_trials(deepcopy=False))
    started = time.time()
    program = [sys.executable, str(PROGRAM), *words, "--study-name", name, "--n-trials", str(known + 1)]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True)
    ended = time.time()
    assert done.returncode == 0, done.stderr
    *_, trial = optuna.load_study(study_name=name, storage=url).get_trials(deepcopy=False)
    assert trial.number == known
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    return trial.datetime_start.timestamp() - started, ended - trial.datetime_complete.timestamp()


def show_searches(folder: Path) -> None:
    """Those of a fresh study of each family, and those of studies that have many trials."""
    for model in ("ridge", "cnn"):
        before = []
        for number in range(N_SEARCHES):
            own = folder / f"{model}-{number}"
            own.mkdir()
            words = ["--task", "synthetic_two_vs_rest", "--model", model, *QUICK]
            before.append(around(words, default_url(own / "runs"), "first", own)[0])
        show(f"first trial of {model}", before, 4.0)
    for n_trials, limit_s in ((100, 2.0), (1000, 3.0)):
        own = folder / str(n_trials)
        own.mkdir()
        url = default_url(own / "runs")
        words = [*many_trials.SEARCH, *many_trials.WORDS]
        first = [sys.executable, str(PROGRAM), *words, "--n-trials", str(many_trials.N_FIRST)]
        subprocess.run(first, cwd=own, check=True, capture_output=True)
        many_trials.fill(url, own / "runs", complete_every=1, n_trials=n_trials)
        after = [around(words, url, many_trials.NAME, own)[1] for _ in range(N_SEARCHES)]
        show(f"after the last of {n_trials:,}", after, limit_s)


def show(name: str, runs: list[float], limit_s: float) -> None:
    """A line of the table."""
    verdict = "" if statistics.median(runs) <= limit_s else "   ABOVE THE LIMIT"
    print(f"{name:30} {statistics.median(runs):8.3f} {min(runs):8.3f} {limit_s:8.1f}{verdict}", flush=True)


def main() -> None:
    """Print a table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'':30} {'median':>8} {'fastest':>8} {'limit':>8}   seconds, {N_RUNS} runs each ({N_SEARCHES} searches)")
    for name, words, status, limit_s in CASES:
        show(name, [seconds(words, status) for _ in range(N_RUNS)], limit_s)
    with tempfile.TemporaryDirectory() as folder:
        show_searches(Path(folder))


if __name__ == "__main__":
    main()
