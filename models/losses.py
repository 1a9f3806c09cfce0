"""What training minimises: squared errors, Huber's, or the ranking of pairs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

LossName = Literal["mse", "huber", "ranking"]
Loss = Callable[..., Tensor]
"""From what a model's `forward` gives for the rows of a batch (B,) and their targets (B,) to a mean over the batch."""


def ranking(score: Tensor, target: Tensor) -> Tensor:
    """The logistic loss of score differences (Bradley and Terry 1952; RankNet, Burges et al. 2005).

    Its pairs are all pairs of rows of a batch whose targets differ, each once: the mean over them of
    log(1 + exp(score of the lower one - score of the higher one)). Pairs of equal targets count nothing, and a batch
    without a pair, as one of a single row, gives 0 and a gradient of 0. It takes B x B values of memory.
    """
    is_higher = target[:, None] > target
    # Where, and no selection, whose size would have to be waited for.
    losses = functional.softplus(score - score[:, None]).masked_fill(~is_higher, 0)
    return losses.sum() / is_higher.sum().clamp(min=1)


def make_loss(name: LossName, *, huber_delta: float) -> Loss:
    """The loss of that name: the mean squared error, which is FLIP's and Flipper's, Huber's (1964), or `ranking`.

    Huber's is half the squared error up to `huber_delta`, and that times the rest of the error beyond it; the unit is
    that of the targets, and their standard deviation where they are standardised.
    """
    if name == "huber":
        return partial(functional.huber_loss, delta=huber_delta)
    return ranking if name == "ranking" else functional.mse_loss


def is_pairwise(loss: Loss) -> bool:
    """Whether a loss is a mean over pairs of rows, so that no part of a batch can be computed without the others."""
    return loss is ranking


def over_rows(loss: Loss, score: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of a loss over rows, each of which counts by its weight (B,); None: all alike."""
    if weight is None:
        return loss(score, target)
    rows: Tensor = loss(score, target, reduction="none")
    return (rows * weight).mean()


def row_gradient(loss: Loss, score: Tensor, target: Tensor) -> Tensor:
    """The gradient (B,) of a loss of a whole batch with respect to the scores (B,) of its rows."""
    with torch.enable_grad():
        leaf = score.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, target), leaf)
    return gradient


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Values (B,) of the rows of a batch from those of its parts; nothing is copied where there is one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def replayed(
    forward: Callable[[int], Tensor], n_parts: int, device: torch.device
) -> tuple[Tensor, Callable[[int], Tensor]]:
    """Call `forward` for each part; the scores of all (B,), and a function that computes those of one part again.

    Both times dropout drops the same. Activations are kept for one part at a time.
    """
    states, scores = [], []
    for number in range(n_parts):
        states.append(_random_state(device))
        # With its graph, which is dropped at once: without one, autocast would keep weights that have no gradient.
        scores.append(forward(number).detach())
    after = _random_state(device)

    def again(number: int) -> Tensor:
        _set_random_state(states[number], device)
        score = forward(number)
        _set_random_state(after, device)
        return score

    return torch.cat(scores), again


def _random_state(device: torch.device) -> Sequence[Tensor]:
    state = [torch.get_rng_state()]
    return [*state, torch.cuda.get_rng_state(device)] if device.type == "cuda" else state


def _set_random_state(state: Sequence[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
