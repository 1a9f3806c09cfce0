"""Whatever stands in a file, reading it ends in variants that make sense or in one sentence.

Generated: a thousand files of each format, and of Excel's, which a process reads each, two hundred.
"""

import gzip
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET
from datasets.tables.formats import text_file
from datasets.tasks.own_table import table_task
from tests.helpers.examples import examples
from tests.helpers.tables import surveyed
from tests.helpers.workbooks import write_xls, xlsx_parts, zipped

N_FILES = examples(1000)
FUZZED = settings(
    max_examples=N_FILES,
    deadline=None,
    database=None,
    derandomize=settings().derandomize,  # by hand new files each time, where CI is set the same ones
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
WILD_TYPE = "ACDEFGHIKL"
# What breaks readers: quotes, ends, other encodings, numbers that are none, residues that are none.
ODD = [
    *(b'"', b'""', b"\n", b"\r\n", b"\r", b",", b"\t", b";", b"\0", b" ", b"'", b">", b"=", b"#", b"\\", b"|", b"\x1a"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xc3", b"\xe9", b"\xf0\x9f\xa7\xac", b"\xe2\x80\xa8", b"\xc2\x85"),
    *(b"nan", b"inf", b"-1e999", b"1_0", b"1,5", b"0x1p3", b"\xef\xbc\x91", b"*", b"-", b"acd", b"J", b"WT", b"A1C"),
    *(b"set", b"validation", b"train", b"test", b"True", b"sequence", b"target", b"TARGET=", b"SET=test", b"A" * 5000),
    *(b"PK\x03\x04", b"PAR1", b"\x1f\x8b", b"BZh", b"\x0c"),
]
CELLS = st.sampled_from(
    ["", "1", "-0.5", "nan", "text", "1_0", "train", "test", "True", "WT", "A1C", "A1C:D3E", "ü", " x "]
)
GOOD_SEQUENCES = st.text(alphabet=ALPHABET, min_size=1, max_size=12)
SEQUENCES = GOOD_SEQUENCES | st.sampled_from([WILD_TYPE, "acdef", "AC*", "A-C", "AJC", ""])
GOOD_NUMBERS = st.floats(-1e30, 1e30).map(repr) | st.integers(-5, 5).map(str)
WRITTEN = st.sampled_from(["<0.01", ">= 5", "<LOD", "12 %", "1'000", "\u22121", "n.d.", "#N/A", "1.234", "0.5"])
CHAINS = st.lists(GOOD_SEQUENCES, min_size=2, max_size=3).map("|".join) | st.tuples(
    SEQUENCES, st.sampled_from(["|", ":", " / ", "||", ";", ""]), SEQUENCES
).map("".join)
NUMBERS = st.floats(allow_nan=True, width=64).map(repr) | GOOD_NUMBERS | WRITTEN


@st.composite
def edited(draw: Any, content: bytes) -> bytes:
    """A file in which a few places were changed, in some encoding, packed or not, cut or not."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(content)))
        odd = draw(st.sampled_from(ODD) | st.binary(min_size=1, max_size=3))
        content = content[:at] + odd + content[at + draw(st.integers(0, 3)) :]
    encoding = draw(st.sampled_from(["utf-8"] * 16 + ["utf-16", "utf-16-le", "utf-32", "cp1252"]))
    if encoding != "utf-8":
        content = content.decode("utf-8", "replace").encode(encoding, "replace")
    if draw(st.integers(0, 5)) == 0:
        content = gzip.compress(content, mtime=0)
    if draw(st.integers(0, 9)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return content


@st.composite
def delimited(draw: Any, delimiter: str) -> bytes:
    """A table, half of the time a good one, with its columns in any order."""
    is_good = draw(st.booleans())
    kinds = {"sequence": GOOD_SEQUENCES, "target": GOOD_NUMBERS, "mutant": CELLS, "x": CELLS}
    if not is_good:
        kinds |= {"sequence": SEQUENCES, "target": NUMBERS, "set": CELLS, "validation": CELLS}
    names = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=6))
    if is_good:
        names = list(dict.fromkeys(["sequence", "target", *names]))
    rows = draw(st.lists(st.tuples(*(kinds[name] for name in names)), min_size=8 * is_good, max_size=14))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(delimiter.join(row) for row in [names, *rows])
    return draw(edited((text + draw(st.sampled_from(["", end]))).encode()))


@st.composite
def mutated(draw: Any) -> bytes:
    """A table of mutations of the wild type, half of the time good ones; deletions in all their spellings."""
    places = st.integers(0, len(WILD_TYPE) - 1)
    ends = places.map(lambda place: f"{WILD_TYPE[place]}{place + 1}") | places.map(lambda place: f"0{place + 1}")
    range_ends = st.lists(ends, min_size=2, max_size=2, unique=True)
    deleted = st.tuples(ends, st.sampled_from(["-", "del", "DEL"])).map("".join) | ends.map("\u0394{}".format)
    deleted |= range_ends.map(lambda pair: f"{pair[0]}_{pair[1]}del")
    one = deleted | st.tuples(ends, st.sampled_from("ACDEFY")).map("".join)
    odd = st.sampled_from(
        [
            "p.Ala1del",
            "p.[Ala1del;Cys2Gly]",
            "p.Ala1_Cys2del",
            "p.Ala1_Cys2insGly",
            "A1-C2",
            "--",
            "-1A",
            "_del",
            "A1_del",
        ]
    )
    is_good = draw(st.booleans())
    cells = st.lists(one | odd, min_size=1, max_size=3).map(draw(st.sampled_from(":/_-,")).join)
    if is_good:  # each position once, in order
        new = st.dictionaries(places, st.sampled_from(["-", "del", "DEL", "W", "Y"]), min_size=1, max_size=3)
        cells = new.map(lambda found: ":".join(f"{WILD_TYPE[at]}{at + 1}{what}" for at, what in sorted(found.items())))
        cells |= st.lists(places, min_size=2, max_size=2, unique=True).map(
            lambda pair: "_".join(f"{WILD_TYPE[at]}{at + 1}" for at in sorted(pair)) + "del"
        )
    cells |= st.sampled_from(["WT", "_sy"])
    row = st.tuples(cells, GOOD_NUMBERS if is_good else NUMBERS)
    rows = draw(st.lists(row, min_size=12 * is_good, max_size=16, unique_by=(lambda row: row[0]) if is_good else None))
    text = "\n".join("\t".join(row) for row in [("mutant", "target"), *rows])
    return draw(edited(text.encode()))


@st.composite
def chained(draw: Any) -> bytes:
    """A table of proteins with several chains, half of the time of one number of chains."""
    n_chains = draw(st.integers(2, 4))
    divider = draw(st.sampled_from(["|", ":", " / ", "; ", "::"]))
    good = st.lists(GOOD_SEQUENCES, min_size=n_chains, max_size=n_chains).map(divider.join)
    is_good = draw(st.booleans())
    cells = good if is_good else good | CHAINS
    rows = draw(st.lists(st.tuples(cells, GOOD_NUMBERS if is_good else NUMBERS), min_size=8 * is_good, max_size=14))
    text = "\n".join("\t".join(row) for row in [("sequence", "target"), *rows])
    return draw(edited(text.encode()))


@st.composite
def fasta(draw: Any) -> bytes:
    """Records with FLIP's headers, or others; half of the time good ones."""
    is_good = draw(st.booleans())
    values = ["x=1", "name"] if is_good else ["SET=train", "SET=test", "VALIDATION=True", "TARGET=2", "="]
    residues, numbers = (GOOD_SEQUENCES, GOOD_NUMBERS) if is_good else (SEQUENCES, NUMBERS)
    record = st.tuples(numbers, st.lists(st.sampled_from(values), max_size=2, unique=True), residues, residues)
    lines = []
    for number, words, first, second in draw(st.lists(record, min_size=8 * is_good, max_size=12)):
        lines += [f">v TARGET={number} {' '.join(words)}", first, *([second] if draw(st.booleans()) else [])]
    return draw(edited((draw(st.sampled_from(["\n", "\r\n"])).join(lines) + "\n").encode()))


@st.composite
def parquet(draw: Any) -> bytes:
    """Columns of many types, with and without missing values; some files damaged afterwards."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    n = draw(st.integers(0, 8))

    def column(values: st.SearchStrategy[Any], kind: Any = None) -> Any:
        return pa.array(draw(st.lists(st.none() | values, min_size=n, max_size=n)), type=kind)

    kinds = {
        "text": lambda: column(SEQUENCES, pa.string()),
        "large text": lambda: column(SEQUENCES, pa.large_string()),
        "dictionary": lambda: column(SEQUENCES, pa.string()).dictionary_encode(),
        "float": lambda: column(st.floats(), pa.float64()),
        "half": lambda: column(st.floats(width=16), pa.float32()),
        "int": lambda: column(st.integers(-(2**63), 2**63 - 1), pa.int64()),
        "bool": lambda: column(st.booleans(), pa.bool_()),
        "list": lambda: column(st.lists(st.integers(0, 9), max_size=2), pa.list_(pa.int64())),
        "bytes": lambda: column(st.binary(max_size=4), pa.binary()),
        "null": lambda: pa.nulls(n),
        "time": lambda: column(st.datetimes(), pa.timestamp("us")),
        "good target": lambda: pa.array([i / 7 for i in range(n)]),
        "good sequence": lambda: pa.array([WILD_TYPE[: i + 1] for i in range(n)]),
    }
    names = draw(st.lists(st.sampled_from(["sequence", "target", "set", "x", "ü"]), min_size=1, max_size=4))
    arrays = [kinds[draw(st.sampled_from(list(kinds)))]() for _ in names]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, names=names), file)
    content = bytearray(file.getvalue())
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(4, len(content)))]) if draw(st.integers(0, 5)) == 0 else bytes(content)


ODD_XML = [
    *(b"<c", b"</row>", b"</c>", b"<v>1e999</v>", b"&#0;", b"&lol;", b"&lt;", b"<!--", b"]]>", b"\xff", b"\0", b"<"),
    *(b'r="XFD1048576"', b'r="B0"', b'r="AAAA1"', b't="s"', b't="e"', b't="d"', b't="b"', b's="99"', b' r="-1"'),
    *(
        b'<!DOCTYPE x [<!ENTITY a "b">]>',
        b'<f t="shared" si="9"/>',
        b'<mergeCell ref="A1:ZZ9"/>',
        b"<is>",
        b'Id="rId1"',
    ),
    *(b'Target="../../x"', b'Target="/xl/workbook.xml"', b'name="S"', b'state="hidden"', b'encoding="utf-16"'),
]


@st.composite
def workbook(draw: Any, *, is_old: bool) -> bytes:
    """A sheet or two of texts, numbers and errors, half of them good; some files damaged, before or after packing."""
    is_good = draw(st.booleans())
    sequences = GOOD_SEQUENCES if is_good else SEQUENCES
    targets: st.SearchStrategy[Any] = st.floats(-1e30, 1e30) | st.integers(-5, 5)
    others = st.sampled_from(["", "1", "text", "train", "test", "WT", "A1C", "#N/A", "<1", "1,5", "2 %", 0.5, None])
    kinds = {"sequence": sequences, "target": targets if is_good else targets | others, "x": others, "set": others}
    names = draw(st.lists(st.sampled_from(list(kinds)), max_size=5, unique=is_good))
    names = (
        list(dict.fromkeys(["sequence", "target", *(name for name in names if name != "set")])) if is_good else names
    )
    rows = draw(st.lists(st.tuples(*(kinds[name] for name in names)), min_size=8 * is_good, max_size=12))
    above = draw(st.sampled_from([[], [], [["Title"]], [[], ["Title"], []]]))
    sheets = {"S": [*above, names, *rows], **draw(st.sampled_from([{}, {}, {"Empty": []}, {"T": [["x"]]}]))}
    n_edits = draw(st.sampled_from([0, 0, 0, 1, 2]))
    if is_old:
        with tempfile.TemporaryDirectory() as folder:
            content = write_xls(Path(folder, "t.xls"), sheets).read_bytes()
    else:
        parts = xlsx_parts(sheets)
        for _ in range(n_edits):
            name = draw(st.sampled_from([*parts, "xl/worksheets/sheet1.xml", "xl/worksheets/sheet1.xml"]))
            at = draw(st.integers(0, len(parts[name])))
            odd = draw(st.sampled_from(ODD_XML))
            parts[name] = parts[name][:at] + odd + parts[name][at + draw(st.integers(0, 4)) :]
        content = zipped(parts)
    damaged = bytearray(content)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3])) + is_old * n_edits):
        damaged[draw(st.integers(4, len(damaged) - 1))] = draw(st.integers(0, 255))
    return bytes(damaged[: draw(st.integers(4, len(damaged)))]) if draw(st.integers(0, 9)) == 0 else bytes(damaged)


def outcome(path: Path, content: bytes, wild_type: str | None = WILD_TYPE) -> tuple[Any, ...]:
    """What became of a file: its variants, or the sentence; anything else is raised."""
    path.write_bytes(content)
    try:
        found = surveyed(path, split=None if b"set" in content.lower() else "random", wild_type=wild_type)
        raw = found.raw_split()
    except UserError as error:
        sentence = str(error)
        assert sentence
        assert sentence.endswith((".", "?")), sentence
        assert len(sentence) < 20_000, sentence
        return ("refused", " ".join(sentence.split()))
    assert len(raw.sequence) == len(raw.target) == len(raw.lines) > 0
    if "-" in "".join(found.sequences):
        assert {found.table.aligned_length} == set(map(len, found.sequences))
    task = table_task(found.table, name="t")
    assert [task.clean(sequence) for sequence in raw.sequence] == list(found.sequences)
    assert set("".join(found.sequences)) <= set(ALPHABET + "-")
    assert all(chain.strip("-") for sequence in raw.sequence for chain in sequence.split("|"))
    assert np.isfinite(np.array(list(map(float, raw.target)), dtype=np.float32)).all()
    assert {"train", "test"} == set(raw.part)
    return ("read", *raw.sequence, *raw.target, *raw.part, *raw.validation, *raw.lines)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "t.data"


@pytest.fixture(scope="module")
def small_blocks() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("delimiter", [",", "\t"], ids=["csv", "tsv"])
def test_delimited_files(delimiter: str, path: Path, small_blocks: pytest.MonkeyPatch) -> None:
    endings = set()

    @FUZZED
    @given(content=delimited(delimiter))
    def check(content: bytes) -> None:
        small_blocks.setattr(text_file, "_BLOCK_BYTES", 1 << 20)
        whole = outcome(path, content)
        endings.add(whole[0])
        # Where the file is divided makes no difference, but to which of two mistakes is named.
        small_blocks.setattr(text_file, "_BLOCK_BYTES", 16)
        divided = outcome(path, content)
        assert divided[0] == whole[0]
        if whole[0] == "read":
            assert divided == whole

    check()
    assert endings == {"read", "refused"}  # the files are neither all good nor all bad


def test_files_of_mutations(path: Path) -> None:
    endings = set()

    @FUZZED
    @given(content=mutated())
    def check(content: bytes) -> None:
        endings.add(outcome(path, content)[0])

    check()
    assert endings == {"read", "refused"}


def test_files_of_chains(path: Path) -> None:
    endings = set()

    @FUZZED
    @given(content=chained())
    def check(content: bytes) -> None:
        endings.add(outcome(path, content, wild_type=None)[0])

    check()
    assert endings == {"read", "refused"}


def test_fasta_files(path: Path) -> None:
    endings = set()

    @FUZZED
    @given(content=fasta())
    def check(content: bytes) -> None:
        endings.add(outcome(path, content)[0])

    check()
    assert endings == {"read", "refused"}


def test_parquet_files(path: Path) -> None:
    endings = set()

    @FUZZED
    @given(content=parquet())
    def check(content: bytes) -> None:
        endings.add(outcome(path, content)[0])

    check()
    assert "refused" in endings


@pytest.mark.parametrize("is_old", [False, True], ids=["xlsx", "xls"])
def test_excel_files(is_old: bool, path: Path) -> None:
    endings = set()

    @settings(FUZZED, max_examples=N_FILES // 5)
    @given(content=workbook(is_old=is_old))
    def check(content: bytes) -> None:
        endings.add(outcome(path, content)[0])

    check()
    assert endings == {"read", "refused"}
