"""Ensembles over all families, and of studies that two machines searched in one database."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import search
from datasets.common.files import write_text
from search.experiments.experiment import load_experiment
from search.experiments.files import weights_folder
from search.experiments.ledger import read
from search.experiments.sealed import seal
from search.training.result import FOLD
from tests.helpers.answers import Answer, run_here
from tests.helpers.processes import ROOT
from tests.helpers.tables import variants, write

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
N_FOLDS = 3
FAMILIES = {
    "ridge": (),
    "kernel": (),
    "cnn": ("trainer.max_epochs=2",),
    "esm": ("trainer.max_epochs=2", "model.pretrained=false", "model.adaptation=frozen"),
}
SHORT = ("validation=kfold", f"validation.n_folds={N_FOLDS}", "trainer.threads=1", "pruner=nop", "logger=none")


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """An ensemble in a folder, and which family each member is of."""

    folder: Path
    export: Path
    families: tuple[str, ...]

    def number(self, family: str) -> int:
        return self.families.index(family)

    def verify(self, export: Path) -> Answer:
        return run_here("verify", str(export), "--quiet", cwd=self.folder)

    def changed(self, name: str, change: Callable[[Any], object]) -> Path:
        """A copy with other content, sealed as if nobody had touched it, its weights beside it."""
        path = self.export.with_name(f"{name}.yaml")
        tree = yaml.safe_load(self.export.read_text(encoding="utf-8"))
        del tree["provenance"]["checksum"]
        change(tree)
        write_text(path, seal(yaml.safe_dump(tree, sort_keys=False)))
        shutil.copytree(weights_folder(self.export), weights_folder(path))
        return path


def noisy_table(path: Path) -> Path:
    """Ninety variants whose noise is twice their signal, so that no family is much better than the others."""
    rows = [row for row in variants() if row[0] != "WT"]
    draws = np.random.default_rng(0)
    chosen = [rows[i] for i in draws.permutation(len(rows))[:90]]
    values = np.array([value for _, _, value in chosen])
    values += draws.normal(0, 2 * values.std(), len(values))
    pairs = zip(chosen, values.tolist(), strict=True)
    return write(path, "sequence,fitness", [(row[1], f"{value:.5f}") for row, value in pairs])


@pytest.fixture(scope="module")
def of_all(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    folder = tmp_path_factory.mktemp("families")
    noisy_table(folder / "small.csv")
    for family, words in FAMILIES.items():
        common = ("--data", "small.csv", "--split", "random", "--study-name", family, "--n-trials", "2")
        answer = run_here(*common, "--model", family, "--keep-top", "1", *SHORT, *words, cwd=folder)
        assert answer.status == 0, answer
    answer = run_here("combine", *FAMILIES, "--export", "together", cwd=folder)
    assert answer.status == 0, answer
    export = folder / "studies" / "experiment" / "together.yaml"
    families = tuple(part.provenance.model or "" for part in load_experiment(export).parts)
    assert set(families) == set(FAMILIES), "the selection takes some of each"
    return Ensemble(folder=folder, export=export, families=families)


def test_every_member_of_four_families_is_verified_bit_by_bit(of_all: Ensemble) -> None:
    answer = run_here("verify", str(of_all.export), cwd=of_all.folder)
    assert answer.status == 0, answer
    lines = answer.out.splitlines()
    assert len(lines) == len(of_all.families) + 1
    for number, (family, line) in enumerate(zip(of_all.families, lines, strict=False)):
        n_values = N_FOLDS * (1 if family in ("ridge", "kernel") else 2)
        assert line.startswith(f"verified: member {number} (trial ")
        assert f"of study {family}): {n_values} values in {N_FOLDS} fold(s) are equal bit for bit" in line
        has_epochs = family not in ("ridge", "kernel")
        assert has_epochs == any(said.startswith(f"member {number} (trial ") for said in answer.err.splitlines())
    assert "verified: ensemble: the scales of" in lines[-1]


def test_a_number_that_was_changed_is_named_with_member_fold_and_epoch(of_all: Ensemble) -> None:
    esm, kernel = of_all.number("esm"), of_all.number("kernel")

    def change(tree: Any) -> None:
        found = tree["members"][esm]["experiment"]["provenance"]["values"]
        found[2][1] = np.nextafter(found[2][1], 1.0).item()
        tree["members"][kernel]["experiment"]["provenance"]["value"] += 1e-12

    answer = of_all.verify(of_all.changed("numbers", change))
    assert answer.status == 1, answer
    first, second = sorted(answer.err.splitlines(), key=lambda line: "epoch" not in line)
    assert f"differs: member {esm} (trial" in first
    assert "of study esm): fold 2, epoch 1: validation Spearman" in first
    assert f"differs: member {kernel} (trial" in second
    assert "of study kernel): the kept weights have Spearman" in second


def test_weights_that_were_changed_are_named_with_member_and_fold(of_all: Ensemble) -> None:
    """Those of another fold, once with the hash in the file made right, once without."""
    cnn, ridge = of_all.number("cnn"), of_all.number("ridge")

    def change(tree: Any) -> None:
        hashes = tree["members"][cnn]["experiment"]["provenance"]["weight_hashes"]
        hashes[2] = hashes[1]

    path = of_all.changed("weights", change)
    places = [weights_folder(path) / f"member{number}" for number in (cnn, ridge)]
    for place in places:
        (place / FOLD.format(2)).unlink()
        shutil.copyfile(place / FOLD.format(1), place / FOLD.format(2))
    answer = of_all.verify(path)
    assert answer.status == 1, answer
    first, second = sorted(answer.err.splitlines(), key=lambda line: "study cnn" not in line)
    assert f"differs: member {cnn} (trial" in first
    assert "of study cnn): fold 2: the values are equal, the weights in " in first
    assert f"differs: member {ridge} (trial" in second
    assert "of study ridge): fold 2: " in second
    assert "is not the file of weights that the experiment names" in second
    words = ("predict", str(path), "--input", "small.csv", "--no-distance")
    text = run_here(*words, cwd=of_all.folder).refusal()
    assert f"member{ridge}/{FOLD.format(2)} were changed" in text
    assert f"weights.yaml: members[{ridge}]" in text


def test_weights_of_two_members_that_changed_places_are_named(of_all: Ensemble) -> None:
    path = of_all.changed("places", lambda tree: tree["members"].insert(0, tree["members"].pop(1)))
    text = run_here("predict", str(path), "--input", "small.csv", "--no-distance", cwd=of_all.folder).refusal()
    assert f"places/member0/{FOLD.format(0)} were changed" in text
    answer = of_all.verify(path)
    assert answer.status == 1, answer
    assert "differs: member 0 (trial" in answer.err
    assert "differs: member 1 (trial" in answer.err
    assert "differs: member 2 (trial" not in answer.err


# The program, which is killed with all that it started as soon as it has said some words: `-c KILLED WORDS COMMAND...`.
KILLED = """
import os, signal, sys
from search.cli.main import main
from search.workers.display import PlainDisplay

last, say = sys.argv.pop(1), PlainDisplay.announce

def say_and_die(self, sentence):
    say(self, sentence)
    if last in sentence:
        os.killpg(0, signal.SIGKILL)

PlainDisplay.announce = say_and_die
sys.exit(main(sys.argv[1:]))
"""


def test_a_confirmation_that_was_killed_goes_on_with_the_member_that_it_was_at(of_all: Ensemble) -> None:
    path = of_all.changed("killed", lambda tree: None)
    words = ["confirm", str(path), "--seeds", "1"]
    members = load_experiment(path).ensemble
    assert members is not None
    names = [f"member {number} ({member.words}), seed 1" for number, member in enumerate(members.members)]
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{KILLED}"
    command = [sys.executable, "-c", program, f"{names[1]} on train+validation", *words]
    done = subprocess.run(command, cwd=of_all.folder, capture_output=True, text=True, start_new_session=True)
    assert done.returncode == -signal.SIGKILL, done
    ledger = path.with_name("killed.ledger.jsonl")
    assert not ledger.exists()
    answer = run_here(*words, cwd=of_all.folder)
    assert answer.status == 0, answer
    said = answer.out + answer.err
    for way in ("train+validation", "train"):
        assert re.search(rf"killed: {re.escape(names[0])} on {re.escape(way)}, .*: before\n", said)
        assert re.search(rf"killed: {re.escape(names[2])} on {re.escape(way)}, .* s\n", said)
    [reading] = read(ledger)
    assert run_here(*words, "--quiet", cwd=of_all.folder).status == 0
    _, again = read(ledger)
    assert again.values == reading.values, "the same seeds give the same numbers, killed or not"
    assert search.load_experiment(path).origin == "confirm"


def test_studies_of_two_machines_in_one_postgres(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each machine has folders of its own; files of the other are named with the command that fetches them."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, family, host in ((here, "ridge", None), (there, "kernel", "node 2")):
        folder.mkdir()
        noisy_table(folder / "small.csv")
        words = ("--data", "small.csv", "--split", "random", "--study-name", family, "--model", family)
        with monkeypatch.context() as patch:
            if host is not None:
                patch.setattr(socket, "gethostname", lambda name=host: name)
            more = ("--n-trials", "2", "--keep-top", "1", "--storage", postgres_url, *SHORT)
            answer = run_here(*words, *more, cwd=folder)
        assert answer.status == 0, answer

    words = ("combine", "ridge", "kernel", "--export", "both", "--storage", postgres_url)
    text = run_here(*words, cwd=here).refusal()
    runs = here / "runs"
    assert "What 2 trial(s) of study kernel predicted (" in text
    assert f"they ran on node 2; fetch them from its --runs-dir there: rsync -a 'node 2:{runs}/kernel/'" in text
    assert "Or leave the study out." in text

    shutil.copytree(there / "runs" / "kernel", runs / "kernel")  # as the command does
    text = run_here(*words, cwd=here).refusal()
    assert "There is no experiment of study kernel in studies/experiment" in text
    assert "Its trials ran on node 2, so it may stand there: fetch kernel.yaml." in text

    shutil.copyfile(there / "studies" / "experiment" / "kernel.yaml", here / "studies" / "experiment" / "kernel.yaml")
    for weights in (runs / "kernel").rglob("*.safetensors"):
        if weights.name.startswith("fold"):
            weights.unlink()
    answer = run_here(*words, cwd=here)
    assert answer.status == 0, answer
    export = here / "studies" / "experiment" / "both.yaml"
    parts = [part.provenance for part in load_experiment(export).parts]
    assert {part.study for part in parts} == {"ridge", "kernel"}
    for part in parts:
        if part.study == "kernel":
            said = f"The weights of trial {part.trial} of study kernel are not here: it is trained again."
            assert said in answer.err
    assert run_here("verify", str(export), "--quiet", cwd=here).status == 0
    assert run_here("predict", str(export), "--input", "small.csv", "--no-distance", cwd=here).status == 0
