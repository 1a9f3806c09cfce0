"""What a process has computed of the same rows before: of a study's trials many differ in nothing but a penalty.

What is found is bit for bit what would be computed again.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MAX_BYTES = 2**28
"""Of all that is kept; what was used longest ago goes first."""


class Kept:
    """Tensors by what they were computed of.

    Args:
        max_bytes: Of all of them together.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._tensors: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, what: str, of: Sequence[Tensor], compute: Callable[[], Tensor]) -> Tensor:
        """What is computed of tensors with these values, unless it is known. Nobody may change it.

        On a GPU it is computed again: to look at the tensors there would take as long.
        """
        if any(tensor.device.type != "cpu" for tensor in of):
            return compute()
        key = _key(what, of)
        if key in self._tensors:
            self._tensors.move_to_end(key)
            return self._tensors[key]
        found = compute()
        if found.nbytes <= self._max_bytes:
            self._tensors[key] = found
            self._n_bytes += found.nbytes
            while self._n_bytes > self._max_bytes:
                _, dropped = self._tensors.popitem(last=False)
                self._n_bytes -= dropped.nbytes
        return found


kept = Kept()
"""Those of this process, which a child of several runs is."""


def _key(what: str, of: Sequence[Tensor]) -> str:
    # Sums of other numbers than counts depend on the threads that add them up.
    found = hashlib.blake2b(f"{what} {torch.get_num_threads()}".encode())
    for tensor in of:
        found.update(f" {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()
