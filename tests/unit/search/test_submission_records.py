"""The records of what was submitted: read back as written, and refused where somebody else may have written them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from search.cluster.records import Record, new_folder, read_records, write_record, write_storage

GOOD = {"job": 12, "study": "s", "n_jobs": 2, "submitted": "2026-01-02 03:04"}


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = [Record(**{**GOOD, "job": job, "study": study}) for study, job in (("a", 1), ("a", 2), ("b", 3))]
    folders = [new_folder(tmp_path, record.study) for record in written]
    for folder, record in zip(folders, written, strict=True):
        write_record(folder, record)
    new_folder(tmp_path, "a")  # what SLURM did not take has no record
    (tmp_path / "cache").mkdir()
    (tmp_path / "studies.db").touch()
    assert list(read_records(tmp_path, None)) == list(zip(folders, written, strict=True))
    assert [record.job for _, record in read_records(tmp_path, "b")] == [3]
    assert list(read_records(tmp_path, "none")) == list(read_records(tmp_path / "nowhere", None)) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 4000,
        b" " * 5000,
        *(
            json.dumps({**GOOD, **change}).encode()
            for change in (
                {"job": 0},
                {"job": True},
                {"job": "12"},
                {"job": 2**31},
                {"job": -1},
                {"study": "other"},
                {"n_jobs": 0},
                {"submitted": "\x1b[2J"},
                {"more": 1},
            )
        ),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = new_folder(tmp_path, "s")
    (folder / "job.json").write_bytes(content)
    with pytest.raises(UserError, match=r"The record .* (is not one of study 's'|cannot be read)"):
        list(read_records(tmp_path, "s"))


def _give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("Only root gives files away.")
    os.chown(path, 65534, -1)


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


@pytest.mark.parametrize("change", [_give_away, _link, lambda path: path.chmod(0o666)])
def test_a_record_that_others_may_have_written_is_refused(tmp_path: Path, change: Any) -> None:
    folder = new_folder(tmp_path, "s")
    write_record(folder, Record(**GOOD))
    change(folder / "job.json")
    with pytest.raises(UserError, match="is not believed"):
        list(read_records(tmp_path, "s"))


def test_the_storage_is_readable_for_its_user_alone_and_one_line(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_storage(tmp_path, "postgresql+psycopg://h/d", "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "storage").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "storage").read_text() == "postgresql+psycopg://h/d\nsecret\n"
    for url, password in (("a\nb", None), ("a", "b\nc"), ("a\0", None)):
        with pytest.raises(UserError, match="more than one line"):
            write_storage(tmp_path, url, password)
