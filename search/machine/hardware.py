"""The NVIDIA GPUs of this machine, as the driver's library NVML reports them: no CUDA context is made for it."""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU; None where the driver does not say."""

    index: int
    name: str
    driver: str
    utilization_percent: int | None
    used_mib: int | None
    total_mib: int | None


def find_gpus() -> list[Gpu]:
    """All GPUs of the machine, whatever CUDA_VISIBLE_DEVICES says; none without a driver or when it fails."""
    return _ask_driver(lambda nvml, handles: [_gpu(nvml, *numbered) for numbered in enumerate(handles)])


def _gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    use = _known(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    memory = _known(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    return Gpu(
        index=index,
        name=nvml.nvmlDeviceGetName(handle),
        driver=nvml.nvmlSystemGetDriverVersion(),
        utilization_percent=use and int(use.gpu),
        used_mib=memory and memory.used // _MIB,
        total_mib=memory and memory.total // _MIB,
    )


def _known(nvml: Any, question: Callable[[Any], Any], handle: Any) -> Any:
    """The driver's answer about a GPU; None to what some GPUs, and divided ones, do not answer."""
    try:
        return question(handle)
    except nvml.NVMLError:
        return None


def _ask_driver(question: Callable[[Any, list[Any]], list[_T]]) -> list[_T]:
    """What NVML answers, asked with its module and the handles of all GPUs; nothing where there is no driver."""
    import pynvml as nvml  # type: ignore[import-untyped]  # late: most machines that ask have no GPU

    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        return question(nvml, [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())])
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


MEMORY_SHARE = "FLIPSEARCH_MEMORY_SHARE"
"""Environment of a worker: which part of its device's memory its runs may take."""


def bound_to() -> dict[str, str]:
    """The part of the environment that binds a process to a GPU and to a share of memory: that of its children, too."""
    return {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", MEMORY_SHARE) if name in os.environ}


def visible_gpus(devices: Path = Path("/dev")) -> tuple[str, ...]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not imported for it.

    Counts the driver's device files (`/dev/nvidia0`, ...; under WSL there is `/dev/dxg` alone) and asks
    CUDA_VISIBLE_DEVICES, of which CUDA reads the entries up to the first that is none: a number, or a name that begins
    with GPU- or MIG-. Whether torch was built for CUDA it does not say.
    """
    n_devices = len([*devices.glob("nvidia[0-9]*"), *devices.glob("dxg")])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or n_devices == 0:
        return tuple(map(str, range(n_devices)))  # containers hold some files only, and CUDA counts from 0 again
    entries = [entry.strip() for entry in visible.split(",")]
    known = itertools.takewhile(
        lambda entry: int(entry) < n_devices if entry.isdecimal() else entry.startswith(("GPU-", "MIG-")), entries
    )
    return tuple(dict.fromkeys(known))


def mig_devices() -> tuple[str, ...]:
    """The slices of GPUs that are divided, by their UUIDs, whole GPUs beside them; none without slices.

    Without CUDA_VISIBLE_DEVICES a process sees the first slice alone: each has to be named.
    """
    slices_of_gpus = _ask_driver(lambda nvml, handles: [(_uuid(nvml, gpu), _slices(nvml, gpu)) for gpu in handles])
    if not any(slices for _, slices in slices_of_gpus):
        return ()
    return tuple(uuid for gpu, slices in slices_of_gpus for uuid in slices or [gpu])


def _slices(nvml: Any, gpu: Any) -> list[str]:
    n_most = _known(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0
    found = (_known(nvml, lambda i: nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, i), i) for i in range(n_most))
    return [_uuid(nvml, handle) for handle in found if handle is not None]


def _uuid(nvml: Any, handle: Any) -> str:
    return str(nvml.nvmlDeviceGetUUID(handle))


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores this process may use: its affinity, and a container's share of processor time (version 2)."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
        return n if quota == "max" else max(1, min(n, int(quota) // int(period)))
    except (OSError, ValueError):
        return n
