"""What a fleet costs beside bare Optuna: `python tests/benchmarks/bench_fleet.py [--short]`.

Eight workers, 200 trials of twenty reports each on one Postgres, which comes with the test packages: our workers, whose
trials are child processes that send twenty values at once, and bare `study.optimize` of the same objective with the
same sampler, pruner and heartbeats on the same database. Compared is a worker's time per trial outside of its child;
the start of the child stands apart. Then the same with 1,800 finished trials before. The goal is 1.1 times bare Optuna.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    # Children import the main module again: it has to be as thin as run_study.py is.
    sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.benchmarks.fleet_overhead").main()
