"""Our processes import our three packages from their checkout, and everything else from the environment."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.faulty import copy_program
from tests.helpers.planted import SEARCH, TRACE, Form, do_everything, plain_environment, plant, run
from tests.helpers.processes import ROOT

pytestmark = pytest.mark.timeout(2400)
PROGRAM = str(ROOT / "run_study.py")
RIDGE = ("--task", "synthetic_one_vs_rest", "--model", "ridge", "--n-trials", "1", "validation=holdout", "--quiet")
OURS = ("datasets", "models", "search")


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What all processes of `do_everything` looked for, by top-level name, and the PYTHONPATH that each had."""

    names: frozenset[str]
    given: str
    paths: tuple[str, ...]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp("traced")
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(TRACE)
    log = hook / "log"
    given = os.pathsep.join([str(hook), str(hook / "nothing")])
    do_everything(PROGRAM, folder, plain_environment(PYTHONPATH=given, TRACE_LOG=str(log)))
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    names = {name for kind, name in lines if kind == "import" and name.isidentifier()}
    return Traced(names=frozenset(names), given=given, paths=tuple(path for kind, path in lines if kind == "path"))


def plant_on_path(places: Sequence[Path], names: Iterable[str], marks: Path, environment: Mapping[str, str]) -> None:
    """Plant modules where PYTHONPATH leads to, in the first place among others.

    Not those that Python imports from there before it begins with a program, or looks for in vain.
    """
    command = [sys.executable, "-P", "-c", "import sys; print(*sys.modules)"]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True)
    begun_with = {name.partition(".")[0] for name in done.stdout.split()} | {"sitecustomize", "usercustomize"}
    for place in places:
        plant(place, set(names) - begun_with, marks, "modules")
    subprocess.run(command, env=environment, cwd=places[0], capture_output=True, check=True)
    for mark in marks.iterdir():
        for place in places:
            (place / f"{mark.name}.py").unlink()
        mark.unlink()


def check_planted(folder: Path, marks: Path) -> None:
    """What was planted works: a Python that does not know better executes it."""
    command = [sys.executable, "-c", "import yaml"]
    done = subprocess.run(command, cwd=folder, env=plain_environment(), capture_output=True, text=True)
    assert "yaml was planted" in done.stderr
    (marks / "yaml").unlink()


def marked(marks: Path) -> list[str]:
    return sorted(path.name for path in marks.iterdir())


def test_the_trace_has_what_is_known_to_be_imported(traced: Traced) -> None:
    """Of the standard library, the dependencies and our own; and what is looked for and not there."""
    assert traced.names >= {*OURS, "random", "multiprocessing", "yaml", "torch", "lightning", "optuna", "hydra_plugins"}
    assert traced.names >= {"optuna_dashboard", "bottle", "plotly", "esm"}


def test_every_process_has_the_users_pythonpath(traced: Traced) -> None:
    assert set(traced.paths) == {traced.given}
    # The programs; for those that train a resource tracker and a forkserver; two workers, with a forkserver each.
    assert len(traced.paths) >= 5 + 2 * 2 + 2 * 2


@pytest.mark.parametrize(
    ("where", "form", "safe"),
    [  # every pair of two of the three
        ("checkout", "packages", {}),
        ("elsewhere", "modules", {}),
        ("checkout", "modules", {"PYTHONSAFEPATH": "1"}),
        ("elsewhere", "packages", {"PYTHONSAFEPATH": "1"}),
    ],
)
def test_nothing_that_lies_in_the_working_directory_is_executed(
    where: str, form: Form, safe: dict[str, str], traced: Traced, tmp_path: Path
) -> None:
    """The program is called as the README does: `python run_study.py` in its checkout, or by its path."""
    folder, marks = tmp_path / where, tmp_path / "marks"
    folder.mkdir()
    if where == "checkout":
        copy_program(folder)
    plant(folder, traced.names, marks, form)
    check_planted(folder, marks)
    do_everything("run_study.py" if where == "checkout" else PROGRAM, folder, plain_environment(**safe))
    assert marked(marks) == []


def test_empty_folders_called_like_ours_hide_nothing(tmp_path: Path) -> None:
    for name in (*OURS, "torch", "lightning"):
        (tmp_path / name).mkdir()
    run(PROGRAM, *RIDGE, folder=tmp_path, environment=plain_environment())


@pytest.mark.parametrize(
    "path",
    ["{0}.", "{1}{0}lib{0}", "{1}{0}", "{0}{0}{1}", "./lib{0}{1}"],
)
def test_entries_of_pythonpath_that_mean_the_working_directory_are_dropped(
    path: str, traced: Traced, tmp_path: Path
) -> None:
    """What Python itself imports before a program begins is out of a program's reach, but not so for its children."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "sitecustomize.py").write_text(TRACE)
    environment = plain_environment(PYTHONPATH=path.format(os.pathsep, kept), TRACE_LOG=str(tmp_path / "log"))
    folder, marks = tmp_path / "here", tmp_path / "marks"
    folder.mkdir()
    (folder / "lib").mkdir()
    plant_on_path((folder, folder / "lib"), traced.names, marks, environment)
    (tmp_path / "log").unlink(missing_ok=True)
    run(PROGRAM, *RIDGE, folder=folder, environment=environment)
    assert marked(marks) == []
    if str(kept) in environment["PYTHONPATH"]:
        first, *children = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("path ")]
        assert first == f"path {environment['PYTHONPATH']}"
        assert len(children) >= 2
        assert set(children) == {f"path {kept}"}


def test_a_checkout_on_pythonpath_gives_its_packages_alone(traced: Traced, tmp_path: Path) -> None:
    checkout, marks, folder = tmp_path / "checkout", tmp_path / "marks", tmp_path / "elsewhere"
    checkout.mkdir()
    folder.mkdir()
    copy_program(checkout)
    environment = plain_environment(PYTHONPATH=str(checkout))
    plant_on_path((checkout,), traced.names, marks, environment)
    run(str(checkout / "run_study.py"), *RIDGE, folder=folder, environment=environment)
    assert marked(marks) == []


def test_installed_packages_called_like_ours_do_not_shadow_them(tmp_path: Path) -> None:
    """On PYTHONPATH, before everything else; in a folder of site-packages; and imported by its .pth file already."""
    marks, ahead, site, folder = (tmp_path / name for name in ("marks", "ahead", "site", "here"))
    for place in (ahead, site, folder):
        place.mkdir()
    plant(ahead, OURS, marks, "packages")
    run(PROGRAM, *RIDGE, folder=folder, environment=plain_environment(PYTHONPATH=str(ahead)))
    assert marked(marks) == []

    for name in OURS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(f"open({str(marks / name)!r}, 'w').close()\n")
    (site / "foreign.pth").write_text("import datasets, models, search\n")
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(
        f"import site, sys\nsys.path.insert(0, {str(site)!r})\nsite.addsitedir({str(site)!r})\n"
    )
    again = ("--study-name", "again")
    environment = plain_environment(PYTHONPATH=str(folder / "hook"))
    run(PROGRAM, *SEARCH, *again, folder=folder, environment=environment)
    assert marked(marks) == [*OURS]
    run(PROGRAM, "report", *again, folder=folder, environment=environment)


def test_a_link_to_the_program_finds_its_packages(tmp_path: Path) -> None:
    link = tmp_path / "bin" / "flipsearch"
    link.parent.mkdir()
    link.symlink_to(PROGRAM)
    (tmp_path / "yaml.py").write_text("raise AssertionError('executed')")
    (link.parent / "yaml.py").write_text("raise AssertionError('executed')")
    run(str(link), *RIDGE, folder=tmp_path, environment=plain_environment())
