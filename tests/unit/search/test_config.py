"""Composing `studies/` with overrides: every group, what overrides mean, and each value that is refused."""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingConfig
from search.checkout import STUDIES
from search.config.resolve import resolve
from search.study.config import StudyConfig, study_config
from search.study.study import manifest
from search.workers.worker import make_pruner, make_sampler

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

TASK = "task=synthetic_two_vs_rest"


@cache  # composing takes a quarter of a second; nothing here changes what it gets
def compose(*overrides: str, model: str = "cnn") -> StudyConfig:
    return compose_below(STUDIES, *overrides, model=model)


def compose_below(studies: Path, *overrides: str, model: str = "cnn") -> StudyConfig:
    # The one family that has nothing else to look at.
    beside = EmbeddingConfig(file="e.npz", hash="0" * 64, kind="residue", width=8) if model == "embeddings" else None
    return study_config([TASK, f"model={model}", *overrides], studies, embeddings=beside)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (STUDIES / group).glob("*.yaml"))


# A small space for all samplers: Grid needs the values named, BruteForce a space without continuous ones.
SMALL_SPACE = ["~space", "+space.model.depth={type: int, low: 1, high: 3}", "first_trials=[]"]
EXTRA = {"grid": ["sampler.search_space={model: {depth: [1, 2, 3]}}"]}


@pytest.mark.parametrize("sampler", options("sampler"))
def test_every_sampler_composes_and_samples(sampler: str) -> None:
    config = compose(f"sampler={sampler}", *EXTRA.get(sampler, []), *SMALL_SPACE)
    for n_finished in range(4):
        built = make_sampler(config, n_finished)
        if n_finished == 0:
            study = optuna.create_study(direction="maximize", sampler=built)
        study.sampler = built
        study.optimize(lambda trial: config.space.suggest(trial, config.defaults)["model.depth"] or 0, n_trials=1)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert {trial.params["model.depth"] for trial in study.trials} <= {1, 2, 3}


@pytest.mark.parametrize("sampler", [name for name in options("sampler") if name not in ("grid", "brute_force")])
def test_every_sampler_can_search_the_space_of_the_cnn(sampler: str) -> None:
    config = compose(f"sampler={sampler}")
    study = optuna.create_study(direction="maximize")
    for n_finished in range(3):
        study.sampler = make_sampler(config, n_finished)
        trial = study.ask()
        params = config.space.suggest(trial, config.defaults)
        assert len(params) == len(config.space) > 5
        config.run(params)
        study.tell(trial, float(n_finished))
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 3


def by_sampler(name: str) -> Any:
    """Of the samplers the three that are used most; `make test` leaves the others to `make test-system`."""
    return pytest.param(name, marks=[] if name in ("tpe", "random", "cmaes") else pytest.mark.system)


@pytest.mark.parametrize("sampler", [by_sampler(name) for name in options("sampler") if name not in ("qmc", "grid")])
def test_the_same_study_seed_gives_the_same_trials(sampler: str) -> None:
    def draws(*overrides: str) -> list[dict[str, Any]]:
        config = compose(f"sampler={sampler}", *SMALL_SPACE, "space.model.depth.high=30", *overrides)
        study = optuna.create_study(direction="maximize")
        for n_sampled in range(4):
            study.sampler = make_sampler(config, n_sampled)
            trial = study.ask()
            study.tell(trial, float(config.space.suggest(trial, config.defaults)["model.depth"] or 0))
        return [trial.params for trial in study.trials]

    assert draws() == draws()
    assert draws() != draws("seed=1") or sampler == "brute_force"


def sampled(*overrides: str, n_trials: int = 6) -> list[dict[str, Any]]:
    """What a sampler proposes that is made anew for each trial, as a worker does."""
    config = compose(*overrides)
    study = optuna.create_study(direction="maximize")
    for n_sampled in range(n_trials):
        study.sampler = make_sampler(config, n_sampled)
        trial = study.ask()
        config.space.suggest(trial, config.defaults)
        study.tell(trial, float(n_sampled))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", [by_sampler(name) for name in ("tpe", "random", "cmaes", "gp", "nsgaii")])
def test_a_seed_that_is_given_is_another_one_for_each_trial(sampler: str) -> None:
    given = (f"sampler={sampler}", "sampler.seed=2", *SMALL_SPACE, "space.model.depth.high=1000")
    depths = {trial["model.depth"] for trial in sampled(*given, n_trials=4)}
    assert len(depths) == 4
    assert sampled(*given, n_trials=4) == sampled(*given, "seed=1", n_trials=4)  # it stands for the study's


@pytest.mark.parametrize(
    ("sampler", "high"),
    [
        (("sampler=qmc",), 8),  # of which Sobol's first eight points have each once
        (("sampler=grid", f"sampler.search_space={{model.depth: {[*range(1, 13)]}}}"), 12),
    ],
)
def test_a_sampler_of_one_order_keeps_to_it_where_it_has_no_seed(sampler: tuple[str, ...], high: int) -> None:
    given = (*sampler, "sampler.seed=null", *SMALL_SPACE, f"space.model.depth.high={high}")
    first, *others = [trial["model.depth"] for trial in sampled(*given, n_trials=9)]
    assert len(set(others)) == len(others) == 8
    assert 1 <= first <= high


# With this seed the first trial has the lowest depth and no dropout; the sequence of QMC never looks at it then.
CONDITIONAL = (
    *("sampler=qmc", "seed=7", "~space", "first_trials=[]", "+space.model.depth={type: int, low: 1, high: 9}"),
    "+space.model.dropout={type: float, low: 0, high: 0.5, when: {model.depth: [2, 3, 4, 5, 6, 7, 8, 9]}}",
)


def test_qmc_varies_what_the_first_trial_lacked() -> None:
    trials = sampled(*CONDITIONAL, n_trials=9)
    dropouts = [trial["model.dropout"] for trial in trials if "model.dropout" in trial]
    assert "model.dropout" not in trials[0]
    assert len(set(dropouts)) == len(dropouts) > 2
    assert trials == sampled(*CONDITIONAL, n_trials=9)


def test_a_sampler_within_another_has_a_seed_of_each_trial() -> None:
    inner = "+sampler.independent_sampler={_target_: optuna.samplers.RandomSampler}"
    trials = sampled(inner, *CONDITIONAL)
    assert trials == sampled(inner, *CONDITIONAL)
    dropouts = [trial["model.dropout"] for trial in trials if "model.dropout" in trial]
    assert len(set(dropouts)) == len(dropouts) > 2


@pytest.mark.parametrize("pruner", options("pruner"))
def test_every_pruner_composes_and_judges(pruner: str) -> None:
    config = compose(f"pruner={pruner}", "trainer.max_epochs=9")
    study = optuna.create_study(direction="maximize", pruner=make_pruner(config))
    for number in range(8):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        pruned = False
        for epoch in range(1, 10):
            trial.report(0.9 - 0.1 * number, step=epoch)
            pruned = trial.should_prune()
            if pruned:
                break
        study.tell(trial, state=optuna.trial.TrialState.PRUNED) if pruned else study.tell(trial, 0.9 - 0.1 * number)
    n_pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
    assert n_pruned == 0 if pruner in ("nop", "threshold", "patient") else n_pruned <= 7
    assert study.trials[0].state.name == "COMPLETE"


def test_hyperband_has_explicit_resources() -> None:
    assert compose().pruner["epochs"] == {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": 3,
        "max_resource": 100,
        "reduction_factor": 3,
    }
    assert compose("trainer.max_epochs=2").pruner["epochs"]["min_resource"] == 2
    assert compose("trainer.max_epochs=27").pruner["epochs"]["max_resource"] == 27


@pytest.mark.parametrize("group", ["model", "space", "validation", "trainer", "logger", "debug"])
def test_every_option_of_every_other_group_composes(group: str) -> None:
    for option in options(group):
        if group == "model":
            config = compose(model=option)
        elif group == "space":
            config = compose(f"space={option}", model=option.partition("_")[0])
        else:
            config = compose(f"{group}={option}")
        assert config.defaults["task"] == "synthetic_two_vs_rest"
        config.run({})


@pytest.mark.parametrize("model", options("model"))
def test_the_first_trial_is_the_published_configuration(model: str) -> None:
    config = compose(model=model)
    first = config.first_trials[0]
    assert set(config.space.always_searched) <= set(config.space.values(first)) <= set(config.space.paths)
    assert config.run(first) == config.run({})


def test_the_published_sizes() -> None:
    assert compose().defaults["model"]["channels"] == 43
    assert compose(model="cnn_flip").defaults["model"]["channels"] == 1024
    assert compose().space.tree["model.channels"]["high"] <= 128
    assert compose("space=cnn_wide").space.tree["model.channels"]["high"] == 1024
    searched = {
        *("model.kernel_size", "model.channels", "model.dropout", "model.depth", "model.weight_decay", "model.pooling"),
        *("model.lr_encoder", "model.lr_embedding", "model.lr_decoder", "data.batch_size"),
    }
    assert set(compose().space.leaves) == searched
    assert set(compose(model="ridge").space.leaves) == {"model.alpha"}
    numbers = {"model.length_scale", "model.linear_variance", "model.noise"}
    knowledge = {f"model.{name}" for name in ("similarity", "sites", "relevance", "composition", "places")}
    conditional = {"composition_variance", "composition_length_scale", "place_variance", "place_width"}
    leaves = compose(model="kernel").space.leaves
    assert set(leaves) == numbers | knowledge | {f"model.{name}" for name in conditional} | {"trainer.target_transform"}
    assert set(compose("model.similarity=identity", model="kernel").space.leaves) == set(leaves) - {
        "model.similarity",
        "model.sites",
    }


def test_overrides_as_on_hydras_command_line() -> None:
    space = ("space.model.channels.high=64", "~space.model.depth")
    config = compose("trainer.max_epochs=5", "model.dropout=0.1", "sampler=random", *space)
    assert config.defaults["trainer"]["max_epochs"] == 5
    assert config.defaults["model"]["dropout"] == 0.1
    assert config.space.tree["model.channels"]["high"] == 64
    assert config.sampler["_target_"].endswith("RandomSampler")
    assert {"model.dropout", "model.depth"}.isdisjoint(config.space.leaves)
    assert config.run({"model.channels": 17}).model["channels"] == 17
    assert config.run({}).model["dropout"] == 0.1


@pytest.mark.parametrize("override", ["model.channels=32", "++model.channels=32"])
def test_overriding_a_searched_value_fixes_it(override: str) -> None:
    config = compose(override)
    assert "model.channels" not in config.space.leaves
    assert config.fixed["model.channels"] == 32
    assert config.first_trials[0].keys() == config.space.leaves.keys()
    assert config.space.hash != compose().space.hash
    assert config.hash != compose().hash


def test_overriding_a_searched_value_with_its_default_fixes_it_too() -> None:
    assert "model.channels" not in compose("model.channels=43").space.leaves


def test_a_condition_on_a_fixed_value_leaves_with_it() -> None:
    when = "+space.model.dropout.when={model.depth: 2}"
    assert "model.dropout" in compose(when).space.leaves
    assert "model.dropout" in compose(when, "model.depth=2").space.leaves
    assert "model.dropout" not in compose(when, "model.depth=1").space.leaves


def test_a_condition_on_a_known_word_that_is_not_searched_leaves_the_space() -> None:
    precision = "+space.trainer.precision={type: categorical, choices: [32-true, 16-mixed]}"
    when = "+space.model.dropout.when={trainer.precision: %s}"
    assert "model.dropout" in compose(precision, when % "16-mixed").space.leaves
    assert "model.dropout" not in compose(precision, when % "bf16-mixed").space.leaves
    with pytest.raises(UserError, match=r"waits for trainer\.precision=bf16-mixde, which is never sampled"):
        compose(precision, when % "bf16-mixde")
    with pytest.raises(UserError, match=r"waits for model\.depth=5, which is never sampled"):
        compose("+space.model.dropout.when={model.depth: 5}")


def test_the_default_of_what_is_not_always_searched_is_guarded() -> None:
    config = compose("+space.model.dropout.when={model.depth: 2}")
    assert config.fixed["model.dropout"] == 0.0
    assert "model.depth" not in config.fixed


def test_anything_in_the_config_can_be_searched() -> None:
    config = compose("+space.trainer.gradient_clip={type: float, low: 0.1, high: 10, log: true}")
    assert config.run({"trainer.gradient_clip": 0.5}).trainer.gradient_clip == 0.5
    assert config.first_trials == (), "the default, null, is outside of the range"


def test_without_a_space_there_is_nothing_to_search() -> None:
    config = compose("~space")
    assert len(config.space) == 0
    assert config.first_trials == ()


def test_no_logger() -> None:
    for override in ("logger=none", "~logger"):
        assert compose(override).run({}).logger is None


def test_first_trials_are_completed() -> None:
    config = compose("first_trials=[{},{model:{channels:64}},{model:{channels:64,depth:1}},{data:{batch_size:32}}]")
    defaults = config.run({}).model
    assert [trial["model.channels"] for trial in config.first_trials] == [43, 64, 43], "each once"
    expected = {**{f"model.{key}": value for key, value in defaults.items()}, "data.batch_size": 256}
    expected["model.channels"] = 64
    assert config.first_trials[1] == {path: expected[path] for path in config.space.leaves}


def test_first_trials_that_contradict_what_is_fixed_are_dropped() -> None:
    trials = "first_trials=[{model:{channels:64}},{model:{depth:2}},{trainer:{max_epochs:7}}]"
    assert len(compose(trials).first_trials) == 2
    assert [trial["model.depth"] for trial in compose(trials, "model.channels=32").first_trials] == [2]
    assert len(compose(trials, "trainer.max_epochs=7").first_trials) == 3
    assert compose("first_trials=[{model:{channels:1000}}]").first_trials == (), "outside of the space"


# Of every rule that refuses a value one; `make test` leaves the others to `make test-system`.
BAD = [
    ("model.kernel_size=abc", "model.kernel_size=abc is not valid: expected int >= 1 and odd."),
    ("model.kernel_size=4", "expected int >= 1 and odd"),
    ("model.dropout=1", "model.dropout=1 is not valid: expected float >= 0 and < 1."),
    ("model.chanels=3", "model.chanels is not a setting. Did you mean 'channels'"),
    ("~model.channels", "model.channels is missing"),
    (
        "model=null",
        "model=null is unknown: expected one of cnn, cnn_flip, embeddings, epistasis, esm, forest, kernel, ridge.",
    ),
    ("model=cnnn", "cnn, cnn_flip, embeddings, epistasis, esm, forest, kernel, ridge. Did you mean 'cnn'"),
    ("model._target_=models.cnn.torch.load", "there is no module models.cnn.torch"),
    ("model._target_=torch.nn.Linear", "outside the allowed packages"),
    ("trainer.max_epochs=-1", "trainer.max_epochs=-1 is not valid: expected int >= 1."),
    ("trainer.accelerator=tpu", "expected one of 'auto', 'cpu', 'gpu'"),
    ("trainer.deterministic=1", "expected bool"),
    ("trainer.target_transform=log", "expected one of 'none', 'standardize', 'rank_normal'"),
    ("trainer.standardize_targets=1", "trainer.standardize_targets=1 is not valid: expected bool."),
    ("trainer.callbacks=x", "expected a list of a mapping"),
    ("trainer.callbacks=[{_target_: os.system}]", "trainer.callbacks[0]._target_=os.system is outside"),
    (
        "trainer.callbacks=[{_target_: lightning.pytorch.callbacks.model_checkpoint.os.makedirs, name: x}]",
        "trainer.callbacks[0]._target_=lightning.pytorch.callbacks.model_checkpoint.os.makedirs is not valid",
    ),
    ("data=5", "data=5 is not valid: expected a mapping"),
    ("data.batch_size=0", "data.batch_size=0 is not valid"),
    ("data.crop=domian", "has no crop 'domian'"),
    ("seed=-1", "seed=-1 is not valid: expected int >= 0."),
    ("task=gb1_three_vs_ret", "There is no task 'gb1_three_vs_ret'. Did you mean 'gb1_three_vs_rest'"),
    ("validation=cv", "validation=cv is unknown: expected one of auto, by_fold, by_group, by_position, holdout, kfold"),
    ("~sampler", "sampler is missing"),
    ("sampler.n_startup_trials=abc", "sampler.n_startup_trials=abc is not valid: expected int >= 0."),
    ("sampler._target_=optuna.samplers.TPESamplr", "Did you mean 'TPESampler'"),
    ("sampler=grid", "sampler.search_space must be given"),
    (
        "pruner.epochs.reduction_factr=3",
        "pruner.epochs.reduction_factr is not a setting. Did you mean 'reduction_factor'",
    ),
    ("+logger.save_dir=x", "logger.save_dir cannot be set"),
    ("experiment=mine", "experiment=mine is unknown"),
    (
        "space=cnn_wied",
        "expected one of cnn, cnn_flip, cnn_wide, embeddings, epistasis, esm, esm_wide, forest, kernel, ridge. Did",
    ),
    ("space=ridge", "space.model.alpha has no value in the config"),
    ("space.model.channels.low=500", "space.model.channels is not valid: low=500 is above high="),
    ("space.model.channels.hihg=500", "space.model.channels.hihg is not a setting. Did you mean 'high'"),
    ("space.model.dropout.high=1.5", "The space reaches a value that is not allowed: model.dropout=1.5"),
    ("space.data.batch_size.choices=[32,abc]", "The space reaches a value that is not allowed: data.batch_size=abc"),
    ("+space.data.crop={type: categorical, choices: [none, regoin]}", "has no crop 'regoin'"),
    ("+space.task={type: categorical, choices: [gb1_sampled]}", "a study is about one task"),
    ("+space.validation.n_folds={type: int, low: 2, high: 5}", "different validations cannot be compared"),
    ("~space.model.dpth", "'space.model.dpth' does not exist"),
    ("first_trials=5", "first_trials=5 is not valid: expected a list of a mapping."),
    ("first_trials=[{model:{chanels:3}}]", "first_trials[0] sets model.chanels, which is no setting. Did you mean"),
    ("foo=1", "foo is not a setting"),
    ("model.channels", "is not an override: expected key=value, +key=value or ~key"),
    ("model.channels=${foo}", "Interpolation key 'foo' not found"),
    ("model.channels=${flip.min:1,2}", "cannot be resolved"),
    ("model.channels=16,32", "'model.channels=16,32' names several values: to search model.channels, give its space"),
]
ALIKE = [
    ("model.kernel_size=-3", "expected int >= 1 and odd"),
    ("model.kernel_size=null", "model.kernel_size=null is not valid"),
    ("model.kernel_size=5.0", "model.kernel_size=5.0 is not valid"),
    ("model.kernel_size=true", "model.kernel_size=true is not valid"),
    ("model.kernel_size=[5]", "model.kernel_size=[5] is not valid"),
    ("model.kernel_size=", "model.kernel_size= is not valid"),
    ("model.dropout=.nan", "model.dropout="),
    ("model.lr_decoder=0", "expected float > 0"),
    ("+model.chanels=3", "model.chanels is not a setting. Did you mean 'channels'"),
    ("trainer.max_epochs=0", "expected int >= 1"),
    ("trainer.max_epochs=1e3", "expected int >= 1"),
    ("trainer.max_epoch=3", "trainer.max_epoch is not a setting. Did you mean 'max_epochs'"),
    ("trainer.precision=32", "expected one of '32-true'"),
    ("trainer.threads=0", "expected int >= 1 or null"),
    ("trainer.gradient_clip=0", "expected float > 0 or null"),
    ("trainer.loss=mae", "trainer.loss=mae is not valid: expected one of 'mse', 'huber', 'ranking'."),
    ("trainer.huber_delta=0", "trainer.huber_delta=0 is not valid: expected float > 0."),
    ("trainer.standardize_targets=1", "trainer.standardize_targets=1 is not valid: expected bool."),
    ("trainer=5", "trainer=5 is unknown: expected one of default."),
    ("data.batch_size=999999999999999999999", "data.batch_size=999999999999999999999 is not valid"),
    ("data.crop=3", "data.crop=3 is not valid: expected str or null"),
    ("seed=abc", "seed=abc is not valid"),
    ("~seed", "seed is missing"),
    ("sampler=rnadom", "sampler=rnadom is unknown: expected one of brute_force,"),
    ("sampler=null", "sampler=null is unknown: expected one of"),
    ("sampler._target_=optuna.pruners.NopPruner", "is not a optuna.samplers.BaseSampler"),
    ("pruner=medain", "pruner=medain is unknown: expected one of hyperband, median"),
    ("logger=comet", "logger=comet is unknown: expected one of csv, mlflow, none, tensorboard, wandb."),
    ("logger=[csv,tensorboard]", "logger=[csv,tensorboard] names several, of which the last alone would be taken"),
    ("debug=full", "debug=full is unknown: expected one of default."),
    ("space.model.channels=5", "space.model.channels=5 is not valid"),
    ("space.model.kernel_size.step=1", "The space reaches a value that is not allowed: model.kernel_size=4"),
    ("+space.model.chanels={type: int, low: 1, high: 2}", "space.model.chanels has no value"),
    ("first_trials=[5]", "first_trials=[5] is not valid"),
    ("+foo=1", "foo is not a setting"),
    ("+modle.channels=1", "modle is not a setting. Did you mean 'model'?"),
    ("{a", "is not an override"),
    ("", "is not an override"),
    ("a=b=c", "is not an override"),
    ("model.channels=${min:1,abc}", "cannot be resolved"),
    ("model.channels=${model.channels}", "cannot be resolved"),
    ("model.channels=range(1,9)", "names several values"),
    ("model.channels=choice(1,9)", "names several values"),
    ("model.dropout=interval(0,0.5)", "names several values"),
    ("sampler=tpe,random", "names several values"),
    ("sampler=glob(*)", "names several values"),
]


def named(refusals: list[tuple[str, str]], *marks: pytest.MarkDecorator) -> list[Any]:
    return [pytest.param(*refusal, id=refusal[0][:60] or "empty", marks=marks) for refusal in refusals]


@pytest.mark.parametrize(("override", "sentence"), [*named(BAD), *named(ALIKE, pytest.mark.system)])
def test_a_bad_override_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(override)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not str(caught.value).endswith("..")


def test_functions_of_configs_leave_those_of_the_importing_program_alone() -> None:
    resolved = {"a": 5, "b": "${min:3,${a}}", "c": ["${by:${a},{5: five},other}"], "d": "${ min : 7,2}"}
    try:
        for name in ("min", "by", "if_region"):
            OmegaConf.register_new_resolver(name, lambda *_: "theirs")
        assert resolve(resolved, {}) == {"a": 5, "b": 3, "c": ["five"], "d": 2}
        assert OmegaConf.create({"b": "${min:3,4}"}).b == "theirs"
    finally:
        for name in ("min", "by", "if_region"):
            OmegaConf.clear_resolver(name)


def test_an_error_of_a_function_names_it_as_the_config_does() -> None:
    with pytest.raises(UserError) as caught:
        resolve({"a": "${min:1,abc}"}, {})
    assert "flipsearch." not in str(caught.value)


def test_a_grid_must_be_of_the_space() -> None:
    for grid, sentence in (
        ("{model: {channels: [16]}}", "sampler.search_space names model.channels, which is not searched"),
        ("{}", "sampler.search_space lacks model.depth"),
        ("5", "sampler.search_space=5 is not valid: expected a mapping"),
        ("{model.depth: 2}", "sampler.search_space.model.depth=2 is not valid: expected a list"),
        ("{model.depth: [1, 4]}", "sampler.search_space.model.depth holds 4, which is outside of space.model.depth"),
    ):
        both = grid if grid in ("{}", "5") or "depth" in grid else f"{grid[:-2]}, depth: [1]}}}}"
        with pytest.raises(UserError) as caught:
            compose("sampler=grid", f"sampler.search_space={both}", *SMALL_SPACE)
        assert sentence in str(caught.value)


def test_a_frozen_experiment_is_not_merged(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    copy_tree(studies)
    (studies / "experiment" / "mine.yaml").write_text("task: a\nprovenance:\n  schema_version: 1\n")
    with pytest.raises(UserError, match="use `train --experiment FILE`"):
        compose_below(studies, "experiment=mine")
    with pytest.raises(UserError, match=r"experiment=mien is unknown: expected one of mine\. Did you mean 'mine'"):
        compose_below(studies, "experiment=mien")


@pytest.mark.parametrize("content", ["model: [", "a: b: c", "\t- x", "!!python/object:os.system {}"])
def test_a_malformed_file_of_the_tree_is_a_sentence(tmp_path: Path, content: str) -> None:
    studies = tmp_path / "studies"
    copy_tree(studies)
    (studies / "model" / "mine.yaml").write_text(content)
    (studies / "space" / "mine.yaml").write_text("{}")
    with pytest.raises(UserError, match="not valid YAML"):
        compose_below(studies, model="mine")


def test_a_model_without_a_space_is_a_sentence(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    copy_tree(studies)
    (studies / "model" / "mine.yaml").write_text("_target_: models.ridge.Ridge\nalpha: 1.0\n")
    with pytest.raises(UserError, match="space/mine"):
        compose_below(studies, model="mine")
    (studies / "space" / "mine.yaml").write_text("model:\n  alpha: {type: float, low: 1, high: 2}\n")
    assert list(compose_below(studies, model="mine").space.leaves) == ["model.alpha"]


def copy_tree(studies: Path) -> None:
    for path in STUDIES.rglob("*.yaml"):
        if path.parent.name != "experiment":
            copy = studies / path.relative_to(STUDIES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text())
    (studies / "experiment").mkdir()


def test_what_the_manifest_depends_on() -> None:
    def about(*overrides: str) -> dict[str, Any]:
        return manifest(compose(*overrides), data_hash="x", label="y", model="cnn")

    before = about()
    for same in ("trainer.threads=1", "trainer.accelerator=cpu", "logger=none", "first_trials=[]"):
        assert about(same) == before, same
    others = ("seed=1", "model.channels=16", "trainer.patience=3", "data.crop=none", "sampler=random", "pruner=nop")
    for other in others:
        assert about(other) != before, other


def test_composing_leaves_no_warnings_and_no_state_behind() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compose_below(STUDIES) == compose_below(STUDIES)
