"""The options of `suggest`, and the words that they take; the standard library alone."""

import argparse
from pathlib import Path

from datasets.common.errors import UserError
from search.options.of_experiments import add_reading_of_candidates, add_require
from search.options.parser import Parser, add_data_file, add_where
from search.options.values import count, level, multiple, mutagenesis, positive

ACQUISITIONS = ("greedy", "ucb", "thompson", "expected-improvement")
"""What a candidate is worth by itself."""
BATCH_UCB = "batch-ucb"
"""What it is worth beside those that were picked before it; of a single kernel on sequences."""
PLATES = (96, 384)
"""How many wells a plate may have."""
_OF_REPLAY = frozenset(
    {
        *("experiment", "command", "replay", "top", "output", "beta", "seed", "max_per_position", "min_distance"),
        *("others", "data", "data_dir", "weights_dir", "models_dir", "runs_dir", "quiet"),
    }
)
"""The options that a replay takes; what it picks from, and how many, follows from the rounds."""


def suggest_options(parser: Parser) -> None:
    """Those of `suggest`."""
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="e.g. studies/experiment/NAME.yaml")
    parser.add_argument(
        "others",
        type=Path,
        nargs="*",
        default=[],
        metavar="EXPERIMENT",
        help="more, a property each: the batch is picked by all",
    )
    add_require(parser)
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="how many wells: candidates, and --controls; required for a plate"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.csv",
        help="the plate, which has to have one; FILE.json beside it says what it was made of; or the table of --replay",
    )
    _add_replay(parser)
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="FILE.html, .png or .svg: where the batch lies among candidates"
    )
    _add_candidates(parser)
    _add_choice(parser)
    _add_wells(parser)
    add_data_file(parser)
    add_where(parser)


def check_suggest(parser: Parser, arguments: argparse.Namespace) -> None:
    """Refuse what a plate lacks, what a replay does not take, and an option of the other one.

    Raises:
        UserError: The options do not go together.
    """
    if not arguments.replay:
        if arguments.top is not None:
            raise UserError("--top is how many of the best a --replay looks for: give both, or neither.")
        missing = [f"--{name}" for name in ("batch", "output") if getattr(arguments, name) is None]
        if missing:
            parser.error(f"the following arguments are required: {', '.join(missing)}")
        return
    if arguments.others:
        raise UserError(f"--replay is of one experiment: leave {arguments.others[0]} out.")
    for name, value in vars(arguments).items():
        if name not in _OF_REPLAY and value != parser.get_default(name):
            given = "no-train" if value is False else name.replace("_", "-")
            raise UserError(
                f"--replay plays {', '.join(ACQUISITIONS)}, each batch as large as its round was, out of what was "
                f"measured: leave --{given} out."
            )


def _add_replay(parser: Parser) -> None:
    parser.add_argument(
        "--replay",
        action="store_true",
        help="no plate: play the rounds of the experiment's table again, with each acquisition and at random, and show "
        "what would have been found",
    )
    parser.add_argument(
        "--top",
        type=positive,
        metavar="N",
        help="with --replay: how many of the best variants are to be found (default: the best 1 %%, at least 10)",
    )


def _add_candidates(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--input", type=Path, metavar="FILE", help="candidates, as `predict` reads them; - is stdin")
    what.add_argument(
        "--mutagenesis",
        type=mutagenesis,
        metavar="WHAT",
        help="variants of the wild type: singles, doubles, doubles:11,170, or all combinations, sites:39,40,41,54",
    )
    what.add_argument(
        "--recombine",
        nargs="?",
        type=positive,
        const=0,
        metavar="N",
        help="combinations of the N best mutations that were measured (default: as many as give 200,000 candidates)",
    )
    parser.add_argument(
        "--max-mutations", type=positive, metavar="M", help="with --recombine: of a candidate at most (default: 3)"
    )
    add_reading_of_candidates(parser)


def _add_choice(parser: Parser) -> None:
    parser.add_argument(
        "--acquisition",
        choices=(*ACQUISITIONS, BATCH_UCB),
        help=f"by what candidates are picked (default: {BATCH_UCB} where one kernel on sequences picks, else greedy)",
    )
    parser.add_argument(
        "--beta",
        type=multiple,
        metavar="B",
        help="with ucb and batch-ucb: how many deviations are added to predictions (default: 1)",
    )
    parser.add_argument(
        "--seed", type=count, default=0, metavar="N", help="of thompson's draws, and a --replay's folds (default: 0)"
    )
    parser.add_argument(
        "--train",
        action=argparse.BooleanOptionalAction,
        help="train the models on all that was measured before they pick, which is the default but for thompson, or "
        "pick by those that the search left, each of which saw a part of it",
    )
    parser.add_argument(
        "--max-per-position", type=positive, metavar="K", help="at most K candidates with a mutation at one position"
    )
    parser.add_argument(
        "--min-distance", type=positive, metavar="D", help="candidates differ from each other in D residues at least"
    )
    parser.add_argument(
        "--spread",
        nargs="?",
        type=multiple,
        const=1.0,
        metavar="W",
        help="a determinantal pick: candidates that are unlike each other, to the kernel or in sequence; W is how much "
        "that counts beside their acquisition (default of W: 1)",
    )
    parser.add_argument("--level", type=level, metavar="SHARE", help="of the intervals from low to high (default: 0.9)")


def _add_wells(parser: Parser) -> None:
    parser.add_argument(
        "--plate",
        type=int,
        choices=PLATES,
        help="how many wells a plate has, which are then named; several plates where the batch is larger",
    )
    parser.add_argument(
        "--controls",
        type=count,
        default=0,
        metavar="N",
        help="wells of each plate for the wild type and the best measured variant, in turn (default: 0)",
    )
