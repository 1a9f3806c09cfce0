"""Variants with a stop codon: refused, or set aside, however they are written."""

from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from datasets.tables.survey import Survey
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
