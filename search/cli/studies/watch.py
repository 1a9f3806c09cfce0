"""`status --watch`: one study as it goes on, until Ctrl-C."""

import datetime
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType

from optuna import Study
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from datasets.common.errors import UserError
from search.machine.hardware import Gpu, find_gpus
from search.storage.database import Database
from search.storage.outages import StorageLost
from search.study.activity import RunningTrial
from search.study.control import Control
from search.study.snapshot import StudySnapshot
from search.workers.display import clock
from search.workers.signals import EXIT_TERMINATED

INTERVAL_S = 2.0
_NOTHING = "-"
_WORKER = ("worker", "slot", "trial", "fold", "epoch", "value", "running", "last heartbeat")
_GPU = ("GPU", "name", "use", "memory")


@dataclass(frozen=True, kw_only=True)
class View:
    """What one look at a study found: lines about it, who works on it, this machine's GPUs; how long leases last."""

    lines: tuple[str, ...]
    running: tuple[RunningTrial, ...]
    gpus: tuple[Gpu, ...]
    lease_s: float


def look(database: Database, study: Study) -> View:
    """How the study stands now."""
    now = StudySnapshot.of(study, database)
    counts, asked = now.counts, now.asked
    others = f"{counts.n_failed} failed, {counts.n_running} running, {counts.n_waiting} queued"
    pace = now.best_words
    if (rate := now.rate_per_hour) is not None:
        pace.append(f"{rate:.1f} trials per hour")
    if (left_s := now.remaining_s) is not None:
        pace.append(f"{clock(left_s)} left")
    lines = [
        f"Study {now.name}: {now.finished_words}, {others}",
        f"{asked.words} ({asked.data})" if asked else "",
        ", ".join(pace),
        *now.hours_words,
        *now.shared_words,
        _CONTROL_SENTENCES[now.control],
    ]
    shown, gpus = tuple(filter(None, lines)), tuple(find_gpus())
    return View(lines=shown, running=now.running, gpus=gpus, lease_s=database.lease.lease_s)


_CONTROL_SENTENCES: dict[Control, str] = {
    "run": "",
    "pause": "Paused: no trial is started until `resume`.",
    "drain": "Draining: no trial is started; the search command goes on.",
}


def as_table(view: View) -> RenderableType:
    """For a terminal."""
    parts: list[RenderableType] = [Text(line) for line in view.lines]
    workers = [_cells(trial, view.lease_s) for trial in view.running]
    for headers, rows in ((_WORKER, workers), (_GPU, list(map(_gpu_cells, view.gpus)))):
        if rows:
            table = Table(*headers, box=None, pad_edge=False)
            for row in rows:
                table.add_row(*map(Text, row))
            parts += [Text(), table]
    return Group(*parts)


def as_lines(view: View) -> str:
    """For a pipe or a log: the same in lines of words."""
    now = f"{datetime.datetime.now():%H:%M:%S}"
    names = ("", *(f"{header} " for header in _WORKER[1:]))
    lines = list(view.lines)
    for trial in view.running:
        cells = zip(names, _cells(trial, view.lease_s), strict=True)
        lines.append(", ".join(name + cell for name, cell in cells if cell != _NOTHING))
    lines += ["GPU " + ", ".join(_gpu_cells(gpu)) for gpu in view.gpus]
    return "\n".join(f"{now} {line}" for line in lines)


def _cells(trial: RunningTrial, lease_s: float) -> list[str]:
    age_s = trial.lease_age_s
    heard = _NOTHING if age_s is None else f"{max(0.0, age_s):.0f} s ago"
    if age_s is not None and age_s > lease_s:
        heard += ", lease expired"
    return [
        trial.worker or _NOTHING,
        trial.slot or _NOTHING,
        str(trial.trial),
        _NOTHING if trial.fold is None else str(trial.fold),
        _NOTHING if trial.epoch is None else str(trial.epoch),
        _NOTHING if trial.value is None else f"{trial.value:.4f}",
        clock(max(0.0, trial.running_s)),
        heard,
    ]


def _gpu_cells(gpu: Gpu) -> list[str]:
    use = _NOTHING if gpu.utilization_percent is None else f"{gpu.utilization_percent} %"
    has_memory = gpu.used_mib is not None and gpu.total_mib is not None
    memory = f"{gpu.used_mib:,} of {gpu.total_mib:,} MiB" if has_memory else _NOTHING
    return [str(gpu.index), gpu.name, use, memory]


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
