"""Test targets come in the order of the test sequences, and of no other data than was asked for."""

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.splits import held_out as test_set
from datasets.splits import prepared
from datasets.tasks.registry import find_task
from tests.helpers.data_fixtures import Workplace
from tests.helpers.split_files import GOOD_ROWS, variant, write_zip

TASK = find_task("gb1_two_vs_rest")


def read(workplace: Workplace, data_hash: str) -> test_set.HeldOut:
    return test_set.read_test_set(TASK, data_dir=workplace.data, data_hash=data_hash, announce=workplace.said.append)


def test_targets_stand_in_the_order_of_the_sequences(workplace: Workplace) -> None:
    rows = [(variant("W"), "0.125", "test", ""), *GOOD_ROWS, (variant("F"), "-3", "test", "True")]
    write_zip(workplace.data, rows)
    split = workplace.prepare()
    held_out = read(workplace, split.data_hash)
    residues, lengths = prepared.test_sequences(split)
    found = [bytes(row[:length]).decode() for row, length in zip(residues, lengths, strict=True)]
    assert dict(zip(found, held_out.target.tolist(), strict=True)) == {
        variant("W"): 0.125,
        variant("E"): 2.0,
        variant("F"): -3.0,
    }
    assert held_out.target.dtype == np.float32
    assert (held_out.official, held_out.label) == (False, "not FLIP's file")


def test_other_data_than_was_asked_for_is_refused_by_its_hash(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    data_hash = workplace.prepare().data_hash
    write_zip(workplace.data, [*GOOD_ROWS[:-1], (variant("E"), "2.5", "test", "")])
    with pytest.raises(UserError, match=f"that of the data of the experiment is {data_hash[:12]}"):
        read(workplace, data_hash)


def test_the_synthetic_landscape_has_a_test_set_like_any_other() -> None:
    task = find_task("synthetic_one_vs_rest")
    whole = task.source.read(task.source.locate(data_dir=None, announce=print), task.split)
    n_test = list(whole.part).count("test")
    held_out = test_set.read_test_set(task, data_dir=None, data_hash=whole.content_hash, announce=print)
    expected = [float(t) for t, part in zip(whole.target, whole.part, strict=True) if part == "test"]
    assert len(held_out.target) == n_test
    np.testing.assert_array_equal(held_out.target, np.array(expected, dtype=np.float32))
    assert held_out.official
