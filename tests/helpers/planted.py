"""Modules that leave a mark when they are executed, and everything that a user does where they lie."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from tests.helpers.dashboards import Dashboard, address_of, end, start_dashboard

TASK = "synthetic_one_vs_rest"
NAME = f"{TASK}-cnn"
SEARCH = (
    *("--task", TASK, "--model", "cnn", "--n-trials", "4", "--workers", "2", "validation=holdout", "pruner=nop"),
    *("trainer.max_epochs=1", "trainer.threads=1", "model.channels=16", "model.depth=1"),
)
"""Enough trials for a report; with two workers all kinds of processes are started."""
Form = Literal["modules", "packages"]
# Every interpreter that finds this on its PYTHONPATH says what it has there, and which modules it looks for: there is
# an event for `import`, but none for importlib's functions, which ask the finders.
TRACE = """
import os
import sys

_log = os.open(os.environ["TRACE_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_known = set()

def _note(name):
    name = name.partition(".")[0]
    if name not in _known:
        _known.add(name)
        os.write(_log, f"import {name}\\n".encode())

class _Finder:
    def find_spec(self, name, path=None, target=None):
        _note(name)

os.write(_log, f"path {os.environ.get('PYTHONPATH')}\\n".encode())
for _name in sys.modules:
    _note(_name)
sys.meta_path.insert(0, _Finder())
sys.addaudithook(lambda event, args: _note(args[0]) if event == "import" else None)
"""


def plant(folder: Path, names: Iterable[str], marks: Path, form: Form) -> None:
    """Lay a module of every name into a folder, not over what is there; what is executed leaves a file in `marks`."""
    marks.mkdir(exist_ok=True)
    for name in names:
        path = folder / f"{name}.py" if form == "modules" else folder / name / "__init__.py"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"open({str(marks / name)!r}, 'w').close()\nraise ImportError('{name} was planted')\n")


def plain_environment(**more: str) -> dict[str, str]:
    """This process's environment, without what says where Python finds modules."""
    without = {"PYTHONPATH", "PYTHONSAFEPATH", "PYTHONNOUSERSITE", "FLIPSEARCH_STORAGE"}
    return {**{key: value for key, value in os.environ.items() if key not in without}, **more}


def do_everything(program: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Search, predict, confirm, report and look at the dashboard in a folder; `program` is run_study.py's path."""
    experiment = f"studies/experiment/{NAME}.yaml"
    for words in (
        SEARCH,
        ("predict", experiment, "--mutagenesis", "singles", "--top", "5", "--output", "ranked.csv"),
        ("confirm", experiment, "--seeds", "1"),
        ("report", "--study-name", NAME),
    ):
        run(program, *words, folder=folder, environment=environment)
    command = (sys.executable, program, "dashboard", "--port", "0")
    process = start_dashboard(folder, command=command, environment=environment)
    try:
        dashboard = Dashboard(process=process, address=address_of(process))
        assert dashboard.studies() == [NAME]
        assert len(dashboard.study()["trials"]) == 4
        assert dashboard.ask("").status == 200
    finally:
        ended = end(process, signal.SIGINT)
    assert ended == (0, "", "")


def run(program: str, *words: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command that has to succeed; its output."""
    done = subprocess.run(
        [sys.executable, program, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, (words, done.stdout)
    assert "Traceback" not in done.stdout
    return done.stdout
