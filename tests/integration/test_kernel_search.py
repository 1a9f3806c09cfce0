"""A search of the kernel model from its data to its verified experiment."""

import pytest
import yaml

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from models import many_rows
from search.study.config import study_config
from search.training.preflight import check_builds

NAME = "synthetic_one_vs_rest-kernel"
SEARCH = (
    "--task",
    "synthetic_one_vs_rest",
    "--model",
    "kernel",
    "--export-dir",
    "exported",
    "trainer.threads=1",
    "validation=holdout",
)


@pytest.mark.slow
def test_a_search_exports_what_verify_finds_again_bit_for_bit(command):
    answer = command(*SEARCH, "--n-trials", "3", "model.max_train=150")
    assert answer.status == 0, answer
    assert all(f"model.{name}" in answer.out for name in ("length_scale", "linear_variance", "noise"))
    path = f"exported/{NAME}.yaml"
    with open(path, encoding="utf-8") as file:
        assert yaml.safe_load(file)["model"]["max_train"] == 150
    verified = command("verify", path)
    assert verified.status == 0, verified
    assert "1 values in 1 fold(s) are equal bit for bit" in verified.out


def test_a_set_too_large_is_refused_before_anything_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(many_rows, "MAX_KERNEL_ROWS", 50)
    monkeypatch.setattr(many_rows, "MAX_INDUCED_ROWS", 100)
    task = "synthetic_one_vs_rest"
    split = prepare(find_task(task), data_dir=None, cache_dir=tmp_path, announce=print)
    places = Places(weights_dir=None, cache_dir=tmp_path)

    def check(*reached):
        studies = [study_config([f"task={task}", "model=kernel", "validation=holdout", *words]) for words in reached]
        check_builds([study.run({}) for study in studies], split, places=places, announce=print)

    few = ["model.max_train=50"]
    check(few)
    for reached in ([[]], [few, []]):
        with pytest.raises(UserError, match=f"takes at most 100 training sequences, here are {split.n_train}"):
            check(*reached)
