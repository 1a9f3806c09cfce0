"""How many trials each sampler needs, and how many epochs each pruner: the measurement behind the two defaults.

    FLIPSEARCH_DATA=... python tests/benchmarks/bench_samplers.py compute    # hours of one core, resumable
    FLIPSEARCH_DATA=... python tests/benchmarks/bench_samplers.py show       # the tables, at once

A problem is a split and a family with its default space, first trials and validation; values are of validation rows,
and no test target is read. Its target is 99 % of the best value of 200 configurations that are drawn at random. A study
is run until a complete trial that keeps to the protocol has that value, with our settings of the sampler
(`studies/sampler/`), which is made anew for each trial as a search does it. `random` needs no studies of its own: its
trials are the 200, in a thousand orders, which flatters it a little, since the best of them set the target.

A configuration is trained once, to its last epoch, with seed 0 and one thread; what came of it is kept in `--folder`,
so that the same call goes on where it ended. Pruners look at the epochs that are kept, as they would while they are
reported: the same trials, with `tpe` and with the random ones, and the epochs that were seen until the target.

The rules, which were fixed before anything was measured:

1. A sampler's figure is the geometric mean, over all problems where every sampler has all of its seeds, of the median
   trials to the target; a study that does not get there within 200 trials counts as 200. The default is the sampler
   with the smallest figure, but stays `tpe` unless the other's is at most 0.9 of `tpe`'s, on no problem more than twice
   that of `tpe`, and a question takes at most 1 s of CPU time on average over these studies.
2. A pruner's figure is the same of the epochs to the target, with `tpe`, over the problems that have epochs. The
   default stays `hyperband` with its settings unless another's is at most 0.9 of its, and on no problem more than 1.5
   times as much.
"""

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.sampler_problems import PROBLEMS
from tests.benchmarks.sampler_runs import compute
from tests.benchmarks.sampler_tables import show

FOLDER = Path(__file__).parents[2] / "runs" / "samplers"


def main() -> None:
    """Compute or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("compute", "show"))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument(
        "--problems", nargs="+", choices=sorted(PROBLEMS), default=list(PROBLEMS), metavar="SPLIT-FAMILY"
    )
    parser.add_argument("--seeds", type=int, default=5, help="studies of each sampler and pruner on each problem")
    arguments = parser.parse_args()
    if arguments.what == "show":
        show(arguments.folder, arguments.problems, arguments.seeds)
    else:
        warnings.filterwarnings("ignore", module="lightning")
        compute(arguments.folder, arguments.problems, arguments.seeds)


if __name__ == "__main__":
    main()
