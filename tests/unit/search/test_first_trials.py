"""The first trials of a study: what they are completed with, which are left out, and which need a GPU."""

from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from search.checkout import STUDIES
from search.config.resolve import resolve
from search.machine.hardware import visible_gpus
from search.space import first_trials as module
from search.study.config import StudyConfig, study_config

# The CNN with a learning rate and batches that follow from its depth, as ESM's do from its adaptation.
MODEL = """
defaults:
  - cnn

lr_encoder: "${by:${model.depth},{1: 2.0e-5, 2: 3.0e-4},1.0e-3}"
"""
SPACE = """
model:
  depth: {type: int, low: 1, high: 3}
  lr_encoder: {type: float, low: 1.0e-6, high: 1.0e-1, log: true, when: {model.depth: [2, 3]}}
data:
  batch_size:
    - {type: categorical, choices: [32, 256], when: {model.depth: 1}}
    - {type: categorical, choices: [4, 8], when: {model.depth: [2, 3]}}
"""
SMALL = "data.batch_size[model.depth=1]"
LARGE = "data.batch_size[model.depth=2|3]"
TREES = "{}, {model: {depth: 2}, data: {batch_size: 8}}, {model: {depth: 3}, data: {batch_size: 4}}"
GPU_TREES = "{}, {needs: gpu, model: {depth: 2}, data: {batch_size: 8}}"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    for path in STUDIES.rglob("*.yaml"):
        if path.parent.name != "experiment":
            copy = folder / path.relative_to(STUDIES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text())
    (folder / "model" / "tied.yaml").write_text(MODEL)
    (folder / "space" / "tied.yaml").write_text(SPACE)
    return folder


def tied(studies: Path, *overrides: str, trees: str = TREES) -> StudyConfig:
    return study_config(["task=synthetic_two_vs_rest", "model=tied", f"first_trials=[{trees}]", *overrides], studies)


def test_a_default_follows_from_the_values_of_the_trial(studies: Path) -> None:
    config = tied(studies)
    assert config.first_trials == (
        {"model.depth": 1, SMALL: 256},
        {"model.depth": 2, LARGE: 8, "model.lr_encoder": 3e-4},
        {"model.depth": 3, LARGE: 4, "model.lr_encoder": 1e-3},
    )
    runs = [config.run(params) for params in config.first_trials]
    assert [run.model["lr_encoder"] for run in runs] == [2e-5, 3e-4, 1e-3]
    assert [run.data.batch_size for run in runs] == [256, 8, 4]
    # What the sampler chooses wins over what would follow.
    assert config.run({"model.depth": 2, "model.lr_encoder": 0.01}).model["lr_encoder"] == 0.01


@pytest.mark.parametrize(
    ("overrides", "depths"),
    [
        (["model.depth=2"], [2]),
        (["data.batch_size=4"], [1, 3]),
        (["data.batch_size=16"], [1]),
        (["model.lr_encoder=0.0003"], [1, 2, 3]),
        (["model.depth=3", "model.lr_encoder=0.5"], [3]),
    ],
)
def test_what_the_user_fixed_decides_which_first_trials_stay(
    studies: Path, overrides: list[str], depths: list[int]
) -> None:
    config = tied(studies, *overrides)
    assert [config.run(params).model["depth"] for params in config.first_trials] == depths


def test_a_first_trial_that_states_a_value_which_does_not_follow_is_left_out(studies: Path) -> None:
    states = "{model: {depth: 1, lr_encoder: 2.0e-5}}, {model: {depth: 1, lr_encoder: 0.5}}"
    assert len(tied(studies, trees=states).first_trials) == 1


def test_what_follows_from_searched_values_stands_in_the_manifest_as_written(studies: Path) -> None:
    config = tied(studies)
    # Where the learning rate is not searched, it is the same in all trials.
    assert config.fixed["model.lr_encoder"] == 2e-5
    assert {"model.depth", "model.lr_encoder"} & config.fixed.keys() == {"model.lr_encoder"}
    never_searched = tied(studies, "~space.model.lr_encoder")
    assert never_searched.fixed["model.lr_encoder"] == "${by:${model.depth},{1: 2.0e-5, 2: 3.0e-4},1.0e-3}"
    assert never_searched.defaults["model"]["lr_encoder"] == 2e-5
    fixed = tied(studies, "~space.model.lr_encoder", "model.depth=2")
    assert fixed.fixed["model.lr_encoder"] == 3e-4


def test_a_condition_on_a_value_that_follows_is_refused(studies: Path) -> None:
    with pytest.raises(UserError, match=r"dropout\.when names model\.lr_encoder, which may follow from other values"):
        tied(studies, "+space.model.dropout={type: float, low: 0, high: 0.5, when: {model.lr_encoder: 2e-5}}")


@pytest.mark.parametrize(
    ("depth", "entries", "otherwise", "found"),
    [
        (1, "{1: 2.0e-5, 2: 3}", "null", 2e-5),
        (2, "{1: 2.0e-5, 2: 3e-4}", "null", 3e-4),
        (3, "{1: 2.0e-5, 2: 3}", "null", None),
        (3, "{1: 2.0e-5}", "5", 5),
        (1, "{1: null}", "5", None),
        (1, "{1: true}", "5", True),
        (1, "{1: last_k}", "5", "last_k"),
    ],
)
def test_by_gives_the_entry_with_its_type(depth: int, entries: str, otherwise: str, found: object) -> None:
    tree = {"model": {"depth": depth}, "x": f"${{by:${{model.depth}},{entries},{otherwise}}}"}
    resolved = resolve(tree, {})["x"]
    assert resolved == found
    assert type(resolved) is type(found)


def test_by_on_the_command_line(studies: Path) -> None:
    config = tied(studies, 'model.channels="${by:${model.depth},{2: 24},16}"', "model.depth=2")
    assert config.defaults["model"]["channels"] == 24
    assert config.run({}).model["channels"] == 24


def test_by_without_a_value_for_all_else_is_a_sentence(studies: Path) -> None:
    with pytest.raises(UserError, match="The config cannot be resolved") as caught:
        tied(studies, 'model.channels="${by:${model.depth},{1: 16}}"')
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_first_trial_may_need_a_gpu(studies: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    monkeypatch.setattr(module, "visible_gpus", lambda: ("0",) if is_there else ())
    depths = [trial["model.depth"] for trial in tied(studies, trees=GPU_TREES).first_trials]
    assert depths == ([1, 2] if is_there else [1])
    on_cpu = tied(studies, "trainer.accelerator=cpu", trees=GPU_TREES)
    assert [trial["model.depth"] for trial in on_cpu.first_trials] == [1]


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ("{needs: tpu}", "first_trials[0].needs=tpu is not valid: expected gpu."),
        ("{needs: null}", "first_trials[0].needs=null is not valid: expected gpu."),
        ("{needs: {gpu: 1}}", "first_trials[0].needs={'gpu': 1} is not valid: expected gpu."),
        ("{needs: gpu, model: {dpth: 2}}", "first_trials[0] sets model.dpth, which is no setting. Did you mean"),
        ("{model: {needs: gpu}}", "first_trials[0] sets model.needs, which is no setting."),
    ],
)
def test_a_need_that_is_none_is_refused(studies: Path, tree: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        tied(studies, trees=tree)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("files", "visible", "expected"),
    [
        ([], None, False),
        ([], "0", False),
        (["nvidiactl", "nvidia-uvm", "nvidia-caps", "null"], None, False),
        (["nvidiactl", "nvidia0"], None, True),
        (["nvidia0"], "", False),
        (["nvidia0"], "-1", False),
        (["nvidia0"], "-1,0", False),
        (["nvidia0"], "NoDevFiles", False),
        (["nvidia0"], "0", True),
        (["nvidia0"], " 0,1", True),
        (["nvidia0"], "1", False),
        (["nvidia3"], "0", True),
        (["nvidia0", "nvidia1"], "1", True),
        (["nvidia0"], "GPU-8932f937", True),
        (["nvidia0"], "MIG-GPU-8932f937/1/0", True),
        (["dxg"], None, True),
    ],
)
def test_whether_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], visible: str | None, expected: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert bool(visible_gpus(tmp_path)) is expected


def test_a_grid_names_values_by_path_and_each_alternative_takes_its_own(studies: Path) -> None:
    grid = "{model: {depth: [1, 2], lr_encoder: [0.01]}, data: {batch_size: [4, 8, 32]}}"
    config = tied(studies, "sampler=grid", f"sampler.search_space={grid}")
    expected: dict[str, Any] = {"model.depth": [1, 2], "model.lr_encoder": [0.01], SMALL: [32], LARGE: [4, 8]}
    assert config.sampler["search_space"] == expected
    with pytest.raises(UserError, match=r"search_space\.data\.batch_size holds 16, which is outside of space\.data"):
        tied(studies, "sampler=grid", f"sampler.search_space={grid.replace('32', '16')}")
    with pytest.raises(UserError, match=r"holds no value of space\.data\.batch_size\[model\.depth=1\]"):
        tied(studies, "sampler=grid", f"sampler.search_space={grid.replace(', 32', '')}")
