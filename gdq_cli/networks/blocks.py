"""The parts networks are made of: what they share, a quantized convolution and the residual block."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdq_cli.bits.widths import FP32_BITS
from gdq_cli.networks import quantizers
from gdq_cli.program import grids
from gdq_cli.program.grids import Grid


class Network(nn.Module):
    """What every network is, beside its tensors.

    Attributes:
        config: what fixes its tensor shapes.
    """

    name: str

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
        in_channels: I.
        out_channels: O.
        bit_widths: activation bit-widths it can run at; one entry makes it *static* (the patch's bit-width is
            ignored), none leaves it float32 only.
        signed: whether its input can be negative (False after ReLU).
        equalized: whether each input channel has a step of its own (``activation_step * equalization``).
        four_bits: grid of the weights in patches of 4 bits.

    Attributes:
        weight: (O, I, 3, 3); bias: (O,).
        activation_step: (len(bit_widths),) positive, in the order of ``bit_widths``.
        wide_step, narrow_step, coarse_step: (O,) positive; steps of the equalized weight on the grids. Present only
            where a bit-width needs them.
        equalization: (I,) positive buffer.
    """

    equalization: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bit_widths: tuple[int, ...],
        signed: bool,
        equalized: bool = False,
        four_bits: Grid = "narrow",
    ) -> None:
        super().__init__()
        self.bit_widths = bit_widths
        self._four_bits = four_bits
        self.signed = signed
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if bit_widths:
            self.activation_step = nn.Parameter(torch.full((len(bit_widths),), 0.1))
        for grid in self.grids:
            self.register_parameter(f"{grid}_step", nn.Parameter(torch.full((out_channels,), 1e-3)))
        if equalized:
            self.register_buffer("equalization", torch.ones(in_channels))

    @property
    def is_static(self) -> bool:
        """Whether it runs at one bit-width whatever the patch's is."""
        return len(self.bit_widths) == 1

    @property
    def grids(self) -> list[Grid]:
        """The grids that its weights are put on, without repetition."""
        return list(dict.fromkeys(grids.weight_grid(bits, self._four_bits) for bits in self.bit_widths))

    def grid_step(self, grid: Grid) -> nn.Parameter:
        """(O,) steps of one of its grids."""
        return self.get_parameter(f"{grid}_step")

    @property
    def bound_grids(self) -> list[Grid]:
        """Those whose steps follow from its weights: the finest ones that fit the kernel."""
        return [grid for grid in self.grids if grid in grids.TRANSFORMS]

    @torch.no_grad()
    def fit_bound_steps(self, *only: Grid) -> None:
        """Set the steps of these grids, or of the given ones among them, in place."""
        for grid in self.bound_grids:
            if not only or grid in only:
                self.grid_step(grid).copy_(quantizers.choose_fitting_step(self.equalized_weight(), grid))

    def own_bit_width(self, bit_width: int) -> int:
        """The bit-width this layer runs at in a patch of ``bit_width``.

        Raises:
            ValueError: if the layer was not quantized for it.
        """
        if self.is_static:
            return self.bit_widths[0]
        if bit_width not in self.bit_widths:
            raise ValueError(f"bit_width must be one of {self.bit_widths}, not {bit_width}")
        return bit_width

    def input_step(self, bit_width: int) -> Tensor:
        """Step of the input codes: a scalar tensor, or (I,) if equalized."""
        step = self.activation_step[self.bit_widths.index(self.own_bit_width(bit_width))]
        return step * self.equalization if "equalization" in self._buffers else step

    def equalized_weight(self) -> Tensor:
        """Weight whose input channels carry the equalization factors; what the weight grids quantize."""
        if "equalization" in self._buffers:
            return self.weight * self.equalization.reshape(1, -1, 1, 1)
        return self.weight

    def weight_step(self, bit_width: int) -> Tensor:
        """(O,) steps of the weight grid that a patch of ``bit_width`` uses."""
        return self.grid_step(grids.weight_grid(self.own_bit_width(bit_width), self._four_bits))

    def input_range(self, bit_width: int) -> tuple[int, int]:
        """Smallest and largest input code at ``bit_width``."""
        return grids.code_range(self.own_bit_width(bit_width), signed=self.signed)

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        """Convolve (N, I, H, W) -> (N, O, H, W), in float32 or with fake-quantized input and weight.

        The convolution itself sees integer codes, which bfloat16 autocast carries exactly (|code| <= 256).
        """
        if bit_width == FP32_BITS:
            return F.conv2d(x, self.weight, self.bias, padding=1)
        qmin, qmax = self.input_range(bit_width)
        step = self.activation_step[self.bit_widths.index(self.own_bit_width(bit_width))]
        step = quantizers.scale_gradient(step, (x.numel() * qmax) ** -0.5)
        input_step = step
        if "equalization" in self._buffers:
            input_step = step * self.equalization.reshape(1, -1, 1, 1)
        weight_step = self.weight_step(bit_width)
        weight_step = quantizers.scale_gradient(weight_step, (self.weight[0].numel() * grids.WIDE_MAX) ** -0.5)
        codes = quantizers.activation_codes(x, input_step, qmin, qmax)
        weight = quantizers.weight_codes(self.equalized_weight(), weight_step)
        y = F.conv2d(codes, weight, padding=1)
        return y * (step * weight_step).reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        out_channels, in_channels = self.weight.shape[:2]
        return f"{in_channels}, {out_channels}, bit_widths={self.bit_widths}, signed={self.signed}"


class ResidualBlock(nn.Module):
    """x + conv2(relu(conv1(x))), both convolutions dynamic (EDSR, Lim et al. 2017: no batch normalisation)."""

    def __init__(self, channels: int, bit_widths: tuple[int, ...], four_bits: Grid) -> None:
        super().__init__()
        self.conv1 = QuantConv2d(channels, channels, bit_widths=bit_widths, signed=True, four_bits=four_bits)
        self.conv2 = QuantConv2d(channels, channels, bit_widths=bit_widths, signed=False, four_bits=four_bits)

    def forward(self, x: Tensor, bit_width: int = FP32_BITS) -> Tensor:
        hidden = F.relu(self.conv1(x, bit_width))
        output: Tensor = x + self.conv2(hidden, bit_width)
        return output
