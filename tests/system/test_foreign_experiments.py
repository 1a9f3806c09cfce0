"""Experiments that a stranger wrote: a sentence and exit status 2, never a traceback, and nothing written elsewhere."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.config.run_config import task_of
from search.experiments.confirm.candidates import of_experiment
from search.experiments.experiment import load_experiment
from search.experiments.requirements import check_callbacks
from search.experiments.sealed import seal
from search.experiments.weights_in_use import find_weights
from search.request.inputs import load_split
from search.training.build import folds_of
from search.training.preflight import check_builds
from tests.helpers.answers import Answer, run_here
from tests.helpers.examples import examples

N_EXAMPLES = examples(100)
Tree = dict[str, Any]


@pytest.fixture
def folder(finished_study: Any, tmp_path: Path) -> Path:
    """The exported experiment as `x.yaml`, alone in a folder."""
    shutil.copy(finished_study.export, tmp_path / "x.yaml")
    shutil.copytree(finished_study.export.with_suffix(""), tmp_path / "x")
    (tmp_path / "in.txt").write_text("MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE\n")
    return tmp_path


def tree_of(path: Path) -> Tree:
    tree: Tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    del tree["provenance"]["checksum"]
    return tree


def write(path: Path, tree: Tree) -> None:
    provenance = tree.pop("provenance")
    text = yaml.safe_dump({**tree, "provenance": provenance}, sort_keys=False, allow_unicode=True)
    path.write_text(seal(text), encoding="utf-8")


def change(path: Path, where: str, value: Any) -> None:
    tree = tree_of(path)
    *parents, last = where.split(".")
    inner = tree
    for key in parents:
        inner = inner[key]
    inner[last] = value
    write(path, tree)


def paths_in(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in items for path in ((*before, key), *paths_in(value, (*before, key)))]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


VERIFY, CONFIRM = ("verify", "x.yaml"), ("confirm", "x.yaml", "--seeds", "1")
PREDICT = ("predict", "x.yaml", "--input", "in.txt", "--output", "out.csv")
COMMANDS = pytest.mark.parametrize("words", [VERIFY, CONFIRM, PREDICT], ids=lambda words: words[0])


HUGE = {
    "provenance.threads": 2**31,
    "provenance.micro_batch_tokens": 2**63,
    "provenance.seed": 10**30,
    "provenance.best_epochs": [10**12],
    "provenance.trial": 2**31,
    "provenance.n_parameters": True,
    "provenance.seconds": float("nan"),
    "provenance.value": float("inf"),
    "provenance.data_hash": "../../x",
    "provenance.weight_hashes": ["sha256:../x"],
    "provenance.study_id": "../../x",
    "provenance.device": "\x1b]0;pwned\x07",
    "provenance.data": "x" * 2000,
    "trainer.threads": 2**31,
    "trainer.max_epochs": 10**12,
    "trainer.patience": 2**40,
    "trainer.limit_train_batches": 2**40,
    "data.batch_size": 10**12,
    "data.max_length": 2**62,
    "cache.max_gb": 1e300,
    "seed": 2**63 - 1,
    "validation": {"_target_": "datasets.validation.RepeatedKFold", "n_folds": 5, "n_repeats": 10**12, "seed": 0},
    "model": {"_target_": "models.kernel.Kernel", "max_train": 2**70},
    "model.alpha": "1",
    "model.alpha ": 1,
    "logger": {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "sub_dir": "/tmp/x"},
    "trainer.callbacks": [{"_target_": "search.training.callbacks.KeepBestWeights", "path": "x"}],
    "table": {"file": "/dev/zero"},
}


@pytest.mark.parametrize("where", HUGE)
@pytest.mark.parametrize("words", [VERIFY, PREDICT], ids=["verify", "predict"])
def test_what_no_experiment_can_hold_is_named(folder: Path, where: str, words: tuple[str, ...]) -> None:
    change(folder / "x.yaml", where, HUGE[where])
    before = listing(folder)
    sentence = run_here(*words, cwd=folder).refusal()
    assert len(sentence) < 1200
    assert sentence.rstrip("\n").isprintable()
    new = [name for name in listing(folder) if name not in before]
    assert all(name.startswith("runs") for name in new), new


@pytest.mark.parametrize("channels", [10**12, 2**31 - 1, 2**17])
def test_a_model_that_no_memory_holds_is_a_sentence(folder: Path, channels: int) -> None:
    model = {
        "_target_": "models.cnn.CNN",
        **dict.fromkeys(("lr_encoder", "lr_embedding", "lr_decoder"), 1e-3),
        **dict.fromkeys(("weight_decay_encoder", "weight_decay", "dropout"), 0.0),
        "kernel_size": 5,
        "channels": channels,
        "depth": 1,
    }
    change(folder / "x.yaml", "model", model)
    assert (
        f"model.channels={channels} is not valid: expected int >= 1 and <= 65536"
        in run_here(*VERIFY, cwd=folder).refusal()
    )


def bomb() -> str:
    lines = ["a: &a [x, x]", *(f"{chr(c + 1)}: &{chr(c + 1)} [*{chr(c)}, *{chr(c)}]" for c in range(97, 121))]
    return "\n".join(lines) + "\nprovenance:\n"


TEXTS: dict[str, Callable[[str], bytes]] = {
    "aliases": lambda text: bomb().encode(),
    "a key twice": lambda text: text.replace("seed: 0\n", "seed: 0\nseed: 1\n", 1).encode(),
    "a key twice below": lambda text: text.replace("  alpha:", "  alpha: 1.0\n  alpha:", 1).encode(),
    "a merge": lambda text: text.replace("seed: 0\n", "seed: 0\n<<: {seed: 1}\n", 1).encode(),
    "a key that is a number": lambda text: text.replace("seed: 0\n", "seed: 0\n1: 1\n", 1).encode(),
    "a date": lambda text: text.replace("seed: 0\n", "seed: 2020-01-01\n", 1).encode(),
    "bytes": lambda text: text.replace("seed: 0\n", "seed: !!binary aGk=\n", 1).encode(),
    "a set": lambda text: text.replace("seed: 0\n", "seed: !!set {a}\n", 1).encode(),
    "python": lambda text: text.replace("seed: 0\n", "seed: !!python/name:os.system x\n", 1).encode(),
    "deep": lambda text: text.replace("seed: 0\n", f"seed: {'[' * 500}{']' * 500}\n", 1).encode(),
    "very deep": lambda text: text.replace("seed: 0\n", f"seed: {'[' * 50_000}{']' * 50_000}\n", 1).encode(),
    "no utf-8": lambda text: text.encode() + b"# \xff\xfe\n",
    "nul": lambda text: text.replace("seed: 0\n", "seed: 0 # \0\n", 1).encode(),
    "a long text": lambda text: text.replace("seed: 0\n", f"seed: {'x' * 200_000}\n", 1).encode(),
    "an infinite number": lambda text: text.replace("seed: 0\n", "seed: .inf\n", 1).encode(),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_no_experiment_is(folder: Path, kind: str) -> None:
    path = folder / "x.yaml"
    before = path.read_text(encoding="utf-8")
    body = "".join(before.splitlines(keepends=True)[:-1])
    data = TEXTS[kind](body)
    assert data != body.encode()
    path.write_bytes(data if kind == "no utf-8" else seal(data.decode()).encode())
    assert len(run_here(*VERIFY, cwd=folder).refusal()) < 1200


@COMMANDS
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "endless", "large", "loop"])
def test_what_is_no_file_of_reasonable_size(folder: Path, kind: str, words: tuple[str, ...]) -> None:
    path = folder / "x.yaml"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "endless"):
        path.symlink_to("/dev/null" if kind == "device" else "/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        with path.open("wb") as file:
            file.truncate(2**30)
    assert "x.yaml cannot be read" in run_here(*words, cwd=folder).refusal()


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "file"])
@pytest.mark.parametrize("words", [CONFIRM, PREDICT], ids=["confirm", "predict"])
def test_weights_that_are_no_file(folder: Path, kind: str, words: tuple[str, ...]) -> None:
    weights = folder / "x" / "fold0.safetensors"
    weights.unlink()
    if kind == "pipe":
        os.mkfifo(weights)
    elif kind == "folder":
        weights.mkdir()
    elif kind == "device":
        weights.symlink_to("/dev/zero")
    else:
        weights.symlink_to("/etc/passwd")
    assert "The weights x/fold0.safetensors" in run_here(*words, cwd=folder).refusal()


CONFIRMATIONS: dict[str, Any] = {
    "up": {"weights": [{"file": "../x.yaml", "hash": "sha256:x"}]},
    "the folder above": {"weights": [{"file": "..", "hash": "missing"}]},
    "absolute": {"weights": [{"file": "/etc/passwd", "hash": "missing"}]},
    "nothing": {"weights": [{"file": "", "hash": "missing"}]},
    "no list": {"weights": 3},
    "a list": [1],
}


@pytest.mark.parametrize("kind", [*CONFIRMATIONS, "deep", "pipe", "large"])
def test_a_confirmation_that_names_files_elsewhere(folder: Path, kind: str) -> None:
    file = folder / "x" / "confirm.json"
    if kind in CONFIRMATIONS:
        record = CONFIRMATIONS[kind]
        if isinstance(record, dict):
            record = {**record, "checksum": (folder / "x.yaml").read_text().splitlines()[-1].split(": ")[1]}
        file.write_text(json.dumps(record))
    elif kind == "deep":
        file.write_text("[" * 100_000)
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        with file.open("wb") as large:
            large.truncate(2**30)
    assert "x/confirm.json" in run_here(*PREDICT, cwd=folder).refusal()
    assert not (folder / "out.csv").exists()


def test_loggers_and_callbacks_of_an_experiment_are_not_run(folder: Path) -> None:
    change(folder / "x.yaml", "logger", {"_target_": "lightning.pytorch.loggers.TensorBoardLogger"})
    change(folder / "x.yaml", "trainer.callbacks", [{"_target_": "lightning.pytorch.callbacks.DeviceStatsMonitor"}])
    answer = run_here(*VERIFY, cwd=folder)
    assert answer.status == 0, answer
    assert not list((folder / "runs" / "verify").rglob("*tfevents*"))
    assert not list((folder / "runs" / "verify").rglob("logs"))
    candidate = of_experiment(load_experiment(folder / "x.yaml"))
    assert candidate.config.logger is None
    assert candidate.config.trainer.callbacks == []


@pytest.mark.parametrize("words", [VERIFY, CONFIRM], ids=["verify", "confirm"])
def test_what_cannot_be_repeated_without_a_callback_is_refused(folder: Path, words: tuple[str, ...]) -> None:
    callback = {"_target_": "lightning.pytorch.callbacks.StochasticWeightAveraging", "swa_lrs": 0.01}
    change(folder / "x.yaml", "trainer.callbacks", [callback])
    assert (
        "was trained with StochasticWeightAveraging, which changes what is trained"
        in run_here(*words, cwd=folder).refusal()
    )
    assert not (folder / "runs").exists()


def test_a_table_that_is_no_file_is_not_waited_for(folder: Path) -> None:
    for file in ("/dev/zero", "pipe"):
        table = dict.fromkeys(
            ("mutation_column", "group_column", "wild_type", "sites", "window", "max_train_mutations", "replicates")
        )
        table |= {"file": file, "sequence_column": "s", "target_column": "t", "split": "random", "split_seed": 0}
        if file == "pipe":
            os.mkfifo(folder / "pipe")
        shutil.copy(folder / "x.yaml", folder / "y.yaml")
        change(folder / "y.yaml", "table", table)
        sentence = run_here("verify", "y.yaml", cwd=folder).refusal()
        assert f"The table {file} is a folder, a pipe or a device and no file" in sentence


def test_sites_that_fill_the_memory_are_refused(folder: Path) -> None:
    table = dict.fromkeys(
        ("mutation_column", "group_column", "wild_type", "window", "max_train_mutations", "replicates")
    )
    table |= {"file": "x.csv", "sequence_column": "s", "target_column": "t", "split": "random", "split_seed": 0}
    for sites in ("1-1048576," * 9000 + "1", "1-1000000000000", "9" * 5000, "2,1"):
        shutil.copy(folder / "x.yaml", folder / "y.yaml")
        change(folder / "y.yaml", "table", {**table, "sites": sites})
        with pytest.raises(UserError, match=r"table\.sites="):
            load_experiment(folder / "y.yaml")


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**62, 2**63, -(2**63), 10**12, 10**400, -1, 0, 1, 5]),
    st.floats(),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20),
    st.sampled_from(["../x", "/etc/passwd", "/dev/zero", "\x1b[2J", "x" * 200_000, "sha256:" + "0" * 64, "missing"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TARGETS = st.sampled_from(
    [
        {"_target_": "optuna.samplers.TPESampler"},
        {"_target_": "models.cnn.CNN", "channels": 10**12},
        {"_target_": "datasets.validation.KFold", "n_folds": 10**12, "seed": 0},
        {"_target_": "datasets.without_rise.WithoutRise", "most": 0.1, "protocol": {"_target_": "os.system"}},
        {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "sub_dir": "../x"},
        {"_target_": "lightning.pytorch.loggers.CSVLogger", "prefix": "../x"},
    ]
)


@settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_value_at_any_place_is_an_experiment_or_a_sentence(finished_study: Any, folder: Path, data: Any) -> None:
    """What `verify`, `confirm` and `predict` do before they train, and `predict` as a whole."""
    path = folder / "fuzzed.yaml"
    tree = tree_of(folder / "x.yaml")
    *parents, last = data.draw(st.sampled_from(paths_in(tree)))
    inner: Any = tree
    for key in parents:
        inner = inner[key]
    inner[last] = data.draw(VALUES | TARGETS)
    if "provenance" not in tree or not isinstance(tree["provenance"], dict):
        return
    write(path, tree)
    shutil.copytree(folder / "x", folder / "fuzzed", dirs_exist_ok=True)
    runs = finished_study.folder / "runs"
    before = listing(folder)
    try:
        experiment = load_experiment(path)
        check_callbacks(path, experiment)
        find_weights(path, experiment, print)
        config = of_experiment(experiment).config
        assert config.model["_target_"] == "models.ridge.Ridge"
        split = load_split(task_of(config), None, runs, print)
        folds_of(config, split)
        check_builds([config], split, places=Places(weights_dir=None, cache_dir=runs / "cache"), announce=print)
    except UserError:
        pass
    answer: Answer = run_here(
        "predict", "fuzzed.yaml", "--input", "in.txt", "--output", "out.csv", "--runs-dir", str(runs), cwd=folder
    )
    if answer.status != 0:
        assert len(answer.refusal()) < 1200
    assert [name for name in listing(folder) if name not in before] in ([], ["out.csv"])
