"""How much of a run fits into memory at once: decided before its model is built."""

import os
from pathlib import Path

import torch

from models.memory import Memory

_USED_SHARE = 0.8  # of what is free: the estimate is one, and others come and go
MIN_EVAL_TOKENS = 4096  # smaller passes leave processors idle


class DoesNotFit(Exception):
    """A configuration needs more memory than there is; the message says how much."""


def micro_batch_tokens(memory: Memory, *, free_bytes: int, longest: int, batch_size: int) -> int | None:
    """How many padded tokens of a batch may pass through the model at once; None for all of them.

    A power of two times the longest sequence, so that a little more or less free memory changes nothing.

    Args:
        memory: what the model needs.
        free_bytes: of the device.
        longest: tokens of the longest sequence.
        batch_size: sequences in a step of the optimizer.

    Raises:
        DoesNotFit: Not even one sequence can be trained on, or the smallest evaluation batch is too large.
    """
    usable = _USED_SHARE * free_bytes
    needed = memory.fixed + max(memory.per_token * longest, memory.per_eval_token * max(longest, MIN_EVAL_TOKENS))
    if needed > usable:
        raise DoesNotFit(f"estimated to need {needed / 2**30:.1f} GiB, {usable / 2**30:.1f} GiB can be used")
    n_sequences = int((usable - memory.fixed) // (memory.per_token * longest))
    if n_sequences >= batch_size:
        return None
    return longest << (n_sequences.bit_length() - 1)


def eval_tokens(micro_batch_tokens: int | None, *, longest: int, batch_size: int) -> int:
    """The largest evaluation batch; it follows from the training's parts, so that both are replayed together."""
    return max(longest, MIN_EVAL_TOKENS, micro_batch_tokens or batch_size * longest)


def free_memory_bytes(device: torch.device) -> int:
    """What this process may still take on the device: the GPU's free memory, or the machine's or container's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    return min(_machine_free_bytes(), _container_free_bytes())


def _machine_free_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _container_free_bytes() -> int:
    """What control groups leave (version 2); all where they set no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        return 2**63 if limit == "max" else int(limit) - int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 2**63
