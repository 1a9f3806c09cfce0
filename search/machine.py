"""What numbers depend on besides the config: package versions, the kind of machine, the code's commit."""

import importlib.metadata
import itertools
import os
import platform
import re
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

from models.processor import processor

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("torch", "lightning", "torchmetrics", "optuna", "numpy", "scipy", "fair-esm")


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results may depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    return versions


def machine_kind(device: str) -> dict[str, str]:
    """What has to be equal for numbers to be equal bit for bit: processor or GPU, system and torch."""
    kind = {"system": platform.system(), "architecture": platform.machine(), "processor": processor()}
    if device.startswith("cuda"):
        import torch

        kind["gpu"] = torch.cuda.get_device_name(device)
    return {**kind, "torch": package_versions()["torch"]}


@cache
def git_commit() -> str | None:
    """The checkout's commit, with `-dirty` where tracked files were changed; None outside of a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


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


def cpu_time_s() -> float:
    """The CPU time in seconds that this process has used, all its threads and its ended children included."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores this process may use: its affinity, and a container's share of processor time (version 2)."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
        return n if quota == "max" else max(1, min(n, int(quota) // int(period)))
    except (OSError, ValueError):
        return n
