"""The command `submit`: what it writes and asks the scheduler, with a stand-in whose queue holds what it is given."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from search.machine import filesystems
from tests.helpers.answers import Answer, run_here
from tests.helpers.postgres import PASSWORD
from tests.helpers.slurm import stand_in
from tests.helpers.tables import variants, write

WHAT = ["--task", "synthetic_two_vs_rest", "--model", "ridge", "--n-trials", "2"]
RANDOM = ["--split", "random"]
STUDY = "synthetic_two_vs_rest-ridge"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory; the scheduler's files are in `cluster` beside it."""
    for name, value in stand_in(tmp_path / "cluster").environment.items():
        monkeypatch.setenv(name, value)
    for name in ("FLIPSEARCH_STORAGE", "PGPASSWORD", "FLIPSEARCH_RUNS", "FLIPSEARCH_EXPORT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def submit(folder: Path, *words: str) -> Answer:
    return run_here("submit", *words, cwd=folder)


def held(folder: Path, *words: str) -> Answer:
    """Submit to a partition that runs nothing."""
    return submit(folder, "--slurm", "--partition", "held", *WHAT, *words)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def scripts(folder: Path) -> list[str]:
    """What sbatch was given."""
    return [path.read_text() for path in sorted((folder.parent / "cluster" / "state").glob("*.sh"))]


def queue(folder: Path) -> set[str]:
    return {path.stem for path in (folder.parent / "cluster" / "state").glob("*.state")}


def test_a_dry_run_prints_a_script_and_writes_nothing(folder):
    done = submit(folder, "--slurm", "--dry-run", *WHAT, "--jobs", "3", "trainer.threads=1", "--setup", "module load x")
    assert done.status == 0
    assert "#SBATCH --array=1-3\n" in done.out
    assert "\nmodule load x\nset_up " in done.out
    assert re.search(rf"run_study\.py {re.escape(' '.join(WHAT))} trainer\.threads=1 &\n", done.out)
    assert subprocess.run(["bash", "-n"], input=done.out, text=True).returncode == 0
    assert "is on" not in done.err
    assert "jobs have to run there" in done.err, "it is SQLite on a disk of this machine"
    assert files(folder) == set()
    assert queue(folder) == set()


def test_a_dry_run_looks_for_what_a_study_is_to_begin_with_and_makes_no_tables(folder, postgres_url, monkeypatch):
    dry = ("--quiet", "--dry-run", "--warm-start")
    assert "there is no database yet, or it does not answer" in held(folder, *dry, "earlier").refusal()
    monkeypatch.setenv("FLIPSEARCH_STORAGE", postgres_url)
    assert "there is no database yet, or it does not answer" in held(folder, *dry, "earlier").refusal()
    assert "makes its tables" in run_here("doctor", cwd=folder).out
    assert run_here(*WHAT, "--study-name", "earlier", "--quiet", "trainer.threads=1", cwd=folder).status == 0
    assert "There is no study 'later'" in held(folder, *dry, "later").refusal()
    done = held(folder, *dry, "earlier")
    assert (done.status, done.out.count("--warm-start earlier")) == (0, 1)
    begun = held(folder, *dry, "later", "--study-name", "earlier")
    assert "Study 'earlier' was begun without --warm-start, and cannot begin again" in begun.refusal()
    assert queue(folder) == set()


def test_what_is_submitted_is_kept_shown_and_cancelled(folder):
    done = held(folder, "--jobs", "2")
    assert (done.status, queue(folder)) == (0, {"1_1", "1_2"})
    assert done.out.startswith(f"Submitted job 1: 2 workers of study {STUDY}. Script and logs: {folder}/runs/")
    assert held(folder, "--study-name", "other").status == 0
    (kept,) = (folder / "runs" / STUDY / "slurm").glob("*/job.sh")
    assert kept.read_text() == scripts(folder)[0]
    shown = submit(folder, "--status")
    assert re.search(rf"^{STUDY} +1 +2 +\S+ \S+ UTC +2 pending \(None\)$", shown.out, re.M)
    assert re.search(r"^other +2 +1 ", shown.out, re.M)
    assert "other" not in submit(folder, "--status", "--study-name", STUDY).out
    assert submit(folder, "--cancel", "--study-name", STUDY).out.startswith(f"Cancelled 1 of study {STUDY}: ")
    assert queue(folder) == {"2_1"}
    assert f"ended; logs in {kept.parent}" in submit(folder, "--status").out
    again = submit(folder, "--cancel", "--study-name", STUDY)
    assert (again.status, again.out.startswith("No job of study")) == (0, True)


def test_a_record_that_names_anothers_job_cancels_nothing(folder):
    assert held(folder).status == held(folder, "--study-name", "other").status == 0
    (record,) = (folder / "runs" / STUDY / "slurm").glob("*/job.json")
    record.write_text(record.read_text().replace('"job": 1', '"job": 2'))
    assert submit(folder, "--cancel", "--study-name", STUDY).out.startswith("No job of study")
    assert queue(folder) == {"1_1", "2_1"}
    record.write_text("{}")
    assert "is not one of study" in submit(folder, "--cancel", "--study-name", STUDY).refusal()
    assert "is not one of study" in submit(folder, "--status").refusal()


def test_what_the_scheduler_refuses_leaves_nothing(folder):
    done = submit(folder, "--slurm", "--partition", "no-such", "--quiet", *WHAT)
    assert "sbatch refused: sbatch: error: invalid partition specified: no-such" in done.refusal()
    assert files(folder) == set()


@pytest.mark.parametrize("words", [["--slurm", *WHAT], ["--status"], ["--cancel", "--study-name", STUDY]])
def test_a_machine_without_slurm_is_a_sentence(folder, monkeypatch, words):
    assert held(folder).status == 0
    programs = folder.parent / "programs"
    programs.mkdir()
    (programs / "bash").symlink_to("/bin/bash")
    monkeypatch.setenv("PATH", str(programs))
    done = submit(folder, *words, "--quiet") if words[0] == "--slurm" else submit(folder, *words)
    assert re.search(r"There is no s\w+ on this machine's PATH", done.refusal())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["modle.dropout=1"], "Did you mean 'model'"),
        (["--setup", "echo 'open"], "is no whole line of shell"),
        (["--study-name", "cache"], "a name of the program's own"),
        (["--runs-dir", "a b"], "name another --runs-dir"),
        (["--storage", "mysql://u:planted@h/d"], "of a kind that is not known here"),
        (["--storage", "sqlite://"], "name a file"),
        (["--data-dir", "\udcff"], "bytes that are no UTF-8"),
        (["--allow-seen"], "--allow-seen is for --warm-start"),
        (["--warm-start", "no-such-study"], "--warm-start no-such-study: there is no database yet"),
        (["--warm-start", "gone.yaml"], "gone.yaml"),
    ],
)
def test_what_a_job_would_refuse_is_refused_before(folder, words, sentence):
    refusal = held(folder, "--quiet", *words).refusal()
    assert sentence in refusal
    assert "planted" not in refusal
    assert queue(folder) == files(folder) == set()
    assert sentence in held(folder, "--quiet", "--dry-run", *words).refusal()


def test_sqlite_on_a_network_file_system_is_refused(folder, tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/export {folder} nfs4 rw 0 0\n")
    monkeypatch.setattr(filesystems, "_MOUNTS", mounts)
    assert "on a network file system (nfs4), where SQLite loses data" in held(folder).refusal()
    assert queue(folder) == set()


def test_the_password_reaches_sbatch_neither_in_the_script_nor_in_its_environment(folder, monkeypatch, postgres_url):
    without = postgres_url.replace(f":{PASSWORD}", "")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("FLIPSEARCH_STORAGE", without)
    assert held(folder).status == 0
    holding = [path for path in folder.parent.rglob("*") if path.is_file() and PASSWORD in path.read_text("latin-1")]
    assert [path.name for path in holding] == ["storage"]
    assert holding[0].read_text() == f"{without}\n{PASSWORD}\n"
    assert holding[0].stat().st_mode & 0o777 == 0o600
    submit(folder, "--cancel", "--study-name", STUDY)
    assert not holding[0].exists(), "it is kept no longer than a job needs it"
    monkeypatch.delenv("PGPASSWORD")
    assert held(folder, "--storage", postgres_url).status == 0
    assert without.rpartition("/")[2] not in scripts(folder)[1]
    monkeypatch.setenv("FLIPSEARCH_STORAGE", postgres_url.replace(PASSWORD, "wrong"))
    assert PASSWORD not in held(folder).refusal()


def test_folders_and_data_of_the_environment_reach_the_jobs(folder, monkeypatch):
    monkeypatch.setenv("FLIPSEARCH_RUNS", str(folder / "elsewhere"))
    monkeypatch.setenv("FLIPSEARCH_DATA", "/a folder")
    artifacts = "s3://bucket/it's"
    monkeypatch.setenv("FLIPSEARCH_ARTIFACTS", artifacts)
    monkeypatch.setenv("FLIPSEARCH_STORAGE", f"sqlite:///{folder}/own.db")
    assert held(folder, "--export-dir", "here").status == 0
    (script,) = scripts(folder)
    assert "\nexport FLIPSEARCH_DATA='/a folder'\n" in script
    assert f"\nexport FLIPSEARCH_ARTIFACTS={shlex.quote(artifacts)}\n" in script
    command = f"--export-dir here --runs-dir {folder}/elsewhere --storage sqlite:///{folder}/own.db &\n"
    assert command in script
    assert f"#SBATCH --output={folder}/elsewhere/{STUDY}/slurm/" in script


@pytest.mark.parametrize(
    ("words", "study"),
    [
        ([*RANDOM, "--model", "ridge"], "assay-fitness-random-ridge"),
        ([*RANDOM, "--model", "ridge", "--model", "kernel"], "assay-fitness-random"),
        ([*RANDOM, "--model", "ridge", "--model", "kernel", "--study-name", "mine"], "mine"),
        (["--fold-column", "fold", "--test-fold", "1", "--model", "ridge"], "assay-fitness-fold-test1-ridge"),
        (["--fold-column", "fold", "--test-fold", "all", "--model", "ridge"], "assay-fitness-fold-testall-ridge"),
    ],
)
def test_a_table_names_its_study_as_the_search_does(folder, words, study):
    rows = [(row[1], row[2], i % 3) for i, row in enumerate(variants())]
    write(folder / "assay.csv", "sequence,fitness,fold", rows)
    done = submit(folder, "--slurm", "--partition", "held", "--data", "assay.csv", *words)
    assert f" of study {study}. " in done.out, done.err
    assert (folder / "runs" / study / "slurm").is_dir()
    assert f" --data assay.csv {' '.join(words)} &\n" in scripts(folder)[0]


def test_a_job_of_kubernetes_is_printed_and_nothing_is_submitted(folder):
    words = ["--kubernetes", "--image", "flipsearch:1", "--jobs", "2", "--gpus", "1", *WHAT, "trainer.threads=1"]
    done = submit(folder, *words, "--dry-run")
    assert (done.status, done.err) == (0, "")
    tree = yaml.safe_load(done.out)
    assert kubernetes_validate.validate(tree, "1.31", strict=True)
    assert tree["spec"]["template"]["spec"]["containers"][0]["args"] == [*WHAT, "trainer.threads=1"]
    assert "pipe what it prints into `kubectl apply -f -`" in submit(folder, *words).refusal()
    assert "Did you mean 'model'" in submit(folder, *words, "--dry-run", "modle.x=1").refusal()
    table = ["--data", "/flipsearch/runs/assay.csv", "--split", "random", "--model", "ridge"]
    done = submit(folder, "--kubernetes", "--image", "a", "--dry-run", *table)
    assert yaml.safe_load(done.out)["spec"]["template"]["spec"]["containers"][0]["args"] == table, done.err
    other = submit(folder, "--kubernetes", "--image", "a", "--dry-run", *table[:-1], "kernel")
    again = submit(folder, "--kubernetes", "--image", "a", "--dry-run", "--jobs", "3", *table)
    named = [yaml.safe_load(one.out)["metadata"]["name"] for one in (done, other, again)]
    assert named[0] == named[2] != named[1]
    assert os.listdir(folder) == []
