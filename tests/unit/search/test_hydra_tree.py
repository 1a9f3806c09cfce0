"""What is composed without Hydra's own settings is what Hydra composes with them, refusals included."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from search.checkout import STUDIES
from search.config import hydra_tree
from search.config.compose import parse
from search.config.hydra_tree import composed

CONFIG = "defaults:\n  - _self_\n  - model: a\n  - other: null\nseed: 0\n"


def by_hydra(overrides: list[str], studies: Path) -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(studies.resolve())):
        return OmegaConf.to_container(compose(config_name="config", overrides=overrides), resolve=False)


def by_us(overrides: list[str], studies: Path) -> Any:
    return composed(parse(overrides), studies, {})


def outcome(way: Any, overrides: list[str], studies: Path) -> Any:
    try:
        return way(overrides, studies)
    except Exception as error:
        causes, cause = [], error.__cause__
        while cause is not None:
            causes.append((type(cause), str(cause)))
            cause = cause.__cause__
        return type(error), str(error), causes


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for folder, name, text in (
        (".", "config", CONFIG),
        ("model", "a", "size: 1\nlayers: [1, 2]\n"),
        ("model", "b", "defaults:\n  - a\n  - _self_\nsize: ${seed}\n"),
        ("other", "here", "# @package _global_\nseed: 3\n"),
        ("other", "of_hydra", "# @package _global_\nhydra:\n  run:\n    dir: elsewhere\nseed: 4\n"),
        ("other", "not_hydras", "# @package _global_\nhydra:\n  rnu: 1\n"),
        ("other", "launches", "# @package _global_\ndefaults:\n  - override /hydra/launcher: basic\nseed: 5\n"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.yaml").write_text(text)
    return tmp_path


WORDS = [
    [],
    ["model=b", "seed=2"],
    ["model=b", "model.size=9", "+model.new={x: [1, {y: ${seed}}]}"],
    ["+other=here"],
    ["other=here", "seed=8", "~model.layers"],
    ["other=[here]"],
    ["~model"],
    ["model.layers.0=5"],
    ["model={size: 2}"],
    # For Hydra itself, from words and from files.
    ["hydra.run.dir=x"],
    ["other=of_hydra"],
    ["other=launches"],
    ["hydra/launcher=basic"],
    # Refused.
    ["model=null"],
    ["modle=a"],
    ["sede=1"],
    ["model=c"],
    ["+seed=1"],
    ["~nothing"],
    ["++model=a"],
    ["model.layers.x=1"],
    ["hydra.nothing=1"],
    ["other=not_hydras"],
]


@pytest.mark.parametrize("overrides", WORDS, ids=" ".join)
def test_the_tree_and_the_refusal_are_hydras(overrides: list[str], studies: Path) -> None:
    expected = outcome(by_hydra, overrides, studies)
    for _ in range(2):
        assert outcome(by_us, overrides, studies) == expected


def test_so_is_the_tree_of_the_checkout() -> None:
    space = "+space.model.dropout={type: float, low: 0, high: 0.3}"
    words = ["task=x", "model=esm", "sampler=gp", "trainer.max_epochs=3", "~logger", space]
    assert by_us(words, STUDIES) == by_hydra(words, STUDIES)


def test_a_changed_file_is_read_again_and_one_tree_is_not_the_other(studies: Path) -> None:
    first = by_us(["model=b"], studies)
    first["model"]["layers"].append(3)
    assert by_us(["model=b"], studies)["model"]["layers"] == [1, 2]
    (studies / "model" / "a.yaml").write_text("size: 1\nlayers: [7]\n")
    assert by_us(["model=b"], studies)["model"]["layers"] == [7]
    (studies / "model" / "c.yaml").write_text("size: 5\n")
    assert by_us(["model=c"], studies)["model"] == {"size": 5}
    (studies / "model" / "c.yaml").unlink()
    assert outcome(by_us, ["model=c"], studies) == outcome(by_hydra, ["model=c"], studies)


def test_values_are_changed_in_a_copy_of_what_the_options_are(studies: Path) -> None:
    hydra_tree._of_groups.cache_clear()
    for seed in (1, 2, 3):
        assert by_us(["model=b", f"seed={seed}"], studies)["seed"] == seed
    assert hydra_tree._of_groups.cache_info().misses == 1, "the files are composed once"
    assert by_us(["model=b"], studies)["seed"] == 0
    assert not GlobalHydra.instance().is_initialized()
