"""What five folds of a CNN take beside one fold: the same training, of the first fold alone and of all, side by side.

    [FLIPSEARCH_DATA=...] python tests/benchmarks/bench_folds.py
    FLIPSEARCH_DATA=... python tests/benchmarks/bench_folds.py --pairs 3 --epochs 10 --cores 4

Both run `fit` on `gb1_three_vs_rest` with one thread a fold, in turn, each in a process forked from this one, which has
loaded torch and computes nothing, as a trial's is. What is compared is seconds on a clock, from the fork to the end;
CPU seconds of all processes stand beside them, and those of the five folds one after another, which run once. That run
has to find the same values as the others, bit for bit, or the benchmark ends with an error.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import search.training.folds.run
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.run_config import RunConfig
from search.machine.hardware import usable_cores
from search.study.config import study_config
from search.training.build import folds_of
from search.training.fit import fit

TASK = "gb1_three_vs_rest" if os.environ.get("FLIPSEARCH_DATA") else "synthetic_two_vs_rest"
N_FOLDS = 5
LIMIT = 3.5


@dataclass(frozen=True)
class Took:
    """Seconds on a clock, CPU seconds, and the values of each fold."""

    clock_s: float
    cpu_s: float
    values: list[list[float]]


def run_of(channels: int, n_epochs: int) -> RunConfig:
    words = [f"task={TASK}", "model=cnn", f"model.channels={channels}", "trainer.threads=1", "trainer.accelerator=cpu"]
    words += [f"trainer.max_epochs={n_epochs}", f"trainer.patience={n_epochs}", "logger=none"]
    return study_config([*words, "validation=kfold", f"validation.n_folds={N_FOLDS}"]).run({})


def timed(config: RunConfig, split: PreparedSplit, n_folds: int, cores: int) -> Took:
    """The first `n_folds` folds on so many cores."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def train() -> None:
            search.training.folds.run.folds_of = lambda *given: folds_of(*given)[:n_folds]
            places = Places(weights_dir=None, cache_dir=folder / "cache")
            result = fit(config, split, places=places, directory=folder, report=lambda *value: None, cores=cores)
            (folder / "values.json").write_text(json.dumps(result.values))

        began = time.perf_counter()
        cpu_s = in_a_process(train)
        clock_s = time.perf_counter() - began
        return Took(clock_s, cpu_s, json.loads((folder / "values.json").read_text()))


def in_a_process(work: Callable[[], None]) -> float:
    """The CPU seconds of work in a process forked from this one, and of those that it forks."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise RuntimeError("a training failed: see above")
    return usage.ru_utime + usage.ru_stime


def compare(config: RunConfig, split: PreparedSplit, n_pairs: int, cores: int) -> str:
    """Train both `n_pairs` times in turn, after once each that does not count; a line of ratios."""
    in_turn = timed(config, split, N_FOLDS, 1)
    clocks, cpus, found = list[float](), list[float](), list[tuple[Took, Took]]()
    for pair in range(n_pairs + 1):
        one, all_folds = timed(config, split, 1, 1), timed(config, split, N_FOLDS, cores)
        if all_folds.values != in_turn.values or one.values != in_turn.values[:1]:
            raise AssertionError("folds side by side, one after another, and one alone differ in their values")
        if pair > 0:
            found.append((one, all_folds))
            clocks.append(all_folds.clock_s / one.clock_s)
            cpus.append(all_folds.cpu_s / one.cpu_s)
    ratio = statistics.median(clocks)
    one_s, all_s = (min(pair[number].clock_s for pair in found) for number in (0, 1))
    return (
        f"one fold {one_s:.2f} s, {N_FOLDS} folds {all_s:.2f} s on a clock, {in_turn.clock_s:.2f} s one after another; "
        f"ratio {ratio:.2f} ({min(clocks):.2f} to {max(clocks):.2f}), of CPU time {statistics.median(cpus):.2f} "
        f"({in_turn.cpu_s / min(pair[0].cpu_s for pair in found):.2f} one after another): "
        f"{'met' if ratio <= LIMIT else 'MISSED'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--channels", type=int, nargs="*", default=[43, 128])
    parser.add_argument("--cores", type=int, default=usable_cores())
    options = parser.parse_args()
    print(f"{TASK}, {N_FOLDS} folds on {options.cores} cores over one, {options.pairs} pairs; target {LIMIT} on two")
    with tempfile.TemporaryDirectory() as cache_dir:
        split = prepare(find_task(TASK), data_dir=None, cache_dir=Path(cache_dir), announce=lambda _: None)
        for channels in options.channels:
            line = compare(run_of(channels, options.epochs), split, options.pairs, options.cores)
            print(f"{channels} channels, {options.epochs} epochs: {line}", flush=True)


if __name__ == "__main__":
    main()
