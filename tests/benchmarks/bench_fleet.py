"""What a fleet costs beside bare Optuna, and whether that grows: `python tests/benchmarks/bench_fleet.py [--help]`.

Eight workers, 200 trials of twenty reports each: our workers, whose trials are child processes that send twenty values
at once, and bare `study.optimize` of the same objective with the same sampler, pruner and heartbeats on the same
database. Compared is a worker's time per trial outside of its child, on the wall and of its CPU, which a busy machine
changes less, and beside it how long it waits for the database's lock and holds it; the start of the child stands apart.
Each in a study of 100 finished trials, and of 9,800, which are written directly, so that the 10,000th trial is run; on
a Postgres, which comes with the test packages, and on SQLite. The goals: at most 1.1 times bare Optuna, at 10,000
trials at most 1.5 times what a trial costs at 100, and less than 1 GB of memory.

Then 64 workers without torch (real storage, lock and sampler) on Postgres, each of whose trials sleeps for 40 s and
reports twenty values in between: how much of the time they sleep (the goal is 90 %), how long the lock is held, and how
many trials an hour that lock lets through.

`--database sqlite`, `--database postgres` and `--wide` are a third of it each, in a few minutes. Linux alone says how
much memory a process had.
"""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    # Children import the main module again: it has to be as thin as run_study.py is.
    sys.path.insert(0, str(ROOT))
    importlib.import_module("tests.benchmarks.fleet_overhead").main()
