"""The linear layer of each position and the pooling over them, on states (U, C) that `TapPositions` places.

Where a pooling is a weighted sum of states, the linear layer comes after it, where B rows are left to multiply. The
maximum passes its gradient to a few of the states only.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers.ranks import Groups, by_value
from models.layers.taps.chain import dtype_of_products, product, sums
from models.layers.taps.positions import TapPositions
from models.layers.windows import MAX_CANDIDATES, winners_over_length

_DENSE = 500  # with fewer products than this for each winner, to sort the winners takes longer


class _Pooling:
    """What all poolings know."""

    def __init__(self, positions: TapPositions, *parameters: Tensor) -> None:
        assert positions.groups is not None
        self.parameters = parameters
        self._groups: Groups = positions.groups
        self._positions = positions
        self._shape = positions.ids.shape

    def _rows(self) -> tuple[Tensor, Tensor]:
        """The row (B * L,) of the state at each position, 0 at padding; where those of a sequence begin (B,)."""
        n_rows, length = self._shape
        rows = self._groups.numbers - 1
        if self._positions.is_padded:
            rows.clamp_(min=0)
        return rows, torch.arange(0, n_rows * length, length, dtype=rows.dtype)

    def _of_states(self, gradient: Tensor, weights: Tensor | None = None) -> Tensor:
        """The gradient (U, C) of states whose sums have that gradient (B, C), each weighted by (B * L,)."""
        groups = self._groups
        sequences = torch.div(groups.order, self._shape[1], rounding_mode="trunc")
        if weights is not None:
            weights = weights.index_select(0, groups.order)
        return sums(gradient, sequences, groups.offsets, weights)


class Mean(_Pooling):
    """The mean (B, C) of the states; zeros where there is none."""

    def forward(self, states: Tensor | None) -> Tensor:
        """(B, C)."""
        assert states is not None
        rows, begins = self._rows()
        ids, weights = self._positions.ids, None
        self._n_residues = states.new_full((len(ids), 1), ids.shape[1])
        if self._positions.is_padded:
            weights = (ids > 0).to(states.dtype)
            self._n_residues = weights.sum(dim=1, keepdim=True).clamp_(min=1)
            weights = weights.flatten()
        return sums(states, rows, begins, weights).div_(self._n_residues)

    def backward(self, gradient: Tensor) -> tuple[Tensor]:
        """Of the states."""
        return (self._of_states(gradient / self._n_residues),)


class AttentionMean(_Pooling):
    """The mean (B, C) of the states, weighted by the softmax of a linear function of what `embedding` makes of them.

    The function's constant and the embedding's bias change no softmax.
    """

    def __init__(self, positions: TapPositions, attention: nn.Linear, embedding: nn.Linear) -> None:
        super().__init__(positions, attention.weight, attention.bias, embedding.weight)

    def forward(self, states: Tensor | None) -> Tensor:
        """(B, C)."""
        assert states is not None
        weight, _, matrix = self.parameters
        self._states, self._scorer = states, torch.mv(matrix.t(), weight.view(-1))
        self._at = self._rows()
        scores = torch.mv(states, self._scorer).index_select(0, self._at[0]).view(self._shape)
        if self._positions.is_padded:
            scores.masked_fill_(self._positions.ids == 0, -torch.inf)
        self._attention = torch.softmax(scores, dim=1)
        return sums(states, *self._at, self._attention.view(-1))

    def backward(self, gradient: Tensor) -> tuple[Tensor, ...]:
        """Of the states, the function's weight and bias, and the embedding's weight as far as the softmax goes."""
        weight, bias, matrix = self.parameters
        states, attention, (rows, begins), (n_rows, length) = self._states, self._attention, self._at, self._shape
        gradient = gradient.contiguous()
        sequences = torch.arange(n_rows, dtype=rows.dtype).repeat_interleave(length)
        of_attention = torch.ops.aten._embedding_bag_per_sample_weights_backward.default(
            gradient, states, rows, begins, sequences, 0
        )
        of_scores = torch._softmax_backward_data(of_attention.view(self._shape), attention, 1, attention.dtype)
        of_score = _sums_of_groups(of_scores.view(-1), self._groups)
        of_states = self._of_states(gradient, attention.view(-1)).addr_(of_score, self._scorer)
        of_scorer = torch.mv(states.t(), of_score)
        of_weight = torch.mv(matrix, of_scorer).view_as(weight)
        return of_states, of_weight, torch.zeros_like(bias), torch.outer(weight.view(-1), of_scorer)


class PositionSum(_Pooling):
    """The sum (B, D) of what a matrix (D, C) makes of the states, each times the weights (P, D) of its position.

    The same state at two positions has to be two; positions from P on add nothing.
    """

    def __init__(self, positions: TapPositions, matrix: Tensor, weights: Tensor) -> None:
        super().__init__(positions, matrix, weights)

    def forward(self, states: Tensor | None) -> Tensor:
        """(B, D)."""
        assert states is not None
        matrix, weights = self.parameters
        assert self._positions.places is not None
        self._dtype, self._states = dtype_of_products(states), states
        if len(weights) < self._shape[1]:
            weights = functional.pad(weights, (0, 0, 0, self._shape[1] - len(weights)))
        self._embedded = product(states, matrix.t(), self._dtype)
        self._factors = weights.index_select(0, self._positions.places)
        shown = (self._positions.ids > 0).to(states.dtype).view(-1) if self._positions.is_padded else None
        return sums(self._embedded * self._factors, *self._rows(), shown)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the states, the matrix and the weights."""
        matrix, weights = self.parameters
        places = self._positions.places
        assert places is not None
        of_products = self._of_states(gradient.contiguous())
        # States are numbered by their positions first.
        begins = torch.searchsorted(places, torch.arange(1 + len(weights)))
        rows = torch.arange(int(begins[-1]))
        of_weights = sums(of_products * self._embedded, rows, begins[:-1])
        of_embedded = of_products.mul_(self._factors)
        of_matrix = product(self._states.t(), of_embedded, self._dtype).t()
        return product(of_embedded, matrix, self._dtype), of_matrix.contiguous(), of_weights


class Maximum(_Pooling):
    """The maximum (B, D) over the positions of what a matrix (D, C) makes of the states; zeros where there is none."""

    def forward(self, states: Tensor | None) -> Tensor:
        """(B, D)."""
        assert states is not None
        (matrix,) = self.parameters
        self._dtype, self._states = dtype_of_products(states), states
        n_states, n_out = len(states), len(matrix)
        # What all sequences have in common is compared once, and stands as one more state beside the others.
        self._common = self._in_common()
        embedded = states.new_empty(n_states + (self._common is not None), n_out)
        if self._dtype is None:
            torch.mm(states, matrix.t(), out=embedded[:n_states])
        else:
            embedded[:n_states] = product(states, matrix.t(), self._dtype)
        if self._common is None:
            self._winners, self._is_empty = winners_over_length(embedded, self._positions.ids.long())
            pooled = embedded.gather(0, self._winners)
            return pooled if self._is_empty is None else pooled.masked_fill_(self._is_empty, 0)
        alike, others = self._common
        best, self._at_alike = _largest(embedded.index_select(0, alike)[None])
        embedded[n_states] = best[0]
        pooled, self._at = _largest(functional.embedding(others, embedded))
        return pooled

    def _in_common(self) -> tuple[Tensor, Tensor] | None:
        """The states (n,) at positions where all sequences have the same, and those (B, m) at the others.

        Among these is one more, that of the largest in common. None where that is no help.
        """
        ids, n_states = self._positions.ids, self._positions.n_states
        if self._positions.is_padded or ids.numel() * len(self.parameters[0]) > MAX_CANDIDATES:
            return None
        rows = ids.numpy() - 1
        is_alike = (rows == rows[0]).all(axis=0)
        if not is_alike.any():
            return None
        others = np.empty((len(rows), len(is_alike) - int(is_alike.sum()) + 1), dtype=np.int64)
        others[:, 0] = n_states
        others[:, 1:] = rows[:, ~is_alike]
        return torch.from_numpy(rows[0, is_alike].astype(np.int64)), torch.from_numpy(others)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of the states and the matrix."""
        (matrix,) = self.parameters
        states = self._states
        if self._common is None:
            winners = self._winners
            if self._is_empty is not None:
                gradient = gradient.masked_fill(self._is_empty, 0)
        else:
            alike, others = self._common
            winners = others.gather(1, self._at)
            winners = torch.where(winners == len(states), alike[self._at_alike], winners)
        n_rows, n_out = winners.shape
        if self._dtype is not None or states.numel() < _DENSE * n_rows:
            of_embedded = states.new_zeros(len(states), n_out).scatter_add_(0, winners, gradient)
            of_matrix = product(states.t(), of_embedded, self._dtype).t().contiguous()
            return product(of_embedded, matrix, self._dtype), of_matrix
        order, begins = by_value(1 + winners.reshape(-1, 1), 1 + len(states), 1)
        of_states = sums(matrix, order % n_out, begins, gradient.flatten().index_select(0, order))
        begins = torch.arange(0, winners.numel(), n_rows, dtype=winners.dtype)
        return of_states, sums(states, winners.t().flatten(), begins, gradient.t().flatten())


def _largest(candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The largest (B, D) of candidates (B, n, D) and which they are; NaN is larger than all."""
    # `max_pool1d` finds the position some three times faster than `max` does.
    values, positions = functional.max_pool1d(candidates.transpose(1, 2), candidates.shape[1], return_indices=True)
    return values.squeeze(2), positions.squeeze(2)


class Readout:
    """The last layers: ReLU, dropout and a linear layer with one output, from (B, D) to (B,).

    With an embedding its linear layer comes first, otherwise its bias alone.
    """

    def __init__(self, embedding: nn.Linear, decoder: nn.Linear, dropped: float, *, has_product: bool) -> None:
        self._has_product, self._dropped = has_product, dropped
        own = (embedding.weight,) if has_product else ()
        self.parameters = (*own, embedding.bias, decoder.weight, decoder.bias)

    def forward(self, states: Tensor | None) -> Tensor:
        """(B,)."""
        assert states is not None
        *matrix, bias, weight, constant = self.parameters
        self._states, self._dtype = states, dtype_of_products(states)
        if not matrix:
            hidden = states.add_(bias).relu_()
        elif self._dtype is None:
            hidden = torch.addmm(bias, states, matrix[0].t()).relu_()
        else:
            hidden = product(states, matrix[0].t(), self._dtype).add_(bias).relu_()
        self._hidden = functional.dropout(hidden, self._dropped) if self._dropped > 0 else hidden
        prediction: Tensor = torch.mv(self._hidden, weight.view(-1)) + constant
        return prediction

    def backward(self, gradient: Tensor) -> tuple[Tensor, ...]:
        """Of the states and of the parameters."""
        *matrix, _, weight, _ = self.parameters
        of_weight = torch.mv(self._hidden.t(), gradient)
        of_hidden = torch.outer(gradient / (1 - self._dropped) if self._dropped > 0 else gradient, weight.view(-1))
        # What was dropped is 0, as what ReLU holds back.
        of_hidden = torch.ops.aten.threshold_backward.default(of_hidden, self._hidden, 0)
        others = (of_hidden.sum(dim=0), of_weight.view_as(weight), gradient.sum(dim=0, keepdim=True))
        if not matrix:
            return of_hidden, *others
        of_matrix = product(of_hidden.t(), self._states, self._dtype)
        return product(of_hidden, matrix[0], self._dtype), of_matrix.contiguous(), *others


def _sums_of_groups(values: Tensor, groups: Groups) -> Tensor:
    return torch.bincount(groups.numbers, values, minlength=1 + len(groups.offsets))[1:].to(values.dtype)
