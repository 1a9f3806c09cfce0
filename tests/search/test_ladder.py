"""Several models on one task: one ordinary study each, and one table that says what the last of them is worth."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from datasets.errors import UserError
from datasets.prepared import prepare
from datasets.task import find_task
from datasets.validation import Holdout
from search.arguments import parse
from search.cost import Cost
from search.ladder_table import Rung, baseline_rungs, choice, verdict
from search.parser import LADDER, model_names
from search.predictions import Predictions
from search.spread import spread

TASK = "synthetic_two_vs_rest"


def rung(model, value, predictions=None, seeds=()):
    return Rung(
        model=model,
        value=value,
        why="",
        predictions=predictions,
        n_finished=5,
        cost=Cost(gpu_s=0.0, core_s=100.0, lost_s=0.0),
        test=spread(seeds) if seeds else None,
        n_seeds=len(seeds),
    )


def predictions(noise, n=300, order=None):
    """Of the same n rows, in whatever order, the noisier the worse."""
    draw = np.random.default_rng(0)
    target = draw.normal(size=n)
    prediction = target + noise * np.random.default_rng(int(noise * 100)).normal(size=n)
    rows = np.arange(n) if order is None else order
    found = {"row": rows, "prediction": prediction[rows], "target": target[rows]}
    return Predictions(**{key: array.astype(np.int64 if key == "row" else np.float32) for key, array in found.items()})


def value(found):
    return float(stats.spearmanr(found.prediction, found.target).statistic)


def test_the_ladder_is_its_models_the_cheap_ones_first():
    assert set(LADDER) <= set(model_names())
    assert parse(["--task", TASK, "--model", "ladder"]).models == LADDER
    assert parse(["--task", TASK, "--model", "cnn", "--model", "ridge", "--model", "cnn"]).models == ("cnn", "ridge")
    assert parse(["--task", TASK, "--model", "cnn"]).models == ()
    assert parse(["train", "--task", TASK, "--model", "cnn"]).model == "cnn"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "lader"], "Did you mean 'ladder'"),
        (["--model", "ladder", "--study-name", "mine"], "--study-name names one study"),
        (["--model", "ridge", "--model", "rigde"], "Did you mean 'ridge'"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence):
    with pytest.raises(UserError, match=sentence):
        parse(["--task", TASK, *words])


def test_a_setting_that_one_family_does_not_know_is_refused_before_the_first_search(command, tmp_path):
    sentence = command("--task", TASK, "--model", "ridge", "--model", "cnn", "model.alpha=1.0").refusal()
    assert "cnn" in sentence
    assert not (tmp_path / "runs" / "studies.db").exists()


def test_the_verdict_is_over_seeds_where_both_are_confirmed():
    few, many = [0.80, 0.84, 0.82, 0.79, 0.86], [0.70, 0.71, 0.72]
    language, other = rung("esm", 0.7, seeds=few), rung("cnn", 0.9, seeds=many)
    said = verdict([language, other])
    around = stats.ttest_ind(few, many, equal_var=False).confidence_interval(0.95)
    assert said.startswith("The language model is better here.")
    assert "0.1120 above the best of the others (cnn)" in said
    assert f"95 % interval {around.low:.4f} to {around.high:.4f} over 5 and 3 seeds on the test set" in said
    assert "not worth it" in verdict([rung("esm", 0.9, seeds=many), rung("cnn", 0.7, seeds=few)])


def test_the_verdict_is_over_the_same_validation_rows_otherwise_and_says_so():
    good, bad = predictions(0.3), predictions(1.0, order=np.arange(300)[::-1])
    said = verdict([rung("ridge", value(good), good), rung("esm", value(bad), bad)])
    assert said.startswith("The language model is not worth it here.")
    assert "over 300 validation sequences" in said
    much_the_same = predictions(0.31)
    said = verdict([rung("ridge", value(good), good), rung("esm", value(much_the_same), much_the_same)])
    assert said.startswith("Whether the language model is worth it here cannot be told yet.")
    elsewhere = replace(good, row=good.row + 1)
    said = verdict([rung("ridge", value(good), good), rung("esm", value(good), elsewhere)])
    assert "no interval over different validation sequences" in said


def test_the_family_to_take_is_the_cheapest_within_one_standard_error_of_the_best():
    good, much_the_same, bad = predictions(0.3), predictions(0.33, order=np.arange(300)[::-1]), predictions(1.0)
    ridge, cnn = rung("ridge", value(much_the_same), much_the_same), rung("cnn", value(good), good)
    assert choice([ridge, cnn]) == "Take ridge: the cheapest family within one standard error of the best (cnn)."
    worse = rung("ridge", value(bad), bad)
    assert choice([worse, cnn]).startswith("Take cnn: the best value, and no cheaper family")
    # One that the protocol set aside is not taken for its value, nor for its price.
    assert choice([replace(ridge, excess_rise=0.3), cnn]).startswith("Take cnn")
    assert choice([ridge, replace(cnn, excess_rise=0.3)]).startswith("Take ridge: the best value")
    assert choice([cnn]) == ""


def test_the_interval_of_a_difference_covers_it():
    """Of two fixed predictors of known correlation, in 100 draws of 150 sequences."""
    draw = np.random.default_rng(1)
    n_covered = 0
    rho = [6 / np.pi * np.arcsin(r / 2) for r in (1 / np.sqrt(1.25), 1 / np.sqrt(2))]
    for _ in range(100):
        target = draw.normal(size=150)
        pair = [target + noise * draw.normal(size=150) for noise in (0.5, 1.0)]
        made = [Predictions(row=np.arange(150), prediction=p, target=target) for p in pair]
        said = verdict([rung("esm", value(made[0]), made[0]), rung("cnn", value(made[1]), made[1])])
        low, high = (float(word) for word in said.partition("interval ")[2].split(" over")[0].split(" to "))
        n_covered += low <= rho[0] - rho[1] <= high
    assert n_covered >= 88


def test_baselines_are_judged_on_the_same_rows_as_models(tmp_path):
    task = find_task(TASK)
    split = prepare(task, data_dir=None, cache_dir=tmp_path, announce=lambda sentence: None)
    folds = Holdout().folds(split, task)
    rungs = {found.model: found for found in baseline_rungs(task, split, folds, crop=None)}
    assert rungs.keys() == {"levenshtein", "blosum62"}
    assert (rungs["blosum62"].predictions.row == folds[0].validation).all()
    assert -rungs["levenshtein"].predictions.prediction.min() == 2
    singles = find_task("synthetic_one_vs_rest")
    split = prepare(singles, data_dir=None, cache_dir=tmp_path, announce=lambda sentence: None)
    found = baseline_rungs(singles, split, Holdout().folds(split, singles), crop=None)[0]
    assert (found.value, found.why) == (None, "it is the same for all validation sequences")
    without = replace(task, wild_type=None)
    assert "has no wild type" in baseline_rungs(without, split, folds, crop=None)[0].why


def test_each_family_has_its_ordinary_study_which_the_ladder_resumes(here, finished_study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished_study.folder, folder)
    answer = here(*finished_study.command, "--model", "kernel", "--n-trials", "2", cwd=folder)
    assert answer.status == 0, answer
    assert answer.err.count("nothing to do") == 1, "the study of ridge was finished"
    assert {path.stem for path in (folder / "exported").glob("*.yaml")} == {f"{TASK}-ridge", f"{TASK}-kernel"}
    table = answer.out.partition("Ladder on")[2]
    assert table.startswith(f" {TASK} (validation: holdout; synthetic landscape)")
    rows = [line.split()[0] for line in table.splitlines()[1:] if line]
    assert rows[1:5] == ["levenshtein", "blosum62", "ridge", "kernel"]
    (ridge,) = [line for line in table.splitlines() if line.startswith("ridge ")]
    assert re.search(r" 0\.\d{4} +0\.\d\d to 0\.\d\d ", ridge), "its value and the interval of that"
    assert "validation sequences" in table
    assert "confirm exported/" in table
