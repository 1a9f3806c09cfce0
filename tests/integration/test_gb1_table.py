"""GB1 as a user's table: divided as FLIP divides it, checked, and searched."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.tables.formats.fasta import read_wild_type
from datasets.tasks.registry import find_task
from search.config.run_config import task_of
from search.experiments.experiment import load_experiment
from search.experiments.files import weights_folder
from search.request.inputs import load_split
from tests.helpers.answers import Answer
from tests.helpers.gb1_table import DOMAIN, NOISE_SD, write_gb1
from tests.helpers.own_predictions import check_measured, own_test_predictions
from tests.helpers.tables import surveyed


def test_the_whole_table_divides_as_flip_divides_it(tmp_path: Path) -> None:
    table, fasta, known = write_gb1(tmp_path)
    found = surveyed(table, split="three_vs_rest", wild_type=read_wild_type(fasta))
    raw = found.raw_split()
    assert dict(zip(raw.sequence, map(float, raw.target), strict=True)) == pytest.approx(known)
    assert found.table.sites == "39-41,54"
    assert found.noise is not None
    assert found.noise.sd == pytest.approx(NOISE_SD, rel=0.05)
    task = find_task("gb1_three_vs_rest")
    flip = task.source.sizes(task.source.locate(data_dir=None, announce=print), task.split)
    marks = list(zip(raw.part, raw.validation, strict=True))
    assert (marks.count(("train", "")), marks.count(("train", "True")), marks.count(("test", ""))) == flip
    assert flip == (2691, 299, 5743)


def test_a_sample_of_it_is_checked_and_searched(tmp_path: Path, command: Callable[..., Answer]) -> None:
    write_gb1(tmp_path, n_variants=600)
    reading = ("--wild-type", "gb1.fasta", "--split", "two_vs_rest")
    answer = command("data", "check", "gb1.csv", *reading)
    assert answer.status == 0, answer
    assert f"wild type     {DOMAIN}" in answer.out
    words = ("--data", "gb1.csv", *reading, "--model", "ridge", "--n-trials", "1", "--export-dir", "e")
    answer = command(*words, "trainer.threads=1", "validation=holdout")
    assert answer.status == 0, answer
    assert "gb1.csv)" in answer.out
    assert (tmp_path / "e" / "gb1-fitness-two_vs_rest-ridge.yaml").is_file()


@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.system
def test_the_whole_way_from_a_table_to_all_variants_of_four_sites(
    tmp_path: Path, command: Callable[..., Answer]
) -> None:
    write_gb1(tmp_path)
    search = ("--data", "gb1.csv", "--wild-type", "gb1.fasta", "--split", "three_vs_rest", "--model", "cnn")
    answer = command(*search, "--n-trials", "2", "--export-dir", "e", "trainer.max_epochs=5", "trainer.threads=2")
    assert answer.status == 0, answer
    export = tmp_path / "e" / "gb1-fitness-three_vs_rest-cnn.yaml"
    assert command("confirm", str(export), "--seeds", "2").status == 0
    answer = command("predict", str(export), "--mutagenesis", "sites:39,40,41,54", "--output", "all.csv")
    assert answer.status == 0, answer
    assert "160,000 candidates ranked by 2 models" in answer.err + answer.out
    config = load_experiment(export).config
    task = task_of(config)
    split = load_split(task, None, tmp_path / "runs", print)
    seeds = sorted(weights_folder(export).glob("seed*.safetensors"))
    own = np.mean([own_test_predictions(config, split, path, tmp_path / path.stem) for path in seeds], axis=0)
    with (tmp_path / "all.csv").open(newline="") as file:
        check_measured(list(csv.DictReader(file)), split, task.wild_type, own)
