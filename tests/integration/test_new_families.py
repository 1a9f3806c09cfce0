"""Searches with the families that remember positions or know residues, in this process and from the command line."""

from pathlib import Path

import numpy as np
import pytest

import search
from datasets.common.errors import UserError
from search.study.config import study_config
from tests.helpers.answers import run_here

TASK = "synthetic_two_vs_rest"
SHORT = ("trainer.threads=1", "validation=holdout", "logger=none", "pruner=nop", "trainer.max_epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("epistasis", ()),
        ("forest", ("model.n_trees=10",)),
        ("cnn", ("model.pooling=position", "model.channels=8", "model.depth=1", "model.kernel_size=3")),
    ],
)
def test_a_search_ends_and_its_best_trial_predicts(model: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    request = search.SearchRequest(
        task=TASK,
        model=model,
        n_trials=3,
        executor="inline",
        quiet=True,
        overrides=(*SHORT, *overrides),
        runs_dir=tmp_path / "runs",
        export_dir=tmp_path / "export",
    )
    outcome = search.run_study(request)
    assert outcome.n_finished == 3
    assert outcome.best.value > 0
    experiment = search.load_experiment(outcome.experiment)
    wild = experiment.task.wild_type
    fitness = experiment.predict([wild, "A" + wild[1:], wild[:-1] + "W"])
    assert np.isfinite(fitness).all()


def test_positions_of_sequences_of_several_lengths_are_refused_before_any_trial(tmp_path: Path) -> None:
    rows = ["sequence,target,set,validation"]
    rows += [f"{'MKTAY' * 4}{'ACDEFGHIKL'[i % 10] * (i % 3)},{i % 7},train,{'True' * (i > 20)}" for i in range(30)]
    rows += [f"{'MKTAW' * 4},1.5,test,"]
    (tmp_path / "mine.csv").write_text("\n".join(dict.fromkeys(rows)) + "\n")
    words = ("--data", "mine.csv", "--model", "cnn", "--n-trials", "1", "--quiet", *SHORT, "model.pooling=position")
    refused = run_here(*words, "--quiet", cwd=tmp_path).refusal()
    assert "model.pooling=position" in refused
    assert "residues: use model.pooling=max or attention" in refused


def test_the_space_has_positions_where_all_sequences_have_one_length() -> None:
    found = {
        task: study_config([f"task={task}", "model=cnn"]).space.leaves["model.pooling"].choices
        for task in (TASK, "gb1_two_vs_rest", "meltome_mixed", "aav_sampled")
    }
    assert found == {
        TASK: ["max", "attention", "position"],
        "gb1_two_vs_rest": ["max", "attention", "position"],
        "meltome_mixed": ["max", "attention"],
        "aav_sampled": ["max", "attention"],
    }


def test_an_experiment_without_a_pooling_means_the_maximum() -> None:
    config = study_config([f"task={TASK}", "model=cnn", "~model.pooling", "~space.model.pooling"])
    assert config.run({}).model["pooling"] == "max"
    with pytest.raises(UserError, match="expected one of 'max', 'mean', 'attention', 'position'"):
        study_config([f"task={TASK}", "model=cnn", "model.pooling=sum"])


@pytest.mark.parametrize("model", ["cnn", "cnn_flip"])
def test_new_studies_convolve_by_taps_and_experiments_without_a_convolution_by_windows(model: str) -> None:
    words = [f"task={TASK}", f"model={model}"]
    assert study_config(words).run({}).model["convolution"] == "taps"
    assert study_config([*words, "~model.convolution"]).run({}).model["convolution"] == "windows"
    with pytest.raises(UserError, match="expected one of 'windows', 'taps'"):
        study_config([*words, "model.convolution=fft"])


@pytest.mark.parametrize("model", ["epistasis", "forest", "cnn"])
def test_score_columns_reach_the_models(model: str, tmp_path: Path) -> None:
    """The column is the target with noise, and the sequences tell nothing of it."""
    noise = np.random.default_rng(0)
    targets = noise.normal(size=200).round(4)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    sequences = {"MKTAYIAKQR" + "".join(noise.choice(letters, 6)): None for _ in range(200)}
    rows = ["sequence,fitness,hint"]
    rows += [f"{s},{y},{y + 0.3 * noise.normal():.4f}" for s, y in zip(sequences, targets, strict=True)]
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    small = {"forest": ("model.n_trees=30", "model.max_features=1.0"), "cnn": ("model.channels=4", "model.depth=1")}
    values = {}
    for use in ("all", "none"):
        request = search.SearchRequest(
            data=tmp_path / "mine.csv",
            split="random",
            zero_shot_columns=("hint",),
            model=model,
            n_trials=1,
            executor="inline",
            quiet=True,
            overrides=(*SHORT, f"scores.use={use}", *small.get(model, ())),
            study_name=f"with-{use}",
            runs_dir=tmp_path / "runs",
            export_dir=tmp_path / "export",
        )
        values[use] = search.run_study(request).best.value
    assert values["all"] > 0.6
    assert values["none"] < 0.5
