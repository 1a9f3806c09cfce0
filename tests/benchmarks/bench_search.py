"""Whole searches beside the scripts that users write themselves, in turn, on the same data and with the same budget.

    FLIPSEARCH_DATA=... python tests/benchmarks/bench_search.py [--pairs 5] [--only ridge]

Ours is the command that a user types, in a fresh folder with the prepared data of an earlier search; theirs are
`plain_ridge.py`, `plain_kernel.py` and `plain_cnn.py`: Optuna on SQLite with the same sampler, pruner, first trial,
study name (which chooses Hyperband's brackets) and seed, scikit-learn or a plain torch loop, the same rows and folds.
By default (`--columns all`) they see the 56 residues that our models see of GB1, one-hot, as one writes it down; with
`whole` all 265 residues of FLIP's file, as one does who does not look at it; with `varying` of the one-hot form of
ridge and kernel only what varies, 74 columns, as one does who knows that the others change nothing but the time.
Sampled configurations differ from the first value on that differs, so that a pair says little and five say more; with
`--same-configurations` both sides' CNNs try the same random ones, so that the ratio is of speed alone.

CPU seconds are those of all processes of a side. On a busy machine they are what counts: processes that wait for a core
take longer, but use about the same. Epochs are counted in the databases, a second of the time from the first trial's
start to the last one's end. The CNN's script runs with as many threads as made its epochs fastest just before.

A script that takes half an hour need not end: with `--stop-script-at 0.4` ours runs first, and the script is stopped
once ours has taken less than 0.4 of its time. The ratio of such a pair is an upper bound.

The goals, of the medians: ridge and kernel at most 0.6 of the script's wall time; the CNN's epochs a second at least
2.5 times the script's with `--workers auto` and 1.6 times with one worker, and the script's last value in at most half
of the time that the script took to find it. `--only study` times the search of `make study` alone (at most 60 s on two
quiet cores).
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from search.machine.hardware import usable_cores
from tests.benchmarks.plain_cnn import FIRST
from tests.benchmarks.search_sides import N_SEEN, ROOT, Side, search_ours, search_plainly, write_table

EPOCHS = "trainer.max_epochs=30"
COLUMNS = ("varying", "all", "whole")
KINDS = ("ridge", "kernel", "cnn", "study")


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the median over pairs of a ratio is to be: at most `limit`, or at least."""

    what: str
    limit: float
    ratio: Callable[[Side, Side], float]  # of ours and theirs
    is_least: bool = False

    def shown(self, pairs: Sequence[tuple[Side, Side]]) -> str:
        """Median, smallest and largest of the ratio, and whether the goal is met."""
        ratios = [self.ratio(ours, theirs) for ours, theirs in pairs]
        median = statistics.median(ratios)
        is_met = median >= self.limit if self.is_least else median <= self.limit
        goal = f"goal at {'least' if self.is_least else 'most'} {self.limit:g}: {'met' if is_met else 'missed'}"
        stopped = sum(theirs.is_stopped for _, theirs in pairs)
        bounds = f"; {stopped} of {len(pairs)} are upper bounds, of scripts that were stopped" if stopped else ""
        return f"  {self.what:52} {median:6.2f} ({min(ratios):.2f} to {max(ratios):.2f}{bounds}); {goal}"


def _wall(ours: Side, theirs: Side) -> float:
    return ours.wall_s / theirs.wall_s


def _cpu(ours: Side, theirs: Side) -> float:
    return ours.cpu_s / theirs.cpu_s


def _speed(ours: Side, theirs: Side) -> float:
    return ours.epochs_per_s / theirs.epochs_per_s


def _cpu_an_epoch(ours: Side, theirs: Side) -> float:
    return _cpu(ours, theirs) * theirs.n_epochs / ours.n_epochs


def _reached(ours: Side, theirs: Side) -> float:
    return ours.reached_s(theirs.best) / theirs.reached_s(theirs.best)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--n-trials", type=int, help="instead of 100 (ridge, kernel) and 20 (CNN)")
    parser.add_argument("--workers", nargs="+", default=["auto", "1"], help="of the CNN (default: auto 1)")
    parser.add_argument("--columns", choices=COLUMNS, default="all", help="that the scripts see (default: %(default)s)")
    parser.add_argument("--same-configurations", action="store_true", help="of the CNN: none that a sampler chooses")
    parser.add_argument("--override", action="append", default=[], help="of our searches, such as trainer.threads=1")
    parser.add_argument("--stop-script-at", type=float, help="(ridge, kernel) once ours took this share of its time")
    given = parser.parse_args()
    seen = None if given.columns == "whole" else N_SEEN
    with tempfile.TemporaryDirectory() as name:
        for kind in KINDS if given.only is None else (given.only,):
            folder = Path(name) / kind
            folder.mkdir()
            if kind == "study":
                make_study(folder)
            elif kind == "cnn":
                same = given.same_configurations
                beside_torch(folder, given.pairs, given.n_trials or 20, given.workers, given.override, seen, same)
            else:
                columns = [] if given.columns == "varying" else ["--all-columns"]
                n_trials = given.n_trials or 100
                stop_at = given.stop_script_at
                beside_sklearn(kind, folder, given.pairs, n_trials, given.override, seen, columns, stop_at)


def beside_sklearn(
    model: str,
    folder: Path,
    n_pairs: int,
    n_trials: int,
    overrides: Sequence[str],
    seen: int | None,
    columns: Sequence[str],
    stop_at: float | None,
) -> None:
    """Ridge or kernel, whole commands."""
    task, table = "gb1_two_vs_rest", folder / "table.csv"
    warm = _warm(folder, task, model)
    shown = write_table(task, model, table, warm / "splits", seen)
    print(f"{model}: {n_trials} trials on {task}, {shown}", flush=True)
    pairs = []
    for seed in range(n_pairs):
        words = ["--task", task, "--model", model, "--n-trials", str(n_trials), f"seed={seed}", *overrides]
        named = [f"{task}-{model}", "--n-trials", str(n_trials), "--seed", str(seed), *columns]
        ours = search_ours(folder / f"ours-{seed}", warm, words)
        limit_s = None if stop_at is None else ours.wall_s / stop_at
        theirs = search_plainly(folder / f"plain-{seed}", f"plain_{model}.py", table, named, limit_s)
        pairs.append((ours, theirs))
        _show(seed, ours, theirs)
    _show_goals(pairs, Goal(what="wall time", limit=0.6, ratio=_wall), Goal(what="CPU time", limit=0.6, ratio=_cpu))


def beside_torch(
    folder: Path,
    n_pairs: int,
    n_trials: int,
    workers: Sequence[str],
    overrides: Sequence[str],
    seen: int | None,
    is_same: bool,
) -> None:
    """The CNN, by epochs a second."""
    task, table = "gb1_three_vs_rest", folder / "table.csv"
    warm = _warm(folder, task, "cnn")
    shown = write_table(task, "cnn", table, warm / "splits", seen)
    threads = _best_threads(folder, table)
    print(f"cnn: {n_trials} trials of at most 30 epochs on {task}, {shown}; the script has {threads} thread(s)")
    pairs: dict[str, list[tuple[Side, Side]]] = {number: [] for number in workers}
    for seed in range(n_pairs):
        words = ["--task", task, "--model", "cnn", "--n-trials", str(n_trials), f"seed={seed}", EPOCHS, *overrides]
        named = [f"{task}-cnn", "--n-trials", str(n_trials), "--seed", str(seed), "--threads", str(threads)]
        if is_same:
            first = drawn(n_trials, seed)
            named += ["--first", json.dumps(first)]
            words.append(f"first_trials=[{','.join(map(as_tree, first))}]")
        theirs = search_plainly(folder / f"plain-{seed}", "plain_cnn.py", table, named)
        for number in workers:
            ours = search_ours(folder / f"ours-{seed}-{number}", warm, [*words, "--workers", number])
            pairs[number].append((ours, theirs))
            _show(seed, ours, theirs, f"--workers {number}")
    for number, ones in pairs.items():
        print(f" --workers {number}")
        _show_goals(
            ones,
            Goal(what="epochs a second", limit=1.6 if number == "1" else 2.5, ratio=_speed, is_least=True),
            Goal(what="CPU time an epoch, whole commands", limit=1 / 1.6, ratio=_cpu_an_epoch),
            Goal(what="time until the script's last value", limit=0.5, ratio=_reached),
        )


def drawn(n: int, seed: int) -> list[dict[str, Any]]:
    """The configuration that both begin with, and random ones of the space, in the script's names."""
    random = np.random.default_rng(seed)

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    found = [FIRST]
    for _ in range(n - 1):
        sizes = {"kernel_size": int(random.choice([3, 5, 7, 9])), "channels": round(log_uniform(16, 96))}
        rates = {"lr_encoder": log_uniform(1e-4, 1e-2), "lr_embedding": log_uniform(1e-5, 1e-2)}
        found.append(
            {
                **sizes,
                **rates,
                "depth": int(random.integers(1, 3)),
                "dropout": float(random.uniform(0, 0.5)),
                "pooling": str(random.choice(["max", "attention", "position"])),
                "weight_decay": log_uniform(1e-5, 0.1),
                "lr_decoder": log_uniform(1e-6, 1e-2),
                "batch_size": int(random.choice([32, 64, 128, 256])),
            }
        )
    return found


def as_tree(configuration: Mapping[str, Any]) -> str:
    """A configuration as one of our first trials, on the command line."""
    values = dict(configuration)
    batch_size = values.pop("batch_size")
    model = ",".join(f"{name}:{value}" for name, value in values.items())
    return f"{{model:{{{model}}},data:{{batch_size:{batch_size}}}}}"


def make_study(folder: Path) -> None:
    """The search of `make study`, once."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    overrides = next(line for line in makefile.splitlines() if line.startswith("STUDY_OVERRIDES")).split()[2:]
    warm = _warm(folder, "gb1_three_vs_rest", "cnn")
    words = ["--task", "gb1_three_vs_rest", "--model", "cnn", "--n-trials", "20", *overrides]
    ours = search_ours(folder / "study", warm, words)
    print(
        f"make study: {ours.wall_s:.1f} s, {ours.cpu_s:.1f} s of CPU, {ours.n_epochs} epochs; first trial after "
        f"{ours.first_s:.1f} s, {ours.wall_s - ours.last_s:.1f} s after the last one; goal 60 s: "
        f"{'met' if ours.wall_s <= 60 else 'missed'}"
    )


def _warm(folder: Path, task: str, model: str) -> Path:
    """The cache of a short search, which also brings what both sides read into the machine's memory."""
    search_ours(folder / "warm", folder / "none", ["--task", task, "--model", model, "--n-trials", "1", EPOCHS])
    return folder / "warm" / "runs" / "cache"


def _best_threads(folder: Path, table: Path) -> int:
    """Of the numbers 1, 2, 4, ... that the machine has, the one whose epochs are fastest."""
    speeds = {}
    for exponent in range(usable_cores().bit_length()):
        words = ["threads", "--n-trials", "3", "--max-epochs", "5", "--threads", str(2**exponent)]
        speeds[2**exponent] = search_plainly(folder / f"threads-{exponent}", "plain_cnn.py", table, words).epochs_per_s
    return max(speeds, key=lambda number: speeds[number])


def _show(seed: int, ours: Side, theirs: Side, how: str = "") -> None:
    for name, side in (("script", theirs), (f"ours {how}".strip(), ours)):
        print(
            f"  seed {seed} {name:17} {side.wall_s:6.1f} s, {side.cpu_s:6.1f} s of CPU; {side.n_trials} trials, "
            f"{side.n_epochs} epochs, {side.epochs_per_s:.1f} a second; best {side.best:.4f} after "
            f"{side.reached_s(side.best):.1f} s; first trial after {side.first_s:.1f} s, "
            f"{side.wall_s - side.last_s:.1f} s after the last{' (stopped)' if side.is_stopped else ''}",
            flush=True,
        )


def _show_goals(pairs: Sequence[tuple[Side, Side]], *goals: Goal) -> None:
    print(f"  ours over the script's, medians of {len(pairs)} pair(s) (smallest to largest)")
    for goal in goals:
        print(goal.shown(pairs), flush=True)


if __name__ == "__main__":
    main()
