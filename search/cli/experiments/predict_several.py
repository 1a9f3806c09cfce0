"""The predict command with several experiments, or with what is required of a property: one table, ranked by all."""

import argparse
import sys
import time
from dataclasses import fields
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.common.files import STANDARD
from search.cli.experiments.predict_files import check_files, refuse_inputs_of
from search.machine.standard_streams import announcer, printable
from search.properties.request import PredictRequest

if TYPE_CHECKING:
    from search.properties.ranking import RankedCandidates


def predict_several(arguments: argparse.Namespace) -> int:
    """Predict by all experiments, rank, write one table."""
    started = time.monotonic()
    _refuse_of_one(arguments)
    experiments = (arguments.file, *arguments.others)
    own = [argparse.Namespace(**{**vars(arguments), "file": path}) for path in experiments]
    for one in own:
        check_files(one)
    given = {field.name: getattr(arguments, field.name) for field in fields(PredictRequest) if field.name in arguments}
    request = PredictRequest(**{**given, "experiments": experiments})

    from search.experiments.experiment import load_experiment

    for one in own:
        refuse_inputs_of(load_experiment(one.file), one)

    from search.properties.ranking import ranked
    from search.properties.table import check_kind, write_table

    assert request.output is not None, "run_predict says where"
    check_kind(request.output)
    with ranked(request, announcer(request.quiet)) as found:
        write_table(found, request.output)
    if not request.quiet:
        print(printable("\n".join(_lines(found, time.monotonic() - started))), file=sys.stderr)
    return 0


def _refuse_of_one(arguments: argparse.Namespace) -> None:
    """Refuse what is about one experiment. Raises a UserError."""
    for option, is_given, instead in (
        ("--unmeasured", arguments.unmeasured, "give candidates with --input, which may be the table itself"),
        ("--figure", arguments.figure is not None, "draw one map for each experiment"),
        ("--top-chance", arguments.top_chance is not None, "ask each experiment by itself"),
    ):
        if is_given:
            what = "a ranking by --require" if not arguments.others else "several experiments"
            raise UserError(f"{option} is of one experiment, ranked by its prediction, and not of {what}: {instead}.")


def _lines(found: "RankedCandidates", seconds: float) -> list[str]:
    from search.prediction.intervals import about_intervals
    from search.stats.calibration import LEVEL

    request, n = found.request, len(found)
    lines = [found.left_out.sentence] if found.left_out.n else []
    where = "" if request.output == STANDARD else f": {request.output}"
    names = ", ".join(one.name for one in found.properties)
    lines.append(f"{n:,} candidate{'s' * (n != 1)} ranked by {_how(found)} ({names}) in {seconds:.1f} s{where}")
    chosen = found.chosen
    for number, (one, columns) in enumerate(zip(found.properties, found.columns, strict=True)):
        n_outside = int((columns.outside[chosen] > 0).sum())
        asked = ""
        if number in found.bounds:
            low, high = found.bounds[number]
            asked = "; required: " + " and ".join(
                f"{sign}{bound:g}" for sign, bound in ((">=", low), ("<=", high)) if abs(bound) != float("inf")
            )
            if n_outside:
                asked += ", and where a row lies outside its chance is made of the errors on others, and too sure"
        lines.append(
            f"{one.name}: highest prediction {columns.prediction.max():.4g} ({one.units}; trained on "
            f"{one.trained.provenance.data}); {n_outside:,} of {len(chosen):,} written rows lie outside of what "
            f"was trained on{asked}."
        )
        lines.append(f"{one.name}: {about_intervals(one.trained, request.level or LEVEL)}")
    return lines


def _how(found: "RankedCandidates") -> str:
    if not found.bounds:
        fronts = found.order.by["front"]
        return (
            f"non-domination and crowding distance, {int((fronts == 1).sum()):,} in the first front of {fronts.max():,}"
        )
    is_all = len(found.bounds) == len(found.properties)
    return "the chance of what is required" + ("" if is_all else " times the value of the others")
