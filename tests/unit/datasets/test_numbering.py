"""Tables that count the wild type's first residue as another number than 1."""

import re
from pathlib import Path

import numpy as np
import pytest

from datasets.batches.window import LengthLimit
from datasets.candidates.candidates import read_candidates
from datasets.candidates.mutagenesis import Mutagenesis, enumerate_variants
from datasets.common.errors import UserError
from datasets.scores.keyed import read_scores_file
from datasets.sequences.mutations import MutationError, Mutator, are_mutations, find_first_position, normal_form
from datasets.sequences.sites import written_sites
from datasets.tables.report import report
from datasets.tasks.own_table import table_task
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import surveyed, table, variants, write

SOME = variants()[:200]
PROTEIN = "MKTVDLAWQ"


def moved(mutations: str, by: int) -> str:
    return re.sub("[0-9]+", lambda number: str(int(number[0]) + by), mutations)


def shifted(folder: Path, first: int, *more: tuple[str, str]) -> Path:
    """The table of variants with the wild type's first residue as number `first`."""
    rows = [(moved(name, first - 1), f"{value:.4f}") for name, _, value in SOME]
    return write(folder / "t.csv", "mutant,fitness", [*rows, *more])


@pytest.mark.parametrize("first", [24, 0, 2, 1000, -3, -11])
def test_one_number_that_explains_all_mutations_is_named_and_not_applied(first: int, tmp_path: Path) -> None:
    found = surveyed(shifted(tmp_path, first), wild_type=WILD_TYPE, split="random")
    (refused,) = [one for one in found.findings.found if one.level == "refused"]
    assert refused.n == 0
    assert refused.remedy == f"give --first-position {first}"
    assert found.table.first_position == 1
    with pytest.raises(UserError, match=f"the number {first}, and not 1; give --first-position {first}"):
        found.raw_split()


@pytest.mark.parametrize("first", [24, 0, -11])
def test_with_the_number_the_same_variants_are_read(first: int, tmp_path: Path) -> None:
    found = surveyed(shifted(tmp_path, first), wild_type=WILD_TYPE, split="by_position", first_position=first)
    plain = surveyed(shifted(tmp_path, 1), wild_type=WILD_TYPE, split="by_position")
    assert found.raw_split() == plain.raw_split()
    assert found.table.sites == plain.table.sites == "10,13,16,21"
    assert found.table.settings == {**plain.table.settings, "first_position": first}
    assert "first_position" not in plain.table.settings
    positions = f"  positions     {','.join(str(at + first - 1) for at in (10, 13, 16, 21))}"
    assert positions in list(report(found))
    assert found.division is not None
    assert plain.division is not None
    assert found.division.how == moved(plain.division.how, first - 1) != plain.division.how


def test_a_wrong_number_is_corrected_and_other_errors_are_said_beside_it(tmp_path: Path) -> None:
    path = shifted(tmp_path, 24, ("H33*", "0.1"), ("what?", "0.1"))
    found = surveyed(path, wild_type=WILD_TYPE, split="random", first_position=23)
    said = [(one.text, one.lines) for one in found.findings.found if one.level == "refused"]
    assert [lines for _, lines in said] == [(), (202,), (203,)]
    assert "the number 24, and not 23" in said[0][0]
    assert "stop codon" in said[1][0]
    assert "'what?' is no mutation" in said[2][0]


def test_what_no_number_explains_is_refused_as_it_was(tmp_path: Path) -> None:
    found = surveyed(shifted(tmp_path, 24, ("W33A", "0.1")), wild_type=WILD_TYPE, split="random")
    with pytest.raises(UserError, match=r"line 3: 'H33A' names position 33, but the wild type has 32 residues \("):
        found.raw_split()


@pytest.mark.parametrize(
    ("cells", "wild_type", "expected"),
    [
        (["K12A:T13C", "V14A", "D15E", "WT", "p.Leu16Ala"], PROTEIN, 11),
        (["K12A:T13C", "V14A", "D15E", "17G"], PROTEIN, 11),
        (["K12A:T13C", "V14A", "D15E", "29G"], PROTEIN, None),  # 29 is not in the wild type then
        (["K12A", "12G"], PROTEIN, None),  # one residue is somewhere in most proteins
        (["K12A", "R12A"], PROTEIN, None),
        (["K12A", "T13A", "V14A", "D15A", "A16A"], PROTEIN, None),
        (["12A", "13C"], PROTEIN, None),  # they name no residue of the wild type
        (["A3C", "C4A", "D5A", "E6A"], "ACDEFACDEF", None),  # two numbers would do
        (["Q3C", "Q4A", "Q5A", "Q6A"], "QQQQ", None),  # any protein of this composition is explained
        (["M0I", "K1A", "T2V", "V3A", "D4A"], PROTEIN, 0),
        ([], PROTEIN, None),
        (["WT", "", "well 7"], PROTEIN, None),
        (["K9999999A", "T9999998A"], PROTEIN, None),
    ],
)
def test_one_number_has_to_explain_everything(cells: list[str], wild_type: str, expected: int | None) -> None:
    assert find_first_position(cells, wild_type) == expected


def test_few_random_proteins_explain_foreign_mutations() -> None:
    """Residues at three positions are found by chance in one protein of twenty at most, as the docstring says."""
    random = np.random.default_rng(1)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    n = 0
    for _ in range(1000):
        ours, other = ("".join(random.choice(letters, 200)) for _ in range(2))
        at = random.choice(200, 3, replace=False)
        n += find_first_position([f"{other[i]}{i + 100}A" for i in at.tolist()], ours) is not None
    assert 0 < n <= 50


@pytest.mark.parametrize(
    ("written", "first", "sequence", "normal"),
    [
        ("M0I", 0, "IKTVDLAWQ", "M0I"),
        ("M-5I", -5, "IKTVDLAWQ", "M-5I"),
        ("M-5I:T-3A", -5, "IKAVDLAWQ", "M-5I:T-3A"),
        ("M-5I-T-3A", -5, "IKAVDLAWQ", "M-5I:T-3A"),
        ("D-1G_L0A", -5, "MKTVGAAWQ", "D-1G:L0A"),
        ("D-1G-0A", -5, "MKTVGAAWQ", "D-1G:0A"),
        ("p.[Lys25Ala;Thr26Val]", 24, "MAVVDLAWQ", "K25A:T26V"),
        ("p.Lys025Ala", 24, "MATVDLAWQ", "K25A"),
        ("25A-26V", 24, "MAVVDLAWQ", "25A:26V"),
    ],
)
def test_numbers_below_one_are_read(written: str, first: int, sequence: str, normal: str) -> None:
    assert Mutator(PROTEIN, first).apply(written) == sequence
    assert normal_form(written) == normal


def test_errors_count_as_the_table_does() -> None:
    with pytest.raises(MutationError, match="'K33A' names position 33, but the wild type is counted from 24 to 32"):
        Mutator(PROTEIN, 24).apply("K33A")
    with pytest.raises(MutationError, match="names position 25 twice"):
        Mutator(PROTEIN, 24).apply("K25A:25C")
    with pytest.raises(MutationError, match="names M at position 25, where the wild type has K"):
        Mutator(PROTEIN, 24).apply("M25A")


def test_codes_of_samples_are_no_mutations() -> None:
    assert not are_mutations(["P-1A", "P-2B", "Q-10C"])
    assert are_mutations(["P-1A", "WT", "P-2B"], -5)
    assert not are_mutations(["plate-1A"], -5)
    assert are_mutations(["M-1A", "V2A", "D3C", "V2A:D3C"])
    assert written_sites([-5, -4, -3, 1, 7, 8]) == "-5 to -3,1,7 to 8"


def test_candidates_and_their_names_have_the_tables_numbers(tmp_path: Path) -> None:
    task = table_task(table(tmp_path / "t.csv", wild_type=PROTEIN, first_position=24), name="t")
    limit = LengthLimit(max_residues=100, max_length=None, truncate=True)
    (block,) = enumerate_variants(Mutagenesis(kind="sites", sites=(25, 32)), task=task, crop=None, limit=limit).blocks
    assert len(block) == 400
    sequences = block.sequences()
    assert sequences[block.labels.index("WT")] == PROTEIN
    assert sequences[block.labels.index("K25A:Q32Y")] == "MATVDLAWY"
    (block,) = enumerate_variants(Mutagenesis(kind="singles"), task=task, crop=None, limit=limit).blocks
    assert block.labels[0] == "M24A"
    mutator = Mutator(PROTEIN, 24)
    assert [mutator.apply(label) for label in block.labels] == block.sequences()
    wanted = Mutagenesis(kind="doubles", sites=(32, 25, 26))
    stream = enumerate_variants(wanted, task=task, crop=None, limit=limit)
    blocks = list(stream.blocks)
    labels = [label for block in blocks for label in block.labels]
    assert stream.n_total == len(labels) == len(set(labels)) == 3 * 19 * 19
    assert (labels[0], labels[19], labels[-1]) == ("K25A:T26A", "K25A:Q32A", "T26Y:Q32Y")
    every = enumerate_variants(Mutagenesis(kind="doubles"), task=task, crop=None, limit=limit)
    known = {label: text for block in every.blocks for label, text in zip(block.labels, block.sequences(), strict=True)}
    assert len(known) == 36 * 19 * 19
    sequences = [text for block in blocks for text in block.sequences()]
    assert sequences == [known[label] for label in labels] == list(map(mutator.apply, labels))
    for sites, says in (((25, 25), "25 is named twice"), ((25, 33), "33 is outside"), ((25,), "two positions or more")):
        with pytest.raises(UserError, match=says):
            enumerate_variants(Mutagenesis(kind="doubles", sites=sites), task=task, crop=None, limit=limit)
    for site in (1, 23, 33):
        with pytest.raises(UserError, match=f"The site {site} is outside of the wild type, whose positions are 24 to"):
            enumerate_variants(Mutagenesis(kind="sites", sites=(site,)), task=task, crop=None, limit=limit)
    path = tmp_path / "c.txt"
    path.write_text("K25A\nWT\n")
    (read,) = read_candidates(path, task, None).blocks
    other = tmp_path / "o.txt"
    other.write_text("K2A:T3C\nV4A\nD5C\n")
    with pytest.raises(
        UserError, match=r"line 1: .* \(these mutations fit if the wild type's first residue has the num"
    ):
        list(read_candidates(other, task, None).blocks)
    assert (list(read.labels), read.sequences()) == (["K25A", "WT"], ["MATVDLAWQ", PROTEIN])
    below = table_task(table(tmp_path / "t.csv", wild_type=PROTEIN, first_position=-5), name="t")
    (tmp_path / "below.txt").write_text("M-5A\nK-4A:L0C\n")
    (few,) = read_candidates(tmp_path / "below.txt", below, None).blocks
    assert (list(few.labels), few.sequences()) == (["M-5A", "K-4A:L0C"], ["AKTVDLAWQ", "MATVDCAWQ"])


def test_scores_by_mutations_are_counted_alike(tmp_path: Path) -> None:
    rows = [(name, i) for i, name in enumerate(["K25A", "T26C", "V27A", "D28C"])]
    path = write(tmp_path / "s.csv", "mutant,esm", rows)
    assert set(read_scores_file(path, None, PROTEIN, 24).rows) == {
        b"MATVDLAWQ",
        b"MKCVDLAWQ",
        b"MKTADLAWQ",
        b"MKTVCLAWQ",
    }
    with pytest.raises(UserError, match="first residue as number 24 in 'mutant', and the variants count it as 1"):
        read_scores_file(path, None, PROTEIN)


@pytest.mark.parametrize("number", [10**8, -(10**8), True, "24", 1.0])
def test_a_number_that_is_none_is_refused(number: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"first_position=.* is not valid"):
        table(tmp_path / "t.csv", first_position=number)


def test_whatever_a_cell_holds_it_is_read_or_refused() -> None:
    random = np.random.default_rng(2)
    pieces = [
        "V",
        "Val",
        "39",
        "0",
        "-5",
        "9" * 6000,
        "A",
        "Ala",
        "Ter",
        "*",
        "=",
        "-",
        "_",
        ".",
        "|",
        ":",
        ";",
        "/",
        " ",
    ]
    pieces += ["p.", "[", "]", "(", ")", "WT", "_sy", "\u00df", "\u0663", "\x00", "=1+1", "del", "M1K", "K25A", "+"]
    read, longest = 0, 0
    for _ in range(4000):
        cell = "".join(random.choice(pieces, random.integers(1, 7)))
        are_mutations([cell])
        find_first_position([cell, "M1K"], PROTEIN)
        try:
            made = Mutator(PROTEIN, 24).apply(cell)
        except MutationError as error:
            longest = max(longest, len(str(error)))
            continue
        read += 1
        assert len(made) == len(PROTEIN)
        # What is written is read again, and begins with nothing that a spreadsheet would run.
        label = normal_form(cell)
        assert Mutator(PROTEIN, 24).apply(label) == made
        assert label[0] not in "=+-@"
    assert read > 20
    assert longest < 200
