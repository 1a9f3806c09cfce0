"""Tables of aligned sequences, whose gaps are a state of their own at their columns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import search
from datasets.batches.encode import encode_sequences
from datasets.batches.window import LengthLimit
from datasets.candidates.candidates import read_candidates
from datasets.candidates.distances import TrainingSequences
from datasets.candidates.outside import MUTATIONS, POSITIONS, RESIDUES, Outside, familiar_of
from datasets.common.errors import UserError
from datasets.scores.aligned import AlignedScores
from datasets.scores.keyed import KeyedScores
from datasets.sequences.gaps import places_without_gaps, ungapped, without_gaps
from datasets.sequences.mutations import MutationError, Mutator
from datasets.sequences.tokenizer import EsmTokenizer, ResidueTokenizer
from datasets.tables.report import report
from datasets.tables.survey import survey
from datasets.tasks.own_table import table_task
from tests.helpers.tables import surveyed, write

WILD_TYPE = "MKTVDLAWQRE"
ROWS = [
    (WILD_TYPE, 1.0),
    ("MK-VDLAWQRE", 0.5),
    ("MKTVDLAWQRA", 0.75),
    ("MKTVD--WQRE", 0.25),
    ("MKAVDLAWQRE", 1.5),
    ("MKAVDLAWQ-E", 1.25),
    ("MKTVDLAWQRG", 1.75),
    ("MKTVALAWQRE", 0.8),
    ("MKTVAL-WQRE", 0.9),
    ("MKSVDLAWQRE", 0.1),
]
NO_LIMIT = LengthLimit(max_length=None, max_residues=None, truncate=True)


def codes(*rows: str) -> tuple[np.ndarray, np.ndarray]:
    residues = np.frombuffer("".join(rows).encode(), dtype=np.uint8).reshape(len(rows), -1)
    return residues, np.full(len(rows), residues.shape[1])


def aligned(folder: Path, rows=ROWS, name: str = "t.csv"):
    return surveyed(write(folder / name, "sequence,target", rows), split="random")


def test_an_alignment_is_read_and_an_example_is_shown(tmp_path: Path) -> None:
    found = aligned(tmp_path)
    assert list(found.sequences) == [sequence for sequence, _ in ROWS]
    assert (found.table.aligned_length, found.table.wild_type) == (11, WILD_TYPE)
    assert found.table.settings["aligned_length"] == 11
    assert found.common.n_mutations is not None
    assert found.common.n_mutations.tolist() == [0, 1, 1, 2, 1, 2, 1, 1, 2, 1]
    assert found.table.sites == "3,5-7,10-11"
    lines = "\n".join(report(found))
    assert "10 of 11 aligned columns" in lines
    assert (
        "note     lines 3, 5, 7, 10: the sequences are an alignment of 11 columns: 'MK-VDLAWQRE' has 1 gap (at 3); a "
        "gap is a state of its own at its column, and language models see the sequence without it"
    ) in lines


def test_a_table_without_gaps_says_nothing_of_an_alignment(tmp_path: Path) -> None:
    found = aligned(tmp_path, [(sequence.replace("-", "A"), value) for sequence, value in ROWS])
    assert found.table.aligned_length is None
    assert "aligned_length" not in found.table.settings
    assert table_task(found.table, name="t").aligned_length is None


@pytest.mark.parametrize(
    "spelled",
    [
        lambda sequence: sequence.replace("-", "."),  # A2M's sign where others have an insertion
        lambda sequence: sequence.lower(),
        lambda sequence: f" {sequence}*",
        lambda sequence: sequence.replace("-", ".").lower() + "*",
    ],
    ids=["dots", "small letters", "stops", "all of it"],
)
def test_other_spellings_are_the_same_alignment(spelled, tmp_path: Path) -> None:
    plain = aligned(tmp_path)
    found = aligned(tmp_path, [(spelled(sequence), value) for sequence, value in ROWS], "other.csv")
    assert found.raw_split().sequence == plain.raw_split().sequence
    assert found.table.settings == plain.table.settings


def test_a_fasta_file_over_several_lines_is_the_same_alignment(tmp_path: Path) -> None:
    records = [f">v{i} TARGET={value}\n{one[:4]}\n{one[4:]}\n" for i, (one, value) in enumerate(ROWS)]
    (tmp_path / "t.fasta").write_text("".join(records))
    assert list(surveyed(tmp_path / "t.fasta").sequences) == [sequence for sequence, _ in ROWS]


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,target", [*ROWS, ("MKTVDLAWQR", 2.0)])
    with pytest.raises(UserError, match="line 12: the sequences hold gaps, so they are an alignment, and this one"):
        surveyed(path, split="random").raw_split()


def test_gaps_among_sequences_of_many_lengths_are_refused_with_their_lines(tmp_path: Path) -> None:
    rows = [(WILD_TYPE[: 4 + i], i / 7) for i in range(7)]
    path = write(tmp_path / "t.csv", "sequence,target", [*rows, ("MK-VD", 2.0)])
    with pytest.raises(UserError, match=r"line 9: the sequence has a gap \('-'\) at position 3, and the sequences"):
        surveyed(path, split="random").raw_split()


def test_the_wild_type_is_aligned_or_stands_among_the_sequences(tmp_path: Path) -> None:
    inserted = [
        (sequence[:4] + ("G" if i == 5 else "-") + sequence[4:], value) for i, (sequence, value) in enumerate(ROWS)
    ]
    path = write(tmp_path / "t.csv", "sequence,target", inserted)
    found = surveyed(path, wild_type=WILD_TYPE, split="random")
    assert found.table.wild_type == "MKTV-DLAWQRE"
    assert found.common.n_mutations is not None
    assert found.common.n_mutations.max() == 3  # the insertion is one
    with pytest.raises(UserError, match="The wild type has 11 columns, and the aligned sequences have 12: give it"):
        surveyed(write(tmp_path / "u.csv", "sequence,target", inserted[1:]), wild_type=WILD_TYPE)
    with pytest.raises(UserError, match=r"has gaps .*, and the table is no alignment"):
        surveyed(write(tmp_path / "v.csv", "sequence,target", [("MKTV", 1), ("MKTA", 2)]), wild_type="MK-V")


def test_python_says_how_many_columns_there_are(tmp_path: Path) -> None:
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    path = write(tmp_path / "t.csv", "sequence,target", ROWS)
    found = search.check_table(path, wild_type=tmp_path / "wt.fasta", split="random")
    assert (found.is_accepted, found.aligned_length, found.n_residues) == (True, 11, (11, 11))
    (refused,) = [
        one
        for one in search.check_table(write(tmp_path / "u.csv", "sequence,target", [*ROWS, ("MKT", 2)])).findings
        if one.level == "refused"
    ]
    assert refused.lines == (12,)


def test_mutations_beside_an_alignment_may_be_deletions(tmp_path: Path) -> None:
    named = ["WT", "T3-", "E11A", "L6-:A7-", "T3A", "T3A:R10-", "E11G", "D5A", "D5A:A7-", "T3S"]
    rows = [(sequence, name, value) for (sequence, value), name in zip(ROWS, named, strict=True)]
    path = write(tmp_path / "t.csv", "sequence,mutant,target", rows)
    columns = {"sequence_column": "sequence", "mutation_column": "mutant"}
    assert surveyed(path, split="random", **columns).raw_split().sequence == [sequence for sequence, _ in ROWS]
    write(path, "sequence,mutant,target", [*rows, ("MKTVDLAW-RE", "E11-", 2.0)])
    with pytest.raises(UserError, match="'E11-' makes Q at position 9 of the wild type, and the sequence"):
        surveyed(path, split="random", **columns).raw_split()


def test_deletions_and_insertions_are_mutations_of_an_alignment_alone() -> None:
    mutator = Mutator("MK-V", has_gaps=True)
    assert mutator.apply("K2-") == "M--V"
    assert mutator.apply("-3A:V4I") == "MKAI"
    for text in ("-2A", "K3-"):
        with pytest.raises(MutationError, match="where the wild type has"):
            mutator.apply(text)
    for text in ("K2-", "-3A"):
        with pytest.raises(MutationError):
            Mutator("MKAV").apply(text)


def test_insertions_are_read_again_as_they_are_written(tmp_path: Path) -> None:
    for first, words in ((1, ["-3A", "-3G:V4I"]), (-3, ["--1A", "--1G:V0I"])):
        assert [Mutator("MK-V", first, has_gaps=True).apply(word) for word in words] == ["MKAV", "MKGI"]
    task = table_task(aligned(tmp_path).table, name="t")
    task = replace(task, wild_type="MK-VDLAWQRE")
    (tmp_path / "c.txt").write_text("-3A\n-3G:V4I\n")
    (block,) = read_candidates(tmp_path / "c.txt", task, None).blocks
    assert block.sequences() == ["MKAVDLAWQRE", "MKGIDLAWQRE"]


def test_tokens_are_as_many_as_before_unless_there_are_gaps() -> None:
    residues, _ = codes("MK-V")
    plain, with_gap = ResidueTokenizer(), ResidueTokenizer(has_gaps=True)
    assert (plain.n_tokens, with_gap.n_tokens) == (23, 24)
    tokens, mask = with_gap.encode(residues)
    assert tokens[0, 2] == 23
    assert bool(mask.all())
    assert tokens[0, [0, 1, 3]].tolist() == plain.encode(residues)[0][0, [0, 1, 3]].tolist()


def test_a_language_model_sees_sequences_without_their_gaps(tmp_path: Path) -> None:
    task = table_task(aligned(tmp_path).table, name="t")
    residues, lengths = codes("MKTVDLAWQRE", "MK-VD--WQ-E")
    seen = {"task": task, "tokenizer": EsmTokenizer(), "crop": None, "limit": NO_LIMIT}
    found = encode_sequences(residues, lengths, **seen)
    bare, _ = codes("MKVDWQE")
    alone = EsmTokenizer().encode(bare)[0]
    assert found.tokens[1, :9].tolist() == alone[0].tolist()
    assert found.tokens[1, 9:].tolist() == [0, 0, 0, 0]
    assert found.lengths.tolist() == [13, 9]
    # Of the region 3, 5-7, 10 and 11 the second has D and the last E, behind the token at the start.
    assert found.region[1].nonzero().flatten().tolist() == [4, 7]
    assert found.region[0].nonzero().flatten().tolist() == [3, 5, 6, 7, 10, 11]


def test_where_the_whole_region_is_gone_its_neighbours_stand_for_it() -> None:
    residues, _ = codes("MK--DL", "MKTVDL", "--TVDL", "MKTV--")
    region = np.zeros((4, 6), dtype=np.bool_)
    region[:2, 2:4] = region[2, :2] = region[3, 4:] = True
    kept, left = without_gaps(residues, region)
    assert [row.tobytes().rstrip(b"\0") for row in kept] == [b"MKDL", b"MKTVDL", b"TVDL", b"MKTV"]
    assert [np.flatnonzero(row).tolist() for row in left] == [[1, 2], [2, 3], [0], [3]]
    assert places_without_gaps(residues, np.array([4, 4, 2, 6])).tolist() == [2, 4, 0, 4]
    assert ungapped(b"MK--DL") == b"MKDL"
    with pytest.raises(UserError, match="nothing but gaps"):
        without_gaps(*(codes("----")[0], np.ones((1, 4), dtype=np.bool_)))


def test_candidates_are_of_the_alignment(tmp_path: Path) -> None:
    task = table_task(aligned(tmp_path).table, name="t")
    (tmp_path / "c.csv").write_text("sequence\nMK-VDLAWQRE\nmk.vdlawqre\nMKTVDLAWQRE\n")
    (block,) = read_candidates(tmp_path / "c.csv", task, None).blocks
    assert block.sequences() == ["MK-VDLAWQRE", "MK-VDLAWQRE", "MKTVDLAWQRE"]
    (tmp_path / "m.txt").write_text("T3-\nWT\nT3-:E11A\n")
    (block,) = read_candidates(tmp_path / "m.txt", task, None).blocks
    assert block.sequences() == ["MK-VDLAWQRE", WILD_TYPE, "MK-VDLAWQRA"]
    for text, sentence in (
        ("MKVDLAWQRE", "line 1: the sequence has 10 columns, and the aligned sequences that the model was trained on"),
        ("-" * 11, "holds no residue"),
        ("MKTVDLAWQRJ", "the residue 'J' at position 11"),
    ):
        (tmp_path / "bad.txt").write_text(f"{text}\n")
        with pytest.raises(UserError, match=sentence):
            list(read_candidates(tmp_path / "bad.txt", task, None).blocks)


def test_distances_and_what_lies_outside_know_the_gap(tmp_path: Path) -> None:
    found = aligned(tmp_path)
    task = table_task(found.table, name="t")
    training = [sequence for sequence, _ in ROWS if sequence[9] != "-"]
    some, lengths = codes("MK-VDLAWQRE", "MK-VDLAWQ-E", "MKTV-LAWQRE", "MKTVDLAWQ-E")
    shared = {"task": task, "crop": None, "limit": NO_LIMIT}
    assert TrainingSequences(*codes(*training), **shared).distance(some, lengths).tolist() == [0, 1, 1, 1]
    known = familiar_of(*codes(*training), np.array([0.1, 2.0], dtype=np.float32), **shared)
    assert known.whole == "MK-V---WQR-"
    assert "-" in known.alphabet
    assert known.most_mutations == 2
    reasons = Outside(known, **shared)(some, lengths, np.ones(4, dtype=np.float32))
    assert reasons.tolist() == [0, POSITIONS, 0, POSITIONS]
    bare = familiar_of(*codes(WILD_TYPE, "MKAVDLAWQRE"), np.array([0.1, 2.0], dtype=np.float32), **shared)
    assert Outside(bare, **shared)(some[:1], lengths[:1], np.ones(1, dtype=np.float32)) & RESIDUES
    many, n_many = codes("MK-VD--WQRE")
    assert Outside(known, **shared)(many, n_many, np.ones(1, dtype=np.float32)) & MUTATIONS


def test_a_column_of_gaps_alone_is_one_where_nothing_differs(tmp_path: Path) -> None:
    task = table_task(aligned(tmp_path, [(f"{one}-", value) for one, value in ROWS]).table, name="t")
    shared = {"task": task, "crop": None, "limit": NO_LIMIT}
    training = codes(f"{WILD_TYPE}-", "MKAVDLAWQRE-")
    known = familiar_of(*training, np.array([0.1, 2.0], dtype=np.float32), **shared)
    assert known.whole == "MK-VDLAWQRE."
    outside = Outside(known, **shared)
    assert outside(*training, np.ones(2, dtype=np.float32)).tolist() == [0, 0]
    assert outside(*codes(f"{WILD_TYPE}A"), np.ones(1, dtype=np.float32)) & POSITIONS


def test_scores_without_gaps_are_of_the_wild_types_columns() -> None:
    rows = {b"MKV": 0, b"MAV": 1}
    scorer = KeyedScores(names=("s",), rows=rows, values=np.array([[1.0], [2.0]], dtype=np.float32))
    found = AlignedScores(scorer=scorer, wild_type="MK-V").score(*codes("MK-V", "MA-V", "M--V", "MKAV"))
    assert np.array_equal(found[:, 0], np.array([1, 2, np.nan, np.nan], dtype=np.float32), equal_nan=True)
    assert scorer.score(*codes("M-KV", "MA-V"))[:, 0].tolist() == [1, 2]  # of a file by sequence


def test_stop_codons_that_end_a_line_are_set_aside_from_an_alignment(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,target", [*ROWS, ("MKTV*", 0.1), ("MK-V*", 0.2), ("MK-VDL*WQRE", 0.3)])
    found = surveyed(path, split="random", stops="drop")
    assert list(found.sequences) == [sequence for sequence, _ in ROWS]
    assert (found.table.aligned_length, found.table.stops) == (11, "drop")
    assert not [one for one in found.findings.found if one.level == "refused"]


def test_gaps_of_rows_without_a_measurement_are_known_to_the_written_split(tmp_path: Path) -> None:
    measured = [(f"MKTVDLA-Q{end}", i / 7) for i, end in enumerate("ACDEFGHIKL")]
    whole = [(one.replace("-", "W"), value) for one, value in measured]
    path = write(tmp_path / "t.csv", "sequence,target", [*whole, ("MKTVDLA-QW", "n.d.")])
    found = surveyed(path, split="random", wild_type="MKTVDLA-QW")
    raw = found.raw_split()
    lines = list(zip(raw.sequence, raw.target, raw.part, raw.validation, strict=True))
    again = survey(write(tmp_path / "split.csv", "sequence,target,set,validation", lines), found.table, is_reread=True)
    assert again.raw_split().content_hash == raw.content_hash
    assert (again.table.aligned_length, again.table.wild_type) == (10, "MKTVDLA-QW")
