"""Tables of published results: what is read, and what is refused in one sentence with the line."""

import os
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from search.reporting.published import PublishedResult, read_published

HEADER = "task,by,model,spearman,std,source"
ROW = "gb1_one_vs_rest,Somebody,cnn,0.5,0.01,a paper"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "published.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_in_any_order_and_with_what_a_table_needs(tmp_path: Path) -> None:
    text = (
        "\ufeffSource,split,Task,target,spearman,model,by\r\n"
        '"a paper, table 1","fold_random_5, test fold 2",blat, DMS_score ,-0.25,npt,Notin\r\n\r\n'
        "another,,gb1_one_vs_rest,,1,cnn,Somebody\r\n"
    )
    blat, gb1 = read_published(written(tmp_path, text))
    assert blat == PublishedResult(
        task="blat",
        target="DMS_score",
        split="fold_random_5, test fold 2",
        by="Notin",
        model="npt",
        spearman=-0.25,
        std=None,
        source="a paper, table 1",
    )
    assert (gb1.split, gb1.spearman) == ("as in the file", 1.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no rows"),
        (HEADER, "has no rows"),
        ("task,by,model,spearman\n" + ROW, "line 1: there is no column 'source', which says where a number was read"),
        ("task,by,model,spearman,std,sources\n" + ROW, "line 1: there is no column 'source'"),
        (HEADER + ",task\n" + ROW + ",x", "line 1: the column 'task' stands twice"),
        (HEADER + ",spilt\n" + ROW + ",x", "the column 'spilt' is not known. Did you mean 'split'?"),
        (f"{HEADER}\n{ROW}\ngb1_one_vs_rest,Somebody,cnn,0.5,,", "line 3: the source is empty"),
        (f"{HEADER}\n{ROW}\n\n{ROW},", "line 4: it has 7 cells, expected 6"),
        (f"{HEADER}\n{ROW.replace('0.5', '1.5')}", "line 2: the spearman 1.5 is no number from -1 to 1"),
        (f"{HEADER}\n{ROW.replace('0.5', 'nan')}", "line 2: the spearman nan is no number"),
        (f"{HEADER}\n{ROW.replace('0.5', '0_1')}", "line 2: the spearman 0_1 is no number"),
        (f"{HEADER}\n{ROW.replace('0.01', '-1')}", "line 2: the std -1 is no number from 0 to 1"),
        (f"{HEADER}\n{ROW.replace('cnn', chr(27) + '[2Jcnn')}", "line 2: the model"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('a paper', chr(34) + 'a' + chr(10) + 'b' + chr(34))}", "line 3: the source"),
        (f"{HEADER}\n{ROW.replace('cnn', 'c' * 101)}", "is no text of up to 100 letters"),
        (f"{HEADER}\n{ROW.replace('Somebody', 'Flipsearch')}", "line 2: by is 'flipsearch'"),
        (f"{HEADER}\n{ROW.replace('cnn', chr(34) + 'c' + chr(34) + 'x')}", "line 2: it is no CSV"),
        (f"{HEADER},split\n{ROW},random", "line 2: the task gb1_one_vs_rest says which target and split it is"),
        (HEADER + "\n" + f"{ROW}\n" * 1001, "has more than 1,000 rows"),
        (HEADER + "\n" + "x" * (1 << 20), "it is larger than"),
        (HEADER.encode() + b"\n\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_what_is_not_valid_is_refused_with_its_line(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        read_published(written(tmp_path, text))
    assert sentence in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, why in ((tmp_path, "directory"), (tmp_path / "fifo", "no file"), (tmp_path / "none.csv", "No such file")):
        with pytest.raises(UserError, match=f"cannot be read .*{why}"):
            read_published(path)
