"""Past rounds played again: what each acquisition finds, beside the laboratory and random picks."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from search.experiments.averages import mean_of
from search.experiments.experiment import load_experiment
from search.request.inputs import load_split, places_of
from search.suggestion.replays.round_models import Retraining
from search.workers.display import Display
from search.workers.signals import Signals
from tests.helpers.answers import Answer, run_here
from tests.helpers.tables import variants, write

EXPERIMENT = "studies/experiment/rounds.yaml"
READ = ("--data", "t.csv", "--wild-type", "wt.fasta", "--round-column", "round")
SEARCH = (*READ, "--model", "kernel", "--n-trials", "1", "--study-name", "rounds", "trainer.threads=1", "--quiet")
N_ROUNDS, SIZE, FAR_ABOVE = 4, 50, 100.0


def as_text(residues: np.ndarray) -> list[str]:
    return [row.tobytes().decode() for row in residues]


@dataclass(frozen=True)
class Played:
    folder: Path
    value: dict[str, float]
    """Of each sequence that is no test data."""
    number: dict[str, int]
    """Its round."""

    def replay(self, *words: str) -> Answer:
        return run_here("suggest", EXPERIMENT, "--replay", *words, cwd=self.folder)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """A kernel of four rounds of 50 random variants; a test variant in each round is better than anything else."""
    folder = tmp_path_factory.mktemp("replay")
    every = variants()
    chosen = np.random.default_rng(3).permutation(len(every))[: N_ROUNDS * (SIZE + 1)]
    rows = []
    for place, i in enumerate(chosen.tolist()):
        number, is_test = 1 + place // (SIZE + 1), place % (SIZE + 1) == SIZE
        value = FAR_ABOVE if is_test else round(every[i][2], 4)
        rows.append((every[i][1], value, "test" if is_test else "train", number))
    write(folder / "t.csv", "sequence,target,set,round", rows)
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    answer = run_here(*SEARCH, cwd=folder)
    assert answer.status == 0, answer
    known = [row for row in rows if row[2] == "train"]
    return Played(folder, {row[0]: float(row[1]) for row in known}, {row[0]: int(row[3]) for row in known})


def test_each_round_is_played_with_what_was_known_before_it(played: Played) -> None:
    answer = played.replay("--output", "replay.csv", "--top", "10")
    assert answer.status == 0, answer
    with (played.folder / "replay.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["laboratory", "greedy", "ucb", "thompson", "expected-improvement", "random"]
    assert [(row["round"], row["picked_by"]) for row in rows] == [(k, name) for k in "23" for name in names]
    values = np.array(list(played.value.values()))
    numbers = np.array(list(played.number.values()))
    for k, row in ((int(row["round"]), row) for row in rows):
        pool, own = values[numbers >= k], values[numbers == k]
        least = np.sort(pool)[-10]
        assert (int(row["known"]), int(row["pool"])) == ((numbers < k).sum(), len(pool))
        assert int(row["picked"]) == len(own) == SIZE
        assert int(row["best"]) == (pool >= least).sum()
        assert float(row["share"]) == pytest.approx(float(row["found"]) / int(row["best"]))
        assert float(row["highest"]) <= pool.max() + 1e-6
        if row["picked_by"] == "laboratory":
            assert float(row["found"]) == (own >= least).sum()
            assert float(row["highest"]) == pytest.approx(own.max(), abs=1e-6)
        if row["picked_by"] == "random":
            assert float(row["found"]) == pytest.approx(int(row["best"]) * SIZE / len(pool))
    share = {(row["round"], row["picked_by"]): float(row["share"]) for row in rows}
    for k in "23":  # the laboratory picked at random here, and a kernel learns this landscape from 50 variants
        assert share[k, "greedy"] >= 2 * share[k, "random"]
    assert "of the best" in answer.out.splitlines()[0]
    assert "Round 4 is the last: all that is left was picked in it" in answer.out
    assert f"{N_ROUNDS} test sequences play no part" in answer.out
    assert "rather too good" in answer.out
    assert "Few rows: the shares rest on 20 best variants in 2 rounds" in answer.out
    assert "Table: replay.csv" in answer.out
    assert not list((played.folder / "runs" / "cache").glob("replay-*"))


def test_the_same_again_and_the_same_from_python(played: Played) -> None:
    first, second = played.replay("--seed", "5"), played.replay("--seed", "5")
    assert first.status == second.status == 0
    assert first.out == second.out
    given = {"data": played.folder / "t.csv", "runs_dir": played.folder / "runs", "quiet": True, "seed": 5}
    found = search.replay(played.folder / EXPERIMENT, **given)
    frame = pd.DataFrame(found.picks)
    assert frame["best"].min() >= 10
    assert set(found.shares) == set(frame["picked_by"])
    for name, share in found.shares.items():
        assert f"{name:20}  " in first.out
        assert frame[frame["picked_by"] == name]["share"].mean() == pytest.approx(share)
    assert [note for note in found.notes if note not in first.out] == []
    with pytest.raises(UserError, match="top=0 is not valid"):
        search.replay(played.folder / EXPERIMENT, top=0)
    with pytest.raises(UserError, match="--beta nan is not valid"):
        search.replay(played.folder / EXPERIMENT, beta=float("nan"))


def test_a_batch_keeps_to_what_is_asked_of_it(played: Played) -> None:
    answer = played.replay("--max-per-position", "20", "--output", "few.csv", "--quiet")
    assert answer.status == 0, answer
    assert answer.out == ""
    with (played.folder / "few.csv").open(newline="") as file:
        picked = {row["picked_by"]: int(row["picked"]) for row in csv.DictReader(file) if row["round"] == "2"}
    assert picked["laboratory"] == picked["random"] == SIZE
    assert 5 <= picked["greedy"] < SIZE


def test_a_first_round_of_few_variants_is_passed_over_in_words(tmp_path: Path) -> None:
    """Twelve variants are enough to train on, and too few for errors out of fold."""
    every = variants()
    rows = [(every[i * 7][1], round(every[i * 7][2], 4), "train", "abcd"[min(3, (i + 38) // 50)]) for i in range(150)]
    write(tmp_path / "t.csv", "sequence,target,set,round", [*rows, (every[-1][1], 0.0, "test", "a")])
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    words = ("--model", "ridge", "--n-trials", "1", "--study-name", "rounds", "trainer.threads=1", "--quiet")
    assert run_here(*READ, *words, cwd=tmp_path).status == 0
    answer = run_here("suggest", EXPERIMENT, "--replay", cwd=tmp_path)
    assert answer.status == 0, answer
    assert "Round b is not played: 12 variants were known before it, and 20 are needed" in answer.out
    assert answer.out.splitlines()[1].startswith("c ")
    assert "mean" not in answer.out.split("Highest values")[0]  # of one round


@pytest.fixture(scope="module")
def ensembles(played: Played) -> Played:
    """The same with a search of ridge: an ensemble of both, `two`, and one that is the kernel alone, `one`."""
    words = ["ridge" if word == "kernel" else "linear" if word == "rounds" else word for word in SEARCH]
    assert run_here(*words, cwd=played.folder).status == 0
    for name, studies in (("one", ("rounds",)), ("two", ("rounds", "linear"))):
        assert run_here("combine", *studies, "--export", name, cwd=played.folder).status == 0
    return played


def test_an_ensemble_of_one_is_played_as_its_config_is(ensembles: Played) -> None:
    given = {"data": ensembles.folder / "t.csv", "runs_dir": ensembles.folder / "runs", "quiet": True}
    alone = search.replay(ensembles.folder / EXPERIMENT, **given)
    found = search.replay(ensembles.folder / "studies/experiment/one.yaml", **given)
    greedy = [[pick for pick in one.picks if pick.picked_by == "greedy"] for one in (alone, found)]
    assert greedy[0] == greedy[1]
    assert "The members and their weights were chosen by a search that knew all rounds" in " ".join(found.notes)


def test_an_ensemble_of_rounds_has_the_scale_of_its_members(ensembles: Played) -> None:
    """The last round was selected: a line through it alone would miss the others."""
    for name in ("one", "two"):
        ensemble = load_experiment(ensembles.folder / f"studies/experiment/{name}.yaml").ensemble
        assert ensemble is not None
        assert ensemble.origins.schema_version == 8
        shares = [member.share for member in ensemble.members]
        assert ensemble.origins.slope == pytest.approx(sum(share.weight * share.deviation for share in shares))
        assert ensemble.origins.intercept == pytest.approx(sum(share.weight * share.mean for share in shares))
    answer = run_here("verify", "studies/experiment/two.yaml", cwd=ensembles.folder)
    assert answer.status == 0, answer
    assert "verified: ensemble: the scales of 2 members follow from what they predict" in answer.out


def test_members_are_trained_again_and_scaled_to_what_was_known(ensembles: Played) -> None:
    path, places = ensembles.folder / "studies/experiment/two.yaml", places_of(None, ensembles.folder / "runs")
    experiment = load_experiment(path)
    assert len(experiment.parts) == 2
    split = load_split(
        experiment.task(ensembles.folder / "t.csv"), None, places.cache_dir.parent, lambda sentence: None
    )
    train = Retraining(
        experiment=experiment,
        split=split,
        places=places,
        seed=0,
        display=Display(),
        signals=Signals(lambda sentence: None),
    )
    assert split.fold is not None
    rows = np.flatnonzero(split.fold >= 2)
    found = train(2, rows, ensembles.folder / "trained")
    assert found.members.shape == (10, len(rows))
    assert found.weights is not None
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights[:5] == pytest.approx(experiment.ensemble.members[0].share.weight / 5)
    apart = mean_of(found.members, found.weights) - split.target[rows]
    assert np.sqrt(np.mean(apart**2)) < 0.5 * split.target[rows].std()
    assert (found.deviation > 0).all()
    answer = run_here("suggest", str(path), "--replay", "--output", "two.csv", cwd=ensembles.folder)
    assert answer.status == 0, answer
    with (ensembles.folder / "two.csv").open(newline="") as file:
        played = [row for row in csv.DictReader(file) if row["round"] == "3"]
    values = np.array([ensembles.value[text] for text in as_text(split.residues[rows])])
    best = set(np.argsort(-mean_of(found.members, found.weights), kind="stable")[:SIZE].tolist())
    (greedy,) = (row for row in played if row["picked_by"] == "greedy")
    assert float(greedy["highest"]) == pytest.approx(max(values[list(best)]), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--batch", "9"), "leave --batch out"),
        (("--require", "activity>=1"), "leave --require out"),
        (("--mutagenesis", "singles"), "leave --mutagenesis out"),
        (("--acquisition", "batch-ucb"), "plays greedy, ucb, thompson, expected-improvement, each batch"),
        (("--controls", "2"), "leave --controls out"),
        (("--no-train",), "measured: leave --no-train out"),
        (("--output", "t.csv"), "--output t.csv is the experiment's table itself"),
        (("--output", EXPERIMENT), "expected a file that ends in .csv"),
        (("--output", "-"), "expected a file that ends in .csv"),
        (("--output", "nowhere/r.csv"), "There is no folder nowhere"),
        (("--top", "0"), "--top"),
    ],
)
def test_what_a_replay_does_not_take_is_refused(played: Played, words: tuple[str, ...], sentence: str) -> None:
    before = (played.folder / "t.csv").read_bytes()
    assert sentence in played.replay(*words).refusal()
    assert (played.folder / "t.csv").read_bytes() == before


def test_a_replay_is_of_one_experiment(played: Played) -> None:
    answer = run_here("suggest", EXPERIMENT, "other.yaml", "--replay", cwd=played.folder)
    assert answer.refusal().startswith("error: --replay is of one experiment: leave other.yaml out")


def test_a_plate_still_asks_for_its_batch_and_its_file(played: Played) -> None:
    asked = run_here("suggest", EXPERIMENT, "--mutagenesis", "singles", cwd=played.folder).refusal()
    assert "required: --batch, --output" in asked
    words = ("--mutagenesis", "singles", "--batch", "9", "--output", "p.csv", "--top", "3")
    assert (
        "--top is how many of the best a --replay looks for"
        in run_here("suggest", EXPERIMENT, *words, cwd=played.folder).refusal()
    )


def test_what_has_no_rounds_to_play_is_refused_in_a_sentence(played: Played, tmp_path: Path) -> None:
    lines = (played.folder / "t.csv").read_text().splitlines()
    two = [lines[0], *(line[:-1] + ("1" if line[-1] in "12" else "2") for line in lines[1:])]
    (tmp_path / "t.csv").write_text("\n".join(two) + "\n")
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    assert run_here(*SEARCH, cwd=tmp_path).status == 0
    refusal = run_here("suggest", EXPERIMENT, "--replay", cwd=tmp_path).refusal()
    assert "has 2 rounds outside of its test data, and --replay needs three" in refusal
    words = [word for word in SEARCH if word not in ("--round-column", "round")]
    words[words.index("rounds")] = "plain"
    assert run_here(*words, cwd=tmp_path).status == 0
    refusal = run_here("suggest", "studies/experiment/plain.yaml", "--replay", cwd=tmp_path).refusal()
    assert "knows no rounds, which --replay plays again" in refusal
