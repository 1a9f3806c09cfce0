"""Which configurations of an earlier study fit a space, and what a record of them has to hold."""

from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from search.request.warm_start import agreed
from search.storage.rows.warm_start_checks import OF_MANIFEST, check_origin
from search.study.config import StudyConfig, study_config
from search.study.warm_start.choice import choose, fitted, record_of, seen_sentences, words_of
from search.study.warm_start.seen import _rows
from search.study.warm_start.source import ChosenOn, Configuration, Predecessor, known_values

TASK = "task=synthetic_two_vs_rest"
SELECTION = {"study": "a", "study_id": None, "task": "t", "data_hash": "d", "n_seen": 0}
RECORD: dict[str, Any] = {
    "from": ["a"],
    "allow_seen": False,
    "selections": [SELECTION],
    "trials": [{"study": "a", "trial": 3, "value": 0.5, "params": {"model.alpha": 1.0}}],
}


@pytest.fixture(scope="module")
def ridge() -> StudyConfig:
    return study_config([TASK, "model=ridge"])


@pytest.fixture(scope="module")
def cnn() -> StudyConfig:
    return study_config([TASK, "model=cnn"])


def configuration(trial: int = 0, **values: object) -> Configuration:
    return Configuration(
        study="a", trial=trial, value=0.5, values={name.replace("__", "."): value for name, value in values.items()}
    )


def source(*configurations: Configuration, model: str = "ridge") -> Predecessor:
    own = ChosenOn(study="a", study_id=None, task="t", data_hash="d")
    return Predecessor(name="a", model=model, selections=(own,), configurations=configurations)


def test_what_is_searched_is_taken_over_and_all_else_stays(ridge: StudyConfig) -> None:
    params, problem = fitted(configuration(model__alpha=3, trainer__max_epochs=7), ridge.space, ridge.defaults)
    assert (params, problem) == ({"model.alpha": 3.0}, None)
    assert type(params["model.alpha"]) is float


@pytest.mark.parametrize("value", [1e9, "much", None, True, float("nan"), [1.0]])
def test_a_value_outside_the_space_is_left_out_and_said(ridge: StudyConfig, value: object) -> None:
    params, problem = fitted(configuration(model__alpha=value), ridge.space, ridge.defaults)
    assert not params
    assert problem is not None
    assert problem.startswith("model.alpha=")
    assert problem.endswith("is outside of space.model.alpha")


def test_a_setting_that_the_earlier_study_lacked_has_this_studys_own_value(cnn: StudyConfig) -> None:
    params, problem = fitted(configuration(), cnn.space, cnn.defaults)
    assert problem is None
    assert set(params) == {name for name, leaf in cnn.space.leaves.items() if not leaf.when or name in params}
    assert params["model.dropout"] == cnn.defaults["model"]["dropout"]


def test_a_value_that_follows_from_others_is_not_known() -> None:
    assert known_values({"a.b": "${a.c}", "a.c": 3}) == {"a.c": 3}


def test_equal_configurations_are_tried_once_and_those_outside_are_said(ridge: StudyConfig) -> None:
    trials = [configuration(1, model__alpha=1.0), configuration(2, model__alpha=1), configuration(3, model__alpha=1e9)]
    chosen, left_out = choose([source(*trials)], ridge.space, ridge.defaults, model="ridge")
    assert [one["trial"] for one in chosen] == [1]
    assert left_out == ["Of a is left out trial 3: model.alpha=1000000000.0 is outside of space.model.alpha."]


def test_nothing_that_fits_and_another_family_are_refused(ridge: StudyConfig) -> None:
    outside = source(configuration(3, model__alpha=1e9))
    with pytest.raises(UserError, match=r"No configuration of --warm-start a lies in this study's space \(trial 3: "):
        choose([outside], ridge.space, ridge.defaults, model="ridge")
    with pytest.raises(UserError, match="is of the model cnn, and this study of ridge"):
        choose([source(configuration(), model="cnn")], ridge.space, ridge.defaults, model="ridge")


@pytest.mark.parametrize(
    ("n_seen", "sentence"), [(12, "trained or validated on 12 of this study's 50 test"), (None, "nobody can tell")]
)
def test_what_saw_test_sequences_is_refused_unless_that_is_allowed(n_seen: int | None, sentence: str) -> None:
    sources = [source(configuration())]
    with pytest.raises(UserError, match=sentence):
        record_of(["a"], sources, [n_seen], [], allow_seen=False, n_test=50)
    record = record_of(["a"], sources, [n_seen], [], allow_seen=True, n_test=50)
    assert record["allow_seen"]
    assert [one["n_seen"] for one in record["selections"]] == [n_seen]
    (said,) = seen_sentences(record)
    assert "12 of these test sequences" in said or "not known" in said


def test_nothing_is_said_where_nothing_was_seen() -> None:
    assert seen_sentences(RECORD) == seen_sentences(None) == []
    assert words_of(RECORD) == "1 configuration of a (trial 3)"


def test_a_study_goes_on_with_what_it_began_with() -> None:
    assert agreed("s", [], {"warm_start": RECORD}) == agreed("s", ["a"], {"warm_start": RECORD}) == RECORD
    assert agreed("s", [], {"task": "t"}) is None
    with pytest.raises(UserError, match="was begun with --warm-start a, and cannot begin again"):
        agreed("s", ["b"], {"warm_start": RECORD})
    with pytest.raises(UserError, match="was begun without --warm-start"):
        agreed("s", ["b"], {"task": "t"})


@pytest.mark.parametrize(
    "change",
    [
        {"from": "a"},
        {"allow_seen": 1},
        {"selections": [{**SELECTION, "n_seen": -1}]},
        {"selections": [{**SELECTION, "task": "t\x1b[2J"}]},
        {"selections": [{**SELECTION, "study_id": "../x"}]},
        {"trials": [{"study": "a", "trial": "3", "value": 0.5, "params": {}}]},
    ],
)
def test_a_record_that_this_program_did_not_write_is_refused(change: dict[str, object]) -> None:
    assert not list(OF_MANIFEST("warm_start", RECORD))
    assert list(OF_MANIFEST("warm_start", {**RECORD, "trials": [{**RECORD["trials"][0], "params": {"a": [1]}}]}))
    assert list(OF_MANIFEST("warm_start", {**RECORD, **change}))
    origin = {"allow_seen": False, "selections": [SELECTION], "trials": [{"study": "a", "trial": 3}]}
    check_origin(origin, "provenance.warm_start")
    if "from" not in change:
        with pytest.raises(UserError, match=r"provenance\.warm_start"):
            check_origin({**origin, **change}, "provenance.warm_start")


@pytest.mark.parametrize("task", ["../elsewhere/{}", "{}/../../elsewhere/{}", "/{}", "*", "", "t\0", "x" * 999])
def test_no_file_of_another_folder_is_read_for_a_task_with_an_odd_name(tmp_path: Path, task: str) -> None:
    own = find_task("synthetic_two_vs_rest")
    split = prepare(own, data_dir=None, cache_dir=tmp_path / "elsewhere", announce=print)
    assert _rows(split.path.parent, own.name, split.data_hash)
    (tmp_path / "here").mkdir()
    assert _rows(tmp_path / "here", task.replace("{}", own.name), split.data_hash) is None
