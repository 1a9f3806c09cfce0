"""What numbers depend on besides the config: package versions, the kind of machine, the code's commit."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

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
    kind = {"system": platform.system(), "architecture": platform.machine(), "processor": _processor()}
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


@cache
def _processor() -> str:
    if sys.platform == "linux":
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this process may use an NVIDIA GPU, found out without importing torch.

    Counts the driver's device files (`/dev/nvidia0`, ...; under WSL there is `/dev/dxg` alone) and asks
    CUDA_VISIBLE_DEVICES, of which CUDA reads the entries up to the first that is none: a number, or a name that begins
    with GPU- or MIG-. Whether torch was built for CUDA it does not say.
    """
    n_devices = len([*devices.glob("nvidia[0-9]*"), *devices.glob("dxg")])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or n_devices == 0:
        return n_devices > 0
    first = visible.split(",")[0].strip()
    return int(first) < n_devices if first.isdecimal() else first.startswith(("GPU-", "MIG-"))
