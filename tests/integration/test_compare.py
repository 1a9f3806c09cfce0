"""Studies and confirmed experiments beside published results; what is on another file than FLIP's stands apart."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from datasets.tasks.registry import task_names
from search.cli.compare import make_page
from search.experiments.ledger import Reading, append, readings
from search.experiments.readings import find_readings
from search.reporting.comparison import OURS, compare, over_folds, published_results
from search.reporting.comparison_figure import drawable
from search.storage.attributes import MANIFEST
from tests.helpers.browser import in_a_browser
from tests.helpers.pages import assert_looks_right, assert_needs_nothing, without_plotly
from tests.helpers.small_study import ABOUT, add, default_database, make_study

OFFICIAL, OTHER = "gb1_three_vs_rest", "aav_two_vs_many"
SEEDS = [0.81, 0.83, 0.79]


def reading(task, data, *, seeds, trial=3, model="cnn", around=(0.78, 0.84)):
    """`around` None: as a reading from before intervals over test sequences were kept."""
    values = {"per_seed": {"spearman": seeds}, "ensemble": {"spearman": 0.85}}
    if around is not None:
        values["over_sequences"] = {"spearman": list(around)}
    return Reading(
        when="2026-01-01T00:00:00+00:00",
        experiment=f"{task}-{model}",
        checksum="sha256:0",
        study=f"{task}-{model}",
        trial=trial,
        task=task,
        model=model,
        data=data,
        data_hash="d",
        official=data == "FLIP's file",
        n_test=100,
        seeds=list(range(len(seeds))),
        n_epochs=5,
        code={},
        machine={},
        values={"train_and_validation": values, "train": values},
    )


@pytest.fixture
def folder(tmp_path):
    """A study on a file that is not FLIP's, and two ledgers."""
    database, study = make_study(default_database(tmp_path))
    study.set_user_attr(MANIFEST, {**ABOUT, "task": OTHER, "data": "not FLIP's file"})
    add(study, TrialState.COMPLETE, value=0.625)
    database.storage.engine.dispose()
    ledgers = tmp_path / "exported"
    earlier, latest = (reading(OFFICIAL, "FLIP's file", seeds=seeds) for seeds in ([0.5, 0.6], SEEDS))
    append(ledgers / "a.ledger.jsonl", [earlier])
    append(ledgers / "a.ledger.jsonl", [latest])
    append(ledgers / "b.ledger.jsonl", [reading(OTHER, "not FLIP's file", seeds=[0.71, 0.71], around=None)])
    return tmp_path


def test_published_results_are_on_our_tasks_and_name_their_source():
    found = published_results()
    assert sum(map(len, found.values())) == 59
    assert found.keys() <= set(task_names())
    assert all(result.source for results in found.values() for result in results)
    three = {(result.by, result.model): result.spearman for result in found[OFFICIAL]}
    assert (three["FLIP", "cnn"], three["Flipper", "cnn"], three["FLIP's recipe", "ridge"]) == (0.81, 0.784, 0.755)


def test_what_is_not_on_flips_file_is_never_drawn_with_published_results(folder):
    found = readings(folder / "exported", pytest.fail)
    drawn = drawable([compare(task, (), found) for task in (OFFICIAL, OTHER)])
    kinds = [
        ({entry.asked and entry.asked.data for entry in panel.entries}, {entry.by for entry in panel.entries})
        for panel in drawn
    ]
    assert len(drawn) == 3
    for data, by in kinds:
        assert by == {OURS} if "not FLIP's file" in data else "FLIP" in by
    assert kinds[0][0] == {None, "FLIP's file"}
    ours = [entry for entry in drawn[0].entries if entry.by == OURS]
    assert [entry.seeds for entry in ours] == [tuple(SEEDS)] * 2, "the last reading, in both ways to train"
    assert ours[0].spearman == pytest.approx(0.81)
    assert ours[0].std == pytest.approx(0.02)


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_three_files(command, folder):
    tasks = ("--task", OFFICIAL, "--task", OTHER, "--task", "gb1_sampled")
    answer = command("compare", *tasks, "--export-dir", "exported", "--output", "there")
    assert answer.status == 0, answer
    rows = answer.out.splitlines()
    assert [row for row in rows if row.startswith("gb1_sampled") and "nothing published" in row]
    (mine,) = [row for row in rows if "flipsearch" in row and "train+validation" in row and OFFICIAL in row]
    assert "0.810 ± 0.020 (3 seeds)  0.780 to 0.840" in mine
    (older,) = [row for row in rows if "train+validation" in row and OTHER in row]
    assert re.search(r"0\.710 \(2 seeds\) +- +0\.850", older), "an exact model, whose interval was not kept"
    assert "confirmed 2 time(s)" in mine
    (study,) = [row for row in rows if "study by-hand, trial 0" in row]
    assert "0.6250 (holdout)" in study
    assert "not FLIP's file" in study
    assert rows[-1] == "Written: there/comparison.html, there/comparison.png, there/comparison.svg"
    assert (folder / "there" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    drawing = ElementTree.parse(folder / "there" / "comparison.svg").getroot()
    assert drawing.tag.endswith("svg")
    page = (folder / "there" / "comparison.html").read_text(encoding="utf-8")
    assert_needs_nothing(page)
    assert "Its test set was read 2 time(s): 2 by gb1_three_vs_rest-cnn." in without_plotly(page)


@pytest.mark.slow
def test_all_are_the_tasks_that_anything_is_known_of_and_no_study_is_needed(command, tmp_path):
    answer = command("compare", "--task", "all")
    assert answer.status == 0, answer
    shown = {row.split()[0] for row in answer.out.splitlines()[1:-1]}
    assert shown == published_results().keys()
    assert (tmp_path / "runs" / "comparison" / "comparison.svg").exists()


def test_bad_input_is_one_sentence(command, folder):
    assert "Did you mean 'gb1_three_vs_rest'" in command("compare", "--task", "gb1_three_vs_res").refusal()
    assert "--task" in command("compare").refusal()


def test_a_broken_ledger_is_named_and_hides_no_other(command, folder):
    (folder / "exported" / "b.ledger.jsonl").write_text("{\n")
    answer = command("compare", "--task", OFFICIAL, "--export-dir", "exported")
    assert answer.status == 0, answer
    assert "warning: exported/b.ledger.jsonl, line 1 is no reading" in answer.err
    assert "0.810 ± 0.020 (3 seeds)" in answer.out


@in_a_browser
@pytest.mark.system
def test_in_a_browser_nothing_overlaps_and_every_axis_is_labelled(folder, tmp_path):
    found = readings(folder / "exported", pytest.fail)
    known = find_readings(folder / "exported", None)
    page = make_page([compare(task, (), found) for task in (OFFICIAL, OTHER)], known)
    assert_looks_right(page, 3, tmp_path)


def fold_readings(folder, *, folds="012", table="h", models=("ridge",), better=0.0, **changes):
    """A confirmed experiment of each fold of a table, with Spearman 0.1 for fold 1 and so on, and `better` of each."""
    for fold in folds:
        for model in models:
            own = replace(
                reading("blat", "blat.csv", seeds=[int(fold) / 10 + better], model=model),
                experiment=f"blat-test{fold}-{model}",
                data_hash=f"data{fold}",
                target="y",
                split=f"cv, test fold {fold}",
                fold_column="cv",
                fold=fold,
                fold_names=["0", "1", "2"],
                table_hash=table,
                **changes,
            )
            append(folder / f"blat-test{fold}-{model}.ledger.jsonl", [own])


def test_the_mean_over_folds_needs_every_fold_of_one_table(tmp_path):
    fold_readings(tmp_path, models=("ridge", "cnn"))
    (panel,) = over_folds("blat", readings(tmp_path, pytest.fail))
    assert (panel.title, panel.on) == ("blat, target y, mean over the 3 folds of cv", ("y", "cv"))
    assert [(entry.model, entry.spearman) for entry in panel.entries] == [
        ("cnn", pytest.approx(0.1)),
        ("ridge", pytest.approx(0.1)),
    ]
    assert not panel.is_comparable
    fold_readings(tmp_path / "two", folds="01")
    assert over_folds("blat", readings(tmp_path / "two", pytest.fail)) == []
    fold_readings(tmp_path / "two", folds="2", table="another")
    assert over_folds("blat", readings(tmp_path / "two", pytest.fail)) == []
    assert over_folds("other", readings(tmp_path, pytest.fail)) == []


def test_the_mean_over_folds_is_that_of_the_experiments_own_trials(tmp_path):
    for trial, better in ((3, 0.5), (3, 0.4), (8, 0.1)):  # `confirm`, and `confirm --top-k 2` after it
        fold_readings(tmp_path, better=better, trial=trial)
    ((own,),) = (panel.entries for panel in over_folds("blat", readings(tmp_path, pytest.fail)))
    assert own.spearman == pytest.approx(0.1 + 0.4)
    # A search that went on has another best trial, exported to another file.
    for trial, better in ((8, 0.6), (3, 0.2)):
        fold_readings(tmp_path, better=better, trial=trial, checksum="sha256:1", when="2026-01-02T00:00:00+00:00")
    ((own,),) = (panel.entries for panel in over_folds("blat", readings(tmp_path, pytest.fail)))
    assert own.spearman == pytest.approx(0.1 + 0.6)


def test_folds_of_a_table_that_was_read_in_two_ways_are_put_together_by_each(tmp_path):
    fold_readings(tmp_path, settings_hash="keep")
    fold_readings(tmp_path, settings_hash="mean", better=0.3, folds="12")
    (panel,) = over_folds("blat", readings(tmp_path, pytest.fail))
    assert [entry.spearman for entry in panel.entries] == [pytest.approx(0.1)]
    fold_readings(tmp_path, settings_hash="mean", better=0.3, folds="0")
    panels = over_folds("blat", readings(tmp_path, pytest.fail))
    assert sorted(entry.spearman for panel in panels for entry in panel.entries) == pytest.approx([0.1, 0.4])
    assert len({panel.title for panel in panels}) == 2


ROWS = """\
task,target,split,by,model,spearman,std,source
blat,y,cv,Notin,<b onclick=x>npt</b> $\\frac$,0.73,,<script>alert(1)</script>
blat,,"cv, test fold 1",Someone,ridge,0.2,0.01,a thesis
blat,z,cv,Someone,ridge,0.3,,a thesis
gb1_three_vs_rest,,,Someone,mine,0.99,,a note
"""


@pytest.mark.slow
def test_published_results_of_the_users_own_stand_beside_ours_on_the_same_split(command, tmp_path):
    fold_readings(tmp_path / "exported")
    (tmp_path / "own.csv").write_text(ROWS)
    compared = ("compare", "--export-dir", "exported", "--published", "own.csv", "--output", "there")
    answer = command(*compared, "--task", "blat", "--task", "gb1_three_vs_rest")
    assert answer.status == 0, answer
    rows = [re.split(r"  +", row) for row in answer.out.splitlines() if "  " in row]
    of = {title: [row[1] for row in rows if row[0] == title] for title in (row[0] for row in rows)}
    assert of["blat, target y, mean over the 3 folds of cv"] == [r"<b onclick=x>npt</b> $\frac$", "ridge"]
    assert of["blat, target y, split cv, test fold 1"] == ["ridge"] * 3
    assert of["blat, target y, split cv, test fold 2"] == ["ridge"] * 2
    assert of["blat, target z, split cv"] == ["ridge"]
    assert of["gb1_three_vs_rest"][0] == "mine"
    page = (tmp_path / "there" / "comparison.html").read_text(encoding="utf-8")
    assert_needs_nothing(page)
    for markup in ("<b onclick", "<script>alert"):
        assert markup not in without_plotly(page)
        assert markup not in page
    assert (tmp_path / "there" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    # Alone, they are a panel, and --task all knows their tasks.
    answer = command(*compared[:3], "--task", "all", "--published", "own.csv")
    assert "blat, target y, split cv, test fold 0" in answer.out


def test_a_bad_published_row_is_one_sentence(command, tmp_path):
    (tmp_path / "own.csv").write_text("task,by,model,spearman,source\nx,y,z,0.5,a\nx,y,z,half,a\n")
    answer = command("compare", "--task", "all", "--published", "own.csv")
    assert "own.csv, line 3: the spearman half is no number" in answer.refusal()
    assert not (tmp_path / "runs" / "comparison" / "comparison.html").exists()
