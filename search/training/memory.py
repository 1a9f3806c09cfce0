"""How much of a run fits into memory at once: decided before its model is built."""

import os
import resource

import torch

from models.memory import Memory
from search.machine import memory as machine_memory
from search.machine.hardware import MEMORY_SHARE

USED_SHARE = 0.8  # of what is free: the estimate is one, and others come and go
MIN_EVAL_TOKENS = 4096  # smaller passes leave processors idle
_CONTEXT_BYTES = 768 * 2**20  # of a GPU, for a process's CUDA context and libraries


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
    usable = USED_SHARE * free_bytes
    needed = memory.fixed + max(memory.per_token * longest, memory.per_eval_token * max(longest, MIN_EVAL_TOKENS))
    if needed > usable:
        raise DoesNotFit(f"estimated to need {needed / 2**30:.1f} GiB, {usable / 2**30:.1f} GiB can be used")
    n_sequences = int((usable - memory.fixed) // (memory.per_token * longest))
    if n_sequences >= batch_size:
        return None
    return longest << (n_sequences.bit_length() - 1)


def shares_that_fit(memory: Memory, *, total_bytes: int, longest: int, batch_size: int, most: int) -> int:
    """Into how many shares a GPU's memory may be divided so that whole batches pass in each: a power of two to `most`.

    Arguments are those of `micro_batch_tokens`; 1 also where not even one run passes whole batches.
    """
    n = most
    while n > 1:
        free = total_bytes // n - _CONTEXT_BYTES
        try:
            if micro_batch_tokens(memory, free_bytes=free, longest=longest, batch_size=batch_size) is None:
                break
        except DoesNotFit:
            pass
        n //= 2
    return n


def eval_tokens(micro_batch_tokens: int | None, *, longest: int, batch_size: int) -> int:
    """The largest evaluation batch; it follows from the training's parts, so that both are replayed together."""
    return max(longest, MIN_EVAL_TOKENS, micro_batch_tokens or batch_size * longest)


def free_memory_bytes(device: torch.device) -> int:
    """What this process may still take on the device: of the GPU, or of the machine or container, and of its share."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return min(int(free) + cached, share_bytes(total, _CONTEXT_BYTES))
    return min(machine_memory.free_memory_bytes(), share_bytes(machine_memory.memory_bytes()))


def keep_to_share(device: torch.device) -> None:
    """Let this process run out of memory where its share of the GPU ends, instead of taking that of its neighbours.

    That a configuration does not fit is a finding about it: it must not depend on what runs beside it.
    """
    if device.type == "cuda" and memory_share() < 1:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(share_bytes(total, _CONTEXT_BYTES) / total, device)


def memory_share() -> float:
    """Which part of its device's memory this process may take: 1 unless several workers share it."""
    return float(os.environ.get(MEMORY_SHARE, "1"))


def share_bytes(total: int, context: int = 0) -> int:
    """The share of this process in a device's memory, less what it takes by only being there; all where it is alone."""
    share = memory_share()
    return total if share == 1 else max(0, int(share * total) - context)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def peak_memory_bytes(device: str) -> int:
    """The most that this process has held: of the GPU's memory where it uses one."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
