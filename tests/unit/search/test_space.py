"""The search space: leaves, conditions, what is fixed, and what Optuna is asked."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial, create_trial

from datasets.common.errors import UserError
from search.config.nested import flatten, nest
from search.space.parse import make_space
from search.space.space import Space

CONFIG: dict[str, Any] = {
    "model": {
        "channels": 43,
        "dropout": 0.0,
        "pooling": "mean",
        "heads": 2,
        "lr": 1e-3,
        "note": None,
    },
    "data": {"batch_size": 256},
    "trainer": {"max_epochs": 10},
}
CHANNELS = {"type": "int", "low": 16, "high": 128, "log": True}
POOLING = {"type": "categorical", "choices": ["mean", "attention"]}
HEADS = {"type": "int", "low": 1, "high": 8, "when": {"model.pooling": "attention"}}


def space_of(*fixed: str, **leaves: Any) -> Space:
    return make_space({"model": leaves}, CONFIG, list(fixed))


def ask(space: Space, sampler: optuna.samplers.BaseSampler | None = None, config: Mapping[str, Any] = CONFIG) -> Any:
    study = optuna.create_study(sampler=sampler or optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    params = space.suggest(trial, config)
    assert params == trial.params
    return trial


def complete(space: Space, partial: Mapping[str, Any]) -> dict[str, Any] | None:
    return space.complete(partial, lambda values: nest({**dict(flatten(CONFIG)), **values}))


def test_each_kind_of_leaf_becomes_its_distribution() -> None:
    tree = {
        "model": {
            "channels": CHANNELS,
            "dropout": {"type": "float", "low": 0, "high": 0.5, "step": 0.1},
            "lr": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
            "heads": {"type": "int", "low": 1, "high": 7, "step": 2},
            "pooling": POOLING,
            "note": {"type": "categorical", "choices": [None, True, "a", 2, 0.5]},
        },
        "data": {"batch_size": {"type": "categorical", "choices": [32, 64]}},
    }
    space = make_space(tree, CONFIG, [])
    assert len(space) == 7
    assert ask(space).distributions == {
        "model.channels": IntDistribution(16, 128, log=True),
        "model.dropout": FloatDistribution(0.0, 0.5, step=0.1),
        "model.lr": FloatDistribution(1e-5, 1e-2, log=True),
        "model.heads": IntDistribution(1, 7, step=2),
        "model.pooling": CategoricalDistribution(["mean", "attention"]),
        "model.note": CategoricalDistribution([None, True, "a", 2, 0.5]),
        "data.batch_size": CategoricalDistribution([32, 64]),
    }


@pytest.mark.parametrize(
    ("leaf", "sentence"),
    [
        (5, "space.model.channels=5 is not valid: expected a mapping with type: int, float or categorical, or"),
        (None, "space.model.channels=null is not valid"),
        ([16, 32], "space.model.channels=[16, 32] is not valid"),
        ({"low": 1, "high": 3}, "space.model.channels.low=1 is not valid: expected a mapping with type"),
        ({"type": "integer", "low": 1, "high": 3}, "type=integer is not valid: expected int, float, categorical."),
        ({"type": "int", "low": 1}, "space.model.channels.high is missing: give it a value."),
        ({"type": "int", "low": 1.5, "high": 3}, "space.model.channels.low=1.5 is not valid: expected int."),
        ({"type": "int", "low": "a", "high": 3}, "space.model.channels.low=a is not valid: expected int."),
        ({"type": "int", "low": 1, "hihg": 3}, "space.model.channels.hihg is not a setting. Did you mean 'high'?"),
        ({"type": "int", "low": 4, "high": 3}, "space.model.channels is not valid: low=4 is above high=3."),
        ({"type": "int", "low": 0, "high": 3, "log": True}, "low=0 with log: true, expected a value above 0"),
        ({"type": "float", "low": -1, "high": 3, "log": True}, "low=-1.0 with log: true"),
        ({"type": "int", "low": 1, "high": 3, "log": True, "step": 2}, "log and step exclude each other"),
        ({"type": "int", "low": 1, "high": 3, "step": 0}, "step=0, expected a value above 0"),
        ({"type": "float", "low": 1, "high": 3, "step": -0.5}, "step=-0.5, expected a value above 0"),
        ({"type": "float", "low": float("nan"), "high": 3}, "low=nan is not valid"),
        ({"type": "float", "low": 0, "high": float("inf")}, "high=inf is not valid"),
        ({"type": "int", "low": 1, "high": 3, "log": "yes"}, "log=yes is not valid: expected bool."),
        ({"type": "categorical", "choices": []}, "choices is empty, expected at least one"),
        ({"type": "categorical"}, "space.model.channels.choices is missing"),
        ({"type": "categorical", "choices": 3}, "choices=3 is not valid: expected a list"),
        ({"type": "categorical", "choices": [[1], [2]]}, "choices holds [1], expected plain values"),
        ({"type": "categorical", "choices": [{"a": 1}]}, "expected plain values"),
        ({"type": "categorical", "choices": [float("nan")]}, "choices holds nan, expected plain values"),
        ({"type": "categorical", "choices": [1, 2, 1]}, "choices holds 1 twice"),
        ({"type": "categorical", "choices": [1, True]}, "choices holds true twice"),
        ({"type": "categorical", "choices": [1], "log": True}, "space.model.channels.log is not a setting"),
        ({"type": "int", "low": 1, "high": 3, "when": 3}, "when=3 is not valid: expected a mapping."),
    ],
)
def test_a_malformed_leaf_is_one_sentence(leaf: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        space_of(channels=leaf)
    assert sentence in str(caught.value)
    assert "space.model.channels" in str(caught.value)


def test_a_leaf_must_stand_where_the_config_has_a_value() -> None:
    with pytest.raises(UserError, match=r"space\.model\.chanels has no value .* Did you mean 'model\.channels'"):
        space_of(chanels=CHANNELS)
    with pytest.raises(UserError, match=r"space\.task is not valid"):
        make_space({"task": POOLING}, {**CONFIG, "task": "a"}, [])
    assert "model.note" in space_of(note=POOLING).leaves, "null is a value"


def test_a_range_ends_where_its_steps_end() -> None:
    space = space_of(
        channels={"type": "int", "low": 3, "high": 10, "step": 2},
        dropout={"type": "float", "low": 0.0, "high": 0.35, "step": 0.1},
        lr={"type": "float", "low": 0.1, "high": 0.7, "step": 0.2},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna's about ranges that are not divisible
        found = ask(space).distributions
    assert found["model.channels"].high == 9
    assert found["model.dropout"].high == 0.3
    assert found["model.lr"].high == 0.7


def test_a_hyperparameter_may_be_called_type() -> None:
    space = make_space({"model": {"type": POOLING}}, {"model": {"type": "mean"}}, [])
    assert list(space.leaves) == ["model.type"]


@pytest.mark.parametrize("fixed", ["model.channels", "model"])
def test_a_fixed_value_leaves_the_space(fixed: str) -> None:
    space = space_of(fixed, channels=CHANNELS)
    assert len(space) == 0
    assert ask(space).params == {}


def test_a_similar_name_does_not_leave_the_space() -> None:
    assert list(space_of("model.chan", "mod", channels=CHANNELS).leaves) == ["model.channels"]


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_a_condition_on_a_searched_value(pooling: str) -> None:
    space = space_of(heads=HEADS, pooling=POOLING)
    assert list(space.leaves) == ["model.pooling", "model.heads"], "what others depend on comes first"
    params = space.suggest(FixedTrial({"model.pooling": pooling, "model.heads": 3}), CONFIG)
    assert params == (
        {"model.pooling": "mean"} if pooling == "mean" else {"model.pooling": "attention", "model.heads": 3}
    )


def test_a_condition_may_list_values() -> None:
    pooling = {"type": "categorical", "choices": ["mean", "attention", "max"]}
    space = space_of(heads={**HEADS, "when": {"model.pooling": ["mean", "max"]}}, pooling=pooling)
    assert "model.heads" in space.suggest(FixedTrial({"model.pooling": "mean", "model.heads": 1}), CONFIG)
    assert "model.heads" not in space.suggest(FixedTrial({"model.pooling": "attention"}), CONFIG)


def test_a_condition_on_a_value_that_is_never_sampled_is_refused() -> None:
    with pytest.raises(UserError, match=r"waits for model.pooling=attn, which is never sampled. Did you mean 'atten"):
        space_of(heads={**HEADS, "when": {"model.pooling": "attn"}}, pooling=POOLING)


def test_a_condition_on_a_fixed_value_is_decided_at_once() -> None:
    assert list(space_of("model.pooling", pooling=POOLING, heads=HEADS).leaves) == []
    attention = {**CONFIG, "model": {**CONFIG["model"], "pooling": "attention"}}
    space = make_space({"model": {"pooling": POOLING, "heads": HEADS}}, attention, ["model.pooling"])
    assert list(space.leaves) == ["model.heads"]
    assert list(ask(space, config=attention).params) == ["model.heads"]


def test_chains_of_conditions() -> None:
    tree = {
        "dropout": {"type": "float", "low": 0, "high": 1, "when": {"model.heads": [1, 2]}},
        "heads": HEADS,
        "pooling": POOLING,
    }
    space = space_of(**tree)
    assert list(space.leaves) == ["model.pooling", "model.heads", "model.dropout"]
    full = FixedTrial({"model.pooling": "attention", "model.heads": 2, "model.dropout": 0.5})
    assert len(space.suggest(full, CONFIG)) == 3
    assert len(space.suggest(FixedTrial({"model.pooling": "attention", "model.heads": 3}), CONFIG)) == 2
    # Heads are not asked for, so they are the config's 2, under which dropout is searched.
    assert space.suggest(FixedTrial({"model.pooling": "mean", "model.dropout": 0.5}), CONFIG) == {
        "model.pooling": "mean",
        "model.dropout": 0.5,
    }


def test_a_leaf_that_falls_out_decides_others() -> None:
    # Pooling is fixed at mean: heads fall out and stay at 2, so what asks for 5 heads falls out as well.
    needs_five = {"type": "float", "low": 0, "high": 1, "when": {"model.heads": 5}}
    needs_two = {"type": "int", "low": 1, "high": 3, "when": {"model.heads": 2}}
    space = space_of("model.pooling", pooling=POOLING, heads=HEADS, dropout=needs_five, channels=needs_two)
    assert list(space.leaves) == ["model.channels"]


def test_conditions_in_a_circle() -> None:
    a = {"type": "int", "low": 1, "high": 8, "when": {"model.pooling": "attention"}}
    b = {**POOLING, "when": {"model.heads": 1}}
    with pytest.raises(UserError, match=r"conditions \(when\) of .*model\.heads.* run in a circle"):
        space_of(heads=a, pooling=b)
    with pytest.raises(UserError, match="run in a circle"):
        space_of(heads={**HEADS, "when": {"model.heads": 1}})


def test_a_condition_on_nothing() -> None:
    with pytest.raises(UserError, match=r"when names model\.poling, which is no setting\. Did you mean"):
        space_of(heads={**HEADS, "when": {"model.poling": "attention"}}, pooling=POOLING)
    with pytest.raises(UserError, match="when names model, which is no setting"):
        space_of(heads={**HEADS, "when": {"model": {"pooling": "attention"}}})


def test_complete_fills_in_the_config() -> None:
    space = space_of(channels=CHANNELS, dropout={"type": "float", "low": 0, "high": 1}, pooling=POOLING, heads=HEADS)
    assert complete(space, {}) == {"model.channels": 43, "model.dropout": 0.0, "model.pooling": "mean"}
    assert complete(space, {"model.pooling": "attention", "model.dropout": 1}) == {
        "model.channels": 43,
        "model.dropout": 1.0,
        "model.pooling": "attention",
        "model.heads": 2,
    }
    assert complete(space, {"data.batch_size": 256}) is not None, "says what is fixed anyway"


@pytest.mark.parametrize(
    "partial",
    [
        {"model.channels": 15},
        {"model.channels": 129},
        {"model.channels": 43.0},
        {"model.channels": True},
        {"model.channels": "43"},
        {"model.channels": None},
        {"model.dropout": float("nan")},
        {"model.dropout": -0.1},
        {"model.pooling": "max"},
        {"data.batch_size": 64},
        {"model.heads": 3},  # not asked for while pooling is mean, and not the config's own 2
    ],
)
def test_what_contradicts_the_space_or_a_fixed_value_is_dropped(partial: dict[str, Any]) -> None:
    space = space_of(channels=CHANNELS, dropout={"type": "float", "low": 0, "high": 1}, pooling=POOLING, heads=HEADS)
    assert complete(space, partial) is None


def test_a_value_between_two_steps_is_outside() -> None:
    space = space_of(
        channels={"type": "int", "low": 3, "high": 43, "step": 2},
        dropout={"type": "float", "low": 0, "high": 1, "step": 0.1},
    )
    assert complete(space, {}) is not None
    assert complete(space, {"model.dropout": 0.3}) is not None
    assert complete(space, {"model.dropout": 0.35}) is None
    assert complete(space, {"model.channels": 4}) is None
    assert not space.contains("model.heads", 2)
    assert space.contains("model.channels", 5)


def test_what_is_completed_can_be_enqueued() -> None:
    space = space_of(channels=CHANNELS, dropout={"type": "float", "low": 0, "high": 1}, pooling=POOLING, heads=HEADS)
    study = optuna.create_study()
    for partial in ({}, {"model.pooling": "attention"}):
        params = complete(space, partial)
        assert params is not None
        study.enqueue_trial(params)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna's about enqueued values out of range
            trial = study.ask()
            assert space.suggest(trial, CONFIG) == params
        study.tell(trial, 0.0)


def test_every_suggestion_lies_in_the_space() -> None:
    space = space_of(
        channels=CHANNELS, dropout={"type": "float", "low": 0, "high": 0.5, "step": 0.25}, pooling=POOLING, heads=HEADS
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(50):
        trial = study.ask()
        params = space.suggest(trial, CONFIG)
        assert complete(space, params) == params
        assert ("model.heads" in params) == (params["model.pooling"] == "attention")
        seen.add((params["model.dropout"], params["model.pooling"]))
        study.tell(trial, 0.0)
    assert len(seen) == 6


def test_a_finished_trial_of_the_space_is_accepted_by_optuna() -> None:
    space = space_of(channels=CHANNELS, pooling=POOLING, heads=HEADS)
    trial = ask(space)
    study = optuna.create_study()
    study.add_trial(create_trial(params=trial.params, distributions=trial.distributions, value=1.0))
    assert study.best_params == trial.params


def test_the_hash_depends_on_what_is_searched_and_on_nothing_else() -> None:
    a = space_of(channels=CHANNELS, pooling=POOLING, heads=HEADS)
    b = space_of(heads=dict(reversed(HEADS.items())), pooling=POOLING, channels=dict(reversed(CHANNELS.items())))
    assert a.hash == b.hash
    assert a.hash == space_of(channels=CHANNELS, pooling=POOLING, heads={**HEADS, "step": None}).hash
    others = [
        space_of(channels={**CHANNELS, "high": 129}, pooling=POOLING, heads=HEADS),
        space_of(channels={**CHANNELS, "log": False}, pooling=POOLING, heads=HEADS),
        space_of(channels=CHANNELS, pooling={**POOLING, "choices": ["attention", "mean"]}, heads=HEADS),
        space_of(channels=CHANNELS, pooling=POOLING, heads={**HEADS, "when": {"model.pooling": "mean"}}),
        space_of(channels=CHANNELS, pooling=POOLING),
        space_of("model.channels", channels=CHANNELS, pooling=POOLING, heads=HEADS),
    ]
    assert len({a.hash, *(other.hash for other in others)}) == 1 + len(others)


def test_an_empty_space() -> None:
    space = make_space({}, CONFIG, [])
    assert len(space) == 0
    assert complete(space, {}) == {}
    assert ask(space).params == {}
