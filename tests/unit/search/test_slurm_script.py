"""The script that SLURM runs: what stands in its options, and what reaches the program through the shell."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from search.cluster.jobs import SlurmJobs
from search.cluster.slurm_script import STORAGE_FILE, batch_script

ODD = ["a b", "it's", '"', "$HOME", "`id`", "$(id)", "\\", "a\nb", "*", "~", "#SBATCH --uid=0", "ü", "--x=;&|", ""]
SHOW = """\
import json, os, sys
names = ("ODD", "FLIPSEARCH_STORAGE", "PGPASSWORD")
print(json.dumps([sys.argv[1:], os.getcwd(), [os.environ.get(name) for name in names]]))
sys.exit(7)
"""


@pytest.fixture
def jobs(tmp_path: Path) -> SlurmJobs:
    (tmp_path / "show.py").write_text(SHOW)
    (tmp_path / "a folder's").mkdir()
    return SlurmJobs(
        study="s",
        words=ODD,
        program=[sys.executable, str(tmp_path / "show.py")],
        directory=tmp_path / "a folder's",
        folder=tmp_path,
        environment={"ODD": "it's\n$x"},
        has_storage_file=False,
    )


def run(jobs: SlurmJobs, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    script = tmp_path / "job.sh"
    script.write_text(batch_script(jobs))
    around = {name: value for name, value in os.environ.items() if not name.startswith(("FLIPSEARCH", "PG"))}
    around |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    return subprocess.run(["bash", str(script)], env=around, capture_output=True, text=True, cwd="/")


def test_odd_words_reach_the_program_as_they_are(jobs: SlurmJobs, tmp_path: Path) -> None:
    done = run(jobs, tmp_path)
    assert (done.returncode, done.stderr) == (7, "")
    assert json.loads(done.stdout) == [ODD, str(jobs.directory), ["it's\n$x", None, None]]


def test_all_options_stand_at_the_top(jobs: SlurmJobs) -> None:
    asked = replace(
        jobs,
        n_jobs=4,
        gpus="a100:2",
        cpus=8,
        memory="16G",
        drain_s=300,
        time_s=93784,
        partition="gpu,long",
        account="lab",
        options=["--qos=high"],
    )
    lines = batch_script(asked).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert lines[1:15] == [
        "#SBATCH --job-name=flipsearch-s",
        "#SBATCH --array=1-4",
        "#SBATCH --ntasks=1",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:TERM@300",
        "#SBATCH --open-mode=append",
        f"#SBATCH --output={jobs.folder}/%a.log",
        "#SBATCH --time=1-02:03:04",
        "#SBATCH --partition=gpu,long",
        "#SBATCH --account=lab",
        "#SBATCH --gres=gpu:a100:2",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=16G",
        "#SBATCH --qos=high",
    ]
    assert not lines[15].startswith("#SBATCH")


@pytest.mark.parametrize("name", ["a b", "a%b", "a\n#SBATCH --uid=0", "ü", "a'b", "a#b"])
def test_a_folder_that_an_option_cannot_name_is_refused(jobs: SlurmJobs, name: str) -> None:
    with pytest.raises(UserError, match="name another --runs-dir"):
        batch_script(replace(jobs, folder=jobs.folder / name))


def test_setup_is_run_first_and_its_failure_ends_the_job(jobs: SlurmJobs, tmp_path: Path) -> None:
    done = run(replace(jobs, setup=["ODD=1 # a comment", 'export ODD="$ODD 2"; set -eu']), tmp_path)
    assert done.returncode == 7
    assert json.loads(done.stdout)[2][0] == "1 2"
    done = run(replace(jobs, setup=["module() { return 3; }", "module load 'no such'"]), tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: the set-up line 'module load 'no such'' ended with status 3." in done.stderr


WORKER = """\
import signal, sys, time
def leave(number, frame):
    print("told", signal.Signals(number).name, flush=True)
    sys.exit(int(sys.argv[1]) if number == signal.SIGINT else 143)
signal.signal(signal.SIGINT, leave)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("state", "status", "told", "ends", "requeued"),
    [
        ("echo RUNNING", 130, "SIGINT", 130, True),
        ("echo RUNNING", 0, "SIGINT", 0, False),
        ("echo RUNNING", 1, "SIGINT", 1, False),
        ("echo COMPLETING", 130, "SIGTERM", 143, False),
        ("true", 130, "SIGTERM", 143, False),
        ("false", 130, "SIGINT", 130, True),
    ],
)
def test_what_a_warned_job_does(
    jobs: SlurmJobs, tmp_path: Path, state: str, status: int, told: str, ends: int, requeued: bool
) -> None:
    """By what `squeue` says of it, and by how its worker ends; where `squeue` fails, as near its limit."""
    program(tmp_path / "bin" / "squeue", f'[ "$*" = "--noheader --jobs=7_1 --format=%T" ] && {state}')
    program(tmp_path / "bin" / "scontrol", f'echo "$*" >>{tmp_path}/requeued')
    program(tmp_path / "bin" / "sleep", '[ "$1" = 2 ] || exec /bin/sleep "$1"')
    (tmp_path / "show.py").write_text(WORKER)
    script = tmp_path / "job.sh"
    script.write_text(batch_script(replace(jobs, words=[str(status)])))
    around = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", str(script)], env={**os.environ, **around}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == f"told {told}\n"
    assert process.wait(300) == ends
    process.stdout.close()
    asked = tmp_path / "requeued"
    assert (asked.read_text() if asked.exists() else "") == "requeue 7_1\n" * requeued


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def test_a_job_that_is_warned_while_it_is_set_up_starts_no_search(jobs: SlurmJobs, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "squeue", "echo RUNNING")
    program(tmp_path / "bin" / "scontrol", 'echo "$@"')
    done = run(replace(jobs, setup=[f"PATH={tmp_path}/bin:$PATH", "kill -TERM $$"]), tmp_path)
    assert (done.returncode, done.stdout) == (143, "requeue 7_1\n")


def test_the_storage_comes_from_a_file_of_the_users_alone(jobs: SlurmJobs, tmp_path: Path) -> None:
    jobs = replace(jobs, has_storage_file=True)
    file = tmp_path / STORAGE_FILE
    assert run(jobs, tmp_path).returncode == 2
    url = "postgresql+psycopg://u:a'b $x\\%40@h/d"
    file.write_text(f"{url}\np w\\'\n")
    file.chmod(0o644)
    assert "not a file of mode 600 of this user" in run(jobs, tmp_path).stderr
    file.chmod(0o600)
    assert json.loads(run(jobs, tmp_path).stdout)[2][1:] == [url, "p w\\'"]
    file.write_text(f"{url}\n\n")
    assert json.loads(run(jobs, tmp_path).stdout)[2][1:] == [url, None]
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert run(jobs, tmp_path).returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root gives files away.")
def test_a_storage_file_of_somebody_else_is_refused(jobs: SlurmJobs, tmp_path: Path) -> None:
    file = tmp_path / STORAGE_FILE
    file.write_text("postgresql+psycopg://h/d\n\n")
    file.chmod(0o600)
    os.chown(file, 65534, -1)
    assert run(replace(jobs, has_storage_file=True), tmp_path).returncode == 2
