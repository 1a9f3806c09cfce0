"""Tables of proteins with several chains: in one column, or each in its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

import search
from datasets.batches.encode import encode_sequences
from datasets.batches.window import LengthLimit
from datasets.candidates.candidates import read_candidates
from datasets.candidates.columns import CandidateColumns
from datasets.candidates.measured import LeftOut
from datasets.candidates.mutagenesis import Mutagenesis, enumerate_variants
from datasets.candidates.unmeasured import read_unmeasured
from datasets.common.errors import UserError
from datasets.features.addresses import Sequences
from datasets.sequences.chains import N_LINKER, Chains, letters_of
from datasets.sequences.mutations import MutationError, Mutator
from datasets.sequences.tokenizer import EsmTokenizer, ResidueTokenizer
from datasets.splits.rows import check_rows
from datasets.tables.formats.fasta import read_wild_type
from datasets.tables.report import report
from datasets.tables.survey import survey
from datasets.tasks.own_table import TableSource, table_hash, table_task
from models.backbones.names import BACKBONES
from models.backbones.transformer import untrained
from tests.helpers.tables import surveyed, table, write

HEAVY, LIGHT = "EVQLVESGG", "DIQMTQ"
PAIRS = [
    (HEAVY, LIGHT),
    ("EAQLVESGG", LIGHT),
    (HEAVY, "DIQATQ"),
    ("EAQLVESGG", "DIQATQ"),
    ("EVQLVESGA", LIGHT),
    ("EVQLVESGA", "DIQATQ"),
    ("EVQLVESGG", "DIQMTA"),
    ("EDQLVESGG", LIGHT),
    ("EVQLVESGA", "DIQMTA"),
]
NO_LIMIT = LengthLimit(max_length=None, max_residues=None, truncate=True)


def one_column(folder: Path, divider: str = "|", pairs=PAIRS, name: str = "t.tsv") -> Path:
    return write(folder / name, "sequence\ttarget", [(f"{a}{divider}{b}", i / 7) for i, (a, b) in enumerate(pairs)])


def two_columns(folder: Path, names: tuple[str, str] = ("heavy", "light")) -> Path:
    header = ",".join((*names, "target"))
    return write(folder / "two.csv", header, [(a, b, i / 7) for i, (a, b) in enumerate(PAIRS)])


def surveyed_columns(path: Path, *names: str, **changes):
    return surveyed(path, sequence_column=", ".join(names), chain_columns=names, **changes)


def test_names_of_chains_within_a_cell_are_no_chains_of_one_residue(tmp_path: Path) -> None:
    rows = [(f"H:{a};L:{b}", i / 7) for i, (a, b) in enumerate(PAIRS)]
    with pytest.raises(UserError, match="the chain A is 'H' in every row, as the name of a chain would be"):
        surveyed(write(tmp_path / "t.tsv", "sequence\ttarget", rows), split="random").raw_split()


def test_chains_are_joined_and_their_positions_named(tmp_path: Path) -> None:
    found = surveyed(one_column(tmp_path), split="random")
    assert list(found.sequences) == [a + b for a, b in PAIRS]
    assert (found.table.chains, found.table.aligned_length) == ("A9 B6", None)
    assert found.raw_split().sequence == [f"{a}|{b}" for a, b in PAIRS]
    lines = "\n".join(report(found))
    assert "  wild type     EVQLVESGG|DIQMTQ" in lines
    assert "  positions     A:2,9 B:4,6" in lines
    assert (
        "note     line 2: the sequences have 2 chains, A (9 residues), B (6 residues): 'EVQLVESGG|DIQMTQ'. Positions "
        "are called A1, and mutations A:E1A"
    ) in lines
    task = table_task(found.table, name="t")
    assert [task.clean(text) for text in found.raw_split().sequence] == list(found.sequences)
    assert (task.position(0), task.position(9), task.mutation(12, "M", "A")) == ("A1", "B1", "B:M4A")


@pytest.mark.parametrize("divider", [":", "/", " | ", ";", ",", "::", " / "])
def test_other_dividers_are_the_same_chains(divider: str, tmp_path: Path) -> None:
    found = surveyed(one_column(tmp_path, divider), split="random", wild_type=f"{HEAVY}|{LIGHT}")
    plain = surveyed(one_column(tmp_path, name="plain.tsv"), split="random")
    assert found.raw_split().sequence == plain.raw_split().sequence
    assert found.table.settings == plain.table.settings


@pytest.mark.parametrize("spelled", [str.lower, lambda text: f"{text}*", lambda text: f"  {text} "])
def test_other_spellings_of_a_chain_are_the_same(spelled, tmp_path: Path) -> None:
    pairs = [(spelled(a), spelled(b)) for a, b in PAIRS]
    found = surveyed(one_column(tmp_path, pairs=pairs), split="random")
    assert list(found.sequences) == [a + b for a, b in PAIRS]


def test_stop_codons_in_chains_are_refused_or_set_aside(tmp_path: Path) -> None:
    stopped = [("EVQL*", LIGHT), (HEAVY, "DI*MTQ"), ("EV*LVESGG", "DIQM*")]
    path = one_column(tmp_path, pairs=[*PAIRS, *stopped])
    with pytest.raises(UserError, match=r"line 11: the residue '\*' at position 5 of the chain A .* --stops drop"):
        surveyed(path, split="random").raw_split()
    found = surveyed(path, split="random", stops="drop")
    plain = surveyed(one_column(tmp_path, name="plain.tsv"), split="random")
    assert (found.raw_split().sequence, found.table.stops) == (plain.raw_split().sequence, "drop")
    assert (found.table.chains, found.table.aligned_length) == ("A9 B6", None)


def test_a_written_split_of_aligned_chains_is_read_again(tmp_path: Path) -> None:
    """Gaps behind the ends of chains are not written; some stood in rows without a measurement alone."""
    gapped = [("EVQ-VESGG", LIGHT), ("EVQLVESG-", "DIQMT-")]
    pairs = [*PAIRS, *gapped, ("E--LVESGG", LIGHT)]
    rows = [(f"{a}|{b}", i / 7 if i < len(PAIRS) + 2 else "n.d.") for i, (a, b) in enumerate(pairs)]
    for number, some in enumerate((rows, [row for row in rows if row[0] not in {f"{a}|{b}" for a, b in gapped}])):
        found = surveyed(write(tmp_path / f"{number}.tsv", "sequence\ttarget", some), split="random")
        raw, path = found.raw_split(), tmp_path / f"split{number}.csv"
        lines = zip(raw.sequence, raw.target, raw.part, raw.validation, strict=True)
        write(path, "sequence,target,set,validation", list(lines))
        again = survey(path, found.table, is_reread=True)
        assert again.raw_split().content_hash == raw.content_hash
        assert again.table.aligned_length == found.table.aligned_length == 15


def test_fasta_has_chains_too(tmp_path: Path) -> None:
    (tmp_path / "t.fasta").write_text("".join(f">v{i} TARGET={i}\n{a}:\n{b}\n" for i, (a, b) in enumerate(PAIRS)))
    assert surveyed(tmp_path / "t.fasta").table.chains == "A9 B6"


@pytest.mark.parametrize(
    ("names", "letters"),
    [
        (("heavy", "light"), "HL"),
        (("VH_seq", "VL_seq"), "HL"),
        (("chain_b", "chain_a"), "BA"),
        (("tcr_alpha", "tcr_beta"), "AB"),
        (("seq1", "seq2"), "AB"),
        (("heavy", "heavy light"), "AB"),
        (("kappa", "kilo"), "AI"),
    ],
)
def test_chains_in_columns_are_named_by_them(names: tuple[str, str], letters: str, tmp_path: Path) -> None:
    assert letters_of(names) == letters
    found = surveyed_columns(two_columns(tmp_path, names), *names, split="random")
    assert found.table.chains == f"{letters[0]}9 {letters[1]}6"
    assert list(found.sequences) == [a + b for a, b in PAIRS]
    assert found.columns.cells[names[0]][1] == "EAQLVESGG"


def test_a_column_that_is_missing_or_named_twice_is_refused(tmp_path: Path) -> None:
    path = two_columns(tmp_path)
    with pytest.raises(UserError, match="has no column 'lihgt'"):
        surveyed_columns(path, "heavy", "lihgt")
    with pytest.raises(UserError, match="'heavy' is named twice"):
        surveyed_columns(path, "heavy", "heavy")


def test_shorter_chains_have_gaps_behind_their_ends(tmp_path: Path) -> None:
    pairs = [*PAIRS, ("EVQLVES", LIGHT), (HEAVY, "DIQM")]
    found = surveyed(one_column(tmp_path, pairs=pairs), split="random")
    assert (found.table.chains, found.table.aligned_length) == ("A9 B6", 15)
    assert list(found.sequences)[-2:] == ["EVQLVES--DIQMTQ", "EVQLVESGGDIQM--"]
    assert found.raw_split().sequence[-2:] == ["EVQLVES|DIQMTQ", "EVQLVESGG|DIQM"]
    assert "A (7 to 9 residues)" in "\n".join(report(found))


def test_chains_may_be_aligned(tmp_path: Path) -> None:
    found = surveyed(one_column(tmp_path, pairs=[*PAIRS, ("EVQ-VESGG", LIGHT), (HEAVY, "D.QMTQ")]), split="random")
    assert list(found.sequences)[-2:] == ["EVQ-VESGGDIQMTQ", "EVQLVESGGD-QMTQ"]
    assert found.table.aligned_length == 15


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (f"{HEAVY}", "line 11: the sequence has 1 chain, and most have 2"),
        (f"{HEAVY}|{LIGHT}|{LIGHT}", "line 11: the sequence has 3 chains, and most have 2"),
        (f"{HEAVY}|", "line 11: the chain B is empty"),
        (f"|{LIGHT}", "line 11: the chain A is empty"),
        (f"{HEAVY}|DIJMTQ", "line 11: the residue 'J' at position 3 of the chain B is not one of"),
        (f"EV*LVESGG|{LIGHT}", "line 11: the residue '\\*' at position 3 of the chain A is not one of"),
        ("", "line 11: the sequence is empty"),
    ],
)
def test_a_row_with_other_chains_is_named(cell: str, sentence: str, tmp_path: Path) -> None:
    path = one_column(tmp_path)
    path.write_text(path.read_text() + f"{cell}\t3.5\n")
    with pytest.raises(UserError, match=sentence):
        surveyed(path, split="random").raw_split()


def test_a_written_split_is_read_again_with_the_same_names(tmp_path: Path) -> None:
    first = surveyed_columns(two_columns(tmp_path), "heavy", "light", split="random")
    raw = first.raw_split()
    rows = zip(raw.sequence, raw.target, raw.part, raw.validation, strict=True)
    path = write(tmp_path / "split.csv", "sequence,target,set,validation", list(rows))
    from datasets.tables.survey import survey

    again = survey(path, first.table, is_reread=True)
    assert again.table.chains == "H9 L6"
    assert again.raw_split().content_hash == raw.content_hash


def test_the_wild_type_has_the_same_chains(tmp_path: Path) -> None:
    path = one_column(tmp_path)
    (tmp_path / "wt.fasta").write_text(f">wt\n{HEAVY}:{LIGHT}\n")
    found = search.check_table(path, wild_type=tmp_path / "wt.fasta", split="random")
    assert (found.is_accepted, found.wild_type, found.chains) == (True, f"{HEAVY}|{LIGHT}", "A9 B6")
    (tmp_path / "wt.fasta").write_text(f">heavy\n{HEAVY}\n>light\n{LIGHT}\n")
    assert search.check_table(path, wild_type=tmp_path / "wt.fasta").wild_type == f"{HEAVY}|{LIGHT}"
    (tmp_path / "wt.fasta").write_text(f">wt\n{HEAVY}\n")
    with pytest.raises(
        UserError, match="The wild type is not one of these variants: the sequence has 1 chain, expected 2"
    ):
        search.check_table(path, wild_type=tmp_path / "wt.fasta")
    two = search.check_table(two_columns(tmp_path), sequence_column=["heavy", "light"], split="random")
    assert two.chains == "H9 L6"


def test_mutations_name_their_chain() -> None:
    mutator = Mutator(HEAVY + LIGHT, chains=Chains.of("H9 L6"))
    wanted = "EAQLVESGADIQATQ"
    spelled = [
        "H:V2A:H:G9A:L:M4A",
        "L:M4A,H:V2A:G9A",
        "h:v2a h:g9a / l:m4a",
        "H_V2A;H.G9A;L M4A",
        "H:Val2Ala;Gly9Ala;L:4A",
    ]
    for text in spelled:
        assert mutator.apply(text) == wanted
    assert mutator.apply("WT") == HEAVY + LIGHT
    for text, sentence in (
        ("V2A", r"names no chain \(H, L\): write it H:V2A"),
        ("H:V7A", "names V at position 7, where the wild type has S"),
        ("H:G10A", "names position 10, but the chain H of the wild type has 9 residues"),
        ("L:M4A:L:M4C", "names position L4 twice"),
        ("X:V2A", "'X' names no chain"),
    ):
        with pytest.raises(MutationError, match=sentence):
            mutator.apply(text)


def test_mutations_beside_chains_are_compared_with_them(tmp_path: Path) -> None:
    named = ["WT", "A:V2A", "B:M4A", "A:V2A:B:M4A", "A:G9A", "A:G9A:B:M4A", "B:Q6A", "A:V2D", "A:G9A:B:Q6A"]
    rows = [(f"{a}|{b}", name, i / 7) for i, ((a, b), name) in enumerate(zip(PAIRS, named, strict=True))]
    path = write(tmp_path / "t.csv", "sequence,mutant,target", rows)
    columns = {"sequence_column": "sequence", "mutation_column": "mutant"}
    assert surveyed(path, split="random", **columns).raw_split().sequence == [f"{a}|{b}" for a, b in PAIRS]
    write(path, "sequence,mutant,target", [(one, name.replace("Q6A", "Q6C"), value) for one, name, value in rows])
    with pytest.raises(UserError, match="'B:Q6C' makes C at position B6 of the wild type"):
        surveyed(path, split="random", **columns).raw_split()


def test_a_column_made_of_chains_is_not_among_those_of_the_file_and_no_residue(tmp_path: Path) -> None:
    rows = [(a * 5, b * 5, i / 7) for i, (a, b) in enumerate(PAIRS)]
    path = write(tmp_path / "long.csv", "heavy,light,KD", rows)
    with pytest.raises(UserError, match=r"its columns are 'heavy', 'light', 'KD': name the right one"):
        surveyed_columns(path, "heavy", "light")
    lines = "\n".join(report(surveyed_columns(path, "heavy", "light", target_column="KD", split="random")))
    assert " of 75 residues" in lines
    assert "... (75)" in lines


def test_candidates_have_the_same_chains(tmp_path: Path) -> None:
    found = surveyed_columns(two_columns(tmp_path), "heavy", "light", split="random")
    task = table_task(found.table, name="t")
    columns = CandidateColumns.like(found.table, sequence=None, mutation=None, sheet=None)

    def read(text: str, name: str = "c.csv"):
        (tmp_path / name).write_text(text)
        (block,) = read_candidates(tmp_path / name, task, None, columns=columns).blocks
        return list(block.labels), block.sequences()

    joined = [HEAVY + LIGHT, "EAQLVESGGDIQMTQ"]
    written = [f"{HEAVY}|{LIGHT}", f"EAQLVESGG|{LIGHT}"]
    assert read(f"heavy,light\n{HEAVY},{LIGHT}\nEAQLVESGG,{LIGHT}\n") == (written, joined)
    assert read(f"sequence\n{HEAVY}:{LIGHT}\neaqlvesgg / {LIGHT}\n") == (written, joined)
    assert read(f">a\n{HEAVY}:{LIGHT}\n>b\nEAQLVESGG|\n{LIGHT}\n", "c.fasta") == (written, joined)
    assert read("mutations\nWT\nH:V2A\n") == (["WT", "H:V2A"], joined)
    assert read("H:V2A\nL:M4A\n", "c.txt")[1] == ["EAQLVESGGDIQMTQ", "EVQLVESGGDIQATQ"]
    with pytest.raises(UserError, match=r"--sequence-column, in the order of 'heavy', 'light'\."):
        read(f"vl,vh\n{LIGHT},{HEAVY}\n")
    columns = CandidateColumns.like(found.table, sequence=["vh", "vl"], mutation=None, sheet=None)  # type: ignore[arg-type]
    assert read(f"vl,vh\n{LIGHT},{HEAVY}\n{LIGHT},EAQLVESGG\n") == (written, joined)
    with pytest.raises(UserError, match=r"no column is called 'vh' \(--sequence-column\)"):
        read(f"heavy,light\n{HEAVY},{LIGHT}\n")
    columns = CandidateColumns.like(found.table, sequence=None, mutation=None, sheet=None)
    for text, sentence in (
        (HEAVY + LIGHT, r"line 2: the sequence has 1 chain, expected 2 \(H, L\), divided by '\|'"),
        (f"{HEAVY}|{LIGHT}|A", "line 2: the sequence has 3 chains, expected 2"),
        (f"{HEAVY}|{LIGHT}A", "line 2: the chain L has 7 residues, and in training it has 6"),
        (f"{HEAVY}|", "line 2: the chain L holds no residue"),
        (f"{HEAVY}|DIJMTQ", "the residue 'J'"),
    ):
        with pytest.raises(UserError, match=sentence):
            read(f"sequence\n{text}\n")


def test_variants_are_enumerated_by_the_names_of_positions(tmp_path: Path) -> None:
    task = table_task(surveyed_columns(two_columns(tmp_path), "heavy", "light").table, name="t")
    seen = {"task": task, "crop": None, "limit": NO_LIMIT}
    (block,) = enumerate_variants(Mutagenesis(kind="singles"), **seen).blocks
    assert (block.labels[0], block.labels[-1], len(block)) == ("H:E1A", "L:Q6Y", 19 * 15)
    (block,) = enumerate_variants(Mutagenesis(kind="sites", sites=("H2", "l4")), **seen).blocks
    assert "H:V2A:L:M4A" in block.labels
    assert list(map(Mutator(HEAVY + LIGHT, chains=task.chains).apply, block.labels)) == block.sequences()
    for sites, sentence in (
        ((2,), "2 names no chain"),
        (("H10",), "H10 lies outside"),
        (("X1",), "X1 names no chain"),
        (("H2", "h2"), "h2 is named twice"),
    ):
        with pytest.raises(UserError, match=sentence):
            enumerate_variants(Mutagenesis(kind="sites", sites=sites), **seen)


def test_mutations_of_a_wild_type_with_chains_are_read(tmp_path: Path) -> None:
    named = ["WT", "A:V2A", "B:M4A", "A:V2A:B:M4A", "A:G9A", "A:G9A:B:M4A", "B:Q6A", "A:V2D", "A:G9A:B:Q6A"]
    path = write(tmp_path / "t.csv", "mutant,target", [(name, i / 7) for i, name in enumerate(named)])
    found = surveyed(path, wild_type=f"{HEAVY}|{LIGHT}", split="random")
    assert (found.table.mutation_column, found.table.chains, found.table.wild_type) == (
        "mutant",
        "A9 B6",
        HEAVY + LIGHT,
    )
    assert found.raw_split().sequence == [f"{a}|{b}" for a, b in PAIRS]
    from datasets.tables.survey import survey

    assert survey(path, found.table, is_reread=True).raw_split() == found.raw_split()


def codes(*rows: str) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer("".join(rows).encode(), dtype=np.uint8).reshape(len(rows), -1), np.full(
        len(rows), len(rows[0])
    )


def test_one_hot_models_see_no_divider_and_language_models_a_linker(tmp_path: Path) -> None:
    task = table_task(surveyed(one_column(tmp_path)).table, name="t")
    residues, lengths = codes(HEAVY + LIGHT)
    shared = {"task": task, "crop": None, "limit": NO_LIMIT}
    assert encode_sequences(residues, lengths, tokenizer=ResidueTokenizer(), **shared).tokens.shape == (1, 15)
    found = encode_sequences(residues, lengths, tokenizer=EsmTokenizer(), **shared)
    linker = found.tokens[0] == EsmTokenizer.linker
    assert linker.nonzero().flatten().tolist() == list(range(10, 10 + N_LINKER))
    assert bool(found.mask.all())
    assert found.region[0].nonzero().flatten().tolist() == [2, 9, 10 + N_LINKER + 3, 10 + N_LINKER + 5]
    plain = EsmTokenizer().encode(codes(HEAVY + "G" * N_LINKER + LIGHT)[0])[0]
    assert torch.equal(found.tokens[0, ~linker], plain[0, ~linker])
    # The backbone computes what it would of glycines.
    backbone = untrained(BACKBONES["esm2_t6_8M_UR50D"], seed=0, n_layers=1)
    with torch.no_grad():
        assert torch.equal(backbone(found.tokens.long()), backbone(plain.long()))


def test_no_pooling_sees_the_linker(tmp_path: Path) -> None:
    task = table_task(surveyed(one_column(tmp_path)).table, name="t")
    residues, lengths = codes(HEAVY + LIGHT)
    found = encode_sequences(residues, lengths, task=task, crop=None, limit=NO_LIMIT, tokenizer=EsmTokenizer())

    class Encoder:
        n_prefix = n_suffix = 1
        linker = EsmTokenizer.linker

    sequences = Sequences(Encoder(), found.tokens, found.mask, found.region)  # type: ignore[arg-type]
    for scope, n in (("mean", 15), ("region", 4)):
        positions = sequences.positions(scope, np.array([0]), found.tokens.shape[1])  # type: ignore[arg-type]
        assert int(positions.sum()) == n
        assert not bool((positions[0] & (found.tokens[0] == EsmTokenizer.linker)).any())


@pytest.mark.parametrize("text", ["", "H9", "H9 H6", "H0 L6", "H9L6", "h9 l6", "H9 L6 ", "HH9 L6"])
def test_chains_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"table.chains=.* is not valid"):
        table(Path("t.csv"), chains=text)
    assert str(Chains.of("H9 L6")) == "H9 L6"


def test_columns_of_chains_hold_one_chain_in_each_cell(tmp_path: Path) -> None:
    """A divider in a cell, or an empty cell, leaves no chain out."""
    divided = [(f"{a[:4]}|{a[4:]}", b, i / 7) for i, (a, b) in enumerate(PAIRS)]
    found = surveyed_columns(
        write(tmp_path / "a.csv", "heavy,light,target", [*divided[:1], *((a, b, 1) for a, b in PAIRS)]),
        "heavy",
        "light",
    )
    with pytest.raises(UserError, match="line 2: a cell of 'heavy', 'light' is divided into several chains; write one"):
        found.raw_split()
    with pytest.raises(UserError, match="a cell of 'heavy', 'light' is divided into several chains"):
        surveyed_columns(write(tmp_path / "b.csv", "heavy,light,target", divided), "heavy", "light")
    sparse = [(a, "" if i > 2 else "GGG", b, i / 7) for i, (a, b) in enumerate(PAIRS)]
    found = surveyed_columns(write(tmp_path / "c.csv", "heavy,nano,light,target", sparse), "heavy", "nano", "light")
    with pytest.raises(UserError, match=r"line 5: the chain N is empty \(and 5 more lines"):
        found.raw_split()
    assert found.table.chains == "H9 N3 L6"


def test_columns_of_candidates_hold_one_chain_in_each_cell(tmp_path: Path) -> None:
    """Two chains in one cell would stand for an empty cell beside it."""
    rows = [(a, "GGG", b, i / 7) for i, (a, b) in enumerate(PAIRS)]
    names = ("heavy", "nano", "light")
    found = surveyed_columns(write(tmp_path / "t.csv", ",".join((*names, "target")), rows), *names, split="random")
    task = table_task(found.table, name="t")
    columns = CandidateColumns.like(found.table, sequence=names, mutation=None, sheet=None)
    whole = (HEAVY, "GGG", LIGHT)
    for cells in ((f"{HEAVY}|GGG", "", LIGHT), (HEAVY, "", f"GGG:{LIGHT}"), (HEAVY, f"GGG/{LIGHT}", "")):
        path = write(tmp_path / "c.csv", ",".join(names), [whole, cells])
        with pytest.raises(UserError, match=r"c\.csv, line 3: a cell of 'heavy', 'nano', 'light' is divided into sev"):
            list(read_candidates(path, task, None, columns=columns).blocks)
    path = write(tmp_path / "c.csv", ",".join(names), [whole, (HEAVY, "", LIGHT)])
    with pytest.raises(UserError, match=r"c\.csv, line 3: the sequence has 2 chains, expected 3"):
        list(read_candidates(path, task, None, columns=columns).blocks)


def test_candidates_may_end_each_chain_with_a_stop_as_training_does(tmp_path: Path) -> None:
    pairs = [(f"{a}*", f"{b}*") for a, b in PAIRS]
    rows = [(f"{a}|{b}", i / 7 if i else "n.d.") for i, (a, b) in enumerate(pairs)]
    path = write(tmp_path / "t.csv", "sequence,target", [*rows, (f"EV*LVESGG*|{LIGHT}*", 1)])
    found = surveyed(path, split="random", stops="drop")
    task = table_task(found.table, name="t", path=path)
    (tmp_path / "c.csv").write_text(f"sequence\n{HEAVY}*|{LIGHT}*\n")
    (block,) = read_candidates(tmp_path / "c.csv", task, None).blocks
    assert block.sequences() == [HEAVY + LIGHT]
    assert isinstance(task.source, TableSource)
    (block,) = read_unmeasured(task.source, task, LeftOut()).blocks
    assert block.sequences() == [HEAVY + LIGHT]
    (tmp_path / "c.csv").write_text(f"sequence\nEV*LVESGG|{LIGHT}\n")
    with pytest.raises(UserError, match=r"line 2: the sequence has a stop codon \(\*\) at position 3"):
        list(read_candidates(tmp_path / "c.csv", task, None).blocks)


def test_a_wild_type_of_more_chains_than_there_are_letters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wt.fasta").write_text(f">wt\n{'|'.join('ACDEFGHIKLMNPQRSTVWYACDEFGH')}\n")
    with pytest.raises(UserError, match="the wild type has 27 chains, expected at most 26"):
        read_wild_type(tmp_path / "wt.fasta")


def test_a_recorded_wild_type_of_more_chains_than_there_are_letters_is_refused() -> None:
    for n_chains in (1, 26):
        assert table(Path("t.csv"), wild_type="|".join("A" * n_chains)).wild_type
    with pytest.raises(UserError, match=r"table\.wild_type is not valid: it has 27 chains, expected at most 26"):
        table(Path("t.csv"), wild_type="|".join("A" * 27))


def test_another_table_than_that_of_the_chains_is_refused_by_its_line(tmp_path: Path) -> None:
    task = table_task(surveyed(one_column(tmp_path), split="random").table, name="t")
    path = write(tmp_path / "s.csv", "sequence,target", [(a + b, i) for i, (a, b) in enumerate(PAIRS)])
    raw = surveyed(path, split="random").raw_split()
    with pytest.raises(UserError, match=r"s.csv, line 2: the sequence has 1 chain, expected 2 \(A, B\)"):
        check_rows(raw, task.clean, official=False)


def test_a_name_that_no_file_can_have_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"The table 'a\\x00b' cannot be read \(embedded null byte\)"):
        table_hash(Path("a\0b"))
