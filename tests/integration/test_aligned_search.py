"""Searches on aligned sequences with gaps, from the table to ranked candidates."""

import csv
import io
import random
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import search
from datasets.common.errors import UserError
from tests.helpers.answers import run_here
from tests.helpers.tables import write

WILD_TYPE = "MKTAYIAK-QISFVKSHFS"
SITES = {2: "TA-", 5: "IV-", 8: "-GA", 13: "VL", 17: "FY-"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in which a deletion at column 3 adds 3, and an insertion of G at column 9 takes 2."""
    folder = tmp_path_factory.mktemp("aligned")
    draws, rows = random.Random(1), {WILD_TYPE: 0.0}
    while len(rows) < 80:
        one = list(WILD_TYPE)
        for site in draws.sample(list(SITES), draws.randint(1, 3)):
            one[site] = draws.choice(SITES[site])
        rows["".join(one)] = 3 * (one[2] == "-") - 2 * (one[8] == "G") + (one[13] == "L") + draws.gauss(0, 0.01)
    write(folder / "t.csv", "sequence,target", [(one, f"{value:.4f}") for one, value in rows.items()])
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE.replace('-', '')}\n")
    (folder / "c.csv").write_text(
        "sequence\n" + "\n".join([WILD_TYPE, "MK-AYIAK-QISFVKSHFS", "MKTAYIAKGQISFVKSHFS", "MKTAYIAK-QISFL-SHFS"])
    )
    (folder / "m.csv").write_text("mutations\nWT\nT3-\n-9G\nV14L:K15-\n")
    return folder


def searched(folder: Path, model: str, *words: str, name: str) -> str:
    given = ("--data", "t.csv", "--wild-type", "wt.fasta", "--split", "random", "--model", model, "--n-trials", "1")
    answer = run_here(*given, *words, "trainer.threads=1", "validation=holdout", "--study-name", name, cwd=folder)
    assert answer.status == 0, answer
    return f"studies/experiment/{name}.yaml"


def ranked(folder: Path, export: str, *words: str) -> list[dict[str, str]]:
    answer = run_here("predict", export, *words, cwd=folder)
    assert answer.status == 0, answer
    return list(csv.DictReader(io.StringIO(answer.out)))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("ridge", ("model.alpha=0.01",)),
        ("kernel", ("model.similarity=blosum62",)),
        pytest.param("forest", ("model.kind=extra_trees",), marks=pytest.mark.slow),
        ("epistasis", ("trainer.max_epochs=3",)),
        ("cnn", ("trainer.max_epochs=3", "model.channels=8")),
    ],
)
def test_every_family_tells_the_gap_apart(model: str, words: tuple[str, ...], folder: Path) -> None:
    export = searched(folder, model, *words, name=model)
    rows = ranked(folder, export, "--input", "c.csv")
    again = ranked(folder, export, "--input", "m.csv")
    assert [row["prediction"] for row in rows] == [row["prediction"] for row in again]
    assert rows[0]["distance"] in ("0", "1")
    assert [row["outside"] for row in rows[:3]] in ([""] * 3, ["range"] * 3)
    assert "positions" in rows[3]["outside"]
    values = [float(row["prediction"]) for row in rows]
    assert values[1] != values[0] != values[2]
    if model != "cnn":  # which learns little in three epochs
        assert values[1] > values[0] + 1 > values[2] + 2
    # From Python the same.
    loaded = search.load_experiment(folder / export)
    assert np.allclose(loaded.predict([WILD_TYPE, "MK-AYIAK-QISFVKSHFS"]), values[:2], atol=1e-4)
    with pytest.raises(UserError, match="has 18 columns, and the aligned sequences"):
        loaded.predict([WILD_TYPE.replace("-", "")])


def test_deletions_in_a_column_of_mutations_are_the_same_search(folder: Path) -> None:
    with (folder / "t.csv").open(newline="") as file:
        rows = [(row["sequence"], row["target"]) for row in csv.DictReader(file) if row["sequence"][8] == "-"]
    rows = [(one.replace(WILD_TYPE[7:10], "KQ"), target) for one, target in rows]  # without the column of insertions
    protein = WILD_TYPE.replace("-", "")
    answers = []
    for kind in ("sequence", "mutant"):
        own = folder / kind
        own.mkdir()
        (own / "wt.fasta").write_text(f">wt\n{protein}\n")
        named = [
            ":".join(f"{a}{i}{b}" for i, (a, b) in enumerate(zip(protein, one, strict=True), 1) if a != b) or "WT"
            for one, _ in rows
        ]
        cells = [one for one, _ in rows] if kind == "sequence" else named
        write(own / "t.csv", f"{kind},target", list(zip(cells, (target for _, target in rows), strict=True)))
        (own / "c.csv").write_text("mutations\nWT\np.Thr3del\nV13_K14del\nT3-:V13L\n")
        export = searched(own, "ridge", name="same")
        answers.append(ranked(own, export, "--input", "c.csv"))
    assert answers[0] == answers[1]
    assert float(answers[0][1]["prediction"]) > float(answers[0][0]["prediction"]) + 1
    words = ("--input", "c.csv", "--batch", "2", "--output", "plate.csv")
    answer = run_here("suggest", "studies/experiment/same.yaml", *words, cwd=folder / "mutant")
    assert answer.status == 0, answer
    assert "3 were measured already and are left out" in answer.out
    own = folder / "mutant"
    # A protein has several names: T3A:A4- is T3-, which was measured; of S15H:H16- and S15- one is picked.
    write(own / "twins.csv", "mutations", [(one,) for one in ("T3A:A4-", "S15H:H16-", "S15-", "S15-:H16S", "H16-")])
    for others in ((), (searched(own, "kernel", name="second"),)):
        words = ("--input", "twins.csv", "--batch", "5", "--output", "plate.csv")
        answer = run_here("suggest", "studies/experiment/same.yaml", *others, *words, cwd=own)
        assert answer.status == 0, answer
        assert "1 were measured" in answer.out
        with (own / "plate.csv").open(newline="") as file:
            bare = sorted(row["sequence"].replace("-", "") for row in csv.DictReader(file))
        assert bare == sorted({protein[:14] + protein[15:], protein[:15] + protein[16:]}), others
    lines = [line for line in (own / "t.csv").read_text().splitlines() if "-," not in line and "-:" not in line]
    (own / "t.csv").write_text("\n".join(lines))
    other = searched(own, "ridge", name="gapless")
    both = ("predict", "studies/experiment/same.yaml", other)
    refusal = run_here(*both, "--input", "c.csv", "--no-distance", cwd=own).refusal()
    assert "are of sequences that are aligned in 18 columns and sequences that are without gaps" in refusal
    refusal = run_here(*both[:2], "--input", "c.csv", other, cwd=own).refusal()
    assert "name all experiments one behind another" in refusal


def test_weights_have_room_for_the_gap_and_those_of_other_tables_have_none(folder: Path) -> None:
    export = Path(folder, searched(folder, "ridge", name="shapes"))
    (weights,) = export.with_suffix("").glob("*.safetensors")
    with safe_open(weights, framework="numpy") as file:
        assert file.get_tensor("weight").shape == (19, 24)
    plain = folder / "plain"
    plain.mkdir()
    rows = (folder / "t.csv").read_text().replace("-", "A").splitlines()
    (plain / "t.csv").write_text("\n".join([rows[0], *rows[1:]]).replace(",A", ",-"))
    answer = run_here(
        *("--data", "t.csv", "--split", "random", "--model", "ridge", "--n-trials", "1", "--study-name", "ridge"),
        *("trainer.threads=1", "validation=holdout"),
        cwd=plain,
    )
    assert answer.status == 0, answer
    (weights,) = (plain / "studies" / "experiment" / "ridge").glob("*.safetensors")
    with safe_open(weights, framework="numpy") as file:
        assert file.get_tensor("weight").shape == (19, 23)
    assert "aligned_length" not in (plain / "studies" / "experiment" / "ridge.yaml").read_text()


def test_map_and_next_plate_of_an_alignment(folder: Path) -> None:
    export = searched(folder, "kernel", "model.similarity=blosum62", name="mapped")
    answer = run_here("predict", export, "--mutagenesis", "singles", "--figure", "map.html", cwd=folder)
    assert answer.status == 0, answer
    assert "-9" in (folder / "map.html").read_text()
    rows = ranked(folder, export, "--mutagenesis", "sites:3,9", "--top", "400")
    assert "T3A:-9G" in {row["mutations"] for row in rows}
    words = ("--recombine", "--max-mutations", "5", "--batch", "3", "--controls", "2", "--output", "plate.csv")
    answer = run_here("suggest", export, *words, cwd=folder)
    assert answer.status == 0, answer
    with (folder / "plate.csv").open(newline="") as file:
        plate = list(csv.DictReader(file))
    assert WILD_TYPE in {row["sequence"] for row in plate}
    assert {len(row["sequence"]) for row in plate} == {19}


def test_embeddings_are_of_sequences_without_gaps(folder: Path) -> None:
    with (folder / "t.csv").open(newline="") as file:
        sequences = {row["sequence"].replace("-", "") for row in csv.DictReader(file)}
    others = {"MKTAYIAKQISFVKSHFS", "MKAYIAKQISFVKSHFS", "MKTAYIAKGQISFVKSHFS", "MKTAYIAKQISFLSHFS"}
    random_state = np.random.default_rng(0)
    of = {residue: random_state.normal(size=4).astype(np.float32) for residue in "ACDEFGHIKLMNPQRSTVWY"}
    arrays = {one: np.stack([of[residue] for residue in one]) for one in sorted(sequences | others)}
    np.savez(folder / "e.npz", **arrays)
    for pooling in ("mean", "mutation_mean", "attention"):
        words = ("--embeddings", "e.npz", f"model.pooling={pooling}", "trainer.max_epochs=2")
        export = searched(folder, "embeddings", *words, name=f"head-{pooling}")
        values = [row["prediction"] for row in ranked(folder, export, "--input", "c.csv")]
        assert len(set(values)) == 4
