"""Studies that begin with the best configurations of earlier ones, by real searches."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import search
from datasets.common.errors import UserError
from search.storage.attributes import MANIFEST, WARM_START
from search.study.study import count
from tests.helpers.answers import run_here

TWO, ONE = "synthetic_two_vs_rest", "synthetic_one_vs_rest"
WORDS = ("trainer.threads=1", "validation=holdout")


def ask(folder: Path, name: str, task: str = TWO, **fields: Any) -> search.StudyOutcome:
    given = {"model": "ridge", "n_trials": 2, "executor": "inline", "quiet": True, "overrides": WORDS, **fields}
    where = {"runs_dir": folder / "runs", "export_dir": folder / "export"}
    return search.run_study(search.SearchRequest(task=task, study_name=name, **where, **given))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with study `a`: three trials of ridge regression. Tests copy it."""
    folder = tmp_path_factory.mktemp("earlier")
    ask(folder, "a", n_trials=3)
    return folder


@pytest.fixture
def folder(earlier: Path, tmp_path: Path) -> Path:
    return shutil.copytree(earlier, tmp_path / "own")


def test_a_study_begins_with_the_best_of_another_within_its_budget(folder: Path) -> None:
    best = sorted(search.open_study("a", runs_dir=folder / "runs").trials, key=lambda trial: -trial.value)
    outcome = ask(folder, "b", warm_start=["a"])
    trials = outcome.study.trials
    finished = [trial for trial in trials if trial.state.is_finished()]
    assert outcome.n_finished == 2
    assert [trial.params for trial in finished] == [trial.params for trial in best[:2]]
    assert [trial.user_attrs[WARM_START] for trial in finished] == [
        {"study": "a", "trial": trial.number} for trial in best[:2]
    ]
    assert [trial.value for trial in finished] == [trial.value for trial in best[:2]]
    record = outcome.study.user_attrs[MANIFEST]["warm_start"]
    assert [one["trial"] for one in record["trials"]] == [trial.number for trial in best]
    known = search.load_experiment(outcome.experiment).provenance.warm_start
    assert known == {
        "allow_seen": False,
        "selections": [{**record["selections"][0], "study": "a", "task": TWO, "n_seen": 0}],
        "trials": [{"study": "a", "trial": trial.number} for trial in best],
    }
    # It goes on with what it began with, whatever the earlier study finds or is; named anew it changes nothing.
    ask(folder, "a", n_trials=4)
    assert ask(folder, "b", n_trials=3).n_finished == 3
    again = ask(folder, "b", n_trials=5, warm_start=["a"])
    assert again.n_finished == 5
    assert count(again.study.trials).n_waiting == 0
    assert sum(WARM_START in trial.user_attrs for trial in again.study.trials) == 3
    with pytest.raises(UserError, match="was begun with --warm-start a, and cannot begin again"):
        ask(folder, "b", warm_start=["c"])
    with pytest.raises(UserError, match="was begun without --warm-start"):
        ask(folder, "a", warm_start=["b"])


def test_a_study_without_it_keeps_its_manifest_and_its_file(earlier: Path) -> None:
    assert "warm_start" not in search.open_study("a", runs_dir=earlier / "runs").user_attrs[MANIFEST]
    assert "warm_start" not in (earlier / "export" / "a.yaml").read_text()


def test_an_experiment_does_as_well(folder: Path) -> None:
    file = folder / "export" / "a.yaml"
    trial = search.load_experiment(file).provenance.trial
    outcome = ask(folder, "b", n_trials=1, warm_start=[str(file)])
    assert outcome.best.user_attrs[WARM_START] == {"study": "a", "trial": trial}


def test_two_who_begin_at_once_queue_it_once(folder: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: ask(folder, "b", n_trials=4, warm_start=["a"]), range(2)))
    trials = search.open_study("b", runs_dir=folder / "runs").trials
    assert count(trials).n_finished == 4
    assert sorted(trial.user_attrs[WARM_START]["trial"] for trial in trials if WARM_START in trial.user_attrs) == [
        0,
        1,
        2,
    ]


def test_a_choice_that_saw_the_test_sequences_is_refused_or_told_by_confirm(folder: Path) -> None:
    with pytest.raises(UserError, match=r"study 'a' trained or validated on 600 of this study's 2,600 test sequences"):
        ask(folder, "c", ONE, warm_start=["a"])
    outcome = ask(folder, "c", ONE, n_trials=1, warm_start=["a"], allow_seen=True)
    said = "began with configurations of study a, which trained or validated on 600 of these test sequences"
    answer = run_here("confirm", str(outcome.experiment), "--seeds", "1", "--unfinished", cwd=folder)
    assert answer.status == 0
    assert said in answer.out
    # What the first one saw is told of whoever begins with the second: its split alone has no such sequence.
    with pytest.raises(UserError, match="study 'a', with which c began, trained or validated on 600"):
        ask(folder, "d", ONE, warm_start=["c"])


def test_a_table_in_which_the_same_proteins_are_aligned_otherwise_saw_them_too(tmp_path: Path) -> None:
    residues = "ACDEFGHIKLMNPQRSTVWY"
    variants = [("MKTAYIAKQR", 0.5)]
    variants += [(f"MKT{one}YIAKQR", place / 10) for place, one in enumerate(residues) if one != "A"]
    variants += [(f"MKT{one}YI{one}KQR", 2 + place / 10) for place, one in enumerate(residues) if one != "A"]
    for name, gap in (("plain", ""), ("aligned", "-")):
        rows = [f"{sequence[:2]}{gap}{sequence[2:]},{target}" for sequence, target in variants]
        (tmp_path / f"{name}.csv").write_text("\n".join(["sequence,target", *rows, ""]))
    for earlier, later in (("plain", "aligned"), ("aligned", "plain")):
        words = ("--model", "ridge", "--n-trials", "1", *WORDS, "--runs-dir", "runs", "--export-dir", "export")
        of_earlier = ("--data", f"{earlier}.csv", "--split", "random", "--study-name", earlier)
        assert run_here(*of_earlier, *words, cwd=tmp_path).status == 0
        of_later = ("--data", f"{later}.csv", "--split", "random", "--split-seed", "7", "--study-name", f"{later}-2")
        answer = run_here(*of_later, *words, "--warm-start", earlier, cwd=tmp_path)
        assert answer.status == 2
        assert f"study '{earlier}' trained or validated on 6 of this study's 8 test sequences" in answer.err


def test_a_split_that_is_gone_is_refused_or_said(folder: Path) -> None:
    for file in (folder / "runs" / "cache" / "splits").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="nobody can tell whether it trained or validated on"):
        ask(folder, "c", ONE, warm_start=["a"])
    outcome = ask(folder, "c", ONE, n_trials=1, warm_start=["a"], allow_seen=True)
    known = search.load_experiment(outcome.experiment).provenance.warm_start
    assert [one["n_seen"] for one in known["selections"]] == [None]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--warm-start", "aa"), "Did you mean 'a'"),
        (("--warm-start", "nope.yaml"), "nope.yaml cannot be read"),
        (("--warm-start", "own"), "cannot begin with its own"),
        (("--warm-start", "a\x1b[2J"), "is not valid: name a study"),
        (("--warm-start", "a", "space.model.alpha.low=1e6", "space.model.alpha.high=1e7"), "No configuration"),
        (("--warm-start", "a", "model.alpha=1"), "its space is empty"),
        (("--warm-start", "a", "--model", "cnn"), "for a search of one model"),
        (("--allow-seen",), "--allow-seen is for --warm-start"),
        (("--warm-start=",), "is given an empty value"),
    ],
)
def test_what_no_study_can_begin_with_is_refused_in_a_sentence(
    earlier: Path, words: tuple[str, ...], sentence: str
) -> None:
    search_words = ("--task", TWO, "--model", "ridge", "--study-name", "own", "--n-trials", "1", *WORDS)
    answer = run_here(*search_words, "--runs-dir", "runs", "--export-dir", "export", *words, cwd=earlier)
    assert (answer.status, sentence in answer.err) == (2, True), answer
    assert "\x1b" not in answer.err
    assert not (earlier / "runs" / "own").exists()


@pytest.mark.parametrize("value", ["abc", None, 1e9, -1.0])
def test_what_somebody_queued_outside_of_the_space_fails_and_the_search_goes_on(folder: Path, value: object) -> None:
    optuna.load_study(study_name="a", storage=f"sqlite:///{folder / 'runs' / 'studies.db'}").enqueue_trial(
        {"model.alpha": value}
    )
    outcome = ask(folder, "a", n_trials=4)
    assert (outcome.n_finished, count(outcome.study.trials).n_failed) == (4, 1)
    failed = next(trial for trial in outcome.study.trials if trial.state == TrialState.FAIL)
    assert failed.user_attrs["ending"] == "bug"
    assert "are not of the study's space" in failed.user_attrs["reason"]
