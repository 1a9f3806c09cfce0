"""A table with a column of standard errors."""

from pathlib import Path

import numpy as np
import pytest

from datasets.batches.datamodule import FitnessData
from datasets.common.errors import UserError
from datasets.sequences.tokenizer import ResidueTokenizer
from datasets.splits.prepared import prepare
from datasets.splits.row_weights import row_weights
from datasets.tables.flip_format import flip_blocks
from datasets.tables.survey import Survey
from datasets.tasks.own_table import table_task
from datasets.validation.protocols import Fold
from tests.helpers.tables import surveyed, variants, write

SEQUENCES = [sequence for _, sequence, _ in variants()[:60]]
VALUES = np.random.default_rng(0).normal(size=60).round(3).tolist()
ERRORS = np.random.default_rng(1).uniform(0.1, 1, size=60).round(3).tolist()


def read(folder: Path, errors: list[object], **changes: object) -> Survey:
    rows = list(zip(SEQUENCES, VALUES, errors, strict=True))
    return surveyed(write(folder / "t.csv", "sequence,fitness,se", rows), error_column="se", split="random", **changes)


def test_errors_follow_their_rows_to_the_batches(tmp_path: Path) -> None:
    found = read(tmp_path, [*ERRORS])
    assert found.error is not None
    assert found.error.tolist() == ERRORS
    task = table_task(found.table, name="t", loaded=found)
    split = prepare(task, data_dir=None, cache_dir=tmp_path / "cache", announce=lambda _: None)
    assert split.error is not None
    by_value = dict(zip(np.float32(VALUES).tolist(), np.float32(ERRORS).tolist(), strict=True))
    assert split.error.tolist() == [by_value[one] for one in split.target.tolist()]
    rows = np.arange(len(split.target))
    fold = Fold(train=rows[~split.validation], validation=rows[split.validation])
    data = FitnessData(split=split, task=task, tokenizer=ResidueTokenizer(), fold=fold, crop=None, batch_size=7, seed=0)
    expected = row_weights(split.error, fold.train)
    for batch in (*data.train_dataloader(), data.training_rows(), *data.val_dataloader()):
        assert batch.weight is not None
        assert batch.weight.tolist() == expected[batch.index.numpy()].tolist()
        part = batch.parts(max_tokens=3 * batch.tokens.shape[1])[0]
        assert part.weight is not None
        assert part.weight.tolist() == expected[part.index.numpy()].tolist()


def test_a_written_split_is_read_as_the_table_was(tmp_path: Path) -> None:
    found = read(tmp_path, [*ERRORS])
    raw = found.raw_split()
    written = tmp_path / "split.csv"
    written.write_bytes(
        b"".join(flip_blocks(raw.sequence, raw.target, raw.part, raw.validation, raw.group, None, raw.error))
    )
    from datasets.tables.survey import survey

    again = survey(written, found.table, is_reread=True).raw_split()
    assert again.content_hash == raw.content_hash
    assert again.error == raw.error
    plain = surveyed(tmp_path / "t.csv", split="random").raw_split()
    assert plain.error is None
    assert plain.content_hash != raw.content_hash


def test_the_error_of_a_mean_is_smaller(tmp_path: Path) -> None:
    rows = [*zip(SEQUENCES, VALUES, ERRORS, strict=True), (SEQUENCES[0], 1.0, 0.4), (SEQUENCES[0], 2.0, 0.3)]
    path = write(tmp_path / "t.csv", "sequence,fitness,se", rows)
    found = surveyed(path, error_column="se").error
    assert found is not None
    assert found[0] == pytest.approx(np.sqrt(ERRORS[0] ** 2 + 0.4**2 + 0.3**2) / 3)
    assert found[1:].tolist() == ERRORS[1:]
    kept = surveyed(path, error_column="se", replicates="keep").error
    assert kept is not None
    assert kept.tolist() == [*ERRORS, 0.4, 0.3]


def test_a_row_without_one_has_the_median(tmp_path: Path) -> None:
    found = read(tmp_path, ["n.d.", "", *ERRORS[2:]])
    assert found.error is not None
    assert found.division is not None
    known = [error for i, error in enumerate(ERRORS) if i > 1 and not found.division.test[i]]
    assert found.error[:2].tolist() == [np.median(known)] * 2
    [note] = [one for one in found.findings.found if "standard error" in one.text]
    assert (note.level, list(note.lines)) == ("note", [2, 3])


def test_the_median_is_not_that_of_test_rows(tmp_path: Path) -> None:
    """Test rows set no weights of training rows; a mean over rows has its own."""
    whole = read(tmp_path, [*ERRORS]).division
    assert whole is not None
    row, other = np.flatnonzero(~whole.test)[:2].tolist()
    known = [error for i, error in enumerate(ERRORS) if not whole.test[i] and i != row]
    cells: list[object] = [100.0 if whole.test[i] else "" if i == row else error for i, error in enumerate(ERRORS)]
    found = read(tmp_path, cells)
    assert found.error is not None
    assert found.error[row] == np.median(known)
    assert [found.error[i] for i in range(60) if i != row] == [cell for cell in cells if cell != ""]
    rows = [*zip(SEQUENCES, VALUES, cells, strict=True), (SEQUENCES[other], VALUES[other], "")]
    merged = surveyed(write(tmp_path / "t.csv", "sequence,fitness,se", rows), error_column="se", split="random").error
    assert merged is not None
    assert merged[other] == pytest.approx(np.hypot(ERRORS[other], np.median(known)) / 2)
    with pytest.raises(UserError, match=r"t.csv has standard errors of test rows alone: leave --error-column out"):
        read(tmp_path, [1.0 if is_test else "" for is_test in whole.test])


def test_errors_that_are_all_the_same_are_allowed(tmp_path: Path) -> None:
    found = read(tmp_path, [0.2] * 60)
    found.findings.raise_refused()
    assert set(row_weights(np.float32([0.2] * 5), np.arange(5)).tolist()) == {1.0}


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("0", "line 4: the standard error '0' is not above 0; leave the cell empty where it is not known"),
        ("-0.1", "line 4: the standard error '-0.1' is not above 0"),
        ("1e-46", "line 4: the standard error '1e-46' is not above 0 in single precision"),
        ("high", "line 4: the standard error 'high' is not a number"),
        ("inf", "line 4: the standard error 'inf' is not a finite number"),
    ],
)
def test_an_error_that_cannot_be_one_is_refused(cell: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, [*ERRORS[:2], cell, *ERRORS[3:]]).findings.raise_refused()
    assert says in str(caught.value)


def test_a_column_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no standard error in 'se': leave --error-column out"):
        read(tmp_path, ["NA"] * 60)


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,fitness", list(zip(SEQUENCES, VALUES, strict=True)))
    with pytest.raises(UserError, match=r"has no column 'se' \(--error-column\)"):
        surveyed(path, error_column="se")
