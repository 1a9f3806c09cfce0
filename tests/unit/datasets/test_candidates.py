"""Candidates from any file: in memory of a few blocks, and with a sentence for every file that is none."""

import dataclasses
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from datasets.batches.window import LengthLimit
from datasets.candidates.candidates import BLOCK_ROWS, Candidates, Format, read_candidates, residues_of
from datasets.candidates.mutagenesis import RESIDUES, Mutagenesis, enumerate_variants
from datasets.common.errors import SequenceError, UserError
from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.crop import Crop
from datasets.task import Task
from datasets.tasks.flip import clean_flip
from datasets.tasks.registry import find_task

TASK = find_task("synthetic_two_vs_rest")
ANY_LENGTH = LengthLimit(max_length=None, max_residues=None, truncate=True)


def read(path: Path, format: Format | None = None, task: Task = TASK) -> list[Candidates]:
    return list(read_candidates(path, task, format).blocks)


def texts_of(blocks: list[Candidates]) -> list[str]:
    return [text for block in blocks for text in block.sequences()]


def test_blocks_do_not_depend_on_how_the_file_is_laid_out(tmp_path: Path) -> None:
    sequences = ["".join(RESIDUES[(i * 7 + j) % 20] for j in range(5 + i % 3)) for i in range(2 * BLOCK_ROWS + 10)]
    plain, fasta, quoted = tmp_path / "a.txt", tmp_path / "a.fasta.gz", tmp_path / "a.csv"
    plain.write_text("\n".join(sequences))
    fasta.write_bytes(gzip.compress("".join(f">{i}\n{text}\n" for i, text in enumerate(sequences)).encode()))
    quoted.write_text("n,sequence\n" + "".join(f'"{i}\n","{text}"\n' for i, text in enumerate(sequences)))
    for path, lines in ((plain, [1, 2]), (fasta, [1, 3]), (quoted, [3, 5])):
        blocks = read(path)
        assert [len(block) for block in blocks] == [BLOCK_ROWS, BLOCK_ROWS, 10], path
        assert texts_of(blocks) == sequences
        assert list(blocks[0].lines or ())[:2] == lines


def written(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_gives_the_blocks_that_csv_gives(tmp_path: Path) -> None:
    sequences = ["".join(RESIDUES[(i * 7 + j) % 20] for j in range(5 + i % 3)) for i in range(2 * BLOCK_ROWS + 10)]
    names = [f"n{i}\nof plate 3" for i in range(len(sequences))]
    path = tmp_path / "a.data"  # told by its content
    table = pa.table({"x": [[1]] * len(sequences), "ID": names, "Sequence": pa.array(sequences).dictionary_encode()})
    parquet.write_table(table, path, row_group_size=999)
    blocks = list(read_candidates(path, TASK, None, has_names=True).blocks)
    assert [len(block) for block in blocks] == [BLOCK_ROWS, BLOCK_ROWS, 10]
    assert texts_of(blocks) == sequences
    assert list(blocks[2].lines or ()) == list(range(2 * BLOCK_ROWS + 1, 2 * BLOCK_ROWS + 11))
    assert [name for block in blocks for name in block.names or ()] == [f"n{i} of plate 3" for i in range(len(names))]


def test_mutations_are_read_from_parquet(tmp_path: Path) -> None:
    wild_type = TASK.wild_type
    assert wild_type is not None
    other = "A" if wild_type[0] != "A" else "C"
    path = written(tmp_path / "a.parquet", mutant=["WT", f"{wild_type[0]}1{other}"])
    assert texts_of(read(path)) == [wild_type, other + wild_type[1:]]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"sequence": ["ACD", None]}, "row 2: the sequence '' holds no residue; correct the row or remove it."),
        ({"sequence": ["ACD", "AC-"]}, "row 2: the residue '-' at position 3"),
        ({"mutations": ["WT", "A"]}, "row 2: 'A' is no mutation such as V39A; correct the row or remove it."),
        ({"sequence": [7]}, "row 1: the residue '7' at position 1"),
        ({"sequence": [[1]], "x": [1]}, "no column is called 'sequence' or 'mutations'; its columns are 'x'."),
        ({"sequence": pa.array([], pa.string())}, "holds no candidates"),
    ],
)
def test_what_is_wrong_in_parquet_is_named_by_its_row(
    columns: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.parquet", **columns)
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("format", [None, "parquet"])
@pytest.mark.parametrize("content", [b"sequence\nACD\n", b"PAR1", b"PAR1" + bytes(40) + b"PAR1", b""])
def test_what_is_no_parquet_is_refused(content: bytes, format: Format | None, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not a Parquet file that can be read .*write it again|is empty"):
        read(path, format)


def test_names_stay_with_their_candidates_from_block_to_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = ["".join(RESIDUES[(i * 7 + j) % 20] for j in range(1 + i % 19)) for i in range(500)]
    fasta, table = tmp_path / "a.fasta", tmp_path / "a.csv"
    fasta.write_text("".join(f">n{i} of 500\n{text}\n" for i, text in enumerate(sequences)))
    table.write_text("ID,sequence\n" + "".join(f'"n{i}\nof 500","{text}"\n' for i, text in enumerate(sequences)))
    monkeypatch.setattr("datasets.candidates.candidates.BLOCK_ROWS", 7)
    monkeypatch.setattr("datasets.candidates.candidates._BLOCK_RESIDUES", 40)
    monkeypatch.setattr("datasets.tables.formats.text_file._BLOCK_BYTES", 301)
    for path, rest in ((fasta, ""), (table, " of 500")):
        blocks = list(read_candidates(path, find_task("meltome_mixed"), None, has_names=True).blocks)
        assert len(blocks) > 100
        assert texts_of(blocks) == sequences
        assert [name for block in blocks for name in block.names or ()] == [f"n{i}{rest}" for i in range(500)]
        last = blocks[3].take(np.array([len(blocks[3]) - 1]))
        assert list(last.names or ()) == [(blocks[3].names or ())[-1]]


def test_one_long_sequence_does_not_widen_thousands(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    sequences = ["ACD"] * 3000 + ["W" * 500_000] + ["ACD"] * 3000
    path.write_text("\n".join(sequences))
    blocks = read(path)
    assert max(block.residues.size for block in blocks) <= 2**23
    assert texts_of(blocks) == sequences


def test_residues_are_named_by_their_row_and_position() -> None:
    residues, lengths = residues_of(["acd*", "MKXU"], clean_flip)
    assert residues.tolist() == [[*b"ACD", 0], [*b"MKXU"]]
    assert lengths.tolist() == [3, 4]
    for sequences, words in (
        (["ACD", "AC DE"], "the residue ' ' at position 3"),
        (["ACD", "ÄCD"], "the residue 'Ä' at position 1"),
        (["ACD", "A*C"], "a stop codon"),
        (["ACD", "*"], "'\\*' holds no residue"),
    ):
        with pytest.raises(SequenceError, match=words) as caught:
            residues_of(sequences, clean_flip)
        assert caught.value.row == 1


odd = st.text(st.sampled_from([*"ACDEFWXacd*-", "J", "1", "9", ":", " ", '"', "é", "\0", "\t"]), max_size=12)
cells = st.one_of(st.text(st.sampled_from("ACDEFW"), min_size=1, max_size=12), st.just("WT"), odd)
ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])


@st.composite
def contents(draw: Callable[..., str], kind: str) -> bytes:
    rows = draw(st.lists(cells, max_size=6))
    if kind == "fasta":
        lines = [line for row in rows for line in (draw(st.sampled_from([">", ">a b=c", ";x"])), row)]
    elif kind == "text":
        lines = rows
    else:
        delimiter = draw(st.sampled_from([",", "\t", ";"]))
        header = draw(st.lists(st.sampled_from(["sequence", "mutations", "x", "", '"y"', "Sequence"]), max_size=3))
        lines = [delimiter.join(header)]
        lines += [delimiter.join([row, *draw(st.lists(cells, max_size=2))]) for row in rows]
    text = draw(ends).join(lines) + draw(st.sampled_from(["", "\n"]))
    content = text.encode(draw(encodings), errors="replace")
    if draw(st.booleans()):
        content = draw(st.sampled_from([gzip.compress(content), content[: len(content) // 2], content + b"\xff\0"]))
    return content


@pytest.mark.parametrize("n_files", [40, pytest.param(2000, marks=pytest.mark.system)])
@pytest.mark.parametrize("kind", ["fasta", "csv", "tsv", "text"])
def test_any_file_is_read_or_refused_in_a_sentence(
    kind: Format, n_files: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "file"
    n_read, sentences = 0, set()

    @settings(
        max_examples=n_files, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )
    @given(content=st.one_of(st.binary(max_size=60), contents(kind)), named=st.booleans())
    def check(content: bytes, named: bool) -> None:
        nonlocal n_read
        path.write_bytes(content)
        try:
            blocks = read(path, kind if named else None)
        except UserError as error:
            sentences.add(str(error))
            return
        n_read += 1
        assert sum(map(len, blocks)) > 0
        for block in blocks:
            assert set(np.unique(block.residues).tolist()) <= {0, *ALPHABET.encode()}
            assert (np.count_nonzero(block.residues, axis=1) == block.lengths).all()
            assert (block.lengths > 0).all()
            assert len(block.labels) == len(block.residues) == len(block.lines or ())
            assert not any(set(label) & set(',"\n\r\t ') for label in block.labels)

    check()
    assert n_read > 0
    assert all(str(path) in sentence and sentence.endswith(".") for sentence in sentences)


def variants(wanted: Mutagenesis, task: Task) -> tuple[list[str], list[str], int | None]:
    stream = enumerate_variants(wanted, task=task, crop=None, limit=ANY_LENGTH)
    blocks = list(stream.blocks)
    assert max(map(len, blocks)) <= BLOCK_ROWS
    return [label for block in blocks for label in block.labels], texts_of(blocks), stream.n_total


def mutated(wild_type: str, label: str) -> str:
    residues = list(wild_type)
    for word in label.split(":") if label != "WT" else []:
        assert residues[int(word[1:-1]) - 1] == word[0]
        residues[int(word[1:-1]) - 1] = word[-1]
    return "".join(residues)


@pytest.mark.parametrize(
    ("wanted", "n"),
    [
        (Mutagenesis(kind="singles"), 6 * 19),
        (Mutagenesis(kind="doubles"), 15 * 361),
        (Mutagenesis(kind="sites", sites=(7, 3, 5)), 8000),
    ],
)
def test_variants_are_all_there_once_and_named_by_their_mutations(wanted: Mutagenesis, n: int) -> None:
    # The model sees positions 3 to 8.
    task = dataclasses.replace(TASK, crops={"middle": Crop(start=2, stop=8)}, default_crop="middle")
    wild_type = task.wild_type
    assert wild_type is not None
    labels, sequences, n_total = variants(wanted, task)
    assert len(labels) == len(set(labels)) == len(set(sequences)) == n == n_total
    assert [mutated(wild_type, label) for label in labels] == sequences
    n_changed = {sum(a != b for a, b in zip(text, wild_type, strict=True)) for text in sequences}
    assert n_changed == {"singles": {1}, "doubles": {2}, "sites": {0, 1, 2, 3}}[wanted.kind]
    assert all(text[:2] == wild_type[:2] and text[8:] == wild_type[8:] for text in sequences)


def test_sites_that_the_model_does_not_see_are_refused() -> None:
    task = dataclasses.replace(TASK, crops={"middle": Crop(start=2, stop=8)}, default_crop="middle")
    with pytest.raises(UserError, match=r"The site 9 is outside of what the model sees .*, positions 3 to 8"):
        variants(Mutagenesis(kind="sites", sites=(3, 9)), task)
    with pytest.raises(UserError, match="meltome_mixed has none"):
        variants(Mutagenesis(kind="singles"), find_task("meltome_mixed"))
