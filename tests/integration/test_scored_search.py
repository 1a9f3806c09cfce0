"""A search with score columns, from the command line to an experiment that predicts with them."""

import hashlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from search.storage.attributes import MANIFEST
from tests.helpers.answers import Answer, run_here
from tests.helpers.reports import search_proposed
from tests.helpers.tables import variants, write

WORDS = ("--data", "assay.csv", "--split", "random", "--model", "ridge", "--n-trials", "4", "trainer.threads=1")
SCORES = ("--zero-shot-column", "esm", "--zero-shot-column", "evo")
NAME = "assay-fitness-random-ridge"
EXPERIMENT = f"studies/experiment/{NAME}.yaml"
SEEN = "studies/experiment/seen.yaml"
"""Of a model that sees both columns."""


def rows(*, seed: int = 0) -> list[tuple[str, str, str, str]]:
    """Sequence, fitness, a score that knows most of the fitness and lacks some rows, and one that knows little."""
    noise = np.random.default_rng(seed)
    found = []
    for i, (_, sequence, value) in enumerate(variants()):
        esm = "" if i % 10 == 0 else f"{value + noise.normal(0, 0.3):.4f}"
        found.append((sequence, f"{value:.4f}", esm, f"{noise.normal():.4f}"))
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    write(folder / "assay.csv", "sequence,fitness,esm,evo", rows())
    answer = run_here(*WORDS, *SCORES, cwd=folder)
    assert answer.status == 0, answer
    words = ("--study-name", "seen", "scores.use=all", "--n-trials", "1")
    assert run_here(*WORDS, *SCORES, *words, cwd=folder).status == 0
    return folder


def predicted(folder: Path, *words: str) -> Answer:
    return run_here("predict", SEEN, "--no-distance", "--output", "out.csv", *words, cwd=folder)


@pytest.mark.slow
def test_which_columns_are_seen_is_searched(searched: Path) -> None:
    study = search.open_study(NAME, runs_dir=searched / "runs")
    about = study.user_attrs[MANIFEST]
    assert about["space"]["scores.use"]["choices"] == ["none", "esm", "evo", "all"]
    (source,) = about["scores"]["sources"]
    assert (source["kind"], source["columns"]) == ("table", ["esm", "evo"])
    assert [trial.params["scores.use"] for trial in study.trials[:2]] == ["all", "none"]


def test_the_experiment_names_them_and_is_verified(searched: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((searched / EXPERIMENT).read_text())
    assert config["scores"]["sources"][0]["columns"] == ["esm", "evo"]
    assert config["provenance"]["schema_version"] == 6
    assert run_here("verify", EXPERIMENT, cwd=searched).status == 0
    changed = rows()
    changed[5] = (*changed[5][:2], "0.5", changed[5][3])
    write(tmp_path / "assay.csv", "sequence,fitness,esm,evo", changed)
    refusal = run_here("verify", EXPERIMENT, "--data", str(tmp_path / "assay.csv"), cwd=searched).refusal()
    assert "scores (esm, evo) have changed" in refusal


def test_another_table_of_scores_is_another_study(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "copy")
    write(tmp_path / "copy" / "assay.csv", "sequence,fitness,esm,evo", rows(seed=1))
    refusal = run_here(*WORDS, *SCORES, "--quiet", cwd=tmp_path / "copy").refusal()
    assert "scores.sources" in refusal


def test_candidates_come_with_scores_or_are_refused(searched: Path) -> None:
    table = rows()[:20]
    write(searched / "with.csv", "sequence,esm,evo", [(row[0], row[2], row[3]) for row in table])
    write(searched / "without.csv", "sequence", [(row[0],) for row in table])
    assert "which the candidates lack" in predicted(searched, "--input", "without.csv").refusal()
    answer = predicted(searched, "--input", "with.csv")
    assert answer.status == 0, answer
    assert "Of 20 candidates 2 lack the score 'esm': the mean of the training rows stands for what" in answer.err
    beside = (searched / "out.csv").read_text()
    assert predicted(searched, "--input", "without.csv", "--zero-shot-file", "with.csv").status == 0
    assert (searched / "out.csv").read_text() == beside
    # Each of the two has a column.
    write(searched / "evo.csv", "sequence,evo", [(row[0], row[3]) for row in table])
    write(searched / "esm.csv", "sequence,esm", [(row[0], row[2]) for row in table])
    assert predicted(searched, "--input", "evo.csv", "--zero-shot-file", "esm.csv").status == 0
    assert (searched / "out.csv").read_text() == beside


@pytest.mark.slow
def test_plates_and_rankings_by_several_say_what_lacks_scores_too(searched: Path) -> None:
    write(searched / "few.csv", "sequence,esm,evo", [(row[0], row[2], row[3]) for row in rows()[1:3]])
    write(searched / "new.csv", "sequence", [(row[0][:-1] + letter,) for row in rows()[1:4] for letter in "WY"])
    call = ("--input", "new.csv", "--zero-shot-file", "few.csv")
    plate = run_here("suggest", SEEN, *call, "--batch", "2", "--no-train", "--output", "plate.csv", cwd=searched)
    several = run_here("predict", SEEN, EXPERIMENT, *call, "--no-distance", "--top", "2", cwd=searched)
    for answer in (plate, several):
        assert answer.status == 0, answer
        assert "Of 6 candidates 6 lack the score 'esm'" in answer.err


def test_an_output_is_no_file_that_training_read(searched: Path) -> None:
    scores, alignment = searched / "file.csv", searched / "family.csv"
    write(scores, "sequence,esm", [(row[0], row[2]) for row in rows()])
    write(alignment, "sequence", [("ACDE",)])
    write(searched / "bare.csv", "sequence", [(row[0],) for row in rows()[:20]])
    words = ("--zero-shot-file", "file.csv", "--study-name", "of-file", "scores.use=esm", "--n-trials", "1")
    assert run_here(*WORDS, *words, cwd=searched).status == 0
    experiment = "studies/experiment/of-file.yaml"
    for given, output in (((), scores), (("--alignment", "family.csv"), alignment)):
        before = output.read_bytes()
        call = ("predict", experiment, "--input", "bare.csv", "--output", output.name, *given)
        assert "itself: name another file" in run_here(*call, cwd=searched).refusal()
        assert output.read_bytes() == before


def test_the_report_names_the_scores_and_what_the_search_began_with(searched: Path) -> None:
    write(searched / "mine.csv", "sequence,mine", [(row[0], row[2]) for row in rows()])
    given = ("--zero-shot-column", "esm", "--zero-shot-column", "mine", "--zero-shot-file", "mine.csv")
    begun = ("--warm-start", "seen", "--allow-seen", "--allow-derived")
    assert run_here(*WORDS, *given, *begun, "--study-name", "two", "--n-trials", "1", cwd=searched).status == 0
    proposed = search_proposed("two", searched)
    again = run_here(*proposed, cwd=searched)
    assert "nothing to do" in again.err, again
    assert {*given, *begun} <= {*proposed}
    # Without an experiment nobody knows what the file was called.
    elsewhere = search_proposed("two", searched, "--export-dir", "elsewhere")
    assert "mine.csv" not in elsewhere
    digits = hashlib.sha256((searched / "mine.csv").read_bytes()).hexdigest()
    assert f"# FILE-OF-SCORES stands for the file with the SHA-256 {digits}" in (searched / "report.html").read_text()
    (searched / "FILE-OF-SCORES").symlink_to("mine.csv")
    assert "nothing to do" in run_here(*elsewhere, cwd=searched).err


def test_python_takes_scores_beside_sequences(searched: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained = search.load_experiment(searched / SEEN)
    table = rows()[1:9]
    sequences = [row[0] for row in table]
    columns = {"esm": [float(row[2]) for row in table], "evo": [float(row[3]) for row in table]}
    found = trained.predict(sequences, columns)
    other = trained.predict(sequences, {name: [-value for value in column] for name, column in columns.items()})
    assert not np.array_equal(found, other)
    write(searched / "given.csv", "sequence,esm,evo", [(row[0], row[2], row[3]) for row in table])
    by_text = trained.predict(sequences, zero_shot_file=str(searched / "given.csv"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(by_text, found)
    assert capfd.readouterr().err == ""
    trained.predict(sequences, {**columns, "esm": [float("nan"), *columns["esm"][1:]]})
    assert "Of 8 candidates 1 lacks the score 'esm': the mean of the training rows" in capfd.readouterr().err
    with pytest.raises(UserError, match="which the candidates lack"):
        trained.predict(sequences)
    with pytest.raises(UserError, match="expected a number for each of 8"):
        trained.predict(sequences, {**columns, "esm": [1.0]})
    with pytest.raises(UserError, match="are no numbers"):
        trained.predict(sequences, {**columns, "esm": ["high"] * 8})  # type: ignore[list-item]
    with pytest.raises(UserError, match="hold infinite numbers"):
        trained.predict(sequences, {**columns, "esm": [1e300] * 8})


def test_confirm_predicts_test_sequences_with_their_scores(searched: Path) -> None:
    answer = run_here("confirm", SEEN, "--seeds", "1", cwd=searched)
    assert answer.status == 0, answer


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--zero-shot-column", "esn"), "has no score column 'esn'"),
        (("--zero-shot-column", "sequence"), "is not a finite number"),
        (("--zero-shot-file", "nothing.csv"), "cannot be read"),
        (("scores.use=none",), "none is named"),
        ((*SCORES, "scores.use=foo"), "'foo' is no score column"),
        (("--zero-shot-column", "fitness"), "seems to be made of the target"),
    ],
)
def test_what_is_no_score_is_one_sentence(searched: Path, words: tuple[str, ...], says: str) -> None:
    assert says in run_here(*WORDS, "--study-name", "other", "--quiet", *words, cwd=searched).refusal()


def test_what_is_allowed_is_recorded(searched: Path) -> None:
    words = ("--zero-shot-column", "fitness", "--allow-derived", "--study-name", "derived", "--n-trials", "1")
    assert run_here(*WORDS, *words, cwd=searched).status == 0
    about = search.open_study("derived", runs_dir=searched / "runs").user_attrs[MANIFEST]
    assert about["scores"]["allow_derived"] is True


def searched_with(folder: Path, name: str, **scores: object) -> str:
    """An experiment of one trial, which sees no score."""
    overrides = ("trainer.threads=1", *(["scores.use=none"] if scores else []))
    request = search.SearchRequest(
        data="assay.csv",
        split="random",
        model="ridge",
        target_column="fitness",
        n_trials=1,
        executor="inline",
        quiet=True,
        study_name=name,
        runs_dir=folder / "runs",
        export_dir=folder / "studies" / "experiment",
        overrides=overrides,
        **scores,  # type: ignore[arg-type]
    )
    assert search.run_study(request).n_finished == 1
    return f"studies/experiment/{name}.yaml"


@pytest.mark.slow
def test_scores_that_a_model_does_not_see_are_not_passed_over_in_silence(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(searched)
    write(searched / "some.csv", "sequence,esm,evo", [(row[0], row[2], row[3]) for row in rows()[:20]])
    call = ("--input", "some.csv", "--no-distance", "--output", "out.csv")
    file, alignment = ("--zero-shot-file", "some.csv"), ("--alignment", "some.csv")
    unseen = searched_with(searched, "unseen", zero_shot_columns=("esm", "evo"))
    answer = run_here("predict", unseen, *call, *file, cwd=searched)
    assert answer.status == 0, answer
    assert "--zero-shot-file is passed over: the model sees no column of it (scores.use=none)." in answer.err
    assert "passed over" not in run_here("predict", unseen, *call, cwd=searched).err
    assert "passed over" not in run_here("predict", unseen, *call, *file, "--quiet", cwd=searched).err
    # What training had none of is refused, whatever else it had.
    without = searched_with(searched, "without")
    refusal = run_here("predict", without, *call, *file, cwd=searched).refusal()
    assert "trained without scores of a table or a file, so that --zero-shot-file would change nothing" in refusal
    for experiment in (unseen, without):
        refusal = run_here("predict", experiment, *call, *alignment, cwd=searched).refusal()
        assert "trained without scores of an alignment, so that --alignment would change nothing" in refusal
    trained = search.load_experiment(searched / without)
    with pytest.raises(UserError, match="trained without score columns, and esm would change nothing"):
        trained.predict([rows()[0][0]], {"esm": [1.0]})
    with pytest.raises(UserError, match="--zero-shot-file would change nothing"):
        trained.predict([rows()[0][0]], zero_shot_file=searched / "some.csv")


def test_data_check_says_what_scores_are_worth(searched: Path) -> None:
    answer = run_here("data", "check", "assay.csv", "--split", "random", *SCORES, cwd=searched)
    assert "esm  " in answer.out
    assert "variants have it; Spearman 0." in answer.out
    assert "--zero-shot-column esm --zero-shot-column evo" in answer.out


@pytest.mark.parametrize(
    "more", [(), ("--fold-column", "fold"), ("--target-column", "b")], ids=["group", "folds", "properties"]
)
def test_data_check_refuses_what_the_search_that_it_proposes_would_refuse(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    own = [(*row[:2], f"{i * 37 % 11 + float(row[1])}", row[1], row[2], i % 5, i % 4) for i, row in enumerate(rows())]
    write(tmp_path / "assay.csv", "sequence,a,b,copy,esm,group,fold", own)
    call = ("data", "check", "assay.csv", "--target-column", "a", *more, "--zero-shot-column")
    sentence = run_here(*call, "copy", cwd=tmp_path).err.splitlines()[-1]
    assert "The score column 'copy' seems to be made of the target" in sentence
    assert run_here(*call, "esm", cwd=tmp_path).status == 0
    answer = run_here(*call, "copy", "--allow-derived", cwd=tmp_path)
    assert answer.status == 0, answer
    proposed = shlex.split("--data " + answer.out.splitlines()[-1].partition(" --data ")[2])
    proposed.remove("--allow-derived")
    assert run_here(*proposed, "--n-trials", "1", cwd=tmp_path).err.splitlines()[-1].endswith(sentence[-100:])


def test_data_check_knows_files_and_alignments_and_what_it_needs(searched: Path) -> None:
    write(searched / "file.csv", "sequence,esm", [(row[0], row[2]) for row in rows()])
    draw = np.random.default_rng(3)
    family = [WILD_TYPE]
    for _ in range(40):
        kept = draw.random(len(WILD_TYPE)) < 0.8
        family.append(
            "".join(a if keep else draw.choice(list("ACDEFGHIKL")) for a, keep in zip(WILD_TYPE, kept, strict=True))
        )
    (searched / "family.a2m").write_text("".join(f">{i}\n{row}\n" for i, row in enumerate(family)))
    call = ("data", "check", "assay.csv", "--target-column", "fitness", "--zero-shot-file", "file.csv")
    (searched / "wild.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    call = (*call, "--alignment", "family.a2m", "--wild-type", "wild.fasta")
    names = ("esm", "site_independent", "conservation", "couplings")
    answer = run_here(*call, "--split", "random", cwd=searched)
    assert answer.status == 0, answer
    for name in names:
        assert re.search(
            rf"^  {name} +[\d,]+ of [\d,]+ variants have it; Spearman -?0\.\d+ on [\d,]+ training rows",
            answer.out,
            re.M,
        )
    without = run_here(*call, cwd=searched)
    assert without.status == 0, without
    for name in names:
        assert re.search(
            rf"^  {name} .*; with --split its agreement with the training targets is shown$", without.out, re.M
        )
    assert "Spearman" not in without.out.partition("scores (")[2].partition("A search accepts")[0]
