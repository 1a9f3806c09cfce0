"""How long it takes to read and check a large table of a user's, against pandas reading the same file.

    python tests/benchmarks/bench_reader.py [--variants 285000] [--repeats 3]

The table has the length of AAV's capsid (735 residues) and FLIP's number of designed and mutated variants. Measured
are `pandas.read_csv` of the file; the survey of it, which is all of `data check` but the printing; and what a search
does before its first trial: the survey, the split in FLIP's format on disk, and the prepared arrays.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.splits.prepared import prepare
from datasets.tables.survey import survey
from datasets.tables.table import Table
from datasets.tasks.flip import AAV_WILD_TYPE
from datasets.tasks.own_table import table_task
from search.request.user_table import write_split

GOAL = 1.0


def write_table(path: Path, n_variants: int) -> None:
    """Write the wild type and different variants with mutations in AAV's region."""
    random = np.random.default_rng(0)
    residues = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", dtype=np.uint8)
    codes = np.tile(np.frombuffer(AAV_WILD_TYPE.encode(), dtype=np.uint8), (n_variants, 1))
    known: set[bytes] = set()
    for row in codes[:, 560:588]:
        while row.tobytes() in known:
            sites = random.integers(0, 28, size=random.integers(1, 11))
            row[sites] = random.choice(residues, size=len(sites))
        known.add(row.tobytes())
    with path.open("wb") as file:
        file.write(b"sequence,fitness\n")
        for row, target in zip(codes, random.normal(size=n_variants).tolist(), strict=True):
            file.write(row.tobytes() + f",{target:.6f}\n".encode())


def fastest_s(function: Callable[[], object], n_repeats: int) -> float:
    """Return the shortest of a few times."""
    times = []
    for _ in range(n_repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> int:
    """Print the times and their ratios; the exit status is 1 if the survey misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=285_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "large.csv"
        write_table(path, options.variants)
        table = Table(
            file=str(path),
            sequence_column=None,
            mutation_column=None,
            target_column=None,
            group_column=None,
            wild_type=AAV_WILD_TYPE,
            sites=None,
            window=None,
            split="two_vs_rest",
            max_train_mutations=None,
            split_seed=0,
            replicates=None,
        )

        def searched() -> None:
            found = survey(path, table)
            write_split(found.raw_split(), folder / "data", "large")
            task = table_task(found.table, name="large", loaded=found)
            for old in folder.glob("cache/*"):
                old.unlink()
            prepare(task, data_dir=None, cache_dir=folder / "cache", announce=print)

        pandas_s = fastest_s(lambda: pd.read_csv(path), options.repeats)
        survey_s = fastest_s(lambda: survey(path, table), options.repeats)
        search_s = fastest_s(searched, options.repeats)
        print(f"{options.variants:,} variants of {len(AAV_WILD_TYPE)} residues, {path.stat().st_size / 1e6:.0f} MB")
        print(f"pandas.read_csv               {pandas_s:6.2f} s")
        print(f"read and checked              {survey_s:6.2f} s  {survey_s / pandas_s:.2f} times (goal: {GOAL:g})")
        print(f"... divided, written, prepared {search_s:5.2f} s  {search_s / pandas_s:.2f} times")
    return 0 if survey_s <= GOAL * pandas_s else 1


if __name__ == "__main__":
    sys.exit(main())
