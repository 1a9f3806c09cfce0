"""What `predict` with an ensemble of eight costs, against its members one after another, and what memory it takes.

    FLIPSEARCH_DATA=... python tests/benchmarks/bench_ensemble.py [--n 1000000] [--threads 1]

Three ridge regressions, three kernels and two small CNNs are trained on gb1_two_vs_rest with one fold each, and
averaged with equal weights. Candidates are those of bench_predict.py, written as a table. Each experiment ranks a
thousand of them and all, in a process of its own, without distances; what the thousand cost is taken off. The rate of
the ensemble is given as a share of the rate of its members one after another, by processor time and on the clock. The
peak of resident memory is that of the ensemble and of the member that takes most, and how it grows with the candidates.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from search.study.config import study_config
from search.training.predictions import predictions_in
from tests.benchmarks.bench_predict import Cost, program, variants
from tests.helpers.experiments import averaged_experiment, trained_experiment

TASK = "gb1_two_vs_rest"
MEMBERS = (
    *(("ridge", f"model.alpha={alpha}") for alpha in (0.1, 1.0, 10.0)),
    *(("kernel", f"model.noise={noise}") for noise in (0.1, 0.2, 0.5)),
    *(("cnn", f"model.channels={channels}") for channels in (16, 32)),
)
COMMON = ("validation=holdout", "trainer.max_epochs=1", "trainer.threads=1", "logger=none")
N_FEW = 1000
GOAL = 0.6


def write_table(path: Path, residues: np.ndarray) -> Path:
    """A CSV file with a column `sequence`."""
    path.write_bytes(b"sequence\n" + np.pad(residues, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes())
    return path


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=len(cores))
    arguments = parser.parse_args()
    os.sched_setaffinity(0, cores[: arguments.threads])  # the program takes all that it may
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = Places(weights_dir=None, cache_dir=folder / "cache")
        split = prepare(find_task(TASK), data_dir=None, cache_dir=folder / "splits", announce=lambda sentence: None)
        exports, found = [], []
        for number, (model, setting) in enumerate(MEMBERS):
            config = study_config([f"task={TASK}", f"model={model}", setting, *COMMON]).run({})
            exports.append(folder / f"{model}-{number}.yaml")
            trained_experiment(exports[-1], config, split, places, trial=number)
            predictions = predictions_in(folder / f"run of {exports[-1].stem}")
            assert predictions is not None
            found.append(predictions)
        weights = np.full(len(MEMBERS), 1 / len(MEMBERS))
        together = averaged_experiment(folder / "together.yaml", exports, found, weights)
        residues = variants(arguments.n)
        few, many = write_table(folder / "few.csv", residues[:N_FEW]), write_table(folder / "many.csv", residues)
        del residues

        def costs(export: Path) -> tuple[Cost, Cost]:
            """Of all candidates without what a few cost, and of the few."""
            least, whole = (program(export, table, folder, "--no-distance") for table in (few, many))
            more = Cost(wall_s=whole.wall_s - least.wall_s, cpu_s=whole.cpu_s - least.cpu_s, peak_mb=whole.peak_mb)
            print(
                f"{export.stem}: {more.cpu_s:.1f} s of processors, {more.wall_s:.1f} s on the clock for "
                f"{arguments.n - N_FEW:,} candidates; peak {least.peak_mb:.0f} MB of {N_FEW:,}, {whole.peak_mb:.0f} "
                f"MB of {arguments.n:,}",
                flush=True,
            )
            return more, least

        alone = [costs(export) for export in exports]
        ensemble, least = costs(together)
        cpu_s, wall_s = sum(more.cpu_s for more, _ in alone), sum(more.wall_s for more, _ in alone)
        growth = [more.peak_mb - own.peak_mb for more, own in (*alone, (ensemble, least))]
        print(
            f"{len(MEMBERS)} members one after another: {cpu_s:.1f} s of processors, {wall_s:.1f} s on the clock.\n"
            f"The ensemble has {cpu_s / ensemble.cpu_s:.0%} of their rate by processor time, "
            f"{wall_s / ensemble.wall_s:.0%} on the clock (goal {GOAL:.0%}).\n"
            f"Peak memory {ensemble.peak_mb:.0f} MB, of a member {max(one.peak_mb for one, _ in alone):.0f} MB; it "
            f"grows by {growth[-1]:.0f} MB with the candidates, with a member by {max(growth[:-1]):.0f} MB. "
            f"{arguments.threads} thread(s)."
        )


if __name__ == "__main__":
    main()
