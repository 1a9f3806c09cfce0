"""Studies, experiments and weights that an old version made go on with this one.

`tests/compat/63409a9.tar.gz` was made by that commit, the last before the modules moved into packages: the searches of
`SEARCHES`, `confirm --seeds 1` of the ridge regression, and what `status`, `compare` and, of each experiment,
`predict --mutagenesis singles --top 20 --no-distance --output expected/NAME.csv` answered, in the folder `expected`.
"""

import csv
import re
import tarfile
from pathlib import Path

import pytest

from search.cli.experiments.train_and_verify import TOLERANCE
from tests.helpers.answers import run_here
from tests.helpers.processes import ROOT

pytestmark = pytest.mark.timeout(1200)
COMMIT = "63409a9"
TASK = ("--task", "synthetic_one_vs_rest", "--model")
CNN = (*TASK, "cnn", "trainer.max_epochs=2", "trainer.threads=1", "model.channels=16")
SEARCHES = {
    "synthetic_one_vs_rest-ridge": (2, (*TASK, "ridge")),
    "synthetic_one_vs_rest-kernel": (2, (*TASK, "kernel", "validation=holdout")),
    "synthetic_one_vs_rest-cnn": (2, (*CNN, "validation=holdout")),
    "kfold": (1, (*CNN, "--study-name", "kfold", "validation=kfold", "validation.n_folds=3")),
    "assay-fitness-random-ridge": (2, ("--data", "assay.csv", "--split", "random", "--model", "ridge")),
}
"""How many trials each study has, and the words that began it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(ROOT / "tests" / "compat" / f"{COMMIT}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / COMMIT


def words_of(line: str) -> str:
    """A line of a table, however wide its columns are."""
    return " ".join(line.split())


def predictions(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["mutations"]: float(row["prediction"]) for row in csv.DictReader(file)}


def test_the_archive_names_no_machine(folder: Path) -> None:
    """Whoever makes the next one finds here what must not stand in it."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            found = re.search(rb"/(?:home|work|tmp|root|Users)/[\w./-]*|\w+@[\w.-]+\.\w+", path.read_bytes())
            assert found is None, (path, found)


def test_status_and_ledger_say_what_they_said(folder: Path) -> None:
    before = (folder / "expected" / "status.txt").read_text(encoding="utf-8")
    assert run_here("status", cwd=folder).out.split() == before.split()
    rows = (folder / "expected" / "compare.txt").read_text(encoding="utf-8").splitlines()
    confirmed = [words_of(row) for row in rows if "confirmed 1 time(s)" in row]
    answer = run_here("compare", "--task", "synthetic_one_vs_rest", cwd=folder)
    assert len(confirmed) == 2
    assert set(confirmed) <= {words_of(row) for row in answer.out.splitlines()}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_study_goes_on(name: str, folder: Path) -> None:
    """The same command adds nothing, and asked for one more trial it adds one."""
    n, words = SEARCHES[name]
    experiment = folder / "studies" / "experiment" / f"{name}.yaml"
    before = experiment.read_bytes()
    again = run_here(*words, "--n-trials", str(n), cwd=folder)
    assert again.status == 0, again
    assert f"Study {name} has {n} finished trials of the {n} asked for: nothing to do." in again.err
    assert experiment.read_bytes() == before
    more = run_here(*words, "--n-trials", str(n + 1), cwd=folder)
    assert more.status == 0, more
    assert f"Study {name}: {n + 1} finished trials" in more.out
    report = run_here("report", "--study-name", name, cwd=folder)
    assert report.status == 0, report
    assert name in (folder / "runs" / name / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SEARCHES)
def test_an_experiment_trains_and_predicts_what_it_did(name: str, folder: Path) -> None:
    """Bit for bit on the processor that made it; another one, of the same kind by name even, may round differently."""
    path = str(folder / "studies" / "experiment" / f"{name}.yaml")
    data = ("--data", "assay.csv") if name.startswith("assay") else ()
    verified = run_here("verify", path, *data, cwd=folder)
    if verified.status != 0:
        differs = re.search(r"^differs: .*Spearman (\S+), was (\S+)$", verified.err, re.M)
        assert differs, verified
        assert abs(float(differs[1]) - float(differs[2])) <= TOLERANCE
    ranked = run_here(
        *("predict", path, *data, "--mutagenesis", "singles", "--no-distance", "--output", "now.csv"), cwd=folder
    )
    assert ranked.status == 0, ranked
    before, now = predictions(folder / "expected" / f"{name}.csv"), predictions(folder / "now.csv")
    assert len(before) == 20
    assert {mutation: now[mutation] for mutation in before} == pytest.approx(before, abs=1e-4)
