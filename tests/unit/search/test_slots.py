"""Which GPUs and cores there are, and how the workers of a machine share them."""

import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pynvml
import pytest
import torch

from datasets.common.errors import UserError
from search.machine import memory as machine_memory
from search.machine.hardware import MEMORY_SHARE, find_gpus, mig_devices, usable_cores, visible_gpus
from search.options.arguments import parse
from search.storage.attributes import WORKER
from search.study.config import study_config
from search.training import memory
from search.workers.child import Child
from search.workers.slots import Slot, make_slots
from search.workers.trial import TrialRunner
from tests.helpers import nvml
from tests.helpers.nvml import FakeGpu

WHAT = ("--task", "synthetic_two_vs_rest", "--model", "cnn", "validation=holdout")
SLICES = (FakeGpu(uuid="MIG-bbbb-1"), None, FakeGpu(uuid="MIG-bbbb-2"))
WHOLE = (FakeGpu(), FakeGpu(uuid="GPU-aaaa-2", slices=()))
DIVIDED = (FakeGpu(slices=SLICES), FakeGpu(uuid="GPU-aaaa-2"), FakeGpu(uuid="GPU-aaaa-3", slices=(None,)))


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Makes a folder of device files, sets CUDA_VISIBLE_DEVICES, and says what is visible then."""

    def find(files, visible):
        for name in files:
            (tmp_path / name).touch()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return visible_gpus(tmp_path)

    return find


@pytest.mark.parametrize(
    ("files", "visible", "expected"),
    [
        ([], None, ()),
        ([], "0,1", ()),
        (["nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1"], None, ("0", "1")),
        (["nvidia4", "nvidia7"], None, ("0", "1")),  # what a container is given is counted from 0 in it
        (["nvidia0", "nvidia1", "nvidia2"], "2,0", ("2", "0")),
        (["nvidia0", "nvidia1"], "1,1", ("1",)),
        (["nvidia0", "nvidia1"], "0,5,1", ("0",)),  # CUDA reads no further than the first that it does not know
        (["nvidia0", "nvidia1"], "", ()),
        (["nvidia0"], "GPU-8932f937, GPU-0a0a", ("GPU-8932f937", "GPU-0a0a")),
        (["nvidia0"], "MIG-c7384736,MIG-a28ad590", ("MIG-c7384736", "MIG-a28ad590")),
    ],
)
def test_visible_gpus(gpus, files, visible, expected):
    assert gpus(files, visible) == expected


@pytest.mark.parametrize(
    ("found", "error", "expected"),
    [
        (DIVIDED, None, ("MIG-bbbb-1", "MIG-bbbb-2", "GPU-aaaa-2", "GPU-aaaa-3")),
        (WHOLE, None, ()),
        ((), None, ()),
        (DIVIDED, pynvml.NVMLError_DriverNotLoaded, ()),
    ],
)
def test_slices_of_divided_gpus_are_named_by_the_driver(monkeypatch, found, error, expected):
    nvml.install(monkeypatch, *found, error=error)
    assert mig_devices() == expected


def test_a_driver_that_fails_reports_nothing(monkeypatch):
    def lose(index):
        raise pynvml.NVMLError_GpuIsLost()

    nvml.install(monkeypatch, *DIVIDED)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lose)
    assert find_gpus() == []
    assert mig_devices() == ()


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("400000 100000", 4), ("50000 100000", 1), ("1600000 100000", 8)]
)
def test_a_containers_share_of_processor_time_counts(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert usable_cores(tmp_path) == 8
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path) == expected


def slots(n_workers, *, trials_per_gpu=1, gpus=(), n_cores=8, threads=1, n_trials=1000, free_gib=1000):
    return make_slots(
        n_workers,
        trials_per_gpu=trials_per_gpu,
        gpus=gpus,
        n_cores=n_cores,
        threads=threads,
        n_trials=n_trials,
        free_bytes=free_gib * 2**30,
    )


def test_one_worker_leaves_the_environment_as_it_is():
    assert slots(1) == (Slot(name="cpu:0", n_threads=1, n_cores=8),)
    assert slots(1, gpus=("3", "1"), threads=4) == (Slot(name="cuda:0", n_threads=4, gpu_share=1.0),)


def test_auto_is_one_worker_for_each_slot_of_a_gpu():
    found = slots(None, gpus=("3", "GPU-b"), trials_per_gpu=2)
    assert [slot.name for slot in found] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [slot.gpu for slot in found] == ["3", "GPU-b", "3", "GPU-b"]
    assert {(slot.n_threads, slot.memory_share) for slot in found} == {(1, 0.5)}


def test_gpus_are_filled_evenly():
    found = slots(3, gpus=("0", "1"), trials_per_gpu=4)
    assert [(slot.gpu, slot.memory_share) for slot in found] == [("0", 0.5), ("1", 1.0), ("0", 0.5)]


@pytest.mark.parametrize(
    ("n_cores", "threads", "n_workers"),
    [(1, 1, 1), (2, 1, 2), (3, 1, 3), (64, 1, 64), (1, 8, 1), (2, 2, 1), (2, 8, 1), (9, 2, 4), (64, 8, 8)],
)
def test_auto_without_a_gpu_fills_the_cores_with_workers_of_the_studys_threads(n_cores, threads, n_workers):
    found = slots(None, n_cores=n_cores, threads=threads, trials_per_gpu=3)
    assert len(found) == n_workers
    assert {slot.n_threads for slot in found} == {threads}, "they fix the bits, whatever the machine is"


def test_a_worker_that_is_alone_may_take_all_cores_for_its_folds():
    for n_workers, n_trials in ((1, 1000), (None, 1)):
        (alone,) = slots(n_workers, n_trials=n_trials)
        assert alone.n_cores == 8
        cores = [
            alone.uses(threads, cores=8, n_folds=n)["cores"] for threads, n in ((1, 5), (3, 5), (4, 5), (1, 20), (9, 5))
        ]
        assert cores == [5, 6, 8, 8, 9]
    assert {slot.n_cores for slot in slots(2)} == {None}, "of others it may not know how many there are"
    assert slots(1, gpus=("0",))[0].n_cores is None


def test_auto_starts_no_more_workers_than_there_are_trials_or_there_is_memory_for():
    assert len(slots(None, n_cores=64, n_trials=5)) == 5
    assert len(slots(None, n_cores=64, free_gib=16)) == 16
    assert len(slots(None, n_cores=64, free_gib=0)) == 1
    assert len(slots(7, n_cores=2, n_trials=5, free_gib=1)) == 7, "what is asked for is done"


@pytest.mark.parametrize("threads", [1, 4])
def test_without_a_gpu_there_may_be_more_workers_than_cores(threads):
    found = slots(3, n_cores=2, threads=threads)
    assert [(slot.name, slot.gpu, slot.n_threads) for slot in found] == [(f"cpu:{i}", None, threads) for i in range(3)]


@pytest.mark.parametrize(
    ("n_workers", "n_cores", "expected"),
    [(1, 8, [8]), (2, 8, [4, 4]), (3, 2, [1, 1, 1]), *((None, n, [n // m] * m) for n, m in ((1, 1), (3, 1), (9, 4)))],
)
def test_a_study_of_an_earlier_version_keeps_the_share_of_the_cores_that_it_had(n_workers, n_cores, expected):
    found = slots(n_workers, n_cores=n_cores, threads=None, n_trials=1, free_gib=1)
    assert [slot.n_threads for slot in found] == expected


def test_more_workers_than_slots_are_refused():
    with pytest.raises(UserError, match=r"--workers 5 is more than the 2 slots of 2 visible GPU\(s\).*per-gpu 3"):
        slots(5, gpus=("0", "1"))


def test_threads_that_are_set_stay():
    run = study_config(["task=synthetic_two_vs_rest", "model=cnn", "validation=holdout"]).run({})
    assert run.trainer.threads is None
    assert Slot(name="cpu:0", n_threads=3).fit(run).trainer.threads == 3
    assert Slot(name="cpu:0").fit(run) == run
    fixed = replace(run, trainer=replace(run.trainer, threads=5))
    assert Slot(name="cpu:0", n_threads=3).fit(fixed) == fixed


def test_a_run_takes_no_more_than_its_share_of_memory(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setenv(MEMORY_SHARE, "1.0")
    free = memory.free_memory_bytes(cpu)
    monkeypatch.setattr(machine_memory, "free_memory_bytes", lambda: 2**62)
    total = memory.free_memory_bytes(cpu)
    assert free <= total
    monkeypatch.setenv(MEMORY_SHARE, "0.25")
    assert memory.free_memory_bytes(cpu) == total // 4


def test_occupying_a_slot_hides_the_other_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv(MEMORY_SHARE, "1.0")
    Slot(name="cpu:0", memory_share=0.5).occupy()
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ[MEMORY_SHARE]) == ("0,1", "0.5")
    Slot(name="cuda:1", gpu="MIG-1").occupy()
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ[MEMORY_SHARE]) == ("MIG-1", "1.0")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], (1, 1, None, None, 3)),
        (["--workers", "8", "--trials-per-gpu", "2", "--max-retries", "0"], (8, 2, None, None, 0)),
        (["--workers=auto", "--timeout", "90s", "--trial-timeout", "15m"], (None, 1, 90.0, 900.0, 3)),
        (["--timeout", "2h", "--trial-timeout", "0.5"], (1, 1, 7200.0, 0.5, 3)),
    ],
)
def test_options(words: list[str], value):
    found = parse([*WHAT, *words])
    assert (found.workers, found.trials_per_gpu, found.timeout, found.trial_timeout, found.max_retries) == value


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--workers", "0"], "'0' is not valid: expected a whole number from 1 to 999, or auto"),
        (["--workers", "-2"], "'-2' is not valid"),
        (["--workers", "many"], "'many' is not valid: expected a whole number from 1 to 999, or auto"),
        (["--workers", "1000"], "'1000' is not valid"),
        (["--trials-per-gpu", "0"], "'0' is not valid"),
        (["--max-retries", "-1"], "'-1' is not valid: expected a whole number from 0"),
        (["--timeout", "0"], "'0' is not valid: expected seconds, or a time such as 90s, 15m or 2h"),
        (["--timeout", "5d"], "'5d' is not valid"),
        (["--trial-timeout", "1h30m"], "'1h30m' is not valid"),
        (["--trial-timeout", "inf"], "'inf' is not valid"),
    ],
)
def test_options_that_are_refused(words: list[str], expected: str):
    with pytest.raises(UserError) as caught:
        parse([*WHAT, *words])
    assert expected in str(caught.value)
    assert words[0] in str(caught.value)


def test_more_workers_than_gpu_slots_are_refused_before_anything_is_written(command, monkeypatch):
    monkeypatch.setattr("search.request.inputs.visible_gpus", lambda: ("0",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "--workers 3 is more than the 1 slots" in command(*WHAT, "--workers", "3").refusal()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("worker", "expected"), [("elsewhere:7", 4), (7, 4), (None, 4), ([], 4), (f"{socket.gethostname()}:7", 2)]
)
def test_cores_are_shared_with_trials_of_this_machine_whatever_a_row_says_of_its_worker(worker, expected):
    study = optuna.create_study()
    other, trial = study.ask(), study.ask()
    other.set_user_attr(WORKER, worker)
    runner = SimpleNamespace(config=study_config(["task=synthetic_two_vs_rest", "model=cnn"]))
    runner.slot, runner.start = Slot(name="cpu:0", n_threads=1, n_cores=4), Child
    assert TrialRunner._cores(runner, trial) == expected
