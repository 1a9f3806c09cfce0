"""How much memory this machine has, or the container that we are in, and how much is free."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_memory_bytes() -> int:
    """What could be taken of the machine's memory, or of what the container may have."""
    return min(_machine_free_bytes(), _container_free_bytes())


def _machine_free_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no Linux
    return memory_bytes() // 2


def memory_bytes() -> int:
    """All memory of the machine, or of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _container_limit()
    return total if limit is None else min(total, limit)


def _container_free_bytes() -> int:
    """What control groups leave (version 2); all where they set no limit."""
    limit = _container_limit()
    if limit is None:
        return 2**63
    try:
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").split()
        # Files in the page cache count as used and are given up when memory is needed.
        cached = sum(int(lines[lines.index(name) + 1]) for name in ("active_file", "inactive_file"))
        return limit - used + cached
    except (OSError, ValueError):
        return 2**63


def _container_limit() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        return None if limit == "max" else int(limit)
    except (OSError, ValueError):
        return None
