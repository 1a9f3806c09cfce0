"""How far rounding moves what a network reaches: `python tests/benchmarks/bench_rounding.py EXPERIMENT [--repeats 30]`.

Trains a CNN's experiment again and again from initial weights of which a third each is one unit in the last place
smaller, equal and larger, with either way to compute its convolution, and prints the spread of the validation values. A
difference between two ways to compute the same thing that lies within it is rounding.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.splits.prepared import PreparedSplit
from models.fitness_model import FitnessModel
from search.config.run_config import RunConfig
from search.experiments.experiment import load_experiment
from search.request.inputs import load_split, places_of
from search.training.build import build_model
from search.training.fit import fit

WAYS = ("windows", "taps")
_UNIT = 2.0**-23


def values(config: RunConfig, split: PreparedSplit, runs: Path, n: int) -> Iterator[float]:
    """Yield the value as it is, and then those of `n` trainings that begin an instant beside."""
    for seed in range(n + 1):

        def beside(config: RunConfig, fold: int = 0, seed: int = seed) -> FitnessModel:
            model = build_model(config, fold)
            random = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for weights in model.parameters() if seed else ():
                    weights.mul_(1 + _UNIT * (torch.randint(0, 3, weights.shape, generator=random) - 1))
            return model

        with mock.patch("search.training.fold.build_model", beside), tempfile.TemporaryDirectory() as folder:
            run = fit(config, split, places=places_of(None, runs), directory=Path(folder), report=lambda *_: None)
        assert run.value is not None, run.reason
        yield run.value


def main() -> None:
    """Print a line for each way to compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    experiment = load_experiment(given.experiment)
    split = load_split(experiment.task(None), None, given.runs_dir, print, weights_dir=None)
    for way in WAYS:
        model = {**experiment.config.model, "convolution": way}
        first, *others = values(
            replace(experiment.config, model=model, logger=None), split, given.runs_dir, given.repeats
        )
        print(
            f"{way:8} {first:.4f} as it is; {np.mean(others):.4f} ± {np.std(others, ddof=1):.4f}, "
            f"{min(others):.4f} to {max(others):.4f}, of {len(others)} beside"
        )


if __name__ == "__main__":
    main()
