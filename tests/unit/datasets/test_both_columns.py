"""Tables that say their variants twice, as sequences and as mutations."""

from pathlib import Path

import pytest

from datasets.common.errors import UserError
from datasets.tables.findings import Finding
from datasets.tables.survey import Survey, survey
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import surveyed, table, variants, write
from tests.unit.datasets.test_numbering import moved

SOME = variants()[:80]
NAMED = {"sequence_column": "sequence", "mutation_column": "mutant"}
THREE = {"A": "Ala", "C": "Cys", "D": "Asp", "E": "Glu", "F": "Phe", "H": "His", "T": "Thr", "L": "Leu", "G": "Gly"}


def written(folder: Path, changes: dict[int, tuple[str, str]] | None = None, by: int = 0) -> Path:
    """The table with both columns; `changes` by row."""
    rows = [(moved(name, by), sequence) for name, sequence, _ in SOME]
    for row, change in (changes or {}).items():
        rows[row] = change
    cells = [(*row, f"{value:.4f}") for row, (_, _, value) in zip(rows, SOME, strict=True)]
    return write(folder / "t.csv", "mutant,sequence,fitness", cells)


def found_in(one: Survey) -> list[Finding]:
    found = [finding for finding in one.findings.found if "is read as" not in finding.text]
    return [finding for finding in found if "mutation" in finding.text or "makes" in finding.text]


def test_both_columns_that_agree_are_read(tmp_path: Path) -> None:
    found = surveyed(written(tmp_path), wild_type=WILD_TYPE, split="random", **NAMED)
    assert found.findings.found == [one for one in found.findings.found if one.level == "note"]
    assert list(found.raw_split().sequence) == [sequence for _, sequence, _ in SOME]
    assert found_in(found) == []


def test_named_columns_that_differ_are_refused_with_what_each_says(tmp_path: Path) -> None:
    at = WILD_TYPE[:9] + "A" + WILD_TYPE[10:]
    path = written(tmp_path, {4: ("H10C", at), 7: ("H10D", at)})
    found = surveyed(path, wild_type=WILD_TYPE, split="random", **NAMED)
    with pytest.raises(UserError) as caught:
        found.raw_split()
    assert str(caught.value).endswith(
        ", line 6: 'H10C' makes C at position 10 of the wild type, and the sequence beside it has A there (and 1 more "
        "line like it); correct one of the two, or name the column alone that counts."
    )
    merely = surveyed(path, wild_type=WILD_TYPE, split="random", mutation_column="mutant")
    (warning,) = found_in(merely)
    assert (warning.level, warning.lines) == ("warning", (6, 9))
    assert "is not what 'H10C' makes of the wild type" in warning.text
    merely.raw_split()
    # An experiment that is read again names the columns that were found.
    again = survey(path, table(path, wild_type=WILD_TYPE, split="random", **NAMED), is_reread=True)
    assert found_in(again) == [warning]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("H10A", WILD_TYPE), "makes A at position 10 of the wild type, and the sequence beside it has H there;"),
        (("WT", WILD_TYPE[:-1]), "makes 32 residues of the wild type, and the sequence beside it has 31;"),
        (("WT", WILD_TYPE[::-1]), "has E there, and differs at "),
        (("K10A", WILD_TYPE), "names K at position 10, where the wild type has H; correct one"),
        (("H99A", WILD_TYPE), "names position 99, but the wild type has 32 residues; correct one"),
        (("plate 7", WILD_TYPE), "'plate' is no mutation such as V39A; correct one"),
        (("p.His10Ter", WILD_TYPE), "is a stop codon, but the sequence is the wild type's"),
    ],
)
def test_every_other_difference_is_refused(change: tuple[str, str], says: str, tmp_path: Path) -> None:
    found = surveyed(written(tmp_path, {70: change}), wild_type=WILD_TYPE, split="random", **NAMED)
    with pytest.raises(UserError, match=r"line 72: ") as caught:
        found.raw_split()
    assert says in str(caught.value)


def hgvs(name: str) -> str:
    if name == "WT":
        return "p.="
    parts = [f"{THREE[one[0]]}{one[1:-1]}{THREE[one[-1]]}" for one in name.split(":")]
    return f"p.[{';'.join(parts)}]" if len(parts) > 1 else f"p.{parts[0]}"


@pytest.mark.parametrize(
    "spelling",
    [
        hgvs,
        lambda name: (
            "-".join(f"{one[0]}{int(one[1:-1]):03}{one[-1]}" for one in name.split(":")) if name != "WT" else name
        ),
        lambda name: name.replace(":", " / "),
        lambda name: f"[{name.replace(':', '; ')}]" if name != "WT" else "_wt",
        lambda name: name.replace(":", "_").lower(),
    ],
)
def test_all_spellings_are_read_beside_sequences(spelling, tmp_path: Path) -> None:
    changes = {row: (spelling(name), sequence) for row, (name, sequence, _) in enumerate(SOME)}
    found = surveyed(written(tmp_path, changes), wild_type=WILD_TYPE, split="random")
    assert found.table.mutation_column == "mutant"
    assert found_in(found) == []
    changes[9] = (spelling("H10E"), WILD_TYPE)
    for named, level in ((False, "warning"), (True, "refused")):
        path = written(tmp_path, changes)
        found = surveyed(path, wild_type=WILD_TYPE, split="random", **(NAMED if named else {}))
        ((seen, lines),) = [(one.level, one.lines) for one in found_in(found)]
        assert (seen, lines) == (level, (11,))


def test_both_may_count_from_another_number(tmp_path: Path) -> None:
    path = written(tmp_path, by=23)
    assert found_in(surveyed(path, wild_type=WILD_TYPE, split="random", first_position=24, **NAMED)) == []
    named = surveyed(path, wild_type=WILD_TYPE, split="random", **NAMED)
    assert [(one.level, one.remedy) for one in found_in(named)] == [("refused", "give --first-position 24")]
    merely = surveyed(path, wild_type=WILD_TYPE, split="random")
    assert [(one.level, one.remedy) for one in found_in(merely)] == [("warning", "give --first-position 24")]
    merely.raw_split()


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    short = (SOME[2][0], SOME[2][1][:-1])
    (warning,) = found_in(surveyed(written(tmp_path, {0: SOME[1][:2], 2: short}), split="random", **NAMED))
    assert (warning.level, warning.remedy) == ("warning", "name it with --wild-type")
    assert "are not compared with the sequences" in warning.text
    # Beside a column that was found, mutations by another rule are a note, and an empty cell says nothing.
    path = written(tmp_path, {5: ("K10A", SOME[5][1]), 6: ("", SOME[6][1])})
    said = [one for one in surveyed(path, wild_type=WILD_TYPE).findings.found if "the sequence counts" in one.text]
    assert [(one.level, one.lines) for one in said] == [("note", (7,))]


def test_the_consensus_is_compared_with_where_nothing_names_the_wild_type(tmp_path: Path) -> None:
    singles = [(name, sequence) for name, sequence, _ in variants() if name.count(":") == 0 and name != "WT"]
    changes = {row: singles[row % len(singles)] for row in range(len(SOME))}
    found = surveyed(written(tmp_path, changes), split="random", **NAMED)
    assert found.table.wild_type == WILD_TYPE
    assert found_in(found) == []
    found = surveyed(written(tmp_path, {**changes, 30: ("H10A", singles[1][1])}), split="random", **NAMED)
    ((level, lines),) = [(one.level, one.lines) for one in found_in(found)]
    assert (level, lines) == ("refused", (32,))
