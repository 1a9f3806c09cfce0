"""The report of a study: one HTML file that says what was searched, what came of it, and how to repeat it."""

import argparse
from pathlib import Path

from optuna import Study

from datasets.errors import UserError
from datasets.files import STANDARD, check_output, output, refuse_same_file
from search import report_best, report_search
from search import report_figures as figures
from search.attributes import MANIFEST
from search.honesty import Assessment
from search.operate import open_existing
from search.page import code, folded, page, section
from search.proposals import Proposals
from search.report_known import Known
from search.shown_state import REPORT
from search.storage import Database, sqlite_path
from search.study import find_study


def run_report(arguments: argparse.Namespace) -> int:
    """Write the report of a study and say where."""
    database = open_existing(arguments)
    study = find_study(database, arguments.study_name)
    if MANIFEST not in study.user_attrs:
        raise UserError(f"Study {study.study_name!r} has no manifest, so flipsearch did not make it: name another.")
    path: Path = arguments.output or arguments.runs_dir / study.study_name / REPORT
    export = arguments.export_dir / f"{study.study_name}.yaml"
    check_output(path, makes_folder=True)
    refuse_same_file(export, path, "the experiment")
    if (held := sqlite_path(database.storage.engine.url)) is not None:
        refuse_same_file(held, path, "the database")
    text = make_report(
        study, runs=arguments.runs_dir, export=export, proposals=Proposals.of(arguments), database=database
    )
    with output(path, makes_folder=True) as file:
        file.write(text)
    if path != STANDARD:
        print(f"Report: {path}")
    return 0


def make_report(
    study: Study,
    *,
    runs: Path,
    export: Path | None,
    proposals: Proposals,
    database: Database | None = None,
    assessment: Assessment | None = None,
) -> str:
    """The page, as text.

    Args:
        study: The study, with its manifest.
        runs: The runs directory, below which predictions are found.
        export: Where its experiment would stand; None if it was not exported.
        proposals: How the commands in it are written.
        database: That of the study, whose other studies may have read its test set; None: they are not asked.
        assessment: What its best value is worth, where that is known already.
    """
    known = Known.of(study, runs=runs, export=export, proposals=proposals, database=database, assessment=assessment)
    return page(
        f"Study {study.study_name}",
        *report_search.standing(known),
        section("What was searched", *report_search.searched(known)),
        section("How long it took", *report_search.duration(known), figures.timeline(known)),
        section("Best trial", *report_best.best(known)),
        section("Optimisation history", figures.history(known)),
        section("Learning curves", *report_best.curves(known)),
        section("Importance of the searched values", figures.importance(known)),
        section("Parallel coordinates", *figures.parallel_coordinates(known)),
        section("Slices", *figures.slices(known)),
        section("Predicted against measured", *report_best.predictions(known)),
        section("Trials that failed, or could not be used", *report_search.failures(known)),
        section("Test set", *report_best.test_set(known)),
        section("Cost", *report_search.costs(known)),
        section("Experiment file", *report_best.experiment(known)),
        section("Repeat it", code(report_best.commands(known)), folded("Versions", report_search.versions(known))),
    )
