"""What a trial costs beyond training: `python tests/benchmarks/bench_trial_overhead.py`.

Runs the same small configuration as trials of a study (SQLite, child processes, reports, checkpoints) and, in one
warm process, as bare `Trainer.fit` calls of the same model on the same batches. The difference a trial is the
overhead. The goal is at most 0.3 s.
"""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    # Children import the main module again: it has to be as thin as run_study.py is.
    sys.path.insert(0, str(ROOT))
    runpy.run_module("tests.benchmarks.trial_overhead", run_name="trial_overhead")["main"]()
