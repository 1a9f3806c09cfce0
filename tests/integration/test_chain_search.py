"""Searches on proteins of two chains, from the table to ranked candidates and the next plate."""

import csv
import io
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import search
from datasets.alignments.names import NAMES
from datasets.common.errors import UserError
from datasets.common.files import file_hash
from datasets.scores.description import ScoreConfig, ScoreSource
from datasets.scores.score_set import ScoreSet
from datasets.sequences.chains import Chains
from tests.helpers.answers import run_here
from tests.helpers.tables import write

HEAVY, LIGHT = "EVQLVESGG", "DIQMTQSP"
SITES = [(0, 1, "VAD"), (0, 4, "VL"), (0, 8, "GA"), (1, 2, "QE"), (1, 5, "QAN")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in two columns, in which D at H2 adds 3 and N at L6 takes 2."""
    folder = tmp_path_factory.mktemp("chains")
    draws, rows = random.Random(1), {(HEAVY, LIGHT): 0.0}
    while len(rows) < 50:
        pair = [list(HEAVY), list(LIGHT)]
        for chain, site, residues in draws.sample(SITES, draws.randint(1, 4)):
            pair[chain][site] = draws.choice(residues)
        heavy, light = map("".join, pair)
        rows[heavy, light] = 3 * (heavy[1] == "D") - 2 * (light[5] == "N") + draws.gauss(0, 0.01)
    write(folder / "t.csv", "heavy,light,target", [(*pair, f"{value:.4f}") for pair, value in rows.items()])
    (folder / "wt.fasta").write_text(f">heavy\n{HEAVY}\n>light\n{LIGHT}\n")
    gapped = "".join(f"{HEAVY[:6]}-{HEAVY[7:]},{LIGHT[:i]}-{LIGHT[i + 1 :]},{i}\n" for i in (2, 5, 7))
    (folder / "gaps.csv").write_text((folder / "t.csv").read_text() + gapped)
    (folder / "spare.csv").write_text((folder / "t.csv").read_text() + f"{HEAVY},AIQMTQSP,n.d.\n")
    (folder / "c.csv").write_text(f"light,heavy\n{LIGHT},{HEAVY}\n{LIGHT},EDQLVESGG\nDIQMTNSP,{HEAVY}\n")
    (folder / "c.txt").write_text(f"{HEAVY}|{LIGHT}\nEDQLVESGG:{LIGHT}\n{HEAVY} / DIQMTNSP\n")
    (folder / "m.txt").write_text("WT\nH:V2D\nL:Q6N\n")
    return folder


def searched(folder: Path, model: str, *words: str, data: str = "t.csv", name: str) -> str:
    given = ("--data", data, "--sequence-column", "heavy", "--sequence-column", "light", "--split", "random")
    more = (
        "--wild-type",
        "wt.fasta",
        "--model",
        model,
        "--n-trials",
        "1",
        *words,
        "trainer.threads=1",
        "validation=holdout",
    )
    answer = run_here(*given, *more, "--study-name", name, cwd=folder)
    assert answer.status == 0, answer
    return f"studies/experiment/{name}.yaml"


def ranked(folder: Path, export: str, *words: str) -> list[dict[str, str]]:
    answer = run_here("predict", export, *words, cwd=folder)
    assert answer.status == 0, answer
    return list(csv.DictReader(io.StringIO(answer.out)))


def test_candidates_are_ranked_however_their_chains_are_written(folder: Path) -> None:
    export = searched(folder, "ridge", name="ranked")
    rows = [ranked(folder, export, "--input", name) for name in ("c.csv", "c.txt", "m.txt")]
    values = [float(row["prediction"]) for row in rows[0]]
    assert values[1] > values[0] + 1 > values[2] + 2
    assert [[row["prediction"] for row in some] for some in rows[1:]] == [[row["prediction"] for row in rows[0]]] * 2
    assert rows[0][1]["sequence"] == rows[1][1]["sequence"] == f"EDQLVESGG|{LIGHT}"
    named = ("--sequence-column", "heavy", "--sequence-column", "light")
    assert ranked(folder, export, "--input", "c.csv", *named) == rows[0]
    (folder / "unnamed").write_bytes((folder / "c.csv").read_bytes())  # as standard input, which has no name
    assert ranked(folder, export, "--input", "unnamed") == rows[0]
    loaded = search.load_experiment(folder / export)
    assert loaded.predict([f"{HEAVY}|{LIGHT}", f"EDQLVESGG:{LIGHT}"]).tolist() == pytest.approx(values[:2], abs=1e-4)
    with pytest.raises(UserError, match="the sequence has 1 chain, expected 2"):
        loaded.predict([HEAVY + LIGHT])
    # A sequence keeps the sign between its chains as FASTA too, which is a file of candidates again.
    assert run_here("predict", export, "--input", "c.csv", "--output", "x.fa", cwd=folder).status == 0
    assert f" prediction={rows[0][1]['prediction']} " in (folder / "x.fa").read_text().splitlines()[2]
    assert "mutations=" not in (folder / "x.fa").read_text()
    again = ranked(folder, export, "--input", "x.fa")
    assert [row["sequence"] for row in again] == [row["sequence"] for row in rows[0]]
    # The same split, read again from where it was written.
    (split,) = (folder / "runs" / "data").glob("t-random-*.csv")
    assert f"{HEAVY}|{LIGHT}" in split.read_text()
    assert ranked(folder, export, "--input", "c.csv", "--data", str(split)) == rows[0]


def test_the_map_and_the_plate_name_the_chain(folder: Path) -> None:
    export = searched(folder, "ridge", name="mapped")
    answer = run_here("predict", export, "--mutagenesis", "singles", "--figure", "map.html", cwd=folder)
    assert answer.status == 0, answer
    assert "V H2" in (folder / "map.html").read_text()
    best, *_ = ranked(folder, export, "--mutagenesis", "sites:H2,L6", "--top", "5")
    assert best["mutations"].startswith("H:V2D")
    words = ("--recombine", "--max-mutations", "5", "--batch", "3", "--controls", "1", "--output", "plate.csv")
    words += ("--figure", "plate.html")
    answer = run_here("suggest", export, *words, cwd=folder)
    assert answer.status == 0, answer
    with (folder / "plate.csv").open(newline="") as file:
        plate = list(csv.DictReader(file))
    assert all(len(row["sequence"].split("|")) == 2 for row in plate)
    assert any("H:" in row["mutations"] for row in plate)
    assert "|" in json.loads((folder / "plate.json").read_text())["best_measured"]["sequence"]
    page = (folder / "plate.html").read_text()
    assert "2 candidates of the batch, and the best" in page
    assert all(f'"{row["mutations"]}"' in page for row in plate if row["rank"])


def test_rows_without_a_measurement_are_candidates(folder: Path) -> None:
    export = searched(folder, "ridge", data="spare.csv", name="spare")
    (row,) = ranked(folder, export, "--unmeasured")
    assert row["sequence"] == f"{HEAVY}|AIQMTQSP"


def test_scores_of_chains_come_from_columns_and_from_files(folder: Path) -> None:
    """Those of a file by sequence, of one by mutations, and of the table itself are the same search."""
    with (folder / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = folder / "scored"
    own.mkdir()
    score = {one["heavy"] + one["light"]: round((i * 37 % 101) / 50, 3) for i, one in enumerate(rows)}
    table = [(one["heavy"], one["light"], one["target"], score[one["heavy"] + one["light"]]) for one in rows]
    write(own / "t.csv", "heavy,light,target,s", table)
    write(own / "sequences.csv", "sequence,s", [(f"{heavy}|{light}", s) for heavy, light, _, s in table])
    words = ("--data", "t.csv", "--sequence-column", "heavy", "--sequence-column", "light", "--split", "random")
    words += ("--model", "ridge", "--n-trials", "1", "trainer.threads=1", "validation=holdout", "scores.use=all")
    words += ("--wild-type", "../wt.fasta")
    of_file = ("--zero-shot-file", "sequences.csv")
    found = []
    for name, given in (("table", ("--zero-shot-column", "s")), ("file", of_file)):
        answer = run_here(*words, *given, "--study-name", name, cwd=own)
        assert answer.status == 0, answer
        export = f"studies/experiment/{name}.yaml"
        found.append(ranked(own, export, "--input", "sequences.csv", "--zero-shot-file", "sequences.csv"))
        assert run_here("verify", export, cwd=own).status == 0
    assert found[0] == found[1]
    # Single mutations by the names of their chains, whose scores are added up.
    write(own / "singles.csv", "mutations,s", [(f"H:{HEAVY[0]}1A", 1.5), (f"L:{LIGHT[0]}1A", 0.25), ("WT", 0)])
    write(own / "c.csv", "mutations", [("WT",), (f"H:{HEAVY[0]}1A:L:{LIGHT[0]}1A",)])
    call = ("--input", "c.csv", "--zero-shot-file", "singles.csv", "--sum-zero-shot")
    summed = ranked(own, "studies/experiment/file.yaml", *call)
    write(own / "c.csv", "mutations,s", [("WT", 0), (f"H:{HEAVY[0]}1A:L:{LIGHT[0]}1A", 1.75)])
    assert ranked(own, "studies/experiment/file.yaml", "--input", "c.csv") == summed
    write(own / "one.csv", "sequence,s", [(HEAVY, 1), (LIGHT, 2)])
    answer = run_here(*words, "--zero-shot-file", "one.csv", cwd=own)
    assert answer.status == 2
    assert "one.csv, line 2: the sequence has 1 chain, expected 2 (H, L), divided by '|'" in answer.err


def test_an_alignment_is_of_a_named_chain(folder: Path) -> None:
    own = folder / "aligned"
    own.mkdir()
    draws = random.Random(2)
    relatives = [HEAVY, *("".join(draws.choice((one, one, "A", "V")) for one in HEAVY) for _ in range(40))]
    (own / "heavy.a2m").write_text("".join(f">s{i}\n{one}\n" for i, one in enumerate(relatives)))
    for name in ("t.csv", "wt.fasta", "c.txt", "c.csv"):
        (own / name).write_bytes((folder / name).read_bytes())
    export = searched(own, "ridge", "--alignment", "H=heavy.a2m", "scores.use=all", name="one")
    assert run_here("verify", export, cwd=own).status == 0
    rows = ranked(own, export, "--input", "c.txt", "--no-distance")
    (own / "moved").mkdir()
    (own / "heavy.a2m").rename(own / "moved" / "h.a2m")
    assert ranked(own, export, "--input", "c.csv", "--alignment", "moved/h.a2m", "--no-distance") == rows
    # Its chain may be named as for the search; distances, and a plate, need the scores of the training data too.
    moved, plate = ("--alignment", "H=moved/h.a2m"), ("--mutagenesis", "singles", "--batch", "1", "--output", "p.csv")
    again = ranked(own, export, "--input", "c.csv", *moved)
    assert [row["prediction"] for row in again] == [row["prediction"] for row in rows]
    for experiments in ((export,), (export, export.replace("one", "two"))):
        if len(experiments) == 2:
            searched(own, "ridge", name="two")
        answer = run_here("suggest", *experiments, *plate, *moved, cwd=own)
        assert answer.status == 0, answer
    refusal = run_here("predict", export, "--input", "c.csv", "--alignment", "L=moved/h.a2m", cwd=own).refusal()
    assert "is of the chain L, and the experiment's scores are of the chain H: name that one's, H=FILE" in refusal
    refusal = run_here("suggest", *experiments, *plate, cwd=own).refusal()
    assert "put the file back where it was, or tell predict and suggest where it is now with --alignment." in refusal
    assert "put the file back where it was" in run_here("verify", export, cwd=own).refusal()
    assert "--no-distance" not in refusal
    # Without distances the candidates would lack their scores all the same.
    refusal = run_here("predict", export, "--input", "c.csv", cwd=own).refusal()
    assert refusal.endswith("tell predict and suggest where it is now with --alignment.\n")
    # What the columns hold is what the chain by itself has.
    source = ScoreSource(
        kind="alignment", file=str(own / "moved" / "h.a2m"), hash=file_hash(own / "moved" / "h.a2m"), columns=[*NAMES]
    )
    letters = np.frombuffer(f"{HEAVY}{LIGHT}EVALVESGG{LIGHT}{HEAVY}AIQMTQSP".encode(), dtype=np.uint8).reshape(3, -1)
    made = {"cache_dir": own / "cache", "announce": lambda sentence: None}
    chains = Chains.of(f"H{len(HEAVY)} L{len(LIGHT)}")
    of_both = ScoreSet(
        scores=ScoreConfig(sources=[replace(source, chain="H")], use="all"), wild_type=HEAVY + LIGHT, chains=chains
    ).score(letters, np.full(3, letters.shape[1]), **made)
    alone = ScoreSet(scores=ScoreConfig(sources=[source], use="all"), wild_type=HEAVY)
    expected = alone.score(np.ascontiguousarray(letters[:, : len(HEAVY)]), np.full(3, len(HEAVY)), **made)
    assert np.array_equal(of_both, expected)
    assert (of_both[1] != 0).all()
    assert (of_both[[0, 2]] == 0).all()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--alignment", "a.fasta"), "name its chain, as in --alignment H=a.fasta."),
        (("--alignment", "X=a.fasta"), "have several (H, L): name its chain, as in --alignment H=a.fasta."),
        (("--alignment", "H=nowhere.a2m"), "nowhere.a2m"),
        (("--alignment", "H=a.fasta", "--alignment", "L=a.fasta"), "--alignment is given twice, as 'H=a.fasta' and as"),
        (("--zero-shot", "esm"), "--zero-shot scores variants of one chain"),
    ],
)
def test_scores_of_one_chain_are_refused_in_a_sentence(words: tuple[str, ...], sentence: str, folder: Path) -> None:
    (folder / "a.fasta").write_text(f">a\n{HEAVY}\n")
    given = ("--data", "t.csv", "--sequence-column", "heavy", "--sequence-column", "light", "--split", "random")
    answer = run_here(*given, "--model", "ridge", *words, cwd=folder)
    assert answer.status == 2, answer
    assert sentence in answer.err


@pytest.mark.parametrize("pooling", ["mean", "mutation_mean", "attention"])
def test_a_language_model_sees_both_chains(pooling: str, folder: Path) -> None:
    words = ("model.pretrained=false", "model.backbone=esm2_t6_8M_UR50D", "model.representation_layer=1")
    more = ("model.adaptation=frozen", "model.fine_tune_depth=0", f"model.pooling={pooling}", "trainer.max_epochs=1")
    export = searched(folder, "esm", *words, *more, name=pooling)
    values = [row["prediction"] for row in ranked(folder, export, "--input", "c.csv", "--no-distance")]
    assert len(set(values)) == 3


@pytest.mark.parametrize("data", [pytest.param("t.csv", marks=pytest.mark.slow), "gaps.csv"])
def test_the_plate_of_several_properties_is_of_chains(data: str, folder: Path) -> None:
    name, batch = data[:-4], ("--batch", "6", "--controls", "2", "--quiet", "--output", "plate.csv")
    exports = [searched(folder, model, data=data, name=f"{name}-{model}") for model in ("ridge", "kernel")]
    (folder / "some.csv").write_text(f"heavy,light\nEDQLVESGG,{LIGHT}\nEALLVESGG,DIEMTQSP\n{HEAVY},DIEMTNSP\n")
    words = ("--mutagenesis", "doubles:H2,H5,L6", "--no-train")
    answer = run_here("suggest", *exports, *words, *batch, cwd=folder)
    assert answer.status == 0, answer
    with (folder / "plate.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["role"] for row in rows] == ["candidate"] * 4 + ["control"] * 2
    for number, export in enumerate(exports):
        column = f"prediction_{Path(export).stem.replace('-', '_')}"
        found = search.predict(folder / export, [row["sequence"] for row in rows], no_distance=True)
        assert found["sequence"] == [row["sequence"] for row in rows], number
        assert [float(row[column]) for row in rows] == pytest.approx(found["prediction"].tolist(), rel=1e-4)
    spread = run_here("suggest", exports[1], "--input", "some.csv", "--spread", *batch, cwd=folder)
    assert spread.status == 0, spread
