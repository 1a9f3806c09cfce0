"""An alignment is read in any format, matched to the wild type, and refused in a sentence where it cannot be used."""

import gzip
import re

import numpy as np
import pytest

from datasets.alignments.focus import align_focus
from datasets.alignments.one_hot import sequence_weights
from datasets.alignments.read import GAP, RESIDUES, read_alignment
from datasets.common.errors import UserError
from tests.helpers.alignments import write_fasta, written

WILD_TYPE = "MKTAYIAKQRQISFVKSHFSRQ"


def relatives(n=40, changes=4, seed=0, wild_type=WILD_TYPE):
    """The wild type and relatives of it, as rows of one length with some gaps."""
    random = np.random.default_rng(seed)
    codes = np.array([[RESIDUES.index(residue) for residue in wild_type]] * n, dtype=np.uint8)
    for row in codes[1:]:
        row[random.integers(0, len(wild_type), changes)] = random.integers(0, 20, changes)
        row[random.integers(0, len(wild_type), 1)] = GAP
    return written(codes)


def with_insertions(rows):
    """The same alignment in A2M and in A3M: an insertion of up to two residues behind the fifth column."""
    inserted = ["..", "k.", ".k", "kl"]
    a2m = [row[:5] + inserted[i % 4] + row[5:] for i, row in enumerate(rows)]
    return a2m, [row.replace(".", "") for row in a2m]


def stockholm(rows, width=10):
    lines = ["# STOCKHOLM 1.0", "#=GF ID made", ""]
    for first in range(0, len(rows[0]), width):
        lines += [f"s{i}  {row[first : first + width]}" for i, row in enumerate(rows)]
        lines += ["#=GC RF  " + "x" * width, ""]
    return "\n".join([*lines, "//", ""])


def test_the_formats_equal_each_other(tmp_path):
    rows = relatives()
    a2m, a3m = with_insertions(rows)
    files = {
        "plain.fasta": "".join(f">s{i}\n{row[:12]}\n{row[12:]}\n" for i, row in enumerate(rows)),
        "small.fa": "".join(f">s{i} x\r\n{row.lower()}\r\n" for i, row in enumerate(rows)),
        "dots.fasta": "".join(f">s{i}\n{row.replace('-', '.')}\n" for i, row in enumerate(rows)),
        "a.a2m": "".join(f">s{i}\n{row}\n" for i, row in enumerate(a2m)),
        "a.a3m": "#A3M#\n>ss_conf\n0123\n" + "".join(f">s{i}\n{row}\n" for i, row in enumerate(a3m)),
        "a.sto": stockholm(rows),
        "insertions.sto": stockholm(a2m),
    }
    expected = None
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        for path in (tmp_path / name, tmp_path / f"{name}.gz"):
            alignment = read_alignment(path)
            assert alignment.names == [f"s{i}" for i in range(40)], path
            expected = alignment.codes if expected is None else expected
            np.testing.assert_array_equal(alignment.codes, expected, err_msg=str(path))
    assert written(expected) == rows


def test_small_letters_are_residues_where_they_are_no_insertions(tmp_path):
    """As in FASTA whose masked parts stand in small letters."""
    rows = relatives()
    masked = [row[:3] + row[3 : 4 + i % 3].lower() + row[4 + i % 3 :] for i, row in enumerate(rows)]
    assert written(read_alignment(write_fasta(tmp_path / "masked.fasta", masked)).codes) == rows


ROWS = relatives()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "is not an alignment: it begins with 'a,b'"),
        ("PK\x03\x04abc", "is not an alignment"),
        ("CLUSTAL W (1.83)\n", "begins with 'CLUSTAL"),
        ("# only a comment\n", "has 0 sequences"),
        (">a\nMKT\n" * 3, "has 3 sequences; an alignment of at least 10"),
        (">a\nMKT\n" * 10 + ">odd\nMKTA\n", "'odd' has 4 columns .* where 'a' has 3"),
        (">a\nMKtT\n" * 10 + ">odd\nMKTAt\n", "'odd' has 4 columns .* where 'a' has 3"),
        (">a\nACGU-N\n" * 10, "holds nucleotides"),
        (">a\nMK1\n" * 10, "'a' has '1', which is no residue"),
        (">a\nMK*\n" * 10, r"'a' has '\*'"),
        (">a\nMKé\n" * 10, "'a' has 'é'"),
        (">a\n>b\nMK\n" * 10, "line 1: the header is followed by no sequence"),
        ("#A3M#\nMKT\n>a\nMKT\n", "line 2: residues stand before the first header"),
        (stockholm(ROWS).replace("//", ""), "does not end with '//'"),
        (stockholm(ROWS) * 2, "a second alignment begins"),
        ("# STOCKHOLM 1.0\nname\n//\n", "line 2: a name and a row"),
        (stockholm(ROWS).replace("s7  ", "s70 ", 1), "to one length"),
    ],
)
def test_what_is_no_alignment_is_refused_in_a_sentence(tmp_path, content, expected):
    path = tmp_path / "given.a2m"
    path.write_text(content)
    with pytest.raises(UserError, match=expected) as error:
        read_alignment(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_a_folder_and_a_broken_gzip_are_refused(tmp_path):
    packed = gzip.compress("".join(f">s{i}\n{row}\n" for i, row in enumerate(ROWS)).encode())
    (tmp_path / "cut.a2m.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "sub").mkdir()
    for name, expected in (("none", "There is no file"), ("sub", "not a file"), ("cut.a2m.gz", "gzip")):
        with pytest.raises(UserError, match=expected):
            read_alignment(tmp_path / name)


def test_a_gzipped_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.alignments.read._MAX_CHARACTERS", 1 << 16)
    path = tmp_path / "bomb.a2m.gz"
    path.write_bytes(gzip.compress((b">a\n" + b"A" * 1000 + b"\n") * 100))
    with pytest.raises(UserError, match="GiB of text"):
        read_alignment(path)


def test_a_file_of_too_many_sequences_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.alignments.read._MAX_SEQUENCES", 30)
    with pytest.raises(UserError, match="more than 30 sequences"):
        read_alignment(write_fasta(tmp_path / "many.fasta", ROWS))


@pytest.mark.parametrize(
    ("wild_type", "offset", "first"),
    [
        (WILD_TYPE, 0, 0),
        ("MHHHHHH" + WILD_TYPE + "GSGS", 7, 7),
        (WILD_TYPE[6:], -6, 0),
        (WILD_TYPE[:4] + "W" + WILD_TYPE[5:], 0, 0),
    ],
)
def test_the_focus_is_found_in_the_wild_type_with_its_offset(tmp_path, wild_type, offset, first):
    focus = align_focus(read_alignment(write_fasta(tmp_path / "a.fasta", relatives())), wild_type)
    n = min(len(WILD_TYPE), len(WILD_TYPE) + offset)
    assert focus.offset == offset
    assert focus.positions.tolist() == list(range(first, first + n))
    assert f"an offset of {offset}" in focus.sentences[0]
    own = written(focus.codes)[0]
    assert own == WILD_TYPE[max(0, -offset) :]


def test_small_letters_of_the_focus_count_in_its_numbering(tmp_path):
    rows = [f"mk{row[2:5]}g{row[5:]}" if i == 0 else f"..{row[2:5]}.{row[5:]}" for i, row in enumerate(relatives())]
    wild_type = WILD_TYPE[:5] + "G" + WILD_TYPE[5:]
    focus = align_focus(read_alignment(write_fasta(tmp_path / "a.a2m", rows)), wild_type)
    assert focus.positions.tolist() == [2, 3, 4, *range(6, 23)]
    assert "positions 1-2,6 of the wild type" in " ".join(focus.sentences)


def test_the_nearest_sequence_is_taken_where_the_first_is_another(tmp_path):
    rows = relatives()
    other = "".join(np.random.default_rng(1).permutation(list("ACDEFGHIKLMNPQRSTVWYAC")))
    rows = [other, *rows[1:20], rows[0], *rows[20:]]
    focus = align_focus(read_alignment(write_fasta(tmp_path / "a.fasta", rows)), WILD_TYPE)
    assert "sequence nearest to the wild type, 's20'" in focus.sentences[0]
    assert focus.positions.tolist() == list(range(22))


@pytest.mark.parametrize("wild_type", ["W" * 30, WILD_TYPE[::-1], WILD_TYPE[:3] + "".join(reversed(WILD_TYPE[3:]))])
def test_an_alignment_without_the_wild_type_is_refused(tmp_path, wild_type):
    with pytest.raises(UserError, match="does not hold the wild type"):
        align_focus(read_alignment(write_fasta(tmp_path / "a.fasta", relatives())), wild_type)


LONG = "MSIQHFRVALIPFFAAFCLPVFAHPETLVKVKDAEDQLGARVGYIELDLNSGKILESFRPEERFPMMSTFKVLLCGAVLSR"


@pytest.mark.parametrize(
    ("wild_type", "says"),
    [
        (LONG[:66] + "GSHH" + LONG[66:], r"with an offset of 0, but at positions \S+ with one of 4: "),
        (LONG[:66] + LONG[68:], r"with an offset of 0, but at positions \S+ with one of -2: "),
        (LONG[:14] + "G" + LONG[14:], r"with an offset of 1, but at positions 2-13 with one of 0: "),
    ],
)
def test_an_insertion_or_a_deletion_behind_which_all_is_shifted_is_refused(tmp_path, wild_type, says):
    alignment = read_alignment(write_fasta(tmp_path / "a.fasta", relatives(wild_type=LONG)))
    with pytest.raises(UserError, match=says):
        align_focus(alignment, wild_type)


@pytest.mark.parametrize(
    "wild_type",
    [
        LONG[:30] + "WWCWWMWWCHWW" + LONG[42:],  # which is another stretch, not one that is shifted
        LONG[:66] + "GSGSGSGSGSGSGSG",  # so much is told from a tag at the end
        LONG + "GSG" + LONG,
    ],
)
def test_what_differs_or_stands_twice_is_not_shifted(tmp_path, wild_type):
    alignment = read_alignment(write_fasta(tmp_path / "a.fasta", relatives(wild_type=LONG)))
    assert align_focus(alignment, wild_type).offset == 0


def test_two_rows_of_one_name_are_not_parts_of_one_sequence(tmp_path):
    rows = [row for row in relatives() for _ in range(2)]
    lines = [f"s{i // 2} {row}" for i, row in enumerate(rows)]
    (tmp_path / "a.sto").write_text("\n".join(["# STOCKHOLM 1.0", *lines, "//", ""]))
    with pytest.raises(UserError, match="line 3: the name 's0' stands twice in one block"):
        read_alignment(tmp_path / "a.sto")


def test_columns_of_gaps_are_left_out_and_named(tmp_path):
    rows = relatives()
    rows = [rows[0], *(row[:7] + ("--" if i % 2 else "AC") + row[9:] for i, row in enumerate(rows[1:]))]
    focus = align_focus(read_alignment(write_fasta(tmp_path / "a.fasta", rows)), WILD_TYPE)
    assert focus.positions.tolist() == [*range(7), *range(9, 22)]
    assert any("gaps there: positions 8-9 of the wild type" in sentence for sentence in focus.sentences)


def test_sequences_of_gaps_are_left_out_and_too_few_others_refused(tmp_path):
    rows = relatives()
    fragment = "-" * 14 + WILD_TYPE[14:]
    focus = align_focus(read_alignment(write_fasta(tmp_path / "a.fasta", rows + [fragment] * 5)), WILD_TYPE)
    assert len(focus.codes) == 40
    assert "45 sequences, of which 40 have" in focus.sentences[1]
    with pytest.raises(UserError, match="9 of 34 sequences have residues in at least half"):
        align_focus(read_alignment(write_fasta(tmp_path / "a.fasta", rows[:9] + [fragment] * 25)), WILD_TYPE)


def test_rare_letters_count_as_gaps_with_a_note(tmp_path):
    rows = relatives()
    rows[3] = "XBZ" + rows[3][3:]
    alignment = read_alignment(write_fasta(tmp_path / "a.fasta", rows))
    assert (alignment.codes[3, :3] == GAP).all()
    focus = align_focus(alignment, WILD_TYPE)
    assert any(sentence.startswith("3 letters that stand for no one usual residue") for sentence in focus.sentences)
    with pytest.raises(UserError, match="does not hold the wild type"):
        align_focus(read_alignment(write_fasta(tmp_path / "x.fasta", ["X" * 22] * 20)), WILD_TYPE)


def test_a_position_where_the_wild_type_has_no_usual_residue_has_no_column(tmp_path):
    focus = align_focus(
        read_alignment(write_fasta(tmp_path / "a.fasta", relatives())), WILD_TYPE[:9] + "X" + WILD_TYPE[10:]
    )
    assert 9 not in focus.positions
    assert len(focus.positions) == 21


def test_depth_is_counted_and_a_thin_alignment_warned_of(tmp_path):
    rows = relatives(n=60, changes=12)
    focus = align_focus(read_alignment(write_fasta(tmp_path / "a.fasta", rows)), WILD_TYPE)
    deep = " ".join(focus.sentences)
    assert "Warning" not in deep
    assert f"{focus.weights.sum():,.1f} effective" in deep
    present = focus.codes != GAP
    np.testing.assert_allclose(focus.coverage, present.mean(0))
    np.testing.assert_allclose(focus.n_effective, focus.weights @ present)
    thin = align_focus(read_alignment(write_fasta(tmp_path / "b.fasta", relatives(changes=1))), WILD_TYPE)
    (is_thin,) = (s for s in thin.sentences if "thin" in s)
    assert re.fullmatch(r"Warning: the alignment is thin: [0-9.]+ effective sequences for 22 columns, .*", is_thin)
    assert any("fewer than 10 effective sequences have residues at positions 1-22" in s for s in thin.sentences)


@pytest.mark.parametrize("threads", [1, 3])
def test_weights_are_those_of_a_brute_force_count(threads):
    random = np.random.default_rng(4)
    ancestors = random.integers(0, 21, (20, 45))
    codes = ancestors[random.integers(0, 20, 150)].astype(np.uint8)
    changed = random.random(codes.shape) < 0.12
    codes[changed] = random.integers(0, 21, changed.sum())
    told = []
    found = sequence_weights(codes, 21, threads, lambda *progress: told.append(progress))
    alike = [[sum(a == b for a, b in zip(x, y, strict=True)) >= 0.8 * 45 for y in codes] for x in codes]
    np.testing.assert_array_equal(found, 1 / np.sum(alike, axis=1))
    assert found.min() < 0.2
    assert told == [("weights", i, 3) for i in (1, 2, 3)]
