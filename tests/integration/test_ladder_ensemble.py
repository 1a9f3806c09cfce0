"""The ensemble at the end of a ladder of real studies: made, shown, made again; and what happens where it cannot be."""

import errno
import json
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

import search
from search.experiments.experiment import load_experiment
from search.experiments.files import weights_folder
from search.experiments.members import part_paths
from search.reporting.ladder_table import recommends_ensemble
from tests.helpers.answers import Answer, run_here
from tests.helpers.processes import ROOT, Search, finish, signal_group, wait_until
from tests.helpers.study_fixtures import FinishedStudy

TASK = "synthetic_two_vs_rest"
RIDGE, KERNEL, ENSEMBLE = (f"{TASK}-{name}" for name in ("ridge", "kernel", "ensemble"))
MORE = ("--model", "kernel", "--n-trials", "2")


@pytest.fixture(scope="module")
def climbed(finished_study: FinishedStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A ladder of ridge and kernel with two trials each, and what it said."""
    folder = tmp_path_factory.mktemp("ladder")
    shutil.copytree(finished_study.folder, folder, dirs_exist_ok=True)
    answer = run_here(*finished_study.command, *MORE, cwd=folder)
    assert answer.status == 0, answer
    return folder, answer


@pytest.fixture
def copy(climbed: tuple[Path, Answer], tmp_path: Path) -> Path:
    """The same folder, to be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(climbed[0], folder)
    return folder


@pytest.fixture
def again(finished_study: FinishedStudy) -> Callable[..., Answer]:
    """Repeats the ladder in a folder."""

    def run(folder: Path, *more: str) -> Answer:
        answer = run_here(*finished_study.command, *MORE, *more, cwd=folder)
        assert "Traceback" not in answer.out + answer.err
        return answer

    return run


def ensemble_of(folder: Path) -> Path:
    return folder / "exported" / f"{ENSEMBLE}.yaml"


def forget_weights(folder: Path) -> None:
    """As if `--keep-top` had kept no trial's."""
    files = list((folder / "runs").glob("*/trial-*/fold*.safetensors"))
    assert files
    for file in files:
        file.unlink()


def test_the_ladder_exports_the_ensemble_shows_it_as_a_row_and_says_which_file_to_take(
    climbed: tuple[Path, Answer],
) -> None:
    folder, answer = climbed
    experiment = load_experiment(ensemble_of(folder))
    ensemble = experiment.ensemble
    assert ensemble is not None
    assert ensemble.origins.studies == [KERNEL, RIDGE]
    assert len(ensemble.members) > 1, "a ladder on which nothing is averaged would show little here"
    table = answer.out.partition("Ladder on")[2]
    headers, *lines = (re.split(r"  +", line) for line in table.splitlines()[1:])
    rows = {line[0]: dict(zip(headers, line, strict=True)) for line in lines if len(line) == len(headers)}
    row = rows["ensemble"]
    assert row["trials"] == f"{len(ensemble.members)} of {ensemble.origins.n_candidates}"
    assert row["validation Spearman"] == f"{ensemble.origins.value:.4f}"
    low, high = map(float, row["95 % interval"].split(" to "))
    assert low < ensemble.origins.value < high
    assert row["models"] == str(len(ensemble.members)), "of a holdout, each member is one model"
    assert rows["kernel"]["models"] == "1"
    cpu_s = 0.0
    for part in experiment.parts:
        study = search.open_study(part.provenance.study, runs_dir=folder / "runs")
        cpu_s += study.trials[part.provenance.trial].user_attrs["result"]["cpu_s"]
    assert row["CPU-seconds"] == f"{cpu_s:,.0f}"
    best = max(rows["ridge"]["validation Spearman"], rows["kernel"]["validation Spearman"])
    assert recommends_ensemble(ensemble.origins.value, float(best)), "for any seed of the selection"
    assert f"Recommended: exported/{ENSEMBLE}.yaml (the ensemble: on validation, it is " in table
    assert "\nThe other one: exported/" in table
    assert f"exported/{ENSEMBLE}.yaml\n" in table, "the command that confirms all has it too"


def test_nothing_to_do_makes_the_same_ensemble_and_trains_nothing(copy: Path, again: Callable[..., Answer]) -> None:
    forget_weights(copy)
    path = ensemble_of(copy)
    before = path.stat(), path.read_bytes()
    answer = again(copy)
    assert answer.status == 0, answer
    assert "it is trained again" not in answer.err
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before[0].st_mtime_ns, before[0].st_ino)
    assert path.read_bytes() == before[1]
    assert "\nensemble  " in answer.out
    # Weights that are not those of the file any more are trained again, and put in their place.
    file = weights_folder(part_paths(path, load_experiment(path))[1]) / "fold0.safetensors"
    content = file.read_bytes()
    file.unlink()  # the search may have the same file by another name
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    answer = again(copy)
    assert answer.err.count("it is trained again") == 1
    assert file.read_bytes() == content
    assert path.read_bytes() == before[1]


def test_quiet_makes_the_ensemble_and_prints_nothing(copy: Path, again: Callable[..., Answer]) -> None:
    path = ensemble_of(copy)
    before = load_experiment(path).ensemble
    path.unlink()
    shutil.rmtree(weights_folder(path))
    answer = again(copy, "--quiet")
    assert (answer.status, answer.out, answer.err) == (0, "", "")
    after = load_experiment(path).ensemble
    assert before is not None
    assert after is not None
    assert [(one.words, one.share) for one in after.members] == [(one.words, one.share) for one in before.members]
    path.write_text("mine")
    answer = again(copy, "--quiet")
    assert (answer.status, answer.out, answer.err) == (0, "", ""), "what cannot be made stays unsaid as well"


def test_a_broken_ledger_of_anybody_takes_nobodys_table(copy: Path, again: Callable[..., Answer]) -> None:
    (copy / "exported" / "another.ledger.jsonl").write_text("{\n")
    answer = again(copy, "--no-ensemble")
    assert answer.status == 0, answer
    assert "warning: exported/another.ledger.jsonl, line 1 is no reading of a test set" in answer.err
    assert "\nTake " in answer.out


def test_no_ensemble_makes_none_and_names_the_command(copy: Path, again: Callable[..., Answer]) -> None:
    path = ensemble_of(copy)
    path.unlink()
    shutil.rmtree(weights_folder(path))
    answer = again(copy, "--no-ensemble")
    assert answer.status == 0, answer
    assert not path.exists()
    assert "\nensemble" not in answer.out
    assert "\nTake kernel: " in answer.out
    assert f"combine {RIDGE} {KERNEL} --export {ENSEMBLE} --export-dir exported" in answer.out


def place_taken(folder: Path) -> None:
    ensemble_of(folder).write_text("mine")


def predictions_elsewhere(folder: Path) -> None:
    for file in (folder / "runs" / RIDGE).glob("trial-*/validation.safetensors"):
        file.unlink()


def folder_taken(folder: Path) -> None:
    """Somebody put a file where the members' weights belong."""
    path = ensemble_of(folder)
    path.unlink()
    shutil.rmtree(weights_folder(path))
    weights_folder(path).write_text("in the way")


def nothing_allowed(folder: Path) -> None:
    """As trials are noted whose predictions rise with the number of mutations."""
    with sqlite3.connect(folder / "runs" / "studies.db") as database:
        database.execute(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT trial_id, 'excess_rise', '0.5' FROM "
            "trials JOIN studies USING (study_id) WHERE study_name = ?",
            [RIDGE],
        )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (place_taken, "exists and is no ensemble of these studies"),
        (predictions_elsewhere, f"trial\\(s\\) of study {RIDGE} predicted .* is not in"),
        (folder_taken, f"exported/{ENSEMBLE}.* (cannot be written|is no folder)"),
        (nothing_allowed, "Fewer than two families have a trial that keeps to what its protocol asks for."),
    ],
)
def test_where_it_cannot_be_made_the_ladder_says_why_and_goes_on(
    copy: Path, again: Callable[..., Answer], change: Callable[[Path], None], why: str
) -> None:
    change(copy)
    answer = again(copy)
    assert answer.status == 0, answer
    table = answer.out.partition("Ladder on")[2]
    (said,) = [line for line in table.splitlines() if line.startswith("There is no ensemble: ")]
    assert re.search(why, said), said
    assert "\nensemble " not in table
    assert "\nTake " in table
    assert list((copy / "runs" / "combine").iterdir()) == []


def test_families_that_were_validated_otherwise_have_no_ensemble(copy: Path, finished_study: FinishedStudy) -> None:
    """The study of ridge was begun by `auto`, which chose a holdout then and chooses folds for the kernel now."""
    with sqlite3.connect(copy / "runs" / "studies.db") as database:
        ((number, value),) = database.execute(
            "SELECT study_user_attribute_id, value_json FROM study_user_attributes JOIN studies USING (study_id) WHERE "
            "study_name = ? AND key = 'protocol'",
            [RIDGE],
        )
        protocol = {**json.loads(value), "shown": "auto: holdout"}
        database.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE study_user_attribute_id = ?",
            [json.dumps(protocol), number],
        )
    optuna.delete_study(study_name=KERNEL, storage=f"sqlite:///{copy / 'runs' / 'studies.db'}")
    words = [word for word in finished_study.command if word != "validation=holdout"]
    answer = run_here(*words, "--model", "kernel", "--n-trials", "1", cwd=copy)
    assert answer.status == 0, answer
    assert "There is no ensemble: Study " in answer.out
    assert "has another validation (auto: " in answer.out
    assert "validated on different sequences" in answer.out


def test_no_time_is_left_for_it(copy: Path, again: Callable[..., Answer]) -> None:
    before = ensemble_of(copy).read_bytes()
    answer = again(copy, "--timeout", "0.001")
    assert "There is no ensemble: The --timeout was over before it was made" in answer.out
    assert ensemble_of(copy).read_bytes() == before


def test_a_full_disk_takes_nobodys_table(
    copy: Path, again: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ensemble_of(copy).unlink()
    monkeypatch.setattr("search.combination.freeze", full)
    answer = again(copy)
    assert answer.status == 0, answer
    assert "There is no ensemble: The machine gave no more: No space left on device; make room" in answer.out
    assert "\nTake " in answer.out


@pytest.mark.system
def test_a_confirmed_ensemble_is_judged_by_the_test_set(copy: Path, again: Callable[..., Answer]) -> None:
    files = [f"exported/{name}.yaml" for name in (RIDGE, KERNEL, ENSEMBLE)]
    assert run_here("confirm", *files, "--seeds", "1", cwd=copy).status == 0
    table = again(copy).out.partition("Ladder on")[2]
    (row,) = [line for line in table.splitlines() if line.startswith("ensemble ")]
    assert re.search(r" 0\.\d{4} \(1 seed\) +0\.\d\d to 0\.\d\d ", row)
    assert "The ensemble averages " in table
    assert re.search(r"On the test set, it is 0\.\d{4} (above|below) the best family \((ridge|kernel)\), 95 %", table)
    assert "confirm" not in table
    assert "Recommended: exported/" in table


# The program, whose children stand still: what is trained again goes on until the signal, on the fastest machine too.
HELD = """
import os, signal, sys
import search.workers.child as child
from search.cli.main import main

begin = child.Child._begin

def begin_and_stand(self):
    begin(self)
    os.kill(self._process.pid, signal.SIGSTOP)

child.Child._begin = begin_and_stand
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_is_made_ends_the_ladder_cleanly(
    copy: Path, finished_study: FinishedStudy, number: int
) -> None:
    forget_weights(copy)
    path = ensemble_of(copy)
    path.unlink()
    shutil.rmtree(weights_folder(path))
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{HELD}"
    process = Search([sys.executable, "-c", program, *finished_study.command, *MORE], copy)
    wait_until(process, lambda: "it is trained again" in process.said())
    signal_group(process, number)
    status, said = finish(process)
    assert status == 128 + number, said
    assert "Traceback" not in said
    assert "Ladder on" not in said
    assert not path.exists()
    assert list((copy / "runs" / "combine").iterdir()) == []
