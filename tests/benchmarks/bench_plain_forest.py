"""The script that a user would write, beside our families: `python tests/benchmarks/bench_plain_forest.py TABLE`.

TABLE is a library of single mutants in ProteinGym's layout. The script is scikit-learn's random forest of 300 trees on
residue properties, position and neighbours. Ours is the better one on validation of `kernel` and `forest`, `--n-trials`
trials each without score columns. Both train on train and validation of the same split, and are judged by its test set.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from bench_scores import run
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor  # type: ignore[import-untyped]

FAMILIES = ("kernel", "forest")
SPLITS = {
    "random": ("--split", "random"),
    "by_position": ("--split", "by_position"),
    "contiguous": ("--split", "by_group", "--group-column", "fold_contiguous_5"),
}
# Kyte and Doolittle's hydropathy, the residue's mass in dalton, its volume in cubic angstrom (Zamyatnin), its charge.
PROPERTIES = {
    "A": (1.8, 71.08, 88.6, 0), "R": (-4.5, 156.19, 173.4, 1), "N": (-3.5, 114.10, 114.1, 0),
    "D": (-3.5, 115.09, 111.1, -1), "C": (2.5, 103.14, 108.5, 0), "Q": (-3.5, 128.13, 143.8, 0),
    "E": (-3.5, 129.12, 138.4, -1), "G": (-0.4, 57.05, 60.1, 0), "H": (-3.2, 137.14, 153.2, 0.1),
    "I": (4.5, 113.16, 166.7, 0), "L": (3.8, 113.16, 166.7, 0), "K": (-3.9, 128.17, 168.6, 1),
    "M": (1.9, 131.19, 162.9, 0), "F": (2.8, 147.18, 189.9, 0), "P": (-1.6, 97.12, 112.7, 0),
    "S": (-0.8, 87.08, 89.0, 0), "T": (-0.7, 101.10, 116.1, 0), "W": (-0.9, 186.21, 227.8, 0),
    "Y": (-1.3, 163.18, 193.6, 0), "V": (4.2, 99.13, 140.0, 0),
}  # fmt: skip


def main() -> None:
    """Print a line for each split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--n-trials", type=int, default=12)
    parser.add_argument("--override", action="append", default=[], help="for every search, such as trainer.threads=1")
    given = parser.parse_args()
    print(f"{'split':<14}{'script':>8}{'ours':>8}{'chosen':>9}{'validation':>12}   the other family", flush=True)
    for name, words in SPLITS.items():
        data = ("--data", str(given.table.absolute()), "--target-column", "DMS_score", *words)
        with tempfile.TemporaryDirectory() as folder:
            found = {}
            for family in FAMILIES:
                study = ("--study-name", f"s-{family}")
                run(folder, *data, "--model", family, "--n-trials", str(given.n_trials), *study, *given.override)
                status = json.loads(run(folder, "status", *study, "--json"))
                words = ("confirm", f"studies/experiment/s-{family}.yaml", "--seeds", "1", "--json")
                found[family] = status["best"]["value"], json.loads(run(folder, *words))["test"]["spearman"]["mean"]
            (split,) = Path(folder, "runs/data").glob("*.csv")
            script = plain_script(pd.read_csv(split))
        chosen, other = sorted(FAMILIES, key=lambda family: -found[family][0])
        value, test = found[chosen]
        print(
            f"{name:<14}{script:>8.4f}{test:>8.4f}{chosen:>9}{value:>12.4f}   {other} {found[other][1]:.4f}", flush=True
        )


def plain_script(table: pd.DataFrame) -> float:
    """The test Spearman of a random forest of 300 trees."""
    letters = np.array([list(sequence) for sequence in table["sequence"]])
    features = describe(letters)
    is_test = (table["set"] == "test").to_numpy()
    target = table["target"].to_numpy()
    forest = RandomForestRegressor(300, n_jobs=-1, random_state=0).fit(features[~is_test], target[~is_test])
    return float(spearmanr(forest.predict(features[is_test]), target[is_test]).statistic)


def describe(letters: NDArray[np.str_]) -> NDArray[np.float64]:
    """Features (N, F) of single mutants (N, L) of the sequence that their commonest residues are."""
    wild = np.array([pd.Series(column).mode()[0] for column in letters.T])
    rows = []
    for sequence in letters:
        differs = np.flatnonzero(sequence != wild)
        place = int(differs[0]) if len(differs) else 0
        old, new = np.array(PROPERTIES[wild[place]]), np.array(PROPERTIES[sequence[place]])
        around = [PROPERTIES[wild[(place + step) % len(wild)]] for step in (-2, -1, 1, 2)]
        rows.append(np.concatenate([old, new, new - old, *around, [place, len(differs)]]))
    return np.array(rows)


if __name__ == "__main__":
    main()
