"""Which way to choose among configurations holds on the test set: the experiment behind `validation=auto`.

    FLIPSEARCH_DATA=... python tests/benchmarks/bench_protocols.py compute    # about an hour of one core, resumable
    python tests/benchmarks/bench_protocols.py show                           # the tables, at once

40 configurations each of ridge, kernel and CNN, drawn at random from their default spaces, on three splits of GB1 and
two of AAV (of aav_two_vs_many 2,800 random rows of train and validation). The CNN trains for at most 8 to 40 epochs,
the more the smaller the split, and takes no part in `by position`. This benchmark reads test targets; in the service
`confirm` alone does.

Besides, 1,200 random rows of TEM-1's single mutants (`--tasks blat_random blat_by_position blat_by_group
blat_contiguous`), whose table
stands in the folder of `--tem1`, or below $FLIPSEARCH_DATA as assays/blat. There the rule of `auto` was fixed before
anything was measured. Ridge and kernel predict one number for unseen positions, so that the CNN alone says anything.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.protocol_choices import show
from tests.benchmarks.protocol_predictions import MODELS, N_CONFIGURATIONS, TASKS, TEM1, compute


def main() -> None:
    """Compute or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("compute", "show"))
    parser.add_argument("--tasks", nargs="+", choices=(*TASKS, *TEM1), default=TASKS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--configurations", type=int, default=N_CONFIGURATIONS, help="of each model")
    parser.add_argument("--tem1", type=Path, default=_tem1(), help="the folder of blat.csv.gz and P62593.fasta")
    arguments = parser.parse_args()
    if arguments.what == "show":
        show(arguments.tasks, arguments.models)
    else:
        warnings.filterwarnings("ignore", module="lightning")
        compute(arguments.tasks, arguments.models, arguments.tem1, arguments.configurations)


def _tem1() -> Path | None:
    data = os.environ.get("FLIPSEARCH_DATA")
    return Path(data) / "assays" / "blat" if data else None


if __name__ == "__main__":
    main()
