"""Score columns: read from tables and files, looked up by sequence, chosen by name, judged on training rows."""

from pathlib import Path

import numpy as np
import pytest

from datasets.candidates.candidates import residues_of
from datasets.common.errors import UserError
from datasets.common.files import named_hash
from datasets.scores.candidates import CandidateScores, Summed
from datasets.scores.description import ScoreConfig, ScoreSource
from datasets.scores.judge import described, refuse_derived, worths
from datasets.scores.keyed import read_scores_file
from datasets.scores.score_set import ScoreSet, table_scores
from search.request.user_data import file_source
from tests.helpers.tables import surveyed, table, write

WILD_TYPE = "MKVLA"
HASH = "0" * 64


def source(path: Path, *columns: str) -> ScoreSource:
    return ScoreSource(kind="file", file=str(path), hash=named_hash(path, "scores"), columns=list(columns))


def scored(found, *sequences: str) -> list[list[float]]:
    return found.score(*residues_of(sequences, str)).tolist()


def test_a_file_by_sequence_and_one_by_mutations_say_the_same(tmp_path: Path) -> None:
    by_sequence = write(tmp_path / "a.csv", "sequence,esm,conservation", [("MKVLA", 0, 1), ("MAVLA", -1.5, 2)])
    by_mutations = write(tmp_path / "b.tsv", "mutant\tesm\tconservation", [("WT", 0, 1), ("K2A", -1.5, 2)])
    for path in (by_sequence, by_mutations):
        found = read_scores_file(path, None, WILD_TYPE)
        assert found.names == ("esm", "conservation")
        assert scored(found, "MAVLA", "MKVLA") == [[-1.5, 2], [0, 1]]
        assert np.isnan(scored(found, "MMMMM")).all()


@pytest.mark.parametrize("cell", ["", " ", "NA", "nan", "NaN", "None", "-", "#N/A", "n.d."])
def test_an_empty_cell_is_a_missing_score(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm", [("MKVLA", 1), ("MAVLA", 2), ("MRVLA", cell)])
    assert np.isnan(scored(read_scores_file(path, ["esm"], None), "MRVLA")).all()


@pytest.mark.parametrize(
    ("rows", "names", "says"),
    [
        ([("MKVLA", "high"), ("MAVLA", 2)], ["esm"], "line 2: the score 'high' of 'esm' is not a finite number"),
        ([("MKVLA", "inf"), ("MAVLA", 2)], ["esm"], "line 2: the score 'inf' of 'esm' is not a finite number"),
        ([("MKVLA", "1_0"), ("MAVLA", 2)], ["esm"], "line 2: the score '1_0'"),
        ([("MKVLA", 1), ("MKVLA", 2)], ["esm"], "lines 2 and 3: one sequence has two different scores"),
        ([("MKVLA", 1), ("MAVLA", 2)], ["esn"], "has no score column 'esn'"),
    ],
)
def test_what_is_no_column_of_scores_is_one_sentence(tmp_path: Path, rows, names, says: str) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm", rows)
    with pytest.raises(UserError, match=says) as caught:
        read_scores_file(path, names, WILD_TYPE)
    assert str(caught.value).count("\n") == 0


def test_a_column_of_numbers_with_a_word_in_it_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    rows = [("MKVLA", 1, 5, "a"), ("MAVLA", "1.2.3", 6, "b"), ("MRVLA", 3, "", "7")]
    path = write(tmp_path / "a.csv", "sequence,esm,evo,plate", rows)
    said: list[str] = []
    assert file_source(path, [], WILD_TYPE, announce=said.append).columns == ["evo"]
    (sentence,) = said
    assert "column 'esm' is passed over" in sentence
    assert "line 3: the score '1.2.3' of 'esm' is not a finite number" in sentence


def test_sequences_are_read_as_a_table_reads_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm", [("mk.la*", 1), ("MK-LA", ""), ("M*VLA", 3), ("M*VLA", 4)])
    found = read_scores_file(path, None, WILD_TYPE)
    assert set(found.rows) == {b"MK-LA"}
    residues, lengths = residues_of(["MK.LA"], str, 5)
    assert found.score(residues, lengths).tolist() == [[1]]


def test_stop_codons_among_mutations_are_of_no_variant(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "mutant,esm", [("K2*", -9), ("K2A", 1), ("p.Val3Ter", -8), ("K2R", 1), ("K2N", 2)])
    assert set(read_scores_file(path, None, WILD_TYPE).rows) == {b"MAVLA", b"MRVLA", b"MNVLA"}


def test_a_variant_has_the_first_score_that_its_rows_have(tmp_path: Path) -> None:
    rows = [("MKVLA", 1, "", 5), ("MAVLA", 2, 7, 6), ("MKVLA", 3, 8, ""), ("MKVLA", 4, 9, 5)]
    path = write(tmp_path / "a.csv", "sequence,fitness,esm,evo", rows)
    for loaded in (None, surveyed(path)):
        found = table_scores(table(path), path, ["esm", "evo"], loaded)
        assert scored(found, "MKVLA", "MAVLA") == [[8, 5], [7, 6]]
    one = write(tmp_path / "b.csv", "sequence,esm", [("MKVLA", ""), ("MKVLA", 8), ("MAVLA", 7)])
    assert scored(read_scores_file(one, None, None), "MKVLA", "MAVLA") == [[8], [7]]


@pytest.mark.parametrize(("cell", "says"), [("2", "is 2 everywhere"), ("", "is empty")])
def test_a_search_refuses_a_column_that_tells_nothing(tmp_path: Path, cell: str, says: str) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm", [("MKVLA", cell), ("MAVLA", cell)])
    with pytest.raises(UserError, match=f"'esm' {says}, so it tells nothing"):
        file_source(path, ["esm"], WILD_TYPE)


def test_candidates_may_all_have_one_score(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm", [("MAVLA", 2)])
    assert scored(read_scores_file(path, ["esm"], WILD_TYPE), "MAVLA") == [[2]]


def test_mutations_need_a_wild_type_and_its_residues(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "mutant,esm", [("K2A", 1), ("V3A", 2)])
    with pytest.raises(UserError, match="need the wild type"):
        read_scores_file(path, None, None)
    with pytest.raises(UserError, match="line 2: 'K2A' names K at position 2, where the wild type has A"):
        read_scores_file(path, None, "MAVLA")
    nothing = write(tmp_path / "b.csv", "code,esm", [("x", 1), ("y", 2)])
    with pytest.raises(UserError, match="no column of sequences or mutations"):
        read_scores_file(nothing, None, WILD_TYPE)


def test_columns_are_chosen_by_name() -> None:
    one = ScoreSource(kind="table", file=None, hash=HASH, columns=["a", "b"])
    other = ScoreSource(kind="file", file="x.csv", hash=HASH, columns=["c"])
    made = {use: ScoreConfig(sources=[one, other], use=use).used for use in ("all", "none", "b", "c,a")}
    assert made == {"all": [0, 1, 2], "none": [], "b": [1], "c,a": [0, 2]}
    assert ScoreConfig(sources=[one, other], use="all").choices == ["none", "a", "b", "c", "all"]
    with pytest.raises(UserError, match="'d' is no score column"):
        ScoreConfig(sources=[one], use="a,d")
    with pytest.raises(UserError, match="'a' has a name that is taken"):
        ScoreConfig(sources=[one, one], use="all")


@pytest.mark.parametrize(
    "fields",
    [
        {"hash": "abc"},
        {"columns": []},
        {"columns": ["a,b"]},
        {"columns": ["${oc.env:HOME}"]},
        {"file": "${oc.env:HOME}.csv"},
        {"file": None},
    ],
)
def test_a_source_that_no_search_writes_is_refused(fields) -> None:
    with pytest.raises(UserError):
        ScoreSource(**{"kind": "file", "file": "x.csv", "hash": HASH, "columns": ["a"], **fields})


def test_a_file_that_has_changed_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm", [("MKVLA", 1), ("MAVLA", 2)])
    columns = ScoreSet(scores=ScoreConfig(sources=[source(path, "esm")], use="all"), wild_type=WILD_TYPE)
    residues, lengths = residues_of(["MAVLA"], str)
    assert columns.score(residues, lengths, cache_dir=tmp_path, announce=print).tolist() == [[2]]
    write(path, "sequence,esm", [("MKVLA", 1), ("MAVLA", 3)])
    with pytest.raises(UserError, match=r"The scores .*a\.csv \(esm\) have changed"):
        columns.check()
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        columns.check()


def test_a_column_made_of_the_target_is_refused() -> None:
    target = np.linspace(0, 1, 200)
    noise = np.random.default_rng(0).normal(size=200)
    honest = target + noise
    for derived in (target > 0.7, target <= 0.7, target**3, target + 0.01 * noise, np.round(target, 1)):
        column = np.asarray(derived, dtype=np.float32)[:, None]
        with pytest.raises(UserError, match="'bin' seems to be made of the target"):
            refuse_derived(["bin"], column, target)
    refuse_derived(["score"], honest[:, None].astype(np.float32), target)
    two = np.where(noise > 0, 1, 0)  # few values, but not the target's
    refuse_derived(["score"], two[:, None].astype(np.float32), target)


def test_few_rows_prove_nothing() -> None:
    """Nine rows in order happen by chance once in a while."""
    target = np.arange(9.0)
    step = (target > 4).astype(np.float32)
    assert not worths(["a"], step[:, None], target)[0].is_derived
    in_order = target.astype(np.float32)[:, None]
    refuse_derived(["a"], in_order, target)  # as two always are
    refuse_derived(["a"], np.where(target < 2, target, np.nan).astype(np.float32)[:, None], target)


def test_described_looks_at_training_targets_alone() -> None:
    target = np.array([1.0, 2, 3, 4, np.nan, np.nan])
    scores = np.array([[1], [2], [np.nan], [4], [0], [9]], dtype=np.float32)
    (line,) = described(["esm"], scores, target, np.array([True, True, True, True, False, False]))
    assert "5 of 6 variants have it; Spearman 1.000 on 3 training rows" in line
    (line,) = described(["esm"], scores, target, None)
    assert "with --split" in line


def test_single_mutations_add_up(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "mutant,esm", [("K2A", -1), ("V3A", -2), ("K2A:V3A", 9)])
    sums = Summed.of(read_scores_file(path, None, WILD_TYPE), WILD_TYPE)
    found = scored(sums, "MKVLA", "MAVLA", "MAALA", "MKVLR", "MK")
    assert found[:3] == [[0], [-1], [-3]]
    assert np.isnan(found[3:]).all()
    likelihoods = write(tmp_path / "c.csv", "mutant,esm", [("WT", -250), ("K2A", -251), ("V3A", -252)])
    with pytest.raises(UserError, match="gives the wild type a 'esm' of -250, not 0"):
        Summed.of(read_scores_file(likelihoods, None, WILD_TYPE), WILD_TYPE)
    odds = write(tmp_path / "d.csv", "mutant,esm", [("WT", 1e-7), ("K2A", -1), ("V3A", "")])
    assert scored(Summed.of(read_scores_file(odds, None, WILD_TYPE), WILD_TYPE), "MKVLA", "MAVLA") == [[0], [-1]]
    doubles = write(tmp_path / "b.csv", "mutant,esm", [("K2A:V3A", 9), ("K2R:V3A", 8)])
    with pytest.raises(UserError, match="none of the wild type"):
        Summed.of(read_scores_file(doubles, None, WILD_TYPE), WILD_TYPE)


def test_candidates_bring_the_columns_that_the_model_sees(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm", [("MKVLA", 1), ("MAVLA", 2)])
    table = ScoreSource(kind="table", file=None, hash=HASH, columns=["evo"])
    residues, lengths = residues_of(["MAVLA", "MRVLA"], str)
    about = {"wild_type": WILD_TYPE, "cache_dir": tmp_path, "announce": print}

    both = ScoreConfig(sources=[table, source(path, "esm")], use="all")
    found = CandidateScores(both, given=["evo"], **about)(residues, lengths, {"evo": np.float32([5, 6])})
    np.testing.assert_array_equal(found, np.float32([[5, 2], [6, np.nan]]))  # the file of training serves as well

    with pytest.raises(UserError, match="trained with the score column 'evo', which the candidates lack"):
        CandidateScores(both, **about)
    other = write(tmp_path / "c.csv", "sequence,evo,esm", [("MAVLA", 7, 8), ("MRVLA", 8, 9)])
    found = CandidateScores(both, file=other, **about)(residues, lengths)
    np.testing.assert_array_equal(found, np.float32([[7, 8], [8, 9]]))

    # What such a file lacks may stand beside the candidates.
    with pytest.raises(UserError, match=r"column 'evo', which neither \S+a.csv nor the candidates have"):
        CandidateScores(both, file=path, **about)
    found = CandidateScores(both, file=path, given=["evo"], **about)(residues, lengths, {"evo": np.float32([5, 6])})
    np.testing.assert_array_equal(found, np.float32([[5, 2], [6, np.nan]]))

    unused = ScoreConfig(sources=[table, source(path, "esm")], use="esm")
    found = CandidateScores(unused, **about)(residues, lengths)
    np.testing.assert_array_equal(found, np.float32([[np.nan, 2], [np.nan, np.nan]]))


def test_candidates_that_lack_a_score_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sequence,esm,evo", [("MKVLA", 1, ""), ("MAVLA", 2, "")])
    seen = ScoreConfig(sources=[source(path, "esm", "evo")], use="esm")
    said: list[str] = []
    scores = CandidateScores(seen, wild_type=WILD_TYPE, file=path, cache_dir=tmp_path, announce=said.append)
    for sequences in (["MAVLA", "MRVLA"], ["MKVLA"]):
        scores.count(scores(*residues_of(sequences, str)))
    scores.announce_lacking()
    scores.announce_lacking()  # of none that were counted since
    (sentence,) = said
    assert sentence.startswith("Of 3 candidates 1 lacks the score 'esm': the mean of the training rows stands for what")
    assert "--sum-zero-shot" in sentence


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        named_hash(Path(name), "scores")


def test_a_name_with_blanks_around_it_can_be_chosen() -> None:
    source = ScoreSource(kind="table", file=None, hash="0" * 64, columns=[" esm ", "evo"])
    config = ScoreConfig(sources=[source], use="all")
    found = [ScoreConfig(sources=[source], use=use).used for use in config.choices]
    assert found == [[], [0], [1], [0, 1]]
