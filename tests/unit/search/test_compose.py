"""Overrides of alternatives, where Hydra alone would not do."""

from pathlib import Path

import pytest

from datasets.common.errors import UserError
from search.config.compose import compose

SPACE = """
model:
  depth: {type: int, low: 1, high: 2}
data:
  batch_size:
    - {type: categorical, choices: [32, 64], when: {model.depth: 1}}
    - {type: categorical, choices: [4, 8], when: {model.depth: 2}}
"""
ONE = "{type: int, low: 1, high: 9}"
SIZES = "space.data.batch_size"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "a.yaml").write_text(SPACE)
    (tmp_path / "config.yaml").write_text("defaults:\n  - _self_\n  - space: a\nseed: 0\n")
    return tmp_path


def test_one_alternative_is_changed_by_its_number(studies: Path) -> None:
    space = compose([f"{SIZES}.1.choices=[2]", f"{SIZES}.0.when={{model.depth: 2}}"], studies)["space"]
    assert [leaf["choices"] for leaf in space["data"]["batch_size"]] == [[32, 64], [2]]


@pytest.mark.parametrize("sign", ["", "++"])
def test_all_alternatives_are_replaced(studies: Path, sign: str) -> None:
    found = compose([f"{sign}{SIZES}={ONE}"], studies)["space"]
    assert found["data"]["batch_size"] == {"type": "int", "low": 1, "high": 9}
    assert found["model"]["depth"] == {"type": "int", "low": 1, "high": 2}
    several = f"{sign}{SIZES}=[{{type: int, low: 1, high: 9, when: {{model.depth: 1}}}}]"
    assert len(compose([several], studies)["space"]["data"]["batch_size"]) == 1


def test_a_leaf_is_replaced_by_alternatives(studies: Path) -> None:
    found = compose([f"space.model.depth=[{ONE}, {ONE}]", "seed=1", f"{SIZES}.0.choices=[1]"], studies)
    assert len(found["space"]["model"]["depth"]) == 2
    assert found["seed"] == 1
    assert found["space"]["data"]["batch_size"][0]["choices"] == [1]


def test_a_leaf_is_still_merged_with_a_leaf(studies: Path) -> None:
    assert compose(["space.model.depth={high: 5}"], studies)["space"]["model"]["depth"]["low"] == 1
    both = compose(["space.model.depth={high: 5}", f"{SIZES}={ONE}"], studies)["space"]
    assert both["model"]["depth"] == {"type": "int", "low": 1, "high": 5}


@pytest.mark.parametrize(
    "override",
    [f"{SIZES}.choices=[1]", f"{SIZES}.5.choices=[1]", f"{SIZES}.-1.choices=[1]", f"~{SIZES}.0", f"{SIZES}.0={ONE}"],
)
def test_a_way_into_a_list_that_leads_nowhere(studies: Path, override: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([override], studies)
    if "-1" not in override:
        assert f"{SIZES} is a list of 2 alternatives, change one by its number, as in {SIZES}.0." in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([f"{SIZES}.0.choies=[1]"], "Did you mean 'choices'"),
        ([f"{SIZES}={ONE}", "sede=1"], "sede is not a setting. Did you mean 'seed'"),
        ([f"{SIZES}={ONE}", "space.modle=1"], "space.modle is not a setting. Did you mean 'model'"),
    ],
)
def test_a_second_fault_is_told(studies: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(overrides, studies)
    assert sentence in str(caught.value)
