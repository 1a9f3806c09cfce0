"""A search on a sheet of a workbook, whose experiment reads the same sheet again."""

from pathlib import Path

import pytest
import yaml

from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.study_fixtures import Program
from tests.helpers.tables import variants
from tests.helpers.workbooks import write_xlsx


@pytest.mark.parametrize("name", [pytest.param(None, marks=pytest.mark.slow), "Plate 2"])
def test_verify_confirm_and_predict_read_the_sheet_that_was_searched(
    name: str | None, tmp_path: Path, here: Program
) -> None:
    rows = [["Change (HGVS)", "fitness"], *([text, value] for text, _, value in variants()[:150])]
    others = {} if name is None else {"Plate 1": [["mutant", "fitness"], ["WT", 1.0]]}
    write_xlsx(tmp_path / "assay.xlsx", {**others, "Plate 2": rows})
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    sheet = () if name is None else ("--sheet", name)
    words = ("--data", "assay.xlsx", *sheet, "--split", "random", "--wild-type", "wt.fasta", "--model", "ridge")
    options = ("--n-trials", "1", "--export-dir", ".", "trainer.threads=1", "validation=holdout")
    answer = here(*words, *options, cwd=tmp_path)
    assert answer.status == 0, answer
    (export,) = tmp_path.glob("*.yaml")
    assert yaml.safe_load(export.read_text())["table"].get("sheet", "none") == (name or "none")
    assert (export.name == "assay-fitness-random-ridge.yaml") == (name is None)
    moved = (tmp_path / "assay.xlsx").rename(tmp_path / "moved.xlsx")
    verified = here("verify", export.name, "--data", moved.name, cwd=tmp_path)
    assert "equal bit for bit" in verified.out, verified
    (split,) = (tmp_path / "runs" / "data").glob("*.csv")  # the split that was written has no sheets
    verified = here("verify", export.name, "--data", str(split), cwd=tmp_path)
    assert "equal bit for bit" in verified.out, verified
    moved.rename(tmp_path / "assay.xlsx")
    confirmed = here("confirm", export.name, "--seeds", "1", cwd=tmp_path)
    assert confirmed.status == 0, confirmed
    predicted = here("predict", export.name, "--mutagenesis", "singles", "--top", "1", cwd=tmp_path)
    assert predicted.out.count("\n") == 2, predicted
    candidates = [["id", "Change (HGVS)", "mutant"], ["a", variants()[7][0], "WT"], ["b", "WT", "WT"]]
    write_xlsx(tmp_path / "new.xlsx", {"Order": candidates, "Other": candidates[:2]})
    asked = ("predict", export.name, "--input", "new.xlsx", "--no-distance")
    assert "several sheets" in here(*asked, cwd=tmp_path).err
    answer = here(*asked, "--sheet", "Order", cwd=tmp_path)
    assert [line.split(",")[1] for line in answer.out.splitlines()] == ["mutations", variants()[7][0], "WT"]
    if (
        name is not None
    ):  # a sheet called like the one that was trained on needs no option, but for that workbook itself
        write_xlsx(tmp_path / "next.xlsx", {"Notes": [["a", "b"], ["c", "d"]], name: candidates})
        again = ("predict", export.name, "--input", "next.xlsx", "--no-distance")
        assert here(*again, cwd=tmp_path).out == answer.out
        assert "several sheets" in here(*again[:3], "assay.xlsx", "--no-distance", cwd=tmp_path).err
        write_xlsx(tmp_path / "next.xlsx", {"Order": candidates, name: []})  # the only one that is not empty
        assert here(*again, cwd=tmp_path).out == answer.out
    answer = here(*asked, "--sheet", "Order", "--mutation-column", "mutant", cwd=tmp_path)
    assert [line.split(",")[1] for line in answer.out.splitlines()] == ["mutations", "WT", "WT"]
    refused = here("predict", export.name, "--mutagenesis", "singles", "--sheet", "Order", cwd=tmp_path)
    assert (refused.status, "--sheet says how the --input is read" in refused.err) == (2, True), refused
