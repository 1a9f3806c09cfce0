"""What a search does before there is a study: it asks sampler and pruner, opens the database, has runs built."""

from typing import TYPE_CHECKING

from search.request.inputs import places_of, url_of
from search.request.precision import check_open
from search.request.search_request import SearchRequest
from search.request.wanted import WantedStudy
from search.study.config import StudyConfig
from search.workers.inline import starter

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.storage.database import Database
    from search.workers.display import Display
    from search.workers.messages import Checked
    from search.workers.signals import Signals


def open_for_search(request: SearchRequest, config: StudyConfig, display: "Display", signals: "Signals") -> "Database":
    """The database, once sampler and pruner have said that they can search; it is made if it has to be."""
    from search.storage.clocks import check_clock
    from search.storage.database import open_database
    from search.workers.worker import check_search

    check_search(config)
    database = open_database(
        url_of(request.storage, request.runs_dir),
        create=True,
        announce=display.announce,
        is_interrupted=lambda: signals.is_interrupted,
        lease=request.lease,
    )
    check_clock(database)
    return database


def check_reached_runs(
    request: SearchRequest,
    wanted: WantedStudy,
    split: "PreparedSplit",
    database: "Database",
    display: "Display",
    signals: "Signals",
) -> "Checked | None":
    """Build the model and the data of every kind of run that the space reaches, before anything trains.

    None where no trial is left to be run, or a signal came.
    """
    from search.study.study import needs_trials
    from search.workers.run_alone import check_runs

    if not needs_trials(database, wanted.name, request.n_trials):
        return None
    config = wanted.config
    reached = [config.run(params) for params in (*config.first_trials, *config.space.corners(config.defaults))]
    check_open(config, reached)
    places = places_of(request.weights_dir, request.runs_dir)
    n_first = len(config.first_trials)
    return check_runs(reached, split.path, places, display, signals, n_first=n_first, start=starter(request.executor))
