"""The report: everything about a study in one file, which says what it does not know and asks nobody for anything."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from safetensors.numpy import save_file

from search.reporting.proposals import Proposals
from search.reporting.study_report import make_report
from search.storage.attributes import MANIFEST, OVERRIDES
from tests.helpers.browser import in_a_browser
from tests.helpers.pages import assert_looks_right, assert_needs_nothing, without_plotly
from tests.helpers.small_study import ABOUT, NAME, default_database, make_study, record

HOSTILE = "<script>alert(1)</script> & more"
N_ROWS = 60


def add(study, number, state, **attributes):
    alpha = 10.0 ** (number % 5 - 2)
    value = 0.1 * (number % 7) + alpha / 1e4 if state == TrialState.COMPLETE else None
    if "result" in attributes:
        attributes["result"]["value"] = value
    study.add_trial(
        create_trial(
            state=state,
            value=value,
            params={"model.alpha": alpha, "data.batch_size": 32 * (1 + number % 2)},
            distributions={
                "model.alpha": FloatDistribution(1e-3, 1e3, log=True),
                "data.batch_size": CategoricalDistribution([32, 64]),
            },
            user_attrs=attributes,
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A runs directory with a study of all kinds of trials; the predictions of its best one are kept."""
    folder = tmp_path_factory.mktemp("report of ä study")
    database, study = make_study(default_database(folder))
    study.set_user_attr(MANIFEST, {**ABOUT, "task": "aav_two_vs_many", "data": "not FLIP's file"})
    for number in range(12):
        curves = [[0.1, 0.1 * (number % 7)], [None, 0.1]]
        add(study, number, TrialState.COMPLETE, ending="complete", result=record(curves, cpu_s=3.0))
    add(study, 12, TrialState.PRUNED, ending="pruned", result=record([[0.2]], device="cuda:0", cpu_s=3.0))
    add(study, 13, TrialState.PRUNED, ending="out_of_memory", reason="no memory", result=record([], cpu_s=3.0))
    add(study, 14, TrialState.FAIL, ending="bug", reason=HOSTILE)
    best = folder / "runs" / NAME / f"trial-{study.best_trial.number:05d}"
    best.mkdir(parents=True)
    target = np.linspace(-3, 3, N_ROWS, dtype=np.float32)
    arrays = {"row": np.arange(N_ROWS), "prediction": np.sin(target), "target": target}
    save_file(arrays, best / "validation.safetensors")
    yield folder
    database.storage.engine.dispose()


@pytest.fixture(scope="module")
def text(folder):
    _, study = make_or_load(folder)
    return make_report(study, runs=folder / "runs", export=None, proposals=Proposals(prog="python run_study.py"))


def make_or_load(folder):
    import optuna

    from search.storage.database import open_database

    database = open_database(default_database(folder), create=False)
    return database, optuna.load_study(study_name=NAME, storage=database.storage)


def test_it_says_what_was_found_under_which_protocol_and_on_whose_data(text):
    page = without_plotly(text)
    assert page.count("validation: holdout; data: not FLIP&#39;s file") >= 2
    assert "cannot be compared with published ones" in page
    assert "12 complete, 2 pruned" in page
    assert "2 GPU-seconds, 42 CPU-seconds" in page, "14 runs with 3 s of CPU time each, one of them for 2 s on a GPU"
    assert "no memory" in page
    assert f"{N_ROWS} validation sequences" in page
    assert "measured (log2 enrichment of packaged capsids)" in page
    assert "No exported experiment of this study was found" in page


def test_what_comes_from_people_is_text_and_no_markup(text):
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_it_needs_nothing_but_itself(text):
    assert_needs_nothing(text)


@in_a_browser
@pytest.mark.system
def test_in_a_browser_nothing_overlaps_every_axis_is_labelled_and_nothing_is_asked_for(text, tmp_path):
    assert_looks_right(text, 8, tmp_path)


def test_the_command_writes_it_beside_the_study(command, finished_study, tmp_path):
    runs, export = finished_study.folder / "runs", finished_study.export.parent
    words = ("report", "--study-name", finished_study.name, "--runs-dir", str(runs), "--export-dir", str(export))
    answer = command(*words, "--output", "a/b.html")
    assert (answer.status, answer.out) == (0, "Report: a/b.html\n"), answer
    page = without_plotly((tmp_path / "a" / "b.html").read_text(encoding="utf-8"))
    assert f"verify {finished_study.export}" in page.replace("&#39;", "").replace("'", "")
    assert "trainer.threads=1" in page, "the command that made the study"
    assert "schema_version" in page, "the experiment file"
    assert "It is estimated from 4 complete trials on" in page


def test_bad_input_is_one_sentence(command, folder, tmp_path):
    storage = ("--storage", default_database(folder))
    assert "Did you mean 'by-hand'" in command("report", "--study-name", "by-hnd", *storage).refusal()
    (tmp_path / "file").write_text("")
    answer = command("report", "--study-name", NAME, *storage, "--output", "file/x.html")
    assert "--output" in answer.refusal()


def test_the_search_is_repeated_with_its_overrides(folder, tmp_path):
    _, study = make_or_load(folder)
    study.set_user_attr(OVERRIDES, ["trainer.max_epochs=3"])
    page = make_report(study, runs=tmp_path, export=None, proposals=Proposals(prog="p"))
    assert "p --task aav_two_vs_many --model ridge --n-trials 10 --study-name by-hand trainer.max_epochs=3" in page


def test_the_search_is_repeated_with_what_stood_beside_the_sequences(folder, tmp_path):
    _, study = make_or_load(folder)
    before = study.user_attrs[MANIFEST]
    sources = [
        {"kind": "alignment", "hash": "1" * 64, "columns": ["couplings"], "chain": "H"},
        {"kind": "language_model", "hash": "2" * 64, "columns": ["log_odds"], "backbone": "esm2_t6_8M_UR50D"},
    ]
    study.set_user_attr(OVERRIDES, [])
    study.set_user_attr(MANIFEST, {**before, "scores": {"sources": sources}, "embeddings": {"file": "e.h5"}})
    try:
        page = make_report(study, runs=tmp_path, export=None, proposals=Proposals(prog="p"))
    finally:
        study.set_user_attr(MANIFEST, before)
    words = "--alignment H=ALIGNMENT --zero-shot esm2_t6_8M_UR50D --embeddings e.h5"
    assert f"p --task aav_two_vs_many {words} --model ridge" in page
    assert f"# ALIGNMENT stands for the file with the SHA-256 {'1' * 64}" in page
    assert "--zero-shot-column" not in page
    assert "--allow-derived" not in page


def test_predictions_that_are_not_here_are_said_to_be_elsewhere(folder, tmp_path):
    _, study = make_or_load(folder)
    page = make_report(study, runs=tmp_path, export=None, proposals=Proposals(prog="p"))
    assert "name that with --runs-dir" in page
    assert "measured (" not in without_plotly(page)
