"""The NVIDIA GPUs of this machine, as the driver's own tool reports them: no CUDA context is made for it."""

import itertools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_FIELDS = "index,name,driver_version,utilization.gpu,memory.used,memory.total"
_TIMEOUT_S = 10


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
    """All GPUs of the machine, whatever CUDA_VISIBLE_DEVICES says; none without nvidia-smi or when it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [
        Gpu(
            index=int(row[0]),
            name=row[1],
            driver=row[2],
            utilization_percent=_number(row[3]),
            used_mib=_number(row[4]),
            total_mib=_number(row[5]),
        )
        for row in rows
        if len(row) == len(_FIELDS.split(",")) and row[0].isdecimal()
    ]


def _number(cell: str) -> int | None:
    return int(cell) if cell.isdecimal() else None  # "[N/A]" on some GPUs and MIG slices


MEMORY_SHARE = "FLIPSEARCH_MEMORY_SHARE"
"""Environment of a worker: which part of its device's memory its runs may take."""


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this process may use an NVIDIA GPU, as far as `visible_gpus` can tell."""
    return bool(visible_gpus(devices))


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
    """The slices of GPUs that are divided, as nvidia-smi names them, whole GPUs beside them; none without slices.

    Without CUDA_VISIBLE_DEVICES a process sees the first slice alone: each has to be named.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ()
    found: list[str] = re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)\)", done.stdout)
    # A divided GPU is followed by its slices and cannot be used whole.
    divided = {before for before, after in itertools.pairwise(found) if before[:3] == "GPU" and after[:3] == "MIG"}
    return tuple(name for name in found if name not in divided) if divided else ()


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores this process may use: its affinity, and a container's share of processor time (version 2)."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
        return n if quota == "max" else max(1, min(n, int(quota) // int(period)))
    except (OSError, ValueError):
        return n
