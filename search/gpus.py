"""The NVIDIA GPUs of this machine, as the driver's own tool reports them: no CUDA context is made for it."""

import shutil
import subprocess
from dataclasses import dataclass

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
