"""Tasks are found by name, without importing anything heavy, and by adding one file."""

import subprocess
import sys
from pathlib import Path

import pytest

import datasets
import datasets.tasks
from datasets.common.errors import UserError
from datasets.tasks import registry
from datasets.tasks.registry import find_task, listed_tasks, task_names

SPLITS = {
    "gb1": ("one_vs_rest", "two_vs_rest", "three_vs_rest", "low_vs_high", "sampled"),
    "aav": ("one_vs_many", "two_vs_many", "seven_vs_many", "low_vs_high", "sampled", "des_mut", "mut_des"),
    "meltome": ("mixed", "human", "human_cell", "full", "clustered"),
    "synthetic": ("one_vs_rest", "two_vs_rest"),
}
NAMES = [f"{dataset}_{split}" for dataset, splits in SPLITS.items() for split in splits]


def test_every_task_is_found() -> None:
    assert sorted(task_names()) == sorted(NAMES)
    for name in NAMES:
        found = find_task(name)
        assert found.name == name == f"{found.dataset}_{found.split}"


def test_a_misspelt_task_lists_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'gb1_three_vs_res'\. Did you mean 'gb1_three_vs_rest'"):
        find_task("gb1_three_vs_res")
    with pytest.raises(UserError, match=r"The tasks are .*gb1_sampled.*synthetic_two_vs_rest"):
        find_task("zzz")


def test_what_flip_has_retired_is_listed_apart() -> None:
    assert [name for name in NAMES if find_task(name).retired] == ["meltome_full", "meltome_clustered"]
    assert listed_tasks().endswith("; retired: meltome_full, meltome_clustered")
    names = listed_tasks().replace(";", ",").replace(" retired: ", " ").split(", ")
    assert sorted(names) == sorted(NAMES)


def test_meltome_is_of_natural_proteins_in_degrees() -> None:
    for name in ("meltome_mixed", "meltome_clustered"):
        task = find_task(name)
        assert (task.region, task.wild_type, task.units) == (None, None, "°C")
        assert {*task.crops} == {"none"}


def test_finding_a_task_imports_nothing_heavy() -> None:
    program = """
import sys
import datasets.tasks.registry
datasets.tasks.registry.find_task("aav_sampled").crop(None)
try:
    datasets.tasks.registry.find_task("aav_samplde")
except datasets.common.errors.UserError:
    print(*sorted({"numpy", "pandas", "torch", "lightning", "pooch", "requests", "scipy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(datasets.__path__[0]).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"


def test_a_dataset_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one_more.py").write_text(
        "import dataclasses\n"
        "from datasets.task import Task\n"
        "from datasets.tasks.synthetic import TASKS as SYNTHETIC\n"
        "TASKS: tuple[Task, ...] = (dataclasses.replace(SYNTHETIC[0], name='one_more'),)\n"
    )
    (tmp_path / "heavy.py").write_text("raise AssertionError('imported although it has no TASKS of its own')\n")
    monkeypatch.setattr(datasets.tasks, "__path__", [*datasets.tasks.__path__, str(tmp_path)])
    registry._all_tasks.cache_clear()
    try:
        assert find_task("one_more").dataset == "synthetic"
        assert len(task_names()) == len(NAMES) + 1
    finally:
        registry._all_tasks.cache_clear()
        sys.modules.pop("datasets.tasks.one_more", None)
