"""How long help, usage errors and configuration errors take: medians over fresh interpreters.

    python tests/benchmarks/bench_startup.py

The limits are the promise on an idle machine: 0.3 s for help and usage errors, 1 s for configuration errors.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).parent.parent.parent / "run_study.py"
WHAT = ["--task", "gb1_three_vs_rest", "--model", "cnn"]
N_RUNS = 10
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


def main() -> None:
    """Print a table."""
    print(f"{'':30} {'median':>8} {'fastest':>8} {'limit':>8}   seconds, {N_RUNS} runs each")
    for name, words, status, limit_s in CASES:
        runs = [seconds(words, status) for _ in range(N_RUNS)]
        verdict = "" if statistics.median(runs) <= limit_s else "   ABOVE THE LIMIT"
        print(f"{name:30} {statistics.median(runs):8.3f} {min(runs):8.3f} {limit_s:8.1f}{verdict}")


if __name__ == "__main__":
    main()
