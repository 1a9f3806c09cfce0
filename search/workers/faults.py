"""Which errors of a run are its machine's fault: told by their text, since libraries raise RuntimeError for all.

What is listed here happens to good configurations and does not happen again elsewhere or later. Everything else is a
bug. A device-side assert, for one, is an index out of range: it would fail again, and stays a bug.
"""

import re
from typing import Literal

from search.machine.limits import DISK_FULL, FILE_TOO_LARGE

Fault = Literal["bug", "transient", "disk_full"]

_TRANSIENT = {
    r"CUDA error: unspecified launch failure": "the GPU faulted, or a neighbour's crash took our context along",
    r"CUDA error: an illegal memory access": "seen on failing memory and after a neighbour's crash",
    r"CUDA error: (unknown error|the launch timed out|all CUDA-capable devices are busy)": "driver or another process",
    r"CUDA-capable device\(s\) is/are busy or unavailable": "an exclusive GPU that another process holds",
    r"uncorrectable .*ECC error|ECC error": "a flipped bit in the GPU's memory",
    r"no CUDA-capable device|No CUDA GPUs are available": "the GPU fell off the bus, or its driver is restarted",
    r"CUDA driver initialization failed|CUDA unknown error|system not yet initialized": "the driver is restarted",
    # Running out of memory in PyTorch's own allocator is a result, not an error: this is a context that did not fit.
    r"CUDA error: out of memory|out of host memory": "others fill the GPU or the machine",
    r"CU(BLAS|DNN|FFT|SOLVER|SPARSE)_STATUS_(NOT_INITIALIZED|ALLOC_FAILED|EXECUTION_FAILED|INTERNAL_ERROR)": "as above",
    r"NCCL": "a connection between GPUs",
    r"Input/output error|Stale file handle|Transport endpoint|Remote I/O error": "a disk on the network",
}
_DISK_FULL = {
    rf"{DISK_FULL}|StorageFull": "as the system says it, and Rust",
    FILE_TOO_LARGE: "the same to a trial",
    r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+": "torch.save, which drops the system's words",
}


def fault(error: str) -> Fault:
    """What kind of error a traceback ends in; its lines of code do not count, they may quote anything."""
    said = "\n".join(line for line in error.splitlines() if not line.startswith((" ", "Traceback ")))
    if any(re.search(pattern, said) for pattern in _DISK_FULL):
        return "disk_full"
    if any(re.search(pattern, said) for pattern in _TRANSIENT):
        return "transient"
    return "bug"
