"""Which positions matter: what kernels found of it, in the report and from Python, and what is said where nothing is.

The searched study has 150 variants of four positions, of which position 10 decides most of the fitness.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from safetensors.numpy import save_file

import search
from datasets.tasks.registry import find_task
from datasets.tasks.synthetic import WILD_TYPE
from search.reporting.positions import Positions, find_positions
from search.study.artifacts import hash_or_missing
from search.training.relevances import read_relevances
from search.training.result import trial_folder
from tests.helpers.answers import run_here
from tests.helpers.small_study import ABOUT, record
from tests.helpers.tables import SITES, variants, write

NAME = "assay-fitness-random-kernel"
GB1 = find_task("gb1_two_vs_rest")
DECIDES = SITES[0] + 1


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("positions")
    draw = np.random.default_rng(0)
    all_of_them = variants()
    chosen = draw.permutation(len(all_of_them))[:150]
    effects = {site: draw.normal(0, 2.0 if site == SITES[0] else 0.2, 128) for site in SITES}
    rows = []
    for _, sequence, _ in (all_of_them[i] for i in chosen):
        value = sum(float(effects[site][ord(sequence[site])]) for site in SITES) + draw.normal(0, 0.1)
        rows.append((sequence, f"{value:.4f}"))
    write(folder / "assay.csv", "sequence,fitness", rows)
    (folder / "wild.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    request = search.SearchRequest(
        data=str(folder / "assay.csv"),
        split="random",
        wild_type=folder / "wild.fasta",
        model="kernel",
        n_trials=1,
        executor="inline",
        quiet=True,
        overrides=("model.relevance=true", "model.similarity=identity", "trainer.threads=1", "logger=none"),
        runs_dir=folder / "runs",
        export_dir=folder / "studies" / "experiment",
    )
    assert search.run_study(request).n_finished == 1
    return folder


@pytest.mark.slow
def test_the_report_and_python_name_the_positions_that_matter(searched: Path) -> None:
    answer = run_here("report", "--study-name", NAME, "--output", "again.html", cwd=searched)
    assert answer.status == 0, answer
    page = (searched / "again.html").read_text(encoding="utf-8")
    section = page.partition("Which positions matter")[2].partition("</section>")[0]
    assert "Trial 0 found a relevance for each of 4 positions" in section
    assert "training sequences in each of its 5 folds" in section
    cells = re.findall(r"<td>([A-Z])(\d+)</td><td>([\d.]+)</td><td>([\d.]+) to ([\d.]+)</td>", section)
    assert (cells[0][0], int(cells[0][1])) == (WILD_TYPE[DECIDES - 1], DECIDES)
    assert {int(place) for _, place, *_ in cells} == {site + 1 for site in SITES}
    assert all(float(low) <= float(value) <= float(high) for *_, value, low, high in cells)
    found = search.load_experiment(searched / "studies" / "experiment" / f"{NAME}.yaml").relevances
    assert sorted(found) == [site + 1 for site in SITES]
    assert max(found, key=lambda place: found[place]) == DECIDES
    assert [f"{found[int(place)]:.2f}" for _, place, *_ in cells] == [value for *_, value, _, _ in cells]


@pytest.mark.slow
def test_weights_that_are_elsewhere_or_were_changed_are_said_to_be(searched: Path, tmp_path: Path) -> None:
    words = ("report", "--study-name", NAME, "--storage", f"sqlite:///{searched / 'runs' / 'studies.db'}")
    # Without the runs folder the weights beside the experiment serve.
    exported = ("--export-dir", str(searched / "studies" / "experiment"))
    for given, is_found in ((exported, True), ((), False)):
        answer = run_here(*words, *given, "--runs-dir", "elsewhere", "--output", "page.html", cwd=tmp_path)
        assert answer.status == 0, answer
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert ("Trial 0 found a relevance" in page) == is_found
        assert ("have no whole weights below" in page) != is_found
    fold = trial_folder(searched / "runs" / NAME, 0) / "fold0.safetensors"
    before = fold.read_bytes()
    try:
        fold.unlink()  # a hard link of what stands beside the experiment
        fold.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert run_here(*words, "--runs-dir", str(searched / "runs"), "--output", "page.html", cwd=tmp_path).status == 0
        assert "have no whole weights below" in (tmp_path / "page.html").read_text(encoding="utf-8")
    finally:
        fold.write_bytes(before)


def test_a_model_without_relevances_has_none(finished_study: Any) -> None:
    experiment = next((finished_study.folder / "exported").glob("*.yaml"))
    assert search.load_experiment(experiment).relevances == {}


def weights(path: Path, relevance: NDArray[Any], tokens: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"relevance": relevance, "train_tokens": tokens.astype(np.uint8)}, path)
    return path


def tokens(length: int = 56, n: int = 40, *, varies: tuple[int, ...] = (38, 39, 53), seed: int = 0) -> NDArray[Any]:
    found = np.full((n, length), 3)
    found[:, list(varies)] = np.random.default_rng(seed).integers(1, 21, (n, len(varies)))
    return found


def test_folds_are_averaged_over_those_that_varied_a_position(tmp_path: Path) -> None:
    ones = np.ones(56)
    first, second = ones.copy(), ones.copy()
    first[[38, 39]], second[[38, 53]] = [4.0, 2.0], [9.0, 0.5]
    one = weights(tmp_path / "0", first, tokens(varies=(38, 39)))
    other = weights(tmp_path / "1", second, tokens(varies=(38, 53)))
    found = read_relevances([one, other], GB1, None)
    assert found is not None
    assert found.names == ["V39", "D40", "V54"]
    np.testing.assert_allclose(found.value, [6.0, 2.0, 0.5])
    np.testing.assert_allclose([found.low[0], found.high[0]], [4.0, 9.0])
    assert (found.n_members, found.n_rows, found.has_gaps) == (2, 40, False)
    assert found.order.tolist() == [0, 1, 2]


def test_positions_are_those_of_the_whole_sequence_whatever_was_cropped(tmp_path: Path) -> None:
    aav = find_task("aav_two_vs_many")
    assert aav.wild_type is not None
    some = tokens(28, varies=(0, 27))
    some[3:6, 20:] = 0  # shorter ones
    found = read_relevances([weights(tmp_path / "0", np.full(28, 2.0), some)], aav, "region")
    assert found is not None
    assert found.names[0] == f"{aav.wild_type[560]}561"
    assert found.position[-1] == 560 + 28
    assert found.has_gaps


def test_positions_are_those_of_the_whole_sequence_where_a_length_limit_cut_around_the_region(tmp_path: Path) -> None:
    start = (38 + 54 - 30) // 2  # the region is in the middle of the window
    some = tokens(30, varies=tuple(site - start for site in (38, 39, 40, 53)))
    found = read_relevances([weights(tmp_path / "0", np.full(30, 2.0), some)], GB1, "none", 30)
    assert found is not None
    assert found.names == ["V39", "D40", "G41", "V54"]


def test_rows_beyond_those_that_were_looked_at_say_nothing(tmp_path: Path) -> None:
    some = tokens(n=800, varies=(38,))
    some[790, 5] = 7
    found = read_relevances([weights(tmp_path / "0", np.full(56, 2.0), some)], GB1, None)
    assert found is not None
    assert (found.names, found.n_rows) == (["V39"], 768)


BAD = {
    "no number": np.r_[np.ones(55), np.nan],
    "infinite": np.r_[np.ones(55), np.inf],
    "zero": np.zeros(56),
    "too short": np.ones(55),
    "of two dimensions": np.ones((56, 1)),
    "of another type": np.ones(56, dtype=np.float32),
}


@pytest.mark.parametrize("relevance", list(BAD.values()), ids=list(BAD))
def test_what_others_wrote_is_no_relevance(relevance: NDArray[Any], tmp_path: Path) -> None:
    good = weights(tmp_path / "0", np.ones(56), tokens())
    assert read_relevances([good, weights(tmp_path / "1", relevance, tokens())], GB1, None) is None


def test_other_files_are_no_relevances(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("relevance")
    save_file({"dual": np.ones(3)}, tmp_path / "other")
    empty = weights(tmp_path / "empty", np.ones(56), tokens(n=0))
    for path in (tmp_path / "text", tmp_path / "other", tmp_path / "missing", tmp_path, empty):
        assert read_relevances([path], GB1, None) is None
    assert read_relevances([], GB1, None) is None


def trial(number: int, value: float, hashes: list[str] | None, *, relevance: bool) -> FrozenTrial:
    result = {**record([[value]], value=value), **({} if hashes is None else {"weight_hashes": hashes})}
    found = create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params={"model.relevance": relevance},
        distributions={"model.relevance": CategoricalDistribution([False, True])},
        user_attrs={"result": result},
    )
    found.number = number
    return found


def shown(trials: list[FrozenTrial], folder: Path, **about: Any) -> Positions | None:
    return find_positions(trials, {**ABOUT, "task": GB1.name, "model": "kernel", **about}, folder, None)


def test_the_best_trial_with_relevances_is_shown_and_a_better_one_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s"
    ranks = np.ones(56)
    ranks[[38, 39, 53]] = [2.0, 30.0, 0.1]
    kept = weights(trial_folder(folder, 1) / "fold0.safetensors", ranks, tokens())
    better, own, gone = (
        trial(0, 0.9, None, relevance=False),
        trial(1, 0.8, [hash_or_missing(kept)], relevance=True),
        trial(2, 0.85, ["sha256:" + "0" * 64], relevance=True),
    )
    found = shown([better, own, gone], folder)
    assert found is not None
    assert found.sentences[0].startswith("Trial 1 found a relevance for each of 3 positions")
    assert found.sentences[0].endswith("in its model. Trial 0, which is better, has none.")
    assert found.rows is not None
    assert [row[:2] for row in found.rows] == [["D40", "30.00"], ["V39", "2.00"], ["V54", "0.10"]]
    assert found.figure is not None
    (bars,) = found.figure.figure.data
    np.testing.assert_allclose(np.asarray(bars.base) + np.asarray(bars.y), [2.0, 30.0, 0.1])
    # Of the best trial alone nothing is said of others; of studies that sought none there is no section.
    alone = shown([own], folder)
    assert alone is not None
    assert "better, has none" not in alone.sentences[0]
    assert shown([better], folder) is None
    for nothing in ({"model.embeddings": "alone"}, {"model.sites": "additive", "model.linear_variance": 0.0}):
        assert shown([own], folder, config=nothing) is None
    missing = shown([better, gone], folder)
    assert missing is not None
    assert (missing.figure, missing.rows) == (None, None)
    assert "(the best: 2) have no whole weights below" in missing.sentences[0]
    # A task, or a crop, that there is no more.
    for about in ({"task": "gone"}, {"config": {"data.crop": "gone"}}):
        assert "no whole weights" in str(shown([own], folder, **about))


def test_relevance_that_was_fixed_counts_as_that_which_was_searched(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s"
    kept = weights(trial_folder(folder, 0) / "fold0.safetensors", np.full(56, 1.5), tokens())
    fixed = create_trial(
        state=TrialState.COMPLETE,
        value=0.5,
        user_attrs={"result": {**record([[0.5]], value=0.5), "weight_hashes": [hash_or_missing(kept)]}},
    )
    fixed.number = 0
    assert shown([fixed], folder) is None
    found = shown([fixed], folder, config={"model.relevance": True})
    assert found is not None
    assert found.rows is not None


def test_a_link_out_of_the_runs_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s"
    outside = weights(tmp_path / "outside.safetensors", np.full(56, 1.5), tokens())
    inside = trial_folder(folder, 0) / "fold0.safetensors"
    inside.parent.mkdir(parents=True)
    inside.symlink_to(outside)
    found = shown([trial(0, 0.5, [hash_or_missing(outside)], relevance=True)], folder)
    assert found is not None
    assert found.figure is None
