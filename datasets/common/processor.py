"""The processor's name, by which machines of another kind are told: bits depend on it."""

import platform
import re
import sys
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """For example "AMD EPYC 9654 96-Core Processor"."""
    if sys.platform == "linux":
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()
