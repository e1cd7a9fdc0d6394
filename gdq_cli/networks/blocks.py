"""The parts networks are made of: what they share, a quantized convolution and the residual block."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks import quantizers
from gdq_cli.program.grids import WIDE_MAX, Grid
from gdq_cli.program.layers import ConvConfig


class Network(nn.Module):
    """What every network is, beside its tensors.

    Attributes:
        config: what fixes its tensor shapes.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def features(self, pixels: Tensor) -> Tensor:
        """Head features before any activation, (N, 3, H, W) pixels in [0, 255] -> (N, C, H, W)."""
        raise NotImplementedError

    def forward(self, pixels: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        """Upscale a batch of patches that share one bit-width.

        Args:
            pixels: (N, 3, H, W) float, RGB in [0, 255].
            bit_width: 4, 5, 6, 8, or 32 for the float network.

        Returns:
            (N, 3, H * scale, W * scale) float, grey levels, neither clamped nor rounded.
        """
        raise NotImplementedError


class QuantConv2d(nn.Module):
    """3x3 convolution (stride 1, zero padding 1) that runs in float32 or at any of its bit-widths.

    Args:
        config: what fixes it.

    Attributes:
        weight: (O, I, 3, 3); bias: (O,).
        activation_step: (len(bit_widths),) positive, in the order of ``config.bit_widths``.
        wide_step, narrow_step, coarse_step: (O,) positive; steps of the equalized weight on the grids. Present only
            where a bit-width needs them.
        equalization: (I,) positive buffer, where ``config.equalized``.
    """

    equalization: Tensor

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.outputs, config.inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(config.outputs))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if config.bit_widths:
            self.activation_step = nn.Parameter(torch.full((len(config.bit_widths),), 0.1))
        for grid in config.grids:
            self.register_parameter(f"{grid}_step", nn.Parameter(torch.full((config.outputs,), 1e-3)))
        if config.equalized:
            self.register_buffer("equalization", torch.ones(config.inputs))

    def grid_step(self, grid: Grid) -> nn.Parameter:
        """(O,) steps of one of its grids."""
        return self.get_parameter(f"{grid}_step")

    @torch.no_grad()
    def fit_bound_steps(self, *only: Grid) -> None:
        """Set the steps of its bound grids, or of the given ones among them, in place."""
        for grid in self.config.bound_grids:
            if not only or grid in only:
                self.grid_step(grid).copy_(quantizers.choose_fitting_step(self.equalized_weight(), grid))

    def equalized_weight(self) -> Tensor:
        """Weight whose input channels carry the equalization factors; what the weight grids quantize."""
        return self.weight * self.equalization.reshape(1, -1, 1, 1) if self.config.equalized else self.weight

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        """Convolve (N, I, H, W) -> (N, O, H, W), in float32 or with fake-quantized input and weight.

        The convolution itself sees integer codes, which bfloat16 autocast carries exactly (|code| <= 256).
        """
        if bit_width == FP32_BITS:
            return F.conv2d(x, self.weight, self.bias, padding=1)
        qmin, qmax = self.config.input_range(bit_width)
        step = self.activation_step[self.config.column(bit_width)]
        step = quantizers.scale_gradient(step, (x.numel() * qmax) ** -0.5)
        input_step = step * self.equalization.reshape(1, -1, 1, 1) if self.config.equalized else step
        weight_step: Tensor = self.grid_step(self.config.weight_grid(bit_width))
        weight_step = quantizers.scale_gradient(weight_step, (self.weight[0].numel() * WIDE_MAX) ** -0.5)
        codes = quantizers.activation_codes(x, input_step, qmin, qmax)
        weight = quantizers.weight_codes(self.equalized_weight(), weight_step)
        y = F.conv2d(codes, weight, padding=1)
        return y * (step * weight_step).reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return str(self.config)


class ResidualBlock(nn.Module):
    """x + conv2(relu(conv1(x))), both convolutions dynamic (EDSR, Lim et al. 2017: no batch normalisation)."""

    def __init__(self, first: ConvConfig, second: ConvConfig) -> None:
        super().__init__()
        self.conv1, self.conv2 = QuantConv2d(first), QuantConv2d(second)

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        hidden = F.relu(self.conv1(x, bit_width))
        output: Tensor = x + self.conv2(hidden, bit_width)
        return output
