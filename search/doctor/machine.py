"""The doctor on this machine: Python, packages, torch, GPUs, disks."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from search.checkout import ROOT
from search.doctor.finding import Diagnosis, ok, problem, warning
from search.machine.hardware import find_gpus, visible_gpus

_GIB = 1 << 30
_FULL_BYTES = 1 * _GIB
_NEARLY_FULL_BYTES = 10 * _GIB
_CUDA_TIMEOUT_S = 120
_INSTALL = "run `make .venv`"


def check_python() -> Diagnosis:
    """Which Python runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    return ok("python", f"{version} at {sys.executable}")


def check_packages(root: Path = ROOT) -> Iterator[Diagnosis]:
    """Each direct dependency within its range in pyproject.toml; and whether it is the one that was tried."""
    wanted = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    pins = _pins(root / "constraints.txt")
    others, n_bad = [], 0
    for requirement in map(Requirement, wanted):
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = ""
        pin = pins.get(canonicalize_name(requirement.name))
        if not found or not requirement.specifier.contains(found.partition("+")[0], prereleases=True):
            n_bad += 1
            about = f"{requirement.name} {found or 'is missing'} (expected {requirement.specifier})"
            yield problem("packages", about, _INSTALL)
        elif pin is not None and found.partition("+")[0] != pin:
            others.append(f"{requirement.name} {found} (tried: {pin})")
    if others:
        remedy = f"numbers may differ in their last bits from elsewhere: {_INSTALL} for the tried ones"
        yield warning("packages", f"other versions than constraints.txt names: {', '.join(others)}", remedy)
    elif not n_bad:
        yield ok("packages", f"{len(wanted)}, all of the versions that were tried")


def _pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = [line.partition("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version.strip() for name, _, version in pairs if version}


def check_torch() -> Diagnosis:
    """Whether torch can use the GPUs there are. It is imported, in a process of its own, only where there are some."""
    cuda = _cuda_of_torch()
    build = f"built for CUDA {cuda}" if cuda else "built for the CPU"
    gpus = visible_gpus()
    if not gpus:
        return ok("torch", build)
    if cuda is None:
        remedy = "install a build for CUDA (https://pytorch.org), or trials train on the CPU"
        return warning("torch", f"{build}, though there are {len(gpus)} GPU(s)", remedy)
    # Whether driver, CUDA and GPU go together only CUDA knows.
    program = "import torch; torch.zeros(1).cuda(); print(torch.cuda.device_count())"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=_CUDA_TIMEOUT_S
        )
        said = done.stderr.strip().splitlines()[-1:] or ["no message"]
        works = done.returncode == 0
    except subprocess.TimeoutExpired:
        works, said = False, [f"no answer within {_CUDA_TIMEOUT_S} s"]
    if works:
        return ok("torch", f"{build}, uses {done.stdout.strip()} GPU(s)")
    remedy = "install a driver that fits this CUDA, or train on the CPU with trainer.accelerator=cpu"
    return problem("torch", f"{build}, cannot use the GPU ({said[0]})", remedy)


def _cuda_of_torch() -> str | None:
    """The CUDA version that torch was built for, read from its files: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    about = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b[^=]*=\s*'([^']+)'", about, re.M)
    return found and found.group(1)


def check_gpus() -> Iterator[Diagnosis]:
    """The NVIDIA GPUs: driver and free memory."""
    gpus = find_gpus()
    for gpu in gpus:
        about = f"{gpu.index}, {gpu.name}, driver {gpu.driver}"
        if gpu.used_mib is None or gpu.total_mib is None:
            yield ok("gpu", about)
            continue
        about += f", {gpu.total_mib - gpu.used_mib:,} of {gpu.total_mib:,} MiB free"
        if gpu.used_mib > gpu.total_mib / 2:
            yield warning("gpu", about, "unless these are trials, see `nvidia-smi` for who holds it")
        else:
            yield ok("gpu", about)
    if gpus:
        return
    if visible_gpus() or shutil.which("nvidia-smi"):
        yield warning("gpu", "the driver does not report the GPU(s)", "check the driver with `nvidia-smi`")
    else:
        yield ok("gpu", "no NVIDIA GPU: trials train on the CPU")


def check_disk(folder: Path, remedy: str, source: str = "") -> Diagnosis:
    """Whether a folder, which need not exist, can be written, and the space on its disk. Nothing is left there.

    `source` is what named the folder.
    """
    if folder.parts[:1] == ("~",):
        return warning("disk", f"this user has no home folder, and so no {folder} to keep downloads in", remedy)
    named = f"{folder} ({source})" if source else str(folder)
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
        free_bytes = shutil.disk_usage(there).free
    except OSError as error:
        return problem("disk", f"{named} cannot be written ({error.strerror})", remedy)
    about = f"{named} has {free_bytes / _GIB:.1f} GiB free"
    if free_bytes >= _NEARLY_FULL_BYTES:
        return ok("disk", about)
    finding = problem if free_bytes < _FULL_BYTES else warning
    return finding("disk", about, f"free some space, or {remedy}")
