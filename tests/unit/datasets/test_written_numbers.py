"""Targets as people write them: read in the one way that all of them allow, with a note, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.common.written_numbers import perhaps_thousands, written_numbers
from datasets.scores.keyed import score_numbers
from datasets.tables.survey import Survey
from tests.helpers.tables import surveyed, variants, write

SEQUENCES = [sequence for _, sequence, _ in variants()[:12]]
PLAIN = [0.5, 1.25, 2.5, 3.75, 4.5, 5.25, 6.5, 7.75, 8.5, 9.25, 10.5, 11.75]


def with_targets(folder: Path, targets: list[str], delimiter: str = ";", **changes: Any) -> Survey:
    rows = list(zip(SEQUENCES, targets, strict=True))
    return surveyed(write(folder / "t.csv", f"sequence{delimiter}fitness", rows), split="random", **changes)


def notes(found: Survey) -> list[str]:
    return [one.text for one in found.findings.found if one.level == "note" and "target" in one.text]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,5", "2"], [1.5, 2]),
        ([",5", "1,", "-2,25", "+3,0"], [0.5, 1, -2.25, 3]),
        (["0,123", "0,456"], [0.123, 0.456]),
        (["1.234,5", "2.345"], [1234.5, 2345]),
        (["1,234.5", "2,345"], [1234.5, 2345]),
        (["1,234", "0.5"], [1234, 0.5]),
        (["1.234.567", "1,5"], [1234567, 1.5]),
        (["1 234", "5"], [1234, 5]),
        (["1\u2009234,5", "1\u00a0000", "2\u202f000 000"[:7]], [1234.5, 1000, np.nan]),
        (["1'234.5", "1’000", "2´000"], [1234.5, 1000, 2000]),
        (["<= 5", "=>6", "⩽7", "＞ 8", "≤1 000"], [5, 6, 7, 8, 1000]),
        (["12 %", "5%", "0,5 %"], [0.12, 0.05, 0.005]),
        (["1,5E-3", "2,5e+2"], [0.0015, 250]),
        (["\u22121,5", "\u2212 2"], [-1.5, np.nan]),
        (["1.5", "\u22122"], [1.5, -2]),
    ],
)
def test_a_column_is_read_in_the_one_way_that_it_allows(cells: list[str], values: list[float]) -> None:
    found = written_numbers(cells)
    np.testing.assert_array_equal(found.values, values)
    assert found.doubt is None


@pytest.mark.parametrize(
    "cells", [["1,2,3"], ["1_000"], ["1 23"], ["12,34,567"], ["%"], ["<"], ["5 kg"], ["1.2.3"], ["1,234,56"], ["0x10"]]
)
def test_what_is_no_number_is_none(cells: list[str]) -> None:
    assert np.isnan(written_numbers(cells).values).all()


def test_numbers_that_programs_write_stay_equal_bit_for_bit() -> None:
    cells = ["1e-5", "0.1", " 7 ", "1.234", "-3.4028234663852886e+38", "1E3", "12.", ".5", "0.30000000000000004"]
    found = written_numbers(cells)
    assert found.values.tolist() == [float(cell) for cell in cells]
    assert not found.is_unusual.any()


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_are_the_same_targets_with_a_note(delimiter: str, tmp_path: Path) -> None:
    plain = with_targets(tmp_path, list(map(repr, PLAIN)), delimiter)
    assert notes(plain) == []
    found = with_targets(tmp_path, [repr(value).replace(".", ",") for value in PLAIN], delimiter)
    assert found.raw_split().content_hash == plain.raw_split().content_hash
    assert found.table.settings == plain.table.settings
    assert notes(found) == ["the target '0,5' is read as 0.5"]
    cells = ["n.d.", *(f"{value:.2f}".replace(".", ",") + " %" for value in PLAIN[1:])]
    found = with_targets(tmp_path, cells, delimiter)
    assert found.raw_split().target == [repr(value / 100) for value in PLAIN[1:]]
    assert "the target '1,25 %' is read as 0.0125" in notes(found)


def test_two_readings_are_refused_with_what_to_do(tmp_path: Path) -> None:
    middle = [f"2,{300 + i}" for i in range(10)]
    found = with_targets(tmp_path, ["1,234", *middle, "7"])
    with pytest.raises(UserError) as caught:
        found.raw_split()
    assert str(caught.value).endswith(
        "t.csv, line 2: the target '1,234' can be read as 1234.0 and as 1.234, and no target tells which; write "
        "the targets with a decimal point and without marks between thousands."
    )
    assert with_targets(tmp_path, ["1,234", *middle, "7,5"]).raw_split().target[0] == "1.234"


def test_the_cell_that_does_not_fit_is_the_one_that_is_named(tmp_path: Path) -> None:
    commas = [repr(value).replace(".", ",") for value in PLAIN]
    for cells, says in (
        ([*commas[:4], "high", *commas[5:]], "line 6: the target 'high' is not a number"),
        ([*map(repr, PLAIN[:4]), "1,5", *map(repr, PLAIN[5:])], "line 6: the target '1,5' is not a number, decimals"),
        (
            [*(f"{cell} %" for cell in commas[:4]), "12", *(f"{cell}%" for cell in commas[5:])],
            "line 6: the target '12'",
        ),
    ):
        with pytest.raises(UserError, match=says):
            with_targets(tmp_path, cells).raw_split()


def test_limits_are_taken_set_aside_or_refused(tmp_path: Path) -> None:
    cells = [*map(repr, PLAIN[:8]), "<0.01", "> 1000", "≥ 12", "=<7"]
    plain = with_targets(tmp_path, [*map(repr, PLAIN[:8]), "0.01", "1000", "12", "7"]).raw_split()
    for given in (None, "limit"):
        found = with_targets(tmp_path, cells, censored=given)
        assert found.raw_split().content_hash == plain.content_hash
        assert "censored" not in found.table.settings
        (note,) = [one for one in found.findings.found if "limit" in one.text]
        assert (note.n, note.lines) == (4, (10, 11, 12, 13))
        assert note.text.startswith("the target '<0.01' is a limit and not a measurement: 0.01 is taken for it")
    found = with_targets(tmp_path, cells, censored="drop")
    assert len(found.raw_split().target) == 8
    assert found.table.settings["censored"] == "drop"
    with pytest.raises(UserError, match=r"line 10: the target '<0.01' is a limit and not a measurement \(and 3 more"):
        with_targets(tmp_path, cells, censored="refuse").raw_split()
    found = with_targets(tmp_path, ["<0,5", *(repr(value).replace(".", ",") for value in PLAIN[1:])])
    assert found.raw_split().target == list(map(repr, PLAIN))


def test_limits_without_a_number_are_set_aside_where_that_is_asked_for(tmp_path: Path) -> None:
    cells = ["<LOD", *map(repr, PLAIN[1:])]
    with pytest.raises(
        UserError, match=r"line 2: the target '<LOD' is not a number \(--censored drop sets limits aside"
    ):
        with_targets(tmp_path, cells).raw_split()
    assert with_targets(tmp_path, cells, censored="drop").raw_split().target == list(map(repr, PLAIN[1:]))
    cells = ["<LOD", *(f"2,{300 + i}" for i in range(11))]
    with pytest.raises(UserError, match=r"line 3: the target '2,300' can be read as 2300\.0 and as 2\.3"):
        with_targets(tmp_path, cells, censored="drop").raw_split()


def test_how_limits_are_read_is_recorded_only_where_there_are_any(tmp_path: Path) -> None:
    for given in ("drop", "refuse", "limit"):
        found = with_targets(tmp_path, list(map(repr, PLAIN)), censored=given)
        assert "censored" not in found.table.settings


def test_scores_are_read_as_targets_are_where_they_are_named() -> None:
    lines = np.arange(2, 5)
    np.testing.assert_array_equal(
        score_numbers(["1,5", "", "2"], "t", "x", lines, "line"), np.array([1.5, np.nan, 2], dtype=np.float32)
    )
    for cells, is_named in ((["10,13", "1", "2"], False), (["1,234", "1", "2"], True), (["<1", "2", "3"], True)):
        with pytest.raises(UserError, match="line 2: the score"):
            score_numbers(cells, "t", "x", lines, "line", is_named=is_named)


def test_a_number_of_a_sheet_beside_texts_with_decimal_commas_is_not_a_thousandfold() -> None:
    assert written_numbers(["0,375", "1.208"]).doubt == (1, 1208.0, 1.208)
    for told in (["0,375", "1.208", "1.414,5"], ["0,375", "1.208", "1.000.000"], ["0,375", "1,208"]):
        assert written_numbers(told).doubt is None


def test_points_that_may_stand_between_thousands_are_noted(tmp_path: Path) -> None:
    few = ["785", "2.277", "", "912", "13.500", "640", "7"]
    assert perhaps_thousands(few, frozenset({""})) == 1
    others = (
        ["785", "2.277"],
        [*few, "2.5"],
        [*few, "1000"],
        [*few, "0.375"],
        ["785", "912"],
        [*few, "-"],
        [*few, "1e3"],
    )
    assert [perhaps_thousands(other, frozenset({""})) for other in others] == [None] * len(others)
    assert perhaps_thousands(["-785", "-2.277", "+1.050", "912", "-7"], frozenset()) == 1
    assert perhaps_thousands(["-785", "--2.277", "912"], frozenset()) is None
    (note,) = notes(with_targets(tmp_path, ["785", "2.277", "912", "1.050"] * 3))
    assert note == (
        "the target '2.277' is read as 2.277, not as 2277: if its point stands between thousands, remove such points"
    )
