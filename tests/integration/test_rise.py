"""Configurations that rank test sequences by their number of mutations: found without a target, and set aside."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from datasets.common.paths import Places
from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.mutation_counts import find_mutations
from datasets.splits import prepared
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.run_config import RunConfig
from search.storage.attributes import EXCESS_RISE
from search.study.config import study_config
from search.study.ranking import best_trials, set_aside
from search.study.study import best_trial
from search.training.build import build_model
from search.training.fit import fit
from search.training.predict_split import rise_with_mutations
from search.training.weights import save_weights
from tests.helpers.small_study import add, default_database, make_study

TASK = "synthetic_one_vs_rest"


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return prepare(find_task(TASK), data_dir=None, cache_dir=tmp_path_factory.mktemp("splits"), announce=print)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(weights_dir=None, cache_dir=tmp_path / "cache")


def config(*overrides: str) -> RunConfig:
    words = [f"task={TASK}", "model=ridge", "logger=none", "trainer.threads=1", "trainer.accelerator=cpu"]
    return study_config([*words, *overrides]).run({})


def test_the_rise_is_that_of_predictions_with_the_number_of_mutations(
    split: PreparedSplit, places: Places, tmp_path: Path
) -> None:
    """A ridge made by hand whose prediction is the number of mutations, or its opposite, in two folds or one."""
    task = find_task(TASK)
    assert task.wild_type is not None
    weights = {}
    for sign in (1, -1, 0):
        model = build_model(config())
        model.weight = torch.full((len(task.wild_type), 23), float(sign), dtype=torch.float64)
        for position, residue in enumerate(task.wild_type):
            model.weight[position, 1 + ALPHABET.index(residue)] = 0
        weights[sign] = tmp_path / f"{sign}.safetensors"
        save_weights(model, weights[sign])

    def rise(*signs: int) -> float | None:
        files = [weights[sign] for sign in signs]
        return rise_with_mutations(config(), split, files, places=places, announce=print, micro_batch_tokens=None)

    residues, lengths = prepared.test_sequences(split)
    assert len(set(find_mutations(residues, lengths, task.wild_type).counts)) > 1
    assert rise(1) == pytest.approx(1)
    assert rise(-1) == pytest.approx(-1)
    assert rise(1, 0, 0) == pytest.approx(1)
    assert rise(0) is None
    assert rise(1, -1) is None  # their mean says nothing


def test_a_run_says_by_how_much_it_exceeds_what_is_allowed(
    split: PreparedSplit, places: Places, tmp_path: Path
) -> None:
    found = {}
    for most in (0.2, -0.5):
        run = config("validation=without_rise", f"validation.most={most}", "validation.protocol.n_folds=2")
        result = fit(run, split, places=places, directory=tmp_path / str(most), report=lambda *_: None)
        assert result.excess_rise is not None
        found[most] = (result.excess_rise, result.value)
    assert found[0.2][0] == pytest.approx(found[-0.5][0] - 0.7)
    assert found[0.2][1] == found[-0.5][1]
    without = fit(
        config("validation=kfold"), split, places=places, directory=tmp_path / "kfold", report=lambda *_: None
    )
    assert without.excess_rise is None


def test_trials_that_rise_come_last_whatever_their_value(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    _, study = make_study(default_database(tmp_path))
    for value, excess in ((0.9, 0.3), (0.5, -0.4), (0.95, 0.1), (0.6, None), (0.6, 0.0)):
        attributes = {} if excess is None else {EXCESS_RISE: excess}
        add(study, TrialState.COMPLETE, value=value, attributes=attributes)
    add(study, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False)
    assert [trial.number for trial in best_trials(trials, 9)] == [3, 4, 1, 2, 0]
    assert best_trial(trials) is trials[3]
    assert best_trial(trials[:1]) is trials[0]
    assert str(set_aside(trials)).startswith("Set aside: 2 of 5 complete trials, whose predictions")
    assert str(set_aside([trials[0], trials[2]])).startswith("All 2 complete trials predict more")
    assert set_aside([trials[1], trials[3]]) is None


def test_a_fold_of_equal_predictions_does_not_end_a_run_of_several(
    split: PreparedSplit, places: Places, tmp_path: Path
) -> None:
    """Mostly one variant a position: a model that has seen neither of two such variants says the same of both."""
    task = find_task(TASK)
    assert task.wild_type is not None
    sites = find_mutations(split.residues, split.lengths, task.wild_type).sites
    mutated = np.flatnonzero(sites.any(axis=0))
    at_site = [np.flatnonzero(sites[:, site]) for site in mutated]
    rows = np.sort([*(rows[0] for rows in at_site), *(rows[1] for rows in at_site[:5])])
    part = {name: getattr(split, name)[rows] for name in ("residues", "lengths", "target", "validation")}
    run = config("validation=kfold", "validation.n_folds=7")
    result = fit(run, replace(split, **part), places=places, directory=tmp_path / "run", report=lambda *_: None)
    assert result.ending == "complete"
    assert (None,) in result.values
    assert len(result.checkpoints) == len(result.values) == 7
    assert result.value is not None
    equal = replace(split, **{**part, "target": np.ones(len(rows), dtype=np.float32)})
    nothing = fit(run, equal, places=places, directory=tmp_path / "nothing", report=lambda *_: None)
    assert (nothing.ending, nothing.value) == ("constant", None)
    assert "in 7 of 7 fold(s) all validation predictions are the same number" in nothing.reason
