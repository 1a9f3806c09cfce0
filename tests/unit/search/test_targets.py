"""Classes named by configs: nothing outside of the allowed packages, nothing but classes of the expected base."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from search.checkout import ROOT
from search.config import static_classes as class_source
from search.config import targets
from search.config.static_classes import signature
from search.config.targets import CALLBACK, LOGGER, MODEL, PRUNER, SAMPLER, VALIDATION, check, instantiate, locate

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

CNN = {
    "_target_": "models.cnn.CNN",
    "kernel_size": 5,
    "channels": 16,
    "depth": 1,
    "dropout": 0,
    "lr_encoder": 1e-3,
    "lr_embedding": 1e-3,
    "lr_decoder": 1e-3,
    "weight_decay_encoder": 0.0,
    "weight_decay": 0,
}


@pytest.mark.parametrize(
    ("target", "base"),
    [
        ("models.cnn.CNN", MODEL),
        ("models.ridge.Ridge", MODEL),
        ("datasets.validation.Holdout", VALIDATION),
        ("optuna.samplers.TPESampler", SAMPLER),
        ("optuna.samplers._tpe.sampler.TPESampler", SAMPLER),
        ("optuna.pruners.HyperbandPruner", PRUNER),
        ("lightning.pytorch.loggers.CSVLogger", LOGGER),
        ("lightning.pytorch.loggers.TensorBoardLogger", LOGGER),
        ("lightning.pytorch.callbacks.EarlyStopping", CALLBACK),
        ("lightning.pytorch.callbacks.early_stopping.EarlyStopping", CALLBACK),
        ("lightning.pytorch.callbacks.OnExceptionCheckpoint", CALLBACK),
    ],
)
def test_a_class_of_the_expected_base_is_found(target: str, base: str) -> None:
    source = locate(target, base, "here")
    assert source.node.name == target.rpartition(".")[2]
    assert source.module.startswith(targets.ALLOWED)


HOSTILE = [
    "os.system",
    "os.makedirs",
    "builtins.eval",
    "subprocess.Popen",
    "eval",
    "models",
    "models.",
    ".models.cnn.CNN",
    "modelsx.cnn.CNN",
    "models_cnn.CNN",
    "torch.load",
    "torch.nn.Linear",
    "models.cnn.torch.load",
    "models.cnn.torch.nn.Linear",
    "models.cnn.nn.Linear",
    "models.cnn.pairwise",
    "models.cnn.Adam",
    "models.cnn.Batch",
    "models.cnn.PositiveInt",
    "models.fitness_model.FitnessModel.load_from_checkpoint",
    "models.cnn.CNN.forward",
    "models.cnn.CNN.__init__",
    "models.cnn.CNN.__class__",
    "models.cnn.__builtins__",
    "models.cnn",
    "datasets.task.importlib.import_module",
    "datasets.task.Task",
    "search.config.targets.check",
    "search.cli.main.main",
    "search.training.callbacks",
    "search.training.callbacks.Path",
    "lightning.pytorch.callbacks.model_checkpoint.os.makedirs",
    "lightning.pytorch.callbacks.model_checkpoint.os",
    "lightning.pytorch.callbacks.model_checkpoint.shutil.rmtree",
    "lightning.pytorch.utilities.seed.seed_everything",
    "lightning.pytorch.Trainer",
    "lightning.pytorch.loggers.WandbLogger.__init__",
    "lightning.fabric.utilities.cloud_io._load",
    "optuna.samplers.BaseSampler.__subclasses__",
    "optuna.samplers._tpe.sampler.math.sqrt",
    "optuna.samplers.os",
    "optuna.create_study",
    "models..cnn.CNN",
    "models...cnn.CNN",
    "models.cnn..CNN",
    "models/cnn.CNN",
    "models./cnn.CNN",
    "models.../etc/passwd.X",
    "models.\0.X",
    "models.cnn\n.CNN",
    "models.cnn.CNN ",
    " models.cnn.CNN",
    "models.cnn.",
    "models.cnn.CNN()",
    "models.cnn.CNN;import os",
    "модели.cnn.CNN",
    "",
    ".",
    "..",
    "/",
    "x" * 100_000,
]


@pytest.mark.parametrize("base", [MODEL, CALLBACK, SAMPLER])
@pytest.mark.parametrize("target", HOSTILE, ids=lambda target: ascii(target)[:60])
def test_anything_else_is_refused(target: str, base: str) -> None:
    with pytest.raises(UserError, match=r"^here\._target_="):
        check({"_target_": target}, base, "here")
    # Nothing is built that was not checked; were it tried, the class itself is looked at once more.
    with pytest.raises((UserError, ImportError, AttributeError)):
        instantiate({"_target_": target}, base, "here")


@pytest.mark.parametrize("target", [None, 3, True, ["models.cnn.CNN"], {"a": 1}])
def test_a_target_that_is_no_name_is_refused(target: Any) -> None:
    with pytest.raises(UserError, match=r"^model\._target_=.* is not valid: expected the name of a class\.$"):
        check({"_target_": target}, MODEL, "model")


@pytest.mark.parametrize("tree", [None, 3, "models.cnn.CNN", [], {}, {"target": "models.cnn.CNN"}])
def test_a_tree_without_a_target_is_refused(tree: Any) -> None:
    with pytest.raises(UserError, match=r"^model is not valid: expected a mapping with _target_"):
        check(tree, MODEL, "model")


@pytest.mark.parametrize(
    ("target", "base"),
    [
        ("optuna.samplers.TPESampler", PRUNER),
        ("optuna.pruners.MedianPruner", SAMPLER),
        ("lightning.pytorch.loggers.CSVLogger", CALLBACK),
        ("lightning.pytorch.callbacks.EarlyStopping", MODEL),
        ("lightning.pytorch.callbacks.Callback", MODEL),
        ("datasets.validation.Fold", VALIDATION),
        ("models.layers.windows.MaskedConv1d", MODEL),
        ("models.metrics.Spearman", MODEL),
        ("models.cnn.CNN", VALIDATION),
    ],
)
def test_a_class_of_another_base_is_refused(target: str, base: str) -> None:
    with pytest.raises(UserError, match=f"here._target_={target} is not a {base}: name a class that is one"):
        locate(target, base, "here")


def test_a_file_outside_of_the_package_is_not_even_read(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("from models.fitness_model import FitnessModel\nclass Evil(FitnessModel): ...\n")
    for target in (f"models.{tmp_path}/evil.Evil", f"models.{'../' * 20}{tmp_path}/evil.Evil"):
        with pytest.raises(UserError, match="outside the allowed packages"):
            locate(target, MODEL, "model")


@pytest.mark.parametrize(
    ("target", "base", "hint"),
    [
        ("models.cnn.CN", MODEL, "is not a class defined in models.cnn. Did you mean 'CNN'?"),
        ("models.cn.CNN", MODEL, "there is no module models.cn. Did you mean 'models.cnn'"),
        ("optuna.samplers.TPESamplr", SAMPLER, "Did you mean 'TPESampler'"),
        (
            "optuna.sampler.TPESampler",
            SAMPLER,
            "outside the allowed packages (models, datasets, own_models, search.fold_pruning, optuna.samplers",
        ),
        ("lightning.pytorch.loggers.CSVLoger", LOGGER, "Did you mean 'CSVLogger'"),
        ("lightning.pytorch.callbacks.EarlyStoping", CALLBACK, "Did you mean 'EarlyStopping'"),
    ],
)
def test_a_misspelt_name_offers_the_nearest(target: str, base: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        locate(target, base, "here")
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("package", "base"),
    [
        ("optuna.samplers", SAMPLER),
        ("optuna.pruners", PRUNER),
        ("lightning.pytorch.loggers", LOGGER),
        ("lightning.pytorch.callbacks", CALLBACK),
    ],
)
def test_what_is_read_from_the_source_is_what_python_finds(package: str, base: str) -> None:
    module = importlib.import_module(package)
    expected = getattr(importlib.import_module(base.rpartition(".")[0]), base.rpartition(".")[2])
    classes = [cls for cls in vars(module).values() if inspect.isclass(cls)]
    right = [cls for cls in classes if issubclass(cls, expected)]
    assert len(right) > 3
    for cls in right:
        parameters = signature(locate(f"{package}.{cls.__name__}", base, "here"))
        real = inspect.signature(cls).parameters.values()
        if parameters is None:
            assert any(parameter.kind == parameter.VAR_KEYWORD for parameter in real)
        else:
            named = [parameter for parameter in real if parameter.kind != parameter.VAR_POSITIONAL]
            assert list(parameters) == [parameter.name for parameter in named]
            assert [parameters[parameter.name].is_required for parameter in named] == [
                parameter.default is parameter.empty for parameter in named
            ]


def test_arguments_are_converted() -> None:
    checked = check(CNN, MODEL, "model")
    assert checked["weight_decay"] == 0.0
    assert isinstance(checked["weight_decay"], float)
    assert isinstance(checked["channels"], int)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kernel_size": "abc"}, "model.kernel_size=abc is not valid: expected int >= 1 and odd."),
        ({"kernel_size": 4}, "model.kernel_size=4 is not valid"),
        ({"dropout": 1.0}, "model.dropout=1.0 is not valid: expected float >= 0 and < 1."),
        ({"lr_encoder": float("nan")}, "model.lr_encoder=nan is not valid"),
        ({"chanels": 3}, "model.chanels is not a setting. Did you mean 'channels'"),
        ({"self": 3}, "model.self is not a setting"),
        ({"channels": {"_target_": "os.system"}}, "model.channels._target_=os.system is outside the allowed packages"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        check({**CNN, **change}, MODEL, "model")
    assert sentence in str(caught.value)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(UserError, match=r"model\.channels is missing: give it a value"):
        check({key: value for key, value in CNN.items() if key != "channels"}, MODEL, "model")


def test_an_argument_that_the_program_gives_cannot_be_set() -> None:
    csv = {"_target_": "lightning.pytorch.loggers.CSVLogger"}
    check(csv, LOGGER, "logger", ("save_dir",))
    for target in ("CSVLogger", "TensorBoardLogger"):
        tree = {"_target_": f"lightning.pytorch.loggers.{target}", "save_dir": "/"}
        with pytest.raises(UserError, match=r"logger\.save_dir cannot be set"):
            check(tree, LOGGER, "logger", ("save_dir",))


def test_a_pruner_in_a_pruner_is_checked_and_built_too() -> None:
    inner = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1}
    tree = {"_target_": "optuna.pruners.PatientPruner", "wrapped_pruner": inner, "patience": 1}
    pruner = instantiate(tree, PRUNER, "pruner")
    assert type(pruner._wrapped_pruner).__name__ == "MedianPruner"
    for wrong, sentence in (
        (
            {**inner, "n_startup_trials": "x"},
            "pruner.wrapped_pruner.n_startup_trials=x is not valid: expected int",
        ),
        ({"_target_": "optuna.samplers.TPESampler"}, "pruner.wrapped_pruner._target_=optuna.samplers.TPESampler"),
        ({"_target_": "os.system", "command": "true"}, "is outside the allowed packages"),
    ):
        with pytest.raises(UserError) as caught:
            check({**tree, "wrapped_pruner": wrong}, PRUNER, "pruner")
        assert sentence in str(caught.value)


def test_what_a_constructor_refuses_is_a_sentence() -> None:
    tree = {"_target_": "optuna.pruners.PercentilePruner", "percentile": 300.0}
    with pytest.raises(UserError, match=r"^pruner cannot be built: Percentile must be between 0 and 100"):
        instantiate(tree, PRUNER, "pruner")


def test_a_name_that_is_another_object_at_run_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import models.cnn
    import models.ridge

    monkeypatch.setattr(models.cnn, "CNN", lambda **_: 1 / 0)
    with pytest.raises(UserError, match="is not a models"):
        instantiate(CNN, MODEL, "model")
    monkeypatch.setattr(models.cnn, "CNN", type("CNN", (models.ridge.Ridge,), {"__module__": "elsewhere"}))
    with pytest.raises(UserError, match="is not a models"):
        instantiate(CNN, MODEL, "model")


def test_a_model_with_a_syntax_error_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_written.py").write_text("class Half(\n")
    found = class_source._path

    def path(module: str) -> Path | None:
        return tmp_path / "half_written.py" if module == "models.half_written" else found(module)

    monkeypatch.setattr(class_source, "_path", path)
    with pytest.raises(UserError, match=r"half_written\.py is not valid Python"):
        locate("models.half_written.Half", MODEL, "model")


def test_checking_imports_nothing_heavy() -> None:
    program = """
import sys
from datasets.common.errors import UserError
from search.config.targets import *
check({"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3}, SAMPLER, "sampler")
check({"_target_": "optuna.pruners.HyperbandPruner"}, PRUNER, "pruner")
check({"_target_": "lightning.pytorch.loggers.CSVLogger", "prefix": "x"}, LOGGER, "logger", ("save_dir",))
check({"_target_": "lightning.pytorch.callbacks.Timer", "interval": "epoch"}, CALLBACK, "callback")
check({"_target_": "models.ridge.Ridge", "alpha": 1}, MODEL, "model")
for target in ("lightning.pytorch.callbacks.model_checkpoint.os.makedirs", "models.cnn.torch.load", "models.cnn.CN"):
    try:
        check({"_target_": target}, MODEL, "model")
    except UserError:
        continue
    raise AssertionError(target)
print(*sorted({"torch", "lightning", "optuna", "numpy", "pandas", "models.cnn", "models.ridge"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"
