"""Variants with a stop codon: refused, or set aside, however they are written."""

from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from datasets.tables.survey import Survey, survey
from datasets.tables.table import Table
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import surveyed, variants, write

ROWS = variants()[1:60]
_NAMES = "Ala Cys Asp Glu Phe Gly His Ile Lys Leu Met Asn Pro Gln Arg Ser Thr Val Trp Tyr Ter"
STOP = f"{WILD_TYPE[8]}9*"


def cut(sequence: str) -> str:
    return f"{sequence[:8]}*{sequence[9:]}"


def hgvs(mutations: str) -> str:
    names = dict(zip("ACDEFGHIKLMNPQRSTVWY*", _NAMES.split(), strict=True))
    words = [f"{names[one[0]]}{one[1:-1]}{names[one[-1]]}" for one in mutations.split(":")]
    return f"p.{words[0]}" if len(words) == 1 else f"p.[{';'.join(words)}]"


def read(folder: Path, header: str, rows: list[tuple[Any, ...]], **changes: Any) -> Survey:
    return surveyed(write(folder / "t.csv", header, rows), wild_type=WILD_TYPE, split="random", **changes)


TABLES = {
    "mutations": ("mutant,score", [(m, v) for m, _, v in ROWS], [(STOP, 0.5), (f"{ROWS[0][0]}:{STOP}", 0.25)]),
    "hgvs": ("hgvs_pro,score", [(hgvs(m), v) for m, _, v in ROWS], [(hgvs(STOP), 0.5), (f"p.{STOP}", 0.25)]),
    "sequences": ("sequence,score", [(s, v) for _, s, v in ROWS], [(cut(WILD_TYPE), 0.5), (cut(ROWS[3][1]), 0.25)]),
    "both": (
        "sequence,mutant,score",
        [(s, m, v) for m, s, v in ROWS],
        [(cut(WILD_TYPE), STOP, 0.5), (WILD_TYPE, STOP, 0.25)],
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_rows_with_a_stop_codon_are_set_aside_where_that_is_asked_for(tmp_path: Path, kind: str) -> None:
    header, rows, stops = TABLES[kind]
    found = read(tmp_path, header, [*rows[:30], *stops, *rows[30:]], stops="drop")
    plain = read(tmp_path, header, rows)
    assert list(found.sequences) == list(plain.sequences)
    assert found.target.tolist() == plain.target.tolist()
    assert found.table.settings == {**plain.table.settings, "stops": "drop"}
    about = [one for one in found.findings.found if "stop codon" in one.text]
    assert {one.level for one in about} == {"note"}
    assert all("set aside" in one.text for one in about)
    assert sorted(line for one in about for line in one.lines) == [32, 33]
    assert not [one for one in found.findings.found if one.level in ("refused", "warning")]
    assert found.raw_split().content_hash == plain.raw_split().content_hash


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("given", [None, "refuse"])
def test_they_are_refused_otherwise_and_the_refusal_names_the_option(
    tmp_path: Path, kind: str, given: str | None
) -> None:
    header, rows, stops = TABLES[kind]
    found = read(tmp_path, header, [*rows, *stops], stops=given)
    assert any("--stops drop" in one.remedy for one in found.findings.found if one.level == "refused")
    with pytest.raises(UserError, match=r"stop codon.*--stops drop"):
        found.raw_split()


def test_a_table_without_stops_is_what_it_was_whatever_is_asked_for(tmp_path: Path) -> None:
    for given in ("drop", "refuse", None):
        assert "stops" not in read(tmp_path, *TABLES["mutations"][:2], stops=given).table.settings


def test_other_mistakes_beside_them_are_refused_all_the_same(tmp_path: Path) -> None:
    found = read(tmp_path, "mutant,score", [*TABLES["mutations"][1], (STOP, 0.5), ("X9B", 0.5)], stops="drop")
    assert [one.level for one in found.findings.found if "X9B" in one.text or "'X'" in one.text] == ["refused"]
    only = [(STOP, 0.5), (f"{WILD_TYPE[4]}5*", 0.75)]
    with pytest.raises(UserError, match="has no row with a sequence and a target"):
        read(tmp_path, "mutant,score", only, stops="drop")


@pytest.mark.parametrize("stops", [None, "drop"])
@pytest.mark.parametrize("has_others", [False, True])
def test_a_column_of_mutations_that_was_merely_found_means_the_same_when_the_table_is_read_again(
    stops: str | None, has_others: bool, tmp_path: Path
) -> None:
    rows = [(s, m, v) for m, s, v in ROWS if ":" not in m]
    rows += [(WILD_TYPE, STOP, 0.25)] * 3 + [(cut(WILD_TYPE), STOP, 0.5)] * (has_others and stops == "drop")
    path = write(tmp_path / "t.csv", "sequence,mutant,score", rows)
    found = surveyed(path, split="random", stops=stops)
    assert found.table.wild_type == WILD_TYPE
    at = tuple(line for line, row in enumerate(rows, 2) if row[:2] == (WILD_TYPE, STOP))
    about = [one for one in found.findings.found if "but the sequence is the wild type's" in one.text]
    assert [(one.level, one.lines) for one in about] == [("note" if stops else "warning", at)]
    again = survey(path, Table(**found.table.recorded), is_reread=True)
    assert again.raw_split().content_hash == found.raw_split().content_hash
    assert again.table == found.table


def test_the_named_column_of_mutations_in_flips_layout_is_not_forgotten(tmp_path: Path) -> None:
    rows = [(s, v, "test" if i % 5 == 0 else "train", i % 5 == 1, m) for i, (m, s, v) in enumerate(variants()[:60])]
    rows.append((WILD_TYPE, 0.25, "train", False, STOP))
    path = write(tmp_path / "t.csv", "sequence,target,set,validation,aa_change", rows)
    named = {"sequence_column": "sequence", "mutation_column": "aa_change"}
    found = surveyed(path, wild_type=WILD_TYPE, stops="drop", **named)
    again = survey(path, Table(**found.table.recorded), is_reread=True)
    assert again.raw_split().content_hash == found.raw_split().content_hash
    assert again.table == found.table


def test_no_column_of_mutations_is_found_when_the_table_is_read_again(tmp_path: Path) -> None:
    """The names of chains in columns are known only then, and with them the mutations."""
    rows = [(WILD_TYPE, s, f"L:{m}" if m != "WT" else m, v) for m, s, v in variants()[:60]]
    rows.append((WILD_TYPE, WILD_TYPE, f"L:{STOP}", 0.25))
    path = write(tmp_path / "t.csv", "heavy,light,change,score", rows)
    columns = ("heavy", "light")
    found = surveyed(path, split="random", sequence_column=", ".join(columns), chain_columns=columns)
    assert found.table.mutation_column is None
    again = survey(path, Table(**found.table.recorded), is_reread=True)
    assert again.raw_split().content_hash == found.raw_split().content_hash
    assert again.table == found.table
