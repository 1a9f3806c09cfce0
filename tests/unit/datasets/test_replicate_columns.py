"""A table whose measurements stand in several columns, one for each replicate."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.tables.table import Table
from tests.helpers.tables import surveyed, table, variants, write

NAMES = ("rep1", "rep, two", "3")
HEADER = 'sequence,rep1,"rep, two",3'
SEQUENCES = [sequence for _, sequence, _ in variants()[:40]]
DRAW = np.random.default_rng(0)
VALUES = [[f"{value:.3f}" for value in row] for row in DRAW.normal(size=(40, 3)) + DRAW.normal(size=(40, 1))]


def wide(folder: Path, values: Sequence[Sequence[str]]) -> Path:
    return write(folder / "wide.csv", HEADER, [(one, *cells) for one, cells in zip(SEQUENCES, values, strict=True)])


def some_missing() -> list[list[str]]:
    """One cell of the third variant, two of the fifth, all of the seventh."""
    values = [list(row) for row in VALUES]
    values[2][1] = "n.d."
    values[4][0], values[4][2] = "", "NA"
    values[6] = ["n.d."] * 3
    return values


@pytest.mark.parametrize("n_percent", [0, 1, 2, 3])
def test_replicates_of_which_some_are_percentages_are_told_of(n_percent: int, tmp_path: Path) -> None:
    values = [[f"{cell} %" if i < n_percent else cell for i, cell in enumerate(row)] for row in VALUES]
    found = surveyed(wide(tmp_path, values), replicate_columns=NAMES).findings.found
    told = [one.text for one in found if one.level == "warning"]
    text = f"the replicate 'rep1' is written in percent and {NAMES[n_percent % 3]!r} is not"
    assert told == ([f"{text}: 12 % counts as 0.12 in their mean"] if n_percent in (1, 2) else [])


@pytest.mark.parametrize("values", [VALUES, some_missing()])
def test_columns_are_merged_as_rows_are(values: Sequence[Sequence[str]], tmp_path: Path) -> None:
    found = surveyed(wide(tmp_path, values), replicate_columns=NAMES)
    rows = [(one, cell) for one, cells in zip(SEQUENCES, values, strict=True) for cell in cells]
    same = surveyed(write(tmp_path / "long.csv", "sequence,fitness", rows))
    assert found.target.tolist() == same.target.tolist()
    assert list(found.sequences) == list(same.sequences)
    assert found.noise is not None
    assert same.noise is not None
    assert asdict(found.noise) == asdict(same.noise)
    assert found.table.target_column == "rep1, rep, two, 3"


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    found = surveyed(wide(tmp_path, some_missing()), replicate_columns=NAMES).findings.found
    told = {finding.text: list(finding.lines) for finding in found if finding.lines}
    assert told["a replicate has no measurement: the mean is that of the others"] == [4, 6]
    assert told["no replicate has a measurement: rows without one are set aside"] == [8]


def test_a_variant_in_two_rows_is_measured_as_often_as_both_say(tmp_path: Path) -> None:
    rows = [(one, *cells) for one, cells in zip(SEQUENCES, VALUES, strict=True)]
    rows += [(SEQUENCES[0], "1.0", "", "3.0")]
    path = write(tmp_path / "t.csv", HEADER, rows)
    found = surveyed(path, replicate_columns=NAMES)
    first = [*map(float, VALUES[0]), 1.0, 3.0]
    assert found.target[0] == pytest.approx(sum(first) / 5)
    assert len(found.target) == 40
    kept = surveyed(path, replicate_columns=NAMES, replicates="keep")
    assert len(kept.target) == 41
    assert kept.target[[0, -1]] == pytest.approx([sum(first[:3]) / 3, 2.0])
    refused = surveyed(path, replicate_columns=NAMES, replicates="refuse").findings
    with pytest.raises(UserError, match="line 42: the sequence was measured before"):
        refused.raise_refused()


def test_refuse_is_about_rows(tmp_path: Path) -> None:
    surveyed(wide(tmp_path, VALUES), replicate_columns=NAMES, replicates="refuse").findings.raise_refused()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("rep1", "rep2"), "has no column 'rep2' (--replicate-column)"),
        (("rep1", "rep1"), "--replicate-column 'rep1' is named twice"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(names: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        surveyed(wide(tmp_path, VALUES), replicate_columns=names)
    assert says in str(caught.value)


def test_a_cell_of_text_is_refused_by_its_line(tmp_path: Path) -> None:
    values = [list(row) for row in VALUES]
    values[3][2] = "high"
    with pytest.raises(UserError, match="line 5: the target 'high' is not a number; correct it, or leave it empty"):
        surveyed(wide(tmp_path, values), replicate_columns=NAMES).findings.raise_refused()


def test_a_table_without_them_is_recorded_as_before(tmp_path: Path) -> None:
    plain = table(tmp_path / "t.csv")
    assert "replicate_columns" not in plain.settings
    assert "replicate_columns" not in Table(**{**plain.settings, "file": "t.csv", "replicate_columns": []}).settings
    own = Table(**{**plain.settings, "file": "t.csv", "replicate_columns": ["a", "b"]})
    assert own.settings["replicate_columns"] == ("a", "b")


def test_a_limit_among_replicates_costs_its_cell_and_not_its_row(tmp_path: Path) -> None:
    values = [list(row) for row in VALUES]
    values[2][1] = "<0.01"
    for censored, says in (("drop", "such cells are set aside"), (None, "(--censored drop sets such cells aside)")):
        found = surveyed(wide(tmp_path, values), replicate_columns=NAMES, censored=censored)
        assert len(found.sequences) == 40
        [note] = [one.text for one in found.findings.found if "is a limit" in one.text]
        assert note.endswith(says)


def test_the_means_have_to_differ_and_not_each_column(tmp_path: Path) -> None:
    values = [[row[0], "0.5" if i in (3, 9) else "", row[2]] for i, row in enumerate(VALUES)]
    surveyed(wide(tmp_path, values), replicate_columns=NAMES).findings.raise_refused()
    values = [[str(1 + i), str(1 - i), "n.d."] for i in range(40)]
    with pytest.raises(UserError, match="every target is 1, so there is nothing to rank; name others with --replicate"):
        surveyed(wide(tmp_path, values), replicate_columns=NAMES).findings.raise_refused()
