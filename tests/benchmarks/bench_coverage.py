"""What the intervals cover: `python tests/benchmarks/bench_coverage.py [RUNS]`, a quarter of an hour for 2,000 runs.

Draws validation sequences from populations whose true Spearman is known, and counts how often the 95 % interval holds
it: of a configuration that was fixed beforehand (goal: 92 to 98 % from 28 sequences up), and of the one that was picked
as the best of 100 similar ones (goal: at least 90 % at 20 sequences, and what the pick's value is too high by).
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from search.stats.intervals import interval
from search.stats.selection_bias import ComparedTrials
from tests.helpers.populations import draw, spearmans, true_spearman

SIZES = (28, 43, 117, 299)
STRENGTHS = (0.0, 0.5, 0.8, 0.95)
N_TRIALS = 100
# Name, mean and standard deviation of the strengths, and how much of their errors the trials share.
STUDIES = (
    ("much alike", 0.60, 0.02, 0.9),
    ("alike", 0.60, 0.02, 0.5),
    ("unlike", 0.60, 0.02, 0.0),
    ("good", 0.85, 0.03, 0.7),
)


def fixed(n_runs: int) -> list[float]:
    """Print a table of coverages in per cent; return all of them."""
    found = []
    print("The 95 % interval of a fixed configuration covers, of", f"{n_runs:,} runs:")
    print(f"{'target':8} {'true':>6}", *(f"n={n:<5}" for n in SIZES))
    for kind in ("normal", "fitness", "tied"):
        for strength in STRENGTHS:
            strengths = np.array([strength])
            (truth,) = true_spearman(kind, strengths)
            row = []
            for n in SIZES:
                random = np.random.default_rng([n, int(100 * strength)])
                hits = 0
                for _ in range(n_runs):
                    predictions, target = draw(kind, strengths, n, random)
                    found_here = interval(predictions[0], target)
                    hits += found_here.low <= truth <= found_here.high
                row.append(100 * hits / n_runs)
            print(f"{kind:8} {truth:6.2f}", *(f"{value:6.1f} " for value in row), flush=True)
            found += row
    print(f"from {min(found):.1f} to {max(found):.1f} %\n")
    return found


def picked(n_runs: int) -> list[float]:
    """Print a table for the best of `N_TRIALS`; return the coverages in per cent at 20 sequences."""
    found = []
    print(f"The interval of the best of {N_TRIALS} trials, of {n_runs:,} runs:")
    print(
        f"{'target':8} {'trials':11} {'n':>4} {'covers':>7} {'uncorrected':>12} {'too high by':>12} {'estimated':>10}"
    )
    for n, studies in ((20, STUDIES), (43, STUDIES[1:2])):
        for kind in ("normal", "fitness"):
            for name, mean, spread, shared in studies:
                strengths = np.clip(np.random.default_rng(5).normal(mean, spread, N_TRIALS), 0, 0.97)
                truths = true_spearman(kind, strengths)
                random = np.random.default_rng([n, int(100 * mean), int(100 * shared)])
                hits, plain_hits, excess, optimism = 0, 0, [], []
                for _ in range(n_runs):
                    predictions, target = draw(kind, strengths, n, random, shared=shared)
                    study = ComparedTrials(
                        values=spearmans(predictions, target), predictions=predictions, target=target, n=n
                    )
                    truth, shown = truths[study.best], study.interval()
                    plain = interval(predictions[study.best], target)
                    hits += shown.low <= truth <= shown.high
                    plain_hits += plain.low <= truth <= plain.high
                    excess.append(study.values[study.best] - truth)
                    optimism.append(study.optimism())
                covered = 100 * hits / n_runs
                if n == 20:
                    found.append(covered)
                print(
                    f"{kind:8} {name:11} {n:4} {covered:7.1f} {100 * plain_hits / n_runs:12.1f} "
                    f"{np.mean(excess):12.3f} {np.mean(optimism):10.3f}",
                    flush=True,
                )
    print(f"at 20 sequences at least {min(found):.1f} %")
    return found


def main() -> None:
    """Both tables."""
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    started = time.monotonic()
    fixed(n_runs)
    picked(n_runs)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
