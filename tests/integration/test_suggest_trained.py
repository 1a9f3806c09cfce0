"""The models that pick a plate: trained on all that was measured, kept, and those of the search where nobody trains."""

import csv
import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import search
import search.suggestion.retrained
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from search.experiments.experiment import freeze, load_experiment
from tests.helpers.answers import Answer, run_here
from tests.helpers.tables import variants, write

EXPERIMENT = "studies/experiment/plates.yaml"
SEARCH = ("--data", "t.csv", "--wild-type", "wt.fasta", "--split", "random", "--n-trials", "1", "trainer.threads=1")
TRAINED = "is trained on all"


def make_table(folder: Path, *, has_rounds: bool = False) -> None:
    every = variants()
    chosen = np.random.default_rng(3).permutation(len(every))[:120]
    rows = [(every[i][1], round(every[i][2], 4), *([1 + place // 40] * has_rounds)) for place, i in enumerate(chosen)]
    write(folder / "t.csv", "sequence,fitness,round" if has_rounds else "sequence,fitness", rows)
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of ridge and one of a kernel, and the ensemble of both."""
    folder = tmp_path_factory.mktemp("trained")
    make_table(folder)
    words = ("--model", "ridge", "--model", "kernel", "--study-name", "both", "--quiet")
    answer = run_here(*SEARCH, *words, cwd=folder)
    assert answer.status == 0, answer
    shutil.copy(folder / "studies/experiment/both-ridge.yaml", folder / EXPERIMENT)
    shutil.copytree(folder / "studies/experiment/both-ridge", folder / "studies/experiment/plates")
    return folder


def suggest(folder: Path, *words: str, experiment: str | tuple[str, ...] = EXPERIMENT) -> Answer:
    files = (experiment,) if isinstance(experiment, str) else experiment
    given = ("suggest", *files, "--mutagenesis", "singles", "--batch", "24", "--output", "plate.csv", *words)
    answer = run_here(*given, cwd=folder)
    assert answer.status == 0, answer
    return answer


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "plate.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def plate_of(folder: Path) -> tuple[bytes, str]:
    """The plate, and whose weights picked it."""
    about = json.loads((folder / "plate.json").read_text())
    return (folder / "plate.csv").read_bytes(), about["experiment"]["weights"]


def test_a_plate_is_picked_by_what_confirm_would_train(plates: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(plates, folder)
    answer = suggest(folder, "--controls", "2")
    # 120 less a fifth for the test set.
    assert f"plates {TRAINED} 96 rows of training and validation (solved exactly)." in answer.err
    assert "split-conformal; the models that erred so saw fewer rows than those that predict" in answer.out
    trained = plate_of(folder)
    assert suggest(folder, "--controls", "2", "--no-train").err.count(TRAINED) == 0
    before = plate_of(folder)
    answer = run_here("confirm", EXPERIMENT, "--seeds", "2", cwd=folder)
    assert answer.status == 0, answer
    assert TRAINED not in suggest(folder, "--controls", "2").err
    confirmed = plate_of(folder)
    assert (before[1], trained[1], confirmed[1]) == ("search", "suggest", "confirm")
    assert trained[0] == confirmed[0] != before[0]


@pytest.mark.slow
def test_seeds_that_confirm_left_of_a_kernel_pick_as_one_model(plates: Path, tmp_path: Path) -> None:
    """They differ in their last bits: several would not be conditioned, and be drawn from as if they differed."""
    folder, kernel = tmp_path / "copy", "studies/experiment/both-kernel.yaml"
    shutil.copytree(plates, folder)
    words = ((), ("--acquisition", "thompson"), ("--acquisition", "thompson", "--train"))
    before = []
    for more in words:
        suggest(folder, *more, experiment=kernel)
        before.append(plate_of(folder))
    assert [one[1] for one in before] == ["suggest", "search", "suggest"]
    answer = run_here("confirm", kernel, "--seeds", "2", cwd=folder)
    assert answer.status == 0, answer
    for more, (table, made_by) in zip(words, before, strict=True):
        assert TRAINED not in suggest(folder, *more, experiment=kernel).err
        assert plate_of(folder) == (table, "confirm" if made_by == "suggest" else made_by)
    assert "Picked by greedy" in suggest(folder, "--no-train", experiment=kernel).out
    assert plate_of(folder)[1] == "confirm"
    # Nor do they predict as several, which would be sure of everything.
    assert len(list((folder / kernel).with_suffix("").glob("seed*"))) == 2
    assert search.load_experiment(folder / kernel).n_members == 1
    answer = run_here("confirm", kernel, "--seeds", "1", cwd=folder)
    assert answer.status == 0, answer
    assert "Picked by greedy" in suggest(folder, "--no-train", experiment=kernel).out


@pytest.mark.parametrize("others", [(), ("studies/experiment/both-ridge.yaml",)])
@pytest.mark.parametrize("anew", [EXPERIMENT, "studies/experiment/both-ensemble.yaml"])
def test_an_experiment_that_is_exported_anew_meanwhile_gives_no_plate(
    anew: str, others: tuple[str, ...], plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plate would be of the one export, and say that it is of the other, which may have other members."""
    folder = tmp_path / "copy"
    shutil.copytree(plates, folder)
    known, train = load_experiment(folder / anew), search.suggestion.retrained.trained_run

    def exported_meanwhile(*given: object, **named: object) -> object:
        found = train(*given, **named)  # type: ignore[arg-type]
        freeze(replace(known, provenance=replace(known.provenance, date="2001-01-01")), folder / EXPERIMENT)
        return found

    monkeypatch.setattr("search.suggestion.retrained.trained_run", exported_meanwhile)
    words = ("--mutagenesis", "singles", "--batch", "8", "--output", "anew.csv", "--figure", "anew.svg", "--quiet")
    refusal = run_here("suggest", EXPERIMENT, *others, *words, cwd=folder).refusal()
    assert f"{EXPERIMENT} was exported anew meanwhile" in refusal
    assert not list(folder.glob("anew.*"))


@pytest.mark.parametrize("others", [(), ("studies/experiment/both-kernel.yaml",)])
def test_a_file_of_candidates_is_read_before_models_are_trained(
    others: tuple[str, ...], plates: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(plates, folder)
    write(folder / "c.csv", "sequence", [(WILD_TYPE,), (WILD_TYPE[:-1] + "1",)])
    answer = run_here(
        "suggest", EXPERIMENT, *others, "--input", "c.csv", "--batch", "8", "--output", "x.csv", cwd=folder
    )
    assert (answer.status, answer.out) == (2, "")
    assert "c.csv, line 3" in answer.err
    assert TRAINED not in answer.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--mutagenesis", "sites:999"), "The site 999 is outside of the wild type"),
        (("--mutagenesis", "singles", "--acquisition", "batch-ucb"), "is of a single kernel that sees sequences alone"),
        (("--mutagenesis", "singles", "--embeddings", "no.npz"), "sees no embeddings"),
        (("--mutagenesis", "singles", "--zero-shot-file", "no.csv"), "was trained without scores"),
        (("--mutagenesis", "singles", "--alignment", "no.a2m"), "was trained without scores"),
    ],
)
def test_what_can_be_refused_at_once_is_refused_before_models_are_trained(
    words: tuple[str, ...], sentence: str, plates: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(plates, folder)
    answer = run_here("suggest", EXPERIMENT, *words, "--batch", "8", "--output", "x.csv", cwd=folder)
    assert (answer.status, answer.out) == (2, "")
    assert sentence in answer.err
    assert TRAINED not in answer.err
    assert not (folder / "runs" / "cache" / "suggest").exists()


def test_the_callers_own_random_numbers_go_on(plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(plates, folder)
    monkeypatch.chdir(folder)

    def drawn(*, predicts: bool) -> list[tuple[float, float, float]]:
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        found = []
        for _ in range(2):
            if predicts:
                search.load_experiment(EXPERIMENT).predict([WILD_TYPE])
                search.suggest(EXPERIMENT, batch=4, mutagenesis="singles", quiet=True)
            found.append((random.random(), np.random.random(), float(torch.rand(()))))
        return found

    assert drawn(predicts=True) == drawn(predicts=False)


def test_the_caller_keeps_its_threads(plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(plates, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        search.predict(EXPERIMENT, [WILD_TYPE])
        search.suggest(EXPERIMENT, batch=4, mutagenesis="singles", quiet=True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_models_are_kept_and_trained_again_where_they_were_changed(plates: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(plates, folder)
    assert TRAINED in suggest(folder).err
    first = plate_of(folder)
    assert TRAINED not in suggest(folder, "--seed", "1").err
    assert plate_of(folder)[0] == first[0]
    (weights,) = (folder / "runs" / "cache" / "suggest").rglob("*.safetensors")
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 255
    weights.write_bytes(bytes(damaged))
    assert TRAINED in suggest(folder).err
    assert plate_of(folder) == first
    shutil.rmtree(folder / "runs" / "cache" / "suggest")
    assert TRAINED in suggest(folder).err
    assert plate_of(folder) == first


def test_thompson_draws_from_the_models_of_the_search_unless_it_is_asked_to_train(plates: Path) -> None:
    assert TRAINED not in suggest(plates, "--acquisition", "thompson").err
    drawn = plate_of(plates)
    assert drawn[1] == "search"
    suggest(plates, "--acquisition", "thompson", "--no-train")
    assert plate_of(plates) == drawn
    suggest(plates, "--acquisition", "thompson", "--train")
    assert plate_of(plates)[1] == "suggest"
    assert plate_of(plates)[0] != drawn[0]


def test_each_member_of_an_ensemble_is_trained(plates: Path) -> None:
    path = "studies/experiment/both-ensemble.yaml"
    members = search.load_experiment(plates / path).n_members
    answer = suggest(plates, "--acquisition", "ucb", experiment=path)
    n = answer.err.count(f", {TRAINED} 96 rows")
    assert n == len(list((plates / "runs/cache/suggest").glob("both-ensemble-*/member*"))) > 1
    assert members == 5 * n
    values = [float(row["acquisition"]) for row in rows_of(plates)]
    assert values == sorted(values, reverse=True)
    assert TRAINED not in suggest(plates, experiment=path).err


@pytest.mark.slow
def test_seeds_of_a_forest_pick_together(tmp_path: Path) -> None:
    """They differ, and `predict` takes their mean."""
    make_table(tmp_path)
    words = ("--model", "forest", "--n-trials", "1", "--study-name", "plates", "--quiet")
    for answer in (
        run_here(*SEARCH, *words, cwd=tmp_path),
        run_here("confirm", EXPERIMENT, "--seeds", "2", "--quiet", cwd=tmp_path),
    ):
        assert answer.status == 0, answer
    suggest(tmp_path)
    rows = rows_of(tmp_path)
    confirmed = search.load_experiment(tmp_path / EXPERIMENT)
    assert confirmed.n_members == 2
    found = confirmed.predict([row["sequence"] for row in rows])
    assert [float(row["prediction"]) for row in rows] == pytest.approx(found.tolist(), rel=1e-5)


def test_members_that_were_trained_predict_as_those_of_confirm_do(plates: Path, tmp_path: Path) -> None:
    """Both are standardised by what they predict now, of the same test sequences."""
    shutil.copytree(plates, tmp_path / "copy")
    folder, path = tmp_path / "copy", "studies/experiment/both-ensemble.yaml"
    suggest(folder, experiment=path)
    rows = rows_of(folder)
    answer = run_here("confirm", path, "--seeds", "1", "--quiet", cwd=folder)
    assert answer.status == 0, answer
    confirmed = search.load_experiment(folder / path).predict([row["sequence"] for row in rows])
    assert [float(row["prediction"]) for row in rows] == pytest.approx(confirmed.tolist(), rel=1e-5)


def test_several_properties_are_trained_each(plates: Path) -> None:
    others = ("studies/experiment/both-ridge.yaml", "studies/experiment/both-kernel.yaml")
    answer = suggest(plates, experiment=others)
    assert answer.err.count(TRAINED) == 2
    about = json.loads((plates / "plate.json").read_text())
    assert [one["weights"] for one in about["experiments"]] == ["suggest", "suggest"]
    suggest(plates, "--no-train", experiment=others)
    about = json.loads((plates / "plate.json").read_text())
    assert [one["weights"] for one in about["experiments"]] == ["search", "search"]


def test_the_last_round_is_learnt_from_before_the_next_plate(tmp_path: Path) -> None:
    """The models of a search by rounds have not seen it."""
    make_table(tmp_path, has_rounds=True)
    words = ("--model", "ridge", "--round-column", "round", "--study-name", "plates", "--quiet")
    answer = run_here(*SEARCH, *words, cwd=tmp_path)
    assert answer.status == 0, answer
    assert f"{TRAINED} 96 rows" in suggest(tmp_path).err


def test_a_network_is_trained_as_often_as_the_search_left_models_of_it(tmp_path: Path) -> None:
    make_table(tmp_path)
    words = ("trainer.max_epochs=1", "validation=kfold", "validation.n_folds=2")
    answer = run_here(*SEARCH, "--model", "cnn", "--study-name", "plates", "--quiet", *words, cwd=tmp_path)
    assert answer.status == 0, answer
    assert "(trained for 1 epoch(s), 2 seeds)" in suggest(tmp_path).err
    assert len(list((tmp_path / "runs/cache/suggest").rglob("*.safetensors"))) == 2


def test_a_kernel_is_conditioned_on_each_pick_and_other_models_pick_greedily(plates: Path) -> None:
    kernel = "studies/experiment/both-kernel.yaml"
    assert "Picked by batch-ucb: 24 candidates" in suggest(plates, experiment=kernel).out
    first = plate_of(plates)
    about = json.loads((plates / "plate.json").read_text())["choice"]
    assert (about["acquisition"], about["beta"]) == ("batch-ucb", 1.0)
    rows = rows_of(plates)
    sums = [float(row["acquisition"]) for row in rows]
    assert sums == sorted(sums, reverse=True)
    assert all(one > float(row["prediction"]) for one, row in zip(sums, rows, strict=True))
    suggest(plates, "--acquisition", "batch-ucb", "--beta", "1", experiment=kernel)
    assert plate_of(plates) == first
    # Without deviations it is what greedy picks.
    suggest(plates, "--acquisition", "batch-ucb", "--beta", "0", experiment=kernel)
    plain = [row["sequence"] for row in rows_of(plates)]
    suggest(plates, "--acquisition", "greedy", experiment=kernel)
    assert plain == [row["sequence"] for row in rows_of(plates)] != [row["sequence"] for row in rows]
    for words in (("--no-train",), ("--spread",)):
        assert "Picked by greedy: 24 candidates" in suggest(plates, *words, experiment=kernel).out
    assert "Picked by greedy: 24 candidates" in suggest(plates).out


def test_a_kernel_that_cannot_tell_candidates_apart_is_said(plates: Path) -> None:
    """The sums of a conditioned batch differ, because each pick makes the kernel surer of the next one."""
    words = ("--mutagenesis", "sites:1", "--batch", "5", "--output", "plate.csv")
    answer = run_here("suggest", "studies/experiment/both-kernel.yaml", *words, cwd=plates)
    assert answer.status == 0, answer
    assert "Picked by batch-ucb" in answer.out
    rows = rows_of(plates)
    assert len({row["prediction"] for row in rows}) == 1 < len({row["acquisition"] for row in rows})
    assert f"5 of 5 candidates come out alike, at {float(rows[0]['prediction']):.4g}: the model" in answer.out


def test_what_ends_the_drawing_leaves_no_plate(plates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.suggestion.suggest.draw_plate", interrupted)
    monkeypatch.setattr("search.suggestion.next_plate._draw", interrupted)
    words = ("--mutagenesis", "singles", "--batch", "5", "--output", "none.csv", "--figure", "none.html")
    for experiments in ((EXPERIMENT,), (EXPERIMENT, "studies/experiment/both-kernel.yaml")):
        answer = run_here("suggest", *experiments, *words, cwd=plates)
        assert (answer.status, answer.out) == (130, "")
        assert "Interrupted: no plate was written." in answer.err
        assert not list(plates.glob("none.*"))


def test_a_conditioned_batch_keeps_to_what_is_asked_of_it_and_candidates_pass_again(
    plates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, words = "studies/experiment/both-kernel.yaml", ("--max-per-position", "2")
    suggest(plates, *words, experiment=kernel)
    whole = [row["sequence"] for row in rows_of(plates)]
    assert max(Counter(row["mutations"][1:-1] for row in rows_of(plates)).values()) == 2
    monkeypatch.setattr("search.suggestion.suggest.SPREAD_POOL", 5)
    monkeypatch.setattr("search.suggestion.suggest._POOL_PER_PICK", 0)
    suggest(plates, *words, "--figure", "figure.html", experiment=kernel)
    assert len(rows_of(plates)) == len(set(whole)) == 24
    # Those of a later pass are drawn, too.
    page = (plates / "figure.html").read_text()
    assert "24 candidates of the batch, and the best" in page
    assert all(f'"{row["mutations"]}"' in page for row in rows_of(plates))
    assert max(Counter(row["mutations"][1:-1] for row in rows_of(plates)).values()) == 2


def test_models_that_cannot_be_conditioned_are_refused(plates: Path) -> None:
    given = ("suggest", EXPERIMENT, "--mutagenesis", "singles", "--batch", "4", "--output", "plate.csv")
    refusal = run_here(*given, "--acquisition", "batch-ucb", "--quiet", cwd=plates).refusal()
    assert "is of a single kernel that sees sequences alone, and" in refusal
    refusal = run_here(*given, "--acquisition", "batch-ucb", "--spread", cwd=plates).refusal()
    assert "both keep a batch apart" in refusal
    refusal = run_here(*given[:-4], "--batch", "2000", *given[-2:], "--acquisition", "batch-ucb", cwd=plates).refusal()
    assert "at most 1,000 wells" in refusal


def test_python_trains_too_and_refuses_what_is_no_answer(plates: Path) -> None:
    given = {"batch": 24, "mutagenesis": "singles", "quiet": True, "runs_dir": plates / "runs"}
    given |= {"data": plates / "t.csv"}
    suggest(plates)
    rows = rows_of(plates)
    found = search.suggest(plates / EXPERIMENT, **given)
    assert [well.sequence for well in found.candidates] == [row["sequence"] for row in rows]
    with pytest.raises(UserError, match="train='yes' is not valid: expected True, False or None"):
        search.suggest(plates / EXPERIMENT, **given, train="yes")
