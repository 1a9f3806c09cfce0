"""The report of a study: one HTML file that says what was searched, what came of it, and how to repeat it."""

from pathlib import Path

from optuna import Study

from search.reporting import best_section as report_best
from search.reporting import figures
from search.reporting import search_section as report_search
from search.reporting.facts import Known
from search.reporting.html import code, folded, page, section
from search.reporting.proposals import Proposals
from search.storage.database import Database
from search.study.assessment import Assessment


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
