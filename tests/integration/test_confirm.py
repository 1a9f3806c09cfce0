"""Confirmed numbers can be repeated bit for bit, are those of the test set, and stand in the ledger before all else."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

import search.confirmation
from datasets.common.errors import UserError
from datasets.tasks.registry import find_task
from search.cli.main import main
from search.experiments.confirm.candidates import of_experiment
from search.experiments.confirm.kept_runs import KeptRun, begin_again, folder_of, keep_run, kept_run
from search.experiments.confirm.results import read_influence
from search.experiments.experiment import checksum, load_experiment
from search.experiments.files import confirmation_file, ledger_file
from search.experiments.ledger import Reading, read
from search.experiments.sealed import seal
from search.training.checkpoint.files import has_state
from tests.helpers.answers import Answer
from tests.helpers.processes import ROOT
from tests.helpers.study_fixtures import Program

TASK = "synthetic_one_vs_rest"
SEARCH = ("--task", TASK, "trainer.threads=1", "pruner=nop", "validation=holdout")
RIDGE = ("--model", "ridge", "--n-trials", "3", *SEARCH)
CNN = ("--model", "cnn", "--n-trials", "2", "trainer.max_epochs=2", "space.model.channels.high=44", *SEARCH)
# Put in front of every process of a search, its children included: the test set raises when it is read.
SEALED = """
import sys
class Sealed:
    def find_spec(self, name, path=None, target=None):
        if name == "datasets.splits.held_out":
            raise RuntimeError("the seal of the test set was broken")
sys.meta_path.insert(0, Sealed())
"""


def run(*words: str, err: io.StringIO | None = None) -> Answer:
    """A command in this process."""
    out, err = io.StringIO(), err or io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return Answer(status=status, out=out.getvalue(), err=err.getvalue())


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Two finished studies and their experiments."""

    folder: Path
    ridge: Path
    cnn: Path

    def confirm(self, *words: str) -> Answer:
        return run("confirm", "--runs-dir", str(self.folder / "runs"), *words)

    def changed(self, name: str, change: Callable[[str], str], of: str = "ridge") -> Path:
        """A copy of an experiment, changed and with its checksum made right again."""
        path = self.folder / f"{name}.yaml"
        path.write_text(seal(change(getattr(self, of).read_text(encoding="utf-8"))), encoding="utf-8")
        return path


@pytest.mark.system
def test_a_search_does_not_read_the_test_set(tmp_path: Path, program: Program) -> None:
    seal_folder = tmp_path / "seal"
    seal_folder.mkdir()
    (seal_folder / "sitecustomize.py").write_text(SEALED)
    env = {"PYTHONPATH": str(seal_folder)}
    broken = subprocess.run(
        [sys.executable, "-c", "import datasets.splits.held_out"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert "the seal of the test set was broken" in broken.stderr
    answer = program(*RIDGE, cwd=tmp_path, env=env)
    assert answer.status == 0, answer
    assert (tmp_path / "studies" / "experiment" / f"{TASK}-ridge.yaml").exists()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("to confirm")
    exports = folder / "studies" / "experiment"
    for words in (RIDGE, CNN):
        answer = run(*words, "--runs-dir", str(folder / "runs"), "--export-dir", str(exports))
        assert answer.status == 0, answer
    return Exported(folder=folder, ridge=exports / f"{TASK}-ridge.yaml", cnn=exports / f"{TASK}-cnn.yaml")


@pytest.fixture(scope="module")
def twice(exported: Exported) -> tuple[list[Any], list[Any]]:
    """Both experiments, confirmed two times over the same seeds."""
    answers = [exported.confirm(str(exported.ridge), str(exported.cnn), "--seeds", "2", "--json") for _ in range(2)]
    for answer in answers:
        assert (answer.status, answer.err) == (0, "")
    first, second = (json.loads(answer.out) for answer in answers)
    return first, second


def test_two_confirmations_are_equal_bit_for_bit(twice: tuple[list[Any], list[Any]]) -> None:
    first, second = twice
    for one, other in zip(first, second, strict=True):
        assert one.pop("n_readings") + 1 == other.pop("n_readings")
        assert one.pop("n_readings_in_all") + 2 == other.pop("n_readings_in_all"), "of both models"
        assert one == other
    assert [one["model"] for one in first] == ["ridge", "cnn"]


def test_a_confirmation_is_an_object_of_the_promised_shape(twice: tuple[list[Any], list[Any]]) -> None:
    for found in twice[0]:
        assert (found["task"], found["official"], found["seeds"]) == (TASK, True, [1, 2])
        assert found["data"] == "synthetic landscape"
        metrics = ["spearman", "mse", "ndcg", "recall_top_1", "recall_top_10"]
        for part in (found, found["train"]):
            assert list(part["test"]) == list(part["ensemble"]) == metrics
            assert list(part["over_sequences"]) == metrics
            for name, spread in part["test"].items():
                assert list(spread) == ["mean", "std", "low", "high"]
                values = [one[name] for one in part["per_seed"]]
                assert spread["mean"] == pytest.approx(np.mean(values))
                if found["model"] == "ridge" or values[0] == values[1]:  # an exact model's agree but for rounding
                    assert (spread["std"], spread["low"], spread["high"]) == (None, None, None)
                else:
                    assert spread["low"] <= spread["mean"] <= spread["high"]
                    assert spread["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
                around = part["over_sequences"][name]
                assert list(around) == ["low", "high"]
                assert around["low"] <= spread["mean"] <= around["high"]
                assert around["low"] < around["high"]
    cnn = twice[0][1]
    assert cnn["test"]["spearman"]["std"] > 0, "another seed is another network"
    assert cnn["test"] != cnn["train"]["test"]


def test_the_numbers_are_those_of_another_program_on_the_test_rows(
    exported: Exported, twice: tuple[list[Any], list[Any]]
) -> None:
    source = find_task(TASK).source
    raw = source.read(source.locate(data_dir=None, announce=print), find_task(TASK).split)
    part, target = np.array(raw.part), np.array(raw.target, dtype=np.float64)
    kinds = sorted(set("".join(raw.sequence)))
    one_hot = np.array([[residue == kind for residue in s for kind in kinds] for s in raw.sequence], dtype=np.float64)
    alpha = load_experiment(exported.ridge).config.model["alpha"]
    is_validation = np.array(raw.validation) == "True"
    for found, rows in (
        (twice[0][0], part == "train"),
        (twice[0][0]["train"], (part == "train") & ~is_validation),
    ):
        prediction = Ridge(alpha=alpha).fit(one_hot[rows], target[rows]).predict(one_hot[part == "test"])
        expected = target[part == "test"]
        assert found["test"]["spearman"]["mean"] == pytest.approx(spearmanr(prediction, expected).statistic, abs=1e-3)
        assert found["test"]["mse"]["mean"] == pytest.approx(np.mean((prediction - expected) ** 2), rel=1e-4)
        assert found["ensemble"]["mse"] == pytest.approx(found["test"]["mse"]["mean"], rel=1e-4)


def test_the_epochs_are_those_up_to_the_best(exported: Exported, twice: tuple[list[Any], list[Any]]) -> None:
    for found, path in zip(twice[0], (exported.ridge, exported.cnn), strict=True):
        assert found["n_epochs"] == load_experiment(path).provenance.best_epochs[0] + 1
        assert found["validation"] == load_experiment(path).provenance.value


def test_every_reading_stands_in_the_ledger(exported: Exported, twice: tuple[list[Any], list[Any]]) -> None:
    for found, path in zip(twice[0], (exported.ridge, exported.cnn), strict=True):
        ledger = path.with_name(f"{path.stem}.ledger.jsonl")
        assert found["ledger"] == str(ledger)
        first, second = read(ledger)[:2]
        assert first.values == second.values
        assert first.checksum == checksum(path)
        assert (first.study, first.task, first.seeds, first.n_test) == (path.stem, TASK, [1, 2], 2600)
        assert first.data_hash == load_experiment(path).provenance.data_hash
        assert first.code["versions"]["torch"]
        for name, part in (("train_and_validation", found), ("train", found["train"])):
            assert first.values[name]["ensemble"] == part["ensemble"]
            assert first.values[name]["per_seed"]["mse"] == [one["mse"] for one in part["per_seed"]]
            around = part["over_sequences"]["spearman"]
            assert first.values[name]["over_sequences"]["spearman"] == [around["low"], around["high"]]


def test_the_weights_of_the_seeds_are_left_beside_the_experiment(
    exported: Exported, twice: tuple[list[Any], list[Any]]
) -> None:
    for path in (exported.ridge, exported.cnn):
        folder = path.with_suffix("")
        about = json.loads((folder / "confirm.json").read_text())
        assert (about["checksum"], about["seeds"]) == (checksum(path), [1, 2])
        for one in about["weights"]:
            content = (folder / one["file"]).read_bytes()
            assert one["hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        files = sorted(file.name for file in folder.iterdir())
        names = ["confirm.json", "fold0.safetensors", "influence.safetensors", "seed1.safetensors", "seed2.safetensors"]
        assert files == names
        assert len({file.stat().st_mode for file in [path, *folder.iterdir()]}) == 1  # others read all or nothing
    assert not list((exported.folder / "runs" / "confirm").rglob("*.safetensors"))


def test_status_says_who_read_the_test_set(exported: Exported, twice: Any) -> None:
    names, exports = [exported.ridge.stem, exported.cnn.stem], str(exported.ridge.parent)
    status = ("status", "--runs-dir", str(exported.folder / "runs"), "--export-dir", exports)
    counts = json.loads(run(*status, "--study-name", names[0], "--json").out)["test_readings"]
    assert counts == {name: len(read(exported.ridge.with_name(f"{name}.ledger.jsonl"))) for name in names}
    assert f"test set read {counts[names[0]]}x, {sum(counts.values())}x in all" in run(*status).out


def test_status_goes_on_without_a_ledger_that_is_broken(exported: Exported, twice: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.ledger.jsonl").write_text("{\n")
    status = ("status", "--runs-dir", str(exported.folder / "runs"), "--export-dir", str(tmp_path))
    answer = run(*status, "--json")
    assert (answer.status, answer.err) == (0, "")
    for one in json.loads(answer.out):
        assert one["test_readings"][exported.ridge.stem] >= 2, "the database knows them"
        broken, missing = one["test_readings_missing"]
        assert "mine.ledger.jsonl, line 1 is no reading" in broken
        assert f"There is no ledger of {exported.cnn.stem}, {exported.ridge.stem} in {tmp_path}" in missing
    table = run(*status).out
    assert re.search(r"test set read at least \d+x, at least \d+x in all$", table, re.MULTILINE)
    assert table.count("mine.ledger.jsonl, line 1 is no reading") == 1


@pytest.mark.slow
def test_what_people_see_names_both_uncertainties_and_an_exact_model_has_one(exported: Exported, twice: Any) -> None:
    answer = exported.confirm(str(exported.ridge), "--seeds", "2")
    assert answer.status == 0, answer
    assert "over seeds" not in answer.out
    assert "±" not in answer.out
    assert "ensemble" not in answer.out
    assert answer.out.count("over test sequences: 95 % interval") == 2
    around = twice[0][0]["over_sequences"]["spearman"]
    row = f"{twice[0][0]['test']['spearman']['mean']:.4f}  {around['low']:.4f} to {around['high']:.4f}"
    assert re.search(rf"^Spearman +{re.escape(row)}", answer.out, re.MULTILINE)
    assert "The 2 seeds give the same numbers, so the test sequences are their only uncertainty." in answer.out
    answer = exported.confirm(str(exported.cnn), "--seeds", "2")
    header = (
        r"^trained on train\+validation +mean +over seeds: ± std \(95 % interval\) +over test sequences: 95 % interval"
    )
    assert re.search(header, answer.out, re.MULTILINE)
    cnn = twice[0][1]
    spread, around = cnn["test"]["spearman"], cnn["over_sequences"]["spearman"]
    seeds = f"± {spread['std']:.4f} ({spread['low']:.4f} to {spread['high']:.4f})"
    assert re.search(rf"{re.escape(seeds)} +{around['low']:.4f} to {around['high']:.4f}", answer.out)
    assert "Over seeds: how far training with other seeds would move the mean." in answer.out
    one = exported.confirm(str(exported.cnn), "--seeds", "1")
    assert "±" not in one.out
    assert "With one seed the differences between seeds are not known" in one.out


def test_what_a_comparison_needs_is_left_beside_the_experiment_and_belongs_to_the_last_reading(
    exported: Exported, twice: Any
) -> None:
    path = exported.changed("influence", lambda text: text)
    for _ in range(2):
        assert exported.confirm(str(path), "--seeds", "1", "--quiet").status == 0
    before, last = read(path.with_name("influence.ledger.jsonl"))
    found = read_influence(path, last)
    assert found is not None
    assert found.shape == (last.n_test,)
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert np.linalg.norm(found) / last.n_test == pytest.approx(
        (last.values["train_and_validation"]["over_sequences"]["spearman"][1] - last_spearman(last)) / 1.96, rel=0.15
    )
    if before.when != last.when:
        assert read_influence(path, before) is None
    assert read_influence(path, replace(last, checksum="sha256:0")) is None
    assert read_influence(exported.folder / "nothing.yaml", last) is None
    place = path.with_suffix("") / "influence.safetensors"
    place.write_bytes(b"half a file")
    assert read_influence(path, last) is None
    place.unlink()
    os.mkfifo(place)
    assert read_influence(path, last) is None


def last_spearman(reading: Reading) -> float:
    return float(reading.values["train_and_validation"]["per_seed"]["spearman"][-1])


@pytest.mark.slow
def test_fewer_seeds_leave_no_weights_of_others(exported: Exported, twice: Any) -> None:
    copy = exported.changed("fewer", lambda text: text)
    for n_seeds in ("2", "1"):
        assert exported.confirm(str(copy), "--seeds", n_seeds, "--quiet") == Answer(status=0, out="", err="")
    names = sorted(file.name for file in copy.with_suffix("").iterdir())
    assert names == ["confirm.json", "influence.safetensors", "seed1.safetensors"]
    assert json.loads((copy.with_suffix("") / "confirm.json").read_text())["seeds"] == [1]


def test_the_best_trials_of_the_study_are_confirmed_as_a_table(exported: Exported, twice: Any) -> None:
    ledger = exported.ridge.with_name(f"{exported.ridge.stem}.ledger.jsonl")
    n_before = len(read(ledger))
    answer = exported.confirm(str(exported.ridge), "--seeds", "1", "--top-k", "2")
    assert answer.status == 0, answer
    found = read(ledger)[n_before:]
    assert found[0].trial == load_experiment(exported.ridge).provenance.trial != found[1].trial
    for reading in found:
        assert f"Trial {reading.trial}, validation Spearman" in answer.out
        assert f"{reading.values['train']['per_seed']['spearman'][0]:.4f}" in answer.out
    assert "synthetic landscape" in answer.out
    assert "would make its numbers worthless" in answer.out
    assert "train+validation" in answer.out
    assert "ensemble" not in answer.out, "one seed is none"


def refused(answer: Answer) -> str:
    assert answer.out == ""
    return answer.refusal()


def test_bad_input_is_a_sentence(exported: Exported) -> None:
    path = str(exported.ridge)
    assert "'0' is not valid" in refused(exported.confirm(path, "--seeds", "0"))
    assert "'five' is not valid" in refused(exported.confirm(path, "--seeds", "five"))
    assert "'0' is not valid" in refused(exported.confirm(path, "--top-k", "0"))
    assert "EXPERIMENT" in refused(exported.confirm())
    assert "No such file" in refused(exported.confirm(str(exported.folder / "missing.yaml")))


def test_a_file_by_whose_name_no_reading_can_be_noted_is_refused(exported: Exported) -> None:
    """The study, in which readings are noted, could not be read any more."""
    path = exported.changed("a\tb", lambda text: text)
    sentence = refused(exported.confirm(str(path), "--seeds", "1"))
    assert "The name of an experiment's file is 'a\\tb', expected a line of text" in sentence
    assert not path.with_name("a\tb.ledger.jsonl").exists()


def test_changed_data_and_weights_are_named_by_their_hash(exported: Exported) -> None:
    before = load_experiment(exported.ridge).provenance.data_hash
    other = exported.changed("other-data", lambda text: text.replace(before, "f" * 64))
    assert "sha256 ffffffffffff..." in refused(exported.confirm(str(other)))
    changed = exported.changed("other-weights", lambda text: text)
    changed.with_suffix("").mkdir()
    (changed.with_suffix("") / "fold0.safetensors").write_bytes(b"other weights")
    assert "weight_hashes[0] of their experiment is sha256:" in refused(exported.confirm(str(changed)))
    edited = exported.folder / "edited.yaml"
    edited.write_text(exported.ridge.read_text(encoding="utf-8").replace("alpha: ", "alpha: 1"), encoding="utf-8")
    assert "its checksum does not match" in refused(exported.confirm(str(edited)))


def test_an_unfinished_study_is_not_confirmed_by_accident(exported: Exported) -> None:
    path = exported.changed("unfinished", lambda text: text.replace("n_target: 3", "n_target: 4"))
    assert yaml.safe_load(path.read_text())["provenance"]["n_target"] == 4
    assert "had 3 of its 4 trials" in refused(exported.confirm(str(path)))
    sentence = refused(exported.confirm(str(path), "--unfinished", "--top-k", "9"))
    assert "3 complete trials, fewer than --top-k 9" in sentence, "it went on to the next question"


def test_top_k_without_its_study_is_a_sentence(exported: Exported, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'missing.db'}"
    sentence = refused(exported.confirm(str(exported.ridge), "--top-k", "2", "--storage", elsewhere))
    assert f"--top-k needs the study of {exported.ridge}" in sentence
    assert "There is no study database" in sentence
    other = exported.changed("renamed", lambda text: text.replace(f"study: {TASK}-ridge", "study: another"))
    assert "There is no study 'another'" in refused(exported.confirm(str(other), "--top-k", "2"))


def test_a_broken_ledger_is_named_and_left_alone(exported: Exported, twice: Any) -> None:
    path = exported.changed("broken-ledger", lambda text: text)
    ledger = path.with_name("broken-ledger.ledger.jsonl")
    lines = exported.ridge.with_name(f"{exported.ridge.stem}.ledger.jsonl").read_bytes().splitlines(keepends=True)
    ledger.write_bytes(lines[0] + lines[1][:40])
    sentence = refused(exported.confirm(str(path), "--seeds", "1"))
    assert f"{ledger}, line 2" in sentence
    assert ledger.read_bytes() == lines[0] + lines[1][:40]


def test_another_experiments_broken_ledger_is_named_and_the_numbers_are_shown(exported: Exported) -> None:
    path = exported.changed("whole-ledger", lambda text: text)
    other = path.with_name("another.ledger.jsonl")
    other.write_text("{")
    try:
        answer = exported.confirm(str(path), "--seeds", "1")
    finally:
        other.unlink()
    assert answer.status == 0
    assert "recall of top 10 %" in answer.out
    assert re.search(r"This test set was read at least \d+ time\(s\) so far", answer.out)
    assert f"{other}, line 1 is no reading of a test set" in answer.out


@pytest.fixture
def broken_meanwhile(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An experiment whose ledger somebody breaks while its test set is read."""
    path = exported.changed("broken-meanwhile", lambda text: text)
    ledger = path.with_name("broken-meanwhile.ledger.jsonl")
    append = search.confirmation.append
    monkeypatch.setattr(search.confirmation, "append", lambda *a: (ledger.write_text("{"), append(*a)))
    yield path
    ledger.unlink(missing_ok=True)


def test_a_reading_is_of_the_export_that_was_trained(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported.changed("exported-anew", lambda text: text)
    before, load = checksum(path), search.confirmation.load_split

    def exported_meanwhile(*given: Any, **named: Any) -> Any:
        found = load(*given, **named)
        exported.changed("exported-anew", lambda text: text.replace("  date: ", "  date: x"))
        return found

    monkeypatch.setattr(search.confirmation, "load_split", exported_meanwhile)
    assert exported.confirm(str(path), "--seeds", "1", "--quiet").status == 0
    (reading,) = read(ledger_file(path))
    assert reading.checksum == before != checksum(path)
    assert json.loads(confirmation_file(path).read_text())["checksum"] == before


def test_no_number_is_shown_that_the_ledger_does_not_hold(exported: Exported, broken_meanwhile: Path) -> None:
    answer = exported.confirm(str(broken_meanwhile), "--seeds", "1", "--json")
    assert "broken-meanwhile.ledger.jsonl, line 1" in refused(answer)
    assert not list(broken_meanwhile.parent.glob("broken-meanwhile/*"))


def test_predictions_that_are_not_finite_are_no_number(exported: Exported) -> None:
    path = exported.changed("diverging", lambda text: re.sub("lr_encoder: .*", "lr_encoder: 1.0e+30", text), of="cnn")
    assert of_experiment(load_experiment(path)).config.model["lr_encoder"] == 1e30
    answer = exported.confirm(str(path), "--seeds", "1")
    assert (answer.status, answer.out) == (1, "")
    assert "diverging.yaml cannot be confirmed: " in answer.err
    assert not path.with_name("diverging.ledger.jsonl").exists()


class Impatient(io.StringIO):
    """Presses Ctrl-C as soon as it reads of a first seed."""

    def write(self, text: str) -> int:
        if "seed 1 on train+validation" in text:
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


@pytest.mark.slow
def test_ctrl_c_ends_it_before_the_test_set_is_read(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "interrupted.yaml"
    path.write_bytes(exported.ridge.read_bytes())
    answer = run("confirm", "--runs-dir", str(exported.folder / "runs"), str(path), "--seeds", "500", err=Impatient())
    assert (answer.status, answer.out) == (130, "")
    assert "seed 3" not in answer.err
    assert not path.with_name("interrupted.ledger.jsonl").exists()

    # The next call trains what was not trained yet, and comes to the same.
    [folder] = (exported.folder / "runs" / "confirm").glob("interrupted-*")
    again = exported.confirm(str(path), "--seeds", "2")
    assert again.status == 0, again
    assert "seed 1 on train+validation, solved exactly: before" in again.err
    assert "seed 2 on train, solved exactly: before" not in again.err
    assert not folder.exists()
    undisturbed = tmp_path / "undisturbed.yaml"
    undisturbed.write_bytes(exported.ridge.read_bytes())
    assert exported.confirm(str(undisturbed), "--seeds", "2").status == 0
    found = [read(one.with_name(f"{one.stem}.ledger.jsonl"))[-1].values for one in (path, undisturbed)]
    assert found[0] == found[1]


def test_runs_of_other_code_or_with_other_weights_are_not_kept(tmp_path: Path) -> None:
    weights = tmp_path / "fold0.safetensors"
    weights.write_bytes(b"weights")
    keep_run(tmp_path, KeptRun(weights=weights, device="cpu"), {"code": "a", "run": (1, 2)})
    assert kept_run(tmp_path, {"code": "a", "run": (1, 2)}) == KeptRun(weights=weights, device="cpu")
    assert kept_run(tmp_path, {"code": "b", "run": (1, 2)}) is None
    weights.write_bytes(b"others")
    assert kept_run(tmp_path, {"code": "a", "run": (1, 2)}) is None
    assert kept_run(tmp_path / "nothing", {}) is None


def test_a_run_that_was_interrupted_is_moved_aside_and_gone_on_from(tmp_path: Path) -> None:
    run, before = tmp_path / "seed1", tmp_path / "seed1.before"
    assert begin_again(run) is None
    (run / "state").mkdir(parents=True)
    assert begin_again(run) is None, "half a state"
    assert not run.exists()
    (run / "state").mkdir(parents=True)
    (run / "state" / "manifest.json").write_text("{}")
    for _ in range(2):  # the second time nothing had been written since
        assert begin_again(run) == before
        assert has_state(before)
        assert not run.exists()


def test_two_processes_do_not_confirm_the_same_at_once(tmp_path: Path) -> None:
    with (
        folder_of(tmp_path, "name"),
        pytest.raises(UserError, match="Another process confirms the same experiment"),
        folder_of(tmp_path, "name"),
    ):
        pass
