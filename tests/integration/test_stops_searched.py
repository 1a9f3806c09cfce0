"""A table with stop codons, from `data check` to a search, its verification and its rows without a measurement."""

from pathlib import Path

import pytest
import yaml

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.answers import run_here
from tests.helpers.tables import variants, write

STOP = f"{WILD_TYPE[8]}9*"
READ = ("--wild-type", "wt.fasta", "--stops", "drop")
SEARCH = ("--split", "random", "--model", "ridge", "--n-trials", "1", "trainer.threads=1")


def test_a_table_with_stop_codons_is_searched_without_them(tmp_path: Path) -> None:
    rows = [(mutations, f"{value:.4f}") for mutations, _, value in variants()[::9]]
    new = [variants()[1][0], variants()[2][0]]
    rows[5:5] = [(STOP, "0.5"), (f"{rows[3][0]}:{STOP}", "n.d."), *((one, "n.d.") for one in new)]
    write(tmp_path / "t.csv", "hgvs_pro,score", rows)
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    refused = run_here("data", "check", "t.csv", "--wild-type", "wt.fasta", cwd=tmp_path)
    assert refused.status == 2
    assert "--stops drop" in refused.err
    checked = run_here("data", "check", "t.csv", *READ, cwd=tmp_path)
    assert checked.status == 0, checked
    assert (
        "lines 7, 8: 'Q9*' is a stop codon: rows with a stop codon are set aside".replace("Q", STOP[0]) in checked.out
    )
    assert "--stops drop" in checked.out.splitlines()[-1]  # the search that it proposes
    answer = run_here("--data", "t.csv", *READ, *SEARCH, cwd=tmp_path)
    assert answer.status == 0, answer
    (path,) = (tmp_path / "studies" / "experiment").glob("t-score-random.stops_drop+*-ridge.yaml")
    assert yaml.safe_load(path.read_text())["table"]["stops"] == "drop"
    assert run_here("verify", str(path), cwd=tmp_path).status == 0
    ranked = run_here("predict", str(path), "--unmeasured", "--no-distance", cwd=tmp_path)
    assert ranked.status == 0, ranked
    assert ranked.out.count("\n") == 1 + len(new)
    report = run_here("report", "--study-name", path.stem, "--output", "r.html", cwd=tmp_path)
    assert report.status == 0, report
    found = search.check_table(tmp_path / "t.csv", wild_type=tmp_path / "wt.fasta", stops="drop")
    assert found.is_accepted
    with pytest.raises(UserError, match="stops='keep' is not valid: expected drop or refuse"):
        search.check_table(tmp_path / "t.csv", stops="keep")
