"""`status --watch`: one study as it goes on, until Ctrl-C."""

import datetime
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

from optuna import Study
from rich.console import Console
from rich.live import Live

from datasets.common.errors import UserError
from search.reporting.live_view import View, as_lines, as_table, look
from search.storage.database import Database
from search.storage.outages import StorageLost
from search.workers.signals import EXIT_TERMINATED

INTERVAL_S = 2.0


def watch(database: Database, study: Study, interval_s: float) -> int:
    """Show the study again and again. Ctrl-C is how it ends: exit status 0.

    Raises:
        UserError: The study is deleted while it is watched, or the database refuses us.
    """
    signal.signal(signal.SIGTERM, _leave)
    console = Console(highlight=False, markup=False)
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                _repeat(database, study, interval_s, lambda view: live.update(as_table(view), refresh=True))
        else:
            _repeat(database, study, interval_s, lambda view: print(as_lines(view), flush=True))
    except KeyboardInterrupt:
        pass
    return 0


def _repeat(database: Database, study: Study, interval_s: float, show: Callable[[View], None]) -> None:
    view = View(lines=(), running=(), gpus=(), lease_s=database.lease.lease_s)
    silent_since = ""
    while True:
        try:
            view = look(database, study)
            silent_since = ""
        except StorageLost:
            silent_since = silent_since or f"{datetime.datetime.now():%H:%M:%S}"
            sentence = f"{database.name} does not answer since {silent_since}; this is how the study stood before."
            show(replace(view, lines=(sentence, *view.lines)))
        except KeyError:
            raise UserError(f"Study {study.study_name!r} is no longer in {database.name}: it was deleted.") from None
        else:
            show(view)
        time.sleep(interval_s)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(EXIT_TERMINATED)  # by way of Live, which gives the terminal its cursor back
