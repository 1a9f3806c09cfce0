"""One search from its data to its verified experiment, as a user runs it."""

import json
import os

import optuna
import pytest
import yaml

from search.experiments.sealed import seal
from search.study.artifacts import hash_or_missing
from tests.helpers.answers import run_here
from tests.helpers.processes import ROOT

NAME = "synthetic_one_vs_rest-cnn"
SEARCH = (
    "--task",
    "synthetic_one_vs_rest",
    "--model",
    "cnn",
    "--n-trials",
    "4",
    "trainer.max_epochs=6",
    "validation=holdout",
)


def run(folder, *arguments):
    """Call the program; exit status, standard output, standard error."""
    answer = run_here(*arguments, cwd=folder)
    return answer.status, answer.out, answer.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished study."""
    folder = tmp_path_factory.mktemp("search")
    answer = run_here(*SEARCH, cwd=folder)
    output, error = answer.out, answer.err
    assert answer.status == 0, error
    assert f"verify studies/experiment/{NAME}.yaml" in output
    assert "synthetic landscape" in output
    assert "model.channels" in output
    assert len([line for line in error.splitlines() if line.startswith("trial ")]) == 4
    return folder


def study_of(folder):
    return optuna.load_study(study_name=NAME, storage=f"sqlite:///{folder / 'runs' / 'studies.db'}")


def experiment_of(folder):
    return folder / "studies" / "experiment" / f"{NAME}.yaml"


def mended(folder, name, change):
    """A copy of the experiment, changed and with its checksum made right again."""
    path = folder / name
    path.write_text(seal(change(experiment_of(folder).read_text())))
    return str(path)


def test_first_trial_is_the_published_configuration(folder):
    first = study_of(folder).trials[0]
    assert first.params["model.channels"] == 43
    assert first.params["model.kernel_size"] == 5
    assert first.params["model.lr_encoder"] == 1e-3


def test_value_is_that_of_the_kept_weights(folder):
    best = study_of(folder).best_trial
    result = best.user_attrs["result"]
    assert best.value == result["values"][0][result["best_epochs"][0]] == max(result["values"][0])
    assert (folder / "runs" / result["checkpoints"][0]).exists()


def test_experiment_holds_the_whole_config_and_nothing_of_this_machine(folder):
    text = experiment_of(folder).read_text()
    tree = yaml.safe_load(text)
    assert tree["trainer"]["max_epochs"] == 6
    assert tree["model"]["channels"] == study_of(folder).best_trial.params["model.channels"]
    assert tree["provenance"]["data"] == "synthetic landscape"
    for word in (str(folder), str(ROOT), os.uname().nodename + ":"):
        assert word not in text


def test_status_is_one_object(folder):
    returncode, output, _ = run(folder, "status", "--study-name", NAME, "--json")
    found = json.loads(output)
    best = study_of(folder).best_trial
    assert returncode == 0
    assert (found["n_target"], found["n_finished"], found["n_failed"], found["n_running"]) == (4, 4, 0, 0)
    known = {"number": best.number, "value": best.value, "params": best.params}
    assert {key: found["best"][key] for key in known} == known
    assert set(found["best"]) - set(known) == {"interval", "optimism", "n_indistinguishable"}


@pytest.mark.system
def test_same_seed_gives_the_same_trials_bit_for_bit_in_a_process_of_its_own(folder, tmp_path, program):
    answer = program(*SEARCH, "--quiet", cwd=tmp_path)
    assert (answer.status, answer.out, answer.err) == (0, "", "")

    def essence(study):
        return [
            (
                trial.state,
                trial.value,
                trial.params,
                trial.intermediate_values,
                trial.user_attrs["result"]["best_epochs"],
            )
            for trial in study.trials
            if trial.state != optuna.trial.TrialState.PRUNED
        ], [(trial.params, trial.intermediate_values) for trial in study.trials]

    assert essence(study_of(folder)) == essence(study_of(tmp_path))


def test_verify_finds_the_same_numbers(folder):
    returncode, output, error = run(folder, "verify", str(experiment_of(folder)))
    assert returncode == 0, error
    assert "6 values in 1 fold(s) are equal bit for bit" in output
    assert "synthetic landscape" in output


def test_verify_names_the_first_step_that_differs(folder):
    path = mended(folder, "seed.yaml", lambda text: text.replace("\nseed: 0\n", "\nseed: 1\n"))
    returncode, output, error = run(folder, "verify", path)
    assert (returncode, output) == (1, "")
    assert "differs: fold 0, epoch 0: validation Spearman" in error


def test_verify_elsewhere_compares_within_a_tolerance(folder):
    def elsewhere(text):
        return text.replace("    architecture: ", "    architecture: not-")

    returncode, _, error = run(folder, "verify", mended(folder, "elsewhere.yaml", elsewhere))
    assert returncode == 0, error
    assert "Another kind of machine" in error
    value = yaml.safe_load(experiment_of(folder).read_text())["provenance"]["value"]
    path = mended(folder, "far.yaml", lambda text: elsewhere(text).replace(f"  value: {value}", "  value: 0.1"))
    assert run(folder, "verify", path)[0] == 1


def test_verify_refuses_a_file_whose_bytes_changed(folder):
    path = folder / "changed.yaml"
    path.write_text(experiment_of(folder).read_text().replace("max_epochs: 6", "max_epochs: 7"))
    returncode, output, error = run(folder, "verify", str(path))
    assert (returncode, output) == (2, "")
    assert "checksum" in error


@pytest.mark.system
def test_train_runs_an_experiment_and_a_config_with_other_loggers_and_precision(folder):
    returncode, output, error = run(folder, "train", "--experiment", str(experiment_of(folder)))
    assert returncode == 0, error
    value = yaml.safe_load(experiment_of(folder).read_text())["provenance"]["value"]
    assert f"validation Spearman {value:.4f}" in output
    config = ("train", "--task", "synthetic_one_vs_rest", "--model", "cnn", "debug=default", "validation=holdout")
    returncode, _, error = run(folder, *config, "logger=tensorboard", "trainer.precision=bf16-mixed")
    assert returncode == 0, error
    assert list(folder.glob(f"runs/train/{NAME}-*/logs/fold0/events.out.tfevents.*"))
    assert list(folder.glob("runs/train/*/logs/fold0/metrics.csv"))


@pytest.mark.system
def test_a_study_without_a_complete_trial_says_why_and_exports_nothing(tmp_path):
    arguments = ("--task", "synthetic_one_vs_rest", "--model", "cnn", "--n-trials", "2", "validation=holdout")
    rates = [f"model.{name}=1e30" for name in ("lr_encoder", "lr_decoder", "lr_embedding")]
    returncode, output, _ = run(tmp_path, *arguments, *rates, "trainer.max_epochs=2")
    assert returncode == 1
    assert "No trial is complete, so there is nothing to export. Its trials: 2 diverged" in output
    assert list((tmp_path / "studies" / "experiment").iterdir()) == []


def test_dry_run_shows_the_model_and_trains_nothing(tmp_path):
    returncode, output, _ = run(tmp_path, *SEARCH, "--dry-run", "model.dropout=0.25")
    assert returncode == 0
    assert "(dropout): Dropout(p=0.25" in output
    assert "model.channels" in output
    assert "model.dropout:" not in output.partition("# the space")[2].partition("# would build")[0]
    assert not (tmp_path / "runs" / "studies.db").exists()
    assert not (tmp_path / "studies").exists()


def test_other_package_versions_are_a_warning(folder):
    study = study_of(folder)
    study.set_user_attr("versions", {**study.user_attrs["versions"], "torch": "1.0"})
    returncode, _, error = run(folder, *SEARCH)
    assert returncode == 0
    assert 'began with other versions (torch: "1.0" -> ' in error
    assert "nothing to do" in error


def test_the_weights_stand_beside_the_experiment_and_stay(folder):
    weights = experiment_of(folder).with_suffix("") / "fold0.safetensors"
    assert yaml.safe_load(experiment_of(folder).read_text())["provenance"]["weight_hashes"] == [
        hash_or_missing(weights)
    ]
    before = experiment_of(folder).read_bytes()
    assert run(folder, *SEARCH)[0] == 0
    assert experiment_of(folder).read_bytes() == before, "what was made with the experiment would be out of date"
