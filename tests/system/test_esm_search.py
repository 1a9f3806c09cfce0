"""ESM from the command line: how often sequences are embedded, weights of one's own, what is refused before a trial."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from search.storage.url import default_url
from tests.helpers.answers import Answer
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.study_fixtures import ROOT, Program

TASK = "synthetic_one_vs_rest"
N_SEQUENCES = 305  # train and validation, all different
BACKBONE = "esm2_t6_8M_UR50D"
SEARCH = (
    *("--task", TASK, "--model", "esm", "validation=holdout"),
    *("model.pretrained=false", "model.adaptation=frozen", "trainer.max_epochs=1", "logger=none", "trainer.threads=1"),
)


def n_embedded(folder: Path, study: str = f"{TASK}-esm") -> list[int]:
    """How many sequences each trial passed through the backbone."""
    trials = optuna.load_study(study_name=study, storage=default_url(folder / "runs")).trials
    return [trial.user_attrs["result"]["n_embedded"] for trial in trials if "result" in trial.user_attrs]


def poolings(folder: Path) -> set[str]:
    trials = optuna.load_study(study_name=f"{TASK}-esm", storage=default_url(folder / "runs")).trials
    return {trial.params["model.pooling"] for trial in trials}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, here: Program) -> Path:
    """A study of frozen trials over all poolings."""
    folder = tmp_path_factory.mktemp("esm")
    answer = here(*SEARCH, "--n-trials", "8", "sampler=random", cwd=folder)
    assert answer.status == 0, answer
    assert f"{N_SEQUENCES}/{N_SEQUENCES} sequences through {BACKBONE}" in answer.err
    return folder


def test_each_sequence_passes_through_the_backbone_once_in_a_study(searched: Path) -> None:
    assert poolings(searched) == {"mean", "mutation_mean", "attention"}
    assert n_embedded(searched) == [N_SEQUENCES, *[0] * 7]


def test_a_second_study_on_the_same_task_embeds_nothing(searched: Path, here: Program) -> None:
    answer = here(*SEARCH, "--n-trials", "2", "--study-name", "second", "--export-dir", "second", cwd=searched)
    assert answer.status == 0, answer
    assert n_embedded(searched, "second") == [0, 0]


def test_verify_finds_the_same_bits_without_the_cache(searched: Path, here: Program) -> None:
    export = searched / "studies" / "experiment" / f"{TASK}-esm.yaml"
    answer = here("verify", str(export), "--runs-dir", "elsewhere", cwd=searched)
    assert answer.status == 0, answer
    assert "equal bit for bit" in answer.out


@pytest.mark.parametrize("adaptation", ["last_k", "lora"])
def test_verify_repeats_fine_tuning_bit_for_bit(adaptation: str, tmp_path: Path, here: Program) -> None:
    short = ("data.batch_size=8", "trainer.limit_train_batches=2", f"model.adaptation={adaptation}")
    answer = here(*SEARCH, *short, "--n-trials", "1", cwd=tmp_path)
    assert answer.status == 0, answer
    export = tmp_path / "studies" / "experiment" / f"{TASK}-esm.yaml"
    assert here("verify", str(export), "--runs-dir", "elsewhere", "--quiet", cwd=tmp_path).status == 0


def test_two_processes_embed_each_sequence_once_in_total(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "run_study.py"), *SEARCH, "--n-trials", "6", "sampler=random", "--quiet"]
    workers = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        _, err = worker.communicate(timeout=500)
        assert worker.returncode == 0, err
    counts = n_embedded(tmp_path)
    assert len(counts) == 6
    assert sum(counts) == N_SEQUENCES


def test_weights_of_ones_own_are_found_hashed_and_checked(tmp_path: Path, here: Program) -> None:
    folder = tmp_path / "weights ä"
    write_checkpoint(folder, BACKBONE, seed=1)
    words = (*SEARCH, "model.pretrained=true", "--weights-dir", str(folder), "--n-trials", "1")
    answer = here(*words, cwd=tmp_path)
    assert answer.status == 0, answer
    export = tmp_path / "studies" / "experiment" / f"{TASK}-esm.yaml"
    assert "backbone: sha256:" in export.read_text()
    verify = ("verify", str(export), "--runs-dir", "again", "--weights-dir", str(folder))
    assert here(*verify, cwd=tmp_path).status == 0
    write_checkpoint(folder, BACKBONE, seed=2)
    assert "other pretrained weights" in here(*verify, cwd=tmp_path).refusal()
    assert "was begun with other weights" in here(*words[:-1], "2", "--quiet", cwd=tmp_path).refusal()


@pytest.fixture
def refused(command: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The sentence with which a search is refused; no trial was begun."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def refuse(*words: str, task: str = TASK) -> str:
        answer = command("--task", task, "--model", "esm", "--n-trials", "1", "trainer.max_epochs=1", "--quiet", *words)
        database = tmp_path / "runs" / "studies.db"
        if database.exists():
            for study in optuna.get_all_study_names(default_url(tmp_path / "runs")):
                assert not optuna.load_study(study_name=study, storage=default_url(tmp_path / "runs")).trials
        return answer.refusal()

    return refuse


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model.backbone=esm2_t6_9M_UR50D"], "model.backbone=esm2_t6_9M_UR50D is not valid: expected one of"),
        (["model.adaptation=last_k", "model.fine_tune_depth=7"], "fine_tune_depth=7 is not valid: there are 6 layers"),
        (
            ["space.model.fine_tune_depth={type: int, low: 1, high: 9, when: {model.adaptation: last_k}}"],
            "fine_tune_depth=9",
        ),
        (["model.adaptation=frozen", "model.lora_rank=4"], "lora_rank=4 contradicts adaptation=frozen"),
        (["model.lora_targets=[q,w]"], "model.lora_targets=['q', 'w'] is not valid"),
        (["data.max_length=20", "data.truncate=false"], "32 residues"),
        (["data.max_length=4"], "region"),
    ],
)
def test_contradictions_are_refused_before_any_trial(
    refused: Callable[..., str], words: list[str], sentence: str
) -> None:
    assert sentence in refused("model.pretrained=false", *words)


@pytest.mark.skipif(not os.environ.get("FLIPSEARCH_DATA"), reason="needs FLIP's files: set FLIPSEARCH_DATA")
def test_the_mutated_region_cannot_be_pooled_where_there_is_none(refused: Callable[..., str]) -> None:
    words = ["model.pretrained=false", "model.pooling=mutation_mean", "data.max_length=64"]
    assert "needs a mutated region and meltome_clustered has none" in refused(*words, task="meltome_clustered")


class Foreign:
    """Something that a checkpoint has no reason to hold."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("proof",)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100_000])


def foreign(path: Path) -> None:
    torch.save({**torch.load(path, weights_only=False), "more": Foreign()}, path)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(255 - byte for byte in data[middle : middle + 64])
    path.write_bytes(data)


def another_architecture(path: Path) -> None:
    data = torch.load(path, weights_only=False)
    settings = argparse.Namespace(**{**vars(data["cfg"]["model"]), "encoder_layers": 12})
    torch.save({**data, "cfg": {"model": settings}}, path)


@pytest.mark.parametrize("damage", [truncated, flipped, foreign, another_architecture])
def test_a_checkpoint_that_is_none_of_this_backbone_is_refused(
    refused: Callable[..., str], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(write_checkpoint(tmp_path / "weights", BACKBONE))
    sentence = refused("--weights-dir", str(tmp_path / "weights"))
    assert str(tmp_path / "weights" / f"{BACKBONE}.pt") in sentence
    assert "looked for" not in sentence
    assert not (tmp_path / "proof").exists()


def test_without_network_and_file_both_ways_out_are_named(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    sentence = refused()
    for words in (f"{BACKBONE}.pt", "--weights-dir", "model.pretrained=false"):
        assert words in sentence


def test_a_dry_run_shows_the_model_and_its_space(here: Program, tmp_path: Path) -> None:
    answer = here(*SEARCH, "--dry-run", "model.adaptation=lora", "model.lora_rank=4", cwd=tmp_path)
    assert answer.status == 0, answer
    assert "LowRankChange" in answer.out
    assert "model.lr_backbone" in answer.out


def test_status_names_values_by_path(searched: Path, here: Program) -> None:
    answer = here("status", "--study-name", f"{TASK}-esm", "--json", cwd=searched)
    params = json.loads(answer.out)["best"]["params"]
    assert "data.batch_size" in params
    assert "model.head_width" in params
