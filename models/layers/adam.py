"""Steps of torch's fused Adam without what it does around them: a small model's step takes less time than that."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks


def short_step(optimizer: Optimizer) -> Callable[[], None]:
    """A function that does what `step` and then `zero_grad` of an optimizer do, to the same bits.

    It is shorter for a fused `Adam` of float32 parameters on the CPU that nobody watches. The optimizer's state stays
    its own; the first step, in which it is made, is torch's.
    """
    whole = whole_step(optimizer)
    if not _is_plain(optimizer):
        return whole

    def step() -> None:
        state, groups = optimizer.state, optimizer.param_groups  # new ones, where a state was loaded
        parts: list[tuple[list[Tensor], ...]] = []
        for group in groups:
            parameters: list[Tensor] = [one for one in group["params"] if one.grad is not None]
            states = [state[one] for one in parameters]
            if not all(states):
                whole()
                return
            gradients: list[Tensor] = [one.grad for one in parameters if one.grad is not None]
            moments = ([one[name] for one in states] for name in ("exp_avg", "exp_avg_sq", "step"))
            parts.append((parameters, gradients, *moments))
        with torch.no_grad():
            torch._foreach_add_([step for part in parts for step in part[4]], 1)
            for group, (parameters, gradients, means, squares, steps) in zip(groups, parts, strict=True):
                if parameters:
                    beta1, beta2 = group["betas"]
                    torch._fused_adam_(
                        parameters,
                        gradients,
                        means,
                        squares,
                        [],
                        steps,
                        lr=group["lr"],
                        beta1=beta1,
                        beta2=beta2,
                        weight_decay=group["weight_decay"],
                        eps=group["eps"],
                        amsgrad=False,
                        maximize=False,
                    )
        for parameters, *_ in parts:
            for one in parameters:
                one.grad = None

    return step


def whole_step(optimizer: Optimizer) -> Callable[[], None]:
    """`step` and then `zero_grad`, which may be watched, such as by a schedule of learning rates."""

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return step


def _is_plain(optimizer: Optimizer) -> bool:
    if type(optimizer) is not Adam:
        return False
    hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    if any(hooks) or _global_optimizer_pre_hooks or _global_optimizer_post_hooks:
        return False
    return all(map(_is_plain_group, optimizer.param_groups))


def _is_plain_group(group: dict[str, object]) -> bool:
    if not group["fused"] or not isinstance(group["lr"], float) or group.get("decoupled_weight_decay"):
        return False
    if any(group[name] for name in ("amsgrad", "maximize", "capturable", "differentiable")):
        return False
    parameters = group["params"]
    assert isinstance(parameters, list)
    return all(one.device.type == "cpu" and one.dtype == torch.float32 for one in parameters)
