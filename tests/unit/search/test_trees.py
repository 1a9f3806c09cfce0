"""Nested mappings and their dotted paths."""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.config.nested import difference, digest, flatten, lookup, nest, overlay

NAMES = st.text("abcdefgh_", min_size=1, max_size=4)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
# A config has some ten leaves below a key; drawing trees of a hundred takes longer than all that is checked of them.
TREES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda items: st.dictionaries(NAMES, items, min_size=1, max_size=3), max_leaves=8),
    max_size=3,
)

patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patiently
@given(TREES)
def test_nest_undoes_flatten(tree: dict[str, Any]) -> None:
    flat = dict(flatten(tree))
    assert nest(flat) == tree
    assert all(lookup(tree, path) == value for path, value in flat.items())


def test_overlay_changes_a_copy() -> None:
    tree = {"a": {"b": 1, "c": [1]}, "d": None, "e": {}}
    assert overlay(tree, {"a.b": 2, "e.f.g": 3, "d": 4}) == {"a": {"b": 2, "c": [1]}, "d": 4, "e": {"f": {"g": 3}}}
    assert tree == {"a": {"b": 1, "c": [1]}, "d": None, "e": {}}
    assert overlay(tree, {}) == tree


def test_an_empty_mapping_stands_as_a_value() -> None:
    assert dict(flatten({"a": {}, "b": {"c": {}}})) == {"a": {}, "b.c": {}}


def test_lookup_of_what_is_not_there() -> None:
    tree = {"a": {"b": None}, "c": 3}
    assert lookup(tree, "a.b") is None
    assert lookup(tree, "a.x", 7) == 7
    assert lookup(tree, "c.d", None) is None
    with pytest.raises(KeyError, match=r"c\.d"):
        lookup(tree, "c.d")


@patiently
@given(TREES, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order(tree: dict[str, Any], order: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        items = [(key, shuffled(item)) for key, item in value.items()]
        order.shuffle(items)
        return dict(items)

    assert digest(shuffled(tree)) == digest(tree)


def test_the_digest_is_the_same_for_ever() -> None:
    # It stands in databases: a study of an older flipsearch has to be recognised.
    assert digest({"b": 1.5, "a": {"ä": None}}) == "ca4ffd2ee34c0ea509f9312734cfe844320e07993086227ae04cc03457c10a70"


def test_the_digest_tells_types_apart() -> None:
    assert len({digest({"a": value}) for value in (1, 1.0, True, "1", None, [1])}) == 6


def test_differences_are_one_line_each() -> None:
    before = {"model": {"channels": 43, "depth": 1}, "task": "a", "gone": None}
    after = {"model": {"channels": 64, "depth": 1}, "task": "a", "new": "x"}
    assert difference(before, after) == [
        "model.channels: 43 -> 64",
        "gone: null -> (none)",
        'new: (none) -> "x"',
    ]
    assert difference(before, json.loads(json.dumps(before))) == []


def test_lists_of_mappings_are_compared_one_by_one() -> None:
    table = {"kind": "table", "hash": "a", "columns": ["x"]}
    before = {"scores": {"sources": [table, {"kind": "alignment", "hash": "b"}]}}
    after = {"scores": {"sources": [table, {"kind": "alignment", "hash": "c"}]}}
    assert difference(before, after) == ['scores.sources.alignment.hash: "b" -> "c"']
    other = {"scores": {"sources": [table, {"kind": "file", "hash": "b"}]}}
    assert difference(before, other) == ['scores.sources.1.kind: "alignment" -> "file"']
    odd = [{"kind": "\x1b[2J", "a": n} for n in (1, 2)]
    assert difference({"x": odd[:1]}, {"x": odd[1:]}) == ["x.0.a: 1 -> 2"]
    assert difference({"x": []}, {"x": [table]}) == [f"x: [] -> {json.dumps([table])}"]
