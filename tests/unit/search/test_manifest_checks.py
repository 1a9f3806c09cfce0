"""What a study recorded of itself is checked before it is believed: its table and its space."""

from dataclasses import fields
from typing import Any

import pytest

from datasets.common.errors import UserError
from datasets.tables.table import Table
from search.config.resolve import resolve
from search.storage.attributes import MANIFEST
from search.storage.rows.checks import study_problems
from search.study.study import _check_manifest
from tests.helpers.small_study import ABOUT

LEAF = {"type": "int", "low": 1, "high": 2}
TABLE = Table(
    file="t.csv",
    sequence_column="sequence",
    mutation_column=None,
    target_column="fitness",
    group_column=None,
    wild_type="ACDE" * 1100,  # there are proteins of more than 30,000 residues
    sites=",".join(["1-3", *map(str, range(5, 4401, 2))]),
    window=None,
    split="k_vs_rest",
    max_train_mutations=2,
    split_seed=0,
    replicates="mean",
).settings


def problems(**changed: Any) -> list[str]:
    return [problem for _, problem in study_problems({MANIFEST: {**ABOUT, **changed}}, {})]


def test_a_table_and_a_space_that_a_search_records_pass() -> None:
    assert problems(table=TABLE, space={"model.depth[model.kind=a]": LEAF, "model.depth[model.kind=b]": LEAF}) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("fold_column", "\x1b[31mX\nanother-study  20/20"), ("test_fold", 1), ("group_column", "\u2028")),
        *(("max_train_mutations", [1]), ("split_seed", "1"), ("first_position", None), ("wild_type", "A\nC")),
        *(("properties", "abc"), ("window", [1, "2"]), ("sites", 3), ("sheet", []), ("chains", {})),
    ],
)
def test_a_field_of_the_table_is_what_it_should_be(field: str, value: Any) -> None:
    said = problems(table={**TABLE, field: value})
    assert {problem.startswith(f"manifest.table.{field}") for problem in said} == {True}, said


def test_each_field_of_a_table_is_checked() -> None:
    """A list of mappings is none of them."""
    unchecked = [one.name for one in fields(Table) if not problems(table={**TABLE, one.name: [{}]})]
    assert unchecked == ["file"]  # an experiment has it, a study does not


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("model.depth[model.kind=a]", "model.depth.x"), "manifest.space holds model.depth.x and model.depth"),
        ((".".join(["a"] * 1500),), "parts divided by points"),
        (("a\x1b",), "control characters"),
    ],
)
def test_the_values_of_a_space_can_stand_in_one_tree(names: tuple[str, ...], said: str) -> None:
    (problem,) = problems(space=dict.fromkeys(names, LEAF))
    assert said in problem


@pytest.mark.parametrize("call", ["${oc.env:HOME}", "${oc.decode:${oc.env:HOME}}", "${${a}:HOME}"])
def test_the_choices_of_a_space_look_nothing_up(call: str) -> None:
    first, *_ = problems(space={"model.depth": {"type": "categorical", "choices": [1, call]}})
    assert "expected no other functions than min" in first
    with pytest.raises(UserError, match="expected no other functions than min"):
        resolve({"model": {"depth": 1}, "a": "oc.env"}, {"model.depth": call})


@pytest.mark.parametrize(
    ("changes", "is_other_data"),
    [
        ({"data_hash": "b"}, True),
        ({"data_hash": "b", "validation": {"n_rounds": 3}}, True),
        ({"data_hash": "b", "validation": {"n_rounds": 2, "seed": 1}}, False),
        ({"data_hash": "b", "task": "other"}, False),
        ({"validation": {"n_rounds": 3}}, False),
    ],
)
def test_a_study_of_another_table_is_told_from_one_of_other_settings(
    changes: dict[str, Any], is_other_data: bool
) -> None:
    before = {"task": "t", "validation": {"n_rounds": 2}, "data_hash": "a"}
    with pytest.raises(UserError) as caught:
        _check_manifest("s", before, {**before, **changes})
    remedy = "or give it the table that it had." if is_other_data else "or repeat its settings."
    assert str(caught.value).endswith(remedy)
