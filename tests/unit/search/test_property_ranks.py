"""Chances that a measurement is what is required, and the order that they make."""

import argparse

import numpy as np
import pytest

from search.options.values import requirement, requirements
from search.properties.ranks import by_requirements, chance_between
from search.stats.calibration import calibrate


def calibration(errors):
    found = calibrate(np.zeros(len(errors)), np.asarray(errors, dtype=float), validated="validated somehow")
    assert found is not None
    return found


def test_the_chance_is_the_share_of_errors_that_lead_beyond_the_bound():
    random = np.random.default_rng(0)
    errors = random.normal(scale=0.5, size=800)
    prediction = np.linspace(-2, 2, 21).astype(np.float32)
    deviation = np.full(21, np.sqrt(np.mean(errors**2)))
    found = chance_between(prediction, deviation, calibration(errors), 0.3, np.inf)
    both = np.concatenate([errors, -errors])  # as likely up as down
    expected = (prediction[:, None] + both >= 0.3).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=0.005)
    below = chance_between(prediction, deviation, calibration(errors), -np.inf, 0.3)
    np.testing.assert_allclose(found + below, 1)
    between = chance_between(prediction, deviation, calibration(errors), -0.2, 0.3)
    inside = ((prediction[:, None] + both >= -0.2) & (prediction[:, None] + both <= 0.3)).mean(axis=1)
    np.testing.assert_allclose(between, inside, atol=0.01)


def test_what_has_no_error_is_certain_and_what_is_equal_to_a_bound_meets_it():
    prediction = np.array([0.5, 1, 1.5])
    for deviation, errors in ((np.zeros(3), [0.1, 0.2]), (np.ones(3), [0.0, 0.0])):
        own = calibration(errors)
        assert chance_between(prediction, deviation, own, 1, np.inf).tolist() == [0, 1, 1]
        assert chance_between(prediction, deviation, own, -np.inf, 1).tolist() == [1, 1, 0]
        assert chance_between(prediction, deviation, own, 1, 1).tolist() == [0, 1, 0]


def test_those_that_fail_are_worth_nothing():
    predictions = [np.array([0, 1, 2, 4]), np.array([10, 20, 30, 30]), np.zeros(4)]
    chances = {"a": np.array([1, 0.5, 0.5, 0.1]), "c": np.array([1, 1, 0.5, 1])}
    found = by_requirements(predictions, chances, [1])
    np.testing.assert_allclose(found.by["p_required"], [1, 0.5, 0.25, 0.1])
    np.testing.assert_allclose(found.by["score"], [0, 0.25, 0.25, 0.1])
    # Of equal scores the likelier comes first.
    assert found.order.tolist() == [1, 2, 3, 0]
    assert found.ranks.tolist() == [4, 1, 2, 3]
    alone = by_requirements(predictions, {"a": chances["a"]}, [])
    assert (alone.order.tolist(), list(alone.by)) == ([0, 1, 2, 3], ["p_required"])
    # A property of which all have the same tells nothing.
    assert by_requirements(predictions, chances, [2]).by["score"].tolist() == pytest.approx([1, 0.5, 0.25, 0.1])


@pytest.mark.parametrize(
    "text", ["", ">=1", "a", "a=1", "a>=", "a>=x", "a>=nan", "a>=inf", "a>=1e400", "a>=1,5", " <2"]
)
def test_what_is_no_requirement_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a property and its bound"):
        requirement(text)


def test_a_requirement_is_read_once_or_is_one():
    first = requirement("log k>=-1.5e2")
    assert first == ("log k", ">=", -150.0)
    assert requirements([first, "b < .5"]) == (first, ("b", "<=", 0.5))
    assert requirements("b<2") == (("b", "<=", 2.0),)
