"""What numbers depend on besides the config: package versions, the kind of machine, the code's commit."""

import importlib.metadata
import os
import platform
import subprocess
import time
from functools import cache

from datasets.common.processor import processor
from search.checkout import ROOT

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
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def cpu_time_s() -> float:
    """The CPU time in seconds that this process has used, all its threads and its ended children included."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system
