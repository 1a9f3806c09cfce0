"""Candidates that were measured are left out, and rows of a table that were not are candidates."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.candidates.candidates import BLOCK_ROWS, Candidates, Stream, residues_of
from datasets.candidates.measured import LeftOut, MeasuredVariants, measured_variants, without_measured
from datasets.candidates.unmeasured import read_unmeasured
from datasets.common.errors import UserError
from datasets.sequences.chains import Chains
from datasets.splits.prepared import prepare
from datasets.splits.prepared import test_sequences as sequences_of_test
from datasets.tables.survey import survey
from datasets.task import Task
from datasets.tasks.own_table import TableSource, table_task
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import table, variants, write

SOME = [(sequence, value) for _, sequence, value in variants()[:80]]
SPARE = {3: "", 7: "n.d.", 40: "NA"}
TARGETS = [SPARE.get(row, f"{value:.4f}") for row, (_, value) in enumerate(SOME)]


def block(sequences: list[str]) -> Candidates:
    residues, lengths = residues_of(sequences, str)
    return Candidates(labels=sequences, residues=residues, lengths=lengths)


def trained_on(path: Path, **changes: object) -> tuple[TableSource, Task]:
    """The source and the task of a table, as an experiment has them."""
    found = survey(path, table(path, split="random", **changes)).table
    return TableSource(table=found, path=path), table_task(found, name="t")


def labels(stream: Stream) -> list[str]:
    return [label for some in stream.blocks for label in some.labels]


def test_what_was_measured_is_left_out_wherever_it_stands() -> None:
    known = MeasuredVariants(known=frozenset((b"MKT", b"AC")), test=frozenset((b"MKV",)))
    blocks = iter([block(["MKT", "MKTA", "MKV", "mkt"]), block(["AC", "MKV"]), block(["ACD", "A"])])
    left_out = LeftOut()
    stream = without_measured(Stream(label="sequence", blocks=blocks, n_total=8), known, left_out)
    assert stream.n_total is None
    assert labels(stream) == ["MKTA", "ACD", "A"]
    assert (left_out.n, left_out.n_test) == (5, 2)
    assert left_out.sentence == (
        "5 candidates were left out as measured already; of the test set, 2 of them, only the sequences were looked at."
    )
    assert LeftOut().sentence == ""


def test_gaps_at_other_columns_make_no_other_protein_and_chains_are_looked_at_each() -> None:
    columns, lengths = residues_of(["MK-V", "M-KV", "MKV-", "MKVV"], str, 4)
    found = Candidates(labels=["a", "b", "c", "d"], residues=columns, lengths=lengths)
    left_out = LeftOut()
    stream = Stream(label="sequence", blocks=iter([found]))
    assert labels(without_measured(stream, MeasuredVariants(known=frozenset((b"MKV",))), left_out)) == ["d"]
    assert left_out.n == 3
    # In columns 1 and 2 stands the first chain: MK|V- and M-|KV hold the same residues and are other proteins.
    measured = MeasuredVariants(known=frozenset((b"MK|V",)), chains=Chains("AB", (2, 2)))
    columns, lengths = residues_of(["MKV-", "MK-V", "M-KV", "MKVV"], str, 4)
    found = Candidates(labels=["a", "b", "c", "d"], residues=columns, lengths=lengths)
    assert labels(without_measured(Stream(label="sequence", blocks=iter([found])), measured, LeftOut())) == ["c", "d"]


def test_candidates_are_left_out_as_they_come() -> None:
    asked: list[int] = []

    def blocks() -> Iterator[Candidates]:
        for number in range(5):
            asked.append(number)
            yield block([WILD_TYPE, "A" * (number + 1)])

    measured = MeasuredVariants(known=frozenset((WILD_TYPE.encode(),)))
    stream = without_measured(Stream(label="sequence", blocks=blocks()), measured, LeftOut())
    first = next(stream.blocks)
    assert (list(first.labels), asked) == (["A"], [0])


def test_a_block_of_new_candidates_is_as_it_was() -> None:
    """Its predictions are then the same, bit for bit."""
    whole = block(["MKT", "AC"])
    stream = without_measured(
        Stream(label="sequence", blocks=iter([whole])), MeasuredVariants(known=frozenset((b"MK",))), LeftOut()
    )
    assert next(stream.blocks) is whole


def test_nothing_left_is_an_error_at_the_end() -> None:
    measured = MeasuredVariants(known=frozenset((b"MKT",)))
    stream = without_measured(Stream(label="sequence", blocks=iter([block(["MKT"] * 3)])), measured, LeftOut())
    with pytest.raises(UserError, match=r"Every candidate \(3\) was measured already"):
        next(stream.blocks)


def test_a_split_is_measured_in_all_its_parts(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,fitness", zip([s for s, _ in SOME], TARGETS, strict=True))
    _, task = trained_on(path)
    split = prepare(task, data_dir=None, cache_dir=tmp_path / "cache", announce=lambda sentence: None)
    found = measured_variants(split, None)
    assert {text.decode() for text in found.known | found.test} == {
        sequence for row, (sequence, _) in enumerate(SOME) if row not in SPARE
    }
    assert not found.known & found.test
    assert len(found.test) == len(sequences_of_test(split)[1]) == 15


@pytest.mark.parametrize("kind", ["csv", "fasta", "parquet", "mutations"])
def test_rows_without_a_measurement_are_read_from_every_kind_of_table(kind: str, tmp_path: Path) -> None:
    changes: dict[str, object] = {}
    expected = [SOME[row][0] for row in SPARE]
    names = [f"v{row}" for row in SPARE]
    rows = [(f"v{row}", sequence, TARGETS[row], row) for row, (sequence, _) in enumerate(SOME)]
    if kind == "csv":
        path = write(tmp_path / "t.csv", "ID,Sequence,fitness,esm", [(n, f"{s.lower()}*", t, e) for n, s, t, e in rows])
    elif kind == "fasta":
        path = tmp_path / "t.fasta"
        path.write_text("".join(f">{name} TARGET={target} ESM={esm}\n{text}\n" for name, text, target, esm in rows))
    elif kind == "parquet":
        path = tmp_path / "t.parquet"
        frame = pd.DataFrame(rows, columns=["name", "sequence", "fitness", "esm"])
        frame.assign(fitness=pd.to_numeric(frame["fitness"], errors="coerce")).to_parquet(path)
    else:
        expected = [variants()[row][0] for row in SPARE]
        path = write(
            tmp_path / "t.csv", "name,mutant,fitness,esm", [(n, variants()[e][0], t, e) for n, _, t, e in rows]
        )
        changes = {"wild_type": WILD_TYPE}
    source, task = trained_on(path, **changes)
    stream = read_unmeasured(source, task, LeftOut(), has_names=True, scores=("esm", "ESM", "other"))
    (found,) = list(stream.blocks)
    assert list(found.labels) == expected
    assert list(found.names or ()) == names
    assert stream.scores in (("esm",), ("ESM",))
    np.testing.assert_array_equal(found.scores[stream.scores[0]], np.array([*SPARE], dtype=np.float32))
    assert stream.label == ("mutations" if kind == "mutations" else "sequence")


def test_many_rows_come_in_blocks_and_failed_replicates_are_left_out(tmp_path: Path) -> None:
    letters = "ACDEFGHIKLMNPQRSTVWY"
    spare = [f"{WILD_TYPE[:-4]}{a}{b}{c}{d}" for a in letters for b in letters for c in letters for d in letters[:2]]
    rows = [*zip([s for s, _ in SOME], TARGETS, strict=True), (SOME[0][0], "n.d."), *((s, "") for s in spare)]
    path = write(tmp_path / "t.csv", "sequence,fitness", rows)
    source, task = trained_on(path)
    left_out = LeftOut()
    blocks = list(read_unmeasured(source, task, left_out).blocks)
    assert [len(some) for some in blocks[1:]] == [len(spare) + 4 - BLOCK_ROWS]
    assert [text for some in blocks for text in some.sequences()] == [*(SOME[row][0] for row in SPARE), *spare]
    assert left_out.sentence == "1 candidate was left out as measured already."


def test_what_is_no_table_any_more_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,fitness", zip([s for s, _ in SOME], TARGETS, strict=True))
    source, task = trained_on(path)
    path.write_text("sequence,activity\n" + f"{WILD_TYPE},1\n")
    with pytest.raises(UserError, match="has no column 'fitness'"):
        read_unmeasured(source, task, LeftOut())
    path.unlink()
    with pytest.raises(UserError, match="name it with --data FILE"):
        read_unmeasured(source, task, LeftOut())
