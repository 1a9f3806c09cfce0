"""What validation alone chooses of several families: `python tests/benchmarks/bench_families.py TASK[=ALIGNMENT] ...`.

The rule, which was fixed before any test target was read: of `--families`, `--n-trials` trials each, with the default
spaces (to which an alignment adds its score columns), the one with the highest validation value is the choice. It is
confirmed whatever the test set says; so are all the others, whose best is the oracle's choice. For GB1:

    gb1_one_vs_rest=gb1.a2m gb1_two_vs_rest=gb1.a2m gb1_three_vs_rest=gb1.a2m gb1_low_vs_high=gb1.a2m aav_two_vs_many
"""

import argparse
import json
import tempfile
from pathlib import Path

from bench_scores import run


def main() -> None:
    """Search, confirm, and print a line for each task and family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--families", default="ridge,kernel")
    parser.add_argument("--n-trials", type=int, default=20)
    parser.add_argument("--override", action="append", default=[], help="for every search, such as trainer.threads=1")
    given = parser.parse_args()
    print(f"{'task':<20}{'family':<12}{'validation':>12}{'test':>8}", flush=True)
    for named in given.tasks:
        task, _, alignment = named.partition("=")
        data = ["--task", task, *(("--alignment", str(Path(alignment).absolute())) if alignment else ())]
        found = {}
        for family in given.families.split(","):
            found[family] = measure(data, family, given.n_trials, given.override)
            print(f"{task:<20}{family:<12}{found[family][0]:>12.4f}{found[family][1]:>8.4f}", flush=True)
        chosen = max(found, key=lambda family: found[family][0])
        oracle = max(found, key=lambda family: found[family][1])
        print(
            f"{task}: validation chooses {chosen}, {found[chosen][1]:.4f}; the oracle {oracle}, {found[oracle][1]:.4f}"
        )


def measure(data: list[str], family: str, n_trials: int, overrides: list[str]) -> tuple[float, float]:
    """The validation value of a family's best trial, and the mean test Spearman of its confirmation's three seeds."""
    with tempfile.TemporaryDirectory() as folder:
        run(folder, *data, "--model", family, "--n-trials", str(n_trials), "--study-name", "s", *overrides)
        status = json.loads(run(folder, "status", "--study-name", "s", "--json"))
        confirmed = json.loads(run(folder, "confirm", "studies/experiment/s.yaml", "--seeds", "3", "--json"))
        return status["best"]["value"], confirmed["test"]["spearman"]["mean"]


if __name__ == "__main__":
    main()
