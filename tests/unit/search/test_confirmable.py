"""What is confirmed is what was searched: the configs of trials, found again from what their study holds."""

import json
from dataclasses import replace

import pytest

from search.experiments.confirm.candidates import Candidate, frozen_epochs, trial_config
from search.study.config import study_config


@pytest.mark.parametrize(("best_epochs", "n_epochs"), [([0], 1), ([4], 5), ([7, 7, 7], 8), ([1, 2], 3)])
def test_epochs_are_those_up_to_the_one_that_was_kept(best_epochs, n_epochs) -> None:
    assert frozen_epochs(best_epochs) == n_epochs


@pytest.mark.parametrize("model", ["ridge", "cnn", "esm"])
def test_every_config_of_a_space_is_found_again(model: str) -> None:
    study = study_config(["task=gb1_two_vs_rest", f"model={model}", "trainer.max_epochs=7"])
    fixed = json.loads(json.dumps(study.fixed))  # as the database gives it back
    corners = study.space.corners(study.defaults)
    assert len(corners) > 1
    for other, params in zip(reversed(corners), corners, strict=True):
        assert trial_config(study.run(other), fixed, params) == study.run(params)


def test_a_run_of_a_candidate_differs_in_seed_rows_and_epochs_alone() -> None:
    config = study_config(["task=synthetic_one_vs_rest", "model=cnn"]).run({})
    candidate = Candidate(trial=3, name="trial 3", value=0.5, config=config, n_epochs=4)
    run = candidate.run(11, "train")
    assert (run.seed, run.trainer.max_epochs) == (11, 4)
    assert run.validation == {"_target_": "datasets.whole_training.TrainAlone"}
    trainer = replace(run.trainer, max_epochs=config.trainer.max_epochs, patience=config.trainer.patience)
    assert replace(run, seed=config.seed, validation=config.validation, trainer=trainer, logger=config.logger) == config
    assert candidate.run(11, "train_and_validation").validation != run.validation
