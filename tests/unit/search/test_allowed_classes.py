"""What a config may name, and what it may give to it: listed classes and arguments, none of which reaches outside."""

import importlib
import inspect
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import lightning.pytorch as pl
import pytest

from datasets.common.errors import UserError
from datasets.validation.names import MODULES, target_of
from search.checkout import STUDIES
from search.config import targets
from search.config.allowed_classes import ARGUMENTS, CALLBACK, LOGGER, PRUNER, SAMPLER
from search.config.run_config import LOGGER_ARGUMENTS, RunConfig, TrainerConfig, run_config
from search.config.static_classes import signature
from search.config.targets import DIVISION, MODEL, check, instantiate
from search.training.trainer import build_trainer
from tests.unit.search.test_experiment import CONFIG

pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

PACKAGES = {
    "optuna.samplers": SAMPLER,
    "optuna.pruners": PRUNER,
    "lightning.pytorch.loggers": LOGGER,
    "lightning.pytorch.callbacks": CALLBACK,
    "search.fold_pruning": PRUNER,  # as configs name it
}
HOSTILE = ["/etc/passwd", "../../x", "http://localhost:1/", "os.system", "lambda: 1", b"x", {"_target_": "os.system"}]


PLACES = {"search.fold_pruning": "search.study.pruning"}


def classes(package: str) -> list[type[Any]]:
    module, base = importlib.import_module(PLACES.get(package, package)), PACKAGES[package]
    expected = getattr(importlib.import_module(base.rpartition(".")[0]), base.rpartition(".")[2])
    return [cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, expected)]


def given(base: str) -> tuple[str, ...]:
    return LOGGER_ARGUMENTS if base == LOGGER else ()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_is_listed_exists(name: str) -> None:
    module, _, cls = name.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(PLACES.get(module, module)), cls)).parameters
    if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        assert set(ARGUMENTS[name]) <= set(parameters)
    assert not set(ARGUMENTS[name]) & {"save_dir", "dirpath", "sub_dir", "root_dir", "exclude_batches_path"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_argument_of_any_class_takes_a_path_code_or_a_host(package: str) -> None:
    base = PACKAGES[package]
    n = 0
    for cls in classes(package):
        target = f"{package}.{cls.__name__}"
        arguments = [*inspect.signature(cls).parameters, *ARGUMENTS.get(target, ()), "dirpath", "sub_dir", "callbacks"]
        for name in dict.fromkeys(arguments):
            for value in [*HOSTILE, ["/etc/passwd"], "x" * 20_000]:
                if (name, value) == ("prefix", "os.system"):  # a word before the names of metrics
                    continue
                n += 1
                with pytest.raises(UserError, match=r"^here"):
                    check({"_target_": target, name: value}, base, "here", given(base))
    assert n > 20


def test_the_arguments_of_our_own_classes_are_numbers_and_words_of_a_list() -> None:
    modules = [f"{path.parent.name}.{path.stem}" for path in (*STUDIES.parent.glob("models/*.py"),)]
    found = 0
    for name in [
        *modules,
        *(MODULES[f"datasets.{name}"] for name in ("validation", "shifted", "auto_validation", "grouped")),
    ]:
        module = importlib.import_module(name)
        for cls in vars(module).values():
            if not inspect.isclass(cls) or cls.__module__ != name:
                continue
            for base in (MODEL, DIVISION):
                try:
                    source = targets.locate(target_of(cls), base, "here")
                except UserError:
                    continue
                for argument, parameter in (signature(source) or {}).items():
                    found += 1
                    text = repr(parameter.annotation)
                    if (cls.__name__, argument) == ("Kernel", "similarity"):
                        continue  # a name, or a file that is read as input from others
                    assert parameter.annotation is not Any, (cls, argument)
                    assert str not in (parameter.annotation, *get_args(parameter.annotation)), (cls, argument, text)
    assert found > 30


@pytest.mark.parametrize(
    "tree",
    [
        {"_target_": "optuna.samplers.TPESampler", "multivariate": True, "group": True, "seed": 3},
        {"_target_": "optuna.samplers.CmaEsSampler", "x0": {"model.alpha": 1.0}, "sigma0": 0.1},
        {"_target_": "optuna.samplers.GPSampler", "independent_sampler": {"_target_": "optuna.samplers.RandomSampler"}},
        {
            "_target_": "optuna.samplers.PartialFixedSampler",
            "fixed_params": {"model.alpha": 1},
            "base_sampler": {"_target_": "optuna.samplers.RandomSampler", "seed": 1},
        },
    ],
    ids=lambda tree: tree["_target_"].rpartition(".")[2],
)
def test_plain_arguments_of_samplers_may_be_given(tree: dict[str, Any]) -> None:
    assert instantiate(check(tree, SAMPLER, "sampler"), SAMPLER, "sampler") is not None


def test_classes_in_one_another_have_an_end() -> None:
    tree: dict[str, Any] = {"_target_": "optuna.pruners.NopPruner"}
    for _ in range(2000):
        tree = {"_target_": "optuna.pruners.PatientPruner", "patience": 1, "wrapped_pruner": tree}
    with pytest.raises(UserError, match="more than 8 classes stand in one another"):
        check(tree, PRUNER, "pruner")


@pytest.mark.parametrize(
    ("target", "argument"),
    [
        ("search.training.callbacks.KeepBestWeights", {"path": "x"}),
        ("lightning.pytorch.callbacks.OnExceptionCheckpoint", {"dirpath": "x"}),
        ("lightning.pytorch.callbacks.ModelCheckpoint", {"dirpath": "x"}),
        ("lightning.pytorch.callbacks.LambdaCallback", {"on_fit_start": "print"}),
        ("lightning.pytorch.callbacks.SpikeDetection", {"exclude_batches_path": "x"}),
        ("lightning.pytorch.callbacks.ModelPruning", {"pruning_fn": "l1_unstructured"}),
        ("lightning.pytorch.callbacks.Callback", {}),
        ("lightning.pytorch.callbacks.Timer", {"duration": "00:00:00:01"}),
        ("lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint", {}),
    ],
)
def test_callbacks_that_write_or_call_are_refused(target: str, argument: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^trainer\.callbacks\[0\]"):
        check({"_target_": target, **argument}, CALLBACK, "trainer.callbacks[0]")


@pytest.mark.parametrize("target", ["WandbLogger", "MLFlowLogger", "wandb.WandbLogger", "mlflow.MLFlowLogger"])
def test_lightnings_loggers_of_other_programs_are_never_built(target: str, tmp_path: Path) -> None:
    """They would open a connection: a worker tells these programs of trials itself."""
    tree = check({"_target_": f"lightning.pytorch.loggers.{target}"}, LOGGER, "logger", LOGGER_ARGUMENTS)
    assert build_trainer(replace(CONFIG, logger=tree), tmp_path, 0, []).loggers == []
    csv = {"_target_": "lightning.pytorch.loggers.CSVLogger"}
    assert len(build_trainer(replace(CONFIG, logger=csv), tmp_path, 0, []).loggers) == 1


CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger"}


def with_callback(name: str, **arguments: Any) -> RunConfig:
    tree = check({"_target_": f"lightning.pytorch.callbacks.{name}", **arguments}, CALLBACK, "trainer.callbacks[0]")
    return replace(CONFIG, logger=CSV, trainer=replace(CONFIG.trainer, callbacks=[tree]))


@pytest.mark.parametrize(
    "name", ["EMAWeightAveraging", "weight_averaging.WeightAveraging", "StochasticWeightAveraging"]
)
def test_averages_that_nobody_keeps_are_refused(name: str, tmp_path: Path) -> None:
    config = with_callback(name, **({"swa_lrs": 0.1} if name.startswith("Stochastic") else {}))
    with pytest.raises(UserError, match="the weights that a run keeps are not its averages"):
        build_trainer(config, tmp_path, 0, [])


@pytest.mark.parametrize("name", ["LearningRateMonitor", "DeviceStatsMonitor"])
def test_what_writes_to_a_logger_needs_one(name: str, tmp_path: Path) -> None:
    config = with_callback(name)
    assert build_trainer(config, tmp_path, 0, []).loggers
    for logger in (None, {"_target_": "lightning.pytorch.loggers.WandbLogger"}):
        with pytest.raises(UserError, match=f"names {name}, which writes to a logger, and there is none"):
            build_trainer(replace(config, logger=logger), tmp_path, 0, [])


def test_half_precision_on_a_cpu_is_refused(tmp_path: Path) -> None:
    settings = replace(CONFIG.trainer, accelerator="cpu", precision="16-mixed")
    with pytest.raises(UserError, match=r"trainer\.precision=16-mixed needs a GPU"):
        build_trainer(replace(CONFIG, trainer=settings), tmp_path, 0, [])


@pytest.mark.parametrize("target", ["CometLogger", "Logger"])
def test_loggers_that_open_a_connection_are_refused(target: str) -> None:
    with pytest.raises(UserError, match=r"is not one of the classes that a config may name: .*CSVLogger"):
        check({"_target_": f"lightning.pytorch.loggers.{target}"}, LOGGER, "logger", LOGGER_ARGUMENTS)


def tree_of_a_run() -> dict[str, Any]:
    return {key: value for key, value in asdict(CONFIG).items() if key != "table"}


OURS = {field.name for field in fields(TrainerConfig)}


@pytest.mark.parametrize("name", inspect.signature(pl.Trainer).parameters)
def test_a_config_reaches_no_other_argument_of_the_trainer(name: str) -> None:
    values: list[Any] = ["/tmp/x", {"_target_": "os.system"}, "ddp", ["/x"], 10**12, float("nan")]
    for value in values:
        tree = tree_of_a_run()
        tree["trainer"][name] = value
        with pytest.raises(UserError, match=rf"^trainer\.{name}"):
            run_config(tree)
    if name not in OURS:
        tree = tree_of_a_run()
        tree["trainer"][name] = None
        with pytest.raises(UserError, match=rf"^trainer\.{name} is not a setting"):
            run_config(tree)


def test_nested_classes_are_optional_where_the_list_says_so() -> None:
    patient = {"_target_": "optuna.pruners.PatientPruner", "patience": 1}
    assert check({**patient, "wrapped_pruner": None}, PRUNER, "pruner")["wrapped_pruner"] is None
    with pytest.raises(UserError, match=r"pruner\.epochs=null is not valid: expected a mapping with _target_"):
        check({"_target_": "search.fold_pruning.FoldPruner", "epochs": None}, PRUNER, "pruner")
