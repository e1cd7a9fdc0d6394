"""Uniform symmetric quantization: code ranges, activation codes with learned steps, and the grids of weights.

A *code* is an integer, a *step* the float it counts in: value = code * step. Zero is always code 0, so zero
padding is exact. Activations are quantized per tensor (LSQ, Esser et al. 2020), weights per output channel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gdq_cli.program.grids import TRANSFORMED_MAX, TRANSFORMS, WIDE_MAX, Grid


class _Codes(torch.autograd.Function):
    """round(clamp(x / step)) whose backward treats rounding as the identity and clamping as a gate (LSQ)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, qmin: int, qmax: int) -> Tensor:
        scaled = x / step
        ctx.save_for_backward(scaled, step)
        ctx.bounds = (qmin, qmax)
        return scaled.clamp(qmin, qmax).round_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        scaled, step = ctx.saved_tensors
        qmin, qmax = ctx.bounds
        inside = torch.where((scaled >= qmin) & (scaled <= qmax), grads[0] / step, 0.0)
        grad_step = None
        if ctx.needs_input_grad[1]:
            contribution = inside * scaled
            axes = [axis for axis in range(contribution.dim()) if step.dim() == 0 or step.shape[axis] == 1]
            grad_step = -contribution.sum(axes, keepdim=step.dim() > 0)
        return inside, grad_step, None, None


def activation_codes(x: Tensor, step: Tensor, qmin: int, qmax: int) -> Tensor:
    """Quantize activations to codes, differentiably.

    Args:
        x: activations, any shape, float.
        step: positive; a scalar, or a tensor that broadcasts over ``x`` along axes of size 1.
        qmin: smallest code.
        qmax: largest code.

    Returns:
        Integers in ``[qmin, qmax]``, in the shape and dtype of ``x``. The gradient for ``x`` passes straight through
        rounding and is zero outside the range; together with a later multiplication by ``step`` the gradient for
        ``step`` is LSQ's.
    """
    codes: Tensor = _Codes.apply(x, step, qmin, qmax)  # type: ignore[no-untyped-call]
    return codes


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The value of ``x``, with its gradient multiplied by ``factor`` (LSQ scales the step's by 1/sqrt(n * qmax))."""
    return x.detach() + (x - x.detach()) * factor


def weight_codes(weight: Tensor, step: Tensor) -> Tensor:
    """Quantize a weight to codes with one step per output channel, straight-through.

    Args:
        weight: (O, I, H, W) float.
        step: (O,) positive.

    Returns:
        (O, I, H, W) integers in ``[-WIDE_MAX, WIDE_MAX]``, dtype of ``weight``.
    """
    return activation_codes(weight, step.reshape(-1, 1, 1, 1), -WIDE_MAX, WIDE_MAX)


def transform_weight(codes: Tensor, grid: Grid) -> Tensor:
    """What the Winograd kernel of a grid multiplies.

    Args:
        codes: (O, I, 3, 3).
        grid: narrow or coarse.

    Returns:
        (O, I, 16 or 46) of the same dtype; exact for integers.
    """
    return codes.flatten(2) @ torch.from_numpy(TRANSFORMS[grid]).to(codes).T


def fits_grid(codes: Tensor, grid: Grid) -> Tensor:
    """Per output channel: do all transformed weights fit the kernel's int8? (O, I, 3, 3) -> (O,) bool."""
    return transform_weight(codes, grid).abs().amax(dim=(1, 2)) <= TRANSFORMED_MAX


def choose_wide_step(weight: Tensor) -> Tensor:
    """Steps of the wide grid with the least squared rounding and clipping error, (O, I, H, W) -> (O,)."""
    peak = weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-8)
    best_step, best_error = peak / WIDE_MAX, torch.full_like(peak, torch.inf)
    for shrink in torch.linspace(0.7, 1.0, 31):
        step = peak * shrink / WIDE_MAX
        error = (weight_codes(weight, step) * step.reshape(-1, 1, 1, 1) - weight).square().sum(dim=(1, 2, 3))
        better = error < best_error
        best_step, best_error = torch.where(better, step, best_step), torch.where(better, error, best_error)
    return best_step


def choose_fitting_step(weight: Tensor, grid: Grid) -> Tensor:
    """Finest step per output channel whose codes fit the Winograd kernel of a grid, (O, I, 3, 3) -> (O,)."""
    peak = transform_weight(weight.double(), grid).abs().amax(dim=(1, 2)).clamp_min(1e-8)
    step = (peak / (TRANSFORMED_MAX + 1)).to(weight.dtype)
    for _ in range(1000):
        fits = fits_grid(weight_codes(weight, step), grid)
        if bool(fits.all()):
            return step
        step = torch.where(fits, step, step * 1.004)
    raise ValueError(f"no {grid} step found; the weights are not finite")
