"""What lies around the trials of a search: what is loaded, in which process, and what a failure at the end may do."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT, Search, finish, members, signal_group
from tests.helpers.study_fixtures import Program

NAME = "synthetic_two_vs_rest-ridge"
SEARCH = ("--task", "synthetic_two_vs_rest", "--model", "ridge", "validation=holdout", "trainer.threads=1")
NOT_NEEDED = {"matplotlib", "mlflow", "pandas", "pyarrow", "ray", "sklearn", "tensorboard", "transformers", "wandb"}
# The program as `python run_study.py` runs it, and then what it has imported, as the last line of its output.
PROBE = """
import json, runpy, sys
program = sys.argv[1]
sys.argv = sys.argv[1:]
sys.path[0] = program.rpartition("/")[0]
try:
    runpy.run_path(program, run_name="__main__")
finally:
    print(json.dumps(sorted(sys.modules)))
"""
# What the forkserver does before it serves; then, whether a run may import what was kept from it.
PRELOAD = """
import gc, json, sys
import search.workers.preload
known = sorted(sys.modules)
import matplotlib.figure, scipy.signal
assert scipy.signal.windows and matplotlib.figure.Figure
print(json.dumps([known, gc.isenabled(), gc.get_freeze_count()]))
"""


def forkservers(process: Search) -> list[int]:
    """Those of a search that live."""
    found = []
    for pid in members(process):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"forkserver" in command:
            found.append(pid)
    return found


def test_a_search_loads_no_library_that_it_does_not_use(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(ROOT / "run_study.py"), *SEARCH, "--n-trials", "4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    assert "model.alpha" in done.stdout
    assert "importance" in done.stdout
    assert any(line.startswith("Next:") for line in said)
    imported = set(json.loads(last))
    assert imported >= {"optuna.importance", "plotly"}, "the report was drawn"
    assert not imported & (NOT_NEEDED | {"torch", "lightning", "esm"})


def test_a_forkserver_loads_what_trains_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", PRELOAD], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    known, looks_for_garbage, n_frozen = json.loads(done.stdout)
    assert set(known) >= {"torch", "torch._dynamo", "lightning.pytorch.loggers", "models.cnn", "models.ridge"}
    unwanted = NOT_NEEDED | {"boto3", "jinja2", "optuna", "plotly", "scipy.signal", "sqlalchemy"}
    assert not set(known) & unwanted
    assert looks_for_garbage, "in what a run makes"
    assert n_frozen > 100_000, "but not in what was loaded"


def test_a_refused_search_leaves_no_process_that_still_loads(tmp_path: Path) -> None:
    process = Search([sys.executable, str(ROOT / "run_study.py"), *SEARCH, "model.alpha=-1"], tmp_path)
    status, output = finish(process)
    assert status == 2, output
    assert output.startswith("error: ")
    assert output.count("\n") == 1
    for pid in forkservers(process):  # the system takes its time to end one that was killed; another one stands still
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 60
    while (left := forkservers(process)) and time.monotonic() < until:
        time.sleep(0.01)
    signal_group(process, signal.SIGKILL)
    assert left == []


def break_report(monkeypatch: pytest.MonkeyPatch, act: object) -> None:
    import search.reporting.study_report as module

    monkeypatch.setattr(module, "make_report", act)


def test_whatever_fails_at_the_end_a_search_that_has_its_trials_has_succeeded(
    here: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise KeyError("Optuna's own bug")

    break_report(monkeypatch, fail)
    monkeypatch.setattr("optuna.importance.get_param_importances", fail)
    answer = here(*SEARCH, "--n-trials", "4", cwd=tmp_path)
    assert answer.status == 0, answer
    assert f"Study {NAME}: 4 finished trials" in answer.out
    assert "model.alpha" in answer.out
    assert "importance" not in answer.out
    assert answer.out.splitlines()[-1].startswith("Next: ")
    assert f"The report of study {NAME} could not be kept: KeyError: " in answer.err
    assert "Traceback" not in answer.err
    assert (tmp_path / "studies" / "experiment" / f"{NAME}.yaml").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_does_not_wait_for_the_report_has_the_outcome_and_can_have_it_made(
    number: signal.Signals, here: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def press(*given: object, **named: object) -> str:
        os.kill(os.getpid(), number)
        told.append(False)
        return "never"

    with monkeypatch.context() as patch:
        break_report(patch, press)
        answer = here(*SEARCH, "--n-trials", "4", cwd=tmp_path)
    assert told == [], "the making of the report has ended with the signal"
    assert answer.status == 0, answer
    assert answer.out.splitlines()[-1].startswith("Next: ")
    [sentence] = [line for line in answer.err.splitlines() if line.startswith("The report was not made; ")]
    words = sentence[sentence.index("report --study-name") :].split()
    assert here(*words, cwd=tmp_path).status == 0
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("several", [("--model", "kernel"), ("--target-column", "other")], ids=["models", "properties"])
def test_a_signal_during_the_report_of_one_search_ends_those_that_would_follow(
    several: tuple[str, str], number: signal.Signals, here: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = [f"{'ACDEFGHIKL'[i // 6]}CDEF{'ACDEFG'[i % 6]}" for i in range(60)]
    rows = "".join(f"{variant},{i % 13},{i % 11}\n" for i, variant in enumerate(variants))
    (tmp_path / "mine.csv").write_text(f"sequence,fitness,other\n{rows}", encoding="utf-8")
    words = ("--data", "mine.csv", "--split", "random", "--target-column", "fitness", "--model", "ridge", *several)

    def press(*given: object, **named: object) -> str:
        os.kill(os.getpid(), number)
        return "never"

    with monkeypatch.context() as patch:
        break_report(patch, press)
        answer = here(*words, "--n-trials", "4", "validation=holdout", "trainer.threads=1", cwd=tmp_path)
    assert answer.status == 128 + number, answer
    assert "4 finished trials" in answer.out
    assert "The report was not made; " in answer.err
    [exported] = (tmp_path / "studies" / "experiment").glob("*.yaml")  # the others were not searched
    assert exported.stem in ("mine-fitness-random-ridge", "mine-fitness-random-with_other-ridge")
    assert "Traceback" not in answer.err
