"""What validation alone chooses of several families: `python tests/benchmarks/bench_families.py TASK[=ALIGNMENT] ...`.

The rule, which was fixed before any test target was read: of `--families`, `--n-trials` trials each, with the default
spaces (to which an alignment adds its score columns), the one with the highest validation value is the choice. It is
confirmed whatever the test set says; so are all the others, whose best is the oracle's choice. With `--oracle` so is
every complete trial of each family, with one seed: what the best of them has on test is what validation could have
chosen at most. For GB1:

    gb1_one_vs_rest=gb1.a2m gb1_two_vs_rest=gb1.a2m gb1_three_vs_rest=gb1.a2m gb1_low_vs_high=gb1.a2m aav_two_vs_many
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import search
from tests.benchmarks.bench_scores import run


def main() -> None:
    """Search, confirm, and print a line for each task and family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--families", default="ridge,kernel")
    parser.add_argument("--n-trials", type=int, default=20)
    parser.add_argument("--override", action="append", default=[], help="for every search, such as trainer.threads=1")
    parser.add_argument("--oracle", action="store_true", help="confirm every complete trial as well")
    given = parser.parse_args()
    print(f"{'task':<20}{'family':<12}{'validation':>12}{'test':>8}", flush=True)
    for named in given.tasks:
        task, _, alignment = named.partition("=")
        data = ["--task", task, *(("--alignment", str(Path(alignment).absolute())) if alignment else ())]
        found = {}
        for family in given.families.split(","):
            value, test, of_trials = measure(data, family, given.n_trials, given.override, given.oracle)
            found[family] = value, test
            best = f"   best of {len(of_trials)} trials {max(of_trials):.4f}" if of_trials else ""
            print(f"{task:<20}{family:<12}{value:>12.4f}{test:>8.4f}{best}", flush=True)
        chosen = max(found, key=lambda family: found[family][0])
        oracle = max(found, key=lambda family: found[family][1])
        print(
            f"{task}: validation chooses {chosen}, {found[chosen][1]:.4f}; the oracle {oracle}, {found[oracle][1]:.4f}"
        )


def measure(
    data: list[str], family: str, n_trials: int, overrides: list[str], is_oracle: bool
) -> tuple[float, float, list[float]]:
    """The validation value of a family's best trial, the mean test Spearman of its confirmation's three seeds, and the
    test Spearman of every complete trial, if an oracle asks.
    """
    with tempfile.TemporaryDirectory() as folder:
        run(folder, *data, "--model", family, "--n-trials", str(n_trials), "--study-name", "s", *overrides)
        status = json.loads(run(folder, "status", "--study-name", "s", "--json"))
        confirmed = confirm(folder, "s", 3)
        tests: list[float] = []
        if is_oracle:
            trials = search.open_study("s", runs_dir=Path(folder) / "runs").trials
            for trial in trials:
                if trial.value is not None:
                    fixed = [f"{path}={value}" for path, value in trial.params.items()]
                    name = f"trial-{trial.number}"
                    run(folder, *data, "--model", family, "--n-trials", "1", "--study-name", name, *overrides, *fixed)
                    tests.append(confirm(folder, name, 1))
        return status["best"]["value"], confirmed, tests


def confirm(folder: str, name: str, n_seeds: int) -> float:
    """The mean test Spearman of an experiment."""
    words = ("confirm", f"studies/experiment/{name}.yaml", "--seeds", str(n_seeds), "--json")
    return float(json.loads(run(folder, *words))["test"]["spearman"]["mean"])


if __name__ == "__main__":
    main()
