"""Muon: the momentum of each weight matrix is made orthogonal before it becomes a step (Jordan et al., 2024).

All directions of a matrix then move equally fast, where Adam follows the few that dominate the gradient. The
convolutions between head and tail are matrices (O, I * 9); biases, quantizer steps, head and tail stay with Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients that take singular values quickly into about 0.7 to 1.2 (Jordan et al.)."""


def orthogonalize(matrices: Tensor) -> Tensor:
    """Replace the singular values of matrices by roughly 1, (N, rows, columns) float32 -> the same.

    Five Newton-Schulz iterations bring those above a hundredth of the norm to 0.7-1.2.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]
    # Every iterate is a polynomial of the Gram matrix times x: iterating on the small Gram matrix costs half.
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    product = identity
    a, b, c = _QUINTIC
    for _ in range(5):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    result: Tensor = product @ x
    return result.mT if tall else result


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum. A step changes an entry by about 0.2 of the rate (Liu et al., 2025), which is what
    Adam's steps amount to, so rates that suit Adam are a start.

    Args:
        params: parameters or groups of them, of two or more dimensions; the first one is the rows.
        lr: learning rate.
        momentum: of the running mean of gradients.
    """

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                directions = [self._direction(p, group["momentum"]) for p in parameters]
                updates = orthogonalize(torch.stack(directions))
                rate = -group["lr"] * 0.2 * max(updates.shape[1:]) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.add_(update.view(shape), alpha=rate)
        return loss

    def _direction(self, parameter: Tensor, momentum: float) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum).flatten(1).float()
