"""Checkpoints, logs and metrics beside the trials in the dashboard; the best trials' checkpoints stay, others go."""

import errno
import json
import os
import shutil
import threading
import uuid

import optuna
import pytest
import yaml
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta
from optuna.trial import TrialState
from sqlalchemy import event

from search.reporting import dashboard_note as shown_state
from search.reporting.proposals import Proposals
from search.storage.attributes import N_TARGET
from search.storage.database import open_database
from search.storage.resilient import set_attributes
from search.storage.url import default_url
from search.study import artifacts
from search.study.artifacts import Artifacts, attributes_of, hash_or_missing
from search.training.result import Result
from tests.helpers.small_study import ABOUT

NAME = "a-study"
# Trials are asked for by hand here.
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


@pytest.fixture
def database(tmp_path):
    database = open_database(default_url(tmp_path), create=True)
    yield database
    database.storage.engine.dispose()


@pytest.fixture
def study(database):
    return optuna.create_study(study_name=NAME, storage=database.storage, direction="maximize")


@pytest.fixture
def sentences():
    return []


@pytest.fixture
def make(tmp_path, sentences):
    """The artifacts of the study, as one more worker handles them."""

    def make(keep_top=2):
        return Artifacts(directory=tmp_path / NAME, keep_top=keep_top, announce=sentences.append)

    return make


def result(value, n_folds=1):
    return Result(
        ending="complete",
        reason="",
        value=value,
        values=((value,),) * n_folds,
        best_epochs=(0,) * n_folds,
        checkpoints=tuple(f"somewhere/else/fold{fold}.safetensors" for fold in range(n_folds)),
        n_parameters=1,
        seconds=1.0,
        peak_memory_bytes=1,
        threads=1,
        device="cpu",
        micro_batch_tokens=None,
        backbone=None,
        n_embedded=0,
    )


def train(study, keeper, *, n_folds=1, **how):
    """Ask for a trial and write what a child would have left in its folder."""
    trial = study.ask(**how)
    folder = keeper.directory / f"trial-{trial.number:05d}"
    for fold in range(n_folds):
        (folder / "logs" / f"fold{fold}").mkdir(parents=True)
        (folder / f"fold{fold}.safetensors").write_bytes(b"weights of %d" % trial.number)
        (folder / "logs" / f"fold{fold}" / "metrics.csv").write_text("epoch\n0\n")
    (folder / "log.txt").write_text("a word\n")
    return trial


def finish(study, keeper, trial, value, n_folds=1):
    files = keeper.plan(trial.number, result(value, n_folds))
    set_attributes(trial, user={}, system=attributes_of(files))
    keeper.keep(trial.number, files)
    study.tell(trial, value)
    keeper.remove_others(study.get_trials(deepcopy=False))


def with_checkpoints(keeper):
    """The numbers of the trials whose folders hold checkpoints."""
    return {int(path.parent.name[-5:]) for path in keeper.directory.glob("trial-*/fold0.safetensors")}


def stored(study, keeper):
    """(number, file name) of what the artifact store holds."""
    store = keeper.directory.parent / "artifacts"
    return {
        (trial.number, meta.filename)
        for trial in study.trials
        for meta in get_all_artifact_meta(trial, storage=study._storage)
        if (store / meta.artifact_id).exists()
    }


def test_artifacts_are_optunas_and_take_no_space(study, make, tmp_path):
    keeper = make()
    trial = train(study, keeper, n_folds=2)
    finish(study, keeper, trial, 0.5, n_folds=2)
    metas = get_all_artifact_meta(study.trials[0], storage=study._storage)
    assert {meta.filename: meta.mimetype for meta in metas} == {
        "fold0.safetensors": "application/octet-stream",
        "fold1.safetensors": "application/octet-stream",
        "log.txt": "text/plain",
        "fold0-metrics.csv": "text/csv",
        "fold1-metrics.csv": "text/csv",
    }
    store = FileSystemArtifactStore(tmp_path / "artifacts")
    wanted = next(meta for meta in metas if meta.filename == "fold1.safetensors")
    download_artifact(artifact_store=store, artifact_id=wanted.artifact_id, file_path=str(tmp_path / "got"))
    original = keeper.directory / "trial-00000" / "fold1.safetensors"
    assert (tmp_path / "got").read_bytes() == original.read_bytes()
    assert os.path.samefile(original, tmp_path / "artifacts" / wanted.artifact_id)


def test_where_links_are_impossible_files_are_copied(study, make, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    keeper = make()
    finish(study, keeper, train(study, keeper), 0.5)
    assert {path.read_bytes() for path in (tmp_path / "artifacts").iterdir()} >= {b"weights of 0", b"a word\n"}


def test_all_that_is_written_about_a_trial_is_one_transaction(study, make, database):
    keeper = make()
    trial = train(study, keeper)
    files = keeper.plan(trial.number, result(0.5))
    commits = []
    event.listen(database.storage.engine, "commit", lambda connection: commits.append(1))
    record = json.loads(json.dumps(result(0.5).record()))
    set_attributes(trial, user={"result": record, "ending": "complete"}, system=attributes_of(files))
    assert len(commits) == 1
    frozen = study.trials[0]
    assert frozen.user_attrs == {"result": record, "ending": "complete"}
    assert len(get_all_artifact_meta(frozen, storage=study._storage)) == 3
    study.tell(trial, 0.5)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        set_attributes(trial, user={"ending": "pruned"}, system={})


def test_checkpoints_of_the_best_stay_and_those_of_others_go(study, make):
    keeper = make(keep_top=2)
    for value, expected in [(0.5, {0}), (0.7, {0, 1}), (0.6, {1, 2}), (0.1, {1, 2}), (0.7, {1, 4}), (0.7, {1, 4})]:
        finish(study, keeper, train(study, keeper), value)
        assert with_checkpoints(keeper) == expected
        kept = {number for number, name in stored(study, keeper) if name == "fold0.safetensors"}
        assert kept == expected
    # The small files are everybody's.
    assert {number for number, name in stored(study, keeper) if name == "log.txt"} == set(range(6))
    assert (keeper.directory / "trial-00003" / "log.txt").exists()
    # What was never among the best was never put there.
    names = {
        trial.number: {m.filename for m in get_all_artifact_meta(trial, storage=study._storage)}
        for trial in study.trials
    }
    assert "fold0.safetensors" in names[0]
    assert "fold0.safetensors" not in names[3]


def test_a_trial_that_was_pruned_leaves_no_checkpoint_and_one_that_runs_keeps_its_own(study, make):
    keeper = make(keep_top=1)
    running = train(study, keeper)
    pruned = train(study, keeper)
    study.tell(pruned, state=TrialState.PRUNED)
    finish(study, keeper, train(study, keeper), 0.5)
    assert with_checkpoints(keeper) == {running.number, 2}
    finish(study, keeper, running, 0.4)
    assert with_checkpoints(keeper) == {2}


def test_a_trial_that_failed_keeps_its_files_until_another_has_finished_in_its_place(study, make):
    keeper = make(keep_top=1)
    numbers = []
    for _ in range(3):
        trial = train(study, keeper)
        if numbers:
            trial.set_user_attr("retry_of", numbers[-1])
        numbers.append(trial.number)
        if len(numbers) < 3:
            study.tell(trial, state=TrialState.FAIL)
            keeper.remove_others(study.get_trials(deepcopy=False))
            assert with_checkpoints(keeper) == set(numbers)
    finish(study, keeper, trial, 0.9)
    assert with_checkpoints(keeper) == {2}


def test_a_smaller_number_removes_more_and_a_new_process_finishes_what_another_left(study, make):
    keeper = make(keep_top=3)
    for value in (0.1, 0.2, 0.3):
        finish(study, keeper, train(study, keeper), value)
    assert with_checkpoints(keeper) == {0, 1, 2}
    make(keep_top=1).remove_others(study.get_trials(deepcopy=False))
    assert with_checkpoints(keeper) == {2}
    shutil.rmtree(keeper.directory / "trial-00002")  # by somebody's hand
    make(keep_top=1).remove_others(study.get_trials(deepcopy=False))


def test_workers_remove_the_same_files_at_the_same_time(study, make, sentences):
    keeper = make(keep_top=1)
    for number in range(40):
        trial = train(study, keeper)
        files = keeper.plan(trial.number, result(number / 40))
        set_attributes(trial, user={}, system=attributes_of(files))
        keeper.keep(trial.number, files)
        study.tell(trial, number / 40)
    trials = study.get_trials(deepcopy=False)
    failures = []

    def work():
        try:
            make(keep_top=1).remove_others(trials)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failures, sentences) == ([], [])
    assert with_checkpoints(keeper) == {39}


def test_a_full_disk_is_a_sentence(study, make, sentences, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copyfile", refuse)
    keeper = make()
    finish(study, keeper, train(study, keeper), 0.5)
    assert study.trials[0].state == TrialState.COMPLETE
    (sentence,) = sentences
    assert "No space left on device" in sentence
    assert list((keeper.directory.parent / "artifacts").iterdir()) == []


def test_the_note_is_the_studys_state_and_leaves_peoples_notes_alone(study, database, tmp_path):
    from optuna_dashboard import get_note, save_note

    study.set_user_attr(N_TARGET, 5)
    study.set_user_attr("manifest", {**ABOUT, "task": "gb1_three_vs_rest", "model": "cnn", "data": "not FLIP's file"})
    save_note(study, "written by hand")

    def show(export=None):
        shown_state.show_state(
            study,
            database,
            tmp_path,
            export=export,
            proposals=Proposals(prog="python run_study.py"),
            announce=pytest.fail,
        )

    show()
    note = get_note(study)
    assert "No trial is complete yet" in note
    assert "not FLIP's file" in note
    assert note.endswith("written by hand")
    study.add_trials([optuna.trial.create_trial(value=0.25)])
    show(tmp_path / "a.yaml")
    note = get_note(study)
    assert "1 of 5 trials finished (1 complete, 0 pruned)" in note
    assert "Best: trial 0, validation Spearman **0.2500**" in note
    assert f"`python run_study.py verify {tmp_path / 'a.yaml'}`" in note
    assert note.endswith("written by hand")
    assert note.count("written anew") == 1
    save_note(study, note + "\n" + "long " * 2000)
    study.add_trials([optuna.trial.create_trial(value=0.5)])
    show()
    assert get_note(study).endswith("written by hand\n" + "long " * 2000)
    assert get_all_artifact_meta(study) == [], "too few trials for figures"
    save_note(study, get_note(study).replace("long ", ""))
    study.add_trials([optuna.trial.create_trial(value=0.75)])
    show()
    assert get_note(study).endswith("written by hand\n")


def test_the_report_is_an_artifact_of_the_study_and_written_when_something_changed(study, database, tmp_path):
    def show():
        shown_state.show_state(
            study, database, tmp_path, export=None, proposals=Proposals(prog="p"), announce=pytest.fail
        )
        metas = get_all_artifact_meta(study)
        return [(meta.filename, (tmp_path / "artifacts" / meta.artifact_id).stat().st_mtime_ns) for meta in metas]

    study.set_user_attr("manifest", ABOUT)
    earlier = str(uuid.uuid4())
    study._storage.set_study_system_attr(study._study_id, *artifacts.artifact_attribute(earlier, "figures.html"))
    study.optimize(lambda trial: trial.suggest_float("model.dropout", 0, 1), n_trials=4)
    ((name, first),) = show()
    assert name == "report.html", "in the place of the figures of earlier versions"
    (path,) = (tmp_path / "artifacts").iterdir()
    assert path.name == earlier
    assert f"<h1>Study {NAME}</h1>" in path.read_text(encoding="utf-8")
    assert show() == [(name, first)], "nothing has changed"
    study.optimize(lambda trial: trial.suggest_float("model.dropout", 0, 1), n_trials=1)
    ((name, second),) = show()
    assert second > first
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


SEARCH = (
    "--task",
    "synthetic_two_vs_rest",
    "--model",
    "ridge",
    "--export-dir",
    ".",
    "trainer.threads=1",
    "validation=holdout",
)


@pytest.mark.system
def test_a_search_keeps_the_best_and_exports_the_hash_of_what_is_kept(here, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    answer = here(*SEARCH, "--n-trials", "4", "--keep-top", "1", cwd=tmp_path)
    assert answer.status == 0, answer
    name = "synthetic_two_vs_rest-ridge"
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{runs / 'studies.db'}")
    assert len(list((runs / name).glob("trial-*/validation.safetensors"))) == 4  # of all complete trials
    checkpoints = list((runs / name).glob("trial-*/fold*.safetensors"))
    best = runs / name / f"trial-{study.best_trial.number:05d}" / "fold0.safetensors"
    assert checkpoints == [best]
    record = study.best_trial.user_attrs["result"]
    assert [runs / path for path in record["checkpoints"]] == [best]
    exported = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())["provenance"]
    assert exported["weight_hashes"] == [hash_or_missing(best)]
    (page,) = get_all_artifact_meta(study)
    assert page.filename == "report.html"


@pytest.mark.slow
def test_where_artifacts_cannot_be_kept_a_search_ends_as_always(here, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "artifacts").write_text("in the way")
    answer = here(*SEARCH, "--n-trials", "4", cwd=tmp_path)
    assert answer.status == 0, answer
    assert answer.err.count("could not be kept") == 5, "four trials and the report"
    assert "4 finished trials (4 complete" in answer.out
