"""Each mistake in a file is one sentence that names the place and the value, and leaves nothing behind."""

import os
import re
import struct
import zipfile
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from datasets.tasks import flip_files as source
from datasets.tasks.flip import GB1_WILD_TYPE
from datasets.tasks.flip_files import git_blob_id
from tests.helpers.data_fixtures import Workplace
from tests.helpers.split_files import GOOD_ROWS, HEADER, Row, variant, write_text, write_zip

WT = GB1_WILD_TYPE


def refused(workplace: Workplace, *words: str, name: str = "gb1_two_vs_rest") -> str:
    """Return the sentence with which the file is refused, after checking that it holds the words."""
    with pytest.raises(UserError) as caught:
        workplace.prepare(name)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    assert not [*workplace.cache.glob("*.safetensors*")]
    return sentence


@pytest.mark.parametrize("column", HEADER)
def test_missing_column(workplace: Workplace, column: str) -> None:
    header = ",".join("other" if name == column else name for name in HEADER)
    write_text(workplace.data, header + "\n" + ",".join(GOOD_ROWS[0]) + "\n")
    refused(workplace, "two_vs_rest.csv", "line 1", repr(column), "'other'")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((variant("J"), "1.0", "train", ""), ["residue 'J'", "ARNDCQEGHILKMFPSTWYVXU"]),
        ((variant("J"), "1.0", "test", ""), ["residue 'J'"]),
        ((variant("ä"), "1.0", "train", ""), ["residue 'Ä'"]),
        ((variant("-"), "1.0", "train", ""), ["residue '-'"]),
        (("", "1.0", "train", ""), ["sequence ''", "no residue"]),
        (("**", "1.0", "train", ""), ["sequence '**'", "no residue"]),
        ((WT, "nan", "train", ""), ["target 'nan'", "finite"]),
        ((WT, "NaN", "test", ""), ["target 'NaN'", "finite"]),
        ((WT, "-inf", "train", ""), ["target '-inf'", "finite"]),
        ((WT, "1e300", "train", ""), ["target '1e300'", "finite"]),
        ((WT, "high", "train", ""), ["target 'high'", "not a number"]),
        ((WT, "", "test", ""), ["target ''", "not a number"]),
        ((WT, "1", "valid", ""), ["set 'valid'", "'train'", "'test'"]),
        ((WT, "1", "", ""), ["set ''", "'train'", "'test'"]),
        ((WT, "1", "train", "yes"), ["validation value 'yes'", "'True'"]),
    ],
)
def test_bad_value(workplace: Workplace, row: Row, words: list[str]) -> None:
    write_zip(workplace.data, [*GOOD_ROWS, row])
    refused(workplace, "two_vs_rest.csv, line 6:", *words)


def test_empty_lines_keep_the_numbers_of_the_lines(workplace: Workplace) -> None:
    lines = [",".join(row) for row in (HEADER, *GOOD_ROWS)]
    write_text(workplace.data, "\n".join([*lines, "", ",,,", f"{WT},abc,train,", ""]))
    refused(workplace, "line 8:", "'abc'")


def test_a_short_line_is_an_error_of_its_own(workplace: Workplace) -> None:
    write_zip(workplace.data, [*GOOD_ROWS, (WT, "1")])
    refused(workplace, "line 6:", "set ''")


@pytest.mark.parametrize("place", [0, 4])
def test_a_line_with_too_many_cells_is_refused(workplace: Workplace, place: int) -> None:
    """It may have lost the quotes around a comma, and then every cell after it means another column."""
    write_zip(workplace.data, [*GOOD_ROWS[:place], (WT, "1", "train", "", "more"), *GOOD_ROWS[place:]])
    refused(workplace, "two_vs_rest.csv", "more cells than its header" if place == 0 else "Expected 4 fields in line 6")


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([row for row in GOOD_ROWS if row[2] == "train"], "test"),
        ([row for row in GOOD_ROWS if row[3] != "True"], "validation"),
        ([row for row in GOOD_ROWS if row[2] == "test" or row[3] == "True"], "train"),
        ([], "test"),
    ],
)
def test_empty_part(workplace: Workplace, rows: list[Row], part: str) -> None:
    write_zip(workplace.data, rows)
    refused(workplace, f"empty {part} part")


def test_validation_mark_does_not_make_a_test_row_visible(workplace: Workplace) -> None:
    write_zip(workplace.data, [*GOOD_ROWS, (variant("F"), "123", "test", "True")])
    split = workplace.prepare()
    assert split.n_test == 2
    assert 123 not in split.target


def test_overlap_is_refused(workplace: Workplace) -> None:
    again = (variant("A").lower(), "3", "test", "")
    write_zip(workplace.data, [*GOOD_ROWS, again])
    refused(workplace, "1 sequences in both train and test")


def test_overlap_in_flips_own_file_is_a_warning(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(workplace.data, [*GOOD_ROWS, (variant("A"), "3", "test", "")])
    monkeypatch.setitem(source.GIT_BLOBS, "gb1", git_blob_id(path))
    for _ in range(2):
        workplace.said.clear()
        split = workplace.prepare()
        assert split.n_overlap == 1
        assert split.label == "FLIP's file"
        [warning] = workplace.said
        assert warning.startswith("1 sequences")


def test_rows_without_a_set_are_no_part_of_flips_own_splits(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(workplace.data, [(WT, "1", "", ""), *GOOD_ROWS, (WT, "7", "", "True")])
    monkeypatch.setitem(source.GIT_BLOBS, "gb1", git_blob_id(path))
    split = workplace.prepare()
    assert (split.n_train, split.n_validation, split.n_test) == (2, 1, 1)


def test_duplicates_in_train_are_kept(workplace: Workplace) -> None:
    write_zip(workplace.data, [*GOOD_ROWS, GOOD_ROWS[0]])
    assert workplace.prepare().n_train == 3


def test_other_file_than_flips_is_one_warning(workplace: Workplace) -> None:
    path = write_zip(workplace.data, GOOD_ROWS)
    for _ in range(2):
        workplace.said.clear()
        assert workplace.prepare().label == "not FLIP's file"
        [warning] = workplace.said
        assert str(path) in warning


def test_split_absent_from_the_file(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS, split="two_vs_rest")
    refused(workplace, "'three_vs_rest'", "those it has are: two_vs_rest", name="gb1_three_vs_rest")


def test_shadow_files_of_macos_are_no_splits(workplace: Workplace) -> None:
    path = workplace.data / "gb1" / "splits.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/splits/._two_vs_rest.csv", "junk")
        archive.writestr("__MACOSX/two_vs_rest.csv", "junk")
    refused(workplace, "those it has are: none")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_truncated_zip(workplace: Workplace, kept: float) -> None:
    path = write_zip(workplace.data, GOOD_ROWS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(workplace, str(path), "not a zip file that can be read", "remove it, so that it is downloaded again")


def test_damaged_zip(workplace: Workplace) -> None:
    path = write_zip(workplace.data, GOOD_ROWS)
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    refused(workplace, "not a zip file that can be read")


def test_encrypted_zip(workplace: Workplace) -> None:
    path = write_zip(workplace.data, GOOD_ROWS)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        struct.pack_into("<H", content, content.index(signature) + offset, 1)
    path.write_bytes(content)
    refused(workplace, "not a zip file that can be read", "encrypted")


@pytest.mark.parametrize("text", ["", "sequence,target,set,validation\nA,1,train,,,,\nA,1,train,,,,,,\n", "\xff\xfe"])
def test_what_is_no_table(workplace: Workplace, text: str) -> None:
    path = write_text(workplace.data, "")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("splits/two_vs_rest.csv", text.encode("latin-1"))
    refused(workplace, "two_vs_rest.csv")


def test_byte_order_mark_and_windows_line_ends(workplace: Workplace) -> None:
    text = "".join(",".join(row) + "\r\n" for row in (HEADER, *GOOD_ROWS))
    write_text(workplace.data, "\ufeff" + text)
    assert workplace.prepare().n_train == 2


def test_unwritable_cache(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    workplace.cache.parent.mkdir()
    workplace.cache.write_text("a file where the folder should be")
    refused(workplace, str(workplace.cache), "writable")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_read_only_cache(workplace: Workplace) -> None:
    write_zip(workplace.data, GOOD_ROWS)
    workplace.cache.mkdir(parents=True, mode=0o555)
    refused(workplace, str(workplace.cache), "writable")


def test_message_is_one_sentence(workplace: Workplace) -> None:
    write_zip(workplace.data, [*GOOD_ROWS, (WT, "abc", "train", "")])
    sentence = refused(workplace)
    assert re.fullmatch(r"[^\n]+ correct the line or remove it\.", sentence)
    assert str(Path("gb1") / "splits.zip") in sentence
