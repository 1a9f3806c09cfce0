"""A split is read once; what stays of it holds no test target and survives accidents."""

import hashlib
import multiprocessing
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.splits import prepared
from datasets.splits.prepared import PreparedSplit, load_prepared, prepare
from datasets.tasks import split_zip
from datasets.tasks.registry import find_task
from tests.helpers.data_fixtures import Workplace
from tests.helpers.split_files import GOOD_ROWS, variant, write_zip


def assert_same(one: PreparedSplit, other: PreparedSplit) -> None:
    for name in ("residues", "lengths", "target", "validation"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for name in ("path", "data_hash", "label", "n_train", "n_validation", "n_test", "n_overlap"):
        assert getattr(one, name) == getattr(other, name)


def text_of(split: PreparedSplit, row: int) -> str:
    return bytes(split.residues[row, : split.lengths[row]]).decode()


def test_rows_keep_their_order_and_values(workplace: Workplace) -> None:
    rows = [GOOD_ROWS[3], *GOOD_ROWS[:3], ("acd*ef", "0.125", "train", "")]
    path = write_zip(workplace.data, rows)
    split = workplace.prepare()
    assert [text_of(split, row) for row in range(4)] == [variant("A"), variant("C"), variant("D"), "ACDEF"]
    assert split.residues.dtype == np.uint8
    assert split.residues.shape == (4, 265)
    assert not split.residues[3, 5:].any()
    assert split.lengths.tolist() == [265, 265, 265, 5]
    assert split.lengths.dtype == np.int64
    assert split.target.tolist() == [1.0, 0.5, -0.25, 0.125]
    assert split.target.dtype == np.float32
    assert split.validation.tolist() == [False, False, True, False]
    assert (split.n_train, split.n_validation, split.n_test, split.n_overlap) == (3, 1, 1, 0)
    content = zipfile.ZipFile(path).read("splits/two_vs_rest.csv")
    assert split.data_hash == hashlib.sha256(content).hexdigest()


def test_second_call_does_not_read_the_table(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    first = workplace.prepare()

    def read_again(path: Path, split: str) -> None:
        raise AssertionError("the table was read again")

    monkeypatch.setattr(split_zip, "read_split", read_again)
    assert_same(first, workplace.prepare())
    assert_same(first, load_prepared(first.path))


def test_another_file_is_prepared_anew(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    first = workplace.prepare()
    write_zip(workplace.data, [*GOOD_ROWS, (variant("G"), "4", "train", "")])
    second = workplace.prepare()
    assert second.n_train == first.n_train + 1
    assert second.path != first.path


def test_no_test_target_is_kept(workplace: Workplace) -> None:
    sentinel = np.float32(-7654.3217)
    write_zip(workplace.data, [*GOOD_ROWS, (variant("W"), str(sentinel), "test", "")])
    split = workplace.prepare()
    kept = b"".join(path.read_bytes() for path in workplace.cache.iterdir())
    for bits in (
        sentinel.tobytes(),
        np.float64(sentinel).tobytes(),
        str(sentinel).encode(),
    ):
        assert bits not in kept
    # The search for the sentinel would have found it.
    assert np.float32(-0.25).tobytes() in kept
    assert variant("D").encode() in kept
    assert split.n_test == 2


def test_test_sequences_are_read_on_demand(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(workplace.data, [*GOOD_ROWS, ("ACD", "1", "test", "")])
    read: list[str] = []
    original = prepared._read_test
    monkeypatch.setattr(prepared, "_read_test", lambda path: read.append(path.name) or original(path))
    split = load_prepared(workplace.prepare().path)
    read.clear()
    assert load_prepared(split.path).n_test == 2
    assert not read
    residues, lengths = prepared.test_sequences(split)
    assert read
    assert (residues.dtype, lengths.dtype) == (np.uint8, np.int64)
    assert residues.shape == (2, 265)
    assert lengths.tolist() == [265, 3]
    assert [bytes(row[:n]).decode() for row, n in zip(residues, lengths, strict=True)] == [variant("E"), "ACD"]
    assert not residues[1, 3:].any()


def test_broken_test_sequences_are_made_anew(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    split = workplace.prepare()
    content = split.path.read_bytes()
    split.path.write_bytes(content.replace(variant("E").encode(), variant("F").encode()))
    load_prepared(split.path)  # what a search needs is intact
    with pytest.raises(UserError, match="missing or broken"):
        prepared.test_sequences(split)
    workplace.prepare()
    [row], _ = prepared.test_sequences(split)
    assert bytes(row).decode() == variant("E")


MELTOME_ROWS = (
    ("MKU", "40.5", "train", "False"),
    ("MK", "50.5", "train", "True"),
    ("MKV" * 400, "60.5", "test", ""),
)


def test_a_tables_name_may_differ_from_its_splits(workplace: Workplace) -> None:
    write_zip(workplace.data, MELTOME_ROWS, split="mixed_split", dataset="meltome")
    split = workplace.prepare("meltome_mixed")
    assert [text_of(split, row) for row in range(2)] == ["MKU", "MK"]
    assert not any("retired" in sentence for sentence in workplace.said)
    with pytest.raises(UserError, match="no split 'human'; those it has are: mixed_split"):
        workplace.prepare("meltome_human")


def test_a_retired_split_says_so(workplace: Workplace) -> None:
    write_zip(workplace.data, MELTOME_ROWS, split="clustered", dataset="meltome")
    for _ in range(2):  # every time it is used, not only when it is read
        workplace.said.clear()
        workplace.prepare("meltome_clustered")
        assert [sentence for sentence in workplace.said if "FLIP has retired the split clustered" in sentence]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_broken_prepared_file_is_made_anew(workplace: Workplace, damage: str) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    first = workplace.prepare()
    content = bytearray(first.path.read_bytes())
    content[-3] ^= 1
    broken = {"empty": b"", "cut": bytes(content[:-100]), "flipped": bytes(content), "other": b"x" * 1000}[damage]
    first.path.write_bytes(broken)
    with pytest.raises(UserError, match="missing or broken"):
        load_prepared(first.path)
    assert_same(first, workplace.prepare())


def test_nothing_but_the_prepared_file_remains(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    split = workplace.prepare()
    assert {path.suffix for path in workplace.cache.iterdir()} <= {".safetensors", ".lock"}
    assert [*workplace.cache.glob("*.safetensors")] == [split.path]


def test_what_killed_processes_left_is_removed_a_day_later(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    workplace.cache.mkdir(parents=True)
    kinds = {"left": [f".gb1.{'0a' * 16}", ".gb1.4711"], "others": [".keep", "gb1.4711", f".gb1.{'1b' * 16}"]}
    for path in (workplace.cache / name for names in kinds.values() for name in names):
        path.write_bytes(b"half")
        age_s = 60 if path.name.endswith("1b") else 2 * 24 * 3600
        os.utime(path, (time.time() - age_s,) * 2)
    workplace.prepare()
    kept = {path.name for path in workplace.cache.iterdir() if path.suffix not in (".safetensors", ".lock")}
    assert kept == set(kinds["others"])


def _prepare(data: Path, cache: Path, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait(300)
    task = find_task("gb1_two_vs_rest")
    split = prepare(task, data_dir=data, cache_dir=cache, announce=lambda sentence: None)
    assert split.n_train == 2002


@pytest.mark.slow
def test_processes_prepare_the_same_file_at_once(workplace: Workplace) -> None:
    more = [(variant("A"), f"{row}", "train", "") for row in range(2000)]
    write_zip(workplace.data, [*GOOD_ROWS, *more])
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_prepare, args=(workplace.data, workplace.cache, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    [path] = workplace.cache.glob("*.safetensors")
    assert load_prepared(path).n_train == 2002


@pytest.mark.parametrize(
    ("name", "sizes", "length", "label"),
    [
        ("gb1_one_vs_rest", (25, 3, 8705), 265, "FLIP's file"),
        ("gb1_two_vs_rest", (381, 43, 8309), 265, "FLIP's file"),
        ("gb1_three_vs_rest", (2691, 299, 5743), 265, "FLIP's file"),
        ("gb1_low_vs_high", (4580, 509, 3644), 265, "FLIP's file"),
        ("gb1_sampled", (6289, 699, 1745), 265, "FLIP's file"),
        ("aav_two_vs_many", (10186, 1180, 30963), 735, None),
    ],
)
def test_flips_files(
    prepare_flip: Callable[[str], PreparedSplit],
    name: str,
    sizes: tuple[int, int, int],
    length: int,
    label: str | None,
) -> None:
    split = prepare_flip(name)
    if label is None and split.label == "FLIP's file":
        pytest.skip("these numbers are those of another file than FLIP's own")
    assert (split.n_train, split.n_validation, split.n_test) == sizes
    assert split.residues.shape == (sizes[0] + sizes[1], length)
    assert split.label == (label or "not FLIP's file")
    if name == "gb1_three_vs_rest":  # the wild type is in train
        assert text_of(split, 0) == find_task(name).wild_type
        assert split.target[0] == 1.0


def test_the_draft_of_meltome(prepare_flip: Callable[[str], PreparedSplit]) -> None:
    try:
        split = prepare_flip("meltome_clustered")
    except UserError:
        pytest.skip("FLIP's own file has this split no more")
    assert (split.n_train, split.n_validation, split.n_test) == (2637, 303, 1504)
    assert (split.lengths.min(), split.lengths.max()) == (39, 8797)
