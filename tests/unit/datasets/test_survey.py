"""What is found in a user's table: variants, wild type, positions, replicates, splits."""

from pathlib import Path

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.sequences.crop import Crop, Sites
from datasets.sequences.packed import Aligned, Packed, Packing
from datasets.sequences.sites import region_of, written_sites
from datasets.splits.prepared import prepare
from datasets.tables.findings import Findings
from datasets.tables.flip_format import flip_blocks
from datasets.tables.measurements import numbers
from datasets.tables.read import read_columns
from datasets.tables.replicates import merge
from datasets.tables.survey import survey
from datasets.tables.table import STRATEGIES, Table, table_name
from datasets.tables.wild_type import find_common
from datasets.task import Task
from datasets.tasks.own_table import table_task
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import SITES, surveyed, table, variants, write

VARIANTS = variants()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [(sequence, f"{value:.5f}", f"g{i % 7}") for i, (_, sequence, value) in enumerate(VARIANTS)]
    return write(tmp_path / "t.csv", "sequence,fitness,family", rows)


def test_mutations_make_the_sequences(tmp_path: Path) -> None:
    rows = [(text.replace(":", separator), value) for separator in ":" for text, _, value in VARIANTS]
    path = write(tmp_path / "t.csv", "hgvs,score", rows)  # found by what is in the column
    found = surveyed(path, wild_type=WILD_TYPE)
    assert list(found.sequences) == [sequence for _, sequence, _ in VARIANTS]
    assert found.table.sites == ",".join(str(site + 1) for site in SITES)
    with pytest.raises(UserError, match="which need the wild type: name it with --wild-type FASTA"):
        surveyed(path)


def test_the_wild_type_is_inferred_where_the_table_allows_it(path: Path, tmp_path: Path) -> None:
    few = [(sequence, value) for text, sequence, value in VARIANTS if text.count(":") < 1]
    found = surveyed(write(tmp_path / "few.csv", "sequence,fitness", few))
    assert found.table.wild_type == WILD_TYPE
    assert any("consensus" in finding.text for finding in found.findings.found)
    # Of all combinations at four sites no residue has the majority: not a wild type made of the most frequent ones.
    assert surveyed(path).table.wild_type is None
    both = write(tmp_path / "both.csv", "mutant,sequence,fitness", VARIANTS)
    assert surveyed(both).table.wild_type == WILD_TYPE


def test_replicates_are_merged_with_their_noise_or_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    true = random.normal(0, 1, len(VARIANTS))
    rows = [
        (sequence, value + random.normal(0, 0.5))
        for (_, sequence, _), value in zip(VARIANTS, true, strict=True)
        for _ in range(2)
    ]
    path = write(tmp_path / "t.csv", "sequence,fitness", rows)
    found = surveyed(path)
    assert len(found.sequences) == len(VARIANTS)
    assert found.target[0] == pytest.approx((rows[0][1] + rows[1][1]) / 2)
    assert found.noise is not None
    assert found.noise.sd == pytest.approx(0.5, rel=0.1)
    assert found.noise.reliability == pytest.approx(1 / (1 + 0.25 / 2), rel=0.1)
    # What the formula says a perfect model reaches is what it does reach.
    means = np.array([found.target[i] for i in range(len(true))])
    assert found.noise.reachable_spearman == pytest.approx(np.corrcoef(means, true)[0, 1], abs=0.03)
    with pytest.raises(UserError, match=r"line 3: the sequence was measured before \(and 1,079 more lines like it\)"):
        surveyed(path, split="random", replicates="refuse").raw_split()
    kept = surveyed(path, split="random", replicates="keep")
    assert len(kept.sequences) == 2 * len(VARIANTS)


def test_the_bytes_of_many_sequences_say_what_each_of_them_would() -> None:
    random = np.random.default_rng(0)
    codes = np.tile(random.choice(list(b"ACDEFGHIKL"), 50).astype(np.uint8), (9000, 1))
    for sites in ([], [0], [7, 20, 49], range(50)):
        for site in sites:
            codes[random.integers(1, 9000, 40), site] = ord("W")
        packing = Packing()
        for part in np.array_split(codes, [1, 700, 8000]):
            packing.add(part.reshape(-1), np.full(len(part), 50))
        packed = packing.packed()
        assert isinstance(packed, Aligned)
        assert packed.varies.tolist() == [site for site in range(50) if len(set(codes[:, site].tolist())) > 1]
        for characters in (b"ACDEFGHIKLW", b"ACDEFGHIKL", b"W"):
            assert packed.has_other_than(characters) == bool(set(codes.reshape(-1).tolist()) - set(characters))
        assert (packed.codes() == codes.reshape(-1)).all()
        some = random.integers(0, 9000, 3)
        assert list(packed.take(some)) == [codes[row].tobytes().decode() for row in some]


@pytest.mark.parametrize("strings", [["AC", "AD", "A", ""], ["", "A"], ["", ""], ["Ä", "AB", "A"], []])
def test_strings_of_any_lengths_are_packed(strings: list[str]) -> None:
    packed = Packed.of(strings)
    assert not isinstance(packed, Aligned)
    assert (list(packed), packed.lengths.tolist()) == (strings, [len(text.encode()) for text in strings])
    assert [packed[i] for i in range(-len(strings), len(strings))] == 2 * strings
    assert packed[1:] == strings[1:]
    kept = packed.take(np.arange(len(strings))[:2])
    assert list(kept) == strings[:2]
    assert isinstance(kept, Aligned) == (strings[:2] in (["AC", "AD"], ["Ä", "AB"]))


@pytest.mark.parametrize(
    "odd",
    ["+1.5", " 2 ", "1_0", "infinity", "nan", "1e400", "1e-400", "\u0663", "0x1p3", "nan(1)", "-0", ".5", "5.", ""],
)
def test_a_target_is_the_number_that_python_reads(odd: str, tmp_path: Path) -> None:
    cells = ["0.1", "-1e-7", "123456789.123456789", "5e-324", "2.2250738585072011e-308", odd]
    path = write(tmp_path / "t.csv", "sequence,target", [("ACD", cell) for cell in cells])
    findings = Findings(columns=read_columns(path))
    found = numbers(findings.columns.cells["target"], findings, "target")[0].tolist()
    assert list(map(repr, found[:5])) == [repr(float(cell)) for cell in cells[:5]]
    try:
        expected = float(odd) if "_" not in odd and np.isfinite(float(odd)) else None
    except ValueError:
        expected = None
    assert repr(found[5]) == repr(np.nan if expected is None else expected)
    is_missing = odd in ("", "nan")  # nothing was measured: set aside
    assert any(finding.level == "refused" for finding in findings.found) == (expected is None and not is_missing)
    assert any("set aside" in finding.text for finding in findings.found) == is_missing


def test_merging_finds_what_is_equal() -> None:
    codes = np.random.default_rng(0).integers(65, 69, size=(500, 3)).astype(np.uint8)
    merged = merge(codes, np.arange(500.0))
    rows = list(map(bytes, codes))
    assert [rows[i] for i in merged.first] == list(dict.fromkeys(rows))
    assert merge(rows, np.arange(500.0)).target.tolist() == merged.target.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_split_divides_all_variants_the_same_way_each_time(strategy: str, path: Path) -> None:
    how = {
        "split": strategy,
        "wild_type": WILD_TYPE,
        "group_column": "family" if strategy == "by_group" else None,
        "max_train_mutations": 2 if strategy == "k_vs_rest" else None,
    }
    found = surveyed(path, **how)
    raw = found.raw_split()
    assert raw.content_hash == surveyed(path, **how).raw_split().content_hash
    if strategy in ("random", "by_position", "by_group"):
        assert raw.content_hash != surveyed(path, **how, split_seed=1).raw_split().content_hash
    parts = np.array(raw.part)
    marks = np.array(raw.validation)
    n_mutations = np.array([sum(a != b for a, b in zip(s, WILD_TYPE, strict=True)) for s in raw.sequence])
    assert 0 < (marks == "True").sum() <= max(2, 0.3 * (parts == "train").sum())
    assert not ((marks == "True") & (parts == "test")).any()
    if strategy.endswith("_vs_rest"):
        k = {"one_vs_rest": 1, "three_vs_rest": 3}.get(strategy, 2)
        assert ((n_mutations > k) == (parts == "test")).all()
    if strategy == "low_vs_high":
        target = np.array(list(map(float, raw.target)))
        assert target[parts == "train"].max() <= target[n_mutations == 0][0] < target[parts == "test"].min()
    if strategy == "by_group":
        family = np.array([f"g{i % 7}" for i in range(len(parts))])
        for name in np.unique(family):  # no group stands in two parts
            assert len({(p, m) for p, m in zip(parts[family == name], marks[family == name], strict=True)}) == 1
    if strategy == "by_position":
        codes = np.array([list(sequence) for sequence in raw.sequence])
        held = [site for site in SITES if (codes[parts == "train", site] == WILD_TYPE[site]).all()]
        assert held
        assert (codes[:, held] != np.array(list(WILD_TYPE))[held]).any(1).tolist() == (parts == "test").tolist()


def test_the_written_split_reads_back_to_the_same(path: Path, tmp_path: Path) -> None:
    raw = surveyed(path, split="three_vs_rest", wild_type=WILD_TYPE).raw_split()
    written = tmp_path / "written.csv"
    written.write_bytes(b"".join(flip_blocks(raw.sequence, raw.target, raw.part, raw.validation)))
    again = surveyed(written).raw_split()
    assert again.content_hash == raw.content_hash
    assert again.part == raw.part


def test_a_table_is_prepared_as_a_task_is(path: Path, tmp_path: Path) -> None:
    found = surveyed(path, split="three_vs_rest", wild_type=WILD_TYPE)
    said: list[str] = []
    task = table_task(found.table, name="t", loaded=found)
    split = prepare(task, data_dir=None, cache_dir=tmp_path / "cache", announce=said.append)
    assert said == []
    assert split.label == "t.csv"
    assert split.n_train + split.n_validation + split.n_test == len(VARIANTS)
    assert isinstance(task.region, Sites)
    assert task.region.positions == SITES
    # The table alone, as an experiment holds it, leads to the same arrays.
    again = prepare(table_task(found.table, name="t"), data_dir=None, cache_dir=tmp_path / "other", announce=print)
    assert again.data_hash == split.data_hash
    assert (again.residues == split.residues).all()


def test_a_table_that_is_saved_while_a_search_begins_is_never_taken_for_what_was_read(
    path: Path, tmp_path: Path
) -> None:
    def targets(task: Task) -> list[float]:
        split = prepare(task, data_dir=None, cache_dir=tmp_path / "cache", announce=print)
        return sorted(split.target.tolist())

    first = table_task(surveyed(path, split="random", wild_type=WILD_TYPE).table, name="t")
    begun = table_task(first.source.table, name="t", loaded=surveyed(path, split="random", wild_type=WILD_TYPE))
    located = first.source.locate(data_dir=None, announce=print)
    rows = [(sequence, f"{value + 100:.5f}", "g") for _, sequence, value in VARIANTS]
    write(path, "sequence,fitness,family", rows)
    assert max(targets(begun)) < 50
    assert min(targets(first)) > 50
    with pytest.raises(UserError, match=r"t.csv was saved while it was read: start the command again"):
        first.source.read(located, "random")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("train", ""), ("test", ""), ("train", "True"), ("train", "")] * 3, "stands in both train and test"),
        ([("train", "")] * 4, "no row is left for test"),
        ([("test", "")] * 4, "the train part has 0 rows"),
        ([("train", ""), ("tset", "")] * 2, "line 3: the set 'tset' is neither 'train' nor 'test'"),
        ([("train", "perhaps"), ("test", "")] * 2, "line 2: the validation value 'perhaps' is neither"),
    ],
)
def test_parts_of_a_file_that_are_wrong_are_refused(rows: list[tuple[str, str]], sentence: str, tmp_path: Path) -> None:
    cells = [(VARIANTS[i % 4 if len(rows) > 4 else i][1][: 20 + (i == 1)], i, *row) for i, row in enumerate(rows)]
    if len(rows) > 4:
        cells = [(WILD_TYPE, i, *row[2:]) for i, row in enumerate(cells)]
    path = write(tmp_path / "t.csv", "sequence,target,set,validation", cells)
    with pytest.raises(UserError, match=sentence):
        surveyed(path).raw_split()


def test_a_stop_codon_that_carries_the_wild_type_is_found(tmp_path: Path) -> None:
    rows = [*VARIANTS[:50], ("A3*", WILD_TYPE, -5.0)]
    path = write(tmp_path / "t.csv", "mutant,sequence,fitness", rows)
    with pytest.raises(UserError, match="line 52: the mutation 'A3\\*' is a stop codon, but the sequence is the wild"):
        surveyed(path, split="random").raw_split()
    # Without the mutations its targets still cannot all be the wild type's.
    measured = [(sequence, value) for _, sequence, value in VARIANTS[:50]] + [(WILD_TYPE, -3.0 * i) for i in range(4)]
    found = surveyed(write(tmp_path / "u.csv", "sequence,fitness", measured), wild_type=WILD_TYPE)
    assert any(finding.level == "warning" and "stop codons" in finding.text for finding in found.findings.found)


def test_what_varies_where_lengths_differ_is_a_window() -> None:
    sequences = Packed.of(["AAACCDDDD", "AAAWDDDD", "AAADDDD", "AAAWWWDDDD"])
    common = find_common(sequences, None)
    assert common.window == (3, -4)
    assert region_of(None, common.window) == Crop(start=3, stop=-4)


def test_sites_are_written_as_people_write_them() -> None:
    assert written_sites([39, 40, 41, 54]) == "39-41,54"
    region = region_of("39-41,54", None)
    assert isinstance(region, Sites)
    assert region.positions == (38, 39, 40, 53)
    for text in ("0-4", "5-3", "1-99999999999", "a", "", "1,,2"):
        with pytest.raises(UserError, match="is not valid"):
            table(Path("t"), sites=text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my assay (1).csv.gz", "my_assay_1"), ("a.b.parquet", "a.b"), ("ä.csv", "table"), ("2024.csv", "2024")],
)
def test_a_task_is_called_after_its_file(name: str, expected: str) -> None:
    assert table_name(Path("folder") / name) == expected


@pytest.mark.parametrize("sites", ["39-", "-39", "-", "0", "41-39", ""])
def test_sites_that_are_cut_short_are_refused(sites):
    with pytest.raises(ValueError, match=r"position|invalid literal"):
        region_of(sites, None)


@pytest.mark.parametrize("named", [{"target_column": "other"}, {"replicate_columns": ("other", "more")}])
def test_a_file_in_flips_format_is_read_again_by_the_columns_that_were_named(
    named: dict[str, object], tmp_path: Path
) -> None:
    """The split that a search wrote has none of them; a user's file that looks like one still has them."""
    rows = [
        (sequence, -value, "test" if i % 5 == 0 else "train", i % 5 == 1, f"{value:.3f}", f"{value:.3f}")
        for i, (_, sequence, value) in enumerate(VARIANTS[:100])
    ]
    path = write(tmp_path / "own.csv", "sequence,target,set,validation,other,more", rows)
    found = surveyed(path, **named)
    again = survey(path, found.table, is_reread=True)
    assert again.target.tolist() == found.target.tolist()
    assert again.table == found.table
    raw = found.raw_split()
    written = tmp_path / "written.csv"
    written.write_bytes(b"".join(flip_blocks(raw.sequence, raw.target, raw.part, raw.validation)))
    assert survey(written, found.table, is_reread=True).raw_split().content_hash == raw.content_hash


@pytest.mark.parametrize("wild_type", ["", "MK\x1b[31m", "MK V", "MK*"])
def test_a_wild_type_that_an_experiment_holds_is_residues(wild_type: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"table.wild_type='.*' is not valid: expected letters, one a residue"
    ) as caught:
        table(tmp_path / "t.csv", wild_type=wild_type)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("seed", range(6))
def test_a_mutation_that_all_variants_share_divides_nothing_by_position(seed: int, tmp_path: Path) -> None:
    wild_type = "M" + WILD_TYPE[1:]
    assert WILD_TYPE[0] != "M"
    path = write(tmp_path / "t.csv", "sequence,target", [row[1:] for row in VARIANTS])
    found = surveyed(path, split="by_position", split_seed=seed, wild_type=wild_type)
    assert found.landscape.mutated is not None
    assert found.landscape.mutated.all(axis=0).any()
    raw = found.raw_split()
    assert min(map(raw.part.count, ("train", "test"))) > 1
    few = [
        (wild_type[:1] + WILD_TYPE[1:5] + letter + WILD_TYPE[6:], i) for i, letter in enumerate(f"ACDE{WILD_TYPE[5]}")
    ]
    path = write(tmp_path / "few.csv", "sequence,target", few)
    found = surveyed(path, split="by_position", wild_type=WILD_TYPE)
    with pytest.raises(UserError, match="this table has 1 beside those at which every variant is mutated"):
        found.raw_split()


def test_lengths_that_differ_beside_a_wild_type_are_known_without_reading(tmp_path: Path) -> None:
    """Where the sequences share no ends, neither sites nor a window tell; studies of before keep what they recorded."""
    rows = [(sequence[i % 3 : len(sequence) - i % 2], value) for i, (_, sequence, value) in enumerate(VARIANTS[:60])]
    path = write(tmp_path / "t.csv", "sequence,target", rows)
    found = surveyed(path, wild_type=WILD_TYPE, split="random")
    assert (found.table.sites, found.table.window, found.table.lengths_differ) == (None, None, True)
    assert "lengths_differ" not in found.table.settings
    recorded = Table(**found.table.recorded)
    assert recorded == found.table
    assert not table_task(recorded, name="t").has_one_length
    plain = surveyed(write(tmp_path / "t.csv", "sequence,target", [row[1:] for row in VARIANTS]), wild_type=WILD_TYPE)
    assert "lengths_differ" not in plain.table.recorded
    assert table_task(plain.table, name="t").has_one_length


def kept(folder: Path, header: str, *others: str) -> Path:
    """Every variant twice, the second time behind all others; further cells of each row are the same."""
    rows = [(s, f"{v + 0.1 * again:.5f}", *others) for again in (0, 1) for _, s, v in VARIANTS]
    return write(folder / "kept.csv", header, rows)


@pytest.mark.parametrize("strategy", ["random", "one_vs_rest", "two_vs_rest", None])
def test_kept_measurements_of_a_sequence_are_drawn_together(strategy: str | None, tmp_path: Path) -> None:
    """A model that is validated on what it was trained on finds noise again."""
    path = kept(tmp_path, "sequence,fitness")
    if strategy is None:
        rows = [(s, v + again, "test" if i % 5 == 0 else "train") for again in (0, 1) for i, (_, s, v) in
                enumerate(VARIANTS)]  # fmt: skip
        path = write(tmp_path / "kept.csv", "sequence,fitness,set", rows)
    found = surveyed(path, split=strategy, replicates="keep", wild_type=WILD_TYPE)
    assert found.division is not None
    found.raw_split()
    half = len(VARIANTS)
    for part in (found.division.test, found.division.validation):
        assert part.any()
        assert (part[:half] == part[half:]).all()
    n_train = int((~found.division.test).sum()) // 2
    assert int(found.division.validation.sum()) == 2 * max(2, round(0.1 * n_train))
    # The sequences are those that are drawn where each has one row.
    merged = surveyed(path, split=strategy, replicates="mean", wild_type=WILD_TYPE).division
    assert merged is not None
    assert merged.validation.tolist() == found.division.validation[:half].tolist()
    assert merged.test.tolist() == found.division.test[:half].tolist()


def test_a_split_that_parts_kept_measurements_is_refused_before_it_is_searched(tmp_path: Path) -> None:
    found = surveyed(kept(tmp_path, "sequence,fitness"), split="low_vs_high", replicates="keep", wild_type=WILD_TYPE)
    with pytest.raises(UserError, match=r"stands in both train and test .*; use --replicates mean, or another split"):
        found.raw_split()


@pytest.mark.parametrize("replicates", ["mean", "keep"])
def test_a_sequence_in_two_groups_is_refused(replicates: str, tmp_path: Path) -> None:
    rows = [(s, v, f"g{i % 7}") for i, (_, s, v) in enumerate(VARIANTS)]
    path = write(tmp_path / "t.csv", "sequence,fitness,family", [*rows, (*rows[3][:2], "g4")])
    found = surveyed(path, split="by_group", group_column="family", group_rule="nearest", replicates=replicates)
    text = rf"line {len(rows) + 2}: the sequence stands in another group \('family'\) too; put all its lines into one"
    with pytest.raises(UserError, match=text):
        found.raw_split()


@pytest.mark.parametrize("cell", ["NA", "n.d.", "", " nan "])
def test_a_group_that_is_missing_is_no_group(cell: str, tmp_path: Path) -> None:
    rows = [(s, v, cell if i == 2 else f"g{i % 7}") for i, (_, s, v) in enumerate(VARIANTS)]
    path = write(tmp_path / "t.csv", "sequence,fitness,family", rows)
    with pytest.raises(UserError, match=r"line 4: the group \('family'\) is empty"):
        surveyed(path, split="by_group", group_column="family", group_rule="nearest").raw_split()
