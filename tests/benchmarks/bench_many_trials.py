"""How long commands take on a study of 10,000 trials: `python tests/benchmarks/bench_many_trials.py [--help]`.

A real search of a few trials begins the study; the others are added as that search would have left them: sampled
parameters, learning curves, results, artifacts, and the files in the folders of trials, predictions of the complete
ones included. Every second trial is complete, or all of them are.

Measured on SQLite and on a Postgres, which comes with the test packages: `status`, `report`, and what follows the last
trial of a search of one more trial. Beside the seconds stand those of CPU time, which a busy machine changes less, and
the ratio to a reference of the same run: a fresh process that reads all trials once with Optuna (`status`), or reads
them and makes Optuna's own five figures of them (`report` and the end of a search).
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.benchmarks.many_trials").main()
