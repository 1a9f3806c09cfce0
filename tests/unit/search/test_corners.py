"""The corners of a space, against all of its points."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.config.nested import Scalar
from search.space.conditions import holds, parameter_names, path_of
from search.space.distributions import Leaf, make_leaf
from search.space.parse import make_space
from search.space.space import Space

PATHS = ["a", "b", "c", "d"]
VALUES = [0, 1, 2]
CONFIG = dict.fromkeys(PATHS, 0)


def points(space: Space, values: Mapping[str, Scalar] | None = None, n_done: int = 0) -> Iterator[dict[str, Scalar]]:
    """Every point of a space of choices."""
    values = values or {}
    names = list(space.leaves)
    if n_done == len(names):
        yield dict(values)
        return
    leaf, path = space.leaves[names[n_done]], path_of(names[n_done])
    if holds(leaf.when, values, CONFIG):
        for value in leaf.extremes:
            yield from points(space, {**values, path: value}, n_done + 1)
    else:
        yield from points(space, values, n_done + 1)


def check(space: Space, config: Mapping[str, Any]) -> None:
    corners = space.corners(config)
    assert corners == space.corners(config)
    for corner in corners:
        asked: dict[str, Scalar] = {}
        for name, leaf in space.leaves.items():
            if holds(leaf.when, asked, config):
                asked[path_of(name)] = corner[path_of(name)]
                assert leaf.contains(corner[path_of(name)])
        assert asked == corner, "nothing is there whose condition does not hold"
    for name, leaf in space.leaves.items():
        for value in leaf.extremes:
            path = path_of(name)
            assert any(corner.get(path) == value and holds(leaf.when, corner, config) for corner in corners)
    assert len(corners) <= sum(len(leaf.extremes) for leaf in space.leaves.values())


choices = st.lists(st.sampled_from(VALUES), min_size=1, unique=True)
# A value depends on those before it alone, so no conditions run in a circle.
trees = st.tuples(
    *(
        st.none()
        | st.builds(
            lambda choices, when: {"type": "categorical", "choices": choices, "when": when},
            choices,
            st.dictionaries(st.sampled_from(PATHS[:i]), choices, max_size=2) if i else st.just({}),
        )
        | (
            st.builds(
                lambda path, choices, split: [
                    {"type": "categorical", "choices": choices, "when": {path: VALUES[:split]}},
                    {"type": "categorical", "choices": choices[:1], "when": {path: VALUES[split:]}},
                ],
                st.sampled_from(PATHS[:i]),
                choices,
                st.integers(1, 2),
            )
            if i
            else st.none()
        )
        for i in range(len(PATHS))
    )
)


@settings(deadline=None, max_examples=300)
@given(trees)
def test_every_extreme_that_a_trial_can_have_is_in_a_corner(drawn: tuple[Any, ...]) -> None:
    tree = {path: leaf for path, leaf in zip(PATHS, drawn, strict=True) if leaf is not None}
    sampled: dict[str, set[Scalar]] = {}
    for path, leaf in tree.items():
        for one in leaf if isinstance(leaf, list) else [leaf]:
            sampled.setdefault(path, set()).update(one["choices"])
    for leaf in tree.values():
        for one in leaf if isinstance(leaf, list) else [leaf]:
            # A condition names values that are sampled, or a space is refused.
            for path in list(one["when"]):
                one["when"][path] = [v for v in one["when"][path] if path not in sampled or v in sampled[path]]
    space = make_space(tree, CONFIG, [])
    check(space, CONFIG)
    every: dict[str, Leaf] = {}
    for path, found in tree.items():
        leaves = [make_leaf(one, path) for one in (found if isinstance(found, list) else [found])]
        every |= zip(parameter_names(path, [leaf.when for leaf in leaves]), leaves, strict=True)
    reached = {
        (path_of(name), str(leaf))
        for point in points(Space(leaves=every))
        for name, leaf in every.items()
        if path_of(name) in point and holds(leaf.when, point, CONFIG)
    }
    assert {(path_of(name), str(leaf)) for name, leaf in space.leaves.items()} == reached, "all others have left"


def test_a_condition_on_a_value_within_a_range_can_be_reached() -> None:
    a = {"type": "int", "low": 1, "high": 9}
    b = {"type": "float", "low": 0, "high": 1, "when": {"a": [5, 7]}}
    space = make_space({"a": a, "b": b}, CONFIG, [])
    assert list(space.leaves) == ["a", "b"]
    check(space, CONFIG)
    assert {corner["b"] for corner in space.corners(CONFIG) if "b" in corner} == {0, 1}


def test_a_leaf_in_a_space_can_be_reached_and_one_that_cannot_has_left() -> None:
    a = {"type": "categorical", "choices": [0, 1]}
    b = {"type": "categorical", "choices": [1, 2], "when": {"a": 1}}
    c = {"type": "categorical", "choices": [1, 2], "when": {"a": 0, "b": 2}}
    d = {"type": "categorical", "choices": [1, 2], "when": {"a": 1, "b": 2}}
    assert set(make_space({"a": a, "b": b, "c": c, "d": d}, CONFIG, []).leaves) == {"a", "b", "d"}


ADAPTATION = ["frozen", "last_k", "lora"]
BACKBONES = {"8M": 6, "35M": 12, "150M": 30}


@pytest.fixture
def space() -> Space:
    """A space like that of ESM."""

    def when(*adaptations: str, **more: Any) -> dict[str, Any]:
        return {"model.adaptation": list(adaptations), **{f"model.{key}": value for key, value in more.items()}}

    depths = [
        {"type": "int", "low": 1, "high": n_layers, "when": when("last_k", backbone=backbone)}
        for backbone, n_layers in BACKBONES.items()
    ]
    lr = {"type": "float", "low": 1e-6, "high": 1e-3, "log": True, "when": when("last_k", "lora")}
    tree = {
        "data": {
            "batch_size": [
                {"type": "categorical", "choices": [32, 64, 128, 256], "when": when("frozen")},
                {"type": "categorical", "choices": [4, 8, 16, 32], "when": when("last_k", "lora")},
            ]
        },
        "model": {
            "lr_backbone": lr,
            "depth": depths,
            "rank": {"type": "int", "low": 2, "high": 32, "log": True, "when": when("lora")},
            "dropout": {"type": "float", "low": 0, "high": 0.5},
            "backbone": {"type": "categorical", "choices": list(BACKBONES)},
            "adaptation": {"type": "categorical", "choices": ADAPTATION},
        },
    }
    return make_space(tree, ESM, [])


ESM: dict[str, Any] = {
    "model": {"adaptation": "frozen", "backbone": "8M", "depth": 1, "rank": 8, "dropout": 0, "lr_backbone": None},
    "data": {"batch_size": 64},
}


def test_the_corners_of_a_space_with_branches(space: Space) -> None:
    check(space, ESM)
    corners = space.corners(ESM)
    assert len(corners) < 20
    for corner in corners:
        depth = corner.get("model.depth")
        assert (depth is not None) == (corner["model.adaptation"] == "last_k")
        assert depth is None or 1 <= int(depth) <= BACKBONES[str(corner["model.backbone"])]
        assert ("model.lr_backbone" in corner) == (corner["model.adaptation"] != "frozen")
    deepest = {str(c["model.backbone"]): c["model.depth"] for c in corners if c.get("model.depth") in (6, 12, 30)}
    assert deepest == BACKBONES


def test_the_corners_of_a_space_without_conditions_are_few() -> None:
    leaves: dict[str, Any] = {"type": "int", "low": 0, "high": 9}
    space = make_space(dict.fromkeys(PATHS, leaves), CONFIG, [])
    assert space.corners(CONFIG) == tuple(dict.fromkeys(PATHS, value) for value in (0, 1, 9))


def test_an_empty_space_has_no_corners() -> None:
    assert make_space({}, CONFIG, []).corners(CONFIG) == ()
