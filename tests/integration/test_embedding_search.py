"""Searches with embeddings from a file, from the command line to an experiment that predicts with them."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from search.storage.attributes import MANIFEST
from search.study.config import study_config
from tests.helpers.answers import run_here
from tests.helpers.embedding_files import write_embeddings
from tests.helpers.reports import search_proposed
from tests.helpers.tables import variants, write

ROWS = variants()[::4]
WIDTH = 6
SHORT = ("trainer.threads=1", "validation=holdout", "logger=none", "pruner=nop")
WORDS = ("--data", "assay.csv", "--split", "random", "--embeddings", "e.h5", *SHORT)


def vectors(*, seed: int = 0, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Of each sequence a vector that knows its fitness."""
    noise = np.random.default_rng(seed)
    found = {}
    for _, sequence, value in ROWS:
        found[sequence] = noise.normal(size=WIDTH).astype(np.float32) + shift
        found[sequence][0] += 3 * value
    return found


def residues() -> dict[str, np.ndarray]:
    noise = np.random.default_rng(1)
    found = {}
    for _, sequence, value in ROWS:
        found[sequence] = noise.normal(size=(len(sequence), WIDTH)).astype(np.float16)
        found[sequence][9, 0] += 8 * value
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, its embeddings, and studies of all that takes them."""
    path = tmp_path_factory.mktemp("embedded")
    write(path / "assay.csv", "sequence,fitness", [(sequence, f"{value:.4f}") for _, sequence, value in ROWS])
    write(path / "named.csv", "name,sequence,fitness", [(f"v{i}", row[1], row[2]) for i, row in enumerate(ROWS)])
    write_embeddings(path / "e.h5", vectors())
    write_embeddings(path / "residues.npz", residues())
    write_embeddings(path / "names.npz", {f"v{i}": one for i, one in enumerate(vectors().values())})
    for model in ("ridge", "kernel"):
        answer = run_here(*WORDS, "--model", model, "--study-name", model, "--n-trials", "3", cwd=path)
        assert answer.status == 0, answer
    return path


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ridge", "kernel"])
def test_whether_they_are_seen_is_searched_and_recorded(folder: Path, model: str) -> None:
    study = search.open_study(model, runs_dir=folder / "runs")
    about = study.user_attrs[MANIFEST]
    assert about["space"]["model.embeddings"]["choices"] == ["both", "alone", "none"]
    assert {key: about["embeddings"][key] for key in ("file", "kind", "width")} == {
        "file": "e.h5",
        "kind": "sequence",
        "width": WIDTH,
    }
    seen = [trial.params["model.embeddings"] for trial in study.trials if trial.state.is_finished()]
    assert seen[0] == "both"
    assert "none" in seen
    config = yaml.safe_load((folder / "studies" / "experiment" / f"{model}.yaml").read_text())
    assert config["embeddings"]["hash"] == about["embeddings"]["hash"]
    assert config["provenance"]["schema_version"] == 6


def test_the_report_names_the_embeddings(folder: Path) -> None:
    again = run_here(*search_proposed("ridge", folder), cwd=folder)
    assert "nothing to do" in again.err, again


def test_a_study_without_a_file_is_what_it_was() -> None:
    for model in ("ridge", "kernel", "cnn"):
        config = study_config(["task=synthetic_two_vs_rest", f"model={model}"])
        assert not [path for path in (*config.fixed, *config.space.paths) if "embeddings" in path]
        assert not [path for path in config.fixed if path.startswith("model.embedding_")]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ridge", "kernel"])
def test_an_experiment_is_verified_bit_by_bit_and_confirmed(folder: Path, model: str) -> None:
    answer = run_here(
        *WORDS,
        "--model",
        model,
        "--study-name",
        f"{model}-alone",
        "--n-trials",
        "1",
        "model.embeddings=alone",
        cwd=folder,
    )
    assert answer.status == 0, answer
    experiment = f"studies/experiment/{model}-alone.yaml"
    assert "equal bit for bit" in run_here("verify", experiment, cwd=folder).out
    assert run_here("confirm", experiment, "--seeds", "1", cwd=folder).status == 0
    assert run_here("predict", experiment, "--input", "assay.csv", "--output", "out.csv", cwd=folder).status == 0
    trained = search.load_experiment(folder / experiment)
    few = dict(list(vectors().items())[:5])
    path = write_embeddings(folder / "few.npz", few)
    found = trained.predict(list(few), embeddings=path)
    other = trained.predict(
        list(few),
        embeddings=write_embeddings(
            folder / "moved.npz", {key: one + np.arange(WIDTH, dtype=np.float32) for key, one in few.items()}
        ),
    )
    assert np.isfinite(found).all()
    assert not np.array_equal(found, other)
    with pytest.raises(UserError, match="no embedding of 1 of 1 candidates"):
        trained.predict(["MKV"], embeddings=path)


@pytest.mark.slow
@pytest.mark.parametrize(("pooling", "least"), [("mean", 0.3), ("mutation_mean", 0.3), ("attention", 0.05)])
def test_the_head_learns_from_residues(folder: Path, pooling: str, least: float) -> None:
    name = f"head-{pooling}"
    words = (
        "--data",
        "assay.csv",
        "--split",
        "random",
        "--embeddings",
        "residues.npz",
        "--model",
        "embeddings",
        "--study-name",
        name,
        "--n-trials",
        "1",
        *SHORT,
        f"model.pooling={pooling}",
        "trainer.max_epochs=8",
    )
    answer = run_here(*words, cwd=folder)
    assert answer.status == 0, answer
    assert search.open_study(name, runs_dir=folder / "runs").best_value > least
    assert "equal bit for bit" in run_here("verify", f"studies/experiment/{name}.yaml", cwd=folder).out


def test_the_table_may_name_them(folder: Path) -> None:
    words = ("--data", "named.csv", "--split", "random", "--embeddings", "names.npz", *SHORT, "--model", "ridge")
    assert run_here(*words, "--n-trials", "1", "--study-name", "named", cwd=folder).status == 0
    about = search.open_study("named", runs_dir=folder / "runs").user_attrs[MANIFEST]
    assert len(about["embeddings"]["names_hash"]) == 64
    predict = ("predict", "studies/experiment/named.yaml", "--input", "named.csv", "--sequence-column", "sequence")
    assert run_here(*predict, "--names", cwd=folder).status == 0
    answer = run_here(*predict, cwd=folder)
    assert answer.status == 2
    assert "go by names, and --names reads the candidates'" in answer.err


def test_a_file_that_goes_by_mutations_has_the_controls_and_the_wild_type_of_a_map(folder: Path) -> None:
    """Their rows stand in no file of candidates, which would say what they are called."""
    noise, singles = (
        np.random.default_rng(2),
        [
            f"{before}{place}{after}"
            for place, before in enumerate(WILD_TYPE, 1)
            for after in "ACDEFGHIKLMNPQRSTVWY"
            if after != before
        ],
    )
    names = dict.fromkeys([*singles, *(mutations for mutations, *_ in ROWS)])
    write_embeddings(folder / "mutants.npz", {name: noise.normal(size=WIDTH).astype(np.float32) for name in names})
    write(folder / "mutants.csv", "mutant,fitness", [(mutations, f"{value:.4f}") for mutations, _, value in ROWS])
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    words = ("--data", "mutants.csv", "--wild-type", "wt.fasta", "--split", "random", "--embeddings", "mutants.npz")
    words += (*SHORT, "--model", "ridge", "--n-trials", "1", "--study-name", "mutants")
    assert run_here(*words, cwd=folder).status == 0
    export = "studies/experiment/mutants.yaml"
    assert search.load_experiment(folder / export).predictor.sees_embeddings
    given = ("--mutagenesis", "singles", "--batch", "6", "--controls", "2", "--output", "plate.csv")
    for more in ((), ("--require", "fitness>=0")):
        answer = run_here("suggest", export, *given, *more, cwd=folder)
        assert answer.status == 0, answer
        with (folder / "plate.csv").open(newline="") as file:
            controls = [row for row in csv.DictReader(file) if row["role"] == "control"]
        assert controls[0]["mutations"] == "WT"
        assert all(row["prediction"] for row in controls), more
    answer = run_here("predict", export, "--mutagenesis", "singles", "--figure", "map.html", cwd=folder)
    assert answer.status == 0, answer


def test_data_check_says_what_they_are(folder: Path) -> None:
    answer = run_here("data", "check", "assay.csv", "--split", "random", "--embeddings", "e.h5", cwd=folder)
    assert f"embeddings: {len(ROWS):,} of {len(ROWS):,} variants have one, of {WIDTH} values a sequence" in answer.out
    assert "--embeddings e.h5" in answer.out


def test_a_changed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    write_embeddings(tmp_path / "copy" / "e.h5", vectors(seed=5))
    assert (
        "embeddings.hash"
        in run_here(
            *WORDS, "--quiet", "--model", "ridge", "--study-name", "ridge", "--n-trials", "4", cwd=tmp_path / "copy"
        ).refusal()
    )
    assert "have changed" in run_here("verify", "studies/experiment/ridge.yaml", cwd=tmp_path / "copy").refusal()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--embeddings", "nothing.h5"), "cannot be read"),
        (("--embeddings", "assay.csv"), "is no file of embeddings"),
        (("--embeddings", "runs"), "no file"),
        (("model.embeddings=alone",), "add --embeddings FILE"),
        (("model.embedding_alpha=3",), "add --embeddings FILE"),
        (("--embeddings", "few-rows.npz"), "no embedding of"),
    ],
)
def test_what_is_none_is_one_sentence(folder: Path, words: tuple[str, ...], says: str) -> None:
    write_embeddings(folder / "few-rows.npz", dict(list(vectors().items())[:5]))
    call = ("--data", "assay.csv", "--split", "random", "--model", "ridge", "--quiet", "--study-name", "none", *words)
    assert says in run_here(*call, cwd=folder).refusal()


def test_the_head_needs_a_file_and_residues_for_attention(folder: Path) -> None:
    call = ("--data", "assay.csv", "--split", "random", "--model", "embeddings", "--quiet", "--study-name", "none")
    assert "add --embeddings FILE" in run_here(*call, cwd=folder).refusal()
    words = ("--embeddings", "e.h5", "model.pooling=attention")
    assert "has one vector a sequence" in run_here(*call, *words, cwd=folder).refusal()


def test_other_families_say_that_they_take_none(folder: Path) -> None:
    words = (*WORDS, "--model", "cnn", "--study-name", "cnn", "--n-trials", "1", "trainer.max_epochs=1")
    answer = run_here(*words, "model.channels=4", cwd=folder)
    assert answer.status == 0, answer
    assert "takes no embeddings" in answer.err
    assert "embeddings" not in search.open_study("cnn", runs_dir=folder / "runs").user_attrs[MANIFEST]


@pytest.mark.slow
def test_the_head_says_that_it_takes_no_scores(folder: Path) -> None:
    write(folder / "scores.csv", "sequence,esm", [(sequence, f"{value:.2f}") for _, sequence, value in ROWS[::2]])
    call = (*WORDS, "--model", "embeddings", "--zero-shot-file", "scores.csv", "--allow-derived", "--n-trials", "1")
    says = "The model embeddings takes no score columns, so that it is the same whatever scores.use says"
    for words, is_said in ((("--study-name", "scored"), True), (("--study-name", "bare", "scores.use=none"), False)):
        answer = run_here(*call, *words, "trainer.max_epochs=1", cwd=folder)
        assert answer.status == 0, answer
        assert (says in answer.err) is is_said
