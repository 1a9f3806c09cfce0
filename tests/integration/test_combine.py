"""Ensembles of real studies: selected, exported, verified, confirmed and predicted with; what cannot be combined."""

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

import search
from datasets.common.errors import UserError
from datasets.common.files import write_text
from datasets.common.paths import Places
from datasets.splits import prepared
from search.combination import combine
from search.experiments.experiment import Experiment, load_experiment
from search.experiments.exports import export_lock
from search.experiments.files import weights_folder
from search.experiments.ledger import read
from search.experiments.members import part_paths
from search.experiments.sealed import seal
from search.request.combine_request import CombineRequest
from search.request.inputs import load_split
from search.training.predictions import read_predictions
from search.training.predictor import Predictor
from search.training.result import FOLD
from search.workers.run_alone import Stopped
from tests.helpers.answers import Answer, run_here
from tests.helpers.experiments import averaged_experiment
from tests.helpers.processes import ROOT, Search, finish, signal_group, wait_until
from tests.helpers.tables import variants, write

FAMILIES = ("ridge", "kernel", "cnn")
WEIGHTS = np.array([0.5, 0.25, 0.25])


@dataclass(frozen=True, kw_only=True)
class Searched:
    """Three studies on one table, and a folder for their experiments."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    def run(self, *words: str) -> Answer:
        return run_here(*words, "--runs-dir", "runs", cwd=self.folder)

    def copied(self, folder: Path) -> "Searched":
        """A copy in an empty folder, as on a second machine."""
        there = Searched(folder=folder)
        shutil.copytree(self.runs, there.runs)
        shutil.copytree(self.exports, there.exports)
        (folder / "small.csv").write_bytes((self.folder / "small.csv").read_bytes())
        return there

    def combine(self, *words: str) -> Answer:
        return self.run("combine", *words, "--export-dir", "exports")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    found = Searched(folder=tmp_path_factory.mktemp("combined"))
    rows = [row for row in variants() if row[0] != "WT"]
    chosen = np.random.default_rng(0).permutation(len(rows))[:120]
    table = write(found.folder / "small.csv", "sequence,fitness", [rows[i][1:] for i in chosen])
    for family in FAMILIES:
        search.run_study(
            search.SearchRequest(
                data=table,
                split="random",
                model=family,
                study_name=family,
                n_trials=2,
                keep_top=1,
                overrides=["trainer.threads=1", "validation=kfold", "validation.n_folds=3", "pruner=nop"]
                + (["trainer.max_epochs=2"] if family == "cnn" else []),
                runs_dir=found.runs,
                export_dir=found.exports,
                executor="inline",
                quiet=True,
            )
        )
    return found


@pytest.fixture(scope="module")
def combined(searched: Searched) -> Path:
    answer = searched.combine(*FAMILIES, "--export", "together", "--members", "3")
    assert answer.status == 0, answer
    assert "Out-of-bag validation Spearman" in answer.out
    assert "validation Spearman alone" in answer.out
    assert "of ridge, kernel, cnn" in answer.out or "of cnn, kernel, ridge" in answer.out
    return searched.exports / "together.yaml"


@pytest.fixture(scope="module")
def of_three(searched: Searched) -> Path:
    """The best of each family in one file, whatever a selection would take."""
    exports = [searched.exports / f"{family}.yaml" for family in FAMILIES]
    found = [
        read_predictions(searched.runs / family, load_experiment(export).provenance.trial)
        for family, export in zip(FAMILIES, exports, strict=True)
    ]
    known = [one for one in found if one is not None]
    return averaged_experiment(searched.exports / "three.yaml", exports, known, WEIGHTS, searched.runs)


def test_members_stand_beside_the_file_each_with_its_weights(searched: Searched, combined: Path) -> None:
    experiment = load_experiment(combined)
    assert experiment.ensemble is not None
    assert 1 <= len(experiment.parts) <= 3
    assert set(experiment.ensemble.origins.studies) == set(FAMILIES)
    for place, part in zip(part_paths(combined, experiment), experiment.parts, strict=True):
        assert len(part.provenance.weight_hashes) == 3
        assert "missing" not in part.provenance.weight_hashes, "what --keep-top did not keep was trained again"
        assert sorted(path.name for path in weights_folder(place).glob("*.safetensors")) == [
            FOLD.format(fold) for fold in range(3)
        ]
    assert list((searched.runs / "combine").iterdir()) == []


def test_the_same_studies_give_the_same_file(searched: Searched, combined: Path) -> None:
    before = combined.read_bytes()
    found = search.combine(
        [*reversed(FAMILIES)],
        export="together",
        members=3,
        runs_dir=searched.runs,
        export_dir=searched.exports,
        data=searched.folder / "small.csv",
        quiet=True,
    )
    assert combined.read_bytes() == before
    assert found.path == combined
    assert found.n_candidates == 6
    assert found.interval is not None
    assert found.interval.low <= found.ensemble.origins.value <= found.interval.high


def test_verify_trains_every_member_and_names_what_was_changed(searched: Searched, of_three: Path) -> None:
    answer = searched.run("verify", str(of_three))
    assert answer.status == 0, answer
    for number, family in enumerate(FAMILIES):
        part = load_experiment(of_three).parts[number].provenance
        assert f"verified: member {number} (trial {part.trial} of study {family}): " in answer.out
    assert answer.out.count("are equal bit for bit") == 3
    assert "verified: ensemble: the scales of 3 members follow" in answer.out

    def change(tree: Any) -> None:
        tree["members"][2]["experiment"]["provenance"]["values"][1][1] += 1e-9
        tree["members"][1]["mean"] += 1e-9

    changed = _changed(of_three, searched.exports / "changed.yaml", change)
    answer = searched.run("verify", str(changed), "--quiet")
    assert answer.status == 1
    assert "differs: member 2 (trial" in answer.err
    assert "fold 1, epoch 1: validation Spearman" in answer.err
    assert "differs: ensemble: the scales of its members" in answer.err
    assert answer.err.count("differs") == 2


def _changed(path: Path, target: Path, change: Callable[[Any], None]) -> Path:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["provenance"].pop("checksum")
    change(tree)
    write_text(target, seal(yaml.safe_dump(tree, sort_keys=False)))
    shutil.copytree(weights_folder(path), weights_folder(target), dirs_exist_ok=True)
    return target


def test_a_prediction_is_the_weighted_mean_of_standardised_ones(searched: Searched, of_three: Path) -> None:
    experiment = load_experiment(of_three)
    assert experiment.ensemble is not None
    origins = experiment.ensemble.origins
    sequences = [sequence for _, sequence, _ in variants()[:40]]
    rows = []
    for place, member in zip(part_paths(of_three, experiment), experiment.ensemble.members, strict=True):
        part, share = member.experiment, member.share
        alone = _predictions(
            part, [weights_folder(place) / FOLD.format(fold) for fold in range(3)], sequences, searched
        )
        rows += [
            (share.weight / 3, origins.intercept + origins.slope * (one - share.mean) / share.deviation)
            for one in alone.astype(np.float64)
        ]
    weights, members = np.array([weight for weight, _ in rows]), np.stack([row for _, row in rows])
    mean = weights @ members
    spread = np.sqrt(weights @ (members - mean) ** 2 / (1 - (weights**2).sum()))
    trained = search.load_experiment(of_three)
    assert trained.n_members == 9
    np.testing.assert_allclose(trained.predict(sequences), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trained.predict_members(sequences), members, rtol=1e-5, atol=1e-6)
    (searched.folder / "in.txt").write_text("\n".join(sequences) + "\n")
    words = ("predict", str(of_three), "--input", "in.txt", "--output", "out.csv", "--no-distance", "--quiet")
    answer = searched.run(*words)
    assert answer.status == 0, answer
    lines = [line.split(",") for line in (searched.folder / "out.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose([float(line[2]) for line in lines], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([float(line[3]) for line in lines], spread, rtol=2e-3, atol=1e-6)


def _predictions(part: Experiment, files: list[Path], sequences: list[str], searched: Searched) -> Any:
    predictor = Predictor(
        part.config, files, places=Places(weights_dir=None, cache_dir=searched.runs / "cache"), micro_batch_tokens=None
    )
    residues = np.array([list(sequence.encode()) for sequence in sequences], dtype=np.uint8)
    return predictor(residues, np.full(len(sequences), residues.shape[1], dtype=np.int64))


def test_confirm_trains_every_member_and_reads_the_test_set_once(searched: Searched, of_three: Path) -> None:
    answer = searched.run("confirm", str(of_three), "--seeds", "1", "--json")
    assert answer.status == 0, answer
    found = json.loads(answer.out)
    assert [one["study"] for one in found["members"]] == list(FAMILIES)
    assert [one["weight"] for one in found["members"]] == WEIGHTS.tolist()
    (reading,) = read(of_three.with_name("three.ledger.jsonl"))
    assert (reading.model, reading.study, reading.of) == ("ensemble", "ridge", "ensemble of 3")
    assert reading.values["train"]["ensemble"]["spearman"] == found["train"]["ensemble"]["spearman"]
    noted = [
        key
        for name in FAMILIES
        for key in search.open_study(name, runs_dir=searched.runs).user_attrs
        if key.startswith("reading:")
    ]
    assert noted == [f"reading:{reading.id}"]
    trained = search.load_experiment(of_three)
    assert (trained.origin, trained.n_members) == ("confirm", 3)
    _check_scales(searched, of_three, trained)
    assert "--top-k is of the trials of one study" in searched.run("confirm", str(of_three), "--top-k", "2").refusal()
    shutil.rmtree(weights_folder(of_three) / "member1")
    assert "member1/seed" in searched.run("predict", str(of_three), "--mutagenesis", "singles").refusal()


def _check_scales(searched: Searched, path: Path, trained: Any) -> None:
    """Members that were trained again are standardised by what they predict now of the test sequences."""
    experiment, record = load_experiment(path), weights_folder(path) / "confirm.json"
    assert experiment.ensemble is not None
    split = load_split(experiment.task(searched.folder / "small.csv"), None, searched.runs, print)
    residues, lengths = prepared.test_sequences(split)
    assert len(lengths) <= 500
    sequences, origins = [bytes(row).decode() for row in residues], experiment.ensemble.origins
    told = json.loads(record.read_text())
    standardised = []
    for place, part, scale in zip(part_paths(path, experiment), experiment.parts, told["scales"], strict=True):
        of_test = _predictions(part, list(weights_folder(place).glob("seed*")), sequences, searched).mean(axis=0)
        assert scale == pytest.approx([of_test.mean(), of_test.std()], rel=1e-4)
        standardised.append((of_test - scale[0]) / scale[1])
    expected = origins.intercept + origins.slope * WEIGHTS @ np.stack(standardised)
    np.testing.assert_allclose(trained.predict(sequences), expected, rtol=1e-4, atol=1e-5)
    for scales in (
        [[0, 1]],
        [[0, 1], [0, 1], [0, -1]],
        [[0, 1], [0, 1], [0, float("inf")]],
        "x",
        [[0, 1, 2]] * 3,
        5,
        [["0", "1"]] * 3,
    ):
        record.write_text(json.dumps(told | {"scales": scales}))
        answer = searched.run("predict", str(path), "--mutagenesis", "singles")
        assert "is not what `confirm` wrote, which is to be run again: scales" in answer.refusal()
    record.write_text(json.dumps({key: value for key, value in told.items() if key != "scales"}))
    (searched.folder / "one.txt").write_text(f"{sequences[0]}\n")
    answer = searched.run("predict", str(path), "--input", "one.txt", "--no-distance")
    assert (answer.status, "may be far off; `confirm` again" in answer.err) == (0, True), answer
    record.write_text(json.dumps(told))


def test_weights_of_a_member_that_were_changed_are_named(searched: Searched, combined: Path) -> None:
    copy = searched.exports / "copy.yaml"
    shutil.copyfile(combined, copy)
    shutil.copytree(weights_folder(combined), weights_folder(copy))
    file = weights_folder(copy) / "member0" / FOLD.format(1)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for words in (("predict", str(copy), "--mutagenesis", "singles"), ("confirm", str(copy), "--seeds", "1")):
        text = searched.run(*words).refusal()
        assert "copy/member0/fold1.safetensors were changed since" in text
        assert "weight_hashes[1] of " in text
    copy.write_text(copy.read_text().replace("weight: ", "weight:  ", 1))
    for command in ("predict", "verify"):
        words = (command, str(copy), *(["--mutagenesis", "singles"] if command == "predict" else []))
        assert "copy.yaml was changed since it was written" in searched.run(*words).refusal()


def test_train_takes_one_config(searched: Searched, combined: Path) -> None:
    assert "`verify` trains all of them" in searched.run("train", "--experiment", str(combined)).refusal()


def test_another_experiment_is_not_replaced(searched: Searched, combined: Path) -> None:
    assert "is the name of a study" in searched.combine("ridge", "--export", "ridge").refusal()
    assert "is no ensemble of these studies" in searched.combine("ridge", "--export", "together").refusal()
    (searched.exports / "mine.yaml").write_text("x")
    assert "is no ensemble of these studies" in searched.combine("ridge", "--export", "mine").refusal()


def test_what_is_not_of_the_weights_stays(searched: Searched, tmp_path: Path) -> None:
    folder, other = searched.exports / "tidy", tmp_path / "other"
    for place in (folder, other):
        (place / "member7").mkdir(parents=True)
        (place / "member7" / "notes.txt").write_text("mine")
        (place / "member8").mkdir()
        for name in (FOLD.format(0), "seed3.safetensors"):
            (place / "member8" / name).write_bytes(b"of an earlier ensemble")
    assert searched.combine("ridge", "--export", "tidy").status == 0
    assert (folder / "member7" / "notes.txt").read_text() == "mine"
    assert not (folder / "member8").exists()
    for name, make in (("linked", lambda path: path.symlink_to(other)), ("file", lambda path: path.write_text("x"))):
        make(searched.exports / name)
        answer = searched.combine("ridge", "--export", name)
        assert f"and the weights of exports/{name}.yaml belong there: move it away" in answer.refusal()
        assert not (searched.exports / f"{name}.yaml").exists()
    assert sorted(path.name for path in other.iterdir()) == ["member7", "member8"]


def test_an_ensemble_of_some_of_the_studies_is_replaced(searched: Searched) -> None:
    """As a ladder leaves it that was stopped before its last family."""
    assert searched.combine("ridge", "kernel", "--export", "grows").status == 0
    answer = searched.combine(*FAMILIES, "--export", "grows")
    assert answer.status == 0, answer
    ensemble = load_experiment(searched.exports / "grows.yaml").ensemble
    assert ensemble is not None
    assert set(ensemble.origins.studies) == set(FAMILIES)


def test_a_member_is_not_trained_again_whose_weights_an_earlier_ensemble_has(
    searched: Searched, tmp_path: Path
) -> None:
    """Whatever its number was there; those that somebody changed are not taken."""
    there = searched.copied(tmp_path)
    for file in there.runs.glob("*/trial-*/fold*.safetensors"):
        file.unlink()
    words = (*FAMILIES, "--export", "grown", "--members", "3", "--data", "small.csv")
    answer = there.combine(*words)
    assert answer.status == 0, answer
    n_members = answer.err.count("it is trained again")
    assert n_members == len(load_experiment(there.exports / "grown.yaml").parts)
    assert "it is trained again" not in there.combine(*words).err
    one = weights_folder(there.exports / "grown.yaml") / "member0" / FOLD.format(1)
    content = one.read_bytes()
    one.unlink()
    one.write_bytes(content[:-1] + b"x")
    answer = there.combine(*words)
    assert answer.status == 0, answer
    assert answer.err.count("it is trained again") == 1
    assert one.read_bytes() == content


def test_no_member_is_trained_again_once_the_time_is_over(searched: Searched, tmp_path: Path) -> None:
    there = Searched(folder=tmp_path)
    shutil.copytree(searched.runs, there.runs)
    for file in there.runs.glob("*/trial-*/fold*.safetensors"):
        file.unlink()
    exports = shutil.copytree(searched.exports, there.exports)
    request = CombineRequest(
        studies=FAMILIES, export="late", runs_dir=there.runs, export_dir=exports, data=searched.folder / "small.csv"
    )
    with pytest.raises(Stopped) as stopped:
        combine(request, deadline=time.monotonic())
    assert stopped.value.exit_status == 0
    assert not (exports / "late.yaml").exists()
    assert list((there.runs / "combine").iterdir()) == []


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind_wherever_it_comes(searched: Searched, number: int) -> None:
    """Here while the command waits for the lock of the folder of experiments."""
    words = ("combine", *FAMILIES, "--export", "stopped", "--runs-dir", "runs", "--export-dir", "exports")
    with export_lock(searched.exports):
        process = Search([sys.executable, str(ROOT / "run_study.py"), *words], searched.folder)
        wait_until(process, lambda: any((searched.runs / "combine").glob("stopped-*")))
        signal_group(process, number)
        status, said = finish(process)
    assert status == 128 + number, said
    assert "Traceback" not in said
    assert list((searched.runs / "combine").iterdir()) == []
    assert not (searched.exports / "stopped.yaml").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--export", "x"), "The following arguments are required: STUDY"),
        (("ridge",), "The following arguments are required: --export"),
        (("ridge", "--export", "../x"), "is not valid: expected up to 100 letters"),
        (("ridge", "--export", "cache"), "no name that the program uses"),
        (("ridge", "--export", "x", "--members", "0"), "is not valid: expected a whole number"),
        (("ridge", "--export", "x", "--members", "65"), "--members 65 is not valid: expected 1 to 64"),
        (("rigde", "--export", "x"), "There is no study 'rigde'"),
    ],
)
def test_what_is_not_valid_is_a_sentence(searched: Searched, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in searched.combine(*words).refusal()


def test_studies_that_do_not_belong_together_are_named(searched: Searched) -> None:
    """As the database would hold them: a study of other data, of other folds, and one without trials."""
    storage = f"sqlite:///{searched.runs / 'studies.db'}"
    about = search.open_study("ridge", runs_dir=searched.runs).user_attrs
    cases = {
        "other-data": ({"data_hash": "f" * 64}, "has another data"),
        "other-folds": ({"validation": {"_target_": "datasets.validation.Holdout"}}, "has another validation"),
        "other-task": ({"task": "another"}, "has another task"),
        "empty": ({}, "has no complete trial"),
    }
    for name, (changes, sentence) in cases.items():
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        for key in ("n_target", "protocol", "study_id"):
            study.set_user_attr(key, about[key])
        study.set_user_attr("manifest", {**about["manifest"], **changes})
        answer = searched.combine("ridge", name, "--export", "x")
        assert sentence in answer.refusal()
        assert name in answer.err
        optuna.delete_study(study_name=name, storage=storage)


def test_files_that_are_elsewhere_are_named_with_the_command_that_fetches_them(
    searched: Searched, tmp_path: Path
) -> None:
    """A copy of the database and of some folders, as on a second machine; trials say which host ran them."""
    there = searched.copied(tmp_path)
    shutil.rmtree(there.runs / "kernel")
    text = there.combine("ridge", "kernel", "--export", "x").refusal()
    assert "What 2 trial(s) of study kernel predicted" in text
    assert "Or leave the study out." in text
    shutil.rmtree(there.runs / "ridge" / "trial-00001")
    answer = there.combine("ridge", "--export", "alone", "--data", "small.csv")
    assert answer.status == 0, answer
    assert "What 1 trial(s) of study ridge predicted (1) is not in" in answer.err
    assert "1 member, selected from 1 configuration of ridge" in answer.out


def test_the_command_that_fetches_names_the_hosts() -> None:
    from search.study.combinable import how_to_fetch

    study = optuna.create_study(study_name="s")
    trial = optuna.trial.create_trial(value=0.0, user_attrs={"worker": "node 7:123"})
    text = how_to_fetch(study, [trial], Path("/data/runs"))
    assert "rsync -a 'node 7:/data/runs/s/' /data/runs/s/" in text


def test_a_request_says_what_is_not_valid() -> None:
    with pytest.raises(UserError, match="expected the names of one study or more"):
        search.combine("ridge", export="x")
