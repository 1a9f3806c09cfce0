"""What score columns bring on new positions and at random: `python tests/benchmarks/bench_scores.py TABLE [SEED ...]`.

TABLE is a saturation library in ProteinGym's layout with score columns, such as TEM-1's: `mutated_sequence`,
`DMS_score`, and the columns that are named below.

The rule, which was fixed before any test target was read: of the `--families`, `--n-trials` trials each, with the
default spaces, the one with the highest validation value is confirmed (one seed, trained on train and validation),
whatever the test set says; the others are confirmed as well and stand beside it. Each case is searched without score
columns, too, which shows what they bring.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
COLUMNS = ("site_independent", "evmutation", "deepsequence", "esm1v")
CASES = {
    "by_position, evmutation": ("by_position", ("evmutation",)),
    "by_position, all four": ("by_position", COLUMNS),
    "by_position, none": ("by_position", ()),
    "random, all four": ("random", COLUMNS),
    "random, none": ("random", ()),
}


def main() -> None:
    """Search, confirm, and print a line for each case and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--n-trials", type=int, default=12)
    parser.add_argument("--override", action="append", default=[], help="for every search, such as trainer.threads=1")
    parser.add_argument("--families", default="kernel")
    given = parser.parse_args()
    families = given.families.split(",")
    print(f"{'case':<26}{'seed':>5}{'chosen':>9}{'validation':>12}{'test':>8}   the others", flush=True)
    for case in CASES:
        for seed in given.seeds or [0]:
            found = {
                family: measure(given.table, case, seed, family, given.n_trials, given.override) for family in families
            }
            chosen, *others = sorted(families, key=lambda family: -found[family][0])
            value, test = found[chosen]
            beside = ", ".join(f"{family} {found[family][1]:.4f}" for family in others)
            print(f"{case:<26}{seed:>5}{chosen:>9}{value:>12.4f}{test:>8.4f}   {beside}", flush=True)


def measure(table: Path, case: str, seed: int, family: str, n_trials: int, overrides: list[str]) -> tuple[float, float]:
    """The validation value of a family's best trial, and the test Spearman of its confirmation."""
    split, columns = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        scores = [word for name in columns for word in ("--zero-shot-column", name)]
        data = (
            "--data",
            str(table.absolute()),
            "--target-column",
            "DMS_score",
            "--split",
            split,
            "--split-seed",
            str(seed),
        )
        run(folder, *data, *scores, "--model", family, "--n-trials", str(n_trials), "--study-name", "s", *overrides)
        status = json.loads(run(folder, "status", "--study-name", "s", "--json"))
        confirmed = json.loads(run(folder, "confirm", "studies/experiment/s.yaml", "--seeds", "1", "--json"))
        return status["best"]["value"], confirmed["test"]["spearman"]["mean"]


def run(folder: str, *words: str) -> str:
    """What the command line prints in a folder."""
    command = [sys.executable, str(ROOT / "run_study.py"), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
