"""Several leaves at one place of the space, of which a trial meets one at most."""

import random
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FixedTrial

from datasets.common.errors import UserError
from search.config.nested import flatten, nest
from search.space.parse import make_space
from search.space.space import Space
from search.study.endings import run_lost_trials_again
from search.study.trials.tally import Tally

CONFIG: dict[str, Any] = {
    "model": {"adaptation": "frozen", "backbone": "small", "fine_tune_depth": 1, "lr": 1e-3},
    "data": {"batch_size": 64},
    "trainer": {"max_epochs": 10},
}
ADAPTATION = {"type": "categorical", "choices": ["frozen", "last_k", "lora"]}
BACKBONE = {"type": "categorical", "choices": ["small", "large"]}
BATCH_SIZES = [
    {"type": "categorical", "choices": [32, 64, 128], "when": {"model.adaptation": "frozen"}},
    {"type": "categorical", "choices": [4, 8, 16, 32], "when": {"model.adaptation": ["last_k", "lora"]}},
]
DEPTHS = [
    {"type": "int", "low": 1, "high": 6, "when": {"model.adaptation": "last_k", "model.backbone": "small"}},
    {"type": "int", "low": 1, "high": 12, "when": {"model.adaptation": "last_k", "model.backbone": "large"}},
]
TREE: dict[str, Any] = {
    "data": {"batch_size": BATCH_SIZES},
    "model": {"fine_tune_depth": DEPTHS, "adaptation": ADAPTATION, "backbone": BACKBONE},
}
NAMES = [
    "data.batch_size[model.adaptation=frozen]",
    "data.batch_size[model.adaptation=last_k|lora]",
    "model.fine_tune_depth[model.backbone=small]",
    "model.fine_tune_depth[model.backbone=large]",
]


def space_of(*fixed: str, config: Mapping[str, Any] = CONFIG, tree: Mapping[str, Any] = TREE) -> Space:
    return make_space(tree, config, list(fixed))


def batch_sizes(*leaves: Any) -> Space:
    return make_space({"data": {"batch_size": [*leaves]}, "model": {"adaptation": ADAPTATION}}, CONFIG, [])


def complete(space: Space, partial: Mapping[str, Any], config: Mapping[str, Any] = CONFIG) -> dict[str, Any] | None:
    return space.complete(partial, lambda values: nest({**dict(flatten(config)), **values}))


def test_each_alternative_is_a_parameter_named_by_its_condition() -> None:
    space = space_of()
    assert set(space.leaves) == {"model.adaptation", "model.backbone", *NAMES}
    assert set(space.paths) == {"model.adaptation", "model.backbone", "data.batch_size", "model.fine_tune_depth"}
    assert len(space) == 4
    assert space.always_searched == ["model.adaptation", "model.backbone"]
    assert list(space.tree) == list(space.leaves)
    assert space.contains("data.batch_size", 4)
    assert space.contains("data.batch_size", 128)
    assert not space.contains("data.batch_size", 5)


def test_names_and_hash_do_not_depend_on_the_order() -> None:
    def shuffled(leaf: Any, order: random.Random) -> dict[str, Any]:
        when = {path: order.sample(v, len(v)) if isinstance(v, list) else v for path, v in leaf["when"].items()}
        return {**leaf, "when": dict(order.sample([*when.items()], len(when)))}

    order = random.Random(0)
    for _ in range(5):
        batch = [shuffled(leaf, order) for leaf in order.sample(BATCH_SIZES, 2)]
        depth = [shuffled(leaf, order) for leaf in order.sample(DEPTHS, 2)]
        tree = {"data": {"batch_size": batch}, "model": {**TREE["model"], "fine_tune_depth": depth}}
        assert set(space_of(tree=tree).leaves) == set(space_of().leaves)
    # The values of a condition are a list, and a list has an order for the hash.
    again = {**TREE, "data": {"batch_size": BATCH_SIZES[::-1]}}
    assert space_of(tree=again).hash == space_of().hash
    wider = [BATCH_SIZES[0], {**BATCH_SIZES[1], "choices": [4, 8]}]
    assert space_of(tree={**TREE, "data": {"batch_size": wider}}).hash != space_of().hash


def test_a_list_of_one_is_a_leaf_with_its_plain_name() -> None:
    assert "data.batch_size" in batch_sizes(BATCH_SIZES[0]).leaves


@pytest.mark.parametrize(
    ("params", "values"),
    [
        (
            {"model.adaptation": "frozen", "model.backbone": "large", NAMES[0]: 128},
            {"model.adaptation": "frozen", "model.backbone": "large", "data.batch_size": 128},
        ),
        (
            {"model.adaptation": "lora", "model.backbone": "large", NAMES[1]: 8},
            {"model.adaptation": "lora", "model.backbone": "large", "data.batch_size": 8},
        ),
        (
            {"model.adaptation": "last_k", "model.backbone": "large", NAMES[1]: 8, NAMES[3]: 12},
            {
                "model.adaptation": "last_k",
                "model.backbone": "large",
                "data.batch_size": 8,
                "model.fine_tune_depth": 12,
            },
        ),
    ],
)
def test_a_trial_is_asked_for_the_alternative_that_holds(params: dict[str, Any], values: dict[str, Any]) -> None:
    space = space_of()
    assert space.suggest(FixedTrial(params), CONFIG) == values
    assert space.values(params) == values
    assert space.values(values) == values
    assert complete(space, values) == params


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler"])
def test_a_study_over_alternatives(sampler: str) -> None:
    space = space_of()
    study = optuna.create_study(
        direction="maximize", sampler=getattr(optuna.samplers, sampler)(seed=1), storage=None, study_name=sampler
    )

    def objective(trial: optuna.Trial) -> float:
        values = space.suggest(trial, CONFIG)
        assert space.values(trial.params) == values
        frozen, last_k = (values["model.adaptation"] == name for name in ("frozen", "last_k"))
        assert values["data.batch_size"] in (BATCH_SIZES[0] if frozen else BATCH_SIZES[1])["choices"]
        assert ("model.fine_tune_depth" in values) == last_k
        depth = values.get("model.fine_tune_depth", 1)
        assert isinstance(depth, int)
        assert depth <= (6 if values["model.backbone"] == "small" else 12)
        return float(depth)

    study.optimize(objective, n_trials=30)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    found = {name: distribution for trial in study.trials for name, distribution in trial.distributions.items()}
    assert set(found) == set(space.leaves), "every alternative was tried"
    assert found[NAMES[0]] == CategoricalDistribution([32, 64, 128])
    assert found[NAMES[1]] == CategoricalDistribution([4, 8, 16, 32])
    assert found[NAMES[2]] == IntDistribution(1, 6)
    assert found[NAMES[3]] == IntDistribution(1, 12)
    for trial in study.trials:
        assert complete(space, space.values(trial.params)) == trial.params


def test_a_trial_in_line_and_a_lost_one_keep_their_alternatives() -> None:
    space = space_of()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    params = complete(space, {"model.adaptation": "last_k", "data.batch_size": 4, "model.fine_tune_depth": 6})
    assert params is not None
    study.enqueue_trial(params)
    for n_retries in (0, 1):
        trial = study.ask()
        space.suggest(trial, CONFIG)
        assert trial.params == params
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        tally = Tally()
        tally.see(study.get_trials(deepcopy=False))
        assert run_lost_trials_again(study, tally.failed, tally.retries) == 1, n_retries


def test_a_fixed_value_takes_all_its_alternatives_out() -> None:
    assert set(space_of("data.batch_size").paths) == {"model.adaptation", "model.backbone", "model.fine_tune_depth"}
    assert set(space_of("model", "data").paths) == set()


def test_a_fixed_condition_leaves_one_alternative_with_its_plain_name() -> None:
    assert set(space_of("model.adaptation").leaves) == {"model.backbone", "data.batch_size"}
    last_k = {**CONFIG, "model": {**CONFIG["model"], "adaptation": "last_k", "backbone": "large"}}
    assert set(space_of("model.adaptation", "model.backbone", config=last_k).leaves) == {
        "data.batch_size",
        "model.fine_tune_depth",
    }


def test_a_condition_on_a_value_with_alternatives() -> None:
    lr = {"type": "float", "low": 0.1, "high": 1, "when": {"data.batch_size": [4, 64]}}
    tree = {**TREE, "model": {**TREE["model"], "lr": lr}}
    space = space_of(tree=tree)
    names = list(space.leaves)
    assert names.index("model.lr") > max(names.index(name) for name in NAMES[:2])
    for adaptation, size, is_searched in (("frozen", 64, True), ("frozen", 32, False), ("lora", 4, True)):
        values = complete(space, {"model.adaptation": adaptation, "data.batch_size": size, "model.lr": 0.5})
        assert (values is not None) == is_searched
    assert "model.lr" in space_of("model.adaptation", tree=tree).leaves, "64 may be sampled"
    only_4 = {**tree, "model": {**tree["model"], "lr": {**lr, "when": {"data.batch_size": 4}}}}
    assert "model.lr" not in space_of("model.adaptation", tree=only_4).leaves, "frozen trials never have 4"
    nothing = {**tree, "model": {**tree["model"], "lr": {**lr, "when": {"data.batch_size": 5}}}}
    with pytest.raises(UserError, match=r"space\.model\.lr\.when waits for data\.batch_size=5, which is never sampled"):
        space_of(tree=nothing)


def test_alternatives_for_values_that_are_known_but_not_sampled_leave_the_space() -> None:
    config = {**CONFIG, "model": {**CONFIG["model"], "backbone": "huge"}}
    depths = [DEPTHS[0], {**DEPTHS[1], "when": {"model.adaptation": "last_k", "model.backbone": ["large", "huge"]}}]
    tree = {**TREE, "model": {**TREE["model"], "fine_tune_depth": depths}}
    with pytest.raises(UserError, match=r"waits for model\.backbone=huge, which is never sampled"):
        space_of(tree=tree)
    space = make_space(tree, CONFIG, [], is_known=lambda path, value: (path, value) == ("model.backbone", "huge"))
    assert set(space.leaves) == set(space_of().leaves), "no trial meets huge, so no name tells of it"
    one = {**tree, "model": {**tree["model"], "backbone": {"type": "categorical", "choices": ["small"]}}}
    space = make_space(one, CONFIG, [], is_known=lambda path, value: value != "small")
    assert "model.fine_tune_depth" in space.leaves
    space = make_space(tree, config, ["model.backbone"])
    assert space.leaves["model.fine_tune_depth"].extremes[-1] == 12


def test_what_lies_outside_of_the_alternative_that_holds_is_dropped() -> None:
    space = space_of()
    assert complete(space, {"data.batch_size": 4}) is None, "frozen trials have 32 and more"
    assert complete(space, {"model.adaptation": "lora"}) is None, "the config's 64 is too many"
    assert complete(space, {"model.fine_tune_depth": 3}) is None, "it is not searched in a frozen trial"
    assert complete(space, {"model.fine_tune_depth": 1}) is not None, "it is 1 anyway"


@pytest.mark.parametrize(
    ("leaves", "sentence"),
    [
        (
            [BATCH_SIZES[0], {**BATCH_SIZES[1], "when": {"model.adaptation": ["frozen", "lora"]}}],
            "space.data.batch_size.0 and space.data.batch_size.1 could be searched in one trial: give their conditions",
        ),
        (
            [BATCH_SIZES[0], {**BATCH_SIZES[1], "when": {"model.backbone": "large"}}],
            "space.data.batch_size.0 and space.data.batch_size.1 could be searched in one trial",
        ),
        (
            [*BATCH_SIZES, BATCH_SIZES[1]],
            "space.data.batch_size.1 and space.data.batch_size.2 could be searched in one",
        ),
        ([BATCH_SIZES[0], {"type": "int", "low": 1, "high": 2}], "space.data.batch_size.1 has no condition: each of"),
        ([{"type": "int", "low": 1, "high": 2}], "space.data.batch_size.0 has no condition"),
        ([BATCH_SIZES[0], {**BATCH_SIZES[1], "choices": []}], "space.data.batch_size.1 is not valid: choices is empty"),
        ([BATCH_SIZES[0], 5], "is not valid: expected a mapping with type"),
        ([BATCH_SIZES[0], {"low": 1}], "is not valid: expected a mapping with type"),
        ([], "space.data.batch_size=[] is not valid: expected a mapping with type"),
        (
            [BATCH_SIZES[0], {**BATCH_SIZES[1], "when": {"model.adaptation": "loar"}}],
            "space.data.batch_size.1.when waits for model.adaptation=loar, which is never sampled. Did you mean 'lora'",
        ),
        (
            [{**BATCH_SIZES[0], "when": {"data.batch_size": 4}}, {**BATCH_SIZES[1], "when": {"data.batch_size": 64}}],
            "The conditions (when) of data.batch_size, data.batch_size run in a circle.",
        ),
    ],
)
def test_malformed_alternatives_are_one_sentence(leaves: list[Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        batch_sizes(*leaves)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_look_alike_do_not_tell_alternatives_apart() -> None:
    config = {**CONFIG, "trainer": {"max_epochs": None}}
    leaves = [{**BATCH_SIZES[0], "when": {"trainer.max_epochs": want}} for want in (None, "null")]
    with pytest.raises(UserError, match="could be searched in one trial"):
        make_space({"data": {"batch_size": leaves}}, config, [])


def test_a_condition_on_what_follows_from_others_is_refused() -> None:
    tree = {"model": {"adaptation": {**ADAPTATION, "when": {"model.lr": 1e-3}}}}
    with pytest.raises(UserError, match=r"when names model\.lr, which may follow from other values: name those"):
        make_space(tree, CONFIG, [], {"model.lr"})
    searched = {"model": {**tree["model"], "lr": {"type": "categorical", "choices": [1e-3, 1e-4]}}}
    assert len(make_space(searched, CONFIG, [], {"model.lr"})) == 2, "it never follows from others: it is searched"
