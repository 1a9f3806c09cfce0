"""A search from Python: what docs/python.md shows, in a fresh interpreter and in this one."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from search.checkout import ROOT
from search.properties.request import PredictRequest
from search.request.combine_request import CombineRequest
from search.request.confirm_request import ConfirmRequest
from search.request.replay_request import ReplayRequest
from search.request.suggest_request import SuggestRequest
from tests.helpers.answers import run_here
from tests.helpers.tables import variants, write
from tests.unit.datasets.test_numbering import moved

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
TASK = "synthetic_two_vs_rest"
SOME = variants()[:300]


def request(folder: Path, **fields: object) -> search.SearchRequest:
    given = {"task": TASK, "model": "ridge", "n_trials": 2, "executor": "inline", "quiet": True}
    return search.SearchRequest(**{**given, "runs_dir": folder / "runs", "export_dir": folder / "export", **fields})


@pytest.mark.system
def test_the_script_of_the_page_runs(tmp_path: Path) -> None:
    """As a script without a guard for `__main__`: the children do not read it again."""
    script, _ = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len([line for line in script.splitlines() if line.strip()]) <= 15
    (tmp_path / "mine.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}")
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ended: budget; 4 trials, the best 0.")
    assert [line.split()[:2] for line in lines[1:5]] == [[str(i), "COMPLETE"] for i in range(4)]
    assert re.fullmatch(r"test Spearman 0\.\d{4}", lines[5])
    assert re.fullmatch(r"\[-?\d+\.\d*\]", lines[6])


@pytest.mark.slow
def test_an_inline_search_finds_what_one_in_children_finds_and_both_resume_each_other(tmp_path: Path) -> None:
    here = search.run_study(request(tmp_path / "here"))
    words = ("--task", TASK, "--model", "ridge", "--n-trials", "2", "--quiet")
    assert run_here(*words, cwd=tmp_path).status == 0
    there = search.open_study(f"{TASK}-ridge", runs_dir=tmp_path / "runs")
    assert here.ended == search.EndReason.BUDGET
    assert [trial.value for trial in here.study.trials] == [trial.value for trial in there.trials]
    again = search.run_study(request(tmp_path, n_trials=3, export_dir=tmp_path / "studies" / "experiment"))
    assert (again.n_before, again.n_finished) == (2, 3)
    assert search.load_experiment(again.experiment).config.model["_target_"] == "models.ridge.Ridge"


@pytest.mark.parametrize("model", ["ridge", "cnn"])
def test_a_search_in_this_process_leaves_its_settings_alone(model: str, tmp_path: Path) -> None:
    def settings() -> tuple[object, ...]:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))  # as many as others would have
        thread.start()
        thread.join()
        return *found, torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        before = settings()
        with warnings.catch_warnings():
            warnings.resetwarnings()
            search.run_study(request(tmp_path, model=model, n_trials=1, overrides=("debug=default",)))
            assert "lightning" not in [module.pattern for _, _, _, module, _ in warnings.filters if module is not None]
        assert settings() == before
    finally:
        torch.set_num_threads(threads)


def test_a_search_in_this_process_leaves_its_random_numbers_alone(tmp_path: Path) -> None:
    def drawn(*, searches: bool) -> tuple[float, float, float]:
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        if searches:
            search.run_study(request(tmp_path, model="cnn", n_trials=1, overrides=("debug=default",)))
        return random.random(), np.random.random(), float(torch.rand(()))

    assert drawn(searches=True) == drawn(searches=False)


def test_a_search_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    found: list[search.StudyOutcome] = []
    thread = threading.Thread(target=lambda: found.append(search.run_study(request(tmp_path, n_trials=1))))
    thread.start()
    thread.join()
    assert found[0].n_finished == 1


IN_A_SESSION = """
import os, signal, sys, threading, time
from pathlib import Path
import search

class Impatient:
    # Presses Ctrl-C again at each answer.
    def write(self, text):
        if "Finishing the running trial" in text or "Stopping the running trial" in text:
            os.kill(os.getpid(), signal.SIGINT)
    def flush(self): pass
    def isatty(self): return False

def press():
    while not list(Path("runs").glob("*/trial-*")):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

sys.ps1, sys.stderr = ">>> ", Impatient()
threading.Thread(target=press, daemon=True).start()
epochs = ["trainer.max_epochs=300", "trainer.patience=300", "trainer.threads=1"]
words = dict(task="synthetic_two_vs_rest", model="cnn", n_trials=1, study_name="s", overrides=epochs)
try:
    search.run_study(search.SearchRequest(**words))
except KeyboardInterrupt:
    print("the session goes on")
sys.stderr = sys.__stderr__
print(search.run_study(search.SearchRequest(**words, quiet=True)).ended)
print([trial.state.name for trial in search.open_study("s").trials])
"""


@pytest.mark.slow
def test_a_third_ctrl_c_ends_the_search_and_not_the_session(tmp_path: Path) -> None:
    words = [sys.executable, "-c", IN_A_SESSION]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, start_new_session=True)
    first, ended, states = done.stdout.splitlines()
    assert (first, ended) == ("the session goes on", "budget"), done
    assert states == "['FAIL', 'COMPLETE']", "what it stopped is run again, and nothing else"


@pytest.mark.slow
def test_time_that_is_over_is_said_and_the_same_request_goes_on(tmp_path: Path) -> None:
    outcome = search.run_study(request(tmp_path, timeout=0.001))
    assert (outcome.ended, outcome.study) == (search.EndReason.TIMED_OUT, None)
    assert search.run_study(request(tmp_path)).ended == search.EndReason.BUDGET


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"task": None}, "give either `task` or `data`"),
        ({"data": "assay.csv"}, "give either `task` or `data`"),
        ({"task": "gb1_two_vs_res"}, "Did you mean 'gb1_two_vs_rest'"),
        ({"model": "rige"}, "Did you mean 'ridge'"),
        ({"study_name": "../x"}, "study_name='../x' is not valid"),
        ({"n_trials": 0}, "n_trials=0 is not valid"),
        ({"workers": 2}, "leave `workers` out"),
        ({"overrides": ["model=cnn"]}, "leave it out"),
        ({"overrides": "sampler=random"}, "overrides='sampler=random' is one text: expected a list"),
        ({"split": "random"}, "--data FILE"),
        ({"overrides": ["model.alfa=1"]}, "alfa"),
        ({"overrides": [3]}, "overrides holds a value of type int: expected a list of texts."),
        ({"executor": "thread"}, "executor='thread' is not valid: expected process or inline."),
        ({"max_retries": -1}, "max_retries=-1 is not valid: expected a whole number of at least 0."),
        ({"timeout": -5}, "timeout=-5 is not valid: expected a number above 0."),
        ({"trial_timeout": "5"}, "trial_timeout='5' is not valid: expected a number above 0."),
        ({"gpu_hours": "3"}, "gpu_hours='3' is not valid: expected a number above 0."),
        ({"task": None, "data": 3}, "data is of type int: expected the path of a file or folder."),
        ({"task": 3}, "task is of type int: expected a text."),
        ({"n_trials": "3"}, "n_trials is of type str: expected a whole number."),
        ({"n_trials": 2.0}, "n_trials is of type float: expected a whole number."),
        ({"n_trials": None}, "n_trials is of type NoneType: expected a whole number."),
        ({"n_trials": 2**63}, "n_trials=9223372036854775808 is not valid"),
    ],
)
def test_what_is_not_valid_is_refused_in_a_sentence(fields: dict[str, object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        search.run_study(request(tmp_path, **fields))
    assert not (tmp_path / "runs").exists()


def test_numbers_of_other_types_are_taken_as_python_has_them() -> None:
    own = request(Path("x"), n_trials=np.int64(2), max_retries=np.int32(0), gpu_hours=np.float32(0.5), timeout=7)
    assert [type(value) for value in (own.n_trials, own.max_retries, own.gpu_hours, own.timeout)] == [
        int,
        int,
        float,
        int,
    ]
    assert json.dumps([own.n_trials, own.max_retries, own.gpu_hours]) == "[2, 0, 0.5]"


@pytest.mark.parametrize(
    ("door", "fields", "sentence"),
    [
        (ConfirmRequest, {"seeds": 0}, "seeds=0 is not valid: expected a whole number of at least 1."),
        (ConfirmRequest, {"seeds": "3"}, "seeds is of type str: expected a whole number."),
        (ConfirmRequest, {"top_k": 0}, "top_k=0 is not valid: expected a whole number of at least 1."),
        (ConfirmRequest, {"data": 3}, "data is of type int: expected the path of a file or folder."),
        (ConfirmRequest, {"experiments": "a.yaml"}, "experiments='a.yaml' is one path: expected a list, such as"),
        (ConfirmRequest, {"experiments": [3]}, "experiments holds a value of type int: expected a list of paths."),
        (CombineRequest, {"members": "3"}, "members is of type str: expected a whole number."),
        (CombineRequest, {"export": 3}, "export is of type int: expected a text."),
        (CombineRequest, {"data": 3}, "data is of type int: expected the path of a file or folder."),
        (SuggestRequest, {"others": "b.yaml"}, "others='b.yaml' is one path: expected a list, such as"),
        (SuggestRequest, {"batch": None}, "batch is of type NoneType: expected a whole number."),
        (PredictRequest, {"top": True}, "top is of type bool: expected a whole number."),
        (PredictRequest, {"experiments": [3]}, "experiments holds a value of type int: expected a list of paths."),
        (ReplayRequest, {"top": 0.5}, "top is of type float: expected a whole number."),
        (ReplayRequest, {"seed": -1}, "seed=-1 is not valid: expected a whole number of at least 0."),
        (ReplayRequest, {"seed": None}, "seed is of type NoneType: expected a whole number."),
    ],
)
def test_other_requests_are_checked_too(door: Any, fields: dict[str, object], sentence: str) -> None:
    given = {
        ConfirmRequest: {"experiments": ["a.yaml"]},
        CombineRequest: {"studies": ["a"], "export": "b"},
        SuggestRequest: {"experiment": "a.yaml", "batch": 8, "mutagenesis": "singles"},
        PredictRequest: {"experiments": "a.yaml", "mutagenesis": "singles", "top": np.int64(3)},
        ReplayRequest: {"experiment": "a.yaml", "top": np.int64(3)},
    }
    assert door(**given[door])
    with pytest.raises(UserError, match=re.escape(sentence)):
        door(**{**given[door], **fields})


def test_a_request_shows_no_password() -> None:
    assert "secret" not in repr(request(Path("x"), storage="postgresql://me:secret@host/db"))


def assay(folder: Path) -> Path:
    """The table of the page, which counts the wild type's first residue as 24; two of its rows were not measured."""
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    rows = [(moved(name, 23), "n.d." if i in (4, 5) else f"{value:.4f}") for i, (name, _, value) in enumerate(SOME)]
    return write(folder / "assay.csv", "mutant,fitness", rows)


def test_a_table_is_checked_as_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assay(tmp_path)
    monkeypatch.chdir(tmp_path)
    _, script = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(script, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "298 mutant fitness True"
    assert lines[1].startswith("note lines 6, 7 the target has no number but 'n.d.'")
    assert "random 214 24 60" in [" ".join(line.split()[:4]) for line in lines]
    assert capsys.readouterr() == ("", "")


def test_what_is_found_of_a_table_is_what_data_check_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, wild_type = assay(tmp_path), tmp_path / "wt.fasta"
    checked = search.check_table(path, wild_type=wild_type, first_position=24)
    assert capsys.readouterr() == ("", "")
    said = run_here("data", "check", str(path), "--wild-type", str(wild_type), "--first-position", "24", cwd=tmp_path)
    assert (checked.n_rows, checked.n_variants, checked.n_residues) == (300, 298, (32, 32))
    assert (checked.sequence_column, checked.group_column, checked.reliability) == (None, None, None)
    assert (checked.wild_type, checked.first_position) == (WILD_TYPE, 24)
    assert all(f"  {one.name:<14} {one.words}\n" in said.out for one in checked.splits)
    assert [one.name for one in checked.splits if not one.is_possible] == ["three_vs_rest"]
    assert checked.suggestion is not None
    assert " ".join(checked.suggestion.words) in said.out
    divided = search.check_table(str(path), wild_type=str(wild_type), first_position=24, split="random", split_seed=3)
    ((name, n),) = [(one.name, one.train + one.validation + one.test) for one in divided.splits]
    assert (name, n, divided.suggestion) == ("random", 298, None)
    with pytest.raises(AttributeError):
        divided.n_rows = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "target", "group", "sentence"),
    [
        ("a.csv", "fit\x1b[1mness", "g", r"the target column is 'fit\x1b[1mness', expected a line of text"),
        ("a.csv", "fitness", "g\x1b[1m", r"the group column is 'g\x1b[1m', expected a line of text"),
        ("a.parquet", "fitness\n(log2)", "g", r"the target column is 'fitness\n(log2)', expected a line of text"),
        ("a\tb.csv", "fitness", "g", r"the file is 'a\tb.csv', expected a line of text"),
    ],
)
def test_names_that_no_study_could_keep_are_refused(
    tmp_path: Path, file: str, target: str, group: str, sentence: str
) -> None:
    """The study would be called damaged by whoever reads it."""
    path, rows = tmp_path / file, [(sequence, value, i % 9) for i, (_, sequence, value) in enumerate(SOME)]
    if path.suffix == ".parquet":
        parquet.write_table(
            pa.table(dict(zip(("sequence", target, group), zip(*rows, strict=True), strict=True))), path
        )
    else:
        write(path, f"sequence,{target},{group}", rows)
    reading = {"target_column": target, "split": "by_group", "group_column": group}
    with pytest.raises(UserError, match=re.escape(sentence)):
        search.check_table(path, **reading)
    with pytest.raises(UserError, match=re.escape(sentence)):
        search.run_study(request(tmp_path, task=None, data=path, **reading))
    assert not (tmp_path / "runs").exists()


def test_a_wild_type_of_thousands_of_residues_is_searched(tmp_path: Path) -> None:
    wild_type = WILD_TYPE * 160
    (tmp_path / "wt.fasta").write_text(f">wt\n{wild_type}\n")
    rows = [(name, value) for name, _, value in SOME[:60]]
    path = write(tmp_path / "long.csv", "mutant,fitness", rows)
    own = request(tmp_path, task=None, data=path, wild_type=tmp_path / "wt.fasta", split="random", n_trials=1)
    assert search.run_study(own).n_finished == 1
    study = search.open_study("long-fitness-random-ridge", runs_dir=tmp_path / "runs")
    assert study.user_attrs["manifest"]["table"]["wild_type"] == wild_type
    assert search.run_study(own).n_before == 1


def test_what_is_wrong_with_a_table_is_found_or_refused(tmp_path: Path) -> None:
    path, wild_type = assay(tmp_path), tmp_path / "wt.fasta"
    checked = search.check_table(path, wild_type=wild_type)
    assert not checked.is_accepted
    (refused,) = [one for one in checked.findings if one.level == "refused"]
    assert refused.remedy == "give --first-position 24"
    for reading, says in (
        ({}, "which need the wild type"),
        ({"target_column": "activity"}, "has no column 'activity'"),
        ({"split": "by_chance"}, "There is no split 'by_chance'"),
        ({"split": "k_vs_rest"}, "--max-train-mutations N belong together"),
        ({"first_position": 10**9}, "first_position=1000000000 is not valid"),
        ({"replicate_columns": "plate A"}, "replicate_columns='plate A' is one text: expected a list, such as"),
    ):
        with pytest.raises(UserError, match=says):
            search.check_table(path, **reading)
    for given, says in (
        ((7,), "The table is given as a value of type int: expected the path of a file."),
        ((None,), "The table is given as a value of type NoneType: expected the path of a file."),
        ((["a.csv"],), "The table is given as a value of type list: expected the path of a file."),
    ):
        with pytest.raises(UserError, match=says):
            search.check_table(*given)
    for reading, says in (
        ({"wild_type": 7}, "wild_type is of type int: expected the path of a file."),
        ({"split": 7}, "split is of type int: expected a text."),
        ({"target_column": ["a"]}, "target_column is of type list: expected a text."),
        ({"split_seed": "x"}, "split_seed is of type str: expected a whole number."),
        ({"replicates": "median"}, "replicates='median' is not valid: expected mean, refuse, keep."),
        ({"replicate_columns": 4}, "replicate_columns is of type int: expected a list of texts."),
    ):
        with pytest.raises(UserError, match=says):
            search.check_table(path, **reading)
    with pytest.raises(TypeError, match="colour"):
        search.check_table(path, colour="red")


def test_a_plate_of_no_experiment_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="0 experiments are given"):
        search.suggest([], batch=8)
