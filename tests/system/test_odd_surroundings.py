"""Real programs in surroundings that nobody plans for: each ends well, or in one sentence, and never in a traceback."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from search.doctor.machine import check_disk
from search.machine.limits import limit_told
from tests.helpers.study_fixtures import ROOT, FinishedStudy
from tests.system.test_standard_streams import PROGRAM, shell

_ODD = {
    "TZ": "nonsense",
    "OMP_NUM_THREADS": "abc",
    "CUDA_VISIBLE_DEVICES": "nonsense",
    "COLUMNS": "abc",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "PYTHONHASHSEED": "random",
    "PYTHONOPTIMIZE": "1",
    "PYTHONUNBUFFERED": "1",
}


def words_of(study: FinishedStudy) -> str:
    return shlex.join([*study.command, "--n-trials", "1"])


def weights(folder: Path, study: FinishedStudy) -> bytes:
    return (folder / "exported" / study.name / "fold0.safetensors").read_bytes()


@pytest.mark.parametrize("how", ["warnings are errors", "odd settings", "isolated"])
def test_a_search_ends_as_ever(how: str, finished_study: FinishedStudy, tmp_path: Path) -> None:
    """`shell` finds tracebacks, those of children too, which share its standard error."""
    words = words_of(finished_study)
    if how == "isolated":
        line = f"--nothing 2>&-; {sys.executable} -I -u {ROOT / 'run_study.py'} {words}"
        status, out, err = shell(line, tmp_path)
    else:
        environment = _ODD if how == "odd settings" else {"PYTHONWARNINGS": "error"}
        status, out, err = shell(words, tmp_path, **environment)
    assert (status, "Exported:" in out) == (0, True), err


@pytest.mark.parametrize("n_files", [8, 16, 31])
def test_too_few_open_files_are_one_sentence_before_anything_trains(
    n_files: int, finished_study: FinishedStudy, tmp_path: Path
) -> None:
    for words in (words_of(finished_study), f"verify {shlex.quote(str(finished_study.export))}"):
        status, out, err = shell(f"--nothing 2>&-; ulimit -n {n_files}; {PROGRAM} {words}", tmp_path)
        assert (status, out) == (1, "")
        assert err.startswith("error: ")
        assert "`ulimit -n 1024`" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "exported" / finished_study.export.name).exists()


@pytest.mark.parametrize("mask", ["777", "0100", "0400"])
def test_a_umask_that_takes_what_is_made_is_one_sentence(
    mask: str, finished_study: FinishedStudy, tmp_path: Path
) -> None:
    for words in ("status", words_of(finished_study)):
        status, out, err = shell(f"--nothing 2>&-; umask {mask}; {PROGRAM} {words}", tmp_path)
        assert (status, out) == (1, "")
        assert err == (
            f"error: The umask {int(mask, 8):04o} denies you the files that you make: set another (`umask 022`), then "
            "repeat the command.\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_few_open_files_are_enough(finished_study: FinishedStudy, tmp_path: Path) -> None:
    status, out, err = shell(f"--nothing 2>&-; ulimit -n 32; {PROGRAM} {words_of(finished_study)}", tmp_path)
    assert (status, "Exported:" in out) == (0, True), err


@pytest.mark.parametrize(
    "limit",
    [
        "ulimit -f 4; {}",
        "{} 2>/dev/full",
    ],
)
def test_a_confirmation_that_cannot_write_leaves_nothing_half_done(
    limit: str, finished_study: FinishedStudy, tmp_path: Path
) -> None:
    shutil.copytree(finished_study.folder, tmp_path / "copy")
    export = tmp_path / "copy" / "exported" / finished_study.export.name
    before = {path: path.read_bytes() for path in export.parent.rglob("*") if path.is_file()}
    words = f"{PROGRAM} confirm {shlex.quote(str(export))} --seeds 1"
    status, out, err = shell(f"--nothing 2>&-; {limit.format(words)}", tmp_path / "copy")
    after = {path: path.read_bytes() for path in export.parent.rglob("*") if path.is_file()}
    ledger = export.with_suffix(".ledger.jsonl")
    if "full" in limit:  # what cannot be said on standard error stops nothing
        assert (status, ledger in after) == (0, True), out
        return
    assert status == 1
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "File too large" in errors[0]
    assert after == before
    again = shell(f"confirm {shlex.quote(str(export))} --seeds 1", tmp_path / "copy")
    assert again[0] == 0, again
    assert len(ledger.read_text().splitlines()) == 1


def test_what_a_traceback_of_another_process_tells() -> None:
    told = limit_told("Traceback\n  raise OSError('No space left on device')\nValueError: a bug")
    assert told is None, "a line of code is no error"
    for line in ("OSError: [Errno 28] No space left on device: 'x'", "SafetensorError: I/O error: File too large"):
        told = limit_told(f"Traceback (most recent call last):\n  File x\n{line}")
        assert told is not None
        assert "then repeat the command" in str(told)


@pytest.mark.parametrize("executable", ["/bin/false", "/nowhere/python"])
def test_an_interpreter_that_cannot_start_again_is_one_sentence(
    executable: str, finished_study: FinishedStudy, tmp_path: Path
) -> None:
    """As where the user may not run what started us, or memory ends: the process that starts others is gone at once."""
    program = (
        "import multiprocessing.spawn as s, runpy, sys\n"
        f"s.set_executable({executable!r})\n"
        f"sys.argv = [{str(ROOT / 'run_study.py')!r}, *sys.argv[1:]]\n"
        "sys.path.insert(0, '')\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *shlex.split(words_of(finished_study))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done
    assert errors[0].startswith("error: No process to train in could be started")
    assert not list(tmp_path.glob("exported/*.yaml"))


def homeless(words: str, cwd: Path) -> tuple[int, str, str]:
    """Run the program without HOME as a user whom no passwd knows."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become another user")
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    if python is None:
        pytest.skip("needs a Python that every user may run")
    os.chmod(cwd, 0o777)
    done = subprocess.run(
        [
            *("env", "-u", "HOME", "-u", "XDG_CACHE_HOME", "-u", "FLIPSEARCH_DATA", "-u", "TORCH_HOME"),
            *("https_proxy=http://127.0.0.1:9", "http_proxy=http://127.0.0.1:9"),
            f"PYTHONPATH={sysconfig.get_path('purelib')}",
            *("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"),
            *(python, str(ROOT / "run_study.py"), *shlex.split(words)),
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=800,
    )
    if "No module named" in done.stderr or "Permission denied: '/" in done.stderr:
        pytest.skip("the packages here are for no other user")
    assert "Traceback" not in done.stdout + done.stderr, done
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every user gets to."""
    folder = tmp_path_factory.mktemp("open")
    for parent in (folder, *folder.parents):
        if parent.owner() == Path.home().owner() and parent != Path(parent.anchor) and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o011)
    return folder


@pytest.mark.parametrize("words", ["data list", "data fetch gb1_one_vs_rest --timeout 5", "doctor"])
def test_a_user_without_a_home_is_told_what_that_is_needed_for(words: str, open_folder: Path) -> None:
    status, out, err = homeless(words, open_folder)
    if words == "doctor":
        assert "this user has no home folder, and so no ~/.cache/flipsearch to keep downloads in" in out
    elif words == "data list":
        assert (status, err) == (0, "")
    else:
        assert status == 2
        assert "this user has no home folder to keep it in: set $HOME or $XDG_CACHE_HOME" in err
    assert list(open_folder.iterdir()) == [], "no folder is called ~"


def test_the_doctor_looks_at_no_folder_called_tilde() -> None:
    finding = check_disk(Path("~/.cache/flipsearch"), "set $XDG_CACHE_HOME to another")
    assert (finding.level, finding.remedy) == ("warning", "set $XDG_CACHE_HOME to another")
