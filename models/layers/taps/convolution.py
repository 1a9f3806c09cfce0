"""The masked convolution as a sum over its taps.

A window's convolution adds up what the matrix of each tap makes of the state that stands there. So each distinct state
is multiplied by the matrices of all taps once, and each distinct window is a sum of a few rows of that table; the
gradient of a row is a sum over the windows that have it. Residues need no product at all. Sums of rows take some
hundredth of the time of the products.
"""

import torch
from torch import Tensor, nn

from models.layers.ranks import by_value
from models.layers.taps.chain import dtype_of_products, product, sums


class Convolution:
    """From states (S, C_in) to those of windows (U, C_out), after bias and ReLU.

    Args:
        layer: It has the weights.
        windows: (U, width), see `TapPositions.windows`. Where no states come before, the numbers of residues: their
            states are one-hot.
    """

    def __init__(self, layer: nn.Conv1d, windows: Tensor) -> None:
        assert layer.bias is not None
        self.parameters = (layer.weight, layer.bias)
        self._windows = windows

    def forward(self, states: Tensor | None) -> Tensor:
        """(U, C_out)."""
        weight, bias = self.parameters
        n_out, n_in, width = weight.shape
        n_states = n_in if states is None else len(states)
        table = weight.new_empty(1 + n_states, width, n_out)
        table[0] = 0  # where there is no residue
        own = table[1:]
        if states is None:
            own.copy_(weight.permute(1, 2, 0))
        else:
            self._matrix, self._dtype = weight.permute(1, 2, 0).reshape(n_in, -1), dtype_of_products(weight)
            if self._dtype is None:
                torch.mm(states, self._matrix, out=own.view(n_states, -1))
            else:
                own.view(n_states, -1).copy_(product(states, self._matrix, self._dtype))
        own[:, width // 2] += bias  # every window has a residue in its middle
        rows = self._windows.view(-1)
        offsets = torch.arange(0, len(rows), width, dtype=rows.dtype)
        self._states = states
        self._result = sums(table.view(-1, n_out), rows, offsets).relu_()
        return self._result

    def backward(self, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Of states, weight and bias."""
        n_out, n_in, width = self.parameters[0].shape
        states = self._states
        n_states = n_in if states is None else len(states)
        gradient = torch.ops.aten.threshold_backward.default(gradient.contiguous(), self._result, 0)
        found, begins = by_value(self._windows, width * (1 + n_states), width)
        of_table = sums(gradient, found, begins)
        of_bias = of_table.view(n_states, width, n_out)[:, width // 2].sum(dim=0)
        if states is None:
            return None, of_table.view(n_in, width, n_out).permute(2, 0, 1).contiguous(), of_bias
        of_table = of_table.view(n_states, -1)
        of_matrix = product(states.t(), of_table, self._dtype)
        of_weight = of_matrix.reshape(n_in, width, n_out).permute(2, 0, 1).contiguous()
        return product(of_table, self._matrix.t(), self._dtype), of_weight, of_bias
