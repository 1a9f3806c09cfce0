"""The command line: words to arguments, and one sentence for each mistake."""

from pathlib import Path

import pytest

from datasets.common.errors import UserError
from search.cli.main import main
from search.options.arguments import parse
from search.options.parser import model_names

WHAT = ["--task", "gb1_three_vs_rest", "--model", "cnn"]
BOTH = ["task=gb1_three_vs_rest", "model=cnn"]


def test_the_defaults() -> None:
    arguments = parse(WHAT)
    assert arguments.command == "search"
    assert arguments.overrides == BOTH
    assert (arguments.task, arguments.model, arguments.n_trials) == ("gb1_three_vs_rest", "cnn", 100)
    assert (arguments.runs_dir, arguments.export_dir) == (Path("runs"), Path("studies/experiment"))
    assert arguments.study_name is arguments.storage is arguments.data_dir is None
    assert arguments.max_failures == 3
    assert not arguments.quiet
    assert not arguments.dry_run


def test_models_are_the_files_of_the_group() -> None:
    assert {"cnn", "cnn_flip", "ridge"} <= set(model_names())


def test_overrides_stand_anywhere() -> None:
    words = [
        "trainer.max_epochs=5",
        *WHAT,
        "~space.model.depth",
        "--n-trials",
        "3",
        "+space.x={a: 1}",
        "--quiet",
        "k=-1",
    ]
    arguments = parse(words)
    assert arguments.overrides == [*BOTH, "trainer.max_epochs=5", "~space.model.depth", "+space.x={a: 1}", "k=-1"]
    assert arguments.n_trials == 3


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["task=gb1_three_vs_rest", "model=cnn"], "cnn"),
        (["--task", "gb1_three_vs_rest", "model=ridge"], "ridge"),
        (["--task=gb1_three_vs_rest", "--model=ridge"], "ridge"),
        ([*WHAT, "model=cnn"], "cnn"),
        ([*WHAT, "task=gb1_three_vs_rest"], "cnn"),
        (["++task=gb1_three_vs_rest", "--model", "cnn"], "cnn"),
    ],
)
def test_task_and_model_may_be_overrides(words: list[str], model: str) -> None:
    arguments = parse(words)
    assert arguments.overrides == ["task=gb1_three_vs_rest", f"model={model}"]
    assert (arguments.task, arguments.model) == ("gb1_three_vs_rest", model)


def test_train_takes_a_config_or_an_experiment() -> None:
    assert parse(["train", *WHAT, "seed=1"]).overrides == [*BOTH, "seed=1"]
    arguments = parse(["train", "--experiment", "a b.yaml"])
    assert arguments.experiment == Path("a b.yaml")
    assert arguments.overrides == []


def test_verify_and_status() -> None:
    assert parse(["verify", "x.yaml", "--runs-dir", "r"]).file == Path("x.yaml")
    arguments = parse(["status", "--study-name", "s", "--json", "--storage", "sqlite:///x"])
    assert (arguments.study_name, arguments.json, arguments.storage) == ("s", True, "sqlite:///x")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name a task and a model: --task T --model M. Tasks: gb1_one_vs_rest,"),
        (["--task", "gb1_three_vs_rest"], "Name a task and a model"),
        (["--model", "cnn"], "Name a task and a model"),
        (["--task", "", "--model", "cnn"], "--task is given an empty value"),
        (["--task", "gb1_three_vs_ret", "--model", "cnn"], "There is no task 'gb1_three_vs_ret'. Did you mean"),
        (["--task", "zzz", "--model", "cnn"], "The tasks are gb1_one_vs_rest,"),
        (["--task", "gb1_three_vs_rest", "--model", "cn"], "There is no model 'cn'. Did you mean 'cnn'? Models: cnn,"),
        ([*WHAT, "task=aav_sampled"], "--task gb1_three_vs_rest and task=aav_sampled exclude each other"),
        ([*WHAT, "model=ridge"], "--model cnn and model=ridge exclude each other: name one."),
        ([*WHAT, "--model", "kernel", "model=cnn"], "--model cnn, kernel and model=cnn exclude each other"),
        ([*WHAT, "model=cnn,ridge"], "There is no model 'cnn,ridge'."),
        ([*WHAT, "--n-trails", "3"], "--n-trails is not an option of `run_study.py`. Did you mean '--n-trials'"),
        ([*WHAT, "--n-trails=3"], "--n-trails is not an option of `run_study.py`. Did you mean '--n-trials'"),
        ([*WHAT, "--modle", "cnn"], "Did you mean '--model' or"),
        ([*WHAT, "--n"], "--n is not an option"),
        ([*WHAT, "-x"], "-x is not an option"),
        ([*WHAT, "--n-trials", "0"], "Argument --n-trials: '0' is not valid: expected a whole number from 1"),
        ([*WHAT, "--n-trials", "-5"], "'-5' is not valid"),
        ([*WHAT, "--n-trials=-5"], "'-5' is not valid"),
        ([*WHAT, "--n-trials", "many"], "'many' is not valid"),
        ([*WHAT, "--n-trials", "1.5"], "'1.5' is not valid"),
        ([*WHAT, "--n-trials", "1e3"], "'1e3' is not valid"),
        ([*WHAT, "--n-trials", ""], "--n-trials is given an empty value"),
        ([*WHAT, "--n-trials", "9" * 5000], "is not valid"),
        ([*WHAT, "--n-trials", " 5"], "' 5' is not valid"),
        ([*WHAT, "--n-trials"], "Argument --n-trials: expected one argument"),
        ([*WHAT, "--max-failures", "0"], "Argument --max-failures: '0' is not valid"),
        ([*WHAT, "--study-name", "../x"], "'../x' is not valid: expected up to 100 letters, digits and . _ + -"),
        ([*WHAT, "--study-name", "a/b"], "'a/b' is not valid"),
        ([*WHAT, "--study-name", ".hidden"], "'.hidden' is not valid"),
        ([*WHAT, "--study-name", "a\n"], "is not valid"),
        ([*WHAT, "--study-name", "é"], "is not valid"),
        ([*WHAT, "--study-name", ""], "--study-name is given an empty value"),
        ([*WHAT, "--study-name", "x" * 101], "is not valid"),
        (["train", "--experiment", "x", "--task", "gb1_sampled"], "--experiment FILE takes no --task, --model or"),
        (["train", "--experiment", "x", "seed=1"], "the file says it all"),
        (["train", *WHAT, "--n-trials", "3"], "--n-trials is not an option of `run_study.py train`"),
        (["verify"], "The following arguments are required: EXPERIMENT (see"),
        (["predict", "--input", "x"], "The following arguments are required: EXPERIMENT (see"),
        (["suggest", "--batch", "5"], "The following arguments are required: EXPERIMENT (see"),
        (["data", "check"], "The following arguments are required: FILE (see"),
        (["verify", "a", "b"], "`run_study.py verify` takes no 'b'"),
        (["verify", "a", "--fast"], "--fast is not an option of `run_study.py verify`"),
        (["status", "everything"], "`run_study.py status` takes no 'everything'"),
        (["status", "--jsn"], "--jsn is not an option of `run_study.py status`. Did you mean '--json'?"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(words)
    assert sentence in str(caught.value)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert len(err) < 700 or "9" * 5000 in err


@pytest.mark.parametrize("command", [[], ["train"], ["verify"], ["status"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: {' '.join(['run_study.py', *command])} [-h]")
    if command in ([], ["train"]):
        assert all(name in out for name in ("gb1_three_vs_rest", "aav_des_mut", "synthetic_two_vs_rest", "ridge"))


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--storage", ""],
        ["status", "--storage="],
        ["status", "--study-name", "", "--json"],
        ["doctor", "--task", ""],
        ["predict", "experiment.yaml", "--input", "c.txt", "--output", ""],
        ["--task", "synthetic_two_vs_rest", "--model", "ridge", "--runs-dir="],
    ],
)
def test_an_empty_value_is_not_taken_for_none(words, command):
    option = next(word for word in words if word.endswith("=") or not words[words.index(word) + 1]).rstrip("=")
    assert command(*words).refusal() == f"error: {option} is given an empty value: name one, or leave the option out.\n"
