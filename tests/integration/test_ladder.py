"""Several models on one task: one ordinary study each, and one table that says what the last of them is worth."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from datasets.common.errors import UserError
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from datasets.validation.protocols import Holdout
from search.experiments.confirm.results import Scores
from search.options.arguments import parse
from search.options.parser import LADDER, model_names
from search.reporting.ladder_table import conclusions
from search.reporting.rungs import Confirmed, Rung, baseline_rungs
from search.stats.intervals import difference, influence
from search.study.activity import Cost
from search.training.predictions import Predictions
from tests.helpers.own_folder import make_folder, write

TASK = "synthetic_two_vs_rest"


def rung(model, value, predictions=None, tested=None):
    return Rung(
        model=model,
        value=value,
        why="",
        predictions=predictions,
        n_finished=5,
        cost=Cost(gpu_s=0.0, cpu_s=100.0, lost_s=0.0),
        tested=tested,
        experiment=Path(f"exported/{model}.yaml"),
    )


def confirmed(noise, seeds=1, n=300, spread_of_seeds=0.0):
    """What `confirm` finds of a predictor of n test sequences, the noisier the worse, over seeds that differ."""
    target = np.random.default_rng(7).normal(size=n)
    own = np.random.default_rng(int(noise * 100)).normal(size=n)
    rows = [
        target + noise * own + spread_of_seeds * np.random.default_rng(seed).normal(size=n) for seed in range(seeds)
    ]
    scores = Scores.of(np.array(rows, dtype=np.float32), target.astype(np.float32))
    return Confirmed(
        spearman=scores.test["spearman"],
        n_seeds=seeds,
        around=scores.over_sequences["spearman"],
        influence=scores.influence,
    )


def bounds(said):
    """The interval in a verdict."""
    return tuple(float(word) for word in said.partition("interval ")[2].split(" over")[0].split(" to "))


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
    assert LADDER == ("ridge", "kernel", "forest", "epistasis", "cnn", "esm")
    assert parse(["--task", TASK, "--model", "cnn", "--model", "ridge", "--model", "cnn"]).models == ("cnn", "ridge")
    assert parse(["--task", TASK, "--model", "cnn"]).models == ()
    assert parse(["train", "--task", TASK, "--model", "cnn"]).model == "cnn"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "lader"], "Did you mean 'ladder'"),
        (["--model", "ladder", "--study-name", "my studies"], "'my studies' is not valid"),
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


def test_the_verdict_is_that_of_the_test_set_once_all_are_confirmed_whatever_validation_says():
    """The kernel was the best on validation, and is below ridge on the test set: both sentences say so."""
    good, bad = predictions(0.3), predictions(1.0)
    ridge = rung("ridge", value(bad), bad, confirmed(0.5, seeds=2))
    kernel = rung("kernel", value(good), good, confirmed(1.0, seeds=2))
    said, chosen = conclusions([ridge, kernel])
    by = ridge.tested.spearman.mean - kernel.tested.spearman.mean
    assert said.startswith(f"On the test set, ridge is {by:.4f} above the best of the others (kernel), 95 % interval")
    assert "over 300 test sequences, the same for both. " in said
    low, high = bounds(said)
    assert low < by < high
    assert high - low > 0.02, "models without a seed differ by more than nothing on other sequences"
    assert (
        chosen
        == "Take ridge: it is the best on the test set, and no cheaper family is within one standard error of it."
    )
    # The other way round the language model is judged by the same.
    language = replace(kernel, model="esm")
    said, chosen = conclusions([ridge, language])
    assert said.startswith("The language model is not worth it here. On the test set, the language model (esm) is")
    assert chosen.startswith("Take ridge: it is the best on the test set")


def test_one_seed_is_enough_for_a_verdict_of_the_test_set_and_says_so():
    ridge, cnn = (
        rung("ridge", 0.5, tested=confirmed(0.5)),
        rung("cnn", 0.9, tested=confirmed(1.0, seeds=3, spread_of_seeds=0.3)),
    )
    said, _ = conclusions([ridge, cnn])
    assert said.startswith("On the test set, ridge is")
    assert "and over the seeds of cnn (of ridge there is one seed: enough for a model that is solved exactly)" in said


def test_the_interval_on_the_test_set_holds_both_the_sequences_and_the_seeds():
    exact = confirmed(1.0)
    several = confirmed(0.5, seeds=3, spread_of_seeds=0.4)
    without = bounds(
        conclusions(
            [
                rung("ridge", 0.5, tested=exact),
                rung("cnn", 0.5, tested=replace(several, spearman=replace(several.spearman, std=None))),
            ]
        )[0]
    )
    both = bounds(conclusions([rung("ridge", 0.5, tested=exact), rung("cnn", 0.5, tested=several)])[0])
    assert both[0] < without[0] < without[1] < both[1]
    # Predictors that rank the sequences alike differ by nothing on any others.
    said, chosen = conclusions([rung("ridge", 0.5, tested=exact), rung("kernel", 0.6, tested=exact)])
    assert bounds(said) == (0.0, 0.0)
    assert "-0.0000" not in said
    assert chosen.startswith("Take ridge")


@pytest.mark.parametrize("lacks", ["confirmation", "influence", "other sequences"])
def test_the_verdict_is_on_validation_until_all_are_confirmed_and_names_the_command(lacks):
    good, bad = predictions(0.3), predictions(1.0)
    kernel = confirmed(0.5)
    missing = {
        "confirmation": None,
        "influence": replace(kernel, influence=None),
        "other sequences": confirmed(0.5, n=200),
    }
    rungs = [rung("ridge", value(bad), bad, confirmed(0.4)), rung("kernel", value(good), good, missing[lacks])]
    said, how, chosen = conclusions(rungs)
    assert said.startswith("On validation, kernel is")
    assert "over 300 validation sequences" in said
    assert how.startswith(
        "These are validation results, and the test set has the last word once all families are confirmed"
    )
    assert "confirm " in how
    assert "exported/kernel.yaml" in how
    assert ("confirm again, because what a comparison needs was not kept" in how) == (lacks != "confirmation")
    assert (
        chosen == "Take kernel: it is the best on validation, and no cheaper family is within one standard error of it."
    )


def test_the_verdict_on_validation_is_over_the_same_rows_and_says_where_it_cannot_be():
    good, bad = predictions(0.3), predictions(1.0, order=np.arange(300)[::-1])
    said = conclusions([rung("ridge", value(good), good), rung("esm", value(bad), bad)])[0]
    assert said.startswith("The language model is not worth it here.")
    much_the_same = predictions(0.31)
    said = conclusions([rung("ridge", value(good), good), rung("esm", value(much_the_same), much_the_same)])[0]
    assert said.startswith("Whether the language model is worth it here cannot be told yet.")
    elsewhere = replace(good, row=good.row + 1)
    said, _, chosen = conclusions([rung("ridge", value(good) - 0.1, good), rung("esm", value(good), elsewhere)])
    assert "(how sure that is cannot be said: the two were validated on different sequences)" in said
    assert chosen == "Take esm: it is the best on validation, though cheaper families cannot be compared with it there."
    said = conclusions([rung("ridge", value(good)), rung("cnn", value(good), good)])[0]
    assert "the predictions of ridge are not on this machine" in said


def test_the_family_to_take_is_the_cheapest_within_one_standard_error_of_the_best():
    good, much_the_same, bad = predictions(0.3), predictions(0.33, order=np.arange(300)[::-1]), predictions(1.0)
    ridge, cnn = rung("ridge", value(much_the_same), much_the_same), rung("cnn", value(good), good)
    cheapest = "Take ridge: on validation, it is the cheapest family within one standard error of the best (cnn)."
    assert conclusions([ridge, cnn])[-1] == cheapest
    worse = rung("ridge", value(bad), bad)
    assert conclusions([worse, cnn])[-1].startswith("Take cnn: it is the best on validation, and no cheaper family")
    # One that the protocol set aside is not taken for its value, nor for its price.
    assert conclusions([replace(ridge, excess_rise=0.3), cnn])[-1].startswith("Take cnn")
    assert conclusions([ridge, replace(cnn, excess_rise=0.3)])[-1] == (
        "Take ridge: it is the best on validation of those whose predictions rise least with the number of mutations "
        "(higher, but set aside for that: cnn), and no cheaper family is within one standard error of it."
    )


def test_baselines_are_named_where_nothing_beats_them_and_are_no_family_to_take():
    free = replace(rung("blosum62", 0.99), n_finished=None, cost=None)
    good, bad = predictions(0.3), predictions(1.0)
    ridge, cnn = rung("ridge", value(good), good), rung("cnn", value(bad), bad)
    said = conclusions([free, ridge, cnn])
    assert said[0] == "No family is better on validation than blosum62, which needs no training."
    assert said[1].startswith("On validation, ridge is")
    assert said[-1].startswith("Take ridge")
    assert conclusions([replace(free, value=0.1), ridge]) == [
        "There are no two families to compare with each other yet."
    ]


def an_ensemble(value, predictions=None, tested=None, n_members=3):
    """Of 20 trials."""
    found = rung("ensemble", value, predictions, tested)
    return replace(found, n_finished=20, n_members=n_members, n_models=5 * n_members)


def test_the_ensemble_is_compared_with_the_best_family_and_recommended_where_it_is_better():
    good, bad, best = predictions(0.3), predictions(1.0), predictions(0.2)
    kernel, ridge = replace(rung("kernel", value(good), good), n_models=5), rung("ridge", value(bad), bad)
    ensemble = an_ensemble(value(best), best)
    said = conclusions([kernel, ridge, ensemble])
    assert said[0].startswith("On validation, kernel is"), "families are compared with families"
    by = value(best) - value(good)
    assert said[1].startswith("The ensemble averages 3 of the 20 trials that could take part; ")
    assert f"On validation, it is {by:.4f} above the best family (kernel), 95 % interval" in said[1]
    assert "over 300 validation sequences (not corrected for picking the trial of kernel)" in said[1]
    assert said[1].endswith("members: 100 CPU-seconds. It predicts with 15 models, kernel with 5.")
    low, high = bounds(said[1])
    assert low < by < high
    assert said[2].endswith("confirm exported/kernel.yaml exported/ridge.yaml exported/ensemble.yaml")
    assert said[3] == (
        f"Recommended: exported/ensemble.yaml (the ensemble: on validation, it is {by:.4f} above the best family)."
    )
    assert said[4].startswith("The other one: exported/kernel.yaml (kernel: it is the best on validation, and no")
    # Its value is corrected for the selection, and that of the best family is not: it may be a little lower.
    said = conclusions([kernel, ridge, an_ensemble(value(good), good)])
    assert said[3].startswith("Recommended: exported/ensemble.yaml (the ensemble: on validation, it is 0.0000 ")
    # Much worse than the best family, it is the other one.
    said = conclusions([kernel, ridge, an_ensemble(value(bad), bad)])
    assert said[3].startswith("Recommended: exported/kernel.yaml (kernel: it is the best on validation")
    assert said[4].startswith("The other one: exported/ensemble.yaml (the ensemble: on validation, it is ")


def test_an_ensemble_that_was_judged_by_a_part_of_the_sequences_is_compared_on_that_part():
    """On the first half the kernel is as noisy as ridge; its value on all sequences is not what it is compared with."""
    good, bad = predictions(0.3), predictions(1.0)
    half = np.arange(300) < 150
    mixed = replace(good, prediction=np.where(half, bad.prediction, good.prediction))
    kernel, ridge = rung("kernel", value(mixed), mixed), rung("ridge", value(bad), bad)
    part = replace(bad, row=bad.row[half], target=bad.target[half], prediction=predictions(0.7).prediction[half])
    of_kernel = value(replace(bad, target=bad.target[half], prediction=bad.prediction[half]))
    assert of_kernel < value(part) < value(mixed)
    said = conclusions([kernel, ridge, an_ensemble(value(part), part)])
    assert f"it is {value(part) - of_kernel:.4f} above the best family (kernel), 95 % interval" in said[1]
    assert "over 150 validation sequences" in said[1]
    assert said[3].startswith("Recommended: exported/ensemble.yaml")
    # Without the family's predictions nothing better is known than its value on all of them.
    said = conclusions([replace(kernel, predictions=None, value=0.999), ridge, an_ensemble(value(part), part)])
    assert "the predictions of kernel are not on this machine" in said[1]
    assert said[3].startswith("Recommended: exported/kernel.yaml")


def test_the_ensemble_is_judged_by_the_test_set_once_it_is_confirmed_like_all_families():
    good, bad = predictions(0.3), predictions(1.0)
    ridge, kernel = rung("ridge", value(bad), bad, confirmed(0.5)), rung("kernel", value(good), good, confirmed(1.0))
    ensemble = an_ensemble(value(good) - 0.1, good, confirmed(0.4))
    said = conclusions([ridge, kernel, ensemble])
    by = ensemble.tested.spearman.mean - ridge.tested.spearman.mean
    assert f"On the test set, it is {by:.4f} above the best family (ridge), 95 % interval" in said[1]
    assert "over 300 test sequences, the same for both" in said[1]
    assert said[2].startswith("Recommended: exported/ensemble.yaml (the ensemble: on the test set, it is")
    assert len(said) == 4, "nothing is left to be confirmed"
    # Not confirmed itself, it is judged on validation, and alone has to be confirmed.
    said = conclusions([ridge, kernel, replace(ensemble, tested=None)])
    assert said[0].startswith("On the test set, ridge is")
    assert "On validation, it is 0.1000 below the best family (kernel)" in said[1]
    assert said[2].endswith("confirm exported/ensemble.yaml")
    assert said[3].startswith("Recommended: exported/ridge.yaml (ridge: it is the best on the test set")


def test_an_ensemble_of_one_trial_is_no_choice():
    good, bad = predictions(0.3), predictions(1.0)
    families = [rung("kernel", value(good), good), rung("ridge", value(bad), bad)]
    alone = "The ensemble is one trial alone: no average of several ranks better."
    before = conclusions(families)
    assert conclusions([*families, an_ensemble(value(good), good, n_members=1)]) == [*before[:-1], alone, before[-1]]


def test_the_interval_of_a_difference_covers_it():
    """Of two fixed predictors of known correlation, in 200 draws of 150 sequences."""
    draw = np.random.default_rng(1)
    n_covered = 0
    rho = [6 / np.pi * np.arcsin(r / 2) for r in (1 / np.sqrt(1.25), 1 / np.sqrt(2))]
    for _ in range(200):
        target = draw.normal(size=150)
        pair = np.array([target + noise * draw.normal(size=150) for noise in (0.5, 1.0)])
        values = [float(stats.spearmanr(one, target).statistic) for one in pair]
        changes = influence(pair, target)
        found = difference(values[0], values[1], (changes[0], changes[1]))
        n_covered += found.low <= rho[0] - rho[1] <= found.high
    assert 182 <= n_covered <= 198


def test_the_interval_over_seeds_is_welchs_where_sequences_add_nothing():
    few, many = [0.80, 0.84, 0.82, 0.79, 0.86], [0.70, 0.71, 0.72]
    around = stats.ttest_ind(few, many, equal_var=False).confidence_interval(0.95)
    zero = np.zeros(300)
    seeds = [(float(np.std(values, ddof=1)), len(values)) for values in (few, many)]
    found = difference(np.mean(few), np.mean(many), (zero, zero), seeds)
    assert (found.low, found.high) == pytest.approx((around.low, around.high))


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


@pytest.mark.slow
def test_each_family_has_its_ordinary_study_which_the_ladder_resumes(here, finished_study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished_study.folder, folder)
    answer = here(*finished_study.command, "--model", "kernel", "--n-trials", "2", cwd=folder)
    assert answer.status == 0, answer
    assert answer.err.count("nothing to do") == 1, "the study of ridge was finished"
    assert "Without a study so far: kernel; the others go on with theirs." in answer.err
    names = {f"{TASK}-{name}" for name in ("ridge", "kernel", "ensemble")}
    assert {path.stem for path in (folder / "exported").glob("*.yaml")} == names
    table = answer.out.partition("Ladder on")[2]
    assert table.startswith(f" {TASK} (validation: holdout; synthetic landscape)")
    rows = [line.split()[0] for line in table.splitlines()[1:] if line]
    assert rows[1:6] == ["levenshtein", "blosum62", "ridge", "kernel", "ensemble"]
    (ridge,) = [line for line in table.splitlines() if line.startswith("ridge ")]
    assert re.search(r" 0\.\d{4} +0\.\d\d to 0\.\d\d ", ridge), "its value and the interval of that"
    assert "validation sequences" in table
    assert "confirm exported/" in table


SMALL = """
from datasets.common.errors import TooManyRows
from own_models.linear import Linear

class Small(Linear):
    def check_size(self, n_train: int) -> None:
        raise TooManyRows(f"Small takes 10 training sequences, here are {n_train}: choose another model.")
"""


def test_a_family_that_takes_fewer_rows_is_skipped_and_the_others_go_on(here, finished_study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished_study.folder, folder)
    own = make_folder(folder / "my_models")
    write(own, "small.py", SMALL)
    write(own, "small.yaml", (own / "linear.yaml").read_text().replace("linear.Linear", "small.Small"))
    search = (*finished_study.command[2:], "--models-dir", "my_models", "--n-trials", "2")
    answer = here("--task", TASK, "--model", "small", *search, cwd=folder)
    assert answer.status == 0, answer
    assert "small is skipped: Small takes 10 training sequences, here are" in answer.err
    assert "- (skipped: there are more training sequences than it takes)" in answer.out
    assert "\nridge " in answer.out.partition("Ladder on")[2]
    alone = here("--task", TASK, "--model", "small", *search[2:], "--quiet", cwd=folder)
    assert "Small takes 10 training sequences" in alone.refusal()


@pytest.mark.system
def test_the_verdict_follows_from_confirmations_of_one_seed(here, finished_study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished_study.folder, folder)
    search = (*finished_study.command, "--model", "kernel", "--n-trials", "2", "--no-ensemble")
    assert here(*search, cwd=folder).status == 0
    files = [f"exported/{TASK}-{model}.yaml" for model in ("ridge", "kernel")]
    assert here("confirm", *files, "--seeds", "1", cwd=folder).status == 0
    table = here(*search, cwd=folder).out.partition("Ladder on")[2]
    assert "On the test set, " in table
    assert "over 2,000 test sequences, the same for both (of " in table
    assert "On validation" not in table
    assert "confirm" not in table
    low, high = bounds(table.partition("On the test set")[2])
    assert low < high
    (ridge,) = [line for line in table.splitlines() if line.startswith("ridge ")]
    assert re.search(r" 0\.\d{4} \(1 seed\) +0\.\d\d to 0\.\d\d ", ridge)
    # As an earlier version left them: its ledger and its folder hold nothing for a comparison.
    for path in (folder / "exported").glob("*/influence.safetensors"):
        path.unlink()
    for path in (folder / "exported").glob("*.ledger.jsonl"):
        line = json.loads(path.read_text())
        for values in line["values"].values():
            del values["over_sequences"]
        path.write_text(json.dumps(line) + "\n")
    table = here(*search, cwd=folder).out.partition("Ladder on")[2]
    assert "On validation, " in table
    assert "(ridge and kernel: confirm again, because what a comparison needs was not kept)" in table
    assert f"confirm {' '.join(files)}" in table
    (ridge,) = [line for line in table.splitlines() if line.startswith("ridge ")]
    assert re.search(r" 0\.\d{4} \(1 seed\) +- ", ridge)
