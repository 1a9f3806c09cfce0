"""What a study cost is measured: CPU time is that of the operating system, not wall time times threads."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from optuna.trial import TrialState, create_trial

from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from search.machine.environment import cpu_time_s
from search.study.activity import cost
from search.study.config import study_config
from search.training.fit import fit

BUSY = "import time\nwhile time.process_time() < 0.4: pass"


def trial(**changes: Any) -> Any:
    result = {"device": "cpu", "seconds": 10.0, "threads": 8, "cpu_s": 12.5, **changes}
    return create_trial(value=0.5, user_attrs={"result": result})


def test_cpu_time_is_summed_over_all_runs_and_gpu_time_over_those_on_a_gpu() -> None:
    failed = create_trial(state=TrialState.FAIL)
    found = cost([trial(), trial(device="cuda:0", seconds=4.0, cpu_s=5.0), failed])
    assert (found.gpu_s, found.cpu_s, found.n_unmeasured) == (4.0, 17.5, 0)
    assert (str(found), found.shown_cpu_s) == ("4 GPU-seconds, 18 CPU-seconds", "18")


def test_trials_from_before_it_was_measured_are_said_and_not_mixed_in() -> None:
    older = trial()
    del older.user_attrs["result"]["cpu_s"]
    found = cost([trial(), older, older])
    assert (found.cpu_s, found.n_unmeasured) == (12.5, 2)
    assert str(found) == "12 CPU-seconds, CPU time not measured in 2 trials"
    assert found.shown_cpu_s == "12 (2 trials not measured)"
    assert (str(cost([older])), cost([older]).shown_cpu_s) == ("CPU time not measured in 1 trial", "not measured")
    assert str(cost([])) == "nothing"


def test_threads_and_ended_children_count() -> None:
    def work() -> None:
        while time.thread_time() < 0.3:
            pass

    before = cpu_time_s()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after_threads = cpu_time_s()
    assert after_threads - before >= 0.6
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert cpu_time_s() - after_threads >= 0.3  # not all 0.4: of children the system counts hundredths, rounded down


def test_a_run_that_waits_costs_time_and_no_cpu_time(tmp_path: Path) -> None:
    words = ["task=synthetic_one_vs_rest", "model=ridge", "validation=holdout", "trainer.threads=1"]
    config = study_config(words)
    split = prepare(config.find_task(), data_dir=None, cache_dir=tmp_path, announce=lambda sentence: None)

    def run(wait_s: float, name: str) -> Any:
        return fit(
            config.run({}),
            split,
            places=Places(weights_dir=None, cache_dir=tmp_path),
            directory=tmp_path / name,
            report=lambda *values: time.sleep(wait_s),
        )

    run(0.0, "first")  # what is loaded once is no cost of a run
    found = run(2.0, "second")
    assert found.seconds >= 2.0
    assert 0 < found.cpu_s <= found.seconds - 1.9
    assert found.record()["cpu_s"] == found.cpu_s
