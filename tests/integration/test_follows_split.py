"""What a search, a ladder and an old study do on splits by position and by group."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml

from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tables.flip_format import flip_blocks
from datasets.tasks.own_table import table_task
from datasets.tasks.synthetic import WILD_TYPE
from datasets.validation.protocols import KFold
from search.config.run_config import RunConfig, task_of
from search.storage.attributes import DamagedRow
from search.storage.url import default_url
from search.study.config import study_config
from search.study.study import recorded_validation, stands_for
from search.training.fit import fit
from search.training.result import Result
from tests.helpers.answers import Answer
from tests.helpers.small_study import make_study
from tests.helpers.tables import surveyed, write

Command = Callable[..., Answer]
SMALL = ("model.channels=16", "model.depth=1", "model.kernel_size=3", "trainer.max_epochs=2", "pruner=nop")
WORDS = ("--data", "t.csv", "--export-dir", "exported", "--n-trials", "1", "trainer.threads=1", "logger=none")
BY_GROUP = ("--split", "by_group", "--group-column", "position")


def write_table(folder: Path) -> Path:
    """All single mutants of twenty positions."""
    residues = "ACDEFGHIKL"
    draw = np.random.default_rng(0)
    rows = []
    for position, residue in product(range(5, 25), residues):
        if WILD_TYPE[position] != residue:
            sequence = WILD_TYPE[:position] + residue + WILD_TYPE[position + 1 :]
            rows.append((sequence, f"{math.sin(position) + residues.index(residue) / 5 + draw.normal():.4f}", position))
    return write(folder / "t.csv", "sequence,fitness,position", rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path)
    return tmp_path


def study(folder: Path, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=default_url(folder / "runs"))


# What a kernel has to be told for it to know nothing of positions that it never saw mutated.
BLIND = ("model.similarity=identity", "model.composition=false", "model.places=false")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "settings"), [("ridge", ()), ("kernel", BLIND)])
@pytest.mark.parametrize("words", [("--split", "by_position"), BY_GROUP])
def test_a_family_that_cannot_tell_positions_apart_is_refused_and_another_is_named(
    folder: Path, command: Command, model: str, settings: tuple[str, ...], words: tuple[str, ...]
) -> None:
    for validation in ((), ("validation=by_position",)):
        answer = command(*WORDS, "--quiet", *words, "--model", model, *settings, *validation)
        sentence = answer.refusal()
        assert f"{model.capitalize()} would predict one number for all validation variants of a fold" in sentence
        assert "--model cnn" in sentence
        assert "--model kernel" in sentence
        assert "--model ridge" not in sentence
    assert optuna.get_all_study_names(default_url(folder / "runs")) == []
    # The defaults alone, without a space around them, know nothing of amino acids.
    assert "would predict one number" in command("train", *WORDS[:2], "--quiet", *words, "--model", model).refusal()


@pytest.mark.slow
def test_a_kernel_that_knows_amino_acids_has_a_complete_trial_on_new_positions(folder: Path, command: Command) -> None:
    search = (*WORDS, "--split", "by_position", "--model", "kernel")
    answer = command(*search)
    assert answer.status == 0, answer
    assert "2 of the 3 first trials are queued: what is left out would predict one number" in answer.err
    trial, waiting = study(folder, "t-fitness-by_position-kernel").trials
    assert waiting.state.name == "WAITING"
    assert (trial.state.name, trial.params["model.similarity"]) == ("COMPLETE", "blosum62")
    # Nothing is left to be done, and nothing is queued that was left out before.
    assert "nothing to do" in command(*search).err
    answer = command(*search, "--n-trials", "2")
    assert answer.status == 0, answer
    assert "first trials" not in answer.err
    states = [trial.state.name for trial in study(folder, "t-fitness-by_position-kernel").trials]
    assert (len(states), "WAITING" in states) == (2, False)


@pytest.mark.slow
def test_first_trials_that_tell_the_variants_apart_are_tried_in_their_order(folder: Path, command: Command) -> None:
    search = ("--n-trials", "3", "--split", "random", "--model", "kernel")
    answer = command(*WORDS, *search)
    assert answer.status == 0, answer
    assert "first trials" not in answer.err
    found = [trial.params["model.similarity"] for trial in study(folder, "t-fitness-random-kernel").trials]
    assert found == ["identity", "blosum62", "physicochemical"]


@pytest.mark.slow
def test_a_first_trial_without_scores_is_left_out_where_it_knows_nothing_then(folder: Path, command: Command) -> None:
    """Ridge ranks new positions by a score column, and has a first trial without: that one would be a constant."""
    draw = np.random.default_rng(1)
    lines = (folder / "t.csv").read_text().splitlines()
    scored = [f"{lines[0]},score", *(f"{line},{draw.normal():.4f}" for line in lines[1:])]
    (folder / "t.csv").write_text("\n".join(scored) + "\n")
    columns = ("--target-column", "fitness", "--zero-shot-column", "score")
    answer = command(
        *WORDS, *columns, "--n-trials", "2", "--split", "by_position", "--model", "ridge", "first_trials=[{}]"
    )
    assert answer.status == 0, answer
    assert "1 of the 2 first trials are queued" in answer.err
    first = study(folder, "t-fitness-by_position-ridge").trials[0]
    assert (first.state.name, first.params["scores.use"]) == ("COMPLETE", "score")


@pytest.mark.system
def test_the_value_says_what_it_stands_for(folder: Path, command: Command) -> None:
    for words, shown, words_said in (
        (("--split", "by_position"), "by_position of 4", "validated on positions that training lacks"),
        (BY_GROUP, "by_group of 5", "validated on whole groups that training lacks"),
    ):
        name = words[1]
        answer = command(*WORDS, *words, "--model", "cnn", "--study-name", name, *SMALL)
        assert answer.status == 0, answer
        assert f"(auto: {shown}, " in answer.out
        assert f"\nV{words_said[1:]}.\n" in answer.out
        assert study(folder, name).user_attrs["protocol"]["stands_for"] == words_said
        assert study(folder, name).user_attrs["protocol"]["saw_test_sequences"]
        (found,) = [item for item in json.loads(command("status", "--json").out) if item["study"] == name]
        assert found["stands_for"] == words_said
        assert words_said.removeprefix("validated on ") in command("status").out
        assert command("report", "--study-name", name, "--export-dir", "exported").status == 0
        page = (folder / "runs" / name / "report.html").read_text(encoding="utf-8")
        assert f"V{words_said[1:]}." in page
        # The experiment holds what was chosen, and is found again.
        assert command("verify", f"exported/{name}.yaml").status == 0
    written = next((folder / "runs" / "data").glob("t-by_group-*.csv"))
    assert written.read_text().startswith("sequence,target,set,validation,group\n")
    assert command("verify", "exported/by_group.yaml", "--data", str(written)).status == 0
    config = yaml.safe_load((folder / "exported" / "by_group.yaml").read_text())
    assert config["validation"] == {"_target_": "datasets.grouped.ByGroup", "n_folds": 5, "seed": 0}


def test_random_rows_are_said_to_be_that(folder: Path, command: Command) -> None:
    answer = command(*WORDS, "--split", "random", "--model", "ridge", "trainer.max_epochs=1")
    assert "(auto: kfold of 5, " in answer.out
    assert "Validated on random rows of the same distribution as training.\n" in answer.out


@pytest.mark.system
def test_the_ladder_skips_the_family_and_goes_on(folder: Path, command: Command) -> None:
    ladder = ("--split", "by_position", "--model", "ridge", "--model", "kernel")
    answer = command(*WORDS, *ladder, *BLIND)
    assert answer.status == 2, "no family is left, and settings of one are no others'"
    # Settings of the network alone would be refused for the others: its own defaults are searched.
    # Of the kernel's first trials the one that knows no amino acids is left out.
    answer = command(*WORDS, *ladder, "--model", "cnn", "trainer.max_epochs=1", "pruner=nop")
    assert answer.status == 0, answer
    assert "ridge is skipped: Ridge would predict one number" in answer.err
    assert "Validated on positions that training lacks." in answer.out
    table = answer.out.partition("Ladder on")[2]
    assert "validation: auto: by_position of 4" in table
    assert "\nridge" in table
    assert "- (skipped: it cannot tell the validation variants apart)" in table
    names = optuna.get_all_study_names(default_url(folder / "runs"))
    assert sorted(names) == [f"t-fitness-by_position-{model}" for model in ("cnn", "kernel")]


def as_the_first_version_left_it(folder: Path, name: str) -> None:
    """The protocol of a study as auto noted it before it followed the split."""
    found = study(folder, name)
    known = dict(found.user_attrs["protocol"])
    del known["stands_for"]
    found.set_user_attr("protocol", {**known, "shown": f"auto: {known['shown']}", "saw_test_sequences": True})


KEPT = "t-fitness-by_position-ridge"


@pytest.mark.system
def test_a_study_keeps_the_protocol_that_it_was_begun_with(folder: Path, command: Command) -> None:
    search = (*WORDS, "--split", "by_position", "--model", "ridge", "trainer.max_epochs=1")
    assert command(*search, "validation=kfold").status == 0
    as_the_first_version_left_it(folder, KEPT)
    before = study(folder, KEPT).trials[0].value
    answer = command(*search, "--n-trials", "2")
    assert answer.status == 0, answer
    trials = study(folder, KEPT).trials
    assert [trials[0].value, len(trials)] == [before, 2]
    assert "(auto: kfold of 5, " in answer.out
    words = (
        "validated on random rows of the same distribution as training; "
        "test variants are mutated at positions that training lacks"
    )
    assert f"V{words[1:]}.\n" in answer.out
    assert study(folder, KEPT).user_attrs["protocol"]["stands_for"] == words
    assert command("verify", f"exported/{KEPT}.yaml").status == 0
    # The ladder finds it as well, and so does the study's own protocol by its name.
    answer = command(*search, "--model", "kernel", "--n-trials", "2")
    assert "validation: auto: kfold of 5" in answer.out
    assert command(*search, "--n-trials", "2", "validation=kfold").status == 0
    assert "validation" in command(*search, "--quiet", "--n-trials", "2", "validation=by_position").refusal()
    fresh = command(*search, "--quiet", "--study-name", "fresh")
    assert "Ridge would predict one number" in fresh.refusal()


@pytest.mark.system
def test_a_split_that_was_written_by_the_first_rule_is_used_as_it_is(folder: Path, command: Command) -> None:
    """With its data hash, so that its studies and experiments go on; another seed is a new split."""
    found = surveyed(folder / "t.csv", split="by_group", group_column="position")
    raw = found.raw_split()
    data = folder / "runs" / "data"
    data.mkdir(parents=True)
    written = data / f"t-by_group-{raw.content_hash[:8]}.csv"
    written.write_bytes(b"".join(flip_blocks(raw.sequence, raw.target, raw.part, raw.validation)))
    before = written.read_bytes()
    search = (*WORDS, *BY_GROUP, "--model", "ridge", "trainer.max_epochs=1", "validation=kfold")
    answer = command(*search)
    assert answer.status == 0, answer
    assert "was divided by an earlier version" in answer.err
    assert (list(data.glob("*.csv")), written.read_bytes()) == ([written], before)
    name = "t-fitness-by_group.position-ridge"
    about = study(folder, name).user_attrs["manifest"]
    assert about["data_hash"] == raw.content_hash
    assert "group_rule" not in about["table"], "as it was recorded then"
    export = yaml.safe_load((folder / "exported" / f"{name}.yaml").read_text())
    assert "group_rule" not in export["table"]
    for words in ((), ("--data", str(written))):
        assert command("verify", f"exported/{name}.yaml", *words).status == 0
    answer = command(*search, "--split-seed", "1", "--study-name", "other")
    assert answer.status == 0, answer
    assert "earlier version" not in answer.err
    assert study(folder, "other").user_attrs["manifest"]["table"]["group_rule"] == "nearest"


def run_of(folder: Path, validation: dict[str, object]) -> tuple[RunConfig, PreparedSplit]:
    found = surveyed(folder / "t.csv", split="by_position", wild_type=WILD_TYPE)
    table = replace(found.table, file=str(folder / "t.csv"))
    overrides = ["task=t", "model=ridge", "trainer.max_epochs=1", "trainer.threads=1", "logger=none"]
    run = replace(study_config(overrides, table=table).run({}), validation=validation)
    task = table_task(table, name="t")
    return run, prepare(task, data_dir=None, cache_dir=folder / "cache", announce=print)


def fitted(folder: Path, run: RunConfig, split: PreparedSplit) -> Result:
    places = Places(weights_dir=None, cache_dir=folder / "cache")
    return fit(run, split, places=places, directory=folder / "run", report=lambda *_: None)


def test_a_constant_for_each_fold_is_constant(folder: Path) -> None:
    """Folds of positions: the pooled constants had a Spearman of their own, below 0."""
    run, split = run_of(folder, {"_target_": "datasets.shifted.ByPosition", "n_folds": 4, "seed": 0})
    result = fitted(folder, run, split)
    assert (result.ending, result.value) == ("constant", None)
    assert result.reason == "in 4 of 4 fold(s) all validation predictions are the same number"
    assert not (folder / "run" / "validation.safetensors").exists()


def test_one_constant_fold_among_others_says_nothing_against_them(folder: Path) -> None:
    run, split = run_of(folder, {"_target_": "datasets.validation.KFold", "n_folds": 5, "seed": 0})
    # All validation variants of the first fold become mutants of a position that no other variant is mutated at.
    fold = KFold(n_folds=5, seed=0).folds(split, task_of(run))[0]
    residues = split.residues.copy()
    residues[fold.validation] = residues[0]
    wild = np.frombuffer(WILD_TYPE.encode(), dtype=np.uint8)
    residues[fold.validation] = wild
    for number, row in enumerate(fold.validation):
        residues[row, number % 5] = ord("ACDEFGHIKLMNPQRSTVWY"[number % 20])
    again = KFold(n_folds=5, seed=0).folds(replace(split, residues=residues), task_of(run))
    result = fitted(folder, run, replace(split, residues=residues))
    assert result.ending == "complete"
    assert result.value is not None
    assert len(again) == 5


@pytest.mark.parametrize("attribute", ["protocol", "manifest"])
@pytest.mark.parametrize("value", [None, 7, "auto: ", [1], {"validation": 3}, {"shown": 5}, {"stands_for": [2]}])
def test_what_others_wrote_into_a_study_is_refused(tmp_path: Path, attribute: str, value: object) -> None:
    database, found = make_study(f"sqlite:///{tmp_path / 'studies.db'}")
    found.set_user_attr(attribute, value)
    for read in (lambda: recorded_validation(database, found.study_name), lambda: stands_for(found.user_attrs)):
        with pytest.raises(DamagedRow):
            read()
