"""Frozen experiments: written whole, read back exactly, and refused when anything in them is not right."""

import math
import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.common.errors import UserError
from search.experiments.experiment import (
    SCHEMA_VERSION,
    Experiment,
    Provenance,
    checksum,
    first_difference,
    freeze,
    is_experiment,
    is_same_export,
    load_experiment,
    today,
)
from search.experiments.sealed import seal
from search.study.config import study_config

CONFIG = study_config(
    ["task=gb1_two_vs_rest", "model=cnn", "model.lr_encoder=1e-05", "trainer.max_epochs=3", "validation=holdout"]
).run({})
EXPERIMENT = Experiment(
    config=CONFIG,
    provenance=Provenance(
        schema_version=SCHEMA_VERSION,
        study="gb1_two_vs_rest-cnn",
        study_id="0123456789abcdef" * 2,
        model="cnn",
        trial=7,
        n_finished=20,
        protocol="auto: holdout",
        n_target=20,
        date="2026-01-02T03:04:05+00:00",
        seed=0,
        threads=2,
        micro_batch_tokens=None,
        backbone=None,
        device="cpu",
        value=0.1 + 0.2,
        values=[[0.1, 1 / 3, None], [-1e-300, 5e-324]],
        best_epochs=[1, 0],
        n_parameters=8644,
        seconds=1.5,
        data="FLIP's file",
        data_hash="0" * 64,
        weight_hashes=["sha256:" + "1" * 64, "missing"],
        versions={"torch": "2.13.0", "python": "3.11.7"},
        machine={"system": "Linux", "processor": 'Größe "X" #1: 3 GHz', "torch": "2.13.0"},
        git_commit=None,
    ),
)


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    path = tmp_path / "ä folder" / "experiment.yaml"
    freeze(EXPERIMENT, path)
    return path


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tree and mend the checksum, as somebody with a text editor would."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["provenance"].pop("checksum", None)
    change(tree)
    provenance = tree.pop("provenance", None)
    if provenance is not None:
        tree["provenance"] = provenance  # last, where the checksum stands
    path.write_text(seal(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)), encoding="utf-8")


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_experiment(path)
    sentence = " ".join(str(caught.value).split())
    assert str(path) in sentence
    assert len(sentence) < 600 + len(str(path))
    return sentence


def test_a_frozen_experiment_is_read_back_exactly(frozen: Path) -> None:
    assert load_experiment(frozen) == EXPERIMENT


def test_the_file_is_complete_and_sealed(frozen: Path) -> None:
    text = frozen.read_text(encoding="utf-8")
    assert text.startswith("# A frozen flipsearch experiment.")
    assert text.splitlines()[-1].startswith("  checksum: sha256:")
    assert seal(text) == text
    tree = yaml.safe_load(text)
    assert list(tree) == ["task", "seed", "data", "model", "validation", "trainer", "cache", "logger", "provenance"]
    assert tree["model"]["channels"] == 43
    assert tree["trainer"]["max_epochs"] == 3
    assert "${" not in text
    assert [path.name for path in frozen.parent.iterdir()] == [frozen.name]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_floats_come_back_bit_for_bit(tmp_path: Path, value: float) -> None:
    path = tmp_path / "floats.yaml"
    freeze(
        Experiment(config=CONFIG, provenance=replace(EXPERIMENT.provenance, value=value, values=[[value] * 2] * 2)),
        path,
    )
    after = load_experiment(path).provenance
    assert struct.pack("d", after.value) == struct.pack("d", value)
    assert struct.pack("d", after.values[1][0] or 0.0) == struct.pack("d", value or 0.0 if after.values[1][0] else 0.0)


@pytest.mark.parametrize(
    "text", ["", "null", "1e5", "0x10", "2026-01-02", "yes", "a: b", "- x", "#", "*a", "&a", "é\u2028", "'"]
)
def test_any_text_comes_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text.yaml"
    experiment = Experiment(
        config=CONFIG, provenance=replace(EXPERIMENT.provenance, study=text, device=text, data=text)
    )
    freeze(experiment, path)
    assert load_experiment(path) == experiment


def test_a_byte_that_changed_is_found_wherever_it_stands(frozen: Path) -> None:
    data = frozen.read_bytes()
    places = random.Random(0)
    for place in [0, 1, len(data) // 2, len(data) - 2, len(data) - 1, *places.sample(range(len(data)), 150)]:
        for byte in {data[place] ^ 1, ord("\n"), 0, 0xFF, places.randrange(256)} - {data[place]}:
            frozen.write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
            refused(frozen)


@pytest.mark.parametrize("place", ["value: 0.3", "seed: 0\n", "channels: 43", "sha256:1", "Größe", "trial: 7"])
def test_a_change_of_a_value_is_called_a_change(frozen: Path, place: str) -> None:
    text = frozen.read_text(encoding="utf-8")
    assert place in text
    frozen.write_text(text.replace(place, place[:-1] + ("1\n" if place.endswith("\n") else "8"), 1), encoding="utf-8")
    assert "was changed since it was written: its checksum does not match" in refused(frozen)


def test_lines_that_are_missing_or_added_are_found(frozen: Path) -> None:
    lines = frozen.read_text(encoding="utf-8").splitlines(keepends=True)
    for i in range(len(lines)):
        frozen.write_text("".join(lines[:i] + lines[i + 1 :]), encoding="utf-8")
        refused(frozen)
    for text in (["# x\n", *lines], [*lines, "# x\n"], [*lines[:-1], "  a: 1\n", lines[-1]], [*lines, lines[-1]]):
        frozen.write_text("".join(text), encoding="utf-8")
        refused(frozen)
    frozen.write_bytes("".join(lines).replace("\n", "\r\n").encode())
    refused(frozen)


def test_every_beginning_of_a_file_is_refused(frozen: Path) -> None:
    data = frozen.read_bytes()
    for length in range(0, len(data) - 1, 41):
        frozen.write_bytes(data[:length])
        refused(frozen)


def test_a_newer_schema_is_refused_whatever_else_it_holds(frozen: Path) -> None:
    def newer(tree: dict[str, Any]) -> None:
        tree["provenance"]["schema_version"] = SCHEMA_VERSION + 1
        tree["provenance"]["something_new"] = 1
        tree["also_new"] = {}

    rewrite(frozen, newer)
    assert f"has schema version {SCHEMA_VERSION + 1}, this flipsearch knows {SCHEMA_VERSION}" in refused(frozen)


@pytest.mark.parametrize("version", [None, "1", 0, -1, 1.0, True, [1]])
def test_a_schema_version_that_is_none(frozen: Path, version: Any) -> None:
    rewrite(frozen, lambda tree: tree["provenance"].update(schema_version=version))
    assert "schema_version=" in refused(frozen)


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("model._target_", "os.system", "model._target_=os.system is outside the allowed packages"),
    ("model._target_", "models.cnn.torch.load", "there is no module models.cnn.torch"),
    ("model._target_", "lightning.pytorch.callbacks.model_checkpoint.os.makedirs", "model._target_="),
    ("model._target_", "optuna.samplers.TPESampler", "is not a models.fitness_model.FitnessModel"),
    ("model._target_", "models.cnn.CN", "Did you mean 'CNN'"),
    ("model.kernel_size", 4, "model.kernel_size=4 is not valid"),
    ("model.evil", {"_target_": "os.system", "command": "x"}, "model.evil is not a setting"),
    ("model.channels", {"_target_": "os.system", "command": "x"}, "outside the allowed packages"),
    ("model", None, "model is not valid"),
    ("validation._target_", "datasets.validation.Fold", "is not a datasets.validation.Validation"),
    ("logger._target_", "models.cnn.CNN", "is not a lightning.pytorch.loggers.Logger"),
    ("logger.save_dir", "/tmp", "logger.save_dir cannot be set"),
    ("logger", 3, "logger is not valid"),
    ("trainer.callbacks", [{"_target_": "os.system"}], "trainer.callbacks[0]._target_=os.system is outside"),
    ("trainer.callbacks", [3], "trainer.callbacks=[3] is not valid"),
    ("trainer.max_epochs", 0, "trainer.max_epochs=0 is not valid"),
    ("trainer.max_epochs", 1e300, "trainer.max_epochs=1e+300 is not valid"),
    ("trainer.max_epochs", 10**5000 // 10**4990, "trainer.max_epochs=10000000000 is not valid"),
    ("trainer.gpus", 1, "trainer.gpus is not a setting"),
    ("trainer", "x", "trainer=x is not valid"),
    ("data.crop", "everything", "has no crop 'everything'"),
    ("data.batch_size", 10**30, "data.batch_size="),
    ("task", "gb1_four_vs_rest", "There is no task 'gb1_four_vs_rest'. Did you mean"),
    ("task", 3, "task=3 is not valid"),
    ("seed", -1, "seed=-1 is not valid"),
    ("sampler", {}, "config.sampler is not a setting"),
    ("provenance.value", "high", "provenance.value=high is not valid"),
    ("provenance.value", None, "provenance.value=null is not valid"),
    ("provenance.value", math.nan, "provenance.value=nan is not valid"),
    ("provenance.values", [], "differ in their number of folds"),
    ("provenance.values", [[0.1], ["x"]], "provenance.values="),
    ("provenance.best_epochs", [1], "differ in their number of folds"),
    ("provenance.threads", 0, "provenance.threads=0 is not valid"),
    ("provenance.wat", 0, "provenance.wat is not a setting"),
    ("provenance", None, "it has no provenance"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), BAD_VALUES, ids=[f"{a}={b!r:.40}" for a, b, _ in BAD_VALUES])
def test_a_value_that_is_not_right_is_named(frozen: Path, path: str, value: Any, sentence: str) -> None:
    def change(tree: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            tree = tree[key]
        tree[last] = value

    if sentence.startswith("trainer.max_epochs=1000"):
        value, sentence = 10**400, "trainer.max_epochs=1000"
    rewrite(frozen, change)
    assert sentence in refused(frozen)


@pytest.mark.parametrize("key", ["task", "model", "trainer", "logger", "seed"])
def test_a_missing_setting_is_named(frozen: Path, key: str) -> None:
    rewrite(frozen, lambda tree: tree.pop(key))
    assert f"config.{key} is missing" in refused(frozen)


@pytest.mark.parametrize("key", ["schema_version", "values", "machine", "data_hash"])
def test_missing_provenance_is_named(frozen: Path, key: str) -> None:
    rewrite(frozen, lambda tree: tree["provenance"].pop(key))
    assert key in refused(frozen)


NO_EXPERIMENTS = {
    "empty": b"",
    "text": b"hello",
    "list": b"- 1\n- 2\n",
    "no provenance": b"task: gb1_two_vs_rest\n",
    "null": b"null\n",
    "open bracket": b"task: [\n",
    "tabs": b"\ttask: x\n",
    "nul": b"task: \0\n",
    "binary": bytes(range(256)),
    "utf-16": "task: x\n".encode("utf-16"),
    "nesting": b"[" * 100_000,
    "nested mappings": b"{a: " * 20_000,
    "nested lines": b"- " * 20_000,
    "impossible date": b"provenance: 2026-99-99\n",
    "bad int": b"provenance: !!int abc\n",
    "bad bool": b"provenance: !!bool abc\n",
    "bad float": b"provenance: !!float abc\n",
    "bad timestamp": b"provenance: !!timestamp abc\n",
    "huge int": b"provenance: " + b"9" * 10_000 + b"\n",
    "unhashable key": b"? [1]\n: 2\n",
    "python object": b"provenance: !!python/object/apply:os.system [exit 3]\n",
    "undefined alias": b"provenance: *x\n",
    "recursive alias": b"provenance: &x\n  y: *x\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "bomb": b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 122)),
}


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("content", NO_EXPERIMENTS.values(), ids=NO_EXPERIMENTS)
def test_what_is_no_experiment_is_a_sentence(tmp_path: Path, content: bytes, is_sealed: bool) -> None:
    path = tmp_path / "hand-written.yaml"
    path.write_bytes(seal(content.decode("latin-1")).encode() if is_sealed else content)
    refused(path)
    assert not is_experiment(path)


def test_a_checksum_that_is_no_key_of_the_provenance(tmp_path: Path) -> None:
    path = tmp_path / "hand-written.yaml"
    path.write_text(seal("provenance: {schema_version: 1}\nseed: |\n"), encoding="utf-8")
    refused(path)


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory." in refused(tmp_path / "missing.yaml")
    assert "cannot be read: Is a directory." in refused(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "cannot be read: Not a directory." in refused(tmp_path / "file" / "x.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    refused(tmp_path / "loop.yaml")


def test_only_an_unchanged_file_is_an_experiment(frozen: Path) -> None:
    assert is_experiment(frozen)
    assert not is_experiment(frozen.with_name("missing.yaml"))
    assert not is_experiment(frozen.parent)
    frozen.write_text(frozen.read_text(encoding="utf-8").replace("channels: 43", "channels: 64"), encoding="utf-8")
    assert not is_experiment(frozen), "somebody's own changes would be lost"


def test_a_file_is_never_half_written(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = frozen.read_bytes()
    other = Experiment(config=CONFIG, provenance=replace(EXPERIMENT.provenance, trial=8))

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            freeze(other, frozen)
    assert frozen.read_bytes() == before
    assert [path.name for path in frozen.parent.iterdir()] == [frozen.name]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        with pytest.raises(OSError, match="no space left"):
            freeze(other, frozen)
    assert frozen.read_bytes() == before
    freeze(other, frozen)
    assert load_experiment(frozen) == other


def test_a_file_from_before_the_model_and_the_budget_were_recorded(frozen: Path) -> None:
    def age(tree: dict[str, Any]) -> None:
        tree["provenance"]["schema_version"] = 1
        del tree["provenance"]["model"], tree["provenance"]["n_target"]

    rewrite(frozen, age)
    provenance = load_experiment(frozen).provenance
    assert (provenance.model, provenance.n_target) == (None, None)
    rewrite(frozen, lambda tree: tree["provenance"].update(schema_version=2))
    assert "provenance.model is missing" in refused(frozen)


@pytest.mark.parametrize(("standardized", "transform"), [(True, "standardize"), (False, "none")])
def test_a_file_from_before_there_were_transforms(frozen: Path, standardized: bool, transform: str) -> None:
    def age(tree: dict[str, Any]) -> None:
        tree["provenance"]["schema_version"] = 5
        del tree["trainer"]["target_transform"]
        tree["trainer"]["standardize_targets"] = standardized

    rewrite(frozen, age)
    assert load_experiment(frozen).config.trainer.target_transform == transform


def test_two_names_of_a_transform_may_not_contradict_each_other(frozen: Path) -> None:
    rewrite(frozen, lambda tree: tree["trainer"].update(standardize_targets=True, target_transform="rank_normal"))
    assert "trainer.standardize_targets=true contradicts trainer.target_transform=rank_normal" in refused(frozen)


def test_a_file_from_before_there_were_losses(frozen: Path) -> None:
    def age(tree: dict[str, Any]) -> None:
        tree["provenance"]["schema_version"] = 2
        for key in ("loss", "huber_delta", "target_transform"):
            del tree["trainer"][key]

    rewrite(frozen, age)
    trainer = load_experiment(frozen).config.trainer
    assert (trainer.loss, trainer.target_transform) == ("mse", "none")
    rewrite(frozen, lambda tree: tree["provenance"].update(schema_version=3))
    assert "trainer.loss is missing" in refused(frozen)


def test_an_export_is_the_same_whenever_it_is_written(frozen: Path) -> None:
    later = replace(EXPERIMENT.provenance, date="2027-01-01T00:00:00+00:00", git_commit="abc")
    assert is_same_export(frozen, replace(EXPERIMENT, provenance=later))
    assert not is_same_export(frozen, replace(EXPERIMENT, provenance=replace(later, trial=8)))
    assert not is_same_export(frozen.with_name("missing.yaml"), EXPERIMENT)


def test_the_checksum_is_that_of_the_last_line(frozen: Path) -> None:
    assert frozen.read_text(encoding="utf-8").splitlines()[-1] == f"  checksum: {checksum(frozen)}"


def test_today_is_a_time_with_its_zone() -> None:
    assert today().endswith("+00:00")


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ([[0.1, 0.2]], [[0.1, 0.2]], None),
        ([], [], None),
        ([[None]], [[None]], None),
        ([[0.1, 0.2], [0.3]], [[0.1, 0.2], [0.4]], (1, 0, 0.3, 0.4)),
        ([[0.1, 0.2]], [[0.1, 0.2 + 2**-54]], (0, 1, 0.2, 0.2 + 2**-54)),
        ([[0.1]], [[0.1, 0.2]], (0, 1, None, 0.2)),
        ([[0.1, 0.2]], [[0.1]], (0, 1, 0.2, None)),
        ([[0.1]], [[0.1, None]], (0, 1, None, None)),
        ([[0.1]], [[0.1], [0.2]], (1, 0, None, 0.2)),
        ([[0.1], [0.2]], [[0.1]], (1, 0, 0.2, None)),
        ([[None]], [[0.0]], (0, 0, None, 0.0)),
        ([[0.1]], [[None]], (0, 0, 0.1, None)),
    ],
)
def test_the_first_difference(before: Any, after: Any, difference: Any) -> None:
    assert first_difference(before, after) == difference
    assert first_difference([tuple(fold) for fold in before], after) == difference
