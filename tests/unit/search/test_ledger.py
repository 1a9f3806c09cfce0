"""Readings of a test set are on the disk before anybody sees them, and none is ever lost or mended."""

import json
import os
import resource
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from search.experiments.ledger import Reading, append, read, readings

READING = Reading(
    when="2026-01-02T03:04:05+00:00",
    experiment="gb1_two_vs_rest-ridge",
    checksum="sha256:" + "0" * 64,
    study="gb1_two_vs_rest-ridge",
    trial=3,
    task="gb1_two_vs_rest",
    model="ridge",
    data="FLIP's file",
    data_hash="1" * 64,
    official=True,
    n_test=8309,
    seeds=[1, 2],
    n_epochs=1,
    code={"git_commit": None, "versions": {"torch": "2.13.0"}},
    machine={"system": "Linux"},
    values={"train_and_validation": {"per_seed": {"spearman": [0.1 + 0.2, 1 / 3]}, "ensemble": {"spearman": -1e-300}}},
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "exported ä" / "gb1_two_vs_rest-ridge.ledger.jsonl"


def test_readings_come_back_exactly_and_in_order(ledger: Path) -> None:
    assert read(ledger) == ()
    append(ledger, [READING])
    append(ledger, [replace(READING, trial=4), replace(READING, trial=5)])
    assert read(ledger) == (READING, replace(READING, trial=4), replace(READING, trial=5))
    assert len(ledger.read_text(encoding="utf-8").splitlines()) == 3


def test_what_stands_in_a_ledger_stays_as_it_is(ledger: Path) -> None:
    append(ledger, [READING])
    before = ledger.read_bytes()
    append(ledger, [READING])
    assert ledger.read_bytes() == before * 2


def test_it_is_on_the_disk_when_append_returns(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (fsync(file), synced.append(os.fstat(file).st_size)))
    append(ledger, [READING])
    assert synced[0] == ledger.stat().st_size, "the file, after all of it was written"
    assert len(synced) == 2, "and its new name"


BROKEN = {
    "half a line": lambda line: line[: len(line) // 2],
    "no end": lambda line: line.rstrip(b"\n"),  # in the middle: two readings in a line
    "no object": lambda line: b"[]\n",
    "no JSON": lambda line: b"{" + line,
    "no text": lambda line: b"\xff\n",
    "an empty line": lambda line: b"\n",
    "a missing key": lambda line: line.replace(b'"seeds"', b'"sseds"'),
    "a number of another type": lambda line: line.replace(b'"trial": 3', b'"trial": "3"'),
    "values of another way": lambda line: line.replace(b'"train_and_validation"', b'"train"'),
    "values that are none": lambda line: line.replace(b'{"per_seed"', b'[], "x": {"per_seed"'),
    "no seeds": lambda line: line.replace(b"[0.30000000000000004, 0.3333333333333333]", b"[]"),
    "a text for a number": lambda line: line.replace(b"-1e-300", b'"-1e-300"'),
    "half an interval": lambda line: line.replace(b'"per_seed"', b'"over_sequences": {"spearman": [0.1]}, "per_seed"'),
    "an odd coverage": lambda line: line.replace(b'"per_seed"', b'"coverage": {"share": 0.9}, "per_seed"'),
    "deeply nested": lambda line: b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("is_last", [False, True], ids=["in the middle", "at the end"])
@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_named_and_nothing_is_written(ledger: Path, damage, is_last: bool) -> None:
    append(ledger, [READING])
    line = ledger.read_bytes()
    broken = line + damage(line) + (b"" if is_last else line)
    ledger.write_bytes(broken)
    for refused in (lambda: read(ledger), lambda: append(ledger, [READING])):
        with pytest.raises(UserError, match="line 2 is no reading of a test set") as caught:
            refused()
        assert str(ledger) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert ledger.read_bytes() == broken
    other, said = ledger.with_name("other.ledger.jsonl"), []
    append(other, [READING])
    assert readings(ledger.parent, said.append) == (READING,), "of one ledger others are not to be hidden"
    assert said == [str(caught.value)]


def test_many_at_once_lose_nothing(ledger: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda trial: append(ledger, [replace(READING, trial=trial)]), range(40)))
    assert sorted(reading.trial for reading in read(ledger)) == list(range(40))


def test_what_is_no_number_is_never_written(ledger: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append(ledger, [replace(READING, values={"train": {"ensemble": {"spearman": float("nan")}}})])
    assert read(ledger) == ()


def test_a_ledger_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="no test result is shown that it does not hold"):
        append(tmp_path / "file" / "x.ledger.jsonl", [READING])


def test_a_full_disk_leaves_no_half_of_a_line(ledger: Path) -> None:
    append(ledger, [READING])
    before = ledger.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
        with pytest.raises(UserError, match="cannot be written"):
            append(ledger, [READING])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert ledger.read_bytes() == before


def test_readings_of_a_folder_are_in_the_order_of_time_and_a_copied_line_counts_once(ledger: Path) -> None:
    append(ledger, [READING, replace(READING, when="2026-03-01T00:00:00+00:00", id="9" * 32)])
    other = replace(READING, when="2026-02-01T00:00:00+00:00", study="mine", id="8" * 32)
    append(ledger.with_name("mine.ledger.jsonl"), [other, READING])
    assert [reading.when[:7] for reading in readings(ledger.parent, pytest.fail)] == ["2026-01", "2026-02", "2026-03"]
    assert readings(ledger.parent / "missing", pytest.fail) == ()


def test_lines_of_an_earlier_version_are_readings_that_count_one_by_one(ledger: Path) -> None:
    """They name neither an id nor the split; two calls within a second left equal lines."""
    ledger.parent.mkdir()
    before = {key: value for key, value in asdict(READING).items() if key not in ("id", "target", "split")}
    line = json.dumps(before, ensure_ascii=False) + "\n"
    ledger.write_text(line * 2, encoding="utf-8")
    append(ledger, [READING])
    found = read(ledger)
    assert [replace(one, id=READING.id) for one in found] == [READING] * 3
    assert len({one.id for one in found}) == 3
    assert read(ledger) == found, "the same ids, whenever they are read"
    shutil.copy(ledger, ledger.with_name("copy.ledger.jsonl"))
    assert len(readings(ledger.parent, pytest.fail)) == 3


def test_a_line_is_plain_json(ledger: Path) -> None:
    """One of a single config and no fold has no word of members and folds: versions that know of none read it."""
    append(ledger, [READING])
    known = asdict(READING)
    for name in ("members", "fold_column", "fold", "fold_names", "table_hash", "settings_hash"):
        assert known.pop(name) is None
    assert json.loads(ledger.read_text(encoding="utf-8")) == known
    append(ledger, [replace(READING, members=["trial 1 of study a"], id="0" * 32)])
    assert [one.of for one in read(ledger)] == [f"trial {READING.trial}", "ensemble of 1"]
